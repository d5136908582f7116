package job

import (
	"slices"
	"time"
)

// How dependencies are told of what they wait for: an array knows its followers and tells them; for what happened before, the store is asked.

// listen has all dependencies of a that are not met told of what happens, and asks for what has happened.
func (m *Machine) listen(a *array) {
	if a.wait == nil {
		return
	}
	for i := range a.wait.deps {
		if d := &a.wait.deps[i]; !d.done {
			m.listenFor(a, i, d)
		}
	}
	m.dependsMet(a)
}

func (m *Machine) listenFor(a *array, i int, d *depend) {
	switch d.Scheme {
	case "begin-time":
		if at := beginAt(d.Time); at.After(m.clock) {
			m.timers.add(timer{at: at, kind: timeBegin, run: RunKey{Job: a.id}})
		} else {
			m.met(a, d)
		}
		return
	case "singleton":
		m.singles[a.spec.Job.Name] = append(m.singles[a.spec.Job.Name], a)
		m.hasten(a, HasteDone) // the next one waits for it
		m.releaseSingle(a.spec.Job.Name)
		return
	}
	t := m.arrays[d.to.Array]
	if t != nil {
		m.follow(t, follower{a, i})
		if d.Scheme == "afterstart" {
			for _, e := range append(t.sortedActive(), t.again...) {
				if e.begun {
					m.outcome(a, i, Outcome{Lo: e.idx, Hi: e.idx, Ran: true})
				}
			}
		}
	}
	if t == nil || t.durably > 0 {
		d.asking = true
		m.out.Lookups = append(m.out.Lookups, Lookup{a.id, i, d.Scheme, d.to})
	}
}

// beginAt is the first moment that is surely not before t: as a float it is good to a quarter of a microsecond.
func beginAt(t float64) time.Time {
	return time.UnixMicro(int64(t*1e6) + 1)
}

// follower is a dependency of arr.
type follower struct {
	arr *array
	dep int
}

func (m *Machine) onLooked(ev Looked) {
	a := m.arrays[ev.Array]
	if a == nil || a.wait == nil {
		return
	}
	d := &a.wait.deps[ev.Depend]
	if ev.Failed {
		m.timers.add(timer{at: m.clock.Add(time.Second), kind: timeLookup, run: RunKey{Job: a.id, Attempt: uint32(ev.Depend)}})
		return
	}
	if d.asking = false; ev.Gone {
		m.neverKnown(a, d)
	}
	for _, o := range ev.Ended {
		m.outcome(a, ev.Depend, o)
	}
}

// lookAgain repeats a lookup that failed.
func (m *Machine) lookAgain(key RunKey) {
	if a := m.arrays[key.Job]; a != nil && a.wait != nil {
		if d := &a.wait.deps[key.Attempt]; d.asking {
			m.out.Lookups = append(m.out.Lookups, Lookup{a.id, int(key.Attempt), d.Scheme, d.to})
		}
	}
}

// begins tells those that depend on a's start that time has come.
func (m *Machine) begins(a *array) {
	for i := range a.wait.deps {
		if d := &a.wait.deps[i]; d.Scheme == "begin-time" && !beginAt(d.Time).After(m.clock) {
			m.met(a, d)
		}
	}
	m.dependsMet(a)
}

// tellFollowers tells those that depend on a how elements of it ended, durably.
func (m *Machine) tellFollowers(a *array, o Outcome) {
	over := false
	for _, f := range a.followers {
		if m.over(f) {
			over = true
		} else if o.Lo < o.Hi || f.arr.wait.deps[f.dep].to.Elements.Has(o.Lo) {
			m.outcome(f.arr, f.dep, o)
		}
	}
	if over {
		a.followers = slices.DeleteFunc(a.followers, m.over)
	}
}

// follow has f told of t's elements. Those that are over go before there is more room: a job that runs for months does not hold on to all
// that ever waited for its start.
func (m *Machine) follow(t *array, f follower) {
	if len(t.followers) == cap(t.followers) {
		t.followers = slices.DeleteFunc(t.followers, m.over)
	}
	t.own().followers = append(t.followers, f)
	m.hasten(t, f.arr.wait.deps[f.dep].haste())
}

// over tells whether a dependency need not be told of anything more.
func (m *Machine) over(f follower) bool {
	return m.arrays[f.arr.id] != f.arr || f.arr.wait.deps[f.dep].done
}

// tellBegun tells those that wait for a's start that an element has started.
func (m *Machine) tellBegun(e *elem) {
	if e.begun {
		return
	}
	e.begun = true
	for _, f := range e.arr.followers {
		if f.arr.wait.deps[f.dep].Scheme == "afterstart" {
			m.outcome(f.arr, f.dep, Outcome{Lo: e.idx, Hi: e.idx, Ran: true})
		}
	}
}
