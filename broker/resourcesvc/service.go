// Package resourcesvc is the service "resource" on the leader: it keeps the list of the instance's nodes from what brokers offer when
// they join, with their states (online or not, drained or not), and tells "sched" and "job" of every change.
//
// A node of a broker that is lost or dead stays in the list, down; it is up again when that rank comes back. A broker that leaves
// in order takes its nodes with it. A node has the index that its broker asks for, if that is free, else a new one, for its life.
package resourcesvc

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
)

// Config of the service.
type Config struct {
	Drains  []resource.Drain // what the store holds
	Durable bool             // the driver carries out *resource.DrainCommit
	// Expiration is when the instance ends, epoch seconds; 0 = unknown (so far). "sched" and "job" have it from their own configuration.
	Expiration float64
}

// Service is the service "resource".
type Service struct {
	cfg  Config
	book *book
	log  journal
	// writes are what follows each commit under way, in order
	writes []func(*reactor.Out, error)
	// asked are the status requests that wait for "sched" to tell what is in use.
	asked map[rpc.RequestKey]*rpc.Request
}

// New makes the service.
func New(cfg Config) *Service {
	return &Service{cfg: cfg, book: newBook(cfg.Drains), asked: make(map[rpc.RequestKey]*rpc.Request)}
}

// Name implements reactor.Service.
func (s *Service) Name() string { return "resource" }

// Handle implements reactor.Service.
func (s *Service) Handle(now time.Time, in any, out *reactor.Out) {
	switch in := in.(type) {
	case api.Membership:
		s.membership(now, in, out)
	case *rpc.Request:
		if err := s.request(now, in, out); err != nil {
			out.Fail(in, err)
		}
	case *rpc.Response:
		s.response(in, out)
	case rpc.Cancel:
		delete(s.asked, in.Key)
		s.log.cancel(in.Key)
	case reactor.Done:
		then := s.writes[0]
		s.writes = s.writes[1:]
		then(out, in.Err)
	}
}

func (s *Service) membership(now time.Time, n api.Membership, out *reactor.Out) {
	var ch api.NodesChanged
	before := s.book.onlineOf(n.Rank)
	switch n.State {
	case "online":
		if err := s.book.online(n, &ch); err != nil {
			out.Log("error", "resources of a broker cannot be used", "rank", n.Rank, "err", err)
		}
	case "left":
		s.book.leave(n.Rank, &ch)
	default: // lost, dead
		s.book.lost(n.Rank, &ch)
	}
	after := s.book.onlineOf(n.Rank)
	s.log.post(now, out, "offline", without(before, after), nil)
	s.log.post(now, out, "online", without(after, before), nil)
	tell(ch, out)
}

// tell passes a change on, if there is one.
func tell(ch api.NodesChanged, out *reactor.Out) {
	if len(ch.Add)+len(ch.Up)+len(ch.Down)+len(ch.Remove)+len(ch.Drained)+len(ch.Undrained) == 0 {
		return
	}
	out.Notify("sched", ch)
	out.Notify("job", ch)
	out.Notify("branch", ch)
}

func (s *Service) request(now time.Time, r *rpc.Request, out *reactor.Out) error {
	switch r.Topic {
	case api.ResourceStatus.Topic:
		s.asked[r.Key()] = r
		out.Call(reactor.Call{Key: r.Key(), Topic: api.SchedUsage.Topic, Target: wire.Any, Body: api.Empty{}})
		return nil
	case api.ResourceDrain.Topic:
		return s.change(now, r, out, api.ResourceDrain, func(req api.DrainReq, ch *api.NodesChanged) error {
			return s.book.drain(req, float64(now.UnixMicro())/1e6, ch)
		})
	case api.ResourceUndrain.Topic:
		return s.change(now, r, out, api.ResourceUndrain, s.book.undrain)
	case api.ResourceEvents.Topic:
		req, err := api.ResourceEvents.Decode(r)
		if err == nil {
			s.log.open(r, req.Follow, out)
		}
		return err
	case api.ExpirationUpdate.Topic:
		req, err := api.ExpirationUpdate.Decode(r)
		if err == nil {
			err = s.expire(now, req.Expiration, out)
		}
		if err == nil {
			out.Reply(r, api.Empty{})
		}
		return err
	case api.ResourceBarrier.Topic:
		out.Reply(r, api.Empty{})
		return nil
	}
	return wire.Errorf(wire.NoMethod, "service resource has no method %q", r.Topic)
}

// expire notes when the instance ends, and tells of it.
func (s *Service) expire(now time.Time, at float64, out *reactor.Out) error {
	if at != at || at < 0 || at > maxExpiration {
		return wire.Errorf(wire.Invalid, "expiration %v is no time in seconds since 1970", at)
	}
	if at == s.cfg.Expiration {
		return nil
	}
	s.cfg.Expiration = at
	out.Notify("sched", api.Expiration{At: at})
	out.Notify("job", api.Expiration{At: at})
	s.log.add(out, api.Event{Timestamp: float64(now.UnixMicro()) / 1e6, Name: "resource-update", Context: fmt.Sprintf(`{"expiration":%.6f}`, at)})
	return nil
}

// maxExpiration is the last second of the year 9999.
const maxExpiration = 253402300799

// change carries out a drain or undrain, tells of it, and answers when it is durable.
func (s *Service) change(now time.Time, r *rpc.Request, out *reactor.Out, m rpc.Method[api.DrainReq, api.Empty], do func(api.DrainReq, *api.NodesChanged) error) error {
	req, err := m.Decode(r)
	if err != nil {
		return err
	}
	var ch api.NodesChanged
	if err := do(req, &ch); err != nil {
		return err
	}
	tell(ch, out)
	drained := s.book.named(slices.Sorted(maps.Keys(ch.Drained)))
	s.log.post(now, out, "drain", drained, func(n *node) string { return n.reason })
	s.log.post(now, out, "undrain", s.book.named(ch.Undrained), nil)
	if !s.cfg.Durable || len(drained)+len(ch.Undrained) == 0 {
		out.Reply(r, api.Empty{})
		return nil
	}
	commit := &resource.DrainCommit{Clear: ch.Undrained}
	for _, n := range drained {
		commit.Set = append(commit.Set, resource.Drain{Node: n.Index, Name: n.Name, Reason: n.reason, Since: n.since})
	}
	s.writes = append(s.writes, func(out *reactor.Out, err error) {
		if err != nil {
			out.Fail(r, wire.Errorf(wire.Unavailable, "done, but lost when the leader restarts: the state directory cannot be written: %v", err))
			return
		}
		out.Reply(r, api.Empty{})
	})
	out.Do(commit)
	return nil
}

// response is the usage for a status that was asked for.
func (s *Service) response(r *rpc.Response, out *reactor.Out) {
	key, ok := r.Key.(rpc.RequestKey)
	req := s.asked[key]
	if !ok || req == nil {
		return
	}
	delete(s.asked, key)
	rep, err := api.SchedUsage.DecodeReply(r)
	if err != nil {
		out.Fail(req, err)
		return
	}
	used := make(map[int]resource.NodeAlloc, len(rep.Used))
	for _, u := range rep.Used {
		used[u.Node] = u
	}
	out.Reply(req, api.ResourceStatusRep{Nodes: s.book.status(used), Counters: rep.Counters, Expiration: s.cfg.Expiration})
}

var _ reactor.Service = (*Service)(nil)
