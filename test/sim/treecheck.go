package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/store/mem"
	"github.com/frond-hpc/frond/exec"
	execsim "github.com/frond-hpc/frond/exec/sim"
	"github.com/frond-hpc/frond/jobspec"
)

// What must hold, as seen from outside of all machines: by the tasks that run, and by what the stores have.

// tenant has cores: an instance, or a job on a node. A job's cores are taken from its instance's own, and go back there.
type tenant struct{ name string }

// use is what a job has on a node.
type use struct {
	tenant *tenant
	cores  []int
	tasks  int
}

// fate is what is known of an element.
type fate struct {
	id       jobspec.ID
	array    *treeArray
	index    int
	starts   int // attempts that ran
	fails    int // of them, those that failed by themselves
	in       *inst
	ref      exec.Ref // of the latest attempt
	began    time.Time
	on       int  // tasks of it that run
	tasks    int  // that have ended
	own      bool // all that ended did so by themselves
	status   int  // largest
	result   jobspec.Result
	wait     int       // wait status that the top has
	canceled time.Time // the user was told that it is, or the array has failed enough
}

// treeArray is a submission that is durable at the top.
type treeArray struct {
	id      jobspec.ID
	n       int
	plan    *plan
	fates   []*fate
	running int
	failed  int
	asked   bool      // a cancel of some of it was sent
	held    time.Time // the user was told that it is held; zero = it is not
}

// How long the tree may take to pass a word down that it can pass, and to end what runs.
const (
	wordTime = 5 * time.Second
	killTime = 15 * time.Second
)

// observe: a task begins or ends on a seat's broker.
func (w *tree) observe(s *seat, n *node, o *execsim.Observation) {
	branch := o.Spec.Job.Instance != nil
	if w.cfg.Watch != "" && o.Ref.Job.String() == w.cfg.Watch {
		w.logf("task %d of %v in %s on node %d: begins %v, status %d, %+v", o.Task, o.Ref.Job, s.in, s.host, o.Begins, o.Status, o.Ref)
	}
	u := s.uses[o.Ref]
	if o.Begins {
		if u == nil {
			u = w.take(s, o)
			s.uses[o.Ref] = u
		}
		u.tasks++
		if branch {
			w.taskBegins(s, n, o, u.tenant)
		} else {
			w.starts(s, o)
		}
		return
	}
	if branch {
		w.taskEnds(s, o)
	} else {
		w.stops(s, o)
	}
	if u.tasks--; u.tasks == 0 {
		w.giveBack(s, u)
		delete(s.uses, o.Ref)
	}
}

// take gives the cores of a job on a node to it: they must be its instance's, and nobody else's.
func (w *tree) take(s *seat, o *execsim.Observation) *use {
	u := &use{tenant: &tenant{fmt.Sprintf("%v (attempt %d) of %s", o.Ref.Job, o.Ref.Attempt, s.in)}}
	if len(o.Start.Parts) != 1 {
		w.fail("%s has %d parts on node %d", u.tenant.name, len(o.Start.Parts), s.host)
	}
	cores := o.Start.Parts[0].Cores
	if cores.Count() == 0 || cores.Minus(s.cores).Count() > 0 {
		w.fail("%s begins on cores %v of node %d, of which its instance has %v", u.tenant.name, cores, s.host, s.cores)
	}
	for c := range w.cfg.Cores {
		if !cores.Has(c) {
			continue
		}
		if t := w.owner[s.host][c]; t != s.tenant {
			w.fail("%s begins on core %d of node %d, which belongs to %s", u.tenant.name, c, s.host, t.name)
		}
		w.owner[s.host][c] = u.tenant
		u.cores = append(u.cores, c)
	}
	return u
}

func (w *tree) giveBack(s *seat, u *use) {
	for _, c := range u.cores {
		if t := w.owner[s.host][c]; t != u.tenant {
			w.fail("%s ends while core %d of node %d belongs to %s", u.tenant.name, c, s.host, t.name)
		}
		w.owner[s.host][c] = s.tenant
	}
}

