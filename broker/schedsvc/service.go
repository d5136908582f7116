// Package schedsvc is the service "sched" on the leader: it feeds the scheduling machine (package sched) with the notices of "job" and
// "resource" and tells "job" of allocations. The protocol stands in broker/api/resource.go.
//
// A pass follows the inputs that are already waiting, as the wake-up for it is handled after them: a burst costs one pass, a lone
// job no delay.
package schedsvc

import (
	"math"
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/sched"
	"github.com/frond-hpc/frond/sched/easy"
	"github.com/frond-hpc/frond/sched/fcfs"
)

// Config of the service.
type Config struct {
	Policy string // "easy" (default) or "fcfs"
	Depth  int    // of easy: groups looked at behind the first that waits; 0 = all
	// Counters are the instance's named counters.
	Counters resource.Counters
	// Expiration is when the instance ends, epoch seconds; 0 = unknown (so far).
	Expiration float64
}

// PolicyNames are the policies that Config knows, the default first.
var PolicyNames = []string{"easy", "fcfs"}

// Valid tells whether Policy is known; the error has code Invalid.
func (c Config) Valid() error {
	if c.Policy == "" || slices.Contains(PolicyNames, c.Policy) {
		return nil
	}
	return wire.Errorf(wire.Invalid, "there is no scheduling policy %q: use one of %v", c.Policy, PolicyNames)
}

func (c Config) policy() sched.Policy {
	if c.Policy == "fcfs" {
		return fcfs.Policy{}
	}
	return easy.Policy{Depth: c.Depth}
}

// Service is the service "sched".
type Service struct {
	m   *sched.Machine
	now time.Time
	out *reactor.Out

	expiration float64 // at start
}

// New makes the service. A policy that Config.Valid refuses is taken as the default.
func New(cfg Config) *Service {
	return &Service{expiration: cfg.Expiration, m: sched.New(sched.Config{Policy: cfg.policy(), Counters: cfg.Counters, ExactRunning: exactRunning})}
}

// exactRunning keeps a pass behind a waiting head under some 50 µs: with more allocations running, the reservation may be 0.1 s old.
const exactRunning = 1024

// Name implements reactor.Service.
func (s *Service) Name() string { return "sched" }

// Machine is for tests that look at its invariants.
func (s *Service) Machine() *sched.Machine { return s.m }

// Handle implements reactor.Service.
func (s *Service) Handle(now time.Time, in any, out *reactor.Out) {
	s.now, s.out = now, out
	switch in := in.(type) {
	case reactor.Start:
		if s.expiration > 0 {
			s.step(sched.SetExpiration{At: s.expiration})
		}
	case reactor.Wake:
		s.step(sched.RunPass{})
	case api.SchedSubmit:
		s.step(sched.Submit{Groups: specs(in.Groups)})
	case api.SchedFree:
		s.step(sched.Free{IDs: in.IDs})
	case api.SchedCancel:
		s.step(sched.Cancel{ID: sched.GroupID(in.ID), Count: in.Count})
	case api.SchedPriority:
		s.step(sched.SetPriority{ID: sched.GroupID(in.ID), Priority: in.Priority})
	case api.SchedUpdate:
		s.step(sched.SetDuration{ID: sched.GroupID(in.ID), Duration: in.Duration})
		for _, e := range in.Ends {
			s.step(sched.SetEnd{IDs: []uint64{e.ID}, End: e.End})
		}
	case api.SchedHold:
		s.step(sched.Hold{Hold: in.Hold})
	case api.SchedAdopt:
		s.step(sched.Adopt{Allocs: fromAPI(in.Allocs)})
	case api.Expiration:
		s.step(sched.SetExpiration{At: in.At})
	case api.NodesChanged:
		s.step(sched.Nodes{Add: in.Add, Up: in.Up, Down: in.Down, Remove: in.Remove})
	case *rpc.Request:
		s.request(in)
	}
	s.out = nil
}

