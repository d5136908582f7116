package job

// Queues are switches over one set of resources: a stopped queue's jobs wait; one that is disabled takes no more (the service refuses them).

// QueueRow is the state of a queue. The name "" is that of the queue of an instance without named ones.
type QueueRow struct {
	Name     string
	Disabled bool
	Stopped  bool
	Why      string // it is disabled
	WhyStop  string
}

// QueueChanged gives queues another state. Volatile: not to be kept for the next leader.
type QueueChanged struct {
	Rows     []QueueRow
	Volatile bool
}

// queue is the state of one.
type queue struct{ row QueueRow }

// queueOf returns the queue of a name, made if there is none yet.
func (m *Machine) queueOf(name string) *queue {
	q := m.queues[name]
	if q == nil {
		q = &queue{row: QueueRow{Name: name}}
		m.queues[name] = q
	}
	return q
}

func (m *Machine) onQueueChanged(ev QueueChanged) {
	for _, row := range ev.Rows {
		q := m.queueOf(row.Name)
		turned := q.row.Stopped != row.Stopped
		q.row = row
		if !ev.Volatile {
			m.txn.Queues = append(m.txn.Queues, row)
		}
		if !turned {
			continue
		}
		for _, id := range m.order {
			if a := m.arrays[id]; a != nil && a.queue == q {
				m.adjust(a)
			}
		}
	}
}

// Queue is the state of a queue, with how many elements are pending and active in it.
func (m *Machine) Queue(name string) (row QueueRow, pending, running int) {
	q := m.queues[name]
	if q == nil {
		return QueueRow{Name: name}, 0, 0
	}
	for _, a := range m.arrays {
		if a.queue == q {
			pending += a.pending
			running += a.n - a.pending - a.durably - a.foreign.Len()
		}
	}
	return q.row, pending, running
}

// QueueState is Queue without a look at its jobs.
func (m *Machine) QueueState(name string) QueueRow {
	if q := m.queues[name]; q != nil {
		return q.row
	}
	return QueueRow{Name: name}
}
