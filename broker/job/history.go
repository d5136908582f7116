package job

import (
	"encoding/json"
	"strconv"

	"github.com/frond-hpc/frond/jobspec"
)

// What happens to an array as a whole, and so to all its elements, stands in a log of its own: dependencies, changes of urgency and
// jobspec, memos. It is part of the array's row (ArrayRow.Log), in the form of an element's log; most arrays have none.

// note adds an event to a's log and has it written.
func (m *Machine) note(a *array, c code, ctx []byte) {
	x := a.own()
	log := eventLog{buf: x.log, last: x.noted}
	if len(log.buf) == 0 {
		log.last = a.submit
	}
	log.add(c, max(m.now, log.last), ctx)
	x.log, x.noted = log.buf, log.last
	if !x.logDirty {
		x.logDirty = true
		m.logs = append(m.logs, a)
	}
	if a.n == 1 && a.watched {
		m.out.Touched = append(m.out.Touched, a.id)
	}
}

func (m *Machine) notePriority(a *array) {
	m.note(a, evPriority, priorityContext(int(a.urgency)))
}

func priorityContext(urgency int) []byte {
	return []byte(`{"priority":` + strconv.FormatUint(uint64(Priority(urgency)), 10) + `}`)
}

// takeLogs puts the logs that have grown into the transaction.
func (m *Machine) takeLogs() {
	for _, a := range m.logs {
		a.logDirty = false
		m.txn.Logs = append(m.txn.Logs, LogRow{a.id, a.log})
	}
	clear(m.logs)
	m.logs = m.logs[:0]
}

// Current is what an array's log has made of its submission.
type Current struct {
	Urgency  int
	Updates  map[string]any // attributes that were changed, by path
	Duration float64        // time limit in seconds, 0 = none; -1 = as submitted
	Waits    []string       // dependencies that are not met
	Memo     map[string]any
	last     float64 // time of the last event
}

// Current folds the row's log.
func (r *ArrayRow) Current() (Current, error) {
	c := Current{Urgency: r.Urgency, Duration: -1, last: r.Submit}
	err := scanLog(r.Log, r.Submit, func(e rawEvent) error {
		c.last = e.time
		return c.step(e)
	})
	return c, err
}

func (c *Current) step(e rawEvent) error {
	switch e.code {
	case evDependAdd, evDependRemove:
		var ctx dependContext
		if err := json.Unmarshal(e.ctx, &ctx); err != nil {
			return err
		}
		if e.code == evDependAdd {
			c.Waits = append(c.Waits, ctx.Description)
		} else {
			c.Waits = without(c.Waits, ctx.Description)
		}
	case evUrgency:
		var ctx struct {
			Urgency int `json:"urgency"`
		}
		if err := json.Unmarshal(e.ctx, &ctx); err != nil {
			return err
		}
		c.Urgency = ctx.Urgency
	case evUpdate:
		return c.update(e.ctx)
	case evMemo:
		return mergeJSON(&c.Memo, e.ctx)
	}
	return nil
}

func (c *Current) update(ctx []byte) error {
	if err := mergeJSON(&c.Updates, ctx); err != nil {
		return err
	}
	if d, ok := c.Updates[durationKey].(float64); ok {
		c.Duration = d
	}
	return nil
}

// durationKey is the path of the time limit in a jobspec.
const durationKey = "attributes.system.duration"

// mergeJSON takes the keys of an object into m; null takes a key out.
func mergeJSON(m *map[string]any, text []byte) error {
	var fresh map[string]any
	if err := json.Unmarshal(text, &fresh); err != nil {
		return err
	}
	if *m == nil {
		*m = make(map[string]any)
	}
	for k, v := range fresh {
		if v == nil {
			delete(*m, k)
		} else {
			(*m)[k] = v
		}
	}
	return nil
}

// without is list without the first that equals s.
func without(list []string, s string) []string {
	for i := range list {
		if list[i] == s {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	return list
}

// restore sets what a's log says, after a leader's start.
func (m *Machine) restore(a *array) error {
	if len(a.log) == 0 {
		return nil
	}
	if m.cfg.Branch { // its parent sees to what it waited for
		c, err := a.row().Current()
		a.own().noted, a.urgency = c.last, int8(c.Urgency)
		return err
	}
	c, err := a.row().Current()
	if err != nil {
		return err
	}
	a.own().noted, a.urgency = c.last, int8(c.Urgency)
	if c.Duration >= 0 {
		a.limit = c.Duration
	}
	return m.restoreDepends(a)
}

// restoreDepends makes the dependencies of a again. What was met stays so; the others begin anew.
func (m *Machine) restoreDepends(a *array) error {
	deps := a.spec.Job.Dependencies
	if len(deps) == 0 {
		return nil
	}
	w := &waiting{deps: make([]depend, 0, len(deps))}
	err := scanLog(a.log, a.submit, func(e rawEvent) error { return w.replay(e, deps) })
	if err != nil || len(w.deps) < len(deps) {
		return orError(err, errLog)
	}
	for i := range w.deps {
		d := &w.deps[i]
		switch {
		case d.Scheme == "aftercorr":
			w.corr, d.done = true, false
		case !d.done:
			w.left++
		}
	}
	x := a.own()
	x.wait, x.freed = w, w.left == 0 && !w.corr
	return nil
}

func (w *waiting) replay(e rawEvent, deps []jobspec.Dependency) error {
	if e.code != evDependAdd && e.code != evDependRemove {
		return nil
	}
	var ctx dependContext
	if err := json.Unmarshal(e.ctx, &ctx); err != nil {
		return err
	}
	if e.code == evDependRemove {
		for i := range w.deps {
			if w.deps[i].desc == ctx.Description {
				if w.deps[i].done = true; ctx.End != nil {
					w.deps[i].end = *ctx.End
				}
			}
		}
		return nil
	}
	if len(w.deps) == len(deps) {
		return errLog
	}
	d := depend{Dependency: deps[len(w.deps)], desc: ctx.Description}
	err := d.resolve(&ctx)
	w.deps = append(w.deps, d)
	return err
}

func orError(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
