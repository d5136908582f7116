package job

import (
	"encoding/json"

	"github.com/frond-hpc/frond/resource/idset"
)

// mayRetry tells whether an element whose attempt has ended by itself runs again (--retries): it failed, by its own status, and not too
// often yet.
func (m *Machine) mayRetry(e *elem) bool {
	return e.lost == "" && !e.fatal() && e.status > 0 && e.fails < e.arr.spec.Job.Retries
}

// retryFailed puts an element that failed back into the queue. How often it failed is durable before its node forgets the attempt.
func (m *Machine) retryFailed(e *elem, t float64) {
	ctx, _ := json.Marshal(struct {
		Attempt uint32 `json:"attempt"`
		Status  int    `json:"status"`
	}{e.attempt, e.status})
	e.fails++
	m.retry(e, t, ctx)
}

// retryLost puts an element whose node was lost back into the queue.
func (m *Machine) retryLost(e *elem, t float64) {
	ctx, _ := json.Marshal(struct {
		Attempt uint32 `json:"attempt"`
		Reason  string `json:"reason"`
		Nodes   string `json:"nodes"`
	}{e.attempt, e.lost, m.nodelist(e)})
	m.retry(e, t, ctx)
}

// startRow is what is durable of an element before it has ended.
func (e *elem) startRow(attempt uint32, node string) StartRow {
	return StartRow{e.arr.id, e.idx, attempt, node, e.fails}
}

// claim notes a row that the leader before wrote.
func (a *array) claim(row StartRow) {
	if a.claimed == nil {
		a.own().claimed = make(map[int]StartRow)
	}
	a.claimed[row.Index] = row
}

// shown is the index that element idx has for its tasks: its own, or that of the element that it runs again.
func (a *array) shown(idx int) int {
	if a.indexText == "" {
		return idx
	}
	if a.indexes == nil {
		set, err := idset.Parse(a.indexText)
		if err != nil {
			return idx // it was written by String
		}
		a.own().indexes = set.Index()
	}
	i, _ := a.indexes.Nth(idx)
	return i
}

// Shown is the index that an element has for its tasks: its own, or that of the element that it runs again.
func (r *ArrayRow) Shown(idx int) int {
	if r.Indexes == "" {
		return idx
	}
	set, err := idset.Parse(r.Indexes)
	if err != nil {
		return idx
	}
	i, _ := set.Nth(idx)
	return i
}

// ShownAll is Shown of many.
func (r *ArrayRow) ShownAll(idxs idset.Set) idset.Set {
	if r.Indexes == "" {
		return idxs
	}
	set, err := idset.Parse(r.Indexes)
	if err != nil {
		return idxs
	}
	var shown idset.Set
	index := set.Index()
	for idx := range idxs.All() {
		if i, ok := index.Nth(idx); ok {
			shown.Add(i)
		}
	}
	return shown
}
