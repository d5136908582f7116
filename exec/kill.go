package exec

import (
	"fmt"
	"math"
	"time"

	"github.com/frond-hpc/frond/jobspec"
)

// Signal numbers of Linux, the same on all architectures that Go runs on but mips.
const (
	sigKILL = 9
	sigALRM = 14
	sigTERM = 15
)

// Types of exceptions. What has typeLease is run again by the leader.
const (
	typeExec    = "exec"
	typeTimeout = "timeout"
	typeLease   = "lease"
	typeMemory  = "memory"
	typeProlog  = "prolog"
	typeEpilog  = "epilog"
)

func (m *Machine) exception(r *run, typ string, severity int, note string) {
	m.record(r, Record{Kind: RecException, Type: typ, Severity: severity, Note: note})
}

func (r *run) killTimeout() int64 {
	if r.job.Spec == nil || r.job.Spec.Job == nil {
		return 0
	}
	return nanos(r.shell().KillTimeout)
}

// nanos converts seconds, with room to be added to any time.
func nanos(s float64) int64 {
	return int64(min(max(s, 0)*1e9, math.MaxInt64/4))
}

func (m *Machine) onKillRuns(ev KillRuns) {
	if ev.Session != m.session {
		return
	}
	for _, ref := range ev.Runs {
		r := m.runs[ref]
		switch {
		case r == nil || r.over || r.phase == inEpilog: // an epilog is not the job's to end
		case ev.End:
			m.end(r, sigTERM, r.killTimeout())
		default:
			m.signal(r, ev.Signal)
		}
	}
}

// onSetLimits moves the time limits of runs; 0 = none any more.
func (m *Machine) onSetLimits(ev SetLimits) {
	if ev.Session != m.session {
		return
	}
	for _, ref := range ev.Runs {
		r := m.runs[ref]
		if r == nil || r.over || r.ending {
			continue
		}
		r.job.Limit, r.limitAt, r.warnAt = ev.Limit, 0, 0
		if r.beganAt != 0 {
			m.applyLimit(r)
			m.reschedule(r)
		}
	}
}

// signal passes a signal on. A mock run dies of those that end a process by default, and ignores the others.
func (m *Machine) signal(r *run, sig int) {
	switch {
	case r.side != nil:
		m.act(Signal{r.side.id, sig})
		return
	case r.prepared():
		return
	}
	if !r.mock {
		m.act(Signal{r.job.ID, sig})
		return
	}
	switch sig {
	case 0, 17, 18, 19, 20, 21, 22, 23, 28: // test, CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH
	default:
		r.status = jobspec.TaskStatus(sig)
		m.finish(r, m.wall)
	}
}

// end tells a run to end with sig, and has it killed when it has not after grace. Who is ending already gets no more time.
func (m *Machine) end(r *run, sig int, grace int64) {
	if r.ending && sig != sigKILL {
		if r.killAt > m.now+grace {
			r.killAt = m.now + grace
			m.reschedule(r)
		}
		return
	}
	r.ending = true
	if r.prepared() { // nothing of it runs
		r.status = max(r.status, jobspec.TaskStatus(sig))
		m.finish(r, m.wall)
		return
	}
	r.limitAt, r.warnAt, r.exitAt = 0, 0, 0
	r.killDelay = max(grace, int64(time.Second))
	r.killAt = m.now + grace
	if grace <= 0 {
		sig = sigKILL
		r.killAt = m.now + r.killDelay
	}
	m.signal(r, sig)
	if !r.over {
		m.reschedule(r)
	}
}

// setLimits sets the deadlines that count from a run's start.
func (m *Machine) setLimits(r *run) {
	r.beganAt = m.now
	m.applyLimit(r)
}

// applyLimit sets the deadlines that follow from the time limit and the start; a warning that was given is not given again unless the
// limit has moved away.
func (m *Machine) applyLimit(r *run) {
	limit := int64(r.job.Limit)
	if limit <= 0 || r.ending {
		return
	}
	r.limitAt = r.beganAt + limit
	if sh := r.shell(); sh.Signal > 0 && sh.SignalLeft > 0 && nanos(sh.SignalLeft) < limit {
		r.warnAt = r.limitAt - nanos(sh.SignalLeft)
	}
	m.reschedule(r)
}

// reschedule puts the run where its earliest deadline is.
func (m *Machine) reschedule(r *run) {
	var at int64
	for _, t := range [...]int64{r.limitAt, r.warnAt, r.killAt, r.exitAt, r.mockAt, r.fenceAt} {
		at = earliest(at, t)
	}
	m.timers.set(r, at)
}

// onDeadline does one thing that is due for r.
func (m *Machine) onDeadline(r *run) {
	due := func(t int64) bool { return t != 0 && t <= m.now }
	switch {
	case due(r.mockAt):
		m.endMock(r)
		return
	case due(r.fenceAt):
		r.fenceAt = 0
		if r.ask != nil && r.ask.call == 0 {
			m.askFence(r)
		}
	case due(r.warnAt):
		r.warnAt = 0
		m.signal(r, r.shell().Signal)
	case due(r.limitAt) && r.phase != inTasks:
		m.exception(r, r.phase.String(), int(r.phase-inProlog), fmt.Sprintf("%s took longer than 30 minutes", r.phase))
		m.end(r, sigKILL, 0)
	case due(r.limitAt):
		m.exception(r, typeTimeout, 0, "resource allocation expired")
		m.end(r, sigALRM, r.killTimeout())
	case due(r.exitAt):
		note := fmt.Sprintf("a task exited and exit-timeout=%s has expired", jobspec.FormatFSD(r.shell().ExitTimeout))
		m.exception(r, typeExec, 0, note)
		m.end(r, sigTERM, r.killTimeout())
	case due(r.killAt):
		r.killAt = m.now + r.killDelay
		r.killDelay = min(2*r.killDelay, int64(maxKillDelay))
		m.signal(r, sigKILL)
	}
	if !r.over {
		m.reschedule(r)
	}
}
