package sched_test

import (
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/sched"
	"github.com/frond-hpc/frond/sched/easy"
	"github.com/frond-hpc/frond/sched/fcfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// run drives the machine and the model with the same random events.
type run struct {
	*rapid.T
	m      *sched.Machine
	book   *model
	now    float64
	nextID sched.GroupID
	easy   bool
	limit  int
	ends   float64 // of the instance; +Inf = unknown
}

func TestEasyAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { drive(t, easy.Policy{}, true) })
}

func TestFCFSAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { drive(t, fcfs.Policy{}, false) })
}

func drive(t *rapid.T, p sched.Policy, isEasy bool) {
	r := &run{T: t, book: newModel(), now: 1000, ends: math.Inf(1), easy: isEasy, limit: rapid.SampledFrom([]int{3, 1000}).Draw(t, "limit")}
	r.book.counters = map[string]int64{"a": rapid.Int64Range(1, 4).Draw(t, "a"), "b": 2}
	r.m = sched.New(sched.Config{Policy: p, MaxAllocs: r.limit, Counters: resource.Counters{{Name: "a", N: r.book.counters["a"]}, {Name: "b", N: 2}}})
	for i := range rapid.IntRange(1, 5).Draw(t, "nodes") {
		r.addNode(i)
	}
	for range rapid.IntRange(1, 50).Draw(t, "steps") {
		r.event()
		require.NoError(t, r.m.Check())
		r.pass()
	}
	r.end()
}

func (r *run) node(i int) resource.Node {
	n := resource.Node{Index: i, Name: string(rune('a' + i)), MemMiB: rapid.Int64Range(0, 4).Draw(r.T, "mem")}
	n.Cores = resource.MaskRange(0, rapid.SampledFrom([]int{0, 1, 3, 66}).Draw(r.T, "cores"))
	n.GPUs = resource.MaskRange(0, rapid.IntRange(-1, 1).Draw(r.T, "gpus"))
	if rapid.Bool().Draw(r.T, "ssd") {
		n.Properties = []string{"ssd"}
	}
	return n
}

func (r *run) addNode(i int) {
	n := r.node(i)
	if _, known := r.book.nodes[i]; !known {
		r.book.up[i] = true
	}
	r.book.nodes[i] = n
	r.step(sched.Nodes{Add: []resource.Node{n}})
}

func (r *run) event() {
	switch op := rapid.IntRange(0, 13).Draw(r.T, "op"); op {
	case 0, 1, 2, 3:
		r.submit()
	case 4, 5, 6:
		r.now += rapid.Float64Range(0, 20).Draw(r.T, "pause")
		r.finish()
	case 7:
		r.nodes()
	case 8:
		r.book.hold = rapid.Bool().Draw(r.T, "hold")
		r.step(sched.Hold{Hold: r.book.hold})
	case 9:
		if g := r.some(); g != nil {
			g.Priority = rapid.Uint32Range(0, 3).Draw(r.T, "priority")
			r.step(sched.SetPriority{ID: g.ID, Priority: g.Priority})
		}
	case 10:
		if g := r.some(); g != nil {
			n := rapid.IntRange(1, 4).Draw(r.T, "cancel")
			if g.Count -= n; g.Count <= 0 {
				delete(r.book.queue, g.ID)
			}
			r.step(sched.Cancel{ID: g.ID, Count: n})
		}
	case 11:
		if g := r.some(); g != nil {
			g.Count++
			more := *g
			more.Count = 1
			r.step(sched.Submit{Groups: []sched.GroupSpec{more}})
		}
	case 12:
		r.now += 1
	case 13:
		at := rapid.SampledFrom([]float64{0, -1, 4, 20, 60, 200}).Draw(r.T, "expiration")
		if r.ends = math.Inf(1); at != 0 {
			at += r.now
			r.ends = at
		}
		r.step(sched.SetExpiration{At: at})
	}
}

func (r *run) some() *sched.GroupSpec {
	ids := slices.Sorted(maps.Keys(r.book.queue))
	if len(ids) == 0 {
		return nil
	}
	return r.book.queue[rapid.SampledFrom(ids).Draw(r.T, "group")]
}

