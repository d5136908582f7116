package rexecproc

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/frond-hpc/frond/exec/rexec"
	"github.com/frond-hpc/frond/exec/spawner"
)

// run is one process.
type run struct {
	start *rexec.Start
	env   []byte
	done  func(any, error)

	mu     sync.Mutex
	turn   *sync.Cond // something below has changed
	sp     *spawner.Spawner
	begun  bool // the process has been given to the spawner
	early  []int
	dead   bool // kill was called
	over   bool // the process has ended
	credit int
	in     []input
}

// input is a piece of standard input on its way.
type input struct {
	w    *rexec.Write
	done func(any, error)
}

func newRun(s *rexec.Start, env []byte, done func(any, error)) *run {
	r := &run{start: s, env: env, done: done, credit: s.Window}
	r.turn = sync.NewCond(&r.mu)
	return r
}

// pipes are the process's standard files: its ends, and ours.
type pipes struct {
	theirs, ours [3]*os.File
	fds          []spawner.FD
}

func (p *pipes) close(list [3]*os.File) {
	for _, f := range list {
		if f != nil {
			f.Close()
		}
	}
}

func (r *run) pipes() (*pipes, error) {
	p := &pipes{}
	n := 0
	for fd := range 3 {
		if fd == 0 && !r.start.Input {
			p.fds = append(p.fds, spawner.FD{Target: 0, Source: spawner.Null})
			continue
		}
		rd, wr, err := os.Pipe()
		if err != nil {
			p.close(p.theirs)
			p.close(p.ours)
			return nil, err
		}
		if fd == 0 {
			p.theirs[fd], p.ours[fd] = rd, wr
		} else {
			p.theirs[fd], p.ours[fd] = wr, rd
		}
		p.fds = append(p.fds, spawner.FD{Target: fd, Source: n})
		n++
	}
	return p, nil
}

// run is the life of the process; it returns its last result.
func (r *run) run() any {
	defer r.end()
	p, err := r.pipes()
	if err != nil {
		return rexec.Failed{Text: err.Error(), Code: 1}
	}
	defer p.close(p.ours)
	err = r.begin(p)
	p.close(p.theirs)
	if r.sp != nil {
		defer r.sp.Close()
	}
	if err != nil {
		return rexec.Failed{Text: err.Error(), Code: 1}
	}
	var readers sync.WaitGroup
	for i := 1; i <= 2; i++ {
		readers.Go(func() { r.read(uint8(i), p.ours[i]) })
	}
	var feeder sync.WaitGroup
	if p.ours[0] != nil {
		feeder.Go(func() { r.feed(p.ours[0]) })
	}
	last := r.reports()
	r.finish()
	if p.ours[0] != nil {
		p.ours[0].Close() // ends a write to a pipe that nobody reads
	}
	readers.Wait()
	feeder.Wait()
	return last
}

// begin gives the process to a spawner.
func (r *run) begin(p *pipes) error {
	sp, err := spawner.New(spawner.Options{})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sp = sp; r.dead {
		return os.ErrProcessDone
	}
	var files []*os.File
	for _, f := range p.theirs {
		if f != nil {
			files = append(files, f)
		}
	}
	err = sp.Start(&spawner.Request{Dir: r.start.Dir, Argv: r.start.Argv, Env: [][]byte{r.env}, FDs: p.fds, Files: files, Umask: -1})
	if err != nil {
		return err
	}
	r.begun = true
	for _, sig := range r.early {
		_ = sp.Signal(syscall.Signal(sig)) // it may have ended
	}
	return nil
}

// reports waits for the end of the process.
func (r *run) reports() any {
	for {
		rep, err := r.sp.Next()
		if err != nil {
			return rexec.Exited{Status: int(syscall.SIGKILL)} // the spawner was closed, or died, and its process with it
		}
		switch rep.Kind {
		case spawner.Started:
			r.done(rexec.Started{PID: rep.PID}, nil)
		case spawner.Exited:
			return rexec.Exited{Status: rep.Status}
		case spawner.Failed:
			return r.failed(rep)
		}
	}
}

// failed words why it could not be started, with a shell's exit codes.
func (r *run) failed(rep spawner.Report) rexec.Failed {
	reason := rep.Err.Error()
	switch {
	case rep.Step == spawner.StepExec && rep.Err == syscall.ENOENT:
		return rexec.Failed{Text: fmt.Sprintf("%s: %s", r.start.Argv[0], reason), Code: 127}
	case rep.Step == spawner.StepExec:
		return rexec.Failed{Text: fmt.Sprintf("%s: %s", r.start.Argv[0], reason), Code: 126}
	case rep.Step == spawner.StepChdir:
		return rexec.Failed{Text: fmt.Sprintf("%s: %s", r.start.Dir, reason), Code: 126}
	}
	return rexec.Failed{Text: strings.TrimSpace(rep.Step.String() + ": " + reason), Code: 126}
}

// read sends one stream of output.
func (r *run) read(stream uint8, from *os.File) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && r.mayOutput(n) {
			r.done(rexec.Output{Stream: stream, Data: append([]byte(nil), buf[:n]...)}, nil)
		}
		if err != nil {
			return
		}
	}
}

// mayOutput waits for room; false: nobody wants the output any more.
func (r *run) mayOutput(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.credit <= 0 && !r.dead {
		r.turn.Wait()
	}
	r.credit -= n
	return !r.dead
}

func (r *run) ack(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.credit = min(r.credit+max(n, 0), r.start.Window)
	r.turn.Broadcast()
}

// put queues input; false: it cannot be taken.
func (r *run) put(w *rexec.Write, done func(any, error)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.dead || !r.start.Input {
		return false
	}
	r.in = append(r.in, input{w, done})
	r.turn.Broadcast()
	return true
}

// feed writes input into the pipe until its end or the process's.
func (r *run) feed(to *os.File) {
	open := true
	for {
		in, ok := r.nextInput()
		if !ok {
			return
		}
		if open && len(in.w.Data) > 0 {
			if _, err := to.Write(in.w.Data); err != nil {
				open = false // it does not read any more
			}
		}
		if in.w.EOF {
			to.Close()
			open = false
		}
		in.done(nil, nil)
	}
}

func (r *run) nextInput() (input, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.in) == 0 && !r.over && !r.dead {
		r.turn.Wait()
	}
	if len(r.in) == 0 {
		return input{}, false
	}
	in := r.in[0]
	r.in = r.in[1:]
	return in, true
}

// finish: the process has ended.
func (r *run) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	r.turn.Broadcast()
}

// end answers input that came too late.
func (r *run) end() {
	r.finish()
	for in, ok := r.nextInput(); ok; in, ok = r.nextInput() {
		in.done(nil, nil)
	}
}

func (r *run) signal(sig int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.begun {
		r.early = append(r.early, sig)
		return
	}
	_ = r.sp.Signal(syscall.Signal(sig)) // it may have ended
}

// kill ends the process and all it has started.
func (r *run) kill() {
	r.mu.Lock()
	r.dead = true
	sp := r.sp
	r.turn.Broadcast()
	r.mu.Unlock()
	if sp != nil {
		sp.Close()
	}
}
