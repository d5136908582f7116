package job

import (
	"encoding/json"
	"fmt"

	"github.com/frond-hpc/frond/jobspec"
)

// onChanged changes what belongs to whole arrays. What cannot be done is told by element, and changes nothing of that array.
func (m *Machine) onChanged(ev Changed) {
	for _, t := range ev.Targets {
		a := m.arrays[t.Array]
		switch {
		case a == nil:
			m.fail(t.Array, "job is inactive")
		case t.Lo == t.Hi && a.n > 1:
			m.fail(a.idOf(t.Lo), fmt.Sprintf("is an element; this can be changed of the whole array only, %v", a.id))
		case a.ended == a.n:
			m.fail(t.Array, "job is inactive")
		default:
			m.change(a, &ev)
		}
	}
}

func (m *Machine) change(a *array, ev *Changed) {
	limit := a.limit
	if ev.Duration != nil {
		var err error
		if limit, err = ev.Duration.of(a.limit); err != nil {
			m.fail(a.id, err.Error())
			return
		}
	}
	if ev.DryRun {
		return
	}
	if ev.Urgency != nil {
		m.setUrgency(a, *ev.Urgency, ev.User)
	}
	if ev.Duration != nil {
		m.setLimit(a, limit)
	}
	if ev.Memo != nil {
		m.note(a, evMemo, ev.Memo)
	}
}

// setUrgency changes the order in the queue; 0 holds what has not started.
func (m *Machine) setUrgency(a *array, urgency int, user uint32) {
	ctx, _ := json.Marshal(struct {
		User    uint32 `json:"userid"`
		Urgency int    `json:"urgency"`
	}{user, urgency})
	m.note(a, evUrgency, ctx)
	if int(a.urgency) == urgency {
		return
	}
	m.levels[a.urgency]--
	m.levels[urgency]++
	a.urgency = int8(urgency)
	if a.pending == 0 {
		return
	}
	if a.wait == nil || a.freed || a.wait.corr {
		m.notePriority(a)
	}
	if a.delegated {
		m.out.Offers = append(m.out.Offers, Offer{Array: a.id, Spec: a.spec, Priority: Priority(urgency)})
		m.adjust(a)
		return
	}
	m.out.Priorities = append(m.out.Priorities, Prioritized{a.id, Priority(urgency)})
}

// of is the time limit that the change makes of one.
func (d *DurationChange) of(limit float64) (float64, error) {
	switch {
	case d.Sign == 0:
		return d.Seconds, nil
	case limit == 0:
		return 0, fmt.Errorf("job has no time limit: nothing can be added to it or taken from it")
	case d.Sign < 0 && d.Seconds >= limit:
		return 0, fmt.Errorf("job has a time limit of %s: %s cannot be taken from it", jobspec.FormatFSD(limit), jobspec.FormatFSD(d.Seconds))
	}
	return limit + float64(d.Sign)*d.Seconds, nil
}

// setLimit changes the time limit of what waits and of what runs.
func (m *Machine) setLimit(a *array, limit float64) {
	ctx, _ := json.Marshal(map[string]float64{durationKey: limit})
	m.note(a, evUpdate, ctx)
	a.limit = limit
	m.limitRuns(a, a.sortedActive())
}

// limitRuns tells scheduler and brokers of a's time limit.
func (m *Machine) limitRuns(a *array, es []*elem) {
	l := Limited{Array: a.id, Duration: a.limit}
	byRank := make(map[int32]*RankRuns)
	for _, e := range es {
		if e.state != jobspec.StateRun {
			continue
		}
		e.limit = a.limit
		end := 0.0
		if e.limit > 0 {
			end = e.tRun + e.limit
		}
		if e.alloc != 0 {
			l.Ends = append(l.Ends, AllocEnd{e.alloc, end})
		}
		for _, id := range e.allocs {
			l.Ends = append(l.Ends, AllocEnd{id, end})
		}
		for i := range e.parts {
			p := &e.parts[i]
			r := m.rank(p.rank)
			if r.session == 0 || !p.sent || p.ended {
				continue // it hears of it when it syncs, or with its start
			}
			if byRank[r.id] == nil {
				byRank[r.id] = &RankRuns{Rank: r.id, Session: r.session}
			}
			byRank[r.id].Runs = append(byRank[r.id].Runs, e.key())
		}
	}
	for _, id := range sortedRanks(byRank) {
		l.Runs = append(l.Runs, *byRank[id])
	}
	m.out.Limits = append(m.out.Limits, l)
}

// Limit is an active array's time limit, 0 = none.
func (m *Machine) Limit(arr jobspec.ID) float64 {
	if a := m.arrays[arr]; a != nil {
		return a.limit
	}
	return 0
}

// Urgency is an active array's.
func (m *Machine) Urgency(arr jobspec.ID) int {
	if a := m.arrays[arr]; a != nil {
		return int(a.urgency)
	}
	return 0
}
