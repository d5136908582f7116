package jobsvc

import (
	"slices"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/branch"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource/idset"
)

// A branch's own side of the protocol in broker/api/branch.go.

// How long after its last report a branch makes the next. Reports cost their parent some work each, and little for what is in them. So they
// are few while nobody waits for what is in them and the branch has enough to do without its parent.
const (
	upEvery = 500 * time.Millisecond // at those moments of the clock, so that all branches do it together: one commit of the parent takes them all
	upStep  = 100 * time.Millisecond // sooner for each level down, so that what comes from there goes on with it
	upHalf  = 50 * time.Millisecond  // half of what it had then has ended: it may need more
	upSoon  = 20 * time.Millisecond  // somebody waits, or it has nothing left
	upMax   = 1 << 15                // elements that began or ended: at once
)

// tenure is what a branch keeps for its talk with its parent.
type tenure struct {
	up      upward
	due     time.Time
	last    time.Time                // report
	left    int                      // elements that had not ended then
	specs   map[uint64]*internedSpec // by the parent's number, of this session
	envs    map[uint64][]byte
	session uint64 // of the parent's latest list: what is reported belongs to it
	path    string
	sets    map[jobspec.ID]uint64 // of parameters, by array
	orders  []*api.BranchOrder    // that have come and wait for a look into the store
	looking bool
}

func (t *tenure) init() {
	t.up.init()
	t.specs, t.envs, t.sets = make(map[uint64]*internedSpec), make(map[uint64][]byte), make(map[jobspec.ID]uint64)
}

// toParent collects what the parent has to hear of.
func (s *Service) toParent(a *job.Actions) {
	t := &s.tenure
	for i := range a.Ended {
		e := &a.Ended[i]
		t.up.end(e.Array, e.Index, e.Index, e.Result, e.Status, e.Exc, e.Ran, e.Time)
	}
	for i := range a.Spans {
		e := &a.Spans[i]
		t.up.end(e.Array, e.Lo, e.Hi, e.Result, e.Status, e.Exc, e.Ran, e.Time)
	}
	for _, b := range a.Began {
		set := t.up.began[b.Array]
		if set == nil {
			set = &idset.Set{}
			t.up.began[b.Array] = set
		}
		set.AddRange(b.Lo, b.Hi)
		t.up.n++
	}
	for _, st := range a.Done {
		delete(t.sets, st.ID)
	}
	if a.Listed {
		s.answerList(a.Missing)
	}
	if len(a.GaveBack) > 0 {
		rep := t.up.take()
		for _, g := range a.GaveBack {
			rep.Backs = append(rep.Backs, api.BranchBack{Share: share(g.Share), Lost: g.Lost})
			s.moved(&g)
		}
		s.report(rep)
	}
	s.pace(a.Soon)
}

// pace says when the next report is due.
func (s *Service) pace(soon bool) {
	t := &s.tenure
	if t.up.n == 0 {
		return
	}
	due := s.now
	switch left := s.m.Active(); {
	case t.up.n >= upMax:
	case soon || left == 0:
		due = t.last.Add(upSoon)
	case left <= t.left/2:
		due = t.last.Add(upHalf)
	default:
		due = t.tick(latest(s.now, t.last.Add(upEvery/4)))
	}
	t.due = latest(earliest(t.due, due), s.now)
}

