package sched

import "github.com/frond-hpc/frond/resource"

// part is slots on one node.
type part struct{ node, slots int }

// next is the lowest node ≥ from that has room in x for need and satisfies k, or -1.
func next(x *resource.Index, from int, need resource.Room, k *cond) int {
	for {
		n := x.Next(from, need)
		if n < 0 || k.has(n) {
			return n
		}
		from = n + 1
	}
}

// nextNode is the lowest node ≥ from with room in x for one node's part of the shape (Need.Node), or -1.
func (s *shape) nextNode(x *resource.Index, from int) int {
	for {
		from = next(x, from, s.need.Node, s.cond)
		if from < 0 || !s.need.Node.Partial() || s.slotsOn(x, from, s.need.Req.Slots) == s.need.Req.Slots {
			return from
		}
		from++
	}
}

// slotsOn is how many slots of the shape fit on a node by x, up to limit. The inventory knows of each gpu what is free of it; other
// indexes know less of shared ones.
func (s *shape) slotsOn(x *resource.Index, node, limit int) int {
	slot := s.need.Slot
	if slot.Partial() && x == s.inv.Free() {
		limit = min(limit, s.inv.PartSlots(node, int(slot.GPUs)))
		slot.GPUs = 0
	}
	return x.At(node).Slots(slot, limit)
}

// plain tells whether counts by cores decide alone.
func (s *shape) plain() bool {
	return s.cond == nil && s.need.Slot.GPUs == 0 && s.need.Slot.MemMiB == 0 && !s.need.Req.Exclusive
}

// mayFit is a quick look at sums: false means that there is no room in x for one job of the shape.
func (s *shape) mayFit(x *resource.Index) bool {
	n := &s.need
	if n.TotalCores() > x.Cores() || n.TotalGPUs() > x.GPUs() {
		return false
	}
	if n.Req.Nodes == 0 {
		return x.Largest().Covers(n.Slot)
	}
	return x.Largest().Covers(n.Node) && (n.Req.Nodes == 1 || x.NodesWith(n.Node.Cores) >= n.Req.Nodes)
}

// fits tells whether there is room in x for one job of the shape.
func (s *shape) fits(x *resource.Index) bool {
	if !s.mayFit(x) {
		return false
	}
	n := &s.need
	switch {
	case n.Req.Nodes > 0 && s.plain():
		return x.NodesWith(n.Node.Cores) >= n.Req.Nodes
	case n.Req.Nodes > 0:
		return s.nodesThatFit(x, n.Req.Nodes) == n.Req.Nodes
	case s.plain():
		return x.SlotsOf(n.Slot.Cores) >= n.Req.Slots
	}
	return s.nextNode(x, 0) >= 0 || s.slotsThatFit(x, n.Req.Slots) == n.Req.Slots
}

// nodesThatFit counts nodes with room for one node's part, up to limit.
func (s *shape) nodesThatFit(x *resource.Index, limit int) int {
	count := 0
	for i := s.nextNode(x, 0); i >= 0 && count < limit; i = s.nextNode(x, i+1) {
		count++
	}
	return count
}

// slotsThatFit counts slots, up to limit.
func (s *shape) slotsThatFit(x *resource.Index, limit int) int {
	count := 0
	for i := next(x, 0, s.need.Slot, s.cond); i >= 0 && count < limit; i = next(x, i+1, s.need.Slot, s.cond) {
		count += s.slotsOn(x, i, limit-count)
	}
	return count
}

// choose finds the nodes of one job of the shape; nil if there is no room. The result is valid until the next call.
func (m *Machine) choose(s *shape, x *resource.Index) []part {
	parts := m.parts[:0]
	r := s.need.Req
	if r.Nodes > 0 {
		for i := -1; len(parts) < r.Nodes; {
			if i = s.nextNode(x, i+1); i < 0 {
				return nil
			}
			parts = append(parts, part{i, r.Slots})
		}
	} else {
		left := r.Slots
		for i := -1; left > 0; {
			if i = next(x, i+1, s.need.Slot, s.cond); i < 0 {
				return nil
			}
			k := s.slotsOn(x, i, left)
			parts = append(parts, part{i, k})
			left -= k
		}
	}
	m.parts = parts
	return parts
}

