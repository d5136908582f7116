package storetest

import (
	"maps"
	"slices"
	"sort"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// Model is what a store must hold after some transactions, worked out in the plainest way: everything in maps, every
// element of every range spelled out.
type Model struct {
	LastID   jobspec.ID
	Specs    map[uint64][]byte
	Envs     map[uint64][]byte
	Arrays   map[jobspec.ID]job.ArrayRow
	Elements map[Element]job.ElementRow
	Hi       map[jobspec.ID]int
	Starts   map[Element]job.StartRow
	Members  map[int32]job.MemberRow
	Queues   map[string]job.QueueRow
	Grants   map[uint64]job.GrantRow
	Output   map[jobspec.ID][]job.OutputRow
	Params   map[uint64][]job.ParamsRow // by set
	Uploads  map[uint64]string          // set → token
	Left     map[jobspec.ID]job.PurgedRow
	Purged   int
}

// Element names an element.
type Element struct {
	Array jobspec.ID
	Index int
}

// ModelOf folds transactions, each all or nothing.
func ModelOf(txns []*job.Txn) *Model {
	m := &Model{Specs: map[uint64][]byte{}, Envs: map[uint64][]byte{}, Arrays: map[jobspec.ID]job.ArrayRow{}, Elements: map[Element]job.ElementRow{},
		Hi: map[jobspec.ID]int{}, Starts: map[Element]job.StartRow{}, Members: map[int32]job.MemberRow{}, Queues: map[string]job.QueueRow{}, Output: map[jobspec.ID][]job.OutputRow{},
		Params: map[uint64][]job.ParamsRow{}, Uploads: map[uint64]string{}, Left: map[jobspec.ID]job.PurgedRow{}, Grants: map[uint64]job.GrantRow{}}
	for _, t := range txns {
		m.Add(t)
	}
	return m
}

// Add folds one transaction: what is there already stays, but for members, starts and hi.
func (m *Model) Add(t *job.Txn) {
	m.LastID = max(m.LastID, t.LastID)
	for _, r := range t.Specs {
		once(m.Specs, r.ID, r.JSON)
	}
	for _, r := range t.Envs {
		once(m.Envs, r.ID, r.Data)
	}
	for _, r := range t.Uploads {
		once(m.Uploads, r.Set, r.Token)
	}
	for _, r := range t.Params {
		if !slices.ContainsFunc(m.Params[r.Set], func(p job.ParamsRow) bool { return p.First == r.First }) {
			m.Params[r.Set] = append(m.Params[r.Set], r)
		}
	}
	for _, r := range t.Arrays {
		once(m.Arrays, r.ID, r)
		delete(m.Uploads, r.Params)
	}
	for _, r := range append(append([]job.StartRow{}, t.Retried...), t.Starts...) {
		if key := (Element{r.Array, r.Index}); m.Starts[key].Attempt <= r.Attempt {
			m.Starts[key] = r
		}
	}
	for _, r := range t.Hi {
		m.Hi[r.Array] = max(m.Hi[r.Array], r.Hi)
	}
	for _, r := range t.Ended {
		once(m.Elements, Element{r.Array, r.Index}, r)
	}
	for _, r := range t.Ranges {
		for i := r.Lo; i <= r.Hi; i++ {
			once(m.Elements, Element{r.Array, i}, job.ElementRow{ID: m.ElementID(r.Array, i), Array: r.Array, Index: i, Result: r.Result,
				Status: r.Status, End: r.End, Events: r.Events})
		}
	}
	for _, r := range t.Logs {
		if a, ok := m.Arrays[r.Array]; ok {
			a.Log = r.Log
			m.Arrays[r.Array] = a
		}
	}
	for _, r := range t.Queues {
		m.Queues[r.Name] = r
	}
	for _, r := range t.Grants {
		m.Grants[r.Num] = r
	}
	for _, num := range t.Over {
		delete(m.Grants, num)
	}
	for _, r := range t.Members {
		m.Members[r.Rank] = r
	}
	for _, r := range t.Output {
		m.addOutput(r)
	}
}

func once[K comparable, V any](m map[K]V, k K, v V) {
	if _, ok := m[k]; !ok {
		m[k] = v
	}
}

func (m *Model) addOutput(o job.OutputRow) {
	for _, p := range m.Output[o.ID] {
		if p.Attempt == o.Attempt && p.Task == o.Task && p.Stream == o.Stream && p.Offset == o.Offset {
			return // the generator repeats whole pieces only
		}
	}
	m.Output[o.ID] = append(m.Output[o.ID], o)
}

// ElementID is the id of an element.
func (m *Model) ElementID(array jobspec.ID, index int) jobspec.ID {
	if m.Arrays[array].N == 1 {
		return array
	}
	return array + 1 + jobspec.ID(index)
}

// IDs are the ids of all arrays, ascending.
func (m *Model) IDs() (ids []jobspec.ID) {
	for id := range m.Arrays {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids
}

// Loaded is what the next leader must get, but for the epoch.
func (m *Model) Loaded() *job.Loaded {
	l := &job.Loaded{LastID: m.LastID, Purged: m.Purged}
	for id := range m.Specs {
		l.SpecID = max(l.SpecID, id)
	}
	for id := range m.Envs {
		l.EnvID = max(l.EnvID, id)
	}
	for set := range m.Params {
		l.ParamID = max(l.ParamID, set)
	}
	for _, id := range m.IDs() {
		a, unfinished := m.loadedArray(id)
		l.Counts.Completed += a.Results.Completed
		l.Counts.Failed += a.Results.Failed
		l.Counts.Canceled += a.Results.Canceled
		l.Counts.TimedOut += a.Results.TimedOut
		if unfinished {
			l.Arrays = append(l.Arrays, a)
		}
	}
	for _, r := range m.Queues {
		l.Queues = append(l.Queues, r)
	}
	sort.Slice(l.Queues, func(i, j int) bool { return l.Queues[i].Name < l.Queues[j].Name })
	for _, num := range slices.Sorted(maps.Keys(m.Grants)) {
		l.Grants = append(l.Grants, m.Grants[num])
	}
	for _, r := range m.Members {
		l.Members = append(l.Members, r)
	}
	sort.Slice(l.Members, func(i, j int) bool { return l.Members[i].Rank < l.Members[j].Rank })
	return l
}

func (m *Model) loadedArray(id jobspec.ID) (l job.LoadedArray, unfinished bool) {
	row := m.Arrays[id]
	l = job.LoadedArray{ArrayRow: row, JSON: m.Specs[row.Spec], EnvData: m.Envs[row.Env], Hi: m.Hi[id]}
	for i := range row.N {
		key := Element{id, i}
		e, ended := m.Elements[key]
		if s, ok := m.Starts[key]; ok && !ended {
			l.Starts = append(l.Starts, s)
		}
		if !ended {
			unfinished = true
			continue
		}
		if n := len(l.Finished); n > 0 && l.Finished[n-1].Hi == i-1 {
			l.Finished[n-1].Hi = i
		} else {
			l.Finished = append(l.Finished, job.Span{Lo: i, Hi: i})
		}
		tally(&l.Results.Completed, &l.Results.Failed, &l.Results.Canceled, &l.Results.TimedOut, e.Result)
	}
	return l, unfinished
}

func tally(completed, failed, canceled, timedout *int, result uint8) {
	*map[uint8]*int{1: completed, 2: failed, 4: canceled, 8: timedout}[result]++
}

// Summary is what Reader.Summary must return.
func (m *Model) Summary(id jobspec.ID) job.Summary {
	s := job.Summary{MaxStatus: -1, FirstFailed: -1}
	for i := range m.Arrays[id].N {
		e, ok := m.Elements[Element{id, i}]
		if !ok {
			continue
		}
		s.MaxStatus = max(s.MaxStatus, e.Status)
		tally(&s.Completed, &s.Failed, &s.Canceled, &s.TimedOut, e.Result)
		if e.Result != 1 && s.FirstFailed < 0 {
			s.FirstFailed = i
		}
	}
	return s
}

// Ended is what Reader.Ended must list, at most limit rows.
func (m *Model) Ended(array jobspec.ID, results int, since, until float64, limit int) (list []job.ElementRow) {
	for key, e := range m.Elements {
		if (array == 0 || key.Array == array) && (results == 0 || results&int(e.Result) != 0) && e.End >= since && (until == 0 || e.End <= until) {
			list = append(list, e)
		}
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := &list[i], &list[j]
		if a.End != b.End {
			return a.End > b.End
		}
		if a.Result != b.Result {
			return a.Result > b.Result
		}
		return a.ID > b.ID
	})
	return list[:min(limit, len(list))]
}

// ParamsOf is the chunk that Reader.Params must find; nil = none.
func (m *Model) ParamsOf(set uint64, index int) *job.ParamsRow {
	for _, p := range m.Params[set] {
		if p.First <= index && index < p.First+p.N {
			return &p
		}
	}
	return nil
}

// UploadOf is what Reader.Upload must find of a token.
func (m *Model) UploadOf(token string) (set uint64, n int) {
	for id, t := range m.Uploads {
		if t == token {
			set = max(set, id)
		}
	}
	for _, p := range m.Params[set] {
		n = max(n, p.First+p.N)
	}
	return set, n
}

// OutputOf is what Reader.Output must list.
func (m *Model) OutputOf(id jobspec.ID, attempt uint32) (list []job.OutputRow) {
	if attempt == 0 {
		for _, o := range m.Output[id] {
			attempt = max(attempt, o.Attempt)
		}
	}
	for _, o := range m.Output[id] {
		if o.Attempt == attempt {
			list = append(list, o)
		}
	}
	return list
}
