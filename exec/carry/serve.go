package carry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/exec/pty"
	"golang.org/x/sys/unix"
)

// drainLimit is how long output is awaited after the command has ended: processes that it left may hold the streams. What the command wrote
// itself is sent however long that takes; it is not more than a stream holds.
const (
	drainLimit  = time.Second
	streamHolds = 1 << 20 // at most: the capacity of a pipe
)

// server is the state of Serve.
type server struct {
	out    *sender
	keep   []string // names of variables in which this process's environment counts
	what   chan start
	input  chan []byte // nil: the end
	mu     sync.Mutex
	pid    int      // 0: not started, or over
	tty    *os.File // master, nil without a terminal
	reads  [3]*os.File
	stdin  *os.File // where input goes
	pumps  sync.WaitGroup
	flows  []*flow
	closed bool // the user is gone
}

// Serve runs the command that in tells of, and returns when it has ended and out knows. The command's environment is that of the user,
// with this process's own values of keep. Signals that this process gets are not passed on: a scheduler sends them to the command as well.
func Serve(in io.Reader, out io.Writer, keep []string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGXCPU, syscall.SIGPIPE)
	defer signal.Stop(signals)
	s := &server{out: &sender{w: out}, keep: keep, what: make(chan start, 1), input: make(chan []byte, window+2)}
	go func() { // ends with the process at the latest
		receive(in, s.take, func(string) {})
		s.gone()
	}()
	st, ok := <-s.what
	if !ok {
		return errors.New("nothing to run was told: this is started by 'frond start'")
	}
	if err := s.start(st); err != nil {
		return s.out.send('F', []byte(err.Error()))
	}
	code := s.wait()
	s.drain()
	return s.out.number('X', code)
}

// flow is what is sent of a stream.
type flow struct {
	r       *os.File
	sending atomic.Bool
	sent    atomic.Int64 // bytes
	over    atomic.Bool
}

// drain waits until the output of the command, which has ended, has been sent.
func (s *server) drain() {
	before := make([]int64, len(s.flows))
	for i, f := range s.flows {
		before[i] = f.sent.Load()
	}
	drained := make(chan struct{})
	go func() { s.pumps.Wait(); close(drained) }()
	for wait := drainLimit; ; wait = drainLimit / 20 {
		select {
		case <-drained:
			return
		case <-time.After(wait):
		}
		left := false
		for i, f := range s.flows {
			left = left || f.sent.Load()-before[i] <= streamHolds && f.holds()
		}
		if !left {
			return
		}
	}
}

// holds tells whether there is something that was not sent yet.
func (f *flow) holds() bool {
	if f.over.Load() {
		return false
	}
	if f.sending.Load() {
		return true
	}
	ready := false
	if conn, err := f.r.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) {
			list := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(list, 0)
			ready = err == nil && n > 0 && list[0].Revents&unix.POLLIN != 0
		})
	}
	return ready
}

func (s *server) take(kind byte, data []byte) {
	switch kind {
	case 'H':
		var st start
		if json.Unmarshal(data, &st) == nil && len(st.Argv) > 0 {
			s.what <- st
		}
	case 'I':
		s.input <- data
	case 'E':
		s.input <- nil
	case 'S':
		s.signal(syscall.Signal(number(data)))
	case 'W':
		var rows, cols int
		if _, err := fmt.Sscan(string(data), &rows, &cols); err == nil {
			s.mu.Lock()
			pty.Resize(s.tty, rows, cols)
			s.mu.Unlock()
		}
	case 'C':
		s.mu.Lock()
		if n := number(data); n == 1 || n == 2 {
			if f := s.reads[n]; f != nil {
				f.Close() // who writes to it gets SIGPIPE
			}
		}
		s.mu.Unlock()
	}
}

// signal passes a signal on. CONT is for all that a stop from the terminal has stopped.
func (s *server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.pid == 0 || sig <= 0:
	case sig == syscall.SIGCONT:
		syscall.Kill(-s.pid, sig)
	default:
		syscall.Kill(s.pid, sig)
	}
}

// gone: the user's side has ended.
func (s *server) gone() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if !first {
		return
	}
	close(s.what)
	close(s.input)
	s.signal(syscall.SIGCONT)
	s.signal(syscall.SIGHUP)
}

