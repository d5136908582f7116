package branchsvc

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// link is the parent's end of the connection with one branch.
type link struct {
	branch  int
	key     string // by which it is known
	path    string // its name within all branches
	session uint64
	req     *rpc.Request // its open branch.hello; nil = there is no session
	listed  bool         // it has been sent the list: what comes behind is for it
	last    uint64       // grants up to this number are in the list
	ready   bool         // it has answered
	nodes   int
	cores   int
	specs   map[uint64]bool // that it has
	envs    map[uint64]bool
	asked   uint64
	asks    map[uint64]*rpc.Request // questions that are open
	backs   int                     // shares that it gave back since it was asked to
	// Of one that this service has made.
	made    bool
	adopted bool // by the leader before: until it has said hello it is not known here what it holds
	job     jobspec.ID
	since   time.Time // its leader was there, for the first time or since this service began; zero = not yet
	told    bool      // to end
	tries   int       // how often it was made again
}

// hello begins a session.
func (s *Service) hello(r *rpc.Request, req api.BranchHelloReq) error {
	l := s.links[req.Branch]
	switch {
	case !r.Stream:
		return wire.Errorf(wire.Invalid, "%s is answered by a stream", r.Topic)
	case l == nil || l.key != req.Key:
		return wire.Errorf(wire.Denied, "no branch %d is expected here, or another one", req.Branch)
	case req.Version != s.cfg.Version:
		return wire.Errorf(wire.Denied, "branch %d is of version %s, and this instance of version %s: they must be the same", req.Branch, req.Version, s.cfg.Version)
	}
	s.hangUp(l, wire.Errorf(wire.Lost, "the branch has connected anew"))
	l.session++
	l.req, l.nodes, l.cores = r, max(req.Nodes, l.nodes), req.Cores
	l.specs, l.envs = make(map[uint64]bool), make(map[uint64]bool)
	session := l.session
	s.held(l.branch, func(rep api.BranchHeldRep) {
		if l.session != session || l.req == nil {
			return
		}
		l.listed, l.last = true, rep.Last
		s.order(l, api.BranchOrder{Session: session, Path: l.path, List: rep.List})
	})
	return nil
}

// held asks "job" what a branch holds.
func (s *Service) held(branch int, then func(api.BranchHeldRep)) {
	s.out.Call(reactor.Call{Topic: api.BranchHeld.Topic, Target: wire.Any, Body: api.BranchHeldReq{Branch: branch}, Key: func(r *rpc.Response) {
		rep, err := api.BranchHeld.DecodeReply(r)
		if err != nil {
			s.out.Log("error", "job does not tell what a branch holds", "branch", branch, "err", err)
			return
		}
		then(rep)
	}})
}

// hangUp ends a session.
func (s *Service) hangUp(l *link, why *wire.Error) {
	if l.req == nil {
		return
	}
	s.out.Fail(l.req, why)
	s.gone(l)
}

// gone: the session has ended. What is granted meanwhile the next list tells of.
func (s *Service) gone(l *link) {
	l.req, l.listed, l.ready = nil, false, false
	s.bal.Part(l.branch)
	for _, id := range slices.Sorted(maps.Keys(l.asks)) {
		s.out.Fail(l.asks[id], wire.Errorf(wire.Lost, "the connection with branch %d, which has it, ended before it answered", l.branch))
	}
	clear(l.asks)
}

func (s *Service) unreachable(branch int) *wire.Error {
	return wire.Errorf(wire.Unavailable, "branch %d, which has it, cannot be reached at the moment", branch)
}

func (s *Service) order(l *link, o api.BranchOrder) {
	if l.req != nil {
		s.out.Next(l.req, o)
	}
}

// grant passes a grant on, if the list does not tell of it.
func (s *Service) grant(g *api.BranchGrant) {
	l := s.links[g.Branch]
	if l == nil || !l.listed || g.Num <= l.last {
		return
	}
	known := func(have map[uint64]bool) func(api.BranchText) bool {
		return func(t api.BranchText) bool {
			was := have[t.ID]
			have[t.ID] = true
			return was
		}
	}
	sent := *g
	sent.Specs = slices.DeleteFunc(slices.Clone(g.Specs), known(l.specs))
	sent.Envs = slices.DeleteFunc(slices.Clone(g.Envs), known(l.envs))
	s.order(l, api.BranchOrder{Grant: &sent})
}

