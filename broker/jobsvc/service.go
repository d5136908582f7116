// Package jobsvc is the service "job" on the leader: it feeds the job machine with requests, reports and allocations, commits what the
// machine writes in groups, and tells waiting clients. Its protocol with "exec" stands in broker/api/exec.go, that with "sched" in
// broker/api/resource.go.
package jobsvc

import (
	"fmt"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
)

// Config of the service.
type Config struct {
	Loaded *job.Loaded   // what the store holds; nil = a new one
	Lease  time.Duration // default 30 s
	User   uint32
	Size   int           // brokers expected: as long as fewer have been seen, requests are not checked against the nodes
	Window time.Duration // least time between two commits; default 2 ms
	// Counters are the instance's named counters.
	Counters resource.Counters
	Prolog   string // for sh, on each node of a job before its tasks; "" = none
	Epilog   string // after them
	Drain    bool   // drain the nodes on which a prolog fails
	Now      time.Time
	Queues   []jobspec.Queue // nil = one without a name
	Purge    PurgeLimits     // what is purged by itself
	Version  string          // of this program, which child instances must share; "" = any
	// Branch: this instance is one. Its jobs come from its parent.
	Branch bool
	// Expiration is when the instance ends, epoch seconds; 0 = unknown (so far).
	Expiration float64
}

// Service is the service "job". It implements reactor.Service.
type Service struct {
	cfg       Config
	m         *job.Machine
	first     *job.Actions // of the machine's construction, carried out at Start
	inv       *resource.Inventory
	seen      map[int32]bool
	intern    interner
	tokens    tokens
	uploads   uploads
	committer committer
	watch     watchers
	follows   follows
	purging   purging
	children  children
	tenure    tenure      // of a branch
	waiting   map[int]int // elements that branches hold and that have not started, as they last told
	delays    []delayed
	unsent    unsent
	moves     moves
	isSplit   bool                        // there are branches
	fits      func(*jobspec.Jobspec) bool // into one of the branches that there are, or were last
	stopping  bool
	keep      bool
	stopped   bool
	late      []func() // answers about elements of which it is not known yet whether they run
	unmade    bool     // what the instance is made of has been told to end
	started   time.Time
	now       time.Time
	out       *reactor.Out
	wakeAt    time.Time // what the host was last asked for
	machineAt time.Time
}

// New makes the service. The error names the stored job that cannot be read.
func New(cfg Config) (*Service, error) {
	if cfg.Lease <= 0 {
		cfg.Lease = 30 * time.Second
	}
	if cfg.Window <= 0 {
		cfg.Window = 2 * time.Millisecond
	}
	m, first, err := job.New(job.Config{Loaded: cfg.Loaded, Lease: cfg.Lease, Now: cfg.Now, Parse: cfg.parse, Branch: cfg.Branch, Expiration: cfg.Expiration})
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, m: m, first: first, inv: resource.NewInventory(), seen: make(map[int32]bool), started: cfg.Now}
	s.intern.init(cfg.Loaded)
	if s.intern.enqueue = s.enqueue; cfg.Branch { // it is in its queue at the top
		s.intern.enqueue = func(j *jobspec.Jobspec) (*jobspec.Jobspec, error) { return bare(j), nil }
	}
	s.tenure.init()
	s.waiting = make(map[int]int)
	s.tokens.init()
	s.uploads.init(cfg.Loaded)
	s.committer.replies = make(map[uint64][]pending)
	s.watch.init()
	s.follows.init()
	s.children.init()
	return s, nil
}

// parse reads a stored jobspec.
func (cfg *Config) parse(text []byte) (*jobspec.Jobspec, error) {
	j, err := jobspec.Parse(text)
	if err == nil && cfg.Branch {
		j = bare(j)
	}
	return j, err
}

// Name implements reactor.Service.
func (s *Service) Name() string { return "job" }

// Totals counts all elements.
func (s *Service) Totals() job.Totals { return s.m.Totals() }

// Check returns the first broken invariant, for tests.
func (s *Service) Check() error { return s.m.Check() }

