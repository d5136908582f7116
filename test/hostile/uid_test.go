package hostile

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

const nobody = 65534

// otherUser has another user try to get in, first through the closed run directory, then with all doors open but the last.
func otherUser(t *testing.T, in *instance) {
	needsRoot(t, "to become another user")
	frond := filepath.Join(t.TempDir(), "frond") // where nobody can run it
	copyFile(t, filepath.Join(harness.BinDir(), "frond"), frond)
	for dir := filepath.Dir(frond); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		chmod(t, dir, 0o755)
	}
	as := func(args ...string) (string, int) {
		cmd := exec.Command(frond, args...)
		cmd.Env = append(harness.Environ(in.dir), "HOME=/", "FROND_URI=local://"+in.socket(1))
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		return output(cmd)
	}
	verbs := [][]string{{"ping"}, {"submit", "true"}, {"jobs"}, {"shutdown", "local://" + in.socket(1)}}
	for _, verb := range verbs {
		out, code := as(verb...)
		require.Equal(t, 1, code, "%v", verb)
		require.Contains(t, out, "run directory belongs to another user", "%v", verb)
	}
	for path, mode := range map[string]os.FileMode{in.dir: 0o755, filepath.Dir(in.rundir()): 0o755, in.rundir(): 0o755, filepath.Dir(in.socket(1)): 0o755,
		in.socket(1): 0o777, in.port(1): 0o777} {
		chmod(t, path, mode)
	}
	for _, verb := range verbs {
		out, code := as(verb...)
		require.Equal(t, 1, code, "%v", verb)
		require.Contains(t, out, "this instance belongs to uid 0: uid 65534 may not use it", "%v", verb)
	}
	knocker := filepath.Join(filepath.Dir(frond), "knocker")
	self, err := os.Executable()
	require.NoError(t, err)
	copyFile(t, self, knocker)
	for _, path := range []string{in.port(1), in.socket(1)} {
		cmd := exec.Command(knocker)
		cmd.Env, cmd.Dir = append(os.Environ(), knockPath+"="+path), "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, code := output(cmd)
		require.Zero(t, code, out)
		require.Equal(t, path == in.socket(1), out != "", "what another user hears at %s: %q", path, out)
	}
	require.True(t, harness.Until(patience, func() bool { return strings.Contains(in.log(t, 1), "refused: it is uid 65534's") }))
	cat := exec.Command("cat", filepath.Join(in.rundir(), "cert"))
	cat.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, code := output(cat)
	require.NotZero(t, code, "the certificate can be read")
	require.Contains(t, strings.ToLower(out), "permission denied")
	in.serves(t)
}

// knockPath names the socket at which this program, started by otherUser, knocks.
const knockPath = "FRONDTEST_KNOCK"

// knock connects to a socket and prints all that comes.
func knock(path string) int {
	nc, err := net.Dial("unix", path)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	_ = nc.SetReadDeadline(time.Now().Add(patience))
	_, err = io.Copy(os.Stdout, nc)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		fmt.Println(err)
		return 1
	}
	return 0
}

// chmod changes a mode until the test ends.
func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	fi, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, mode))
	t.Cleanup(func() { _ = os.Chmod(path, fi.Mode().Perm()) })
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	r, err := os.Open(from)
	require.NoError(t, err)
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(w, r)
	require.NoError(t, err)
	require.NoError(t, w.Close())
}
