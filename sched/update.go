package sched

// setDuration changes a waiting group's duration, and so where it may be put.
func (m *Machine) setDuration(e SetDuration) {
	g := m.groups[e.ID]
	if g == nil {
		return
	}
	m.dequeue(g)
	if g.Duration = e.Duration; g.Duration <= 0 {
		g.Duration = unlimited
	}
	g.Least = g.Duration
	if old := g.shape; old.key.endless != (g.Least == unlimited) {
		g.shape = m.shapeOf(old.key.req, old.constraint, g.Least == unlimited)
		g.shape.refs++
		m.leaveShape(old)
	}
	m.enqueue(g)
	m.grown++ // what did not fit before a reservation may now
}

// setEnd moves the expected end of allocations.
func (m *Machine) setEnd(e SetEnd) {
	for _, id := range e.IDs {
		if place, ok := m.find(id); ok {
			if m.runs[place].end = e.End; e.End <= 0 {
				m.runs[place].end = unlimited
			}
		}
	}
	m.ends = endList{} // is made anew when it is asked for
	m.plan.valid = false
}

// setExpiration moves the end of the instance.
func (m *Machine) setExpiration(e SetExpiration) {
	if m.expiration = e.At; e.At <= 0 {
		m.expiration = unlimited
	}
	m.plan.valid = false
}
