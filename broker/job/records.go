package job

import (
	"encoding/json"

	"github.com/frond-hpc/frond/jobspec"
)

func (m *Machine) onReported(ev Reported) {
	r := m.ranks[ev.Rank]
	if r == nil || r.uuid != ev.UUID || r.session != ev.Session || r.session == 0 {
		m.out.Stale = true
		return
	}
	r.last = m.clock
	for i := range ev.Records {
		m.onRecord(r, &ev.Records[i])
	}
}

// onRecord takes one fact. What is known already, or belongs to an attempt that is over, is passed by: it was sent again.
func (m *Machine) onRecord(r *rank, rec *Record) {
	a, idx := m.find(rec.Key.Job)
	if a == nil || idx < 0 {
		return
	}
	e := a.get(idx)
	if e == nil || e.key() != rec.Key {
		return
	}
	p := e.part(r.id)
	if p == nil || p.ended {
		return
	}
	switch rec.Kind {
	case Started:
		m.partStarted(e, p, rec.Time)
	case Output:
		row := OutputRow{e.id(), e.attempt, rec.Task, rec.Stream, rec.Offset, rec.Data}
		m.txn.Output = append(m.txn.Output, row)
		if e.watched || a.follow {
			m.out.Streamed = append(m.out.Streamed, row)
		}
	case Excepted:
		m.partFailed(e, p, rec)
	case Posted:
		m.partPosted(e, p, rec)
	case Ended:
		m.partEnded(e, p, rec)
	}
}

// partStarted posts `start` when the last part has started.
func (m *Machine) partStarted(e *elem, p *part, t float64) {
	p.started, e.ran = true, true
	if e.started {
		return
	}
	for i := range e.parts {
		if !e.parts[i].started {
			return
		}
	}
	e.started = true
	m.tellBegun(e)
	m.tellParent(e)
	m.warnLater(e)
	e.log.add(evStart, max(t, e.log.last), nil)
	m.touch(e)
}

// leaseEnded is the type of the exception by which a broker says that it killed a run because its lease ended.
const leaseEnded = "lease"

func (m *Machine) partFailed(e *elem, p *part, rec *Record) {
	if rec.Type == leaseEnded && e.follows(p) {
		return
	}
	if rec.Type == leaseEnded {
		e.lost, e.ran = orElse(rec.Note, "its lease ended"), true
		return
	}
	if e.failed == 0 {
		e.failed = rec.Status
	}
	if rec.Type == prologFailed {
		m.suspect(e, p, rec)
	}
	m.raise(e, Exception{rec.Type, rec.Severity, rec.Note}, rec.Time)
	if rec.Severity == 0 {
		m.endOthers(e)
	}
}

func (m *Machine) partEnded(e *elem, p *part, rec *Record) {
	e.signal = max(e.signal, rec.Signal)
	if rec.Start > 0 {
		e.began = rec.Start
		m.partStarted(e, p, rec.Start)
	}
	p.ended = true
	follower := e.follows(p)
	if !follower {
		e.status = max(e.status, rec.Status)
		e.leaderDied(rec)
	}
	if e.failed != 0 {
		e.status = e.failed
	}
	e.maxRSS = max(e.maxRSS, rec.MaxRSS)
	e.cpu += rec.CPU
	delete(m.rank(p.rank).runs, e)
	switch {
	case m.conclude(e, max(rec.Time, e.log.last)):
	case follower:
		m.brokerGone(e, p)
	case e.arr.spec.Job.Instance != nil:
		m.endFollowers(e)
		m.conclude(e, max(rec.Time, e.log.last)) // some may never have been sent
	case e.signaled:
	default:
		m.firstExit(e)
	}
}

// firstExit: parts of a job on other brokers go on after the first has ended, for its exit timeout at most.
func (m *Machine) firstExit(e *elem) {
	sh := &e.arr.spec.Job.Shell
	switch {
	case e.fatal() || sh.ExitOnError && e.status != 0:
		m.endOthers(e)
	case sh.ExitTimeout >= 0:
		m.timers.add(timer{at: m.clock.Add(seconds(sh.ExitTimeout)), kind: timeExit, run: e.key()})
	}
}

// endOthers has the parts that still run ended, once.
func (m *Machine) endOthers(e *elem) {
	if e.signaled {
		return
	}
	e.signaled = true
	for i := range e.parts {
		m.kill(e, &e.parts[i], 15, true)
	}
}

func (m *Machine) partLost(e *elem, p *part, reason string, unsent bool) {
	r := m.rank(p.rank)
	delete(r.runs, e)
	p.ended = true
	e.ran = e.ran || !unsent
	if e.follows(p) {
		p.started = true // it is not waited for
		m.brokerGone(e, p)
		m.conclude(e, m.now)
		return
	}
	if e.lost == "" {
		e.lost = m.rankName(r.id) + ": " + reason
	}
	m.endOthers(e)
	m.endFollowers(e)
	m.unsendParts(e)
	m.conclude(e, m.now)
}

