package sched

import (
	"container/heap"
	"slices"

	"github.com/frond-hpc/frond/resource"
)

// forecast plays the queue forward: what runs ends when expected, and what waits starts in order as soon as it has room. It knows no
// backfilling, so that most jobs start a little earlier than it says. It works on a copy of what is free.
type forecast struct {
	m      *Machine
	free   *resource.Index
	counts []int64 // free, by place
	now    float64
	ends   []endRef // of what runs, by time
	coming comingHeap
	parts  resource.PartBook
	steps  int // starts and ends that may still be played
}

// coming is a job that the forecast has started.
type coming struct {
	end    float64
	nodes  []int
	taken  []resource.Room
	counts []countNeed
}

type comingHeap []*coming

func (h comingHeap) Len() int           { return len(h) }
func (h comingHeap) Less(i, j int) bool { return h[i].end < h[j].end }
func (h comingHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *comingHeap) Push(x any) { *h = append(*h, x.(*coming)) }

// Pop implements heap.Interface.
func (h *comingHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// forecast tells when the next job of each group is expected to start, for as much of the queue as the given number of steps leads
// through. What hangs on an allocation of unknown end is not in it, nor what waits for nodes to come up.
func (m *Machine) forecast(p *Pass, steps int) map[GroupID]float64 {
	if m.hold {
		return nil
	}
	f := &forecast{m: m, now: p.now, free: resource.NewIndex(m.inv.Len()), ends: slices.Clone(m.ends.inOrder(m)), steps: steps,
		parts: resource.PartBook{Inv: m.inv}}
	free, n := m.inv.Free(), m.inv.Len()
	f.free.Fill(func(i int) resource.Room {
		if i >= n {
			return resource.Room{}
		}
		return free.At(i)
	})
	for at := range m.counts.names {
		f.counts = append(f.counts, m.counts.total[at]-m.counts.used[at])
	}
	when := make(map[GroupID]float64)
	q := p.Queue()
	for g := q.Next(); g != nil; g = q.Next() {
		if !p.Possible(g) {
			q.Drop()
			continue
		}
		for i := range g.Count {
			if !f.waitFor(g.shape) {
				return when
			}
			if !f.endsInTime(g) {
				break
			}
			if i == 0 {
				when[g.ID] = f.now
			}
			f.start(g)
		}
	}
	return when
}

// waitFor lets time pass until there is room for a job of the shape; false when that is unknown.
func (f *forecast) waitFor(s *shape) bool {
	for !f.fits(s) {
		if f.steps--; f.steps < 0 || !f.end() {
			return false
		}
	}
	f.steps--
	return f.steps >= 0
}

// endsInTime tells whether a job of g that starts where the forecast stands ends before the instance does.
func (f *forecast) endsInTime(g *Group) bool {
	return f.now < f.m.expiration && (g.shape.key.endless || f.now+g.Least <= f.m.expiration)
}

func (f *forecast) fits(s *shape) bool {
	for _, x := range s.counts {
		if f.counts[x.at] < x.n {
			return false
		}
	}
	return s.fits(f.free)
}

// end ends what ends next.
func (f *forecast) end() bool {
	if len(f.coming) > 0 && (len(f.ends) == 0 || f.coming[0].end <= f.ends[0].end) {
		c := heap.Pop(&f.coming).(*coming)
		f.now = max(f.now, c.end)
		for i, node := range c.nodes {
			f.giveBack(node, c.taken[i])
		}
		f.count(c.counts, 1)
		return true
	}
	if len(f.ends) == 0 || f.ends[0].end == unlimited {
		return false
	}
	r := &f.m.runs[f.ends[0].place]
	f.now, f.ends = max(f.now, f.ends[0].end), f.ends[1:]
	for i := range r.alloc.Nodes {
		n := &r.alloc.Nodes[i]
		f.giveBack(n.Node, roomOf(n, &f.parts))
	}
	if r.counted != nil {
		f.count(r.counted.counts, 1)
	}
	return true
}

func (f *forecast) count(needs []countNeed, by int64) {
	for _, x := range needs {
		f.counts[x.at] += by * x.n
	}
}

func (f *forecast) giveBack(node int, r resource.Room) {
	if total := f.m.inv.UpTotal().At(node); total.Cores > 0 {
		f.free.Set(node, grow(f.free.At(node), r, total))
	}
}

// start takes the room of one job of the group, which fits.
func (f *forecast) start(g *Group) {
	s := g.shape
	c := &coming{end: f.now + g.Duration, counts: s.counts}
	for _, at := range f.m.place(s, f.free) {
		old := f.free.At(at.node)
		rest := s.rest(old, at.slots)
		c.nodes = append(c.nodes, at.node)
		c.taken = append(c.taken, minus(old, rest))
		f.free.Set(at.node, rest)
	}
	f.count(s.counts, -1)
	if c.end < unlimited {
		heap.Push(&f.coming, c)
	}
}

// place is choose, or the one node that takes a whole request without a number of nodes, as when it starts.
func (m *Machine) place(s *shape, x *resource.Index) []part {
	if s.need.Req.Nodes == 0 {
		if i := s.nextNode(x, 0); i >= 0 {
			m.parts = append(m.parts[:0], part{i, s.need.Req.Slots})
			return m.parts
		}
	}
	return m.choose(s, x)
}

// rest is what is left of a node's room when so many slots of the shape take theirs.
func (s *shape) rest(r resource.Room, slots int) resource.Room {
	if s.need.Req.Exclusive {
		return resource.Room{}
	}
	return r.Less(s.need.Slot, slots)
}

func minus(a, b resource.Room) resource.Room {
	r := resource.Room{Cores: a.Cores - b.Cores, GPUs: a.GPUs - b.GPUs, MemMiB: a.MemMiB - b.MemMiB}
	if b.GPUs < resource.WholeGPU && r.GPUs > 0 {
		r.GPUs = a.GPUs // what is left is a part
	}
	return r
}

// roomOf is a part of an allocation as room that comes back.
func roomOf(n *resource.NodeAlloc, parts *resource.PartBook) resource.Room {
	r := resource.Room{Cores: int32(n.Cores.Count()), GPUs: resource.WholeGPU * int32(n.GPUs.Count()), MemMiB: int32(min(n.MemMiB, 1<<30))}
	if n.GPUParts != nil {
		r.GPUs = parts.Release(n)
	}
	return r
}

// grow is the room of a node to which some comes back; no more than all of it.
func grow(old, by, total resource.Room) resource.Room {
	r := resource.Room{Cores: old.Cores + by.Cores, GPUs: resource.AddGPUs(old.GPUs, by.GPUs), Whole: old.Whole,
		MemMiB: int32(min(int64(old.MemMiB)+int64(by.MemMiB), int64(total.MemMiB)))}
	if r.Cores >= total.Cores && r.GPUs >= total.GPUs && r.MemMiB == total.MemMiB {
		r.Whole = total.Cores
	}
	return r.Min(total) // what was adopted may be more than the node has
}
