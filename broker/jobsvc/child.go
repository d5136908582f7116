package jobsvc

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// children are the child instances whose brokers have called (protocol: broker/api/child.go).
type children struct {
	byJob map[jobspec.ID]*child
	byReq map[rpc.RequestKey]jobspec.ID
}

// child is one attempt of a job that is an instance.
type child struct {
	attempt uint32
	post    *api.ChildPost // nil: its leader has not called
	leader  *rpc.Request
	waiting map[rpc.RequestKey]*rpc.Request // its other brokers
	gone    []int                           // told when there is a leader
	ends    float64                         // as told last; 0 = unknown
}

func (c *children) init() {
	c.byJob = make(map[jobspec.ID]*child)
	c.byReq = make(map[rpc.RequestKey]jobspec.ID)
}

func (s *Service) onRendezvous(r *rpc.Request, req api.RendezvousReq) error {
	if err := s.m.RunsInstance(req.ID, req.Attempt); err != nil {
		return wire.Errorf(wire.NotFound, "%v", err)
	}
	if s.cfg.Version != "" && req.Version != s.cfg.Version {
		return wire.Errorf(wire.Invalid, "the child instance on host %s is frond %s, the instance around it frond %s: they must be the same version",
			req.Host, req.Version, s.cfg.Version)
	}
	c := s.childOf(req.ID, req.Attempt)
	switch {
	case req.Post != nil:
		s.posted(c, r, &req)
	case c.post != nil:
		s.out.Next(r, api.RendezvousRep{Boot: c.post.Boot})
		s.out.End(r)
	default:
		c.waiting[r.Key()] = r
		s.children.byReq[r.Key()] = req.ID
	}
	return nil
}

// childOf is what is known of an attempt that runs.
func (s *Service) childOf(id jobspec.ID, attempt uint32) *child {
	c := s.children.byJob[id]
	if c == nil || c.attempt != attempt {
		s.dropChild(id)
		c = &child{attempt: attempt, waiting: make(map[rpc.RequestKey]*rpc.Request)}
		s.children.byJob[id] = c
	}
	return c
}

// posted: the leader is there.
func (s *Service) posted(c *child, r *rpc.Request, req *api.RendezvousReq) {
	if c.leader != nil {
		delete(s.children.byReq, c.leader.Key())
		s.out.End(c.leader)
	}
	s.step(job.Risen{Job: req.ID})
	if slices.Contains(s.m.System(), req.ID) {
		s.out.Notify("branch", api.BranchRisen{Job: req.ID})
	}
	if c.post == nil || c.post.URI != req.Post.URI {
		memo, _ := json.Marshal(map[string]string{"uri": req.Post.URI})
		s.step(job.Changed{Targets: []job.Target{{Array: req.ID}}, Memo: memo})
	}
	c.post, c.leader = req.Post, r
	s.children.byReq[r.Key()] = req.ID
	c.ends = s.childEnds(req.ID)
	s.out.Next(r, api.RendezvousRep{Gone: c.gone, Ends: c.ends})
	for _, w := range sortedBy(c.waiting, (*rpc.Request).Key) {
		delete(s.children.byReq, w.Key())
		s.out.Next(w, api.RendezvousRep{Boot: c.post.Boot})
		s.out.End(w)
	}
	clear(c.waiting)
}

// childEnds is when the job that is a child ends at the latest; 0 = unknown.
func (s *Service) childEnds(id jobspec.ID) float64 {
	if arr, _, idx, ok := s.m.Lookup(id); ok {
		if v, ok := s.m.View(arr, max(idx, 0)); ok {
			return s.m.Expiration(&v)
		}
	}
	return 0
}

// tellChildEnds tells the children whose end has moved.
func (s *Service) tellChildEnds() {
	for _, id := range slices.Sorted(maps.Keys(s.children.byJob)) {
		c := s.children.byJob[id]
		ends := s.childEnds(id)
		if c.leader == nil || ends == c.ends {
			continue // without a leader it is told when there is one
		}
		if c.ends = ends; ends == 0 {
			ends = -1
		}
		s.out.Next(c.leader, api.RendezvousRep{Ends: ends})
	}
}

// onHistory keeps what a child that ends has of its jobs.
func (s *Service) onHistory(r *rpc.Request, req api.HistoryReq) error {
	if err := s.m.RunsInstance(req.ID, req.Attempt); err != nil {
		return wire.Errorf(wire.NotFound, "%v", err)
	}
	if req.Offset < 0 || req.Name == "" {
		return wire.Errorf(wire.Invalid, "a piece of a history needs a name and an offset")
	}
	dir := req.ID.F58Plain()
	if req.Attempt > 1 {
		dir += fmt.Sprintf(".%d", req.Attempt)
	}
	s.out.Do(&job.HistoryPart{Dir: dir, Name: req.Name, Offset: req.Offset, Data: req.Data, Key: func(_ any, err error) {
		if err != nil {
			s.out.Fail(r, wire.Errorf(wire.Unavailable, "%v", err))
			return
		}
		s.out.Reply(r, api.Empty{})
	}})
	return nil
}

// childGone tells a leader of a broker that has ended.
func (s *Service) childGone(g job.BrokerGone) {
	if s.m.RunsInstance(g.Job, g.Attempt) != nil {
		return
	}
	c := s.childOf(g.Job, g.Attempt)
	c.gone = append(c.gone, g.Task)
	if c.leader != nil {
		s.out.Next(c.leader, api.RendezvousRep{Gone: []int{g.Task}})
	}
}

// cancelRendezvous: who called has gone away.
func (s *Service) cancelRendezvous(k rpc.RequestKey) {
	id, ok := s.children.byReq[k]
	if !ok {
		return
	}
	delete(s.children.byReq, k)
	c := s.children.byJob[id]
	delete(c.waiting, k)
	if c.leader != nil && c.leader.Key() == k {
		c.leader = nil
	}
}

// dropChild forgets a child whose attempt is over.
func (s *Service) dropChild(id jobspec.ID) {
	c := s.children.byJob[id]
	if c == nil {
		return
	}
	delete(s.children.byJob, id)
	if c.leader != nil {
		delete(s.children.byReq, c.leader.Key())
		s.out.End(c.leader)
	}
	for _, w := range sortedBy(c.waiting, (*rpc.Request).Key) {
		delete(s.children.byReq, w.Key())
		s.out.Fail(w, wire.Errorf(wire.NotFound, "this attempt of job %v is over", id))
	}
}
