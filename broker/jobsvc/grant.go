package jobsvc

import (
	"cmp"
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/branch"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource/idset"
)

// The parent's side of the protocol in broker/api/branch.go: what the machine orders goes to the service "branch", and what that one says
// of branches goes to the machine.

// toBranches passes on what the machine orders.
func (s *Service) toBranches(a *job.Actions) {
	if len(a.Offers) > 0 {
		n := api.BranchOffers{Offers: make([]api.BranchOffer, len(a.Offers))}
		for i, o := range a.Offers {
			n.Offers[i] = api.BranchOffer{Array: o.Array, Delta: o.Delta, Priority: o.Priority}
			if o.Spec != nil {
				n.Offers[i].Cores, n.Offers[i].Nodes = job.Cores(o.Spec.Job), max(o.Spec.Job.Request.Nodes, 1)
			}
		}
		s.out.Notify("branch", n)
	}
	if s.isSplit && slices.ContainsFunc(a.Queue, func(q job.Queued) bool { return s.unfit(q.Array, q.Spec) }) {
		s.out.Notify("branch", api.BranchWaits{})
	}
	for i := range a.Granted {
		s.grant(&a.Granted[i])
		s.passAttached(&a.Granted[i])
	}
	for _, l := range a.Settled {
		s.out.Notify("branch", api.BranchLoad{Branch: l.Branch, Cores: -l.Cores, Ended: l.Ended})
	}
	for _, b := range a.Relist {
		s.out.Notify("branch", api.BranchRelist{Branch: b})
	}
	if len(a.Casts) > 0 {
		s.out.Notify("branch", api.BranchCasts{Casts: casts(a.Casts)})
	}
	if len(a.Hastened) > 0 {
		s.out.Notify("branch", api.BranchHastes{List: hastes(a.Hastened)})
	}
}

func casts(list []job.Cast) []api.BranchCast {
	out := make([]api.BranchCast, len(list))
	for i, c := range list {
		out[i] = api.BranchCast{Branch: c.Branch, Share: share(c.Share), Type: c.Exc.Type, Severity: c.Exc.Severity, Note: c.Exc.Note, States: int(c.States)}
	}
	return out
}

func hastes(list []job.Hastened) []api.BranchHaste {
	out := make([]api.BranchHaste, len(list))
	for i, h := range list {
		out[i] = api.BranchHaste{Branch: h.Branch, Array: h.Array, Haste: int(h.Haste)}
	}
	return out
}

func share(s branch.Share) api.BranchShare {
	return api.BranchShare{Array: s.Array, Elements: s.Elements.String()}
}

func shares(list []branch.Share) []api.BranchShare {
	out := make([]api.BranchShare, len(list))
	for i, s := range list {
		out[i] = share(s)
	}
	return out
}

// readShare reads what another leader wrote.
func readShare(s api.BranchShare) (branch.Share, error) {
	set, err := idset.Parse(s.Elements)
	if err != nil {
		return branch.Share{}, wire.Errorf(wire.Invalid, "elements %q of %v: %v", s.Elements, s.Array, err)
	}
	return branch.Share{Array: s.Array, Elements: set}, nil
}

