package job

// The scheduler is asked for as many elements of an array as may start now, no matter which: array.asked is how many it has been asked for
// and has not given yet. Whatever changes how many may start (a submission, an end, a hold, a limit, a dependency) calls adjust, and the
// difference goes to the scheduler at the end of the step.
//
// An allocation may be on its way when fewer are wanted; it is given back then, and asked for anew when it is wanted again.

// want is how many elements of a may start now.
func (m *Machine) want(a *array) int {
	if !a.durable || a.queue.row.Stopped {
		return 0
	}
	return a.room()
}

// adjust has the scheduler's queue brought to what a wants, at the end of the step.
func (m *Machine) adjust(a *array) {
	if !a.uneven {
		a.uneven = true
		m.uneven = append(m.uneven, a)
	}
}

// flushDemand tells the scheduler what has changed.
func (m *Machine) flushDemand() {
	for _, a := range m.uneven {
		a.uneven = false
		want := m.want(a)
		switch {
		case want > a.asked:
			m.out.Queue = append(m.out.Queue, Queued{a.id, a.spec, Priority(int(a.urgency)), want - a.asked, a.limit})
		case want < a.asked:
			m.out.Dequeue = append(m.out.Dequeue, Dequeued{a.id, a.asked - want})
		}
		a.asked = want
	}
	clear(m.uneven) // else its room would hold on to arrays that have ended
	m.uneven = m.uneven[:0]
}