func (r *run) submit() {
	var groups []sched.GroupSpec
	for range rapid.IntRange(1, 3).Draw(r.T, "groups") {
		r.nextID++
		g := sched.GroupSpec{ID: r.nextID, Order: uint64(r.nextID), Priority: rapid.SampledFrom([]uint32{0, 16, 16, 16, 17}).Draw(r.T, "prio"),
			Count: rapid.IntRange(1, 5).Draw(r.T, "count"), Duration: rapid.SampledFrom([]float64{0, 5, 10, 30, 100}).Draw(r.T, "duration")}
		g.Request = jobspec.Request{Nodes: rapid.IntRange(0, 3).Draw(r.T, "n"), Slots: rapid.IntRange(1, 4).Draw(r.T, "slots"),
			Cores: rapid.SampledFrom([]int{1, 1, 2}).Draw(r.T, "c"), GPUs: rapid.SampledFrom([]int{0, 0, 1}).Draw(r.T, "g"), MemMiB: rapid.SampledFrom([]int64{0, 0, 1}).Draw(r.T, "m")}
		if g.Request.GPUs == 0 {
			g.Request.GPUPart = rapid.SampledFrom([]int{0, 0, 0, 25, 40, 50, 60}).Draw(r.T, "part")
		}
		g.Request.Exclusive = g.Request.Nodes > 0 && rapid.IntRange(0, 3).Draw(r.T, "x") == 0
		if rapid.IntRange(0, 3).Draw(r.T, "constrained") == 0 {
			g.Constraint = &jobspec.Constraint{Op: "properties", Names: []string{rapid.SampledFrom([]string{"ssd", "^ssd"}).Draw(r.T, "property")}}
		}
		g.Request.Counters = rapid.SampledFrom([]string{"", "", "", "a=1", "a=2", "a=1,b=1", "b=2"}).Draw(r.T, "counters")
		if g.Duration > 5 && rapid.IntRange(0, 2).Draw(r.T, "short") == 0 {
			g.MinLength = rapid.SampledFrom([]float64{3, 10}).Draw(r.T, "least")
		}
		groups = append(groups, g)
		own := g
		r.book.queue[g.ID] = &own
	}
	r.step(sched.Submit{Groups: groups})
}

// finish ends what is due, and some other allocations early.
func (r *run) finish() {
	var ids []uint64
	for _, id := range slices.Sorted(maps.Keys(r.book.runs)) {
		a := r.book.runs[id]
		if a.End > 0 && a.End <= r.now || rapid.IntRange(0, 3).Draw(r.T, "early") == 0 {
			ids = append(ids, id)
			delete(r.book.runs, id)
		}
	}
	r.step(sched.Free{IDs: ids})
}

func (r *run) nodes() {
	i := rapid.IntRange(0, 5).Draw(r.T, "which")
	_, known := r.book.nodes[i]
	switch rapid.IntRange(0, 3).Draw(r.T, "what") {
	case 0:
		r.book.up[i] = known
		r.step(sched.Nodes{Up: []int{i}})
	case 1:
		r.book.up[i] = false
		r.step(sched.Nodes{Down: []int{i}})
	case 2:
		r.remove(i)
	case 3:
		for _, a := range r.book.runs { // a node's cores do not change while some are in use
			for _, p := range a.Alloc.Nodes {
				if p.Node == i {
					return
				}
			}
		}
		r.addNode(i)
	}
}

// remove takes a node away: exactly the groups that could run before and cannot now are denied.
func (r *run) remove(i int) {
	could := map[sched.GroupID]bool{}
	for id, g := range r.book.queue {
		could[id] = r.book.feasible(g)
	}
	delete(r.book.nodes, i)
	r.book.up[i] = false
	denied := map[sched.GroupID]bool{}
	for _, a := range r.m.Step(r.now, sched.Nodes{Remove: []int{i}}) {
		if d, ok := a.(sched.Deny); ok {
			require.NotEmpty(r.T, d.Reason)
			denied[d.ID] = true
		}
	}
	for id, g := range r.book.queue {
		require.Equal(r.T, !r.book.hold && could[id] && !r.book.feasible(g), denied[id], "group %d denied", id)
		if denied[id] {
			delete(r.book.queue, id)
		}
	}
}

func (r *run) step(ev any) {
	for _, a := range r.m.Step(r.now, ev) {
		if w, ok := a.(sched.Wake); ok {
			require.LessOrEqual(r.T, w.At, r.now)
			continue
		}
		r.T.Fatalf("unexpected %T", a)
	}
}

