package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"golang.org/x/term"
)

// lent is this command's terminal while it belongs to task 0 of an interactive job (-o pty.interactive): raw, so that all that is
// typed goes to the task. "~." at the beginning of a line leaves the job alone.
type lent struct {
	fd    int
	state *term.State
	once  sync.Once
	winch chan os.Signal
}

// interactive tells whether the job asks for this command's terminal, and there is one.
func (f *foreground) interactive(ctx context.Context) bool {
	in, ok := f.env.stdin.(*os.File)
	if !ok || f.readOnly || !f.env.isTerminal(in) || !f.env.isTerminal(f.env.stdout) {
		return false
	}
	rep, err := client.Call(ctx, f.client, api.Info, api.InfoReq{ID: f.id, Key: "jobspec"})
	if err != nil {
		return false // whoever attaches hears of it
	}
	js, err := jobspec.Parse([]byte(rep.Value))
	return err == nil && js.Shell.PTY.Interactive && js.Shell.PTY.Has(0)
}

// lend gives the terminal away, until back is called.
func (f *foreground) lend(ctx context.Context, signals *interrupts) (back func(), err error) {
	in := f.env.stdin.(*os.File)
	l := &lent{fd: int(in.Fd()), winch: make(chan os.Signal, 1)}
	if l.state, err = term.MakeRaw(l.fd); err != nil {
		return nil, fmt.Errorf("make the terminal raw: %w", err)
	}
	fd := &feeder{client: f.client, id: f.id, tasks: []int{0}, rest: f.own}
	signal.Notify(l.winch, syscall.SIGWINCH)
	go func() {
		for range l.winch {
			if cols, rows, err := term.GetSize(l.fd); err == nil {
				_ = fd.resize(ctx, rows, cols) // the job has ended, or will hear of the next
			}
		}
	}()
	l.winch <- syscall.SIGWINCH // the size at first
	go fd.feed(ctx, &escape{in: in, fresh: true, leave: func() {
		l.back()
		signals.detach()
	}})
	return l.back, nil
}

// back restores the terminal.
func (l *lent) back() {
	l.once.Do(func() {
		signal.Stop(l.winch)
		close(l.winch)
		_ = term.Restore(l.fd, l.state)
	})
}

// escape reads what is typed and takes "~." at the beginning of a line out of it.
type escape struct {
	in    io.Reader
	fresh bool // at the beginning of a line
	tilde bool // one was typed there, and is held back
	leave func()
}

func (e *escape) Read(b []byte) (int, error) {
	if len(b) < 2 {
		return 0, io.ErrShortBuffer
	}
	buf := make([]byte, len(b)/2)
	n, err := e.in.Read(buf)
	out := b[:0]
	for _, c := range buf[:n] {
		switch {
		case e.tilde && c == '.':
			e.leave()
			return len(out), errLeft
		case e.tilde:
			e.tilde = false
			if c != '~' { // twice is one
				out = append(out, '~')
			}
			out = append(out, c)
		case e.fresh && c == '~':
			e.tilde = true
		default:
			out = append(out, c)
		}
		e.fresh = c == '\r' || c == '\n'
	}
	return len(out), err
}

// addWindow tells an interactive job how large the terminal is, so that its programs see it from the beginning.
func (o *runCmd) addWindow(e *env) {
	in, ok := e.stdin.(*os.File)
	if !ok || !e.isTerminal(in) {
		return
	}
	for _, opt := range o.setopt {
		if opt != "pty.interactive" && !strings.HasPrefix(opt, "pty.interactive=") {
			continue
		}
		if cols, rows, err := term.GetSize(int(in.Fd())); err == nil && rows > 0 && cols > 0 {
			o.setopt = append(o.setopt, fmt.Sprintf("pty.rows=%d", rows), fmt.Sprintf("pty.cols=%d", cols))
		}
		return
	}
}
