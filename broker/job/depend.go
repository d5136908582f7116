package job

import (
	"encoding/json"
	"fmt"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/idset"
)

// An array may have to wait for others (Flux RFC 26). Until its dependencies are met the scheduler is not asked for it; with aftercorr it
// is asked for those elements whose counterparts have completed.
//
// Only durable ends count, so that nothing that started because of one has to be taken back after a crash. What a dependency has seen is
// a set of indexes: to be told of an end twice does no harm. Therefore the machine listens first and has the store asked then
// (Actions.Lookups, answered by Looked) for what ended before, at submission as at a leader's start.

// DependTarget is what a dependency on a job was resolved to.
type DependTarget struct {
	Array    jobspec.ID
	N        int // elements of the array
	Elements idset.Set
	Item     int // in Submitted, from 1: that item's array, whose id is not known before
}

// waiting is the state of an array with dependencies.
type waiting struct {
	deps  []depend
	left  int       // dependencies not met, without aftercorr
	corr  bool      // some are aftercorr
	ready idset.Set // with aftercorr: pending elements that never ran and may start
}

// depend is one dependency.
type depend struct {
	jobspec.Dependency
	desc   string
	to     DependTarget // Elements is never empty
	seen   idset.Set    // elements that have ended; with afterstart: that have begun
	ok     idset.Set    // with aftercorr: elements that have completed
	bad    bool         // afternotok, afterexcept: some element ended as wished for
	asking bool         // a lookup is under way
	end    aftermath    // with Ref.Item
	done   bool
}

// Outcome is how elements ended.
type Outcome struct {
	Lo, Hi int
	OK     bool // completed
	Ran    bool // had resources
	Except bool // an exception ended it
	Result jobspec.Result
	Status int // wait status, -1 = none
}

type (
	// Lookup asks the store how elements of an array ended that a dependency waits for.
	Lookup struct {
		Array  jobspec.ID // the one that depends
		Depend int        // its dependency
		Scheme string
		To     DependTarget
	}
	// Looked is the answer. Failed: the store could not be read. Gone: the array has been purged.
	Looked struct {
		Array  jobspec.ID
		Depend int
		Ended  []Outcome
		Failed bool
		Gone   bool
	}
)

// eligible tells whether a pending element may start, as far as dependencies are concerned.
func (a *array) eligible(idx int) bool {
	if a.wait == nil {
		return true
	}
	if a.wait.left > 0 {
		return false
	}
	for i := range a.wait.deps {
		if d := &a.wait.deps[i]; d.Scheme == "aftercorr" && !d.ok.Has(idx) {
			return false
		}
	}
	return true
}

// firstAgain is the place in a.again of the first that may start; -1 = none.
func (a *array) firstAgain() int {
	for i, e := range a.again {
		if a.eligible(e.idx) {
			return i
		}
	}
	return -1
}

// popEligible takes the lowest pending element that was never started and may start; -1 = none.
func (a *array) popEligible() int {
	if a.wait == nil || !a.wait.corr {
		return a.popPending()
	}
	idx, ok := a.wait.ready.Pop()
	if !ok {
		return -1
	}
	a.addSkip(idx, idx)
	a.top = max(a.top, idx+1)
	return idx
}

// unready takes elements out of those that may start.
func (a *array) unready(lo, hi int) {
	if a.wait != nil {
		a.wait.ready.RemoveRange(lo, hi)
	}
}

// eligibleCount is how many pending elements may start.
func (a *array) eligibleCount() int {
	w := a.wait
	switch {
	case w == nil:
		return a.pending
	case w.left > 0:
		return 0
	case !w.corr:
		return a.pending
	}
	n := w.ready.Len()
	for _, e := range a.again {
		if a.eligible(e.idx) {
			n++
		}
	}
	return n
}

// dependOn gives a its dependencies; targets are those of its jobspec that name jobs, in order.
func (m *Machine) dependOn(a *array, targets []DependTarget) {
	deps := a.spec.Job.Dependencies
	if len(deps) == 0 {
		return
	}
	w := &waiting{deps: make([]depend, len(deps))}
	a.own().wait = w
	for i := range deps {
		d := &w.deps[i]
		d.Dependency, d.desc = deps[i], deps[i].Description()
		if d.refers() {
			if d.to, targets = targets[0], targets[1:]; d.to.Item > 0 {
				d.to.Array, d.to.Item = m.out.IDs[d.to.Item-1], 0
			}
			if d.to.Elements.Empty() {
				d.to.Elements = idset.FromRange(0, d.to.N-1)
			}
		}
		if d.Scheme == "aftercorr" {
			w.corr = true
		} else {
			w.left++
		}
		m.note(a, evDependAdd, d.context())
	}
}

