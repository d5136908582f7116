package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource/idset"
)

// execution is one command on several brokers. Each rank has a goroutine that reads its stream; what they have is printed under mu.
type execution struct {
	e     *env
	c     *client.Client
	o     *execOptions
	ranks []int
	id    string

	mu     sync.Mutex
	out    *outputWriter
	ended  []execEnd // by place in ranks
	stop   context.CancelFunc
	last   time.Time // of an interrupt
	broken bool      // interrupted twice
}

// execEnd is how a command ended on one broker.
type execEnd struct {
	over bool
	code int
	text string // why, where it did not end by itself
}

func newExecution(e *env, c *client.Client, o *execOptions, ranks []int) *execution {
	x := &execution{e: e, c: c, o: o, ranks: ranks, id: fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano()), ended: make([]execEnd, len(ranks))}
	x.out = newOutputWriter(e.stdout, e.stderr, o.label)
	return x
}

// run runs the command everywhere and returns when it has ended everywhere.
func (x *execution) run(ctx context.Context, req api.RexecRunReq) error {
	req.ID = x.id
	ctx, x.stop = context.WithCancel(ctx)
	defer x.stop()
	defer x.passSignals(ctx)()
	var ranks sync.WaitGroup
	for i, rank := range x.ranks {
		s, err := client.Open(ctx, x.c, api.RexecRun, req, client.Rank(int32(rank))) // on its way before any input
		ranks.Go(func() { x.follow(ctx, i, s, err) })
	}
	if req.Input {
		if in := x.e.usableInput(); in != nil {
			go x.feed(ctx, in) // a read from a terminal cannot be ended
		}
	}
	ranks.Wait()
	if err := x.out.finish(); err != nil && !errors.Is(err, syscall.EPIPE) {
		return err
	}
	return x.verdict()
}

// follow reads what becomes of the command on one broker.
func (x *execution) follow(ctx context.Context, i int, s *client.Stream[api.RexecEvent], err error) {
	for err == nil {
		var ev api.RexecEvent
		if ev, err = s.Next(); err == nil {
			err = x.event(ctx, i, ev)
		}
	}
	x.over(i, err)
	if s != nil {
		s.Close()
	}
}

// event takes one event of one broker.
func (x *execution) event(ctx context.Context, i int, ev api.RexecEvent) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	rank := x.ranks[i]
	switch ev.Kind {
	case api.RexecStarted:
		x.note("rank %d: process %d started", rank, ev.PID)
	case api.RexecOutput:
		x.out.write(&api.Output{Task: rank, Stream: ev.Stream, Data: ev.Data})
		if x.out.failed != nil {
			return x.out.failed
		}
		return client.Notify(ctx, x.c, api.RexecAck, api.RexecAckReq{ID: x.id, Bytes: len(ev.Data)}, client.Rank(int32(rank)))
	case api.RexecExited:
		st := syscall.WaitStatus(ev.Status)
		end := execEnd{over: true, code: st.ExitStatus()}
		if st.Signaled() {
			end.code, end.text = 128+int(st.Signal()), st.Signal().String()
		}
		x.ended[i] = end
		x.note("rank %d: ended with exit code %d", rank, end.code)
	case api.RexecFailed:
		x.ended[i] = execEnd{over: true, code: ev.Status, text: ev.Text}
	}
	return nil
}

// note says what happens, with --verbose.
func (x *execution) note(format string, args ...any) {
	if x.o.verbose {
		fmt.Fprintf(x.e.stderr, "frond exec: "+format+"\n", args...)
	}
}

// over: a stream has ended.
func (x *execution) over(i int, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended[i].over {
		return
	}
	end := execEnd{over: true, code: exitNoHost, text: "it was lost: " + err.Error()}
	switch {
	case x.broken:
		end = execEnd{over: true, code: 130}
	case errors.Is(err, &wire.Error{Code: wire.Unreachable}), errors.Is(err, &wire.Error{Code: wire.NoService}):
		end.text = err.Error()
	case errors.Is(err, syscall.EPIPE):
		end = execEnd{over: true}
	case !errors.Is(err, &wire.Error{Code: wire.Lost}) && !errors.Is(err, io.EOF):
		end = execEnd{over: true, code: 1, text: err.Error()}
	}
	x.ended[i] = end
}

// feed passes standard input on to all, at the pace of the slowest.
func (x *execution) feed(ctx context.Context, in io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		data := append([]byte(nil), buf[:n]...)
		var sent []*client.Future[api.Empty]
		for _, rank := range x.takers() {
			sent = append(sent, client.Go(ctx, x.c, api.RexecInput, api.RexecInputReq{ID: x.id, Data: data, EOF: err != nil}, client.Rank(int32(rank))))
		}
		for _, f := range sent {
			_, _ = f.Wait(ctx) // who has ended takes no more
		}
		if err != nil || len(sent) == 0 {
			return
		}
	}
}

// takers are the ranks where the command has not ended.
func (x *execution) takers() []int {
	x.mu.Lock()
	defer x.mu.Unlock()
	var ranks []int
	for i, r := range x.ranks {
		if !x.ended[i].over {
			ranks = append(ranks, r)
		}
	}
	return ranks
}

// passSignals passes signals on until what it returns is called. Its goroutine ends with that.
func (x *execution) passSignals(ctx context.Context) (stop func()) {
	ch := make(chan os.Signal, 8)
	done := make(chan struct{})
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		defer close(done)
		for sig := range ch {
			x.signal(ctx, sig.(syscall.Signal))
		}
	}()
	return func() {
		signal.Stop(ch)
		close(ch)
		<-done
	}
}

// signal passes one signal on; the second interrupt within a second ends all.
func (x *execution) signal(ctx context.Context, sig syscall.Signal) {
	now := time.Now()
	if sig == syscall.SIGINT {
		x.mu.Lock()
		twice := now.Sub(x.last) < time.Second
		x.last, x.broken = now, x.broken || twice
		x.mu.Unlock()
		if twice {
			x.stop()
			return
		}
	}
	for _, rank := range x.takers() {
		_ = client.Notify(ctx, x.c, api.RexecSignal, api.RexecSignalReq{ID: x.id, Signal: int(sig)}, client.Rank(int32(rank)))
	}
}

// verdict says which ranks failed and how, and gives the exit code.
func (x *execution) verdict() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	code := 0
	reasons := map[string]*idset.Set{}
	var order []string
	for i, end := range x.ended {
		code = max(code, end.code)
		if end.code == 0 {
			continue
		}
		text := end.text
		if text == "" {
			text = fmt.Sprintf("exit code %d", end.code)
		}
		if reasons[text] == nil {
			reasons[text] = &idset.Set{}
			order = append(order, text)
		}
		reasons[text].Add(x.ranks[i])
	}
	slices.Sort(order)
	if !x.o.quiet {
		for _, text := range order {
			fmt.Fprintf(x.e.stderr, "frond exec: %s: %s\n", rankText(reasons[text]), escaped(text))
		}
	}
	if code == 0 {
		return nil
	}
	return &exitError{Code: code}
}

func rankText(s *idset.Set) string {
	if s.Len() == 1 {
		return "rank " + s.String()
	}
	return "ranks " + s.String()
}
