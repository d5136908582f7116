package job

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sort"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
)

// View is one active element as a reader sees it. Pointers in it are shared and immutable.
type View struct {
	ID      jobspec.ID
	Row     *ArrayRow
	Spec    *Spec
	Env     *Env
	Index   int
	Count   int // > 1: a run of pending elements that stand for one row, beginning with Index
	CC      string
	Fold    State
	Res     *resource.Alloc // nil = none
	Log     []byte
	NTasks  int
	Pending bool
	Limit   float64 // seconds that it may run from Fold.TRun on; 0 = no limit
}

// Lookup tells whether id names something active: an element (index ≥ 0), or a whole array (index -1).
func (m *Machine) Lookup(id jobspec.ID) (arr jobspec.ID, n, index int, ok bool) {
	a, idx := m.find(id)
	if a == nil || !a.durable {
		return 0, 0, 0, false
	}
	return a.id, a.n, idx, true
}

// Array returns the counts of an unfinished array.
func (m *Machine) Array(id jobspec.ID) (*ArrayState, bool) {
	a := m.arrays[id]
	if a == nil {
		return nil, false
	}
	return a.state(), true
}

// Row returns the submission of an unfinished array.
func (m *Machine) Row(id jobspec.ID) (*ArrayRow, *Spec, *Env, bool) {
	a := m.arrays[id]
	if a == nil {
		return nil, nil, nil, false
	}
	return a.row(), a.spec, a.env, true
}