// refers tells whether the dependency is on a job.
func (d *depend) refers() bool { return d.Scheme != "begin-time" && d.Scheme != "singleton" }

// dependContext is the context of dependency-add. Beside Flux's description it has what the name was resolved to.
type dependContext struct {
	Description string     `json:"description"`
	Job         jobspec.ID `json:"job,omitempty"`
	Size        int        `json:"size,omitempty"`
	Elements    string     `json:"elements,omitempty"`
	End         *aftermath `json:"end,omitempty"` // of dependency-remove, with Ref.Item
}

// resolve sets what the context says the dependency was resolved to.
func (d *depend) resolve(c *dependContext) (err error) {
	if !d.refers() {
		return nil
	}
	d.to = DependTarget{Array: c.Job, N: c.Size, Elements: idset.FromRange(0, c.Size-1)}
	if c.Elements != "" {
		d.to.Elements, err = idset.Parse(c.Elements)
	}
	return err
}

func (d *depend) context() []byte {
	c := dependContext{Description: d.desc, Job: d.to.Array, Size: d.to.N}
	if d.refers() && d.to.Elements.Len() < d.to.N {
		c.Elements = d.to.Elements.String()
	}
	ctx, _ := json.Marshal(c)
	return ctx
}

// outcome tells dependency i of a how elements ended (or, with afterstart, that they have begun).
func (m *Machine) outcome(a *array, i int, o Outcome) {
	if m.arrays[a.id] != a {
		return // it has ended, or was refused
	}
	d := &a.wait.deps[i]
	if d.done {
		return
	}
	news := d.to.Elements.Intersect(idset.FromRange(o.Lo, o.Hi)).Minus(d.seen)
	if news.Empty() {
		return
	}
	for r := range news.Ranges() {
		d.seen.AddRange(r.Lo, r.Hi)
		if d.Scheme == "aftercorr" {
			m.counterparts(a, d, Span{r.Lo, r.Hi}, o)
		}
	}
	d.end.count(&o, news.Len())
	m.judge(a, d, news.Min(), o)
	m.dependsMet(a)
}

// counterparts: elements of the array before have ended, those of a follow or fail.
func (m *Machine) counterparts(a *array, d *depend, s Span, o Outcome) {
	if !o.OK {
		exc := Exception{"dependency", 0, d.desc + " can never be met: " + m.jobText(d, s.Lo) + " " + o.text()}
		m.end0(a, Target{a.id, s.Lo, s.Hi}, exc, jobspec.StatesPending)
		return
	}
	d.ok.AddRange(s.Lo, s.Hi)
	m.makeReady(a, s)
	m.adjust(a)
}

// makeReady notes which of the elements of a span may start now.
func (m *Machine) makeReady(a *array, s Span) {
	set := idset.FromRange(s.Lo, s.Hi)
	for i := range a.wait.deps {
		if d := &a.wait.deps[i]; d.Scheme == "aftercorr" {
			set = set.Intersect(d.ok)
		}
	}
	for r := range set.Ranges() {
		for _, p := range a.pendingSpans(r.Lo, r.Hi) {
			a.wait.ready.AddRange(p.Lo, p.Hi)
		}
	}
}

// pendingSpans is what of lo … hi is pending and never ran.
func (a *array) pendingSpans(lo, hi int) (out []Span) {
	lo = max(lo, a.next)
	for _, s := range a.skip {
		if s.Hi < lo {
			continue
		}
		if s.Lo > hi {
			break
		}
		if s.Lo > lo {
			out = append(out, Span{lo, s.Lo - 1})
		}
		lo = s.Hi + 1
	}
	if lo <= hi {
		out = append(out, Span{lo, hi})
	}
	return out
}

