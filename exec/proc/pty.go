package proc

import (
	"fmt"
	"os"

	"github.com/frond-hpc/frond/exec/pty"
	"golang.org/x/sys/unix"
)

// Terminals. A task with one (shell option pty) reads and writes its slave; we hold the master, in two descriptors: one is read
// by a pump, as a pipe would be, the other is written to by the task's feeder.

// openPTY makes a terminal and gives it to the task as standard input, and as what writes to no file of its own.
func (io *stdio) openPTY() error {
	t := io.t
	master, slave, err := pty.Open()
	if err != nil {
		return fmt.Errorf("make terminal: %w", err)
	}
	sh := t.job.shell()
	pty.Resize(master, sh.PTY.Rows, sh.PTY.Cols)
	io.send(0, slave, true)
	for stream, out := range []string{1: sh.Stdout.Path, 2: sh.Stderr.Path} {
		if stream > 0 && out == "" {
			io.fds[stream] = io.fds[0]
			io.fds[stream].Target = stream
		}
	}
	io.tty = true
	t.tty = master
	t.pumps = append(t.pumps, &pump{t: t, stream: 1, r: master, done: make(chan struct{})})
	return io.openPTYInput(master)
}

// openPTYInput gives the feeder a descriptor of its own, which it may close.
func (io *stdio) openPTYInput(master *os.File) error {
	raw, err := master.SyscallConn()
	if err != nil {
		return err
	}
	fd := -1
	cerr := raw.Control(func(p uintptr) { fd, err = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("make terminal: %w", err)
	}
	io.t.stdin.terminal = true
	io.input = os.NewFile(uintptr(fd), "terminal")
	return nil
}

// endOfInput is what ends the input of a terminal: the character for it, twice where a line is not complete.
func endOfInput(last byte) []byte {
	if last == 0 || last == '\n' || last == '\r' {
		return []byte{4}
	}
	return []byte{4, 4}
}
