package exec

import "time"

// records is the queue of facts that the leader has not acknowledged: batches that are on their way, then those to be sent.
type records struct {
	sent    []batch
	pending []Record
	bytes   int    // of output in all of them
	fresh   []*run // whose Started waits, in order of waiting
	urgent  bool   // something pending should go as soon as the gap allows
	last    int64  // when the last report went
}

type batch struct {
	call uint64
	sent int64
	recs []Record
}

func (q *records) empty() bool { return len(q.sent) == 0 && len(q.pending) == 0 }

// recall takes back what was sent, to the front and in order.
func (q *records) recall() {
	if len(q.sent) == 0 {
		return
	}
	var all []Record
	for _, b := range q.sent {
		all = append(all, b.recs...)
	}
	q.pending = append(all, q.pending...)
	q.sent = nil
	q.urgent = true
}

// purge removes a run's records that are not on their way.
func (q *records) purge(ref Ref) {
	var kept []Record
	for _, r := range q.pending {
		if r.Ref == ref {
			q.bytes -= len(r.Data)
		} else {
			kept = append(kept, r)
		}
	}
	q.pending = kept
}

// take cuts the next batch off the pending records.
func (q *records) take() []Record {
	n, size := 0, 0
	for n < len(q.pending) && n < maxBatch && (n == 0 || size+len(q.pending[n].Data) <= maxBatchSize) {
		size += len(q.pending[n].Data)
		n++
	}
	recs := q.pending[:n:n]
	q.pending = q.pending[n:]
	if len(q.pending) == 0 {
		q.pending = nil // the array belongs to the batch now
	}
	return recs
}

// gap is the least time between two reports. A few go at once: a timer costs as much as a report, and slots wait for what the leader
// makes of it. The slower they are answered, the larger they become.
func (q *records) gap(cfg *Config) int64 {
	switch n := len(q.sent); {
	case n < cfg.MaxCalls/8:
		return 0
	case n < cfg.MaxCalls/4:
		return int64(cfg.ReportGap)
	case n < cfg.MaxCalls/2:
		return int64(max(cfg.ReportGap, 2*time.Millisecond))
	}
	return int64(max(cfg.ReportGap, 8*time.Millisecond))
}

// next is when flush has something to do, 0 = not before another event.
func (q *records) next(m *Machine) int64 {
	var at int64
	if len(q.fresh) > 0 {
		at = q.fresh[0].freshAt
	}
	if q.urgent && m.synced && len(q.sent) < m.cfg.MaxCalls {
		at = earliest(at, q.last+q.gap(&m.cfg))
	}
	return at
}

// record queues a fact about a run.
func (m *Machine) record(r *run, rec Record) {
	if r.discard {
		return
	}
	if r.fresh {
		m.pushStarted(r)
	}
	rec.Ref = r.job.Ref
	if rec.Time == 0 {
		rec.Time = m.wall
	}
	m.queue.pending = append(m.queue.pending, rec)
	m.queue.bytes += len(rec.Data)
	m.queue.urgent = true
}

// holdStarted keeps a Started back for a moment, since with the Ended of a short job nobody needs it.
func (m *Machine) holdStarted(r *run) {
	if r.discard {
		return
	}
	r.fresh, r.freshAt = true, m.now+int64(m.cfg.StartedDelay)
	m.queue.fresh = append(m.queue.fresh, r)
}

func (m *Machine) pushStarted(r *run) {
	r.fresh = false
	m.queue.pending = append(m.queue.pending, Record{Kind: RecStarted, Ref: r.job.Ref, Time: r.lastStart, NTasks: r.ntasks})
	m.queue.urgent = true
}

// settleFresh lets out the Starteds that have waited, and drops runs that no longer wait.
func (m *Machine) settleFresh() {
	q := &m.queue
	n := 0
	for ; n < len(q.fresh); n++ {
		r := q.fresh[n]
		if r.fresh && r.freshAt > m.now {
			break
		}
		if r.fresh {
			m.pushStarted(r)
		}
		q.fresh[n] = nil
	}
	if q.fresh = q.fresh[n:]; len(q.fresh) == 0 {
		q.fresh = nil
	}
}

// flush sends what is due.
func (m *Machine) flush() {
	m.settleFresh()
	q := &m.queue
	for m.synced && q.urgent && len(q.sent) < m.cfg.MaxCalls {
		if q.last != 0 && m.now < q.last+q.gap(&m.cfg) && len(q.pending) < maxBatch {
			return
		}
		recs := q.take()
		q.urgent = len(q.pending) > 0
		if len(recs) == 0 {
			return
		}
		m.calls++
		q.sent = append(q.sent, batch{m.calls, m.now, recs})
		m.act(CallReport{m.calls, m.session, recs})
		if !q.urgent {
			q.last = m.now
		}
	}
}

func (m *Machine) onReportReply(ev ReportReply) {
	q := &m.queue
	for i, b := range q.sent {
		if b.call != ev.Call {
			continue
		}
		if ev.Failed || ev.Resync {
			m.reportFailed(ev.Resync)
			return
		}
		q.sent = append(q.sent[:i], q.sent[i+1:]...)
		m.acknowledged(b.recs)
		m.extend(b.sent)
		if m.lease.renew != 0 { // the leader has heard of us: a renewal can wait
			m.lease.renew = max(m.lease.renew, m.renewalAfter(b.sent))
		}
		return
	}
}

// reportFailed waits for the next session. If contact was not lost there is nothing to wait for.
func (m *Machine) reportFailed(resync bool) {
	m.queue.recall()
	m.synced = false
	m.lease.renew = 0
	switch {
	case !m.contact.Up:
	case resync:
		m.sync()
	default:
		m.resyncAt = m.now + int64(resyncDelay)
	}
}

func (m *Machine) acknowledged(recs []Record) {
	for i := range recs {
		m.queue.bytes -= len(recs[i].Data)
		if recs[i].Kind == RecEnded {
			if r := m.runs[recs[i].Ref]; r != nil {
				m.forget(r)
			}
		}
	}
}

// throttle stops and resumes the reading of output.
func (m *Machine) throttle() {
	switch {
	case !m.paused && m.queue.bytes > m.cfg.MaxUnacked:
		m.paused = true
	case m.paused && m.queue.bytes <= m.cfg.MaxUnacked/2:
		m.paused = false
	default:
		return
	}
	m.act(Flow{m.paused})
}