// report passes a report to "job", and its answer back when it is durable.
func (s *Service) report(r *rpc.Request, req api.BranchReportReq) error {
	l := s.links[req.Branch]
	if l == nil || l.req == nil || req.Session != l.session {
		return wire.Errorf(wire.Resync, "that session is over")
	}
	l.backs += len(req.Backs)
	session := l.session
	s.out.Call(reactor.Call{Topic: api.BranchTold.Topic, Target: wire.Any, Body: req, Key: func(rep *rpc.Response) {
		if rep.Err != nil {
			s.out.Fail(r, rep.Err)
			return
		}
		s.out.Reply(r, api.Empty{})
		if l.session != session || l.req == nil {
			return
		}
		if req.First {
			s.answered(l)
		}
		if req.Recalled {
			s.bal.Recalled(l.branch, l.backs, s.now)
		}
	}})
	return nil
}

// answered: the branch has answered the list. It is told again of exceptions and of what is waited for, and gets work.
func (s *Service) answered(l *link) {
	session := l.session
	s.held(l.branch, func(rep api.BranchHeldRep) {
		if l.session != session || l.req == nil {
			return
		}
		if len(rep.Casts)+len(rep.Haste)+len(rep.Sets) > 0 {
			s.order(l, api.BranchOrder{Casts: rep.Casts, Hastes: rep.Haste, Sets: rep.Sets})
		}
		l.ready, l.tries = true, 0
		s.bal.Join(l.branch, l.nodes, l.cores, rep.Cores, s.now)
		if s.split.ending {
			s.bal.Part(l.branch)
			s.order(l, api.BranchOrder{TakeBack: 1 << 40})
		}
	})
}

// pass asks a branch a client's question.
func (s *Service) pass(r *rpc.Request, req api.BranchPassReq) error {
	l := s.links[req.Branch]
	if l == nil || !l.ready {
		return s.unreachable(req.Branch)
	}
	l.asked++
	l.asks[l.asked] = r
	s.order(l, api.BranchOrder{Ask: &api.BranchAsk{ID: l.asked, Topic: req.Topic, Body: req.Body}})
	return nil
}

// answer passes a branch's answer back.
func (s *Service) answer(a *api.BranchAnswerReq) {
	l := s.links[a.Branch]
	if l == nil || l.session != a.Session || l.asks[a.ID] == nil {
		return
	}
	r := l.asks[a.ID]
	if a.Code == 0 {
		s.out.Next(r, api.BranchPassRep{Body: a.Body})
	}
	if a.More {
		return
	}
	delete(l.asks, a.ID)
	if a.Code != 0 && wire.Code(a.Code) != wire.EndOfStream {
		s.out.Fail(r, &wire.Error{Code: wire.Code(a.Code), Text: a.Text})
		return
	}
	s.out.End(r)
}

// canceled: a branch's stream is gone, or the client that asked.
func (s *Service) canceled(k rpc.RequestKey) {
	for _, i := range slices.Sorted(maps.Keys(s.links)) {
		l := s.links[i]
		if l.req != nil && l.req.Key() == k {
			s.gone(l)
			return
		}
		for id, r := range l.asks {
			if r.Key() == k {
				delete(l.asks, id)
				s.order(l, api.BranchOrder{Drop: id})
				return
			}
		}
	}
}

// forfeit: nothing of a branch runs any more, and it does not come back.
func (s *Service) forfeit(f api.BranchForfeit) {
	if l := s.links[f.Branch]; l != nil {
		s.hangUp(l, wire.Errorf(wire.Denied, "the branch was given up: %s", f.Reason))
		delete(s.links, f.Branch)
	}
	s.bal.Part(f.Branch)
	s.out.Notify("job", f)
}

func (s *Service) status() api.BranchStatusRep {
	rep := api.BranchStatusRep{Widths: s.split.widths, Branches: []api.BranchInfo{}}
	for _, i := range slices.Sorted(maps.Keys(s.links)) {
		l := s.links[i]
		b := api.BranchInfo{Branch: i, State: "starting", Cores: l.cores, Held: s.bal.Load(i), Job: l.job}
		switch {
		case l.told || s.split.ending:
			b.State = "ending"
		case l.ready:
			b.State = "online"
		case l.session > 0:
			b.State = "lost"
		}
		b.Nodes = strconv.Itoa(l.nodes)
		rep.Branches = append(rep.Branches, b)
	}
	for _, i := range slices.Sorted(maps.Keys(s.split.lost)) {
		l := s.split.lost[i]
		rep.Branches = append(rep.Branches, api.BranchInfo{Branch: i, State: "failed", Nodes: strconv.Itoa(l.nodes), Job: l.job, Note: l.why})
	}
	slices.SortFunc(rep.Branches, func(a, b api.BranchInfo) int { return cmp.Compare(a.Branch, b.Branch) })
	return rep
}
