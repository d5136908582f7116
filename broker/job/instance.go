package job

import (
	"fmt"

	"github.com/frond-hpc/frond/jobspec"
)

// An element that is an instance (jobspec.Instance) has one task, a broker, on each broker that holds some of its resources. It is what
// its root part is: what the other brokers end with, and whether they are lost, is for the instance to deal with.

// BrokerGone is a broker of an instance whose process has ended or is lost.
type BrokerGone struct {
	Job     jobspec.ID
	Attempt uint32
	Task    int
}

// root is the part with the leader.
func (e *elem) root() *part {
	for i := range e.parts {
		for k := range e.parts[i].parts {
			if p := &e.parts[i].parts[k]; p.NTasks > 0 && p.FirstTask == 0 {
				return &e.parts[i]
			}
		}
	}
	return &e.parts[0]
}

// follows tells whether p is a broker of an instance but not its leader.
func (e *elem) follows(p *part) bool { return e.arr.spec.Job.Instance != nil && e.root() != p }

// maxLeaders bounds how often an instance is started anew because its leader died.
const maxLeaders = 3

// leaderDied takes the death of an instance's leader by a signal that nobody sent for the loss of its node: it is what --rerun is for.
func (e *elem) leaderDied(rec *Record) {
	if e.arr.spec.Job.Instance != nil && rec.Signal > 0 && !e.signaled && !e.killed && !e.fatal() && e.attempt <= maxLeaders && e.lost == "" {
		e.lost = fmt.Sprintf("its leader, which died of signal %d", rec.Signal)
	}
}

// awaitInstance gives an instance a time to come up.
func (m *Machine) awaitInstance(e *elem) {
	if in := e.arr.spec.Job.Instance; in != nil {
		m.timers.add(timer{at: m.clock.Add(seconds(in.StartLimit)), kind: timeRise, run: e.key()})
	}
}

// Risen: the leader of an instance has said where it is.
type Risen struct{ Job jobspec.ID }

func (m *Machine) onRisen(ev Risen) {
	if a, idx := m.find(ev.Job); a != nil && idx >= 0 {
		if e := a.get(idx); e != nil {
			e.risen = true
		}
	}
}

// riseOver ends an instance that has not come up.
func (m *Machine) riseOver(key RunKey) {
	a, idx := m.find(key.Job)
	if a == nil || idx < 0 {
		return
	}
	e := a.get(idx)
	if e == nil || e.key() != key || e.state != jobspec.StateRun || e.risen || e.fatal() {
		return
	}
	m.raise(e, Exception{"exec", 0, fmt.Sprintf("the instance did not come up within %s", jobspec.FormatFSD(a.spec.Job.Instance.StartLimit))}, m.now)
	m.endRun(e)
}

// endFollowers ends what is left of an instance whose leader has ended.
func (m *Machine) endFollowers(e *elem) {
	if e.arr.spec.Job.Instance == nil {
		return
	}
	m.unsendParts(e)
	for i := range e.parts {
		m.kill(e, &e.parts[i], 15, true)
	}
}

// brokerGone has the instance told, while it has a leader.
func (m *Machine) brokerGone(e *elem, p *part) {
	if e.root().ended {
		return
	}
	for i := range p.parts {
		if p.parts[i].NTasks > 0 {
			m.out.Gone = append(m.out.Gone, BrokerGone{e.id(), e.attempt, p.parts[i].FirstTask})
		}
	}
}

// RunsInstance says why id is not a running instance in that attempt; nil if it is.
func (m *Machine) RunsInstance(id jobspec.ID, attempt uint32) error {
	a, idx := m.find(id)
	var e *elem
	if a != nil && idx >= 0 {
		e = a.get(idx)
	}
	switch {
	case e == nil || e.state != jobspec.StateRun:
		return fmt.Errorf("job %v does not run", id)
	case a.spec.Job.Instance == nil:
		return fmt.Errorf("job %v is no instance", id)
	case e.attempt != attempt:
		return fmt.Errorf("attempt %d of job %v is over, attempt %d runs", attempt, id, e.attempt)
	}
	return nil
}
