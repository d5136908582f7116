package reactor

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/frond-hpc/frond/overlay/wire"
)

// flushEvery bounds how many inputs are handled before outputs are delivered: enough to share the wake-ups, few enough
// that a burst does not delay its first answer.
const flushEvery = 128

// HostConfig says what a host's services are connected to.
type HostConfig struct {
	Directory *Directory
	// Router takes Sent, Reply, Withdrawn, Published, Subscribed and Notice.
	Router *Inbox[any]
	// Log writes a service's line; called on the service's goroutine.
	Log func(service string, line Log)
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Host runs services, each on a goroutine of its own. A panic in a service crashes the process and names the service.
type Host struct {
	cfg     HostConfig
	runners map[string]*runner
	rank    atomic.Int32
	stop    chan struct{}
	wg      sync.WaitGroup
}

// NewHost makes a host. Add its services, then Start.
func NewHost(cfg HostConfig) *Host {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = func(string, Log) {}
	}
	h := &Host{cfg: cfg, runners: map[string]*runner{}, stop: make(chan struct{})}
	h.rank.Store(wire.Any)
	return h
}

// Add adds a service that Directory names; driver may be nil.
func (h *Host) Add(s Service, driver Driver) {
	h.runners[s.Name()] = &runner{host: h, svc: s, driver: driver, inbox: NewInbox[any](), ep: NewEndpoint(h.cfg.Directory, s.Name()),
		timer: stoppedTimer()}
}

// SetRank tells this broker's rank once it is known: calls aimed at it stay in memory.
func (h *Host) SetRank(rank int32) { h.rank.Store(rank) }

// Start gives every service its Start.
func (h *Host) Start() {
	for _, name := range h.cfg.Directory.names {
		if r := h.runners[name]; r != nil {
			r.inbox.Push(Start{})
			h.wg.Go(r.run)
		}
	}
}

// Post gives a service an input, or a Reply to one of its calls. Unknown names are ignored.
func (h *Host) Post(service string, in any) {
	if r := h.runners[service]; r != nil {
		r.inbox.Push(in)
	}
}

// Inbox is a service's inbox, for a sender of many; nil if there is none of this name.
func (h *Host) Inbox(service string) *Inbox[any] {
	if r := h.runners[service]; r != nil {
		return r.inbox
	}
	return nil
}

// Stop ends all services after the input they are at, and returns when their goroutines have ended. What drivers still report is
// dropped; they are the caller's to close.
func (h *Host) Stop() {
	close(h.stop)
	h.wg.Wait()
	for _, r := range h.runners {
		r.inbox.Close()
	}
}

func (h *Host) direct(service string) bool { return h.runners[service] != nil }

// runner is one service with its goroutine's state.
type runner struct {
	host   *Host
	svc    Service
	driver Driver
	inbox  *Inbox[any]
	ep     *Endpoint
	out    Out
	timer  *time.Timer
	due    time.Time // zero = not set
	post   Post
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// run is the service's goroutine.
func (r *runner) run() {
	defer r.crash()
	defer r.timer.Stop()
	var batch []any
	for !r.stopped() {
		if batch = r.inbox.Take(batch); len(batch) > 0 {
			r.drain(batch)
			r.overdue()
			continue
		}
		select {
		case <-r.inbox.Wake():
		case <-r.timer.C:
			if !r.overdue() && !r.due.IsZero() {
				r.wakeAt(r.due) // it was moved, or the wall clock is behind the timer's
			}
		case <-r.host.stop:
		}
	}
}

func (r *runner) stopped() bool {
	select {
	case <-r.host.stop:
		return true
	default:
		return false
	}
}

// drain handles a batch.
func (r *runner) drain(batch []any) {
	for i, in := range batch {
		if in, ok := r.ep.Accept(in); ok {
			r.svc.Handle(r.host.cfg.Now(), in, &r.out)
		}
		if i%flushEvery == flushEvery-1 {
			r.flush()
			if r.stopped() {
				return
			}
		}
	}
	r.flush()
}

// overdue gives the service its Wake if it is time.
func (r *runner) overdue() bool {
	if r.due.IsZero() {
		return false
	}
	now := r.host.cfg.Now()
	if now.Before(r.due) {
		return false
	}
	r.due = time.Time{}
	r.timer.Stop()
	r.svc.Handle(now, Wake{}, &r.out)
	r.flush()
	return true
}

// flush delivers the outputs in order, and only then wakes those who got some.
func (r *runner) flush() {
	own := r.host.rank.Load()
	for i, item := range r.out.Items {
		r.out.Items[i] = nil
		switch it := item.(type) {
		case WakeAt:
			r.wakeAt(it.T)
		case Do:
			r.do(it.Effect)
		case Log:
			r.host.cfg.Log(r.svc.Name(), it)
		default:
			to, msg := r.ep.Dispatch(item, r.host.direct, own)
			r.deliver(to, msg)
		}
	}
	r.post.Flush()
	if cap(r.out.Items) > keepCap {
		r.out.Items = nil
	}
	r.out.Items = r.out.Items[:0]
}

func (r *runner) deliver(to string, msg any) {
	switch {
	case msg == nil:
	case to == "":
		r.post.Add(r.host.cfg.Router, msg)
	default:
		r.post.Add(r.host.runners[to].inbox, msg)
	}
}

func (r *runner) wakeAt(t time.Time) {
	r.due = t
	if t.IsZero() {
		r.timer.Stop()
		return
	}
	r.timer.Reset(max(0, t.Sub(r.host.cfg.Now())))
}

func (r *runner) do(effect any) {
	if r.driver == nil {
		panic(fmt.Sprintf("effect %T, but the service has no driver", effect))
	}
	r.driver.Do(r.host.cfg.Now(), effect, func(result any, err error) {
		r.inbox.Push(Done{Effect: effect, Result: result, Err: err})
	})
}

// crash adds the service's name to a panic. The process ends: a service whose state is broken must not go on.
func (r *runner) crash() {
	if p := recover(); p != nil {
		panic(fmt.Sprintf("service %s: %v\n\n%s", r.svc.Name(), p, debug.Stack()))
	}
}

// Post collects messages to inboxes: runs for the same inbox are added at once, in order, and owners are woken by Flush.
type Post struct {
	to   *Inbox[any]
	run  []any
	wake []*Inbox[any]
}

// Add adds a message.
func (p *Post) Add(to *Inbox[any], msg any) {
	if to != p.to {
		p.pass()
		p.to = to
	}
	p.run = append(p.run, msg)
}

func (p *Post) pass() {
	if len(p.run) > 0 && p.to.Add(p.run...) {
		p.wake = append(p.wake, p.to)
	}
	clear(p.run)
	p.run = p.run[:0]
}

// Flush passes on what there is and wakes.
func (p *Post) Flush() {
	p.pass()
	p.to = nil
	for i, in := range p.wake {
		in.Signal()
		p.wake[i] = nil
	}
	p.wake = p.wake[:0]
}
