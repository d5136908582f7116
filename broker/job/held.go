package job

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/frond-hpc/frond/broker/branch"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/idset"
)

func (m *Machine) onAcked(ev Acked) {
	for _, s := range ev.Began {
		if a := m.arrays[s.Array]; a != nil {
			m.heldBegan(a, ev.Branch, s.Elements)
		}
	}
	for i := range ev.Ends {
		e := &ev.Ends[i]
		a := m.arrays[e.Array]
		if a == nil {
			continue
		}
		for _, p := range m.settleHeld(ev.Branch, e.Share, true) {
			for r := range p.Elements.Ranges() {
				m.endHeld(a, ev.Branch, p.Grant, Span{r.Lo, r.Hi}, e)
			}
		}
		m.uncast(a)
	}
	for i := range ev.Backs {
		m.onBack(ev.Branch, &ev.Backs[i])
	}
}

// settleHeld takes out of the ledger what the branch holds of a share.
func (m *Machine) settleHeld(from int, s branch.Share, ended bool) []branch.Part {
	parts := m.ledger.Settle(from, s)
	n := 0
	for _, p := range parts {
		if n += p.Elements.Len(); m.ledger.Over(p.Grant) {
			m.txn.Over = append(m.txn.Over, p.Grant)
		} else if !ended {
			m.shrunk[p.Grant] = true
		}
	}
	if n > 0 {
		cores := n
		if a := m.arrays[s.Array]; a != nil {
			cores *= Cores(a.spec.Job)
		}
		m.out.Settled = append(m.out.Settled, Settled{from, s.Array, n, cores, ended})
	}
	return parts
}

// writeShrunk has the store know what was given back: nobody else says so to the next leader, by whom it would be held still.
func (m *Machine) writeShrunk() {
	for _, num := range slices.Sorted(maps.Keys(m.shrunk)) {
		if to, rest := m.ledger.Rest(num); len(rest) > 0 {
			m.txn.Grants = append(m.txn.Grants, GrantRow{num, to, EncodeShares(rest)})
		}
	}
	clear(m.shrunk)
}

// endHeld ends elements as a branch says.
func (m *Machine) endHeld(a *array, from int, grant uint64, s Span, e *End) {
	n := s.Hi - s.Lo + 1
	a.held -= int32(n)
	a.ended += n
	a.status = max(a.status, int32(e.Status))
	t := max(e.Time, a.submit)
	log := eventLog{last: a.submit}
	log.add(evGrant, t, m.grantContext(grant, from))
	if e.Status >= 0 {
		log.addInt(evFinish, t, int64(e.Status))
	}
	if e.Exc != nil {
		ctx, _ := json.Marshal(e.Exc)
		log.add(evException, t, ctx)
	}
	log.add(evClean, t, nil)
	if e.Result != jobspec.ResultCompleted && a.exc == "" && e.Exc != nil {
		a.own().exc = "type=" + e.Exc.Type + " " + e.Exc.Note
	}
	if e.Result == jobspec.ResultFailed || e.Result == jobspec.ResultTimeout {
		m.failed(a, n)
	}
	if a.spec.Job.Array.Limit > 0 {
		m.adjust(a)
	}
	m.endRange(a, s, ending{e.Result, e.Status, e.Exc, e.Ran, t}, log.buf)
}

func (m *Machine) grantContext(grant uint64, to int) []byte {
	return appendGrant(grant, strconv.Itoa(to))
}

// onBack makes elements pending again that a branch gives back.
func (m *Machine) onBack(from int, b *Back) {
	a := m.arrays[b.Array]
	if a == nil {
		return
	}
	var back idset.Set
	for _, p := range m.settleHeld(from, b.Share, false) {
		back = back.Union(p.Elements)
	}
	if back.Empty() {
		return
	}
	m.release(a, back.Len())
	for _, g := range b.Again {
		if back.Has(g.Index) {
			back.RemoveRange(g.Index, g.Index)
			a.pushAgain(&elem{arr: a, idx: g.Index, attempt: g.Attempt, fails: g.Fails, status: -1, watched: a.watched, state: jobspec.StateSched,
				log: eventLog{buf: g.Log, last: lastTime(g.Log, a.submit)}})
		}
	}
	m.pendingAgain(a, back)
	if b.Lost {
		a.own().tried = a.tried.Union(back)
	}
	m.recast(a)
}

// lastTime is the time of a log's last entry.
func lastTime(log []byte, submit float64) float64 {
	last := submit
	_ = scanLog(log, submit, func(e rawEvent) error {
		last = e.time
		return nil
	})
	return last
}

