package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// treeUser submits to the top, cancels, holds, changes the tree, and compares in the end what it is told with what happened.
type treeUser struct {
	w        *tree
	c        *treeClient // at the present leader of the top
	todo     int         // submissions that are not answered
	oracle   *oracle
	plans    map[string]*plan // by token and item, as the store has it
	byID     map[jobspec.ID]*treeArray
	arrays   []*treeArray
	answered []jobspec.ID
	widths   []int // as wished last
	compared bool
	flat     bool // all branches are gone
	idle     bool // and the scheduler has all nodes
}

// plan is a submission of one item.
type plan struct {
	token   string
	n       int
	nodes   int // of an element; 1 = it is a number of cores
	cores   int
	rerun   bool
	params  bool
	depends bool
	rules   rules
	spec    []byte
	urgency int
	parts   []api.ParamsReq
}

func (p *plan) String() string {
	return fmt.Sprintf("%d elements, %d nodes, %d cores, rerun %v, depends %v, rules %+v", p.n, p.nodes, p.cores, p.rerun, p.depends, p.rules)
}

func newTreeUser(w *tree) *treeUser {
	u := &treeUser{w: w, oracle: newOracle(), plans: make(map[string]*plan), byID: make(map[jobspec.ID]*treeArray), widths: w.cfg.Widths}
	at := time.Second
	for i, left := 0, w.cfg.Jobs; left > 0; i++ {
		n := min(left, 1+w.rng.IntN(max(w.cfg.Jobs/8, 1)))
		if w.rng.IntN(3) == 0 {
			n = 1
		}
		left -= n
		u.todo++
		w.After(at, func() { u.submit(u.plan(i, n)) })
		at += w.upTo(5 * time.Second)
	}
	return u
}

// connect dials the leader of the top, which has just started.
func (u *treeUser) connect() {
	u.c.end()
	u.c = u.w.dial(u.w.top.leader)
}

func (u *treeUser) over() bool { return u.todo == 0 }

// plan makes a submission.
func (u *treeUser) plan(i, n int) *plan {
	w := u.w
	p := &plan{token: fmt.Sprintf("%d-%d", w.now.UnixMilli(), i), n: n, nodes: 1, cores: 1 + w.rng.IntN(2)*w.rng.IntN(2), rerun: w.rng.IntN(6) > 0, urgency: 8 + w.rng.IntN(16)}
	switch {
	case w.rng.IntN(8) > 0:
	case w.rng.IntN(6) == 0: // it may well fit no branch
		p.nodes = 1 + w.rng.IntN(w.cfg.Nodes)
	default:
		p.nodes = 1 + w.rng.IntN(2)
	}
	p.cores = min(p.cores, w.cfg.Cores)
	p.spec = simSpec(p.nodes, p.cores, p.rerun)
	if w.rng.IntN(2) == 0 {
		p.rules = rules{Retries: w.rng.IntN(3)}
		if n > 1 {
			p.rules.Limit, p.rules.MaxFails = w.rng.IntN(2)*(1+n/4+w.rng.IntN(10)), w.rng.IntN(2)*(1+w.rng.IntN(6))
		}
		p.spec = p.rules.spec(p.spec)
	}
	if n > 1 && w.rng.IntN(3) == 0 {
		s := &submission{token: p.token, items: []api.SubmitItem{{N: n}}}
		s.withParams(w.rng.IntN)
		p.params, p.parts = true, s.parts
	}
	if k := len(u.arrays); k > 0 && w.rng.IntN(3) == 0 {
		on := u.arrays[w.rng.IntN(k)]
		d := &dependency{[]string{"afterany", "afterok", "afternotok"}[w.rng.IntN(3)], on.id, on.n}
		if on.n == n && n > 1 {
			d.scheme = "aftercorr"
		}
		p.depends = true
		p.spec = withDependency(api.SubmitItem{Spec: p.spec}, d).Spec
		u.oracle.deps[p.token+"/0"] = d
	}
	u.plans[p.token+"/0"] = p
	return p
}

// ask asks the top's leader until there is an answer; again says whether an error is one.
func (u *treeUser) ask(topic string, body any, stream bool, again func(*wire.Error) bool, f func(*wire.Message, error)) {
	answered := false
	u.c.call(topic, body, stream, func(m *wire.Message, err error) {
		e, _ := err.(*wire.Error)
		if answered || e != nil && again(e) {
			return
		}
		answered = m == nil || m.Flags&wire.Stream == 0
		f(m, err)
	})
	u.w.After(3*time.Second, func() {
		if !answered {
			answered = true
			u.ask(topic, body, stream, again, f)
		}
	})
}