// starts: a task of an element begins.
func (w *tree) starts(s *seat, o *execsim.Observation) {
	f := w.fates[o.Ref.Job]
	if f == nil {
		w.fail("%v, which nobody has submitted, starts in %s", o.Ref.Job, s.in)
	}
	if f.in == s.in && f.ref == o.Ref { // another task of the attempt
		if f.on++; f.on == 1 {
			f.array.running++
		}
		return
	}
	if f.on > 0 {
		w.fail("%v starts in %s, attempt %d, while attempt %d runs in %s", f.id, s.in, o.Ref.Attempt, f.ref.Attempt, f.in)
	}
	if f.result != 0 {
		w.fail("%v has ended and is started again in %s, attempt %d", f.id, s.in, o.Ref.Attempt)
	}
	if !f.array.plan.rerun && f.starts > 0 && !(f.over() && f.own && f.status > 0) {
		w.fail("%v must not run twice, and starts in %s, attempt %d, after attempt %d in %s", f.id, s.in, o.Ref.Attempt, f.ref.Attempt, f.in)
	}
	w.mayStart(f, s.in)
	w.equipped(f, s.in, &o.Start)
	f.in, f.ref, f.began, f.on, f.tasks, f.own, f.status = s.in, o.Ref, w.now, 1, 0, true, 0
	f.starts++
	w.res.Starts++
	if s.in.level > 0 {
		w.res.Below++
	}
	if f.array.running++; f.array.plan.rules.Limit > 0 && f.array.running > f.array.plan.rules.Limit {
		w.fail("%d elements of %v run at once, the limit is %d", f.array.running, f.array.id, f.array.plan.rules.Limit)
	}
}

// over tells whether all tasks of the latest attempt have ended.
func (f *fate) over() bool { return f.on == 0 && f.tasks == f.array.plan.nodes }

// mayStart checks what speaks against a start.
func (w *tree) mayStart(f *fate, in *inst) {
	if err := w.user.oracle.started(f.id); err != nil {
		w.fail("in %s: %v", in, err)
	}
	for _, word := range []struct {
		what string
		at   time.Time
	}{{"was cancelled", f.canceled}, {"was held", f.array.held}} {
		if word.at.IsZero() || word.at.After(w.now) {
			continue
		}
		if known, since := in.knows(word.at); known && w.now.Sub(since) > wordTime {
			w.fail("%v %s at %v, and starts in %s, attempt %d, which can have known since %v", f.id, word.what, word.at.Sub(w.began), in, in.ref.Attempt, since.Sub(w.began))
		}
		w.res.Late++
	}
}

// knows tells since when an instance can have heard what the top was told at a time: all above it have had contact since.
func (in *inst) knows(at time.Time) (known bool, since time.Time) {
	since = at
	for i := in; i.parent != nil; i = i.parent {
		if i.linked.IsZero() {
			return false, since
		}
		if i.linked.After(since) {
			since = i.linked
		}
	}
	return true, since
}

// equipped checks that an element is told who it is.
func (w *tree) equipped(f *fate, in *inst, st *exec.Start) {
	array, size := f.array.id, f.array.n
	if size == 1 {
		array, size = 0, max(st.Size, 0)
	}
	if st.Array != array || st.Index != f.index || st.Size != size {
		w.fail("element %d of %v starts in %s as element %d of %v, which has %d", f.index, f.array.id, in, st.Index, st.Array, st.Size)
	}
	want := []string(nil)
	if f.array.plan.params {
		want = []string{f.array.plan.token, fmt.Sprint(f.index)}
	}
	if !slices.Equal(want, st.Params) {
		w.fail("element %d of %v starts in %s with the parameters %q", f.index, f.array.id, in, st.Params)
	}
}

// stops: a task of an element has ended.
func (w *tree) stops(s *seat, o *execsim.Observation) {
	f := w.fates[o.Ref.Job]
	if f.in != s.in || f.ref != o.Ref {
		w.fail("%v ends in %s, attempt %d, and runs in %s, attempt %d", f.id, s.in, o.Ref.Attempt, f.in, f.ref.Attempt)
	}
	f.on--
	f.tasks++
	if o.Status < 0 || o.Status&0x7f != 0 {
		f.own = false
	} else if !f.canceled.IsZero() && f.canceled.Before(w.now) {
		if known, since := s.in.knows(f.canceled); known && w.now.Sub(since) > killTime && w.now.Sub(f.began) > killTime {
			w.fail("%v was cancelled at %v, and goes on in %s until now", f.id, f.canceled.Sub(w.began), s.in)
		}
	}
	f.status = max(f.status, o.Status)
	if f.on > 0 {
		return
	}
	f.array.running--
	if f.over() && f.own && f.status > 0 {
		f.fails++
	}
}

// treeStore sees what becomes durable.
type treeStore struct {
	in     *inst
	driver reactor.Driver
}

