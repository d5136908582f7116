package job

import (
	"math"
	"time"

	"github.com/frond-hpc/frond/jobspec"
)

// The instance ends at its expiration. What runs then is ended by whoever ends the instance; this machine warns the jobs that asked for a
// warning (--signal) and have no earlier time limit of their own, by which the brokers would warn them.

// Expiration is when a running element is ended at the latest, by its time limit or with the instance: epoch seconds; 0 = unknown.
func (m *Machine) Expiration(v *View) float64 {
	if v.Limit > 0 && (m.expiration == 0 || v.Fold.TRun+v.Limit < m.expiration) {
		return v.Fold.TRun + v.Limit
	}
	return m.expiration
}

func (m *Machine) onExpires(ev Expires) {
	m.expiration, m.warnAt = ev.At, 0
	m.warn()
}

// warnLater has an element that has just begun warned in time.
func (m *Machine) warnLater(e *elem) {
	if at := m.warnTime(e); at > m.now {
		m.armWarning(at)
	} else {
		e.warned = true // it would hardly have a handler yet
	}
}

// warnTime is when an element is to be warned of the instance's end; +Inf = not.
func (m *Machine) warnTime(e *elem) float64 {
	sh := &e.arr.spec.Job.Shell
	if m.expiration == 0 || sh.Signal == 0 || sh.SignalLeft <= 0 || e.limit > 0 && e.tRun+e.limit <= m.expiration {
		return math.Inf(1)
	}
	return m.expiration - sh.SignalLeft
}

func (m *Machine) armWarning(at float64) {
	if !math.IsInf(at, 1) && (m.warnAt == 0 || at < m.warnAt) {
		m.warnAt = at
		m.timers.add(timer{at: time.UnixMicro(int64(math.Ceil(at * 1e6))), kind: timeWarn})
	}
}

// warn sends the signals that are due.
func (m *Machine) warn() {
	if m.expiration == 0 || m.warnAt > m.now {
		return
	}
	m.warnAt = 0
	next := math.Inf(1)
	for _, id := range m.order {
		a := m.arrays[id]
		if a == nil || a.running == 0 || a.spec.Job.Shell.Signal == 0 {
			continue
		}
		for _, e := range a.sortedActive() {
			at := m.warnTime(e)
			switch {
			case e.state != jobspec.StateRun || !e.started:
			case at > m.now:
				e.warned = false // the end was put off
				next = min(next, at)
			case !e.warned:
				e.warned = true
				for i := range e.parts {
					m.kill(e, &e.parts[i], a.spec.Job.Shell.Signal, false)
				}
			}
		}
	}
	m.armWarning(next)
}