// Arrays returns the ids of the unfinished, durable arrays in order of submission.
func (m *Machine) Arrays() []jobspec.ID {
	var ids []jobspec.ID
	for _, id := range m.order {
		if a := m.arrays[id]; a != nil && a.durable && !m.system[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// maxUrgency is the highest urgency.
const maxUrgency = 31

// InOrder calls f for the unfinished, durable arrays in the order of the queue, by priority and id, until f returns false. It begins with
// those of priority prio, there with the array that holds the id from. What lies before costs nothing, and a priority that no array has
// neither.
func (m *Machine) InOrder(prio uint32, from jobspec.ID, f func(arr jobspec.ID) bool) {
	for u := maxUrgency; u >= 0; u-- {
		left := m.levels[u]
		if left == 0 || Priority(u) > prio {
			continue
		}
		at := 0
		if Priority(u) == prio {
			at = max(0, sort.Search(len(m.order), func(i int) bool { return m.order[i] > from })-1)
		}
		for ; at < len(m.order) && left > 0; at++ {
			a := m.arrays[m.order[at]]
			if a == nil || int(a.urgency) != u {
				continue
			}
			left--
			if a.durable && !m.system[a.id] && !f(a.id) {
				return
			}
		}
	}
}

// View returns one element; ok is false if it is not active.
func (m *Machine) View(arr jobspec.ID, idx int) (View, bool) {
	a := m.arrays[arr]
	if a == nil {
		return View{}, false
	}
	if e := a.get(idx); e != nil {
		return a.view(a.row(), e), true
	}
	if _, e := a.waiting(idx); e != nil {
		return a.view(a.row(), e), true
	}
	if a.isPending(idx) {
		return a.pendingView(a.row(), idx, 1), true
	}
	return View{}, false
}

// EachRunning calls f for the active elements of an array by index.
func (m *Machine) EachRunning(arr jobspec.ID, f func(View)) {
	if a := m.arrays[arr]; a != nil {
		row := a.row()
		for _, e := range a.sortedActive() {
			f(a.view(row, e))
		}
	}
}

// EachPending calls f for the elements of an array that wait, by id from the given one on, until f returns false; then it returns
// false. With collapse those that never ran come as one View.
func (m *Machine) EachPending(arr, from jobspec.ID, collapse bool, f func(View) bool) bool {
	a := m.arrays[arr]
	if a == nil {
		return true
	}
	row := a.row()
	if n := a.pending - len(a.again); collapse && n > 0 {
		if v := a.pendingView(row, a.firstPending(), n); v.ID >= from && !f(v) {
			return false
		}
	}
	idx := a.next
	if first := a.idOf(0); from > first {
		idx = max(idx, int(from-first))
	}
	if collapse {
		idx = a.n
	}
	for _, e := range a.again {
		for ; idx < e.idx; idx++ {
			if a.isPending(idx) && !f(a.pendingView(row, idx, 1)) {
				return false
			}
		}
		if e.id() >= from && !f(a.view(row, e)) {
			return false
		}
	}
	for ; idx < a.n; idx++ {
		if a.isPending(idx) && !f(a.pendingView(row, idx, 1)) {
			return false
		}
	}
	return true
}

func (a *array) firstPending() int {
	idx := a.next
	for _, s := range a.skip {
		if s.Lo > idx {
			break
		}
		idx = max(idx, s.Hi+1)
	}
	return idx
}

func (a *array) pendingView(row *ArrayRow, idx, n int) View {
	id := a.idOf(idx)
	if n > 1 {
		id = a.id
	}
	return View{ID: id, Row: row, Spec: a.spec, Env: a.env, Index: idx, Count: n, CC: a.cc(idx), Pending: true, Limit: a.limit, NTasks: NTasks(a.spec.Job),
		Fold: State{State: a.pendingState(idx, n), Status: -1, Attempt: 1}}
}

func (a *array) view(row *ArrayRow, e *elem) View {
	v := View{ID: e.id(), Row: row, Spec: a.spec, Env: a.env, Index: e.idx, Count: 1, CC: a.cc(e.idx), Res: e.res, Log: e.log.buf, NTasks: NTasks(a.spec.Job),
		Pending: e.state == jobspec.StateSched, Limit: e.limit}
	v.Fold = State{State: e.state, Status: e.status, Attempt: e.attempt, TRun: e.tRun, Exc: e.exc}
	if v.Pending {
		v.Fold.State = a.pendingState(e.idx, 1)
	}
	if e.state == jobspec.StateInactive { // its end is not durable yet
		v.Fold.State = jobspec.StateCleanup
	}
	return v
}

// Watch has Touched and Streamed tell of an array's elements (index -1) or of one element from now on.
func (m *Machine) Watch(arr jobspec.ID, idx int) {
	a := m.arrays[arr]
	if a == nil {
		return
	}
	a.watched = true // elements take it from their array when they start
	if e := a.get(idx); idx >= 0 && e != nil {
		e.watched = true
	}
	if _, e := a.waiting(idx); idx >= 0 && e != nil {
		e.watched = true
	}
}

// Follow has Finished and Streamed tell of all elements of an array from now on, or no longer.
func (m *Machine) Follow(arr jobspec.ID, on bool) {
	if a := m.arrays[arr]; a != nil {
		a.follow = on
	}
}

// Run returns where an element runs, for input; ok is false if it does not run.
func (m *Machine) Run(arr jobspec.ID, idx int) (key RunKey, ranks []int32, sessions []uint64, ok bool) {
	a := m.arrays[arr]
	if a == nil {
		return key, nil, nil, false
	}
	e := a.get(idx)
	if e == nil || e.state != jobspec.StateRun {
		return key, nil, nil, false
	}
	for i := range e.parts {
		ranks = append(ranks, e.parts[i].rank)
		sessions = append(sessions, m.rank(e.parts[i].rank).session)
	}
	return e.key(), ranks, sessions, true
}

// NTasks is how many tasks a job asks for, as far as that is known before it has resources.
func NTasks(j *jobspec.Jobspec) int {
	switch {
	case j.TaskCount.Total > 0:
		return j.TaskCount.Total
	case j.TaskCount.PerNode > 0:
		return j.TaskCount.PerNode * max(j.Request.Nodes, 1)
	case j.TaskCount.PerCore > 0:
		return j.TaskCount.PerCore * j.Request.TotalSlots() * j.Request.Cores
	}
	return max(j.TaskCount.PerSlot, 1) * j.Request.TotalSlots()
}

// Check returns the first broken invariant. It is for tests: it looks at everything.
func (m *Machine) Check() error {
	pending, running := 0, 0
	var levels [maxUrgency + 1]int
	for _, id := range m.order {
		a := m.arrays[id]
		if a == nil {
			continue
		}
		if err := a.check(); err != nil {
			return fmt.Errorf("array %v: %w", id, err)
		}
		levels[a.urgency]++
		pending += a.pending
		running += a.n - a.pending - a.durably - a.foreign.Len()
	}
	if !reflect.DeepEqual(m.none, extra{shared: true}) {
		return errors.New("what arrays share has been written to")
	}
	if levels != m.levels {
		return fmt.Errorf("arrays by urgency: %v, counted as %v", levels, m.levels)
	}
	if pending != m.totals.Pending || running != m.totals.Running {
		return fmt.Errorf("totals %+v, but %d pending and %d running", m.totals, pending, running)
	}
	if err := m.checkHeld(); err != nil {
		return err
	}
	for _, id := range sortedRanks(m.ranks) {
		for e := range m.ranks[id].runs {
			if e.state != jobspec.StateRun || e.part(id) == nil || e.part(id).ended {
				return fmt.Errorf("rank %d holds %v, which has nothing there", id, e.id())
			}
		}
	}
	return nil
}

func (a *array) check() error {
	if err := a.checkDepends(); err != nil {
		return err
	}
	n := 0
	for idx := a.next; idx < a.n && a.n <= 10000; idx++ {
		if !a.skipped(idx) {
			n++
		}
	}
	if i := slices.IndexFunc(a.again, func(e *elem) bool { return e.state != jobspec.StateSched }); i >= 0 {
		return fmt.Errorf("element %d waits to start again in state %v", a.again[i].idx, a.again[i].state)
	}
	if a.n <= 10000 && n+len(a.again) != a.pending {
		return fmt.Errorf("%d pending, counted %d", a.pending, n+len(a.again))
	}
	if int(a.asked) > a.pending {
		return fmt.Errorf("the scheduler is asked for %d elements, %d are pending", a.asked, a.pending)
	}
	for _, e := range a.sortedActive() {
		if e.state != jobspec.StateRun && e.state != jobspec.StateInactive {
			return fmt.Errorf("element %d is active in state %v", e.idx, e.state)
		}
		if err := e.check(); err != nil {
			return fmt.Errorf("element %d: %w", e.idx, err)
		}
	}
	if a.params != nil {
		if err := a.params.check(); err != nil {
			return err
		}
	}
	if a.ended < a.durably || a.ended > a.n {
		return fmt.Errorf("%d ended, %d durably, of %d", a.ended, a.durably, a.n)
	}
	return nil
}

// check compares the element with the fold over its log.
func (e *elem) check() error {
	if e.adopted {
		return nil // its log begins with its adoption
	}
	s, err := Fold(int(e.arr.given), e.arr.submit, e.log.buf)
	if err != nil {
		return err
	}
	if s.Attempt != e.attempt && e.arr.hi == 0 {
		return fmt.Errorf("attempt %d, the log says %d", e.attempt, s.Attempt)
	}
	if (s.State == jobspec.StateInactive) != (e.state == jobspec.StateInactive) {
		return fmt.Errorf("state %v, the log says %v", e.state, s.State)
	}
	return nil
}

// Named returns the latest of the active, durable arrays with a name.
func (m *Machine) Named(name string) (id jobspec.ID, n int, ok bool) {
	for _, id := range slices.Backward(m.order) {
		if a := m.arrays[id]; a != nil && a.durable && a.spec.Job.Name == name {
			return id, a.n, true
		}
	}
	return 0, 0, false
}
