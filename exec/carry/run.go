package carry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
)

// Command is what to run, and the user's side of it.
type Command struct {
	Argv, Env []string // Argv[0] is a path on the other host
	Dir       string
	Streams   [3]*os.File // standard input, output and error; nil = none
}

// ErrNoEnd says that the launcher ended without telling how the command did.
var ErrNoEnd = errors.New("it ended before the command did")

// StartError says why the command could not be started there.
type StartError string

// Error is what the other side said.
func (e StartError) Error() string { return string(e) }

// client is the state of Run.
type client struct {
	c      *Command
	out    *sender
	credit chan struct{}
	begun  chan struct{} // closed: the command was started
	noRead chan struct{} // closed: input is wanted no more
	once   sync.Once
	tty    *terminal // nil without
	broken [3]bool   // output streams that nobody reads

	code   int
	failed string
	ended  bool
	early  atomic.Int32 // a signal that came before the command was started
}

// Run starts the launcher, which must start Serve with its own standard input and output, and returns the exit code of the command. The
// launcher's error output is to be set by the caller. While it runs, signals of this process are for the command.
func (c *Command) Run(launcher *exec.Cmd) (int, error) {
	in, err := launcher.StdinPipe()
	if err != nil {
		return 0, err
	}
	from, err := launcher.StdoutPipe()
	if err != nil {
		return 0, err
	}
	cl := &client{c: c, out: &sender{w: in}, credit: make(chan struct{}, window), begun: make(chan struct{}), noRead: make(chan struct{})}
	for range window {
		cl.credit <- struct{}{}
	}
	hello := start{Argv: toBytes(c.Argv), Env: toBytes(c.Env), Dir: c.Dir}
	for i, f := range c.Streams {
		hello.TTY[i] = f != nil && isTerminal(f)
		if hello.TTY[i] && (cl.tty == nil || i == 0) {
			cl.tty = &terminal{f: f}
		}
	}
	if cl.tty != nil {
		hello.Rows, hello.Cols = cl.tty.size()
	}
	text, err := json.Marshal(hello)
	if err != nil {
		return 0, err
	}
	signals := cl.catch()
	defer cl.release(signals)
	if err := launcher.Start(); err != nil {
		return 0, err
	}
	go cl.passSignals(signals, launcher.Process)
	go func() { // both end with the launcher, or with the process
		cl.out.send('H', text)
		<-cl.begun
		cl.feed(hello.TTY[0])
	}()
	receive(from, cl.take, func(line string) { io.WriteString(os.Stderr, line) })
	in.Close()
	waitErr := launcher.Wait()
	switch {
	case cl.failed != "":
		return 0, StartError(cl.failed)
	case !cl.ended && cl.early.Load() != 0:
		return 128 + int(cl.early.Load()), nil
	case !cl.ended:
		return 0, errors.Join(ErrNoEnd, waitErr)
	}
	return cl.code, nil
}

// catch begins to catch signals. In the background this process may neither read its terminal nor be stopped by that.
func (cl *client) catch() chan os.Signal {
	ch := make(chan os.Signal, 16)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(ch, syscall.SIGHUP)
	}
	if cl.tty != nil {
		signal.Notify(ch, syscall.SIGWINCH)
		signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU)
	}
	return ch
}

func (cl *client) release(ch chan os.Signal) {
	signal.Stop(ch)
	close(ch)
	if cl.tty != nil {
		cl.tty.close()
		signal.Reset(syscall.SIGTTIN, syscall.SIGTTOU)
	}
}

// passSignals passes signals to the command; before it was started they end the launcher.
func (cl *client) passSignals(ch chan os.Signal, launcher *os.Process) {
	for sig := range ch {
		switch sig {
		case syscall.SIGPIPE:
		case syscall.SIGWINCH:
			cl.sayWindow()
		default:
			select {
			case <-cl.begun:
				cl.out.number('S', int(sig.(syscall.Signal)))
			default:
				cl.early.Store(int32(sig.(syscall.Signal)))
				launcher.Signal(syscall.SIGTERM)
			}
		}
	}
}

func (cl *client) sayWindow() {
	rows, cols := cl.tty.size()
	cl.out.send('W', fmt.Append(nil, rows, " ", cols))
}

// feed sends this side's input, until it ends or nobody wants it.
func (cl *client) feed(tty bool) {
	in := cl.c.Streams[0]
	if in == nil {
		cl.out.send('E', nil)
		return
	}
	buf := make([]byte, chunk)
	for {
		select {
		case <-cl.credit:
		case <-cl.noRead:
			return
		}
		if tty {
			cl.tty.await()
		}
		n, err := in.Read(buf)
		if n > 0 && cl.out.send('I', buf[:n]) != nil {
			return
		}
		switch {
		case n > 0:
		case tty && errors.Is(err, syscall.EIO) && !cl.tty.foreground(): // it has just been put into the background
			cl.credit <- struct{}{}
		case err != nil:
			cl.out.send('E', nil)
			return
		}
	}
}

// take does what the other side says.
func (cl *client) take(kind byte, data []byte) {
	switch kind {
	case '0', '1', '2':
		cl.write(int(kind-'0'), data)
	case 'B':
		close(cl.begun)
	case 'A':
		cl.credit <- struct{}{} // never more than were taken
	case 'C':
		cl.once.Do(func() { close(cl.noRead) })
	case 'T':
		cl.stop()
	case 'F':
		cl.failed = string(data)
	case 'X':
		cl.code, cl.ended = number(data), true
	}
}

// write writes to a stream; that nobody reads it is told to the other side, where the command then gets SIGPIPE.
func (cl *client) write(i int, data []byte) {
	f := cl.c.Streams[i]
	if f == nil || cl.broken[i] {
		return
	}
	if _, err := f.Write(data); err != nil {
		cl.broken[i] = true
		cl.out.number('C', i)
	}
}

// stop stops this process as the command was, for the user's shell, and continues the command when it goes on.
func (cl *client) stop() {
	if cl.tty != nil {
		cl.tty.restore()
	}
	syscall.Kill(0, syscall.SIGTSTP)
	if cl.tty != nil && cl.c.Streams[0] == cl.tty.f {
		cl.tty.raw()
		cl.sayWindow()
	}
	cl.out.number('S', int(syscall.SIGCONT))
}
