package sched_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/sched"
)

// model is a scheduler's book kept in the simplest way, to compare the machine with.
type model struct {
	nodes map[int]resource.Node
	up    map[int]bool
	queue map[sched.GroupID]*sched.GroupSpec
	runs  map[uint64]sched.Alloc
	hold  bool
	left  float64 // until the expiration; set before it is asked

	counters map[string]int64
	needs    map[uint64]jobspec.Request // of runs
}

func newModel() *model {
	return &model{nodes: map[int]resource.Node{}, up: map[int]bool{}, queue: map[sched.GroupID]*sched.GroupSpec{}, runs: map[uint64]sched.Alloc{},
		needs: map[uint64]jobspec.Request{}, left: math.Inf(1)}
}

// target is a node as constraints see it.
type target struct{ n resource.Node }

func (t target) Rank() int                 { return t.n.Index }
func (t target) Host() string              { return t.n.Name }
func (t target) HasProperty(p string) bool { return slices.Contains(t.n.Properties, p) }

type free struct {
	cores int
	gpus  map[int]int // hundredths that are free, by id
	mem   int64
	idle  bool
}

// whole counts gpus nothing of which is in use.
func (f *free) whole() int {
	n := 0
	for _, left := range f.gpus {
		if left == 100 {
			n++
		}
	}
	return n
}

// parts counts the slots of a part of a gpu each.
func (f *free) parts(part int) int {
	n := 0
	for _, left := range f.gpus {
		n += max(0, left) / part
	}
	return n
}

// gpuUse is what a part of an allocation takes of each gpu.
func gpuUse(p *resource.NodeAlloc) map[int]int {
	use := map[int]int{}
	for i, id := range p.GPUs.IDs() {
		use[id] = 100
		if p.GPUParts != nil {
			use[id] = (*p.GPUParts)[i]
		}
	}
	return use
}

// room is what is free on each node that is up when the given allocations run.
func (m *model) room(runs map[uint64]sched.Alloc) map[int]free {
	out := map[int]free{}
	for i, n := range m.nodes {
		if m.up[i] {
			out[i] = free{n.Cores.Count(), map[int]int{}, n.MemMiB, true}
			for _, id := range n.GPUs.IDs() {
				out[i].gpus[id] = 100
			}
		}
	}
	for _, r := range runs {
		for _, p := range r.Alloc.Nodes {
			if f, ok := out[p.Node]; ok {
				n := m.nodes[p.Node]
				for id, used := range gpuUse(&p) {
					if n.GPUs.Has(id) {
						f.gpus[id] -= used
					}
				}
				out[p.Node] = free{f.cores - p.Cores.Intersect(n.Cores).Count(), f.gpus, f.mem - p.MemMiB, false}
			}
		}
	}
	return out
}

// free is what is left of the counters when the given allocations run.
func (m *model) free(runs map[uint64]sched.Alloc) map[string]int64 {
	left := maps.Clone(m.counters)
	for id := range runs {
		req := m.needs[id]
		for _, c := range req.CounterList() {
			left[c.Name] -= c.N
		}
	}
	return left
}

// fits tells whether one job of g has room when the given allocations run.
func (m *model) fits(g *sched.GroupSpec, runs map[uint64]sched.Alloc) bool {
	left, r := m.free(runs), g.Request
	for _, c := range r.CounterList() {
		if c.N > left[c.Name] {
			return false
		}
	}
	nodes, slots := 0, 0
	for i, f := range m.room(runs) {
		if !g.Constraint.Match(target{m.nodes[i]}) {
			continue
		}
		k := f.cores / r.Cores
		if r.GPUs > 0 {
			k = min(k, f.whole()/r.GPUs)
		}
		if r.GPUPart > 0 {
			k = min(k, f.parts(r.GPUPart))
		}
		if r.MemMiB > 0 {
			k = min(k, int(f.mem/r.MemMiB))
		}
		slots += max(k, 0)
		if k >= r.Slots && (!r.Exclusive || f.idle) {
			nodes++
		}
	}
	if r.Nodes > 0 {
		return nodes >= r.Nodes
	}
	return slots >= r.Slots
}

// shadow is the earliest time when a job of g fits, by expected ends; +Inf = unknown or never.
func (m *model) shadow(g *sched.GroupSpec, runs map[uint64]sched.Alloc, now float64) float64 {
	left := map[uint64]sched.Alloc{}
	var ends []float64
	for id, r := range runs {
		left[id] = r
		if r.End > 0 {
			ends = append(ends, r.End)
		}
	}
	slices.Sort(ends)
	for _, t := range ends {
		for id, r := range left {
			if r.End > 0 && r.End <= t {
				delete(left, id)
			}
		}
		if m.fits(g, left) {
			return max(now, t)
		}
	}
	return math.Inf(1)
}

// order is the queue without held groups, and without those that could not end before the expiration.
func (m *model) order() []*sched.GroupSpec {
	var q []*sched.GroupSpec
	for _, g := range m.queue {
		if g.Priority > 0 && m.endsInTime(g) {
			q = append(q, g)
		}
	}
	slices.SortFunc(q, func(a, b *sched.GroupSpec) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Order, b.Order), cmp.Compare(a.ID, b.ID))
	})
	return q
}

func (m *model) endsInTime(g *sched.GroupSpec) bool { return m.left > 0 && least(g) <= m.left }

