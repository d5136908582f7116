package job

import (
	"encoding/binary"
	"slices"

	"github.com/frond-hpc/frond/broker/branch"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/idset"
)

// A branch has arrays with the ids that its parent gave them, and of each the elements that it was granted; the others are foreign. What
// it was granted it runs, or grants on, as any instance. Its parent has the last word on what it holds (Listed): a branch's store
// need not know of grants, as nothing is started after a leader's start before that word was heard.

// Events of a branch, beside Cast.
type (
	// Received: the parent grants elements. NewSpec and NewEnv: write their rows with it.
	Received struct {
		Num   uint64
		Path  string // of this branch
		Items []ReceivedItem
	}
	// ReceivedItem is elements of an array. The ids of Spec and Env are this instance's own.
	ReceivedItem struct {
		GrantItem
		NewSpec, NewEnv bool
		Params          []ParamsRow // chunks with theirs, in the set that Row names
	}
	// TakeBack: the parent wants elements of so many cores back, of those that have not started.
	TakeBack struct{ Cores int }
	// Listed: this is all that the parent says is held here. Actions.Missing is what of it is not: it has ended, or never arrived.
	Listed struct{ Shares []branch.Share }
	// Set is the urgency and the time limit of an array by now.
	Set struct {
		Array   jobspec.ID
		Urgency int
		Limit   float64
	}
	// Unequipped: a grant cannot be sent, as the store does not have the parameters of all elements of these.
	Unequipped struct {
		Num   uint64
		Items []UnequippedItem
	}
	// UnequippedItem is an array of such a grant, and which of its elements may have run.
	UnequippedItem struct {
		Array jobspec.ID
		Tried idset.Set
	}
	// GaveBack is elements that are the parent's again. Lost: they may have run.
	GaveBack struct {
		branch.Share
		Lost bool
	}
	// Began is elements that have started.
	Began struct {
		Array  jobspec.ID
		Lo, Hi int
	}
)

// fromGrant tells by which grant elements came that have not started yet.
type fromGrant struct {
	num  uint64
	path string
	set  idset.Set
}

func (m *Machine) onReceived(ev Received) {
	for i := range ev.Items {
		it := &ev.Items[i]
		if it.NewSpec {
			m.txn.Specs = append(m.txn.Specs, SpecRow{it.Spec.ID, it.Spec.JSON})
		}
		if it.NewEnv {
			m.txn.Envs = append(m.txn.Envs, EnvRow{it.Env.ID, it.Env.Data})
		}
		m.txn.Params = append(m.txn.Params, it.Params...)
		a := m.arrays[it.Row.ID]
		if a == nil {
			a = m.newForeign(it)
		}
		m.receive(a, it, fromGrant{ev.Num, ev.Path, it.Elements})
	}
}

// newForeign makes an array of which nothing is here yet.
func (m *Machine) newForeign(it *ReceivedItem) *array {
	row := it.Row
	row.Spec, row.Env, row.Token = it.Spec.ID, 0, ""
	if it.Env != nil {
		row.Env = it.Env.ID
	}
	a := m.newArray(&row, it.Spec, it.Env)
	a.pending, a.watched, a.urgency, a.limit = 0, it.Watched, int8(it.Urgency), it.Limit
	x := a.own()
	x.vars, x.skip, x.foreign, x.noted = it.Vars, []Span{{0, a.n - 1}}, idset.FromRange(0, a.n-1), lastTime(row.Log, a.submit)
	if row.Log = nil; len(a.log) > 0 {
		m.txn.Logs = append(m.txn.Logs, LogRow{a.id, a.log})
	}
	m.txn.Arrays = append(m.txn.Arrays, row)
	m.next.arrays = append(m.next.arrays, a)
	m.addArray(a)
	return a
}

// receive makes those of the elements pending that are not here yet.
func (m *Machine) receive(a *array, it *ReceivedItem, from fromGrant) {
	fresh := it.Elements.Intersect(a.foreign)
	if fresh.Empty() {
		return
	}
	x := a.own()
	x.foreign = a.foreign.Minus(fresh)
	n := fresh.Len()
	a.pending += n
	m.totals.Pending += n
	x.tried = a.tried.Union(it.Tried.Intersect(fresh))
	x.casts = slices.DeleteFunc(a.casts, func(c Cast) bool { return !c.Elements.Intersect(fresh).Empty() && c.Elements.Minus(fresh).Empty() })
	for i := range x.casts { // what is to end of it the parent says anew
		x.casts[i].Elements = x.casts[i].Elements.Minus(fresh)
	}
	from.set = fresh.Clone()
	x.from = append(a.from, from)
	a.watched = a.watched || it.Watched
	m.hasten(a, it.Haste)
	for _, g := range it.Again {
		if !fresh.Has(g.Index) {
			continue
		}
		fresh.RemoveRange(g.Index, g.Index)
		e := &elem{arr: a, idx: g.Index, attempt: g.Attempt, fails: g.Fails, status: -1, watched: a.watched, state: jobspec.StateSched,
			log: eventLog{buf: slices.Clone(g.Log), last: lastTime(g.Log, a.submit)}}
		m.txn.Retried = append(m.txn.Retried, e.startRow(e.attempt, ""))
		a.logGrant(e, m.now)
		a.pushAgain(e)
	}
	m.pendingAgain(a, fresh)
}

