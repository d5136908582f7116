package sched

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
)

// run is one running allocation. Its id is generation<<32 | place, so that no table is needed to find it; adopted ones have the
// id of others and are found by Machine.adopted.
type run struct {
	alloc   *resource.Alloc // nil: the place is free
	end     float64         // expected; +Inf = unknown
	gen     uint32          // 31 bits, counts the uses of this place
	foreign uint64          // id of an adopted one, else 0
	counted *shape          // whose counters it holds; nil = none
}

// newRun books an allocation whose parts have been taken.
func (m *Machine) newRun(a *resource.Alloc, end float64) (place uint32, id uint64) {
	if n := len(m.idle); n > 0 {
		place = m.idle[n-1]
		m.idle = m.idle[:n-1]
	} else {
		place = uint32(len(m.runs))
		m.runs = append(m.runs, run{})
	}
	r := &m.runs[place]
	r.alloc, r.end, r.foreign, r.counted = a, end, 0, nil
	r.gen = max(1, (r.gen+1)&0x7fffffff)
	m.running++
	m.ends.add(end, place, r.gen)
	return place, uint64(r.gen)<<32 | uint64(place)
}

func (m *Machine) free(id uint64) {
	place, ok := m.find(id)
	if !ok {
		return
	}
	r := &m.runs[place]
	for i := range r.alloc.Nodes {
		m.inv.Give(r.alloc.Nodes[i])
	}
	if r.foreign != 0 {
		delete(m.adopted, r.foreign)
	}
	if r.counted != nil {
		m.counts.book(r.counted.counts, -1)
	}
	r.alloc, r.counted = nil, nil
	m.idle = append(m.idle, place)
	m.running--
	m.grown++
	m.plan.freed++
}

func (m *Machine) find(id uint64) (place uint32, ok bool) {
	if place, ok = m.adopted[id]; ok {
		return place, true
	}
	place = uint32(id)
	if int(place) >= len(m.runs) {
		return 0, false
	}
	r := &m.runs[place]
	return place, r.alloc != nil && r.foreign == 0 && uint64(r.gen) == id>>32
}

// adopt books what runs already. Memory is not part of what others know of a running job: it is inferred from the group where
// that still waits in part.
func (m *Machine) adopt(allocs []Alloc) []any {
	var out []any
	for _, a := range allocs {
		if _, dup := m.adopted[a.ID]; dup || a.Alloc == nil {
			continue
		}
		mine := &resource.Alloc{Exclusive: a.Alloc.Exclusive}
		for _, n := range a.Alloc.Nodes {
			m.inferMemory(&n, a.Group)
			if err := m.inv.Take(n); err != nil {
				out = append(out, Conflict{ID: a.ID, Text: fmt.Sprintf("adopt allocation: %v", err)})
				continue
			}
			mine.Nodes = append(mine.Nodes, n)
		}
		end := a.End
		if end <= 0 {
			end = unlimited
		}
		place, _ := m.newRun(mine, end)
		m.runs[place].foreign = a.ID
		if req := (jobspec.Request{Counters: a.Counters}); a.Counters != "" {
			held := &shape{counts: m.counts.needsOf(&req)}
			m.counts.book(held.counts, 1)
			m.runs[place].counted = held
		}
		m.adopted[a.ID] = place
	}
	// The reservation that stands did not count with these.
	m.plan.valid = false
	return out
}

func (m *Machine) inferMemory(n *resource.NodeAlloc, id GroupID) {
	g := m.groups[id]
	if g == nil || n.MemMiB > 0 || g.shape.invalid {
		return
	}
	r := g.shape.need.Req
	n.MemMiB = int64(n.Cores.Count()/r.Cores) * r.MemMiB
}

// endList has the expected ends of all running allocations: sorted ones, then those that came since. What has ended stays in it
// until it is cleaned. It is made when first asked for, and given up when it would have to grow: without reservations it costs nothing.
type endList struct {
	on     bool
	refs   []endRef
	sorted int
}

type endRef struct {
	end        float64
	place, gen uint32
}

func (l *endList) add(end float64, place, gen uint32) {
	if l.on && len(l.refs) == cap(l.refs) {
		*l = endList{}
	}
	if l.on {
		l.refs = append(l.refs, endRef{end, place, gen})
	}
}

// make collects what runs, with room for half as many to come.
func (l *endList) make(m *Machine) {
	*l = endList{on: true, refs: make([]endRef, 0, m.running+m.running/2+1024)}
	for i := range m.runs {
		if r := &m.runs[i]; r.alloc != nil {
			l.refs = append(l.refs, endRef{r.end, uint32(i), r.gen})
		}
	}
}

// clean drops what has ended, and keeps the order.
func (l *endList) clean(m *Machine) {
	kept, sorted := l.refs[:0], 0
	for i, e := range l.refs {
		if r := &m.runs[e.place]; r.alloc == nil || r.gen != e.gen {
			continue
		}
		kept = append(kept, e)
		if i < l.sorted {
			sorted++
		}
	}
	l.refs, l.sorted = kept, sorted
}

// inOrder returns all running allocations by expected end.
func (l *endList) inOrder(m *Machine) []endRef {
	if l.on {
		l.clean(m)
	} else {
		l.make(m)
	}
	if l.sorted == len(l.refs) {
		return l.refs
	}
	tail := l.refs[l.sorted:]
	slices.SortStableFunc(tail, func(a, b endRef) int { return cmp.Compare(a.end, b.end) })
	if l.sorted > 0 && l.refs[l.sorted-1].end > tail[0].end {
		l.refs = mergeEnds(l.refs[:l.sorted], tail)
	}
	l.sorted = len(l.refs)
	return l.refs
}

func mergeEnds(a, b []endRef) []endRef {
	n := len(a) + len(b)
	out := make([]endRef, 0, n+n/2)
	for len(a) > 0 && len(b) > 0 {
		if a[0].end <= b[0].end {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// pool hands out allocations from small blocks, as many small objects cost more than few larger ones. A block lives as long as the
// last of its members.
type pool struct {
	allocs []resource.Alloc
	parts  []resource.NodeAlloc
}

const poolBlock = 32

// one returns an Alloc with room for n parts; more tells how many more will likely be asked for.
func (p *pool) one(n, more int) *resource.Alloc {
	if len(p.allocs) == 0 {
		p.allocs = make([]resource.Alloc, min(poolBlock, max(1, more)))
	}
	a := &p.allocs[0]
	p.allocs = p.allocs[1:]
	if n > poolBlock/4 {
		a.Nodes = make([]resource.NodeAlloc, n)
		return a
	}
	if len(p.parts) < n {
		p.parts = make([]resource.NodeAlloc, max(n, min(poolBlock, n*more)))
	}
	a.Nodes, p.parts = p.parts[:n:n], p.parts[n:]
	return a
}