// away tells of an answer that is none.
func away(e *wire.Error) bool {
	return e.Code == wire.Lost || e.Code == wire.Unavailable || e.Code == wire.NoService || e.Code == wire.Busy
}

func (u *treeUser) submit(p *plan) {
	w := u.w
	if len(p.parts) > 0 {
		u.ask(api.Params.Topic, p.parts[0], false, away, func(_ *wire.Message, err error) {
			w.must(err)
			p.parts = p.parts[1:]
			u.submit(p)
		})
		return
	}
	item := api.SubmitItem{Spec: p.spec, N: p.n, Urgency: p.urgency, Params: p.params}
	u.ask(api.Submit.Topic, api.SubmitReq{Token: p.token, Items: []api.SubmitItem{item}}, false, away, func(m *wire.Message, err error) {
		w.must(err)
		id := decode[api.SubmitRep](w, m).IDs[0]
		if slices.Contains(u.answered, id) || u.byID[id] == nil || u.byID[id].plan != p {
			w.fail("submission %s got the id %v, which is another's or not durable", p.token, id)
		}
		u.answered = append(u.answered, id)
		u.todo--
		if w.rng.IntN(5) == 0 {
			w.After(w.upTo(6*time.Second), func() { u.cancel(u.byID[id]) })
		}
	})
}

// cancel cancels an array or one element. Once it is answered it holds, whatever happens.
func (u *treeUser) cancel(a *treeArray) {
	fates := a.fates
	id := a.id
	if a.n > 1 && u.w.rng.IntN(2) == 0 {
		i := u.w.rng.IntN(a.n)
		fates = fates[i : i+1]
		id = fates[0].id
	}
	a.asked = true
	u.c.call(api.Raise.Topic, api.RaiseReq{IDs: []jobspec.ID{id}, Type: "cancel", Note: "the user wants it"}, false, func(_ *wire.Message, err error) {
		if err == nil {
			u.w.cancelled(fates)
		}
	})
}

// forget: what was to end a leader knows no more that comes after another one.
func (u *treeUser) forget() {
	for _, a := range u.arrays {
		for _, f := range a.fates {
			f.canceled = time.Time{}
		}
	}
}

// fiddle holds arrays for a while, changes their urgency, and the tree.
func (u *treeUser) fiddle() {
	w := u.w
	if w.calm {
		u.release()
		return
	}
	w.After(w.upTo(3*time.Second), u.fiddle)
	if len(u.arrays) == 0 {
		return
	}
	a := u.arrays[w.rng.IntN(len(u.arrays))]
	switch w.rng.IntN(8) {
	case 0, 1:
		u.urgency(a, 0)
	case 2, 3, 4:
		u.urgency(a, 1+w.rng.IntN(31))
	case 5:
		if w.rng.IntN(3) == 0 {
			w.res.Splits++
			u.split(nil)
		}
	default:
		u.split(treeWidths(w.rng.IntN, w.cfg.Nodes))
	}
}

// treeWidths is a tree of up to three levels over so many nodes.
func treeWidths(intN func(int) int, nodes int) (widths []int) {
	for len(widths) < 3 && (len(widths) == 0 || intN(2) == 0) {
		k := 1 + intN(min(nodes, 4))
		if widths = append(widths, k); nodes/k < 2 {
			break
		}
		nodes /= k
	}
	return widths
}

func (u *treeUser) urgency(a *treeArray, n int) {
	if a.held = (time.Time{}); n == 0 {
		u.c.call(api.Update.Topic, api.UpdateReq{IDs: []jobspec.ID{a.id}, Urgency: &n}, false, func(_ *wire.Message, err error) {
			if err == nil {
				a.held = u.w.now
			}
		})
		return
	}
	u.c.call(api.Update.Topic, api.UpdateReq{IDs: []jobspec.ID{a.id}, Urgency: &n}, false, func(*wire.Message, error) {})
}

// release lets all go that may be held.
func (u *treeUser) release() {
	for _, a := range u.arrays {
		if slices.ContainsFunc(a.fates, func(f *fate) bool { return f.result == 0 }) {
			u.urgency(a, 16)
		}
	}
	if u.w.ended() < u.w.cfg.Jobs {
		u.w.After(5*time.Second, u.release)
	}
}

