// Package branchsvc is the service "branch" on a leader: towards its branches it holds their sessions, decides how much of the queue each
// is given, and passes questions and answers; in a branch it holds the session with the parent. What is held by whom, and what of it
// is durable, is the business of "job". The protocol stands in broker/api/branch.go.
package branchsvc

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/branch"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
)

// Config of the service.
type Config struct {
	Version string
	Up      *Uplink // nil: this instance is no branch
	Make    Make
}

// Service is the service "branch". It implements reactor.Service.
type Service struct {
	cfg   Config
	bal   *branch.Balance
	links map[int]*link
	up    *uplink
	split splitter
	out   *reactor.Out
	now   time.Time
	due   time.Time // of the next look at the balance
}

// New makes the service.
func New(cfg Config) *Service {
	s := &Service{cfg: cfg, bal: branch.NewBalance(), links: make(map[int]*link), split: splitter{nodes: make(map[int]api.BranchSize), down: make(map[int]bool), lost: make(map[int]*lostBranch)}}
	if cfg.Up != nil {
		s.up = &uplink{cfg: *cfg.Up, asks: make(map[uint64]bool), nodes: make(map[int]int)}
	}
	return s
}

// Name implements reactor.Service.
func (s *Service) Name() string { return "branch" }

// Handle implements reactor.Service.
func (s *Service) Handle(now time.Time, in any, out *reactor.Out) {
	s.now, s.out = now, out
	switch in := in.(type) {
	case *rpc.Request:
		if err := s.request(in); err != nil {
			out.Fail(in, err)
		}
	case *rpc.Response:
		switch key := in.Key.(type) {
		case func(*rpc.Response):
			key(in)
		case *waiting:
			key.f(in)
		case askKey:
			s.upAnswer(uint64(key), in)
		}
	case rpc.Cancel:
		s.canceled(in.Key)
	case reactor.Start:
		s.adopt()
	case reactor.Wake:
		s.due = time.Time{}
		s.upWake()
	case reactor.Done:
		s.upDone(in)
	default:
		s.notice(in)
	}
	s.balance()
	s.endEmpty()
	s.askBack()
	s.remake()
	s.short()
	s.wake()
	s.out = nil
}

func (s *Service) notice(in any) {
	switch in := in.(type) {
	case api.BranchOffers:
		for _, o := range in.Offers {
			s.bal.Offer(o.Array, o.Delta, o.Cores, o.Nodes, o.Priority)
		}
	case api.BranchLoad:
		if in.Cores > 0 {
			s.bal.Granted(in.Branch, in.Cores)
		} else {
			s.bal.Settled(in.Branch, -in.Cores, in.Ended)
		}
	case api.BranchGrant:
		s.grant(&in)
	case api.BranchCasts:
		for _, c := range in.Casts {
			if l := s.links[c.Branch]; l != nil && l.listed {
				s.order(l, api.BranchOrder{Casts: []api.BranchCast{c}})
			}
		}
	case api.BranchHastes:
		for i, h := range in.List {
			if l := s.links[h.Branch]; l != nil && l.listed {
				s.order(l, api.BranchOrder{Hastes: in.List[i : i+1]})
			}
		}
	case api.BranchWaits:
		s.waits()
	case api.BranchRisen:
		s.risen(in.Job)
	case api.BranchForfeit:
		s.forfeit(in)
	case api.BranchRelist:
		if l := s.links[in.Branch]; l != nil {
			s.hangUp(l, wire.Errorf(wire.Lost, "what it holds has become less"))
		}
	case api.BranchUp:
		s.upReport(in.Report)
	case api.NodesChanged:
		s.nodesKnown(in)
		s.upNodes(in)
	}
}

func (s *Service) request(r *rpc.Request) error {
	switch r.Topic {
	case api.BranchHello.Topic:
		req, err := api.BranchHello.Decode(r)
		if err != nil {
			return err
		}
		return s.hello(r, req)
	case api.BranchReport.Topic:
		req, err := api.BranchReport.Decode(r)
		if err != nil {
			return err
		}
		return s.report(r, req)
	case api.BranchAnswer.Topic:
		req, err := api.BranchAnswer.Decode(r)
		if err != nil {
			return err
		}
		s.answer(&req)
		s.out.Reply(r, api.Empty{})
		return nil
	case api.BranchPass.Topic:
		req, err := api.BranchPass.Decode(r)
		if err == nil {
			err = reactor.BrokersOnly(r)
		}
		if err != nil {
			return err
		}
		return s.pass(r, req)
	case api.BranchTop.Topic:
		req, err := api.BranchTop.Decode(r)
		if err == nil {
			err = reactor.BrokersOnly(r)
		}
		if err != nil {
			return err
		}
		return s.askTop(r, req)
	case api.BranchSplit.Topic:
		req, err := api.BranchSplit.Decode(r)
		if err != nil {
			return err
		}
		return s.onSplit(r, req)
	case api.BranchStatus.Topic:
		s.out.Reply(r, s.status())
		return nil
	}
	return wire.Errorf(wire.NoMethod, "service branch has no method %s", r.Topic)
}

// hungry is how often the balance is looked at while a branch has cores without work.
const hungry = 100 * time.Millisecond

// balance decides who is given more, and who is to give something back.
func (s *Service) balance() {
	if len(s.links) == 0 || s.split.ending {
		return
	}
	takes, recalls := s.bal.Decide(s.now)
	for _, t := range takes {
		n := api.BranchTake{Branch: t.Branch, Items: make([]api.BranchTakeItem, len(t.Items))}
		for i, it := range t.Items {
			n.Items[i] = api.BranchTakeItem{Array: it.Array, N: it.N}
		}
		s.out.Notify("job", n)
	}
	for _, r := range recalls {
		l := s.links[r.Branch]
		l.backs = 0
		s.order(l, api.BranchOrder{TakeBack: r.Cores})
	}
	if s.due.IsZero() && s.bal.Hungry() {
		s.due = s.now.Add(hungry)
	}
}

func (s *Service) wake() {
	at := s.due
	if s.up != nil && !s.up.retry.IsZero() && (at.IsZero() || s.up.retry.Before(at)) {
		at = s.up.retry
	}
	s.out.Wake(earliest(earliest(at, s.split.poll), earliest(s.tooLate(), earliest(s.split.shortAt, s.split.remakeAt()))))
}

// Check returns the first broken invariant, for tests.
func (s *Service) Check() error {
	for _, i := range slices.Sorted(maps.Keys(s.links)) {
		if l := s.links[i]; l.listed && l.req == nil {
			return fmt.Errorf("branch %d has a list and no session", i)
		}
	}
	return s.bal.Check()
}

var _ reactor.Service = (*Service)(nil)
