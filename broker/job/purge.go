package job

import "github.com/frond-hpc/frond/jobspec"

// Forgotten tells that the store has purged elements.
type Forgotten struct{ Purged Purged }

func (m *Machine) onForgotten(ev Forgotten) {
	p := &ev.Purged
	t := &m.totals
	t.Inactive -= p.Elements()
	t.Failed -= p.Failed + p.Canceled + p.TimedOut
	t.Canceled -= p.Canceled
	t.TimedOut -= p.TimedOut
	t.Purged += p.Elements()
}

// Needed are the arrays that unfinished ones depend on: how these ended may have to be looked up again, by the next leader at least.
func (m *Machine) Needed() map[jobspec.ID]bool {
	set := make(map[jobspec.ID]bool)
	for _, a := range m.arrays {
		if a.wait == nil {
			continue
		}
		for i := range a.wait.deps {
			if d := &a.wait.deps[i]; d.refers() && (!d.done || d.Scheme == "aftercorr") {
				set[d.to.Array] = true
			}
		}
	}
	return set
}

// neverKnown ends what waits for a job that was purged while the two crossed.
func (m *Machine) neverKnown(a *array, d *depend) {
	if m.arrays[a.id] == a && !d.done {
		note := d.desc + " can never be met: job " + d.to.Array.String() + " was purged"
		m.end0(a, Target{a.id, 0, a.n - 1}, Exception{"dependency", 0, note}, jobspec.StatesPending)
	}
}