// Do implements reactor.Driver.
func (s *treeStore) Do(now time.Time, effect any, done func(any, error)) {
	s.driver.Do(now, effect, func(res any, err error) {
		if c, ok := effect.(*job.Commit); ok && err == nil {
			s.in.committed(c.Txn)
		}
		done(res, err)
	})
}

func (in *inst) committed(t *job.Txn) {
	w := in.w
	if in.parent != nil {
		return
	}
	for i := range t.Arrays {
		w.know(&t.Arrays[i])
	}
	for i := range t.Ended {
		w.finish(t.Ended[i].ID, &t.Ended[i])
	}
	for _, r := range t.Ranges {
		a := w.user.byID[r.Array]
		for i := r.Lo; i <= r.Hi && a != nil; i++ {
			w.finish(a.fates[i].id, &job.ElementRow{Index: i, Result: r.Result, Status: r.Status, Events: r.Events})
		}
	}
}

// know notes an array, once it is durable.
func (w *tree) know(row *job.ArrayRow) {
	u := w.user
	if row.Flags&job.FlagSystem != 0 || u.byID[row.ID] != nil {
		return
	}
	w.user.oracle.submitted(*row)
	a := &treeArray{id: row.ID, n: row.N, plan: u.plans[row.Token]}
	if a.plan == nil || a.n != a.plan.n {
		w.fail("array %v with %d elements and the token %q is in the store, and was not submitted", row.ID, row.N, row.Token)
	}
	for i := range a.n {
		f := &fate{id: row.ID, array: a, index: i}
		if a.n > 1 {
			f.id += 1 + jobspec.ID(i)
		}
		a.fates = append(a.fates, f)
		w.fates[f.id] = f
	}
	u.byID[row.ID] = a
	u.arrays = append(u.arrays, a)
}

// reload notes what had become durable without a word when the top's leader died.
func (w *tree) reload(in *inst, l *job.Loaded) {
	for i := range l.Arrays {
		w.know(&l.Arrays[i].ArrayRow)
	}
	w.rows(w.states[in.path], func(row *job.ArrayRow, e *job.ElementRow) {
		w.know(row)
		if w.fates[e.ID].result == 0 {
			w.finish(e.ID, e)
		}
	})
}

// finish: the top has durably that an element ended.
func (w *tree) finish(id jobspec.ID, e *job.ElementRow) {
	f := w.fates[id]
	if f == nil {
		return // a branch
	}
	st, err := job.Fold(16, 0, e.Events)
	w.must(err)
	exc := ""
	if st.Exc != nil {
		exc = st.Exc.Type
	}
	rules := &f.array.plan.rules
	switch {
	case f.result != 0:
		w.fail("%v ends twice, with %v and %v", id, f.result, jobspec.Result(e.Result))
	case f.on > 0:
		w.fail("%v ends while it runs in %s, attempt %d", id, f.in, f.ref.Attempt)
	}
	f.result, f.wait = jobspec.Result(e.Result), e.Status
	if w.cfg.Watch != "" && f.id.String() == w.cfg.Watch {
		w.logf("%v ends with %v, %s", f.id, f.result, exc)
	}
	w.user.oracle.results[id] = f.result
	ran := f.starts > 0 && f.over() && f.own
	switch f.result {
	case jobspec.ResultCompleted:
		if w.res.Completed++; !ran || f.status != 0 || e.Status != 0 {
			w.fail("%v is completed with status %d; it was started %d times, last with status %d", id, e.Status, f.starts, f.status)
		}
	case jobspec.ResultCanceled:
		w.res.Canceled++
		depends := exc == "dependency" && f.array.plan.depends
		if !depends && !(exc == "cancel" && (f.array.asked || rules.MaxFails > 0 && f.array.failed >= rules.MaxFails)) {
			w.fail("%v is cancelled by %q, and nobody wants that: %s", id, exc, f.array.plan)
		}
	case jobspec.ResultFailed:
		w.res.Failed++
		f.array.failed++
		switch {
		case exc == "" && !f.own && f.array.asked: // cancelled, and the leader died with that
		case exc == "" && (!ran || f.status != e.Status || f.fails <= rules.Retries):
			w.fail("%v has failed with status %d; it was started %d times, failed %d times, last with status %d: %s", id, e.Status, f.starts, f.fails, f.status, f.array.plan)
		case exc == "lost" && f.array.plan.rerun:
			w.fail("%v is lost, and may run again", id)
		case exc == "dependency" && !f.array.plan.depends, exc != "" && exc != "lost" && exc != "dependency" && !(exc == "exec" && f.array.plan.nodes > 1): // exit-timeout
			w.fail("%v has failed by %q: %v", id, exc, st.Exc)
		}
		if rules.MaxFails > 0 && f.array.failed == rules.MaxFails {
			w.cancelled(f.array.fates)
		}
	default:
		w.fail("%v ends with %v", id, f.result)
	}
}

