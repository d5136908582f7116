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

// ask asks for as many elements of a, the scheduler or for branches.
func (m *Machine) ask(a *array, want int) {
	asked := int(a.asked)
	switch {
	case a.delegated:
		if want = m.mayOffer(a, want); want != asked {
			m.out.Offers = append(m.out.Offers, Offer{a.id, a.spec, want - asked, Priority(int(a.urgency))})
		}
	case want > asked:
		m.out.Queue = append(m.out.Queue, Queued{a.id, a.spec, Priority(int(a.urgency)), want - asked, a.limit})
	case want < asked:
		m.out.Dequeue = append(m.out.Dequeue, Dequeued{a.id, asked - want})
	}
	a.asked = int32(want)
}

// flushDemand tells the scheduler what has changed.
func (m *Machine) flushDemand() {
	for _, a := range m.uneven {
		a.uneven = false
		want := m.want(a)
		m.ask(a, want)
	}
	clear(m.uneven) // else its room would hold on to arrays that have ended
	m.uneven = m.uneven[:0]
}