// start starts the command in a session of its own.
func (s *server) start(st start) error {
	argv, env := toStrings(st.Argv), s.environ(toStrings(st.Env))
	if err := os.Chdir(st.Dir); err != nil {
		host, _ := os.Hostname()
		return fmt.Errorf("the directory %s is not on host %s (%w): start from one that all nodes share", st.Dir, host, err)
	}
	cmd := &exec.Cmd{Path: argv[0], Args: argv, Env: env, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	var theirs [3]*os.File
	err := s.streams(st, &theirs)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[1], theirs[2]
	if i := slices.Index(st.TTY[:], true); i >= 0 {
		cmd.SysProcAttr.Setctty, cmd.SysProcAttr.Ctty = true, i
	}
	if err == nil {
		s.mu.Lock()
		if err = cmd.Start(); err == nil {
			s.pid = cmd.Process.Pid
		}
		s.mu.Unlock()
	}
	for _, f := range theirs {
		if f != nil {
			f.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	s.out.send('B', nil)
	s.pump(st)
	go s.feed() // ends with the process at the latest
	return nil
}

// environ is the command's environment.
func (s *server) environ(env []string) []string {
	kept := func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(s.keep, name)
	}
	env = slices.DeleteFunc(env, kept)
	for _, kv := range os.Environ() {
		if kept(kv) {
			env = append(env, kv)
		}
	}
	return env
}

// streams makes a terminal if one of the streams is one, and pipes for the others.
func (s *server) streams(st start, theirs *[3]*os.File) error {
	var slave *os.File
	if slices.Contains(st.TTY[:], true) {
		master, f, err := pty.Open()
		if err != nil {
			return fmt.Errorf("make terminal: %w", err)
		}
		defer f.Close()
		s.mu.Lock()
		s.tty, slave = master, f
		s.mu.Unlock()
		pty.Resize(master, st.Rows, st.Cols)
	}
	for i := range theirs {
		if st.TTY[i] {
			fd, err := syscall.Dup(int(slave.Fd()))
			if err != nil {
				return fmt.Errorf("make terminal: %w", err)
			}
			syscall.CloseOnExec(fd)
			theirs[i] = os.NewFile(uintptr(fd), "terminal")
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("make pipe: %w", err)
		}
		if i == 0 {
			theirs[0], s.stdin = r, w
			continue
		}
		theirs[i] = w
		s.mu.Lock()
		s.reads[i] = r
		s.mu.Unlock()
	}
	if st.TTY[0] {
		s.stdin = s.tty
	}
	return nil
}

// pump sends what the command writes.
func (s *server) pump(st start) {
	copyOut := func(kind byte, f *flow) {
		defer s.pumps.Done()
		defer f.r.Close()
		defer f.over.Store(true)
		buf := make([]byte, outChunk)
		for {
			n, err := f.r.Read(buf)
			f.sending.Store(true)
			if n > 0 && s.out.send(kind, buf[:n]) != nil || err != nil {
				return
			}
			f.sent.Add(int64(n))
			f.sending.Store(false)
		}
	}
	start := func(kind byte, r *os.File) {
		f := &flow{r: r}
		s.flows = append(s.flows, f)
		s.pumps.Add(1)
		go copyOut(kind, f)
	}
	for i, r := range s.reads {
		if r != nil {
			start(byte('0'+i), r)
		}
	}
	if s.tty != nil {
		kind := byte('0')
		for _, i := range []int{2, 1} {
			if st.TTY[i] {
				kind = byte('0' + i)
			}
		}
		start(kind, s.tty)
	}
}

// feed gives the command its input.
func (s *server) feed() {
	open := true
	for data := range s.input {
		if data == nil {
			if open && s.stdin != s.tty {
				s.stdin.Close()
			}
			open = false
			continue
		}
		if open {
			if _, err := s.stdin.Write(data); err != nil {
				open = false
				s.out.send('C', nil)
			}
		}
		s.out.send('A', nil)
	}
}

// wait waits for the end of the command, and tells of stops on the way.
func (s *server) wait() int {
	for {
		var st syscall.WaitStatus
		_, err := syscall.Wait4(s.pid, &st, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil || st.Exited() || st.Signaled():
			s.mu.Lock()
			s.pid = 0
			s.mu.Unlock()
			if st.Signaled() {
				return 128 + int(st.Signal())
			}
			return st.ExitStatus()
		case st.Stopped() && s.tty != nil:
			s.out.send('T', nil)
		}
	}
}
