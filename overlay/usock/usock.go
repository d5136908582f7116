// Package usock is what a broker needs of unix sockets, for its clients and for the tree: to listen in a directory of its own, to know
// whose process is at the other end, and to read and write without waiting.
package usock

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxPath is the longest path of a unix socket in bytes (sun_path of unix(7), without its NUL).
const MaxPath = 107

// CheckPath refuses a path that is too long.
func CheckPath(path string) error {
	if len(path) > MaxPath {
		return fmt.Errorf("the path has %d bytes, a unix socket's may have %d: choose a shorter FROND_RUNDIR", len(path), MaxPath)
	}
	return nil
}

// Listen binds a stream socket. One that nobody listens on is replaced; the directory, made if need be, must be this user's and is
// closed to others.
func Listen(path string) (*net.UnixListener, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	if err := closeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if nc, err := net.Dial("unix", path); err == nil {
		_ = nc.Close()
		return nil, fmt.Errorf("%s: another broker listens on it", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of a dead broker: %w", err)
	}
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

func closeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the socket's directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("examine %s: %w", dir, err)
	}
	if int(st.Uid) != os.Getuid() || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s is not a directory of this user", dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("close %s to others: %w", dir, err)
	}
	return nil
}

// PeerUID asks the kernel whose process is at the other end.
func PeerUID(raw syscall.RawConn) (uint32, error) {
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, fmt.Errorf("find out the peer's uid: %w", err)
	}
	if cerr != nil {
		return 0, fmt.Errorf("find out the peer's uid: %w", cerr)
	}
	return cred.Uid, nil
}

// Receive is recv(2) that does not wait: EAGAIN if there is nothing. b must not be empty.
func Receive(fd uintptr, b []byte) (int, error) {
	return call(unix.SYS_RECVFROM, fd, b, unix.MSG_DONTWAIT)
}

// Send is send(2) that does not wait: EAGAIN if there is no room. b must not be empty.
func Send(fd uintptr, b []byte) (int, error) {
	return call(unix.SYS_SENDTO, fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// call makes a system call that never waits, so that Go's scheduler need not be told of it. In a process that was idle it would first
// wake its monitor, a thread of its own: half of all changes of thread, and a quarter of the time, that a message costs.
func call(number, fd uintptr, b []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