// least is the shortest duration with which a group may start; 0 = it has no limit.
func least(g *sched.GroupSpec) float64 {
	if g.MinLength > 0 {
		return min(g.Duration, g.MinLength)
	}
	return g.Duration
}

// started books an allocation, or says what is wrong with it.
func (m *model) started(a sched.Alloc, now float64) error {
	g := m.queue[a.Group]
	switch {
	case g == nil || g.Count == 0:
		return fmt.Errorf("group %d has no pending job", a.Group)
	case !m.endsInTime(g) || a.End > now+m.left+1e-6:
		return fmt.Errorf("group %d ends after the instance", a.Group)
	case g.Priority == 0 || m.hold:
		return fmt.Errorf("group %d is held", a.Group)
	case g.Duration > 0 && a.End != now+g.Duration && !shortened(g, a.End-now) || g.Duration == 0 && a.End != 0:
		return fmt.Errorf("group %d: end %v at %v, duration %v", a.Group, a.End, now, g.Duration)
	}
	if _, dup := m.runs[a.ID]; dup || a.ID>>63 != 0 {
		return fmt.Errorf("id %d is used or has the top bit set", a.ID)
	}
	if err := m.rightShape(a, g); err != nil {
		return err
	}
	for id, r := range m.runs {
		if overlap(r.Alloc, a.Alloc) {
			return fmt.Errorf("%d and %d overlap", id, a.ID)
		}
	}
	m.runs[a.ID], m.needs[a.ID] = a, g.Request
	for name, n := range m.free(m.runs) {
		if n < 0 {
			return fmt.Errorf("counter %s is oversubscribed", name)
		}
	}
	for i, f := range m.room(m.runs) {
		if f.mem < 0 {
			return fmt.Errorf("memory of node %d is oversubscribed", i)
		}
		for id, left := range f.gpus {
			if left < 0 {
				return fmt.Errorf("gpu %d of node %d is oversubscribed", id, i)
			}
		}
	}
	if g.Count--; g.Count == 0 {
		delete(m.queue, g.ID)
	}
	return nil
}

func (m *model) rightShape(a sched.Alloc, g *sched.GroupSpec) error {
	r, slots, last := g.Request, 0, -1
	for _, p := range a.Alloc.Nodes {
		n := m.nodes[p.Node]
		slots += p.Slots
		switch {
		case p.Node <= last:
			return fmt.Errorf("nodes are not ascending")
		case !m.up[p.Node]:
			return fmt.Errorf("node %d is not up", p.Node)
		case !g.Constraint.Match(target{n}):
			return fmt.Errorf("node %d does not match", p.Node)
		case !p.Cores.Minus(n.Cores).Empty() || !p.GPUs.Minus(n.GPUs).Empty():
			return fmt.Errorf("node %d does not have that", p.Node)
		case r.Exclusive && (!p.Cores.Equal(n.Cores) || !p.GPUs.Equal(n.GPUs)):
			return fmt.Errorf("node %d is not whole", p.Node)
		case !r.Exclusive && (p.Cores.Count() != p.Slots*r.Cores || !rightGPUs(&p, &r) || p.MemMiB != int64(p.Slots)*r.MemMiB):
			return fmt.Errorf("node %d: %+v for %+v", p.Node, p, r)
		case r.Nodes > 0 && p.Slots != r.Slots:
			return fmt.Errorf("node %d has %d slots", p.Node, p.Slots)
		}
		last = p.Node
	}
	if slots != r.TotalSlots() || r.Nodes > 0 && len(a.Alloc.Nodes) != r.Nodes || a.Alloc.Exclusive != r.Exclusive {
		return fmt.Errorf("%d slots on %d nodes for %+v", slots, len(a.Alloc.Nodes), r)
	}
	return nil
}

// rightGPUs tells whether a part of an allocation has the gpus that the request asks for; no slot may span two.
func rightGPUs(p *resource.NodeAlloc, r *jobspec.Request) bool {
	if r.GPUPart == 0 {
		return p.GPUs.Count() == p.Slots*r.GPUs && p.GPUParts == nil
	}
	slots := 0
	for _, used := range gpuUse(p) {
		if used%r.GPUPart != 0 || used > 100 {
			return false
		}
		slots += used / r.GPUPart
	}
	return slots == p.Slots
}

func overlap(a, b *resource.Alloc) bool {
	for _, x := range a.Nodes {
		for _, y := range b.Nodes {
			if x.Node == y.Node && (x.Cores.Overlaps(y.Cores) || x.GPUs.Overlaps(y.GPUs) && (x.GPUParts == nil || y.GPUParts == nil)) {
				return true
			}
		}
	}
	return false
}

// possible tells whether a job of g fits when nothing runs.
func (m *model) possible(g *sched.GroupSpec) bool { return m.fits(g, nil) }

// feasible is possible with all nodes up.
func (m *model) feasible(g *sched.GroupSpec) bool {
	all := *m
	all.up = map[int]bool{}
	for i := range m.nodes {
		all.up[i] = true
	}
	return all.possible(g)
}

func request(nodes, slots, cores int) jobspec.Request {
	return jobspec.Request{Nodes: nodes, Slots: slots, Cores: cores}
}

// shortened tells whether g may start with a limit of so many seconds although it asked for more.
func shortened(g *sched.GroupSpec, length float64) bool {
	return g.MinLength > 0 && length > g.MinLength-1e-6 && length < g.Duration
}