// judge decides whether d is met, or never can be, after elements from idx on ended as o says.
func (m *Machine) judge(a *array, d *depend, idx int, o Outcome) {
	all := d.seen.Len() == d.to.Elements.Len()
	met, never := false, false
	switch d.Scheme {
	case "afterstart":
		met, never = all, !o.Ran
	case "afterany", "aftercorr":
		met = all
	case "afterok":
		met, never = all, !o.OK
	case "afternotok":
		d.bad = d.bad || !o.OK && o.Ran
		met, never = all && d.bad, all && !d.bad
	case "afterexcept":
		d.bad = d.bad || o.Except && o.Ran
		met, never = all && d.bad, all && !d.bad
	}
	switch {
	case never:
		note := d.desc + " can never be met: " + m.jobText(d, idx) + " " + o.text()
		m.end0(a, Target{a.id, 0, a.n - 1}, Exception{"dependency", 0, note}, jobspec.StatesPending)
	case met:
		m.met(a, d)
	}
}

func (m *Machine) jobText(d *depend, idx int) string {
	if d.to.N > 1 {
		return "job " + (d.to.Array + 1 + jobspec.ID(idx)).String()
	}
	return "job " + d.to.Array.String()
}

func (o *Outcome) text() string {
	switch {
	case o.OK:
		return "completed"
	case !o.Ran:
		return "ended without having run"
	}
	return "did not complete"
}

// met notes that a dependency is met.
func (m *Machine) met(a *array, d *depend) {
	if d.done {
		return
	}
	d.done = true
	if d.Scheme == "aftercorr" {
		return // each element's own log has it
	}
	c := dependContext{Description: d.desc}
	if d.Ref.Item > 0 {
		c.End = &d.end
	}
	ctx, _ := json.Marshal(c)
	m.note(a, evDependRemove, ctx)
	a.wait.left--
	if d.Scheme == "singleton" {
		m.unsingle(a)
	}
}

// dependsMet lets a go if all its dependencies are met.
func (m *Machine) dependsMet(a *array) {
	if a.wait.left > 0 {
		return
	}
	if !a.freed && !a.wait.corr {
		a.freed = true
		m.note(a, evDepend, nil)
		m.notePriority(a)
	}
	m.adjust(a)
}

// logCorr begins the log of an element that starts because its counterparts have completed.
func (e *elem) logCorr(now float64) {
	for i := range e.arr.wait.deps {
		if d := &e.arr.wait.deps[i]; d.Scheme == "aftercorr" {
			ctx, _ := json.Marshal(dependContext{Description: d.desc})
			e.log.add(evDependRemove, now, ctx)
		}
	}
	e.log.add(evDepend, now, nil)
	e.log.add(evPriority, now, priorityContext(int(e.arr.urgency)))
}

// meetAll: a has been started by an earlier leader, so that its dependencies were met; what the log of it says was not durable.
func (m *Machine) meetAll(a *array) {
	if a.wait == nil {
		return
	}
	for i := range a.wait.deps {
		if d := &a.wait.deps[i]; d.Scheme != "aftercorr" {
			m.met(a, d)
		}
	}
	m.dependsMet(a)
}

// pendingState is the state of a pending element, or of n of which idx is the first.
func (a *array) pendingState(idx, n int) jobspec.State {
	switch {
	case n > 1 && a.wait != nil && a.wait.corr && !a.wait.ready.Empty():
		return jobspec.StateSched
	case !a.eligible(idx):
		return jobspec.StateDepend
	}
	return jobspec.StateSched
}

// checkDepends: nothing runs, and the scheduler is asked for nothing, before the dependencies are met.
func (a *array) checkDepends() error {
	w := a.wait
	if w == nil {
		return nil
	}
	left := 0
	for i := range w.deps {
		if d := &w.deps[i]; !d.done && d.Scheme != "aftercorr" {
			left++
		}
	}
	if left != w.left {
		return fmt.Errorf("%d dependencies are not met, %d are counted", left, w.left)
	}
	for r := range w.ready.Ranges() {
		for idx := r.Lo; idx <= r.Hi; idx++ {
			if !a.isPending(idx) || w.left == 0 && !a.eligible(idx) {
				return fmt.Errorf("element %d is ready, but not pending or not eligible", idx)
			}
		}
	}
	for _, e := range a.sortedActive() {
		if e.state == jobspec.StateRun && !e.adopted && !a.eligible(e.idx) {
			return fmt.Errorf("element %d runs before its dependencies are met", e.idx)
		}
	}
	return nil
}