// tick is the next moment to report when there is no hurry.
func (t *tenure) tick(after time.Time) time.Time {
	phase := time.Duration(strings.Count(t.path, ".")) * upStep
	return after.Add(phase).Truncate(upEvery).Add(upEvery - phase)
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// moved ends the streams of elements that are the parent's again: it asks whoever has them next.
func (s *Service) moved(g *job.GaveBack) {
	for _, x := range sortedBy(s.watch.attaches, func(x *attach) rpc.RequestKey { return x.req.Key() }) {
		if x.arr == g.Array && x.pass == nil && g.Elements.Has(x.idx) {
			s.watch.dropAttach(x)
			s.out.Fail(x.req, wire.Errorf(wire.Unavailable, "the parent has taken it back"))
		}
	}
}

// report has something told to the parent.
func (s *Service) report(rep api.BranchReportReq) {
	rep.Session, rep.Waiting = s.tenure.session, s.countsRep().Pending
	s.out.Notify("branch", api.BranchUp{Report: rep})
}

// reportIfDue tells the parent.
func (s *Service) reportIfDue() {
	t := &s.tenure
	if t.due.IsZero() || t.due.After(s.now) {
		return
	}
	if t.due = (time.Time{}); t.up.n > 0 {
		s.reportNow()
	}
}

func (s *Service) reportNow() {
	t := &s.tenure
	t.due, t.last, t.left = time.Time{}, s.now, s.m.Active()
	s.report(t.up.take())
}

// answerList tells what of the parent's list is not held here: what has ended, as the store has it, and what never arrived. What ended
// and has not been told yet is told before. The store is asked behind what is being written: an end that is known and not durable yet would be in
// neither, and what ended would be lost.
func (s *Service) answerList(missing []branch.Share) {
	first := s.tenure.up.take()
	first.First = true
	session := s.tenure.session
	answer := func(_ any, err error) {
		if err != nil {
			s.out.Log("error", "the state directory cannot tell what has ended: the parent is not answered", "err", err)
			return
		}
		first.Session, first.Waiting = session, s.countsRep().Pending
		s.out.Notify("branch", api.BranchUp{Report: first})
	}
	s.whenDurable(func(*reactor.Out, error) {
		s.query(func(rd job.Reader) (any, error) { return first, lookFor(rd, missing, &first) }, answer)
	})
}

// lookFor adds to a report how elements ended, and that the others are not here.
func lookFor(rd job.Reader, missing []branch.Share, rep *api.BranchReportReq) error {
	var up upward
	up.init()
	for _, m := range missing {
		row, ok, err := rd.Array(m.Array)
		if err != nil {
			return err
		}
		left := m.Elements.Clone()
		if ok {
			err = rd.Ended(m.Array, 0, 0, 0, func(el job.ElementRow) bool {
				if !left.Has(el.Index) {
					return true
				}
				left.RemoveRange(el.Index, el.Index)
				st, _ := job.Fold(row.Urgency, row.Submit, el.Events)
				up.end(m.Array, el.Index, el.Index, jobspec.Result(el.Result), el.Status, st.Exc, el.Start > 0 || el.Status >= 0, el.End)
				return !left.Empty()
			})
		}
		if err != nil {
			return err
		}
		if !left.Empty() {
			rep.Backs = append(rep.Backs, api.BranchBack{Share: share(branch.Share{Array: m.Array, Elements: left}), Lost: ok})
		}
	}
	rep.Ends = append(rep.Ends, up.take().Ends...)
	return nil
}

// onOrder carries out a parent's order, behind those before it. The parameters of an array that was here before go to its set, which
// the store knows.
func (s *Service) onOrder(o *api.BranchOrder) {
	s.tenure.orders = append(s.tenure.orders, o)
	s.nextOrders()
}

func (s *Service) nextOrders() {
	t := &s.tenure
	for len(t.orders) > 0 && !t.looking {
		o := t.orders[0]
		unknown := s.unknownSets(o)
		if len(unknown) == 0 {
			t.orders = t.orders[1:]
			s.carryOut(o)
			continue
		}
		t.looking = true
		s.whenDurable(func(*reactor.Out, error) { s.lookForSets(unknown) })
	}
}

// unknownSets lists the arrays of a grant whose set of parameters only the store may know.
func (s *Service) unknownSets(o *api.BranchOrder) (ids []jobspec.ID) {
	if o.Grant == nil {
		return nil
	}
	for i := range o.Grant.Items {
		it := &o.Grant.Items[i]
		if len(it.Params) == 0 || s.tenure.sets[it.Array] != 0 {
			continue
		}
		if row, _, _, ok := s.m.Row(it.Array); ok {
			s.tenure.sets[it.Array] = row.Params
		} else if !slices.Contains(ids, it.Array) {
			ids = append(ids, it.Array)
		}
	}
	return ids
}

func (s *Service) lookForSets(ids []jobspec.ID) {
	s.query(func(rd job.Reader) (any, error) {
		sets := make([]uint64, len(ids))
		for i, id := range ids {
			row, _, err := rd.Array(id)
			if err != nil {
				return nil, err
			}
			sets[i] = row.Params
		}
		return sets, nil
	}, func(v any, err error) {
		t := &s.tenure
		t.looking = false
		sets, _ := v.([]uint64)
		if err != nil {
			s.out.Log("error", "the state directory cannot tell where parameters are", "err", err)
		}
		for i, id := range ids {
			if i < len(sets) && sets[i] != 0 {
				t.sets[id] = sets[i]
			} else {
				s.uploads.last++
				t.sets[id] = s.uploads.last
			}
		}
		s.nextOrders()
	})
}

// carryOut carries out a parent's order.
func (s *Service) carryOut(o *api.BranchOrder) {
	if o.Session != 0 {
		s.tenure.specs, s.tenure.envs = make(map[uint64]*internedSpec), make(map[uint64][]byte)
		s.tenure.session, s.tenure.path = o.Session, o.Path
		s.tenure.up.take() // the list settles it
		list, err := readShares(o.List)
		if err != nil {
			s.out.Log("error", "the parent's list cannot be read", "err", err)
			return
		}
		s.step(job.Listed{Shares: list})
	}
	if o.Grant != nil {
		if err := s.receive(o.Grant); err != nil {
			s.out.Log("error", "a grant cannot be read", "grant", o.Grant.Num, "err", err)
		}
	}
	for i := range o.Casts {
		c := &o.Casts[i]
		if sh, err := readShare(c.Share); err == nil {
			s.step(job.Cast{Share: sh, Exc: job.Exception{Type: c.Type, Severity: c.Severity, Note: c.Note}, States: jobspec.State(c.States)})
		}
	}
	if len(o.Hastes) > 0 {
		ev := job.Awaited{List: make([]job.Hastened, len(o.Hastes))}
		for i, h := range o.Hastes {
			ev.List[i] = job.Hastened{Array: h.Array, Haste: job.Haste(h.Haste)}
		}
		s.step(ev)
	}
	for _, c := range o.Sets {
		s.step(job.Set{Array: c.Array, Urgency: c.Urgency, Limit: c.Limit})
	}
	if o.TakeBack > 0 {
		s.step(job.TakeBack{Cores: o.TakeBack})
		s.report(api.BranchReportReq{Recalled: true})
	}
}

// receive takes a grant.
func (s *Service) receive(g *api.BranchGrant) error {
	t := &s.tenure
	s.intern.trim()
	for _, text := range g.Specs {
		spec, err := s.intern.spec(text.Data)
		if err != nil {
			return err
		}
		t.specs[text.ID] = spec
	}
	for _, e := range g.Envs {
		t.envs[e.ID] = e.Data
	}
	ev := job.Received{Num: g.Num, Path: t.path}
	for i := range g.Items {
		item, err := s.received(&g.Items[i])
		if err != nil {
			return err
		}
		ev.Items = append(ev.Items, item)
	}
	s.step(ev)
	for i := range g.Items {
		it := &g.Items[i]
		if f := s.follows.byKey[it.Follow]; f != nil {
			s.follows.join(f, it.Array, it.Tag, it.N)
			s.m.Follow(it.Array, true)
		}
	}
	return nil
}

func (s *Service) received(it *api.BranchItem) (out job.ReceivedItem, err error) {
	t := &s.tenure
	spec := t.specs[it.Spec]
	if spec == nil {
		return out, wire.Errorf(wire.Invalid, "the jobspec of %v was not sent", it.Array)
	}
	out.Spec = spec.spec
	out.NewSpec = s.intern.unstored[spec.spec]
	delete(s.intern.unstored, spec.spec)
	if it.Env != 0 || len(it.Vars) > 0 {
		data := append([]byte(nil), t.envs[it.Env]...)
		for _, v := range it.Vars {
			data = append(append(data, v...), 0)
		}
		out.Env = s.intern.env(data)
		out.NewEnv = s.intern.unstored[out.Env]
		delete(s.intern.unstored, out.Env)
	}
	if out.Elements, err = idset.Parse(it.Elements); err != nil {
		return out, err
	}
	if out.Tried, err = idset.Parse(it.Tried); err != nil {
		return out, err
	}
	out.Again, out.Urgency, out.Limit, out.Watched, out.Haste = fromAgain(it.Again), it.Urgency, it.Limit, it.Watched, job.Haste(it.Haste)
	out.Row = job.ArrayRow{ID: it.Array, N: it.N, Name: out.Spec.Job.Name, CC: it.CC, BCC: it.BCC, Urgency: it.Given, Flags: it.Flags, User: it.User,
		Submit: it.Submit, Indexes: it.Indexes, Size: it.Size, Log: it.Log}
	if len(it.Params) > 0 {
		out.Row.Params = s.tenure.sets[it.Array]
		for _, p := range it.Params {
			out.Params = append(out.Params, job.ParamsRow{Set: out.Row.Params, First: p.First, N: p.N, Data: p.Data})
		}
	}
	return out, nil
}

// bare is a job without what its parent sees to.
func bare(j *jobspec.Jobspec) *jobspec.Jobspec {
	if len(j.Dependencies) == 0 && j.Array == (jobspec.ArrayOptions{}) {
		return j
	}
	b := *j
	b.Dependencies, b.Array = nil, jobspec.ArrayOptions{}
	return &b
}
