package job

import (
	"container/heap"
	"fmt"
	"time"

	"github.com/frond-hpc/frond/jobspec"
)

// load takes over what an earlier leader left. Nothing is started until every broker of its that may be alive has synced, is known
// dead, or its lease is surely over.
func (m *Machine) load(l *Loaded) error {
	m.epoch, m.lastID = max(l.Epoch, 1), l.LastID
	c := l.Counts
	m.totals.Inactive = c.Completed + c.Failed + c.Canceled + c.TimedOut
	m.totals.Failed = c.Failed + c.Canceled + c.TimedOut
	m.totals.Canceled, m.totals.TimedOut, m.totals.Purged = c.Canceled, c.TimedOut, l.Purged
	for _, row := range l.Queues {
		m.queueOf(row.Name).row = row
	}
	for i := range l.Arrays {
		if err := m.loadArray(&l.Arrays[i]); err != nil {
			return err
		}
	}
	if err := m.loadGrants(l.Grants); err != nil {
		return err
	}
	for _, id := range m.order {
		a := m.arrays[id]
		if m.listen(a); a.hi > 0 {
			m.meetAll(a)
		}
	}
	m.gate = make(map[int32]string)
	for _, row := range l.Members {
		if row.State == "online" || row.State == "lost" {
			m.gate[row.Rank] = row.UUID
		}
	}
	if len(m.arrays) == 0 {
		m.gate = nil
	}
	if len(m.gate) > 0 {
		m.gateAt = m.clock.Add(m.cfg.Lease + LeaseMargin)
		m.timers.add(timer{at: m.gateAt, kind: timeGate})
		hold := true
		m.out.Hold = &hold
	} else {
		m.ungate()
	}
	return nil
}

func (m *Machine) loadArray(l *LoadedArray) error {
	j, err := m.cfg.Parse(l.JSON)
	if err != nil {
		return fmt.Errorf("read jobspec of %v from the store: %w", l.ID, err)
	}
	var env *Env
	if l.Env != 0 {
		env = &Env{l.Env, l.EnvData}
	}
	a := m.newArray(&l.ArrayRow, &Spec{l.Spec, l.JSON, j}, env)
	a.durable = true
	if l.Hi > 0 {
		a.own().hi = l.Hi
	}
	n := 0
	for _, s := range l.Finished {
		a.addSkip(s.Lo, s.Hi)
		n += s.Hi - s.Lo + 1
	}
	r := l.Results
	a.done = [4]int32{int32(r.Completed), int32(r.Failed), int32(r.Canceled), int32(r.TimedOut)}
	a.ended, a.durably, a.pending = n, n, l.N-n
	a.fails = a.done[1] + a.done[3]
	if err := m.restore(a); err != nil {
		return fmt.Errorf("read the log of %v from the store: %w", l.ID, err)
	}
	m.addArray(a)
	m.adjust(a)
	for _, s := range l.Starts {
		if a.isPending(s.Index) {
			m.claims = append(m.claims, claim{a, s})
			a.claim(s)
		}
	}
	return nil
}

// claim is a durable start of an earlier leader: of a rerun=no element, that must not be started again unless it surely never ran, or of
// one that failed and is to run again.
type claim struct {
	arr *array
	row StartRow
}

func (m *Machine) gated() bool { return m.gate != nil }

// openGate notes that a broker of the leader before has been heard of, or is dead.
func (m *Machine) openGate(rank int32) {
	if m.gate == nil {
		return
	}
	delete(m.gate, rank)
	if len(m.gate) == 0 {
		m.ungate()
	}
}

// ungate ends the recovery: what was not adopted by now is not running anywhere.
func (m *Machine) ungate() {
	m.gate = nil
	for _, c := range m.claims {
		m.settle(c)
	}
	m.claims = nil
	m.failedEnough()
	for _, id := range m.order {
		a := m.arrays[id]
		if a == nil {
			continue
		}
		if a.claimed != nil {
			a.claimed = nil
		}
		for _, e := range a.sortedActive() {
			m.completeAdopted(e)
		}
	}
	m.endLate()
	if m.list != nil {
		m.onListed(*m.list)
		m.list = nil
	}
	m.letGo()
}

