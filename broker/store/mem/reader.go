package mem

import (
	"slices"
	"sort"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// reader implements job.Reader on the present state.
type reader struct{ s *state }

// Array returns a submission.
func (r reader) Array(id jobspec.ID) (job.ArrayRow, bool, error) {
	if a := r.s.arrays[id]; a != nil {
		return *a.row, true, nil
	}
	return job.ArrayRow{}, false, nil
}

// Find returns the array that holds or is id.
func (r reader) Find(id jobspec.ID) (job.ArrayRow, bool, error) {
	i := sort.Search(len(r.s.order), func(i int) bool { return r.s.order[i] > id })
	if i == 0 {
		return job.ArrayRow{}, false, nil
	}
	row := r.s.arrays[r.s.order[i-1]].row
	if id != row.ID && (row.N == 1 || id > row.ID+jobspec.ID(row.N)) {
		return job.ArrayRow{}, false, nil
	}
	return *row, true, nil
}

// Token returns the array that was submitted with a token.
func (r reader) Token(token string) (jobspec.ID, bool, error) {
	id, ok := r.s.tokens[token]
	return id, ok, nil
}

// Named returns the array submitted last with a name.
func (r reader) Named(name string) (job.ArrayRow, bool, error) {
	for _, id := range slices.Backward(r.s.order) {
		if row := r.s.arrays[id].row; row.Name == name {
			return *row, true, nil
		}
	}
	return job.ArrayRow{}, false, nil
}

// Spec returns an interned jobspec; nil if there is none.
func (r reader) Spec(id uint64) ([]byte, error) { return r.s.specs[id], nil }

// Env returns an interned environment; nil if there is none.
func (r reader) Env(id uint64) ([]byte, error) { return r.s.envs[id], nil }

// Element returns the row of a finished element.
func (r reader) Element(id jobspec.ID, index int) (job.ElementRow, bool, error) {
	a := r.s.arrays[id]
	if a == nil {
		return job.ElementRow{}, false, nil
	}
	e, ok := a.element(index)
	return e, ok, nil
}

// Summary counts an array's finished elements.
func (r reader) Summary(id jobspec.ID) (job.Summary, error) {
	if a := r.s.arrays[id]; a != nil {
		return a.summary, nil
	}
	return job.Summary{MaxStatus: -1, FirstFailed: -1}, nil
}

// Ended calls f for finished elements, newest end first; of equal ends the larger result, then the larger id comes first.
func (r reader) Ended(array jobspec.ID, results int, since, until float64, f func(job.ElementRow) bool) error {
	var runs []run
	for id, a := range r.s.arrays {
		if array == 0 || id == array {
			runs = a.runs(runs, results, since, until)
		}
	}
	sort.Slice(runs, func(i, j int) bool { return newer(&runs[i], &runs[j]) })
	for _, n := range runs {
		if n.element != nil {
			if !f(*n.element) {
				return nil
			}
			continue
		}
		for i := n.ranged.Hi; i >= n.ranged.Lo; i-- {
			if !f(n.array.ranged(n.ranged, i)) {
				return nil
			}
		}
	}
	return nil
}

// run is a finished element or a range of them, as Ended sorts them.
type run struct {
	end     float64
	result  uint8
	id      jobspec.ID // of the last element
	element *job.ElementRow
	array   *array
	ranged  *job.RangeRow
}

func newer(a, b *run) bool {
	if a.end != b.end {
		return a.end > b.end
	}
	if a.result != b.result {
		return a.result > b.result
	}
	return a.id > b.id
}

// runs appends an array's runs that pass the filters.
func (a *array) runs(list []run, results int, since, until float64) []run {
	pass := func(result uint8, end float64) bool {
		return end >= since && (until == 0 || end <= until) && (results == 0 || int(result)&results != 0)
	}
	add := func(e *job.ElementRow) {
		if pass(e.Result, e.End) {
			list = append(list, run{end: e.End, result: e.Result, id: e.ID, element: e})
		}
	}
	if a.single != nil {
		add(a.single)
	}
	for _, e := range a.ended {
		add(e)
	}
	for _, r := range a.ranges {
		if pass(r.Result, r.End) {
			list = append(list, run{end: r.End, result: r.Result, id: a.ranged(r, r.Hi).ID, array: a, ranged: r})
		}
	}
	return list
}

// Output calls f for an element's output, in the order in which it was written.
func (r reader) Output(id jobspec.ID, attempt uint32, f func(job.OutputRow) bool) error {
	return r.OutputFrom(id, attempt, job.OutputPos{}, func(o job.OutputRow, _ job.OutputPos) bool { return f(o) })
}

// Below has nothing: branches of memory are out of reach.
func (r reader) Below(int) (job.Reader, bool, error) { return nil, false, nil }

// OutputFrom is Output from a place on, which is a row's number.
func (r reader) OutputFrom(id jobspec.ID, attempt uint32, from job.OutputPos, f func(job.OutputRow, job.OutputPos) bool) error {
	rows := r.s.output[id]
	if attempt == 0 {
		for _, o := range rows {
			attempt = max(attempt, o.Attempt)
		}
	}
	for i := from.Pos; i < int64(len(rows)); i++ {
		if o := rows[i]; o.Attempt == attempt && !f(o, job.OutputPos{Pos: i + 1}) {
			return nil
		}
	}
	return nil
}
