package branchsvc

import (
	"maps"
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
)

// Nodes go: a branch's job may wait for more of them than there are, for ever, and with it the queue that is for branches. It is ended when they
// have been too few for comeUp, and made again with what is left.

// available is how many nodes can be had.
func (s *Service) available() int { return len(s.split.nodes) - len(s.split.down) }

// planned is how many nodes the branches have, or wait for.
func (s *Service) planned() (n int) {
	for _, l := range s.links {
		n += l.nodes
	}
	return n
}

// nodesUp notes which of the nodes can be had.
func (s *Service) nodesUp(n *api.NodesChanged) {
	for _, i := range n.Up {
		delete(s.split.down, i)
	}
	for _, i := range n.Down {
		s.split.down[i] = true
	}
	for _, i := range n.Remove {
		delete(s.split.down, i)
	}
}

// short looks at whether branches wait for too many nodes.
func (s *Service) short() {
	switch p := &s.split; {
	case len(s.links) == 0 || p.ending || s.planned() <= s.available() || len(p.nodes) == 0:
		p.shortAt = time.Time{}
	case p.shortAt.IsZero():
		p.shortAt = s.now.Add(comeUp * time.Second)
	case !p.shortAt.After(s.now):
		p.shortAt = s.now.Add(comeUp * time.Second)
		s.endWaiting()
	}
}

// endWaiting ends the branches that have no nodes. When others are there still they are made again.
func (s *Service) endWaiting() {
	s.out.Call(reactor.Call{Topic: api.BranchJobs.Topic, Target: wire.Any, Body: api.Empty{}, Key: func(r *rpc.Response) {
		rep, err := api.BranchJobs.DecodeReply(r)
		if err != nil {
			s.out.Log("error", "job does not tell which branches wait for nodes", "err", err)
			return
		}
		for _, i := range slices.Sorted(maps.Keys(s.links)) {
			for _, j := range rep.Jobs {
				if l := s.links[i]; l.job == j.ID && j.Waiting && !l.told && s.planned() > s.available() {
					s.endJob(l, "it waits for nodes, and there are fewer than before")
				}
			}
		}
	}})
}

// remake makes lost branches again whose time it is, with as many nodes as are there.
func (s *Service) remake() {
	for _, i := range slices.Sorted(maps.Keys(s.split.lost)) {
		lost := s.split.lost[i]
		if s.split.ending || lost.at.IsZero() || lost.at.After(s.now) {
			continue
		}
		n := min(lost.nodes, s.available()-s.planned())
		if n < 1 {
			lost.at = s.now.Add(pauseAfter(lost.tries))
			lost.tries++
			continue
		}
		delete(s.split.lost, i)
		l := s.newBranch(i, n)
		l.tries = lost.tries
		s.submit(l, lostWidths(s.split.widths[1:], n))
		if n < lost.nodes {
			s.tellFits()
		}
	}
}

// lostWidths is what of the levels below a branch of so many nodes is possible.
func lostWidths(below []int, nodes int) []int {
	for len(below) > 0 && CheckWidths(below, nodes) != nil {
		below = below[:len(below)-1]
	}
	return below
}
