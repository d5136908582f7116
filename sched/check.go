package sched

import (
	"fmt"

	"github.com/frond-hpc/frond/resource"
)

// Check verifies the machine's invariants: nothing is allocated twice, free and used make up each node, the queue is in order and
// its aggregates are right. It is for tests: it looks at everything.
func (m *Machine) Check() error {
	if err := m.inv.Check(); err != nil {
		return err
	}
	if err := m.checkRuns(); err != nil {
		return err
	}
	return m.checkQueue()
}

// checkRuns adds up all allocations and compares with what the inventory has in use.
func (m *Machine) checkRuns() error {
	used := make([]resource.NodeAlloc, m.inv.Len())
	running := 0
	for i := range m.runs {
		r := &m.runs[i]
		if r.alloc == nil {
			continue
		}
		running++
		for _, n := range r.alloc.Nodes {
			u := &used[n.Node]
			if n.GPUParts != nil { // the inventory refuses too much of one
				if u.Cores.Overlaps(n.Cores) {
					return fmt.Errorf("node %d: cores %v are allocated twice", n.Node, n.Cores)
				}
			} else if u.Cores.Overlaps(n.Cores) || u.GPUs.Overlaps(n.GPUs) {
				return fmt.Errorf("node %d: cores %v or gpus %v are allocated twice", n.Node, n.Cores, n.GPUs)
			}
			u.Cores, u.GPUs, u.MemMiB = u.Cores.Union(n.Cores), u.GPUs.Union(n.GPUs), u.MemMiB+n.MemMiB
		}
	}
	if running != m.running || running+len(m.idle) != len(m.runs) {
		return fmt.Errorf("%d allocations run, counted as %d, %d places are free of %d", running, m.running, len(m.idle), len(m.runs))
	}
	for i, u := range used {
		if got := m.inv.Used(i); !got.Cores.Equal(u.Cores) || !got.GPUs.Equal(u.GPUs) || got.MemMiB != u.MemMiB {
			return fmt.Errorf("node %d: in use %+v, allocations have %+v", i, got, u)
		}
	}
	return m.checkEnds()
}

func (m *Machine) checkEnds() error {
	live := 0
	for i, e := range m.ends.refs {
		if i > 0 && i < m.ends.sorted && m.ends.refs[i-1].end > e.end {
			return fmt.Errorf("expected ends %d and %d are out of order", i-1, i)
		}
		if r := &m.runs[e.place]; r.alloc != nil && r.gen == e.gen {
			live++
		}
	}
	if m.ends.on && live != m.running {
		return fmt.Errorf("%d expected ends for %d allocations", live, m.running)
	}
	return nil
}

func (m *Machine) checkQueue() error {
	queued := make(map[*Group]bool)
	for i, s := range m.shapes {
		if s.place != i || s.root == nil {
			return fmt.Errorf("shape at %d: place %d, empty %v", i, s.place, s.root == nil)
		}
		if err := checkTreap(s, s.root, queued); err != nil {
			return err
		}
		var last *Group
		for g := first(s.root, unlimited); g != nil; g = after(s.root, g, unlimited) {
			if last != nil && compare(last, g) >= 0 {
				return fmt.Errorf("groups %d and %d are out of order", last.ID, g.ID)
			}
			last = g
		}
	}
	refs := make(map[*shape]int)
	for id, g := range m.groups {
		refs[g.shape]++
		if g.ID != id || g.Count <= 0 || queued[g] != (g.Priority > 0 && !g.shape.invalid) {
			return fmt.Errorf("group %d: id %d, count %d, priority %d, queued %v", id, g.ID, g.Count, g.Priority, queued[g])
		}
		delete(queued, g)
	}
	for g := range queued {
		return fmt.Errorf("group %d is in the queue only", g.ID)
	}
	for _, s := range m.byKey {
		if refs[s] != s.refs {
			return fmt.Errorf("a shape has %d groups, counted as %d", refs[s], s.refs)
		}
	}
	if len(refs) != len(m.byKey) {
		return fmt.Errorf("%d shapes are in use, %d known", len(refs), len(m.byKey))
	}
	return nil
}

func checkTreap(s *shape, g *Group, seen map[*Group]bool) error {
	if g == nil {
		return nil
	}
	seen[g] = true
	want := g.Least
	for _, sub := range []*Group{g.left, g.right} {
		if sub == nil {
			continue
		}
		if sub.rank > g.rank {
			return fmt.Errorf("group %d: heap order", g.ID)
		}
		want = min(want, sub.shortest)
		if err := checkTreap(s, sub, seen); err != nil {
			return err
		}
	}
	if g.shape != s || g.shortest != want {
		return fmt.Errorf("group %d: shortest %v, want %v", g.ID, g.shortest, want)
	}
	return nil
}