// logGrant notes in an element's log by which grant it came.
func (a *array) logGrant(e *elem, now float64) {
	for i := len(a.from) - 1; i >= 0; i-- {
		if f := &a.from[i]; f.set.Has(e.idx) {
			ctx := appendGrant(f.num, f.path)
			e.log.add(evGrant, max(now, e.log.last), ctx)
			break
		}
	}
	a.unfrom(e.idx, e.idx)
}

// unfrom forgets by which grant elements came.
func (a *array) unfrom(lo, hi int) {
	if len(a.from) == 0 {
		return
	}
	kept := a.from[:0]
	for _, f := range a.from {
		f.set.RemoveRange(lo, hi)
		if !f.set.Empty() {
			kept = append(kept, f)
		}
	}
	clear(a.from[len(kept):])
	a.own().from = kept
}

// onTakeBack gives back what would start last: of the arrays that come last, the elements with the highest indexes.
func (m *Machine) onTakeBack(ev TakeBack) {
	left := ev.Cores
	for u := 0; u <= maxUrgency && left > 0; u++ {
		if m.levels[u] == 0 {
			continue
		}
		for _, id := range slices.Backward(m.order) {
			if a := m.arrays[id]; a != nil && int(a.urgency) == u && a.durable && !m.system[id] && left > 0 {
				left -= m.giveBack(a, left)
			}
		}
	}
}

// Cores is how many cores an element asks for.
func Cores(j *jobspec.Jobspec) int { return max(j.Request.TotalSlots()*j.Request.Cores, 1) }

// giveBack gives up to so many cores' elements back, and returns how many that are.
func (m *Machine) giveBack(a *array, cores int) int {
	each := Cores(a.spec.Job)
	n := (cores + each - 1) / each
	spans := a.pendingSpans(0, a.n-1)
	var set idset.Set
	for i := len(spans) - 1; i >= 0 && n > 0; i-- {
		s := spans[i]
		s.Lo = max(s.Lo, s.Hi-n+1)
		set.AddRange(s.Lo, s.Hi)
		n -= s.Hi - s.Lo + 1
	}
	if set = set.Minus(a.tried); a.hi > 0 {
		set = set.Minus(idset.FromRange(0, a.hi-1)) // they may have run
	}
	if set.Empty() {
		return 0
	}
	m.disown(a, set)
	m.out.GaveBack = append(m.out.GaveBack, GaveBack{Share: branch.Share{Array: a.id, Elements: set}})
	m.maybeDone(a)
	return set.Len() * each
}

// disown makes pending elements foreign.
func (m *Machine) disown(a *array, set idset.Set) {
	for r := range set.Ranges() {
		a.addSkip(r.Lo, r.Hi)
		a.unfrom(r.Lo, r.Hi)
	}
	if set.Empty() {
		return
	}
	x := a.own()
	x.tried = a.tried.Minus(set)
	x.foreign = a.foreign.Union(set)
	a.pending -= set.Len()
	m.totals.Pending -= set.Len()
	m.adjust(a)
}

func (m *Machine) onListed(ev Listed) {
	if m.gated() {
		m.list = &ev
		return
	}
	m.out.Listed = true
	listed := make(map[jobspec.ID]idset.Set, len(ev.Shares))
	for _, s := range ev.Shares {
		listed[s.Array] = s.Elements
		if a := m.arrays[s.Array]; a != nil {
			if gone := s.Elements.Minus(m.here(a)); !gone.Empty() {
				m.out.Missing = append(m.out.Missing, branch.Share{Array: s.Array, Elements: gone})
			}
		} else {
			m.out.Missing = append(m.out.Missing, s)
		}
	}
	for _, id := range slices.Clone(m.order) {
		if a := m.arrays[id]; a != nil && !m.system[id] { // its own branches are not its parent's
			m.narrow(a, listed[id])
			m.maybeDone(a)
		}
	}
	if m.unlisted {
		m.unlisted = false
		m.letGo()
	}
}

// here is the elements of a that are here and have not ended durably.
func (m *Machine) here(a *array) (set idset.Set) {
	for _, s := range a.pendingSpans(0, a.n-1) {
		set.AddRange(s.Lo, s.Hi)
	}
	for _, e := range a.again {
		set.Add(e.idx)
	}
	for _, e := range a.sortedActive() {
		set.Add(e.idx)
	}
	for _, h := range m.ledger.Of(a.id) {
		set = set.Union(h.Elements)
	}
	return set
}