// Handle implements reactor.Service.
func (s *Service) Handle(now time.Time, in any, out *reactor.Out) {
	s.now, s.out = now, out
	switch in := in.(type) {
	case reactor.Start:
		s.apply(s.first)
		s.first = nil
	case *rpc.Request:
		s.onRequest(in)
	case *rpc.Response:
		switch then := in.Key.(type) {
		case func(): // of a call that only measures the way
			then()
		case func(*rpc.Response):
			then(in)
		case *passing:
			then.passed(in)
		}
	case rpc.Cancel:
		if x := s.watch.attaches[in.Key]; x != nil && x.pass != nil {
			s.out.CancelCall(x.pass)
		}
		s.watch.cancel(in.Key)
		s.dropFollow(in.Key)
		s.cancelRendezvous(in.Key)
	case reactor.Wake:
		s.wakeAt = time.Time{}
		s.step(job.Tick{})
	case reactor.Done:
		s.onDone(in)
	case api.SchedAllocs:
		s.onAllocs(in)
	case api.SchedDeny:
		s.step(job.Denied{Array: jobspec.ID(in.ID), Reason: in.Reason})
	case api.NodesChanged:
		s.onNodes(in)
	case api.Expiration:
		s.step(job.Expires{At: in.At})
		s.tellChildEnds()
	case api.Membership:
		s.onMembership(in)
	case api.BranchFits, api.BranchMade, api.BranchTake, api.BranchForfeit, api.BranchOrder, api.BranchTell:
		s.onBranchNotice(in)
	case api.Stopping:
		s.onStopping(in)
	}
	s.afterwards()
	s.out = nil
}

// step feeds the machine and carries out what it orders.
func (s *Service) step(ev any) *job.Actions {
	a := s.m.Step(s.now, ev)
	s.apply(a)
	return a
}