// pass runs passes until the machine wants no more, and looks at what was started and what was not.
func (r *run) pass() {
	r.book.left = r.ends - r.now
	reasons := r.m.Reasons(r.now, nil, true)
	require.NoError(r.T, r.m.Check())
	_ = reasons
	before := maps.Clone(r.book.runs)
	order := r.book.order()
	var allocs []sched.Alloc
	for more := true; more; {
		more = false
		for _, a := range r.m.Step(r.now, sched.RunPass{}) {
			switch a := a.(type) {
			case sched.Allocs:
				require.LessOrEqual(r.T, len(a.Allocs), r.limit)
				allocs = append(allocs, a.Allocs...)
			case sched.Wake:
				require.Equal(r.T, r.now, a.At)
				more = true
			}
		}
		require.NoError(r.T, r.m.Check())
	}
	for _, a := range allocs {
		require.NoError(r.T, r.book.started(a, r.now))
	}
	for _, c := range r.m.Counters() {
		require.Equal(r.T, r.book.free(r.book.runs)[c.Name], c.Total-c.Used, "counter %s", c.Name)
	}
	if r.book.hold {
		require.Empty(r.T, allocs)
		return
	}
	if r.easy {
		r.checkEasy(before, order, allocs)
	} else {
		r.checkFCFS(order, allocs)
	}
}

// checkFCFS: the first group that waits has no room, and none behind it has started.
func (r *run) checkFCFS(order []*sched.GroupSpec, allocs []sched.Alloc) {
	left := r.book.order()
	if len(left) == 0 {
		return
	}
	head := left[0]
	require.False(r.T, r.book.fits(head, r.book.runs), "group %d has room", head.ID)
	at := slices.IndexFunc(order, func(g *sched.GroupSpec) bool { return g.ID == head.ID })
	for _, a := range allocs {
		pos := slices.IndexFunc(order, func(g *sched.GroupSpec) bool { return g.ID == a.Group })
		require.LessOrEqual(r.T, pos, at, "group %d started before %d", a.Group, head.ID)
	}
}

// checkEasy: the head has no room, is not delayed by what started behind it, and nothing waits that could go first without harm.
func (r *run) checkEasy(before map[uint64]sched.Alloc, order []*sched.GroupSpec, allocs []sched.Alloc) {
	var head *sched.GroupSpec
	for _, g := range r.book.order() {
		if r.book.possible(g) {
			head = g
			break
		}
	}
	if head == nil {
		return
	}
	require.False(r.T, r.book.fits(head, r.book.runs), "group %d has room", head.ID)
	at := slices.IndexFunc(order, func(g *sched.GroupSpec) bool { return g.ID == head.ID })
	for _, a := range allocs { // what was started in order belongs to the state before backfilling
		pos := slices.IndexFunc(order, func(g *sched.GroupSpec) bool { return g.ID == a.Group })
		if pos <= at {
			before[a.ID] = a
		}
	}
	if head.Request.GPUPart > 0 { // the machine knows too little of shared gpus to promise the earliest time
		return
	}
	promised := r.book.shadow(head, before, r.now)
	require.LessOrEqual(r.T, r.book.shadow(head, r.book.runs, r.now), promised, "group %d is delayed", head.ID)
	for _, g := range r.book.order() {
		if g != head && least(g) > 0 && least(g) <= promised-r.now {
			require.False(r.T, r.book.fits(g, r.book.runs), "group %d could go before %d", g.ID, head.ID)
		}
	}
	if est := r.m.Reasons(r.now, []sched.GroupID{head.ID}, false)[0].Estimate; !math.IsInf(promised, 1) && promised+least(head) <= r.ends && promised < r.ends {
		require.LessOrEqual(r.T, est, promised)
		require.Positive(r.T, est)
	}
}

// end frees everything; all must come back.
func (r *run) end() {
	r.step(sched.Hold{Hold: true})
	r.step(sched.Free{IDs: slices.Sorted(maps.Keys(r.book.runs))})
	for _, id := range slices.Sorted(maps.Keys(r.book.queue)) {
		r.step(sched.Cancel{ID: id, Count: 1000})
	}
	require.NoError(r.T, r.m.Check())
	require.Empty(r.T, r.m.Used())
	require.Zero(r.T, r.m.Pending()+r.m.Running())
}