// unsendParts takes back the parts of an ending element that were never sent.
func (m *Machine) unsendParts(e *elem) {
	for i := range e.parts {
		if p := &e.parts[i]; !p.sent && !p.ended {
			p.ended = true
			delete(m.rank(p.rank).runs, e)
		}
	}
}

// conclude ends the attempt when nothing of it runs any more; false = something does.
func (m *Machine) conclude(e *elem, t float64) bool {
	if e.state != jobspec.StateRun {
		return true // has been concluded
	}
	for i := range e.parts {
		if !e.parts[i].ended {
			return false
		}
	}
	if e.adopted && m.gated() && len(e.res.Nodes) < e.nnodes {
		return false // more of it may come
	}
	m.freeAllocs(e)
	if e.arr.spec.Job.Instance != nil {
		m.out.Closed = append(m.out.Closed, e.id())
	}
	switch {
	case m.mayRetry(e):
		m.retryFailed(e, t)
	case e.lost == "" || e.fatal():
		if e.status == 0 && e.incomplete() {
			e.status = -1
		}
		m.finish(e, t)
	case m.rerun(e.arr) || !e.ran:
		m.retryLost(e, t)
	default:
		e.status = -1
		m.raise(e, Exception{"lost", 0, "lost with " + e.lost}, t)
		m.finish(e, t)
	}
	return true
}

// incomplete tells whether a part of an attempt that is over was lost, or never sent: that the others did well does not make it complete.
func (e *elem) incomplete() bool {
	for i := range e.parts {
		if p := &e.parts[i]; !p.sent && !e.follows(p) {
			return true
		}
	}
	return e.lost != ""
}

func (m *Machine) freeAllocs(e *elem) {
	if e.alloc != 0 {
		m.out.Free = append(m.out.Free, e.alloc)
	}
	m.out.Free = append(m.out.Free, e.allocs...)
	e.alloc, e.allocs = 0, nil
}

// retry puts an element back into the queue for its next attempt.
func (m *Machine) retry(e *elem, t float64, ctx []byte) {
	e.log.add(evRetry, max(t, e.log.last), ctx)
	a := e.arr
	e.attempt++
	m.txn.Retried = append(m.txn.Retried, e.startRow(e.attempt, ""))
	e.state, e.parts, e.res, e.status, e.started, e.adopted = jobspec.StateSched, nil, nil, -1, false, false
	e.held, e.wants, e.params = false, false, nil
	a.drop(e)
	a.pushAgain(e)
	a.running--
	a.pending++
	m.totals.Running--
	m.totals.Pending++
	m.adjust(a)
	m.touch(e)
}

func (e *elem) fatal() bool { return e.exc != nil && e.exc.Severity == 0 }

// raise posts an exception.
func (m *Machine) raise(e *elem, x Exception, t float64) {
	ctx, _ := json.Marshal(x)
	e.log.add(evException, max(t, e.log.last), ctx)
	if e.exc == nil || e.exc.Severity > 0 {
		e.exc = &x
	}
	m.touch(e)
}

// finish ends an active element: its row goes into the next transaction, and it has ended when that is durable.
func (m *Machine) finish(e *elem, t float64) {
	t = max(t, e.log.last)
	if e.status >= 0 {
		e.log.addInt(evFinish, t, int64(e.status))
	}
	end := t
	for _, ev := range e.after {
		e.log.add(ev.code, max(ev.time, e.log.last), ev.ctx)
	}
	t = max(t, e.log.last)
	if e.res != nil {
		e.log.add(evRelease, t, nil)
		e.log.add(evFree, t, nil)
	}
	e.log.add(evClean, t, nil)
	e.state, e.held, e.wants, e.params = jobspec.StateInactive, false, false, nil
	a := e.arr
	row := ElementRow{ID: e.id(), Array: a.id, Index: e.idx, Result: uint8(result(e.status, e.exc)), Status: e.status, Attempt: e.attempt,
		Start: e.tRun, End: end, MaxRSS: e.maxRSS, CPU: e.cpu, Events: e.log.buf}
	if e.res != nil {
		row.Nodelist, row.Ranks = m.nodelist(e), e.res.Ranks()
	}
	a.running--
	a.ended++
	a.status = max(a.status, int32(e.status))
	m.countFailure(a, jobspec.Result(row.Result))
	if jobspec.Result(row.Result) != jobspec.ResultCompleted && a.exc == "" && e.exc != nil {
		a.own().exc = "type=" + e.exc.Type + " " + e.exc.Note
	}
	m.txn.Ended = append(m.txn.Ended, row)
	if a.follow {
		m.out.Finished = append(m.out.Finished, Finished{row, e.began, e.signal})
	}
	m.next.ended = append(m.next.ended, e)
	m.next.completes = m.next.completes || a.ended == a.n
	m.unstored++
	m.touch(e)
}