// afterwards commits what is due, tells watchers what they wait for and sets the timer.
func (s *Service) afterwards() {
	s.commitIfDue()
	s.flushProgress()
	s.follows.flush(s.out)
	delayed := s.runDelayed()
	s.reportIfDue()
	s.maybeStopped()
	s.purgeIfDue()
	next := earliest(earliest(s.machineAt, earliest(delayed, earliest(s.purging.due, s.tenure.due))), earliest(s.committer.due, s.watch.progressAt))
	if next != s.wakeAt {
		s.wakeAt = next
		s.out.Wake(next)
	}
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (s *Service) onRequest(r *rpc.Request) {
	if s.cfg.Branch && forTop(r) {
		s.toTop(r)
		return
	}
	switch r.Topic {
	case api.ExecReport.Topic:
		handle(s, r, api.ExecReport, fromBroker(s.onReport))
	case api.ExecSync.Topic:
		handle(s, r, api.ExecSync, fromBroker(s.onSync))
	case api.ExecRenew.Topic:
		handle(s, r, api.ExecRenew, fromBroker(s.onRenew))
	case api.BranchHeld.Topic:
		handle(s, r, api.BranchHeld, fromBroker(s.onBranchHeld))
	case api.BranchUnfit.Topic:
		handle(s, r, api.BranchUnfit, fromBroker(s.onBranchUnfit))
	case api.BranchJobs.Topic:
		handle(s, r, api.BranchJobs, fromBroker(s.onBranchJobs))
	case api.BranchTold.Topic:
		handle(s, r, api.BranchTold, fromBroker(s.onBranchTold))
	case api.Params.Topic:
		handle(s, r, api.Params, s.onParams)
	case api.Lookup.Topic:
		handle(s, r, api.Lookup, s.onLookup)
	case api.Retry.Topic:
		handle(s, r, api.Retry, s.onRetry)
	case api.Submit.Topic:
		handle(s, r, api.Submit, s.onSubmit)
	case api.Wait.Topic:
		handle(s, r, api.Wait, s.onWait)
	case api.List.Topic:
		handle(s, r, api.List, s.onList)
	case api.Explain.Topic:
		handle(s, r, api.Explain, s.onExplain)
	case api.Info.Topic:
		handle(s, r, api.Info, s.onInfo)
	case api.Attach.Topic:
		handle(s, r, api.Attach, s.onAttach)
	case api.Input.Topic:
		handle(s, r, api.Input, s.onInput)
	case api.Raise.Topic:
		handle(s, r, api.Raise, s.onRaise)
	case api.Queues.Topic:
		handle(s, r, api.Queues, s.onQueues)
	case api.QueueSet.Topic:
		handle(s, r, api.QueueSet, s.onQueueSet)
	case api.Update.Topic:
		handle(s, r, api.Update, s.onUpdate)
	case api.Kill.Topic:
		handle(s, r, api.Kill, s.onKill)
	case api.Counts.Topic:
		handle(s, r, api.Counts, s.onCounts)
	case api.Purge.Topic:
		handle(s, r, api.Purge, s.onPurge)
	case api.Rendezvous.Topic:
		handle(s, r, api.Rendezvous, s.onRendezvous)
	case api.History.Topic:
		handle(s, r, api.History, s.onHistory)
	case api.Follow.Topic:
		handle(s, r, api.Follow, s.onFollow)
	default:
		s.out.Fail(r, wire.Errorf(wire.NoMethod, "service job has no method %s", r.Topic))
	}
}

// handle decodes a request for f; f answers it itself, or returns an error for the answer.
func handle[Req, Rep any](s *Service, r *rpc.Request, m rpc.Method[Req, Rep], f func(*rpc.Request, Req) error) {
	req, err := m.Decode(r)
	if err == nil {
		err = f(r, req)
	}
	if err != nil {
		s.out.Fail(r, err)
	}
}

// fromBroker keeps clients from a method of the exec protocol: what one says of a broker's runs would be believed.
func fromBroker[Req any](f func(*rpc.Request, Req) error) func(*rpc.Request, Req) error {
	return func(r *rpc.Request, req Req) error {
		if err := reactor.BrokersOnly(r); err != nil {
			return err
		}
		return f(r, req)
	}
}

func (s *Service) onDone(d reactor.Done) {
	switch e := d.Effect.(type) {
	case *job.Commit:
		s.onCommitted(d.Err)
	case *job.HistoryPart:
		e.Key.(func(any, error))(d.Result, d.Err)
	case *job.Query:
		e.Key.(func(any, error))(d.Result, d.Err)
	case *job.Purge:
		s.purging.done(d.Result, d.Err)
	default:
		panic(fmt.Sprintf("job service: done with unknown effect %T", d.Effect))
	}
}

// query reads the store; then is called on the service's turn with what run returned.
func (s *Service) query(run func(job.Reader) (any, error), then func(any, error)) {
	s.out.Do(&job.Query{Key: then, Run: run})
}

func (s *Service) onNodes(n api.NodesChanged) {
	for _, node := range n.Add {
		s.inv.Add(node)
	}
	for _, i := range n.Remove {
		s.inv.Remove(i)
	}
	if len(n.Add) > 0 {
		s.step(job.NodesKnown{Nodes: n.Add})
	}
}

func (s *Service) onMembership(n api.Membership) {
	if n.State == "online" {
		s.seen[n.Rank] = true
	}
	row := job.MemberRow{Rank: n.Rank, UUID: n.UUID, Host: n.Host, BootID: n.BootID, PID: n.PID, State: n.State}
	s.step(job.MemberChanged{Row: row, Reason: n.Reason})
}

// onStopping ends the instance's jobs: all are cancelled, or with Keep what is not finished stays in the store as it is. Reports are taken to
// the end: what finished by itself is recorded, and what the stop ends comes with an exception "lease" and is to run again.
func (s *Service) onStopping(n api.Stopping) {
	s.stopping, s.keep = true, n.Keep
	s.out.Notify("sched", api.SchedHold{Hold: true})
	if !n.Keep {
		s.raiseAll(job.Exception{Type: "cancel", Severity: 0, Note: "the instance is shutting down"}, 0)
	}
}

// endSystem ends what the instance is made of, when nothing is left of what it is for.
func (s *Service) endSystem() {
	ids := s.m.System()
	if len(ids) == 0 || s.unmade {
		return
	}
	s.unmade = true
	ev := job.Raised{Exc: job.Exception{Type: "cancel", Severity: 0, Note: "the instance is shutting down"}}
	for _, id := range ids {
		ev.Targets = append(ev.Targets, job.Target{Array: id})
	}
	s.step(ev)
}

func (s *Service) maybeStopped() {
	if s.stopping && !s.keep && s.m.Active() == 0 {
		s.endSystem()
	}
	settled := !s.committer.busy && !s.m.Dirty() && (s.keep || s.m.Active()+len(s.m.System()) == 0)
	hopeless := s.committer.failed >= lastTries
	if !s.stopping || s.stopped || !settled && !hopeless {
		return
	}
	s.stopped = true
	if !settled {
		s.out.Log("error", "the state directory cannot be written: stopping without; it has what was acknowledged", "active", s.m.Active())
	}
	s.out.Notify("broker", api.Stopped{Name: "job"})
}