// pendingAgain makes elements pending.
func (m *Machine) pendingAgain(a *array, set idset.Set) {
	for r := range set.Ranges() {
		a.unskip(r.Lo, r.Hi)
		if a.wait != nil && a.wait.corr {
			m.makeReady(a, Span{r.Lo, r.Hi})
		}
	}
	m.adjust(a)
}

// recast ends what came back of elements that are to end.
func (m *Machine) recast(a *array) {
	for _, c := range a.casts {
		for r := range c.Elements.Ranges() {
			if c.States == 0 || c.States&jobspec.StatesPending != 0 {
				m.endPending(a, Target{a.id, r.Lo, r.Hi}, c.Exc)
			}
		}
	}
	m.uncast(a)
}

// uncast forgets the exceptions when no branch holds anything.
func (m *Machine) uncast(a *array) {
	if a.held == 0 && len(a.casts) > 0 {
		a.casts = nil
	}
}

func (m *Machine) onForfeited(ev Forfeited) {
	for _, s := range m.ledger.Shares(ev.Branch) {
		a := m.arrays[s.Array]
		if a == nil || m.rerun(a) {
			m.onBack(ev.Branch, &Back{Share: s, Lost: true})
			continue
		}
		e := End{Share: s, Result: jobspec.ResultFailed, Status: -1, Ran: true, Time: m.now,
			Exc: &Exception{"lost", 0, fmt.Sprintf("lost with branch %d: %s", ev.Branch, ev.Reason)}}
		m.onAcked(Acked{Branch: ev.Branch, Ends: []End{e}})
	}
}

// castTo passes an exception to the branches that hold elements of a target.
func (m *Machine) castTo(a *array, t Target, exc Exception, states jobspec.State) {
	if a.held == 0 || t.Hi < t.Lo {
		return
	}
	c := Cast{Share: branch.Share{Array: a.id, Elements: idset.FromRange(max(t.Lo, 0), t.Hi)}, Exc: exc, States: states}
	for _, h := range m.ledger.Of(a.id) {
		m.cast(a, h.Branch, c, h.Elements)
	}
	if exc.Severity == 0 {
		a.own().casts = append(a.casts, c)
	}
}

func (m *Machine) cast(a *array, to int, c Cast, held idset.Set) {
	if c.Elements = c.Elements.Intersect(held); !c.Elements.Empty() {
		c.Branch = to
		m.out.Casts = append(m.out.Casts, c)
	}
}

// LastGrant is the number of the latest grant.
func (m *Machine) LastGrant() uint64 { return m.ledger.Last() }

// HeldCores is how many cores the elements that a branch holds ask for.
func (m *Machine) HeldCores(of int) (cores int) {
	for _, s := range m.ledger.Shares(of) {
		if a := m.arrays[s.Array]; a != nil {
			cores += s.Elements.Len() * Cores(a.spec.Job)
		}
	}
	return cores
}

// Recast is the exceptions that a branch has to be told of again: it may have missed them.
func (m *Machine) Recast(to int) []Cast {
	m.out = &Actions{}
	for _, s := range m.ledger.Shares(to) {
		if a := m.arrays[s.Array]; a != nil {
			for _, c := range a.casts {
				m.cast(a, to, c, s.Elements)
			}
		}
	}
	casts := m.out.Casts
	m.out = nil
	return casts
}

// heldBegan tells who waits for it that elements have started in a branch.
func (m *Machine) heldBegan(a *array, from int, set idset.Set) {
	if m.hasteOf(a) < HasteEach {
		return
	}
	for _, h := range m.ledger.Of(a.id) {
		if h.Branch != from {
			continue
		}
		for r := range set.Intersect(h.Elements).Ranges() {
			for _, f := range a.followers {
				if f.arr.wait.deps[f.dep].Scheme == "afterstart" {
					m.outcome(f.arr, f.dep, Outcome{Lo: r.Lo, Hi: r.Hi, Ran: true})
				}
			}
			if m.cfg.Branch {
				m.out.Began, m.out.Soon = append(m.out.Began, Began{a.id, r.Lo, r.Hi}), true
			}
		}
	}
}

// EndedIn is the branch in which elements of a range ended, by the range's log; -1 = they ended here.
func EndedIn(log []byte) int {
	to := -1
	_ = scanLog(log, 0, func(e rawEvent) error {
		if e.code == evGrant {
			if _, n := binary.Uvarint(e.ctx); n > 0 {
				to, _ = strconv.Atoi(string(e.ctx[n:]))
			}
		}
		return nil
	})
	return to
}
