package broker

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
)

// leaderService is the service "leader": members, waiting for them, shutdown.
//
// Whether the nodes of a member are known to the scheduler is found out without a protocol of its own: the service "resource" gets
// api.Membership before the call resource.barrier, and sends what follows from it to "sched" before its answer. Any answer
// serves, also NoMethod.
type leaderService struct {
	core    *Core
	waiters map[rpc.RequestKey]*waiter
	nwait   int
	up      map[int32]bool // members online
	online  int            // their number
	known   int            // of them, as many as the scheduler knew at the last barrier
	asked   int            // online when the present barrier was sent
	waiting bool           // for the barrier's answer
	again   bool           // members changed meanwhile
}

// waiter is an open leader.wait-online.
type waiter struct {
	n     int
	req   *rpc.Request
	count int
	told  int
}

// memberChanged says that a member has.
type memberChanged struct {
	rank   int32
	online bool
}

// barrier is the key of the call to "resource".
type barrier struct{}

// Name is "leader".
func (*leaderService) Name() string { return leaderName }

// Handle serves the methods.
func (s *leaderService) Handle(_ time.Time, in any, out *reactor.Out) {
	switch in := in.(type) {
	case reactor.Start:
		s.waiters, s.up = map[rpc.RequestKey]*waiter{}, map[int32]bool{}
	case memberChanged:
		s.changed(in, out)
	case *rpc.Response:
		s.passed(out)
	case rpc.Cancel:
		delete(s.waiters, in.Key)
	case *rpc.Request:
		if err := s.request(in, out); err != nil {
			out.Fail(in, err)
		}
	}
}

func (s *leaderService) request(r *rpc.Request, out *reactor.Out) error {
	switch r.Topic {
	case api.OverlayStatus.Topic:
		out.Reply(r, s.status())
		return nil
	case api.BrokerDead.Topic:
		req, err := api.BrokerDead.Decode(r)
		if err != nil {
			return err
		}
		s.core.later(overlay.Dead{Rank: req.Rank, PID: req.PID})
		out.Reply(r, api.Empty{})
		return nil
	case api.WaitOnline.Topic:
		return s.wait(r, out)
	case api.Shutdown.Topic:
		req, err := api.Shutdown.Decode(r)
		if err != nil {
			return err
		}
		out.Reply(r, api.Empty{})
		s.core.stop.request(req.Keep, req.Reason, min(max(req.Grace, 0), api.MaxGrace))
		return nil
	}
	return noMethod(r)
}

// status lists the members by rank.
func (s *leaderService) status() api.OverlayStatusRep {
	members := slices.Clone(s.core.cfg.Machine.Members())
	slices.SortFunc(members, func(a, b overlay.Member) int { return cmp.Compare(a.Rank, b.Rank) })
	children := map[int32][]int32{}
	rep := api.OverlayStatusRep{Size: s.size(), Members: make([]api.Member, 0, len(members))}
	for _, m := range members {
		if m.State == overlay.Online {
			rep.Online++
			children[m.Parent] = append(children[m.Parent], m.Rank)
		}
	}
	for _, m := range members {
		kids := children[m.Rank]
		if kids == nil {
			kids = []int32{}
		}
		rep.Members = append(rep.Members, api.Member{Rank: m.Rank, Name: nodeName(m.Info), Host: m.Info.Hostname, PID: m.Info.PID, State: m.State.String(),
			Parent: m.Parent, Children: kids, Reason: m.Reason, Since: epochSeconds(m.Since)})
	}
	return rep
}

// nodeName is the name of a broker's node; with several nodes, or none, its host's.
func nodeName(info overlay.Info) string {
	var nodes []resource.Node
	if err := wire.Unmarshal(info.Resources, &nodes); err == nil && len(nodes) == 1 && nodes[0].Name != "" {
		return nodes[0].Name
	}
	return info.Hostname
}

func epochSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMicro()) / 1e6
}

func (s *leaderService) size() int { return max(1, s.core.cfg.Overlay.Size) }

// wait opens a leader.wait-online.
func (s *leaderService) wait(r *rpc.Request, out *reactor.Out) error {
	req, err := api.WaitOnline.Decode(r)
	if err == nil {
		err = wantStream(r)
	}
	if err == nil && req.Count < 0 {
		err = wire.Errorf(wire.Invalid, "cannot wait for %d brokers", req.Count)
	}
	if err != nil {
		return err
	}
	if req.Count == 0 {
		req.Count = s.size()
	}
	s.nwait++
	s.waiters[r.Key()] = &waiter{n: s.nwait, req: r, count: req.Count, told: -1}
	s.tell(out)
	return nil
}

// changed counts the members and asks whether the scheduler knows their nodes.
func (s *leaderService) changed(m memberChanged, out *reactor.Out) {
	if m.online {
		s.up[m.rank] = true
	} else {
		delete(s.up, m.rank)
	}
	s.online = len(s.up)
	s.known = min(s.known, s.online)
	if !s.core.hosted["resource"] {
		s.known = s.online
	} else if s.waiting {
		s.again = true
	} else {
		s.ask(out)
	}
	s.tell(out)
}

// ask sends a barrier.
func (s *leaderService) ask(out *reactor.Out) {
	s.waiting, s.again, s.asked = true, false, s.online
	out.Call(reactor.Call{Key: barrier{}, Topic: api.ResourceBarrier.Topic, Target: wire.Any, Body: api.Empty{}})
}

// passed: what was online when the barrier was sent is known now.
func (s *leaderService) passed(out *reactor.Out) {
	s.waiting = false
	s.known = min(s.asked, s.online)
	if s.again {
		s.ask(out)
	}
	s.tell(out)
}

// tell gives every waiter news and ends those who have what they want.
func (s *leaderService) tell(out *reactor.Out) {
	for _, w := range slices.SortedFunc(maps.Values(s.waiters), func(a, b *waiter) int { return cmp.Compare(a.n, b.n) }) {
		if w.told != s.online {
			w.told = s.online
			out.Next(w.req, api.OnlineCount{Online: s.online, Size: s.size()})
		}
		if s.known >= w.count {
			delete(s.waiters, w.req.Key())
			out.End(w.req)
		}
	}
}
