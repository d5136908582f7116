package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/overlay/boot"
)

// errEnded ends a broker of this process at once.
var errEnded = errors.New("it was told to end at once")

// startInside runs the leader in this process: a child instance whose jobs would be lost with it anyway is one process less to start. Its
// end is reported to events, as that of a process of its own.
func startInside(e *env, info *boot.Info, events chan<- any) (*brokerProc, error) {
	log, err := os.OpenFile(info.LogFile(0), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start broker 0: %w", err)
	}
	tuneMemory(e, 0)
	ctx, cancel := context.WithCancelCause(context.Background())
	in := &insideBroker{info: info, cancel: cancel}
	p := &brokerProcess{info: info, log: newLog(log), rush: tuneRush(e)}
	go func() {
		defer log.Close()
		err := p.run(ctx, in.watch)
		ev := evExit{pid: os.Getpid(), clean: err == nil, how: "ended"}
		if err != nil {
			ev.how = err.Error()
			os.WriteFile(failureFile(info, 0), []byte(err.Error()+"\n"), 0o600) // for whoever asks why
		}
		events <- ev
	}()
	return &brokerProc{pid: os.Getpid(), stop: in.stop}, nil
}

// insideBroker is the broker of this process, once there is one.
type insideBroker struct {
	info   *boot.Info
	cancel context.CancelCauseFunc
	mu     sync.Mutex
	b      *broker.Broker
}

func (in *insideBroker) watch(b *broker.Broker, _ context.CancelCauseFunc) (release func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.b = b
	return func() {}
}

// stop is what a signal does to a process of its own.
func (in *insideBroker) stop(sig syscall.Signal) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if sig == syscall.SIGTERM && in.b != nil {
		in.b.Shutdown(!in.info.TempState, sig.String())
		return
	}
	in.cancel(errEnded)
}
