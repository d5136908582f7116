package broker

import (
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/vmihailenco/msgpack/v5"
)

// The orderly end of a broker.
//
//	begin     on the leader by leader.shutdown or StopRequest; elsewhere told by the parent, or by StopRequest for this broker alone.
//	job       (leader) "job" stops first, while all brokers still run: it cancels what is active, or keeps it.
//	services  children are told (not for this broker alone); all services get Stopping; those awaited answer Stopped. Meanwhile
//	          results climb the tree, so a broker waits for its children to have left before it does.
//	leave     the overlay leaves; Departed, then Exit.
//
// Each step has a limit, after which the next begins and what is missing is said in the log. A machine that failed takes the way from
// "services" on, without a tree.
type stopper struct {
	core   *Core
	step   stopStep
	keep   bool
	tree   bool // children are to stop too
	reason string
	grace  float64         // of tasks, seconds
	err    error           // for Exit
	want   map[string]bool // services whose Stopped is missing
}

type stopStep int

const (
	running stopStep = iota
	stoppingJob
	stoppingServices
	leaving
	ended
)

const (
	stopTimer    = "stop" // in Core.wakes
	jobLimit     = 60 * time.Second
	serviceLimit = 20 * time.Second
	leaveLimit   = 2 * time.Second
)

func newStopper(c *Core) stopper { return stopper{core: c, want: map[string]bool{}} }

// request begins a stop.
func (s *stopper) request(keep bool, reason string, grace float64) {
	if s.step != running {
		return
	}
	s.keep, s.reason, s.grace, s.tree = keep, reason, grace, s.core.cfg.Overlay.Leader
	s.core.logf("info", "stopping", "keep", keep, "reason", reason)
	if s.tree && s.core.hosted["job"] {
		s.enter(stoppingJob, s.limitOr(jobLimit))
		s.want["job"] = true
		s.core.tell("job", api.Stopping{Keep: keep, Grace: grace})
		return
	}
	s.services()
}

// told is the parent's word.
func (s *stopper) told(body []byte) {
	if s.step != running {
		return
	}
	var m api.StopMsg
	if err := wire.Unmarshal(body, &m); err != nil {
		s.core.logf("error", "malformed stop message", "err", err)
	}
	s.keep, s.reason, s.grace, s.tree = m.Keep, m.Reason, m.Grace, true
	s.core.logf("info", "stopping with the instance", "keep", m.Keep, "reason", m.Reason)
	s.services()
}

// failed: this broker cannot be a member. Its tasks end, their results are kept nowhere.
func (s *stopper) failed(err error) {
	s.core.logf("error", "this broker cannot be a member of the instance", "err", err)
	s.err = err
	switch s.step {
	case running:
		s.keep = true
		s.services()
	case leaving:
		s.exit()
	}
}

// services stops everything but "job", and the children.
func (s *stopper) services() {
	limit := s.limitOr(serviceLimit)
	if s.tree && len(s.core.children()) > 0 {
		limit += leaveLimit // theirs ends first
	}
	s.enter(stoppingServices, limit)
	if s.tree {
		for _, l := range s.core.children() {
			s.tellChild(l)
		}
	}
	for _, name := range s.core.cfg.Services {
		if name == "job" && s.core.cfg.Overlay.Leader && s.tree {
			continue
		}
		if name == "job" || name == "exec" || slices.Contains(s.core.cfg.Await, name) {
			s.want[name] = true
		}
		s.core.tell(name, api.Stopping{Keep: s.keep, Grace: s.grace})
	}
}

// child passes the word to a child that came late.
func (s *stopper) child(l *link) {
	if s.tree && s.step >= stoppingServices {
		s.tellChild(l)
	}
}

func (s *stopper) tellChild(l *link) {
	body, err := msgpack.Marshal(&api.StopMsg{Keep: s.keep, Reason: s.reason, Grace: s.grace})
	if err != nil {
		s.core.logf("error", "stop message cannot be encoded", "err", err)
		return
	}
	s.core.control(l, &wire.Message{Topic: api.TopicStop, Body: body})
}

// stopped is a service's answer.
func (s *stopper) stopped(name string) { delete(s.want, name) }

// check goes on to the next step when this one is complete, and tells whether it did. Core calls it after every input.
func (s *stopper) check() bool {
	switch {
	case s.step == stoppingJob && len(s.want) == 0:
		s.services()
	case s.step == stoppingServices && len(s.want) == 0 && (!s.tree || len(s.core.children()) == 0):
		s.leave()
	default:
		return false
	}
	return true
}

// leave takes this broker out of the tree.
func (s *stopper) leave() {
	if s.err != nil {
		s.exit()
		return
	}
	s.enter(leaving, leaveLimit)
	s.core.later(overlay.Leave{})
}

// departed: the overlay has left.
func (s *stopper) departed() {
	if s.step == running {
		return
	}
	s.exit()
}

func (s *stopper) exit() {
	if s.step == ended {
		return
	}
	s.enter(ended, 0)
	s.core.emit(Exit{s.err})
}

// timeout: a step took too long.
func (s *stopper) timeout() {
	var missing []string
	for name := range s.want {
		missing = append(missing, name)
	}
	slices.Sort(missing)
	switch s.step {
	case stoppingJob, stoppingServices:
		s.core.logf("error", "stopping takes too long, going on without", "services", missing, "children", len(s.core.children()))
		clear(s.want)
		if s.step == stoppingJob {
			s.services()
		} else {
			s.leave()
		}
	case leaving:
		s.exit()
	}
}

// enter begins a step that has a limit.
func (s *stopper) enter(step stopStep, limit time.Duration) {
	s.step = step
	var t time.Time
	if limit > 0 {
		t = s.core.now.Add(limit)
	}
	s.core.setWakeOf(stopTimer, t)
}

func (s *stopper) limitOr(d time.Duration) time.Duration {
	if s.core.cfg.StopLimit > 0 {
		return s.core.cfg.StopLimit
	}
	return d
}
