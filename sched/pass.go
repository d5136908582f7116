package sched

// Pass is one scheduling pass, as a policy sees it.
type Pass struct {
	m      *Machine
	now    float64
	left   int // allocations that may still be made
	allocs []Alloc
	retry  float64 // when to come back; 0 = on the next event
	length float64 // what starts now ends after so many seconds at the latest; +Inf = when its group says
	reach  float64 // seconds until the instance's expiration: no group starts whose Least is longer, but for those without any limit
	// planned: Reserve has been called, and what starts now is told to the reservation.
	planned bool
}

func (m *Machine) newPass(now float64) *Pass {
	return &Pass{m: m, now: now, left: m.cfg.MaxAllocs, length: unlimited, reach: m.expiration - now}
}

// Now is the time of the pass, epoch seconds.
func (p *Pass) Now() float64 { return p.now }

// Full tells that the pass has made as many allocations as it may: return, another follows.
func (p *Pass) Full() bool { return p.left == 0 }

// Start begins as many of g's jobs as there is room for, and tells whether that is all of them. The caller makes sure that this
// delays nobody to whom something was promised.
func (p *Pass) Start(g *Group) bool {
	s := g.shape
	if s.noFit == p.m.grown {
		return false
	}
	want := min(g.Count, p.left)
	n := p.start(g, want, p.m.inv.Free(), nil)
	if n < want {
		s.noFit = p.m.grown
	}
	return p.started(g, n)
}

// StartBeside is Start with the room only that the reservation leaves: for what may not have ended when it begins.
func (p *Pass) StartBeside(g *Group, r *Reservation) bool {
	n := p.start(g, min(g.Count, p.left), p.m.beside(), r)
	if len(g.shape.counts) > 0 {
		r.counts.take(g.shape.counts, n)
	}
	return p.started(g, n)
}

// StartShort is Start with a time limit of that many seconds where the group's is longer. Its Least must not be longer.
func (p *Pass) StartShort(g *Group, seconds float64) bool {
	p.length = seconds
	defer func() { p.length = unlimited }()
	return p.Start(g)
}

func (p *Pass) started(g *Group, n int) bool {
	p.left -= n
	if g.Count -= n; g.Count > 0 {
		return false
	}
	p.m.drop(g)
	return true
}

// Fits tells whether there is room for one job of g now.
func (p *Pass) Fits(g *Group) bool {
	s := g.shape
	if s.noFit == p.m.grown {
		return false
	}
	if p.m.fitsNow(s) {
		return true
	}
	s.noFit = p.m.grown
	return false
}

// fitsNow tells whether nodes and counters have room for one job of the shape.
func (m *Machine) fitsNow(s *shape) bool {
	return m.counts.allow(s.counts, 1) == 1 && s.fits(m.inv.Free())
}

// Possible tells whether a job of g fits on the nodes that are up when all else has ended.
func (p *Pass) Possible(g *Group) bool { return p.m.possible(g.shape) }

func (m *Machine) possible(s *shape) bool {
	if s.possibleAt != m.topology {
		s.possibleAt = m.topology
		s.possible = m.counts.ever(s.counts) && s.fits(m.inv.UpTotal())
	}
	return s.possible
}

// Cursor walks the queue in order, once.
type Cursor struct {
	m    *Machine
	heap []cursorEntry // in queue order
	cur  bool          // heap[0] is what Next returned last
}

type cursorEntry struct {
	priority uint32 // of g, as order: a look at the groups themselves would cost a cache miss for each comparison
	order    uint64
	g        *Group
	s        *shape
	within   float64
}

func (e *cursorEntry) put(g *Group) { e.g, e.priority, e.order = g, g.Priority, g.Order }

func (e *cursorEntry) before(o *cursorEntry) bool {
	if e.priority != o.priority {
		return e.priority > o.priority
	}
	if e.order != o.order {
		return e.order < o.order
	}
	return e.g.ID < o.g.ID
}

// Queue returns a cursor at the start of the queue, in which groups that the instance's expiration leaves no time for are left out.
func (p *Pass) Queue() *Cursor { return p.queue(p.reach) }

// queue is Queue with the groups that need no more than so many seconds, and those without a limit.
func (p *Pass) queue(seconds float64) *Cursor {
	c := &Cursor{m: p.m, heap: make([]cursorEntry, 0, len(p.m.shapes))}
	for _, s := range p.m.shapes {
		e := cursorEntry{s: s, within: seconds}
		if s.key.endless {
			e.within = unlimited
		}
		if g := first(s.root, e.within); g != nil {
			e.put(g)
			c.heap = append(c.heap, e)
		}
	}
	c.order()
	return c
}

// Next returns the next group, or nil.
func (c *Cursor) Next() *Group {
	if c.cur {
		e := &c.heap[0]
		c.replace(after(e.s.root, e.g, e.within))
	}
	c.cur = len(c.heap) > 0
	if !c.cur {
		return nil
	}
	return c.heap[0].g
}

// Drop leaves out all further groups of the shape of the one that Next returned last.
func (c *Cursor) Drop() {
	if c.cur {
		c.replace(nil)
		c.cur = false
	}
}

// OnlyWithin leaves out those groups of the shape of the one that Next returned last whose Least is longer.
func (c *Cursor) OnlyWithin(seconds float64) {
	if c.cur {
		c.heap[0].within = min(c.heap[0].within, seconds)
	}
}

// Prune leaves out all shapes for which there surely is no room now. The last group that Next returned is done with.
func (c *Cursor) Prune() {
	if c.cur {
		e := &c.heap[0]
		c.replace(after(e.s.root, e.g, e.within))
		c.cur = false
	}
	kept := c.heap[:0]
	for _, e := range c.heap {
		if e.s.noFit != c.m.grown && e.s.mayFit(c.m.inv.Free()) {
			kept = append(kept, e)
		}
	}
	c.heap = kept
	c.order()
}

// replace puts g, or nothing, in the place of the first entry's group.
func (c *Cursor) replace(g *Group) {
	if g == nil {
		last := len(c.heap) - 1
		c.heap[0] = c.heap[last]
		c.heap = c.heap[:last]
	} else {
		c.heap[0].put(g)
	}
	c.sink(0)
}

func (c *Cursor) order() {
	for i := len(c.heap)/2 - 1; i >= 0; i-- {
		c.sink(i)
	}
}

func (c *Cursor) sink(i int) {
	for {
		k := 2*i + 1
		if k >= len(c.heap) {
			return
		}
		if k+1 < len(c.heap) && c.heap[k+1].before(&c.heap[k]) {
			k++
		}
		if !c.heap[k].before(&c.heap[i]) {
			return
		}
		c.heap[i], c.heap[k] = c.heap[k], c.heap[i]
		i = k
	}
}
