package usock

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// own is a directory with a short path.
func own(t *testing.T) string {
	dir, err := os.MkdirTemp("", "us")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestTheDirectoryIsClosedToOthers(t *testing.T) {
	dir := own(t)
	require.NoError(t, os.Chmod(dir, 0o755))
	ln, err := Listen(filepath.Join(dir, "s"))
	require.NoError(t, err)
	defer ln.Close()
	st, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), st.Mode().Perm())
}

// A broker that was killed leaves its socket.
func TestASocketThatNobodyListensOnIsReplaced(t *testing.T) {
	path := filepath.Join(own(t), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	ln.SetUnlinkOnClose(false)
	ln.Close()
	require.FileExists(t, path)
	ln, err = Listen(path)
	require.NoError(t, err)
	defer ln.Close()
	_, err = Listen(path)
	require.ErrorContains(t, err, "another broker listens on it")
}

func TestPlacesWhereNobodyShouldListen(t *testing.T) {
	dir := own(t)
	require.NoError(t, os.Symlink(dir, dir+"/link"))
	for name, row := range map[string]struct{ path, err string }{
		"a path over the limit":           {"/" + strings.Repeat("x", 120), "the path has 121 bytes, a unix socket's may have 107"},
		"a directory by way of a link":    {dir + "/link/s", "is not a directory of this user"},
		"a directory that cannot be made": {"/dev/null/s", "make the socket's directory"},
	} {
		_, err := Listen(row.path)
		require.ErrorContains(t, err, row.err, name)
	}
}

// pair is two connected sockets.
func pair(t *testing.T) (a, b uintptr) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return uintptr(fds[0]), uintptr(fds[1])
}

// The sockets here are ones that do wait.
func TestReadingAndWritingDoNotWait(t *testing.T) {
	a, b := pair(t)
	buf := make([]byte, 1<<20)
	_, err := Receive(b, buf)
	require.ErrorIs(t, err, unix.EAGAIN)
	n, err := Send(a, []byte("hello"))
	require.NoError(t, err)
	require.Equal(t, 5, n)
	n, err = Receive(b, buf)
	require.NoError(t, err)
	require.Equal(t, "hello", string(buf[:n]))
	for sent := 0; err == nil; sent += n {
		require.Less(t, sent, 100<<20, "the socket never fills")
		n, err = Send(a, buf)
	}
	require.ErrorIs(t, err, unix.EAGAIN)
	require.NoError(t, unix.Shutdown(int(b), unix.SHUT_RDWR))
	_, err = Send(a, buf)
	require.ErrorIs(t, err, unix.EPIPE, "without a signal")
}

func TestPeerUID(t *testing.T) {
	ln, err := Listen(filepath.Join(own(t), "s"))
	require.NoError(t, err)
	defer ln.Close()
	nc, err := net.Dial("unix", ln.Addr().String())
	require.NoError(t, err)
	defer nc.Close()
	raw, err := nc.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	uid, err := PeerUID(raw)
	require.NoError(t, err)
	require.Equal(t, uint32(os.Getuid()), uid)
}
