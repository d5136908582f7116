package sched

import (
	"cmp"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
)

// Group is an entry of the queue: Count pending jobs that are alike. Policies read it.
type Group struct {
	ID       GroupID
	Order    uint64
	Duration float64 // seconds; +Inf = unlimited
	Least    float64 // the shortest duration it may start with: Duration, unless it asked for less
	Count    int
	Priority uint32

	rank        uint32 // heap order of the treap
	left, right *Group
	shortest    float64 // Least in this subtree
	shape       *shape
}

// shape is the groups that ask for the same.
type shape struct {
	key        shapeKey
	need       resource.Need
	constraint *jobspec.Constraint
	cond       *cond
	counts     []countNeed
	inv        *resource.Inventory
	refs       int    // groups, held ones too
	root       *Group // treap of those that are not held
	place      int    // in Machine.shapes; -1 = not there
	invalid    bool   // the request is one that no jobspec has: never starts

	noFit      uint64 // Machine.grown when it was found that there is no room: true until that changes
	possibleAt uint64 // Machine.topology when possible was found
	possible   bool
}

type shapeKey struct {
	req     jobspec.Request
	c       string
	endless bool // its groups have no limit at all: Least is +Inf
}

// compare orders groups as the queue does.
func compare(a, b *Group) int {
	switch { // a hot spot: cmp.Or would make all three comparisons
	case a.Priority != b.Priority:
		return cmp.Compare(b.Priority, a.Priority)
	case a.Order != b.Order:
		return cmp.Compare(a.Order, b.Order)
	}
	return cmp.Compare(a.ID, b.ID)
}

func (m *Machine) submit(s *GroupSpec) {
	if s.Count <= 0 {
		return
	}
	if g := m.groups[s.ID]; g != nil {
		g.Count += s.Count
		return
	}
	g := &Group{ID: s.ID, Order: s.Order, Duration: s.Duration, Count: s.Count, Priority: s.Priority, rank: scramble(uint64(s.ID))}
	if g.Duration <= 0 {
		g.Duration = unlimited
	}
	if g.Least = g.Duration; s.MinLength > 0 {
		g.Least = min(g.Duration, s.MinLength)
	}
	g.shape = m.shapeOf(s.Request, s.Constraint, g.Least == unlimited)
	g.shape.refs++
	m.groups[g.ID] = g
	m.enqueue(g)
}

func (m *Machine) shapeOf(req jobspec.Request, c *jobspec.Constraint, endless bool) *shape {
	key := shapeKey{req, c.Key(), endless}
	s := m.byKey[key]
	if s == nil {
		s = &shape{key: key, need: resource.NeedOf(req), constraint: c, place: -1, inv: m.inv}
		s.cond = m.useCond(c, key.c)
		s.counts = m.counts.needsOf(&req)
		s.invalid = s.need.Valid() != nil
		m.byKey[key] = s
	}
	return s
}

// enqueue puts a group into its shape's order, unless it is held.
func (m *Machine) enqueue(g *Group) {
	s := g.shape
	if g.Priority == 0 || s.invalid {
		return
	}
	s.root = insert(s.root, g)
	if s.place < 0 {
		s.place = len(m.shapes)
		m.shapes = append(m.shapes, s)
	}
}

func (m *Machine) dequeue(g *Group) {
	s := g.shape
	if s.place < 0 || g.Priority == 0 {
		return
	}
	s.root = remove(s.root, g)
	if s.root != nil {
		return
	}
	last := m.shapes[len(m.shapes)-1]
	m.shapes[s.place], last.place = last, s.place
	m.shapes[len(m.shapes)-1] = nil
	m.shapes = m.shapes[:len(m.shapes)-1]
	s.place = -1
}

// drop takes a group out for good.
func (m *Machine) drop(g *Group) {
	m.dequeue(g)
	delete(m.groups, g.ID)
	m.leaveShape(g.shape)
}

func (m *Machine) leaveShape(s *shape) {
	if s.refs--; s.refs == 0 {
		m.dropCond(s.cond)
		delete(m.byKey, s.key)
	}
}

func (m *Machine) setPriority(e SetPriority) {
	g := m.groups[e.ID]
	if g == nil || g.Priority == e.Priority {
		return
	}
	m.dequeue(g)
	g.Priority = e.Priority
	m.enqueue(g)
}

func (m *Machine) cancel(e Cancel) {
	g := m.groups[e.ID]
	if g == nil || e.Count <= 0 {
		return
	}
	if g.Count -= e.Count; g.Count <= 0 {
		m.drop(g)
	}
}

// scramble is the finalizer of splitmix64: a fixed, well mixed number for each id.
func scramble(x uint64) uint32 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return uint32(x >> 32)
}

// The groups of a shape form a treap in queue order. Each knows the shortest duration below it, so that the next group that
// ends in time is found without a look at the ones between.

func (g *Group) update() {
	g.shortest = g.Least
	if g.left != nil {
		g.shortest = min(g.shortest, g.left.shortest)
	}
	if g.right != nil {
		g.shortest = min(g.shortest, g.right.shortest)
	}
}

func insert(t, g *Group) *Group {
	switch {
	case t == nil:
		t = g
	case g.rank > t.rank:
		g.left, g.right = split(t, g)
		t = g
	case compare(g, t) < 0:
		t.left = insert(t.left, g)
	default:
		t.right = insert(t.right, g)
	}
	t.update()
	return t
}

// split parts t into what stands before at and what does not.
func split(t, at *Group) (l, r *Group) {
	if t == nil {
		return nil, nil
	}
	if compare(t, at) < 0 {
		t.right, r = split(t.right, at)
		l = t
	} else {
		l, t.left = split(t.left, at)
		r = t
	}
	t.update()
	return l, r
}

// remove takes g, which is in t, out.
func remove(t, g *Group) *Group {
	switch c := compare(g, t); {
	case c == 0:
		t = merge(g.left, g.right)
		g.left, g.right = nil, nil
		return t
	case c < 0:
		t.left = remove(t.left, g)
	default:
		t.right = remove(t.right, g)
	}
	t.update()
	return t
}

// merge joins two treaps, all of l before all of r.
func merge(l, r *Group) *Group {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.rank > r.rank:
		l.right = merge(l.right, r)
		l.update()
		return l
	}
	r.left = merge(l, r.left)
	r.update()
	return r
}

// first is the first group of t with a Least of at most within, or nil.
func first(t *Group, within float64) *Group {
	for t != nil && t.shortest <= within {
		if t.left != nil && t.left.shortest <= within {
			t = t.left
		} else if t.Least <= within {
			return t
		} else {
			t = t.right
		}
	}
	return nil
}

// after is the first group of t that stands after g (which need not be in t any more) with a Least of at most within, or nil.
func after(t, g *Group, within float64) *Group {
	if t == nil || t.shortest > within {
		return nil
	}
	if compare(t, g) <= 0 {
		return after(t.right, g, within)
	}
	if x := after(t.left, g, within); x != nil {
		return x
	}
	if t.Least <= within {
		return t
	}
	return first(t.right, within)
}
