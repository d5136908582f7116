package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
)

// interruptWindow is how long after a first signal a second one cancels the job.
const interruptWindow = 2 * time.Second

// interrupts passes SIGINT and SIGTERM to a job: the first goes to its tasks, a second one within two seconds cancels the job, a
// third one ends the command and leaves the job alone. Ctrl-Z within two seconds of an interrupt leaves it alone too: it detaches.
// SIGTERM cancels at once a job that is the command's own and has no tasks that could get it.
type interrupts struct {
	env  *env
	show io.Writer // where remarks go; nil = nowhere
	verb string
	id   jobspec.ID
	own  bool                           // the command has submitted it
	kill func(sig syscall.Signal) error // signals the tasks
	end  func() error                   // cancels the job
	quit func()                         // ends the command

	last time.Time
	n    int
	left atomic.Bool // quit was called after a third signal
	away atomic.Bool // quit was called to detach
}

// gaveUp tells whether a third signal ended the command.
func (i *interrupts) gaveUp() bool { return i.left.Load() }

// on takes one signal.
func (i *interrupts) on(sig syscall.Signal, now time.Time) {
	if now.Sub(i.last) > interruptWindow {
		i.n = 0
	}
	i.n, i.last = i.n+1, now
	switch i.n {
	case 1:
		note := "sent " + signalShort(sig) + " to the job"
		if err := i.kill(sig); err != nil {
			if i.own && sig == syscall.SIGTERM { // nobody will send another one, as a user would press Ctrl-C again
				i.cancel()
				return
			}
			note = err.Error()
		}
		i.remark(note + "; again within 2 s cancels it, Ctrl-Z leaves it alone")
	case 2:
		i.cancel()
	default:
		i.left.Store(true)
		i.quit()
	}
}

func (i *interrupts) cancel() {
	i.remark("canceling the job")
	if err := i.end(); err != nil {
		i.remark(err.Error())
	}
}

// detach ends the command; the job goes on.
func (i *interrupts) detach() {
	i.remark("it goes on; 'frond job attach " + i.env.idText(i.id) + "' shows it again")
	i.away.Store(true)
	i.quit()
}

// detached tells whether detach ended the command.
func (i *interrupts) detached() bool { return i.away.Load() }

// remark tells the user, unless show is nil.
func (i *interrupts) remark(text string) {
	if i.show != nil {
		fmt.Fprintf(i.show, "%s: %s: %s\n", i.verb, i.env.idText(i.id), text)
	}
}

func signalShort(sig syscall.Signal) string {
	switch sig {
	case syscall.SIGINT:
		return "SIGINT"
	case syscall.SIGTERM:
		return "SIGTERM"
	}
	return sig.String()
}

// watch hands signals to on until stop is called. Its goroutine ends with stop.
func (i *interrupts) watch() (stop func()) {
	ch := make(chan os.Signal, 4)
	done := make(chan struct{})
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		defer close(done)
		stops := func() { signal.Reset(syscall.SIGTSTP) } // Ctrl-Z does again what it always does
		defer stops()
		var window *time.Timer
		for s := range ch {
			if s == syscall.SIGTSTP {
				i.detach()
				continue
			}
			i.on(s.(syscall.Signal), time.Now())
			signal.Notify(ch, syscall.SIGTSTP)
			if window != nil {
				window.Stop()
			}
			window = time.AfterFunc(interruptWindow, stops)
		}
		if window != nil {
			window.Stop()
		}
	}()
	return func() {
		signal.Stop(ch)
		close(ch)
		<-done
	}
}

// newInterrupts is interrupts for one job; quit ends ctx's work.
func newInterrupts(ctx context.Context, e *env, c *client.Client, verb string, id jobspec.ID, quit func()) *interrupts {
	multi := func(rep api.MultiRep, err error) error {
		if text, ok := rep.Errors[id]; ok && err == nil {
			return fmt.Errorf("%s", text)
		}
		return err
	}
	var show io.Writer
	if e.isTerminal(e.stderr) {
		show = e.stderr
	}
	return &interrupts{env: e, show: show, verb: verb, id: id, quit: quit,
		kill: func(sig syscall.Signal) error {
			return multi(client.Call(ctx, c, api.Kill, api.KillReq{IDs: []jobspec.ID{id}, Signal: int(sig)}))
		},
		end: func() error {
			return multi(client.Call(ctx, c, api.Raise, api.RaiseReq{IDs: []jobspec.ID{id}, Type: "cancel", Note: "interrupted by the user"}))
		},
	}
}
