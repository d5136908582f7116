// Package guard runs one program such that nothing of it stays behind: not when it ends, and not when the process that runs it
// is killed with SIGKILL. Between the two stands the guard, a small C process (a constructor in the frond binary, entered before
// Go's runtime starts): a child subreaper, so that every descendant of the program, also one that forked twice and made a
// session of its own, becomes its child in the end.
//
// On descriptor 3 the guard and the supervisor hold a socket pair. The guard says, as native int32: the program's pid, or the
// negative errno with which it could not be started; then the wait status when the program has ended. The supervisor says: one byte
// for a signal to the program's process group. When the supervisor's end closes, the guard sends TERM, after half a second KILL, to
// whatever is left, reaps it and exits.
//
// The program has a process group of its own; if the supervisor is in the terminal's foreground, so is the program. When it is
// stopped from the terminal, or wants it while in the background, the guard stops the supervisor's group as well, so that the user's
// shell sees a stopped job.
package guard

// #cgo CFLAGS: -O2 -Wall -Wextra
import "C"

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Program is a program under a guard.
type Program struct {
	PID   int // of the program, and of its process group
	guard *exec.Cmd
	ctl   *os.File
	once  sync.Once
}

// Start runs argv (argv[0] is searched in the PATH of env) with the given streams, directory and environment. It returns when
// the program has been started; the error wraps the syscall.Errno of exec (ENOENT: no such command) otherwise.
func Start(argv, env []string, dir string, stdin, stdout, stderr *os.File) (*Program, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "guard")
	p := &Program{ctl: os.NewFile(uintptr(fds[0]), "guard")}
	p.guard = &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{"frond-guard"}, argv...), Env: env, Dir: dir,
		Stdin: stdin, Stdout: stdout, Stderr: stderr, ExtraFiles: []*os.File{theirs}}
	err = p.guard.Start()
	theirs.Close()
	if err != nil {
		p.ctl.Close()
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	pid, err := p.read()
	if err == nil && pid < 0 {
		err = syscall.Errno(-pid)
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("%s: %w", argv[0], err)
	}
	p.PID = int(pid)
	return p, nil
}

func (p *Program) read() (int32, error) {
	var buf [4]byte
	if _, err := io.ReadFull(p.ctl, buf[:]); err != nil {
		return 0, fmt.Errorf("the guard of the program is gone: %w", err)
	}
	return int32(binary.NativeEndian.Uint32(buf[:])), nil
}

// Signal sends sig to the program's process group; nothing happens if the program has ended.
func (p *Program) Signal(sig syscall.Signal) {
	p.ctl.Write([]byte{byte(sig)}) // fails only when the guard is gone, and the program with it
}

// Wait waits for the end of the program; to be called once.
func (p *Program) Wait() (syscall.WaitStatus, error) {
	st, err := p.read()
	return syscall.WaitStatus(st), err
}

// Close ends whatever the program has left, the program too if it still runs, and waits until all of it is gone.
func (p *Program) Close() {
	p.once.Do(func() {
		unix.Shutdown(int(p.ctl.Fd()), unix.SHUT_WR)
		p.guard.Wait()
		p.ctl.Close()
	})
}
