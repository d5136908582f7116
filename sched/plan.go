package sched

import (
	"math"

	"github.com/frond-hpc/frond/resource"
)

// Reservation is the promise to a group that cannot start yet: from Time on it has its room, if all allocations end when expected.
// What else starts must end by then, or use room that is left beside it (EASY's "extra" resources).
type Reservation struct {
	Time float64 // epoch seconds; +Inf = it waits for an allocation of unknown end

	now    float64
	extra  []resource.Room // by node: free at Time and not promised
	limit  *resource.Index // what is both free now and extra
	counts left            // of the counters that it needs: free at Time and not promised
}

// Window is the longest duration with which a job that starts now ends before the reservation begins. It is finite: a job
// that may never end is too long for any.
func (r *Reservation) Window() float64 { return min(r.Time-r.now, math.MaxFloat64) }

// planState is the reservation that stands, and what tells whether it still holds.
type planState struct {
	res   Reservation
	valid bool
	live  bool    // limit is in use: keep it up to date
	group *Group  // of whom
	since float64 // when group got its first
	wide  int     // how many times what it needs is kept free
	grown uint64
	made  float64 // when
	freed int     // allocations that ended since
}

// Reserve returns the reservation of g, which fits on the nodes that are up but not into what is free. ok is false when it would be made
// too often (Config.ExactRunning); the machine then asks for another pass by itself. The reservation is valid in this pass only.
func (p *Pass) Reserve(g *Group) (res *Reservation, ok bool) {
	m := p.m
	st := &m.plan
	if st.group != g {
		st.group, st.since, st.valid = g, p.now, false
	}
	p.planned, st.res.now = true, p.now
	if st.valid && st.grown == m.grown && st.res.Time > p.now && (st.res.Time < unlimited || st.wide == m.width(p.now)) {
		return &st.res, true
	}
	if m.running > m.cfg.ExactRunning && st.freed < m.running/16 && p.now < st.made+m.cfg.PlanEvery && p.now >= st.made {
		p.retry = st.made + m.cfg.PlanEvery
		return nil, false
	}
	st.res.Time = max(p.now, m.shadow(g.shape))
	st.wide = 1
	if st.res.Time == unlimited {
		st.wide = m.width(p.now)
	}
	m.promise(g.shape, st.wide)
	st.res.extra, m.scratch = m.scratch, st.res.extra
	st.res.counts = m.besideCounts
	st.valid, st.live, st.grown, st.made, st.freed = true, false, m.grown, p.now, 0
	return &st.res, true
}

// width is how many times what the head needs is kept free, when it waits for unknown ends.
func (m *Machine) width(now float64) int {
	return 1 << int(max(0, min(20, (now-m.plan.since)/m.cfg.Patience)))
}

// shadow finds when the shape fits if all ends as expected, and leaves in m.scratch what is free then. +Inf when that hangs on
// an unknown end.
func (m *Machine) shadow(s *shape) float64 {
	free, up := m.inv.Free(), m.inv.UpTotal()
	m.scratch = m.scratch[:0]
	have, want, lacks := 0, max(s.need.Req.Nodes, 1), m.awaited(s)
	defer func() { m.besideCounts = lacks.beside() }()
	if s.need.Req.Nodes == 0 {
		want = s.need.Req.Slots
	}
	for i := range m.inv.Len() {
		m.scratch = append(m.scratch, free.At(i))
		if s.cond.has(i) {
			have += s.share(free.At(i))
		}
	}
	time, parts := 0.0, resource.PartBook{Inv: m.inv}
	for _, e := range m.ends.inOrder(m) {
		if have >= want && e.end > time && lacks.enough() {
			return time
		}
		time = e.end
		lacks.release(&m.runs[e.place])
		nodes := m.runs[e.place].alloc.Nodes
		for i := range nodes {
			have += m.release(s, &nodes[i], up.At(nodes[i].Node), &parts)
		}
	}
	if have < want || !lacks.enough() {
		return unlimited
	}
	return time
}

// share is what one node of that room contributes to a job of the shape: a node or slots.
func (s *shape) share(r resource.Room) int {
	if s.need.Req.Nodes == 0 {
		return r.Slots(s.need.Slot, s.need.Req.Slots)
	}
	if s.need.CoveredBy(r) {
		return 1
	}
	return 0
}

// release puts a part back into m.scratch and returns by how much the node's share grows.
func (m *Machine) release(s *shape, n *resource.NodeAlloc, total resource.Room, parts *resource.PartBook) int {
	if total.Cores == 0 {
		return 0 // down or removed
	}
	old := m.scratch[n.Node]
	r := grow(old, roomOf(n, parts), total)
	m.scratch[n.Node] = r
	if !s.cond.has(n.Node) {
		return 0
	}
	return s.share(r) - s.share(old)
}

// promise takes the room of one job of the shape out of m.scratch: the first that choose would find then. With wide > 1 it takes all
// of the nodes that could serve, until they would do for so many jobs.
func (m *Machine) promise(s *shape, wide int) {
	if s.need.Req.Nodes == 0 && wide == 1 && m.promiseWhole(s) {
		return
	}
	left := wide * max(s.need.Req.Nodes, 1)
	if s.need.Req.Nodes == 0 {
		left = wide * s.need.Req.Slots
	}
	for i := 0; i < len(m.scratch) && left > 0; i++ {
		if !s.cond.has(i) {
			continue
		}
		k := min(left, s.share(m.scratch[i]))
		if k > 0 {
			m.scratch[i] = s.without(m.scratch[i], k, wide > 1)
		}
		left -= k
	}
}

// promiseWhole promises the first node that can take all of a request without a number of nodes.
func (m *Machine) promiseWhole(s *shape) bool {
	for i := range m.scratch {
		if s.cond.has(i) && s.need.CoveredBy(m.scratch[i]) {
			m.scratch[i] = m.scratch[i].Less(s.need.Slot, s.need.Req.Slots)
			return true
		}
	}
	return false
}

// without is what is left of a node when k shares of it are promised, or all.
func (s *shape) without(r resource.Room, k int, all bool) resource.Room {
	switch {
	case all || s.need.Req.Exclusive:
		return resource.Room{}
	case s.need.Req.Nodes > 0:
		return r.Less(s.need.Slot, s.need.Req.Slots)
	}
	return r.Less(s.need.Slot, k)
}

// beside is the index of the room that is free now and stays free of the reservation.
func (m *Machine) beside() *resource.Index {
	st := &m.plan
	if st.live {
		return st.res.limit
	}
	free, n := m.inv.Free(), m.inv.Len()
	if st.res.limit == nil || st.res.limit.Len() < n {
		st.res.limit = resource.NewIndex(n)
	}
	st.res.limit.Fill(func(i int) resource.Room {
		if i >= n {
			return resource.Room{}
		}
		return free.At(i).Min(st.res.extra[i])
	})
	st.live = true
	return st.res.limit
}

// taken keeps the reservation right when something starts after it was asked for: beside it (then less is left there), or to end
// before it.
func (st *planState) taken(m *Machine, n resource.NodeAlloc, beside bool) {
	if beside {
		st.res.extra[n.Node] = st.res.extra[n.Node].LessAlloc(&n)
	}
	if st.live {
		st.res.limit.Set(n.Node, m.inv.Free().At(n.Node).Min(st.res.extra[n.Node]))
	}
}
