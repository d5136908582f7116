package jobsvc

import (
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// A stream of job.follow has, in each branch that holds elements of its arrays, a stream of job.follow of its own, whose answers are put in
// between. It is opened before the grant that first needs it is sent, so nothing is missed. When one breaks the whole stream ends with Lost: its
// client opens it anew, and looks up what it may have missed. A stream that names arrays counts as open when all branches tell of them.
//
// How an element ended a branch tells here before it reports it, and it is told once: followed.told has those ends that were and that
// are not known here yet.

// openFollow answers that a stream is open, once all branches that hold something of its arrays tell of them.
func (s *Service) openFollow(f *follow) {
	if f.req == nil || f.opened {
		return
	}
	all := true
	for _, to := range s.holdersOfAny(f) {
		p := f.below[to]
		if p == nil {
			p = s.followBelow(f, to)
		}
		all = all && p.open
	}
	if all {
		f.opened = true
		s.out.Next(f.req, api.FollowRep{Open: true})
	}
}

// holdersOfAny are the branches that hold elements of a stream's arrays.
func (s *Service) holdersOfAny(f *follow) (list []int) {
	for arr := range f.arrays {
		for _, h := range s.m.HoldersOf(arr) {
			list = append(list, h.Branch)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// followIn has a branch tell of an array that is granted to it, and returns by which key and tag.
func (s *Service) followIn(to int, array jobspec.ID) (key string, tag int) {
	a := s.follows.byArray[array]
	if a == nil {
		return "", 0
	}
	if a.f.below[to] == nil {
		s.followBelow(a.f, to)
	}
	return a.f.key, a.num
}

// followBelow opens a stream's part in a branch.
func (s *Service) followBelow(f *follow, to int) *passing {
	req := api.FollowReq{Key: f.key}
	for arr := range f.arrays {
		req.Arrays = append(req.Arrays, api.FollowArray{ID: arr, Tag: s.follows.byArray[arr].num}) // those that it does not have it passes by
	}
	slices.SortFunc(req.Arrays, func(a, b api.FollowArray) int { return a.Tag - b.Tag })
	p := &passing{}
	f.below[to] = p
	p.each = func(b rpc.Payload) {
		rep, err := rpc.As[api.FollowRep](b)
		if err != nil || f.req == nil || f.below[to] != p {
			return
		}
		if rep.Open {
			p.open = true
			s.openFollow(f)
		}
		s.merge(f, &rep)
	}
	p.end = func(err error) {
		if f.req == nil || f.below[to] != p {
			return
		}
		delete(f.below, to)
		switch {
		case !f.opened:
			s.later(attachAgain, func() { s.openFollow(f) })
			return
		case !slices.Contains(s.holdersOfAny(f), to):
			return
		}
		req := f.req
		f.send(s.out)
		s.dropFollow(req.Key())
		s.out.Fail(req, wire.Errorf(wire.Lost, "branch %d, which runs some of it, does not tell of it any more: %v", to, err))
	}
	s.pass(to, api.Follow.Topic, req, p)
	return p
}

// merge puts what a branch tells into a stream.
func (s *Service) merge(f *follow, rep *api.FollowRep) {
	for _, o := range rep.Output {
		if a := f.byNum[o.Tag]; a != nil {
			o.Tag = a.tag
			s.follows.piece(s.out, f, o)
		}
	}
	for _, e := range rep.Ended {
		if a := f.byNum[e.Tag]; a != nil && !a.told.Has(e.Index) {
			a.told.Add(e.Index)
			e.Tag = a.tag
			s.follows.end(s.out, f, e)
		}
	}
}
