package exec

import (
	"fmt"
	"time"
)

func (m *Machine) onContact(c Contact) {
	m.contact = c
	m.synced = false
	m.resyncAt = 0
	m.queue.recall()
	if c.Up {
		m.sync()
	}
}

// sync opens a new session: what was sent in the one before and not acknowledged will be sent again.
func (m *Machine) sync() {
	m.session++
	m.synced = false
	m.lease.renew = 0
	m.lease.calls = append(m.lease.calls[:0], renewal{m.session, m.now}) // when the sync was sent counts for the lease, too
	m.queue.recall()
	clear(m.specs)
	call := CallSync{Session: m.session}
	for _, r := range m.ordered() {
		if !r.discard {
			call.Runs = append(call.Runs, m.state(r))
		}
	}
	m.act(call)
}

func (m *Machine) state(r *run) RunState {
	s := RunState{Ref: r.job.Ref, Parts: r.job.Parts, Start: r.firstStart, Ended: r.over, NNodes: r.job.NNodes}
	if s.Start > 0 && r.job.Limit > 0 {
		s.End = s.Start + r.job.Limit.Seconds()
	}
	return s
}

func (m *Machine) onSyncReply(ev SyncReply) {
	switch {
	case ev.Session != m.session || m.synced || !m.contact.Up:
		return
	case ev.Failed:
		m.resyncAt = m.now + int64(resyncDelay)
		return
	}
	m.synced = true
	m.lease.length = int64(ev.Lease)
	m.extend(m.lease.calls[0].sent)
	m.lease.calls = m.lease.calls[:0]
	m.lease.renew = m.renewalAfter(m.now)
	for _, ref := range ev.Forget {
		if r := m.runs[ref]; r != nil && r.over {
			m.queue.purge(ref)
			m.forget(r)
		}
	}
	for _, ref := range ev.Kill {
		if r := m.runs[ref]; r != nil {
			m.discard(r)
		}
	}
}

// discard ends a run that the leader has given up; nothing of it is reported.
func (m *Machine) discard(r *run) {
	m.queue.purge(r.job.Ref)
	r.fresh = false
	if r.over {
		m.forget(r)
		return
	}
	r.discard = true
	m.end(r, sigKILL, 0)
}

// renewalAfter is when to renew the lease after the leader was asked for something; 0 = never.
func (m *Machine) renewalAfter(sent int64) int64 {
	if m.lease.length <= 0 {
		return 0
	}
	return sent + m.lease.length/4
}

// extend lets the lease last from the time the leader was asked.
func (m *Machine) extend(sent int64) {
	if m.lease.length > 0 {
		m.lease.end = max(m.lease.end, sent+m.lease.length)
	} else {
		m.lease.end = 0
	}
}

func (m *Machine) renew() {
	m.calls++
	m.lease.calls = append(m.lease.calls, renewal{m.calls, m.now})
	m.lease.renew = m.renewalAfter(m.now)
	m.act(CallRenew{m.calls, m.session})
}

func (m *Machine) onRenewReply(ev RenewReply) {
	if !m.synced {
		return
	}
	for i, c := range m.lease.calls {
		if c.call != ev.Call {
			continue
		}
		m.lease.calls = append(m.lease.calls[:i], m.lease.calls[i+1:]...)
		switch {
		case ev.Resync:
			m.sync()
		case !ev.Failed:
			m.extend(c.sent)
		}
		return
	}
}

// leaseOver: the leader may start elsewhere what runs here, a little later. When this comes late (the machine was suspended) there is
// no time left for a soft end.
func (m *Machine) leaseOver(late int64) {
	note := fmt.Sprintf("rank %d had no contact with the leader for its lease of %v", m.contact.Rank, time.Duration(m.lease.length))
	for _, r := range m.ordered() {
		if r.over || r.discard {
			continue
		}
		grace := min(r.killTimeout(), int64(leaseGrace))
		if late > int64(time.Second) {
			grace = 0
		}
		m.exception(r, typeLease, 0, note)
		m.end(r, sigTERM, grace)
	}
	if m.live > 0 {
		m.log("warn", "lease ended: tasks are killed", "runs", m.live)
	}
}
