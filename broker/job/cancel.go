package job

import (
	"encoding/json"

	"github.com/frond-hpc/frond/jobspec"
)

func (m *Machine) onRaised(ev Raised) {
	for _, t := range ev.Targets {
		a := m.arrays[t.Array]
		if a == nil {
			m.fail(t.Array, "job is inactive")
			continue
		}
		if t.Lo == t.Hi && m.inactive(a, t.Lo) {
			m.fail(a.idOf(t.Lo), "job is inactive")
			continue
		}
		if ev.Exc.Severity == 0 {
			m.end0(a, t, ev.Exc, ev.States)
		} else {
			m.remark(a, t, ev.Exc)
		}
	}
}

func (m *Machine) fail(id jobspec.ID, text string) {
	if m.out.Errors == nil {
		m.out.Errors = make(map[jobspec.ID]string)
	}
	m.out.Errors[id] = text
}

func (m *Machine) inactive(a *array, idx int) bool {
	if e := a.get(idx); e != nil {
		return e.state == jobspec.StateInactive
	}
	_, w := a.waiting(idx)
	return w == nil && !a.isPending(idx) && !m.isHeld(a, idx)
}

// lateEnd is a fatal exception for elements that may run, as an earlier leader started them and their brokers have not been heard of yet.
type lateEnd struct {
	arr    *array
	target Target
	exc    Exception
	states jobspec.State
}

// end0 posts a fatal exception on elements: pending ones end at once, active ones are ended. During the recovery those that may run are
// left until that is known: what runs has not ended.
func (m *Machine) end0(a *array, t Target, exc Exception, states jobspec.State) {
	m.castTo(a, t, exc, states)
	if m.gated() && t.Lo < a.hi {
		m.late = append(m.late, lateEnd{a, t, exc, states})
		m.out.Late = true
		if states == 0 || states&jobspec.StatesRunning != 0 {
			m.endRunning(a, Target{a.id, t.Lo, min(t.Hi, a.hi-1)}, exc)
		}
		if t.Lo = a.hi; t.Lo > t.Hi {
			return
		}
	}
	m.endThose(a, t, exc, states)
}

func (m *Machine) endThose(a *array, t Target, exc Exception, states jobspec.State) {
	if states == 0 || states&jobspec.StatesRunning != 0 {
		m.endRunning(a, t, exc)
	}
	if states == 0 || states&jobspec.StatesPending != 0 {
		m.endPending(a, t, exc)
	}
}

// endLate ends what was left during the recovery.
func (m *Machine) endLate() {
	late := m.late
	m.late = nil
	for _, l := range late {
		if m.arrays[l.arr.id] == l.arr {
			m.endThose(l.arr, l.target, l.exc, l.states)
		}
	}
}

func (m *Machine) endRunning(a *array, t Target, exc Exception) {
	for _, e := range a.sortedActive() {
		if e.idx >= t.Lo && e.idx <= t.Hi && e.state == jobspec.StateRun && !e.fatal() {
			m.raise(e, exc, m.now)
			m.endRun(e)
		}
	}
}

func (m *Machine) endPending(a *array, t Target, exc Exception) {
	for i := 0; i < len(a.again); {
		e := a.again[i]
		if e.idx < t.Lo || e.idx > t.Hi {
			i++
			continue
		}
		a.removeAgain(i)
		a.put(e)
		m.unqueue(a, 1)
		a.running++ // finish counts it down again
		m.raise(e, exc, m.now)
		e.tRun = 0
		m.finish(e, m.now)
	}
	for _, s := range a.addSkip(t.Lo, min(t.Hi, a.n-1)) {
		m.endSpan(a, s, exc)
	}
}

// unqueue takes n elements out of the pending ones.
func (m *Machine) unqueue(a *array, n int) {
	a.pending -= n
	m.totals.Pending -= n
	m.totals.Running += n
	m.adjust(a)
}

// endRun ends an active element that has a fatal exception.
func (m *Machine) endRun(e *elem) {
	if e.held {
		return // it is not started when its start row is durable
	}
	m.unsendParts(e)
	m.endOthers(e)
	m.conclude(e, m.now)
}

// endSpan ends elements that never ran, as one row.
func (m *Machine) endSpan(a *array, s Span, exc Exception) {
	n := s.Hi - s.Lo + 1
	m.unqueue(a, n)
	a.ended += n
	log := eventLog{last: a.submit}
	ctx, _ := json.Marshal(exc)
	log.add(evException, m.now, ctx)
	log.add(evClean, m.now, nil)
	res := result(-1, &exc)
	if a.exc == "" {
		a.own().exc = "type=" + exc.Type + " " + exc.Note
	}
	if res == jobspec.ResultFailed { // as the next leader counts it
		m.failed(a, n)
	}
	m.endRange(a, s, ending{result: res, status: -1, exc: &exc, time: m.now}, log.buf)
}

// endRange ends elements as one row.
func (m *Machine) endRange(a *array, s Span, end ending, log []byte) {
	m.txn.Ranges = append(m.txn.Ranges, RangeRow{a.id, s.Lo, s.Hi, uint8(end.result), end.time, log, end.status})
	m.next.ranges = append(m.next.ranges, endedRange{a, s, end})
	m.next.completes = m.next.completes || a.ended == a.n
}

// remark posts an exception that is not fatal. Elements without a log of their own get one.
func (m *Machine) remark(a *array, t Target, exc Exception) {
	m.castTo(a, t, exc, 0)
	for idx := max(t.Lo, 0); idx <= min(t.Hi, a.n-1); idx++ {
		e := a.get(idx)
		if e == nil {
			_, e = a.waiting(idx)
		}
		if e == nil && a.isPending(idx) {
			a.addSkip(idx, idx)
			e = m.newElem(a, idx, 1, 0)
			e.state = jobspec.StateSched
			a.pushAgain(e)
		}
		if e != nil && e.state != jobspec.StateInactive {
			m.raise(e, exc, m.now)
		}
	}
}

func (m *Machine) onSignalled(ev Signalled) {
	for _, t := range ev.Targets {
		a := m.arrays[t.Array]
		if a == nil {
			m.fail(t.Array, "job is inactive")
			continue
		}
		n := 0
		for _, e := range a.sortedActive() {
			if e.idx < t.Lo || e.idx > t.Hi || e.state != jobspec.StateRun {
				continue
			}
			n++
			e.killed = true
			for i := range e.parts {
				m.kill(e, &e.parts[i], ev.Signal, false)
			}
		}
		if n == 0 && t.Lo == t.Hi {
			text := "job is not running"
			if m.inactive(a, t.Lo) {
				text = "job is inactive"
			}
			m.fail(a.idOf(t.Lo), text)
		}
	}
}

// onDenied ends what can never run any more.
func (m *Machine) onDenied(ev Denied) {
	a := m.arrays[ev.Array]
	if a == nil {
		return
	}
	exc := Exception{"alloc", 0, "unsatisfiable request: " + ev.Reason}
	for len(a.again) > 0 {
		i := a.again[0].idx
		m.end0(a, Target{a.id, i, i}, exc, jobspec.StatesPending)
	}
	for _, s := range a.addSkip(a.next, a.n-1) {
		m.endSpan(a, s, exc)
	}
}