func readShares(list []api.BranchShare) ([]branch.Share, error) {
	out := make([]branch.Share, len(list))
	for i := range list {
		var err error
		if out[i], err = readShare(list[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// grant hands a grant on, once the parameters of its elements have been read.
func (s *Service) grant(g *job.Granted) {
	n := api.BranchGrant{Branch: g.Branch, Num: g.Num, Items: make([]api.BranchItem, len(g.Items))}
	load := 0
	seen := make(map[uint64]bool)
	var sets []paramsOf
	for i := range g.Items {
		it := &g.Items[i]
		r := &it.Row
		load += it.Elements.Len() * job.Cores(it.Spec.Job)
		n.Items[i] = api.BranchItem{Array: r.ID, N: r.N, Spec: it.Spec.ID, Elements: it.Elements.String(), Tried: it.Tried.String(), CC: r.CC, BCC: r.BCC,
			Given: r.Urgency, Urgency: it.Urgency, Flags: r.Flags, User: r.User, Submit: r.Submit, Indexes: r.Indexes, Size: r.Size, Log: r.Log, Vars: it.Vars,
			Limit: it.Limit, Watched: it.Watched, Again: toAgain(it.Again), Haste: int(it.Haste)}
		if !seen[it.Spec.ID] {
			seen[it.Spec.ID] = true
			n.Specs = append(n.Specs, api.BranchText{ID: it.Spec.ID, Data: it.Spec.JSON})
		}
		if it.Env != nil {
			n.Items[i].Env = it.Env.ID
			if !slices.ContainsFunc(n.Envs, func(t api.BranchText) bool { return t.ID == it.Env.ID }) {
				n.Envs = append(n.Envs, api.BranchText{ID: it.Env.ID, Data: it.Env.Data})
			}
		}
		if r.Params != 0 {
			sets = append(sets, paramsOf{i, r.Params, r.ShownAll(it.Elements)})
		}
	}
	s.out.Notify("branch", api.BranchLoad{Branch: g.Branch, Cores: load})
	if len(sets) == 0 {
		s.sendGrant(&n)
		return
	}
	s.unsent.reading = append(s.unsent.reading, g.Num)
	given := *g
	s.query(func(rd job.Reader) (any, error) { return addParams(rd, &n, sets) }, func(v any, err error) {
		defer s.wasSent(n.Num)
		lacking, _ := v.([]int)
		switch {
		case err != nil: // it is not sent: the branch says of it that it never arrived
			s.out.Log("error", "parameters of elements for a branch cannot be read", "branch", n.Branch, "err", err)
		case len(lacking) > 0 && s.cfg.Branch:
			s.step(unequipped(&given, lacking))
		case len(lacking) > 0:
			s.out.Log("error", "the store lacks parameters of elements for a branch", "branch", n.Branch, "array", given.Items[lacking[0]].Row.ID)
		default:
			s.sendGrant(&n)
		}
	})
}

// unsent is grants that are durable and whose parameters are still read, and what waits until they have been sent.
type unsent struct {
	reading []uint64 // their numbers
	then    []afterGrant
}

type afterGrant struct {
	last uint64
	f    func()
}

// whenSent calls f when the grants that stand in the ledger have been sent. What a branch is asked before, it does not know of.
func (s *Service) whenSent(f func()) {
	last := s.m.LastGrant()
	s.whenDurable(func(*reactor.Out, error) {
		if slices.ContainsFunc(s.unsent.reading, func(num uint64) bool { return num <= last }) {
			s.unsent.then = append(s.unsent.then, afterGrant{last, f})
			return
		}
		f()
	})
}

// wasSent: a grant's parameters have been read.
func (s *Service) wasSent(num uint64) {
	u := &s.unsent
	u.reading = slices.DeleteFunc(u.reading, func(other uint64) bool { return other == num })
	due := u.then
	u.then = nil
	for _, w := range due {
		if slices.ContainsFunc(u.reading, func(num uint64) bool { return num <= w.last }) {
			u.then = append(u.then, w)
		} else {
			w.f()
		}
	}
}

// sendGrant sends a grant with what has been changed since it was made (the branch was not told, as it did not have the array), and with who
// follows it.
func (s *Service) sendGrant(g *api.BranchGrant) {
	for i := range g.Items {
		it := &g.Items[i]
		if row, _, _, ok := s.m.Row(it.Array); ok {
			it.Log, it.Urgency, it.Limit = row.Log, s.m.Urgency(it.Array), s.m.Limit(it.Array)
		}
		it.Follow, it.Tag = s.followIn(g.Branch, it.Array)
	}
	s.out.Notify("branch", *g)
}

// paramsOf is the parameters that an item of a grant needs.
type paramsOf struct {
	item     int
	set      uint64
	elements idset.Set
}

// unequipped is a grant of which some items lack parameters: an earlier leader of this branch was told of them, and its state was not.
func unequipped(g *job.Granted, lacking []int) job.Unequipped {
	ev := job.Unequipped{Num: g.Num}
	for _, i := range lacking {
		it := job.UnequippedItem{Array: g.Items[i].Row.ID, Tried: g.Items[i].Tried.Clone()}
		for _, a := range g.Items[i].Again {
			it.Tried.Add(a.Index)
		}
		ev.Items = append(ev.Items, it)
	}
	return ev
}

// addParams puts the chunks of parameters into a grant. It returns the items for whose elements the store does not have them all.
func addParams(rd job.Reader, n *api.BranchGrant, sets []paramsOf) (lacking []int, err error) {
items:
	for _, p := range sets {
		for left := p.elements; !left.Empty(); {
			row, ok, err := rd.Params(p.set, left.Min())
			if err != nil {
				return nil, err
			}
			if !ok {
				lacking = append(lacking, p.item)
				continue items
			}
			it := &n.Items[p.item]
			it.Params = append(it.Params, api.BranchParams{First: row.First, N: row.N, Data: row.Data})
			left.RemoveRange(0, row.First+row.N-1)
		}
	}
	return lacking, nil
}

func toAgain(list []job.Again) []api.BranchAgain {
	var out []api.BranchAgain
	for _, g := range list {
		out = append(out, api.BranchAgain{Index: g.Index, Attempt: g.Attempt, Fails: g.Fails, Log: g.Log})
	}
	return out
}

func fromAgain(list []api.BranchAgain) []job.Again {
	var out []job.Again
	for _, g := range list {
		out = append(out, job.Again{Index: g.Index, Attempt: g.Attempt, Fails: g.Fails, Log: g.Log})
	}
	return out
}

// onBranchNotice takes what the service "branch" decides.
func (s *Service) onBranchNotice(in any) {
	switch in := in.(type) {
	case api.BranchFits:
		s.split(in.Sizes)
	case api.BranchMade:
		if slices.ContainsFunc(s.m.Arrays(), func(id jobspec.ID) bool {
			_, spec, _, ok := s.m.Row(id)
			return ok && s.m.Asked(id) > 0 && s.unfit(id, spec)
		}) {
			s.out.Notify("branch", api.BranchWaits{})
		}
	case api.BranchTake:
		ev := job.Take{Branch: in.Branch, Items: make([]branch.TakeItem, len(in.Items))}
		for i, it := range in.Items {
			ev.Items[i] = branch.TakeItem{Array: it.Array, N: it.N}
		}
		s.moves.taken++
		s.step(ev)
	case api.BranchForfeit:
		delete(s.waiting, in.Branch)
		s.moves.back++
		s.step(job.Forfeited{Branch: in.Branch, Reason: in.Reason})
	case api.BranchOrder:
		s.onOrder(&in)
	case api.BranchTell:
		if s.tenure.up.n > 0 {
			s.reportNow()
		}
	}
}

// split tells the machine what fits a branch of these sizes: jobs that need nothing but cores, gpus and memory of as many nodes as one has.
func (s *Service) split(sizes []api.BranchSize) {
	if s.isSplit = len(sizes) > 0; !s.isSplit {
		s.step(job.Split{})
		return
	}
	s.fits = func(j *jobspec.Jobspec) bool {
		return j.Instance == nil && j.Constraint == nil && j.Request.Counters == "" && slices.ContainsFunc(sizes, func(z api.BranchSize) bool { return branchFits(&j.Request, z) })
	}
	s.step(job.Split{Fits: s.fits})
}

func branchFits(r *jobspec.Request, z api.BranchSize) bool {
	nodes := max(r.Nodes, 1)
	slots := (max(r.TotalSlots(), 1) + nodes - 1) / nodes // of a node, if they are dealt out evenly
	if r.Nodes == 0 {
		slots = (max(r.TotalSlots(), 1) + z.Nodes - 1) / z.Nodes
	}
	return nodes <= z.Nodes && slots*r.Cores <= z.CoresOfNode && slots*r.GPUs <= z.GPUsOfNode
}

// unfit tells whether a job needs more than a branch has, or had.
func (s *Service) unfit(id jobspec.ID, spec *job.Spec) bool {
	return s.fits != nil && !s.fits(spec.Job) && !slices.Contains(s.m.System(), id)
}

// onBranchJobs lists the jobs that are branches.
func (s *Service) onBranchJobs(r *rpc.Request, _ api.Empty) error {
	rep := api.BranchJobsRep{Holders: s.m.Holders()}
	for _, id := range s.m.System() {
		if row, spec, _, ok := s.m.Row(id); ok {
			rep.Jobs = append(rep.Jobs, api.BranchJob{ID: id, Name: row.Name, Nodes: spec.Job.Request.Nodes, Waiting: s.m.Asked(id) > 0})
		}
	}
	s.out.Reply(r, rep)
	return nil
}

// onBranchUnfit counts the arrays that keep branches away.
func (s *Service) onBranchUnfit(r *rpc.Request, _ api.Empty) error {
	n := 0
	for _, id := range s.m.Arrays() {
		if _, spec, _, ok := s.m.Row(id); ok && s.unfit(id, spec) {
			n++
		}
	}
	s.out.Reply(r, api.BranchUnfitRep{Arrays: n})
	return nil
}

// onBranchHeld answers with all that a branch holds.
func (s *Service) onBranchHeld(r *rpc.Request, req api.BranchHeldReq) error {
	s.whenDurable(func(out *reactor.Out, _ error) { // a grant that is not durable has not been sent
		out.Reply(r, api.BranchHeldRep{List: shares(s.m.Shares(req.Branch)), Casts: casts(s.m.Recast(req.Branch)), Cores: s.m.HeldCores(req.Branch), Last: s.m.LastGrant(),
			Sets: s.sets(req.Branch), Haste: hastes(s.m.Hastes(req.Branch))})
	})
	return nil
}

// sets is what has changed of the arrays that a branch holds something of: it may have missed that.
func (s *Service) sets(of int) (sets []api.BranchSet) {
	for _, sh := range s.m.Shares(of) {
		if set, changed := s.m.Set(sh.Array); changed {
			sets = append(sets, api.BranchSet{Array: set.Array, Urgency: set.Urgency, Limit: set.Limit})
		}
	}
	return sets
}

// onBranchTold takes a branch's report.
func (s *Service) onBranchTold(r *rpc.Request, req api.BranchReportReq) error {
	ev := job.Acked{Branch: req.Branch}
	var err error
	if ev.Began, err = readShares(req.Began); err != nil {
		return err
	}
	for i := range req.Ends {
		e := &req.Ends[i]
		sh, err := readShare(e.Share)
		if err != nil {
			return err
		}
		end := job.End{Share: sh, Result: jobspec.Result(e.Result), Status: e.Status, Ran: e.Ran, Time: e.Time}
		if e.Type != "" {
			end.Exc = &job.Exception{Type: e.Type, Severity: e.Severity, Note: e.Note}
		}
		ev.Ends = append(ev.Ends, end)
	}
	for i := range req.Backs {
		b := &req.Backs[i]
		sh, err := readShare(b.Share)
		if err != nil {
			return err
		}
		ev.Backs = append(ev.Backs, job.Back{Share: sh, Again: fromAgain(b.Again), Lost: b.Lost})
	}
	if len(ev.Backs) > 0 {
		s.moves.back++
	}
	s.step(ev)
	s.waiting[req.Branch] = req.Waiting
	s.whenDurable(func(out *reactor.Out, _ error) { out.Reply(r, api.Empty{}) })
	return nil
}

// upward collects what a branch has to tell its parent.
type upward struct {
	began map[jobspec.ID]*idset.Set
	ends  map[endKey]*upEnd
	order []endKey
	n     int
}

// endKey is what elements that ended alike have in common.
type endKey struct {
	array          jobspec.ID
	result, status int
	ran            bool
	exc            job.Exception
	excepted       bool
}

type upEnd struct {
	set  idset.Set
	time float64
}

func (u *upward) init() {
	u.began, u.ends = make(map[jobspec.ID]*idset.Set), make(map[endKey]*upEnd)
}

func (u *upward) end(array jobspec.ID, lo, hi int, result jobspec.Result, status int, exc *job.Exception, ran bool, t float64) {
	k := endKey{array: array, result: int(result), status: status, ran: ran}
	if exc != nil {
		k.exc, k.excepted = *exc, true
	}
	e := u.ends[k]
	if e == nil {
		e = &upEnd{}
		u.ends[k] = e
		u.order = append(u.order, k)
	}
	e.set.AddRange(lo, hi)
	e.time = max(e.time, t)
	u.n += hi - lo + 1
}

// take returns what is to be told, and forgets it.
func (u *upward) take() (rep api.BranchReportReq) {
	for id, set := range u.began {
		rep.Began = append(rep.Began, api.BranchShare{Array: id, Elements: set.String()})
	}
	slices.SortFunc(rep.Began, func(a, b api.BranchShare) int { return cmp.Compare(a.Array, b.Array) })
	for _, k := range u.order {
		e := u.ends[k]
		end := api.BranchEnd{Share: api.BranchShare{Array: k.array, Elements: e.set.String()}, Result: k.result, Status: k.status, Ran: k.ran, Time: e.time}
		if k.excepted {
			end.Type, end.Severity, end.Note = k.exc.Type, k.exc.Severity, k.exc.Note
		}
		rep.Ends = append(rep.Ends, end)
	}
	u.init()
	u.order, u.n = nil, 0
	return rep
}
