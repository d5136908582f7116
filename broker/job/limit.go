package job

import (
	"fmt"

	"github.com/frond-hpc/frond/jobspec"
)

// room is how many more elements of a may run at once (--array=…%K).
func (a *array) room() int {
	limit := a.spec.Job.Array.Limit
	if limit == 0 {
		return a.eligibleCount()
	}
	return min(a.eligibleCount(), max(limit-a.running-int(a.held), 0))
}

// AtLimit tells whether as many elements of an array run as may at once.
func (m *Machine) AtLimit(id jobspec.ID) bool {
	a := m.arrays[id]
	return a != nil && a.spec.Job.Array.Limit > 0 && a.running+int(a.held) >= a.spec.Job.Array.Limit
}

// countFailure notes an element's end; the last failure that is allowed ends its array, at the end of the step.
func (m *Machine) countFailure(a *array, res jobspec.Result) {
	if a.spec.Job.Array.Limit > 0 {
		m.adjust(a)
	}
	if res == jobspec.ResultFailed || res == jobspec.ResultTimeout {
		m.failed(a, 1)
	}
}

// failed counts n elements that failed.
func (m *Machine) failed(a *array, n int) {
	limit := a.spec.Job.Array.MaxFails
	before := int(a.fails)
	if a.fails += int32(n); before < limit && int(a.fails) >= limit {
		m.failing = append(m.failing, a)
	}
}

// failedEnough lists the arrays that had all failures they may have when the leader before ended.
func (m *Machine) failedEnough() {
	for _, id := range m.order {
		if a := m.arrays[id]; a != nil && a.spec.Job.Array.MaxFails > 0 && int(a.fails) >= a.spec.Job.Array.MaxFails {
			m.failing = append(m.failing, a)
		}
	}
}

// endFailing cancels what is left of arrays in which too many elements failed. During the recovery it is not known yet what runs.
func (m *Machine) endFailing() {
	if m.gated() {
		return
	}
	for i := 0; i < len(m.failing); i++ {
		a := m.failing[i]
		if a.ended < a.n {
			note := fmt.Sprintf("%d of %d elements of the array failed (--max-fails=%d)", a.fails, a.n, a.spec.Job.Array.MaxFails)
			m.end0(a, Target{a.id, 0, a.n - 1}, Exception{"cancel", 0, note}, 0)
		}
	}
	clear(m.failing) // else its room would hold on to arrays that have ended
	m.failing = m.failing[:0]
}