func (u *treeUser) split(widths []int) {
	u.c.call(api.BranchSplit.Topic, api.BranchSplitReq{Widths: widths}, false, func(m *wire.Message, err error) {
		if err == nil && len(widths) > 0 {
			u.w.res.Splits++
			u.w.logf("split %v", widths)
		}
	})
}

// brokerDead has the supervisor tell the top of a dead process.
func (u *treeUser) brokerDead(n *node) {
	if n.rank > 0 {
		u.c.call(api.BrokerDead.Topic, api.BrokerDeadReq{Rank: n.rank}, false, nil)
	}
}

// compare asks the top how all has ended.
func (u *treeUser) compare() {
	w := u.w
	req := api.ListReq{IDs: u.answered}
	var jobs []api.JobInfo
	u.c.call(api.List.Topic, req, true, func(m *wire.Message, err error) {
		if m != nil {
			jobs = append(jobs, decode[api.ListRep](w, m).Jobs...)
		}
		if m != nil && m.Flags&wire.Stream != 0 {
			return
		}
		if e, _ := err.(*wire.Error); e != nil && away(e) {
			w.After(time.Second, u.compare)
			return
		} else if e != nil && e.Code != wire.EndOfStream {
			w.fail("the list of all jobs: %v", err)
		}
		u.compareList(jobs)
		u.compareWait()
	})
}

func (u *treeUser) compareList(jobs []api.JobInfo) {
	w := u.w
	if len(jobs) != w.cfg.Jobs {
		w.fail("the top lists %d jobs, %d were submitted", len(jobs), w.cfg.Jobs)
	}
	seen := make(map[jobspec.ID]bool)
	for i := range jobs {
		j := &jobs[i]
		f := w.fates[j.ID]
		if f == nil || seen[j.ID] {
			w.fail("the top lists %v, twice or without reason", j.ID)
		}
		seen[j.ID] = true
		if jobspec.Result(j.Result) != f.result || j.HasStatus != (f.wait >= 0) || f.wait >= 0 && j.WaitStatus != f.wait {
			w.fail("%v has ended with %v and status %d, and is listed with %v and %d", j.ID, f.result, f.wait, jobspec.Result(j.Result), j.WaitStatus)
		}
	}
}

// compareWait waits for all arrays, which have ended.
func (u *treeUser) compareWait() {
	w := u.w
	left := len(u.answered)
	u.c.call(api.Wait.Topic, api.WaitReq{IDs: u.answered}, true, func(m *wire.Message, err error) {
		if m == nil {
			if left > 0 {
				w.fail("the wait for all jobs: %v", err)
			}
			return
		}
		rep := decode[api.WaitRep](w, m)
		n, status := make(map[jobspec.Result]int), -1
		for _, f := range u.byID[rep.ID].fates {
			n[f.result]++
			status = max(status, f.wait)
		}
		if !rep.Done || rep.Completed != n[jobspec.ResultCompleted] || rep.Failed != n[jobspec.ResultFailed] || rep.Canceled != n[jobspec.ResultCanceled] {
			w.fail("%v is waited for: %+v, and ended with %v", rep.ID, rep, n)
		}
		if status > 0 && rep.Status != status {
			w.fail("%v is waited for: %+v, and the largest status is %d", rep.ID, rep, status)
		}
		if left--; left == 0 {
			u.compared = true
		}
	})
}

// unsplit undoes the tree, and looks until there is none and the scheduler has all nodes.
func (u *treeUser) unsplit() {
	w := u.w
	u.c.call(api.BranchSplit.Topic, api.BranchSplitReq{}, false, func(*wire.Message, error) {})
	u.c.call(api.BranchStatus.Topic, api.Empty{}, false, func(m *wire.Message, err error) {
		if err == nil {
			u.flat = len(decode[api.BranchStatusRep](w, m).Branches) == 0
		}
	})
	u.c.call(api.SchedUsage.Topic, api.Empty{}, false, func(m *wire.Message, err error) {
		if err == nil {
			u.idle = len(decode[api.SchedUsageRep](w, m).Used) == 0
		}
	})
	w.After(time.Second, func() {
		if !u.flat || !u.idle {
			u.unsplit()
		}
	})
}