func (s *Service) step(event any) {
	for _, a := range s.m.Step(seconds(s.now), event) {
		s.act(a)
	}
}

func (s *Service) act(action any) {
	switch a := action.(type) {
	case sched.Allocs:
		s.out.Notify("job", api.SchedAllocs{Allocs: toAPI(a.Allocs)})
	case sched.Deny:
		s.out.Notify("job", api.SchedDeny{ID: api.GroupID(a.ID), Reason: a.Reason})
	case sched.Wake:
		s.out.Wake(s.timeAt(a.At))
	case sched.Conflict:
		s.out.Log("warn", "adopted allocation conflicts with others", "alloc", a.ID, "err", a.Text)
	}
}

// timeAt converts back; what is not in the future is now, to the nanosecond. What is gets a microsecond more: epoch seconds as a float are
// good to a quarter of one, and a wake that came too early by rounding would ask for itself again at once, for ever on virtual time.
func (s *Service) timeAt(at float64) time.Time {
	if at <= seconds(s.now) {
		return s.now
	}
	whole, part := math.Modf(at)
	return time.Unix(int64(whole), int64(part*1e9)).Add(time.Microsecond)
}

func (s *Service) request(r *rpc.Request) {
	var err error
	switch r.Topic {
	case api.SchedReasons.Topic:
		err = s.reasons(r)
	case api.SchedUsage.Topic:
		rep := api.SchedUsageRep{Used: s.m.Used()}
		for _, c := range s.m.Counters() {
			rep.Counters = append(rep.Counters, api.CounterUse{Name: c.Name, Total: c.Total, Used: c.Used})
		}
		s.out.Reply(r, rep)
	default:
		err = wire.Errorf(wire.NoMethod, "service sched has no method %q", r.Topic)
	}
	if err != nil {
		s.out.Fail(r, err)
	}
}

func (s *Service) reasons(r *rpc.Request) error {
	req, err := api.SchedReasons.Decode(r)
	if err != nil {
		return err
	}
	ids := make([]sched.GroupID, len(req.Groups))
	for i, id := range req.Groups {
		ids[i] = sched.GroupID(id)
	}
	rep := api.SchedReasonsRep{Reason: make(map[api.GroupID]string), Estimate: make(map[api.GroupID]float64)}
	if req.Detail {
		rep.Ahead = make(map[api.GroupID]int)
	}
	for _, x := range s.m.Reasons(seconds(s.now), ids, req.Detail) {
		rep.Reason[api.GroupID(x.ID)] = x.Text
		if x.Estimate > 0 {
			rep.Estimate[api.GroupID(x.ID)] = x.Estimate
		}
		if x.Ahead >= 0 {
			rep.Ahead[api.GroupID(x.ID)] = x.Ahead
		}
	}
	s.out.Reply(r, rep)
	return nil
}

func specs(groups []api.SchedGroup) []sched.GroupSpec {
	out := make([]sched.GroupSpec, len(groups))
	for i := range groups {
		g := &groups[i]
		out[i] = sched.GroupSpec{ID: sched.GroupID(g.ID), Request: g.Request, Constraint: g.Constraint, Duration: g.Duration, Priority: g.Priority,
			Order: g.Order, Count: g.Count, MinLength: g.MinLength}
	}
	return out
}

func toAPI(allocs []sched.Alloc) []api.SchedAlloc {
	out := make([]api.SchedAlloc, len(allocs))
	for i, a := range allocs {
		out[i] = api.SchedAlloc{ID: a.ID, Group: api.GroupID(a.Group), Alloc: a.Alloc, End: a.End}
	}
	return out
}

func fromAPI(allocs []api.SchedAlloc) []sched.Alloc {
	out := make([]sched.Alloc, len(allocs))
	for i, a := range allocs {
		out[i] = sched.Alloc{ID: a.ID, Group: sched.GroupID(a.Group), Alloc: a.Alloc, End: a.End, Counters: a.Counters}
	}
	return out
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

var _ reactor.Service = (*Service)(nil)
