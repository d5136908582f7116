package job

import "github.com/frond-hpc/frond/jobspec"

// oldest takes the transaction out that was taken first.
func (m *Machine) oldest() *inflight {
	f := m.taken[0]
	m.taken[0] = nil // else its rows stay as long as the room for it
	m.taken = m.taken[1:]
	return f
}

func (m *Machine) onCommitted() {
	f := m.oldest()
	for _, a := range f.arrays {
		a.durable = true
		m.adjust(a)
	}
	for _, h := range f.held {
		if h.e.held && h.e.attempt == h.attempt {
			m.unhold(h.e)
		}
	}
	m.unstored -= len(f.ended)
	for _, e := range f.ended {
		m.ended(e)
	}
	for _, r := range f.ranges {
		n := r.span.Hi - r.span.Lo + 1
		if r.arr.followers != nil {
			m.tellFollowers(r.arr, Outcome{Lo: r.span.Lo, Hi: r.span.Hi, OK: r.end.result == jobspec.ResultCompleted, Ran: r.end.ran,
				Except: r.end.exc != nil && r.end.exc.Severity == 0, Result: r.end.result, Status: r.end.status})
		}
		r.arr.countResult(r.end.result, n)
		m.countEnd(r.arr, r.end.result, n)
		m.out.Spans = append(m.out.Spans, EndedSpan{Target{r.arr.id, r.span.Lo, r.span.Hi}, r.arr.n, r.end.result, r.end.status, r.end.exc, r.end.ran, r.end.time})
		m.soon(r.arr, HasteEach)
		m.maybeDone(r.arr)
	}
	m.sendGrants(f.grants)
}

// unhold starts a rerun=no element whose start is durable now.
func (m *Machine) unhold(e *elem) {
	e.held = false
	if e.fatal() {
		m.endRun(e)
		return
	}
	m.startAll(e)
	for i := range e.parts {
		if p := &e.parts[i]; !p.sent && m.rank(p.rank).lost {
			m.partLost(e, p, m.rank(p.rank).reason, true)
			return
		}
	}
}

func (m *Machine) countEnd(a *array, result jobspec.Result, n int) {
	m.totals.Running -= n
	if m.system[a.id] {
		return
	}
	m.totals.Inactive += n
	if result != jobspec.ResultCompleted {
		m.totals.Failed += n
		switch result {
		case jobspec.ResultCanceled:
			m.totals.Canceled += n
		case jobspec.ResultTimeout:
			m.totals.TimedOut += n
		}
	}
}

func (m *Machine) ended(e *elem) {
	a := e.arr
	res := result(e.status, e.exc)
	a.drop(e)
	if a.followers != nil {
		m.tellFollowers(a, Outcome{Lo: e.idx, Hi: e.idx, OK: res == jobspec.ResultCompleted, Ran: e.tRun > 0, Except: e.fatal(),
			Result: res, Status: e.status})
	}
	a.countResult(res, 1)
	m.countEnd(a, res, 1)
	m.out.Ended = append(m.out.Ended, Ending{e.id(), a.id, e.idx, res, e.status, e.exc, e.tRun > 0, e.log.last})
	m.soon(a, HasteEach)
	m.touch(e)
	m.maybeDone(a)
}

func (m *Machine) maybeDone(a *array) {
	if a.durably+a.foreign.Len() == a.n && m.arrays[a.id] == a {
		m.out.Done = append(m.out.Done, a.state())
		m.soon(a, HasteDone)
		m.removeArray(a)
	}
}

// onRefused forgets the submissions of a transaction that could not be written, and the parameters that were uploaded, and puts the rest
// before what came since.
func (m *Machine) onRefused() {
	f := m.oldest()
	if m.cfg.Branch { // what the parent gave is not forgotten
		m.txn.Arrays = append(f.txn.Arrays, m.txn.Arrays...)
		m.next.arrays = append(f.arrays, m.next.arrays...)
		f.arrays = nil
	}
	gone := make(map[jobspec.ID]bool, len(f.arrays))
	for _, a := range f.arrays {
		gone[a.id] = true
		m.totals.Pending -= a.pending
		m.totals.Running -= a.n - a.pending
		m.removeArray(a)
	}
	old := f.txn
	m.txn.Specs = append(old.Specs, m.txn.Specs...)
	m.txn.Envs = append(old.Envs, m.txn.Envs...)
	m.txn.Ended = append(old.Ended, m.txn.Ended...)
	m.txn.Ranges = dropRanges(append(old.Ranges, m.txn.Ranges...), gone)
	m.txn.Starts = append(old.Starts, m.txn.Starts...)
	m.txn.Retried = append(old.Retried, m.txn.Retried...)
	m.txn.Hi = append(old.Hi, m.txn.Hi...)
	m.txn.Logs = dropLogs(append(old.Logs, m.txn.Logs...), gone)
	m.txn.Queues = append(old.Queues, m.txn.Queues...)
	m.txn.Output = append(old.Output, m.txn.Output...)
	m.txn.Members = append(old.Members, m.txn.Members...)
	m.txn.LastID = max(m.txn.LastID, old.LastID)
	m.next.ended = append(f.ended, m.next.ended...)
	m.next.completes = m.next.completes || f.completes
	m.next.held = append(f.held, m.next.held...)
	m.txn.Grants = append(old.Grants, m.txn.Grants...)
	m.txn.Over = append(old.Over, m.txn.Over...)
	m.next.grants = append(f.grants, m.next.grants...)
	m.next.ranges = dropEnded(append(f.ranges, m.next.ranges...), gone)
}

func dropRanges(rows []RangeRow, gone map[jobspec.ID]bool) []RangeRow {
	kept := rows[:0]
	for _, r := range rows {
		if !gone[r.Array] {
			kept = append(kept, r)
		}
	}
	return kept
}

func dropLogs(rows []LogRow, gone map[jobspec.ID]bool) []LogRow {
	kept := rows[:0]
	for _, r := range rows {
		if !gone[r.Array] {
			kept = append(kept, r)
		}
	}
	return kept
}

func dropEnded(rs []endedRange, gone map[jobspec.ID]bool) []endedRange {
	kept := rs[:0]
	for _, r := range rs {
		if !gone[r.arr.id] {
			kept = append(kept, r)
		}
	}
	return kept
}