// letGo lets elements start, unless a parent has a word in it.
func (m *Machine) letGo() {
	hold := m.unlisted
	m.out.Hold = &hold
	m.regrant()
}

func (m *Machine) settle(c claim) {
	if !c.arr.isPending(c.row.Index) {
		return
	}
	c.arr.addSkip(c.row.Index, c.row.Index)
	attempt := c.row.Attempt
	if m.rerun(c.arr) {
		attempt++ // this one may have been started
	}
	e := m.newElem(c.arr, c.row.Index, attempt, c.row.Failed)
	if c.row.Node == "" { // an earlier attempt surely never ran, or failed
		e.state = jobspec.StateSched
		c.arr.pushAgain(e)
		return
	}
	c.arr.put(e)
	m.unqueue(c.arr, 1)
	c.arr.running++
	m.raise(e, Exception{"lost", 0, "started on node " + c.row.Node + ", which was lost while the instance restarted"}, m.now)
	m.finish(e, m.now)
}

// completeAdopted gives up an adopted element some of whose brokers did not come back.
func (m *Machine) completeAdopted(e *elem) {
	if !e.adopted || len(e.res.Nodes) >= e.nnodes {
		return
	}
	e.log.add(evAlloc, max(e.tRun, e.log.last), appendAlloc(nil, partsOf(e.res)))
	e.lost, e.ran = "a node of it did not come back after the restart", true
	m.endOthers(e)
	m.conclude(e, m.now)
}

// timers is a heap by time.
type timers []timer

type timer struct {
	at   time.Time
	kind timerKind
	rank int32
	run  RunKey
}

type timerKind uint8

const (
	timeLease  timerKind = iota // a silent broker's lease is surely over
	timeGate                    // so is that of all brokers of the leader before
	timeBegin                   // a begin-time has come
	timeLookup                  // a lookup that failed is tried again
	timeExit                    // the exit timeout of a job on several brokers
	timeWarn                    // jobs are to be warned of the instance's end
	timeRise                    // the start limit of an instance
)

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }

// Push implements heap.Interface.
func (t *timers) Push(x any) { *t = append(*t, x.(timer)) }

// Pop implements heap.Interface.
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

func (t *timers) add(x timer) { heap.Push(t, x) }

func (m *Machine) runTimers() {
	for len(m.timers) > 0 && !m.timers[0].at.After(m.clock) {
		t := heap.Pop(&m.timers).(timer)
		switch t.kind {
		case timeLease:
			m.leaseOver(t)
		case timeGate:
			if m.gated() {
				m.ungate()
			}
		case timeBegin:
			if a := m.arrays[t.run.Job]; a != nil {
				m.begins(a)
			}
		case timeLookup:
			m.lookAgain(t.run)
		case timeRise:
			m.riseOver(t.run)
		case timeExit:
			m.exitOver(t.run)
		case timeWarn:
			m.warn()
		}
	}
}

func (m *Machine) leaseOver(t timer) {
	r := m.rank(t.rank)
	if !r.lost || r.over {
		return
	}
	if d := m.deadline(r); d.After(m.clock) {
		m.timers.add(timer{at: d, rank: r.id, kind: timeLease})
		return
	}
	m.loseRank(r, orElse(r.reason, "no contact")+"; its lease is over")
}

func (m *Machine) exitOver(key RunKey) {
	if a, idx := m.find(key.Job); a != nil && idx >= 0 {
		if e := a.get(idx); e != nil && e.key() == key && e.state == jobspec.StateRun {
			m.raise(e, Exception{"exec", 0, "some tasks still run long after the first exited (exit-timeout)"}, m.now)
			m.endRun(e)
		}
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