// narrow gives up all of a that is not listed. What runs is ended. Its own branches hear of it by their lists.
func (m *Machine) narrow(a *array, listed idset.Set) {
	all := idset.FromRange(0, a.n-1).Minus(listed)
	exc := Exception{"cancel", 0, "another instance has it"}
	for r := range all.Ranges() {
		m.endRunning(a, Target{a.id, r.Lo, r.Hi}, exc)
	}
	for _, h := range m.ledger.Of(a.id) {
		gone := h.Elements.Intersect(all)
		if gone.Empty() {
			continue
		}
		m.settleHeld(h.Branch, branch.Share{Array: a.id, Elements: gone}, false)
		m.hold(a, -gone.Len())
		m.disown(a, gone)
		if !slices.Contains(m.out.Relist, h.Branch) {
			m.out.Relist = append(m.out.Relist, h.Branch)
		}
	}
	pending := a.unfinished(all)
	for i := len(a.again) - 1; i >= 0; i-- {
		if e := a.again[i]; all.Has(e.idx) {
			a.removeAgain(i)
			pending.Add(e.idx)
		}
	}
	m.disown(a, pending)
}

// onCast raises what the parent passes on.
func (m *Machine) onCast(c Cast) {
	a := m.arrays[c.Array]
	if a == nil {
		return
	}
	for r := range c.Elements.Ranges() {
		t := Target{a.id, r.Lo, min(r.Hi, a.n-1)}
		if c.Exc.Severity == 0 {
			m.end0(a, t, c.Exc, c.States)
		} else {
			m.remark(a, t, c.Exc)
		}
	}
}

// onSet takes over what the parent has changed.
func (m *Machine) onSet(ev Set) {
	a := m.arrays[ev.Array]
	if a == nil {
		return
	}
	if int(a.urgency) != ev.Urgency {
		m.setUrgency(a, ev.Urgency, a.user)
	}
	if a.limit != ev.Limit {
		m.setLimit(a, ev.Limit)
	}
}

// Set is what an array has by now; changed: at its submission it was otherwise.
func (m *Machine) Set(id jobspec.ID) (set Set, changed bool) {
	a := m.arrays[id]
	if a == nil {
		return set, false
	}
	return Set{id, int(a.urgency), a.limit}, a.urgency != a.given || a.limit != a.spec.Job.Duration
}

// yield gives an element back that is listed here and has not come: the grant got lost with a leader, and with it the element's parameters.
func (m *Machine) yield(e *elem) {
	a := e.arr
	m.unsendParts(e)
	m.freeAllocs(e)
	e.state, e.held, e.wants = jobspec.StateInactive, false, false
	a.drop(e)
	a.running--
	m.totals.Running--
	x := a.own()
	x.foreign.Add(e.idx)
	m.out.GaveBack = append(m.out.GaveBack, GaveBack{Share: branch.Share{Array: a.id, Elements: idset.Of(e.idx)}})
	m.adjust(a)
	m.maybeDone(a)
}

// onUnequipped takes back a grant that was not sent. Elements whose parameters are not here are the parent's, as with yield.
func (m *Machine) onUnequipped(ev Unequipped) {
	to, rest := m.ledger.Rest(ev.Num)
	for _, s := range rest {
		i := slices.IndexFunc(ev.Items, func(it UnequippedItem) bool { return it.Array == s.Array })
		a := m.arrays[s.Array]
		if i < 0 || a == nil || !m.cfg.Branch {
			m.onBack(to, &Back{Share: s, Lost: true})
			continue
		}
		m.settleHeld(to, s, false)
		m.hold(a, -s.Elements.Len())
		m.disown(a, s.Elements)
		for _, lost := range []bool{false, true} {
			part := s.Elements.Minus(ev.Items[i].Tried)
			if lost {
				part = s.Elements.Intersect(ev.Items[i].Tried)
			}
			if !part.Empty() {
				m.out.GaveBack = append(m.out.GaveBack, GaveBack{branch.Share{Array: a.id, Elements: part}, lost})
			}
		}
		m.maybeDone(a)
	}
}

// tellParent notes that an element has started, if the parent wants to hear of it.
func (m *Machine) tellParent(e *elem) {
	if m.cfg.Branch && m.hasteOf(e.arr) == HasteEach {
		m.out.Began, m.out.Soon = append(m.out.Began, Began{e.arr.id, e.idx, e.idx}), true
	}
}

func appendGrant(num uint64, path string) []byte {
	return append(binary.AppendUvarint(nil, num), path...)
}

// insert puts an array's id into the order, once.
func (m *Machine) insert(id jobspec.ID) {
	if n := len(m.order); n == 0 || m.order[n-1] < id {
		m.order = append(m.order, id)
		return
	}
	if i, found := slices.BinarySearch(m.order, id); !found {
		m.order = slices.Insert(m.order, i, id)
	}
}