// cancelled: from now on these must not start, and what runs is to end.
func (w *tree) cancelled(fates []*fate) {
	for _, f := range fates {
		if f.result == 0 && f.canceled.IsZero() {
			f.canceled = w.now
		}
	}
}

// rows reads all elements that have ended, by a store.
func (w *tree) rows(from *mem.Store, each func(*job.ArrayRow, *job.ElementRow)) {
	w.must(from.Read(func(r job.Reader) error {
		return r.Ended(0, 0, 0, 0, func(e job.ElementRow) bool {
			row, ok, err := r.Array(e.Array)
			if err != nil || !ok {
				w.fail("%v has ended, and its array is not in the store: %v", e.ID, err)
			}
			if row.Flags&job.FlagSystem == 0 {
				each(&row, &e)
			}
			return true
		})
	}))
}

// verify looks at what is left when all has ended and the tree has been undone: all cores are the top's again, and the stores agree.
func (w *tree) verify() {
	for h, cores := range w.owner {
		for c, t := range cores {
			if t != w.top.seats[h].tenant {
				w.fail("at the end core %d of node %d belongs to %s", c, h, t.name)
			}
		}
	}
	if t := w.top.jobs.Totals(); t.Pending+t.Running > 0 {
		w.fail("the top has jobs at the end: %+v", t)
	}
	for _, path := range slices.Sorted(maps.Keys(w.jobs)) {
		w.leave(path)
	}
	// Each element has a row of its own in one store; what is above it says the same.
	own := make(map[jobspec.ID]string)
	ends := make(map[string]map[jobspec.ID]*job.ElementRow)
	paths := slices.Sorted(maps.Keys(w.states))
	for _, path := range paths {
		ends[path] = make(map[jobspec.ID]*job.ElementRow)
		w.rows(w.states[path], func(_ *job.ArrayRow, e *job.ElementRow) {
			if ends[path][e.ID] != nil {
				w.fail("%v is in the store of %s twice", e.ID, path)
			}
			ends[path][e.ID] = e
			if e.Attempt == 0 && job.EndedIn(e.Events) >= 0 || w.spoiled[path] {
				return
			}
			if o := own[e.ID]; o != "" {
				w.fail("%v has ended in %s and in %s", e.ID, o, path)
			}
			own[e.ID] = path
		})
	}
	for _, id := range slices.Sorted(maps.Keys(w.fates)) {
		f, path := w.fates[id], "top"
		e := ends[path][id]
		if e == nil {
			w.fail("%v is not in the store of the top", id)
		}
		for e != nil {
			if jobspec.Result(e.Result) != f.result || e.Status != f.wait {
				w.fail("%v has ended with %v and status %d at the top, with %v and %d in %s", id, f.result, f.wait, jobspec.Result(e.Result), e.Status, path)
			}
			to := job.EndedIn(e.Events)
			if e.Attempt > 0 || to < 0 {
				break
			}
			above := path
			path += "/" + strconv.Itoa(to)
			if e = ends[path][id]; e == nil && !w.spoiled[path] {
				w.fail("%v has ended in %s, as %s has it, and is not in the store there", id, path, above)
			}
		}
	}
}

// leave judges what the job that had a state directory last has left in it: if it was given up, it may have ended with more than it could tell,
// and what it held has run elsewhere.
func (w *tree) leave(path string) {
	last, ok := w.jobs[path]
	if st := w.states[last.parent]; ok && st != nil {
		w.must(st.Read(func(r job.Reader) error {
			if e, ended, err := r.Element(last.id, 0); err != nil || !ended || jobspec.Result(e.Result) == jobspec.ResultCanceled {
				return err // it was done away with
			}
			w.spoil(path)
			return nil
		}))
	}
}

// spoil notes that what a state directory has, or those below it, counts no more.
func (w *tree) spoil(path string) {
	w.spoiled[path] = true
	for p := range w.states {
		if strings.HasPrefix(p, path+"/") {
			w.spoiled[p] = true
		}
	}
}