// start begins up to n jobs of g with the room in x, which is the inventory's own index or a reservation's (then res is set, and
// what starts is booked there too). It returns how many.
func (p *Pass) start(g *Group, n int, x *resource.Index, res *Reservation) int {
	s := g.shape
	if !s.mayFit(x) {
		return 0
	}
	if len(s.counts) > 0 {
		n = p.m.counts.allow(s.counts, n)
		if res != nil {
			n = res.counts.allow(s.counts, n)
		}
	}
	done := 0
	if s.need.Req.Nodes == 0 {
		for from := 0; done < n; from++ {
			if from = s.nextNode(x, from); from < 0 {
				break
			}
			if s.need.Slot.Partial() {
				p.startParts(g, part{from, s.need.Req.Slots}, n-done, res)
				done++
				from-- // there may be room for more
				continue
			}
			done += p.startOn(g, from, x.At(from).Slots(s.need.Node, n-done), n-done, res)
		}
		if s.need.Req.Slots == 1 {
			return done
		}
	}
	for ; done < n && s.fits(x); done++ {
		parts := p.m.choose(s, x)
		if parts == nil {
			break
		}
		p.startAcross(g, parts, n-done, res)
	}
	return done
}

// startOn begins k jobs, each of them wholly on the node; more is how many may follow elsewhere.
func (p *Pass) startOn(g *Group, node, k, more int, res *Reservation) int {
	m, need := p.m, &g.shape.need
	cores, gpus := m.inv.FreeMasks(node)
	all := resource.NodeAlloc{Node: node, Slots: k * need.Req.Slots, MemMiB: int64(k) * int64(need.Node.MemMiB)}
	for i := range k {
		a := m.pool.one(1, more-i)
		c, u := cores.First(int(need.Node.Cores)), gpus.First(int(need.Node.GPUs/resource.WholeGPU))
		cores, gpus = cores.Minus(c), gpus.Minus(u)
		a.Nodes[0] = resource.NodeAlloc{Node: node, Cores: c, GPUs: u, Slots: need.Req.Slots, MemMiB: int64(need.Node.MemMiB)}
		all.Cores, all.GPUs = all.Cores.Union(c), all.GPUs.Union(u)
		p.emit(g, a)
	}
	p.take(all, res)
	return k
}

// startParts begins one job that has parts of gpus, wholly on a node.
func (p *Pass) startParts(g *Group, at part, more int, res *Reservation) {
	parts := append(p.m.parts[:0], at)
	p.m.parts = parts
	p.startAcross(g, parts, more, res)
}

// startAcross begins one job on several nodes, or on a whole one.
func (p *Pass) startAcross(g *Group, parts []part, more int, res *Reservation) {
	m, r := p.m, g.shape.need.Req
	a := m.pool.one(len(parts), more)
	a.Exclusive = r.Exclusive
	for i, at := range parts {
		cores, gpus := m.inv.FreeMasks(at.node)
		n := resource.NodeAlloc{Node: at.node, Slots: at.slots}
		if r.Exclusive {
			n.Cores, n.GPUs, n.MemMiB = cores, gpus, m.inv.Node(at.node).MemMiB
		} else {
			n.Cores, n.GPUs, n.MemMiB = cores.First(at.slots*r.Cores), gpus.First(at.slots*r.GPUs), int64(at.slots)*r.MemMiB
			if r.GPUPart > 0 {
				var parts []int
				n.GPUs, parts = m.inv.PickParts(at.node, r.GPUPart, at.slots)
				n.GPUParts = &parts
			}
		}
		a.Nodes[i] = n
		p.take(n, res)
	}
	p.emit(g, a)
}

// take books a part that was found free.
func (p *Pass) take(n resource.NodeAlloc, res *Reservation) {
	if err := p.m.inv.Take(n); err != nil {
		panic("sched: free room was in use: " + err.Error())
	}
	if p.planned {
		p.m.plan.taken(p.m, n, res != nil)
	} else {
		p.m.plan.valid = false
	}
}

// emit books a new allocation of g.
func (p *Pass) emit(g *Group, a *resource.Alloc) {
	end, known := unlimited, 0.0
	length := min(g.Duration, p.length)
	if !g.shape.key.endless {
		length = min(length, p.reach)
	}
	if length < unlimited {
		end = p.now + length
		known = end
	}
	place, id := p.m.newRun(a, end)
	if len(g.shape.counts) > 0 {
		p.m.counts.book(g.shape.counts, 1)
		p.m.runs[place].counted = g.shape
	}
	p.allocs = append(p.allocs, Alloc{ID: id, Group: g.ID, Alloc: a, End: known})
}
