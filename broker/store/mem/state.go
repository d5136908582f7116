package mem

import (
	"fmt"
	"maps"
	"slices"
	"sort"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/kvs"
	"github.com/frond-hpc/frond/jobspec"
)

// state is what is durable. Rows are kept where they came: a Txn is immutable once it was given away.
type state struct {
	epoch   uint64
	lastID  jobspec.ID
	specs   map[uint64][]byte
	envs    map[uint64][]byte
	specID  uint64
	envID   uint64
	arrays  map[jobspec.ID]*array
	order   []jobspec.ID // of arrays, ascending
	active  map[jobspec.ID]*array
	tokens  map[string]jobspec.ID
	output  map[jobspec.ID][]job.OutputRow
	members map[int32]job.MemberRow
	queues  map[string]job.QueueRow
	left    map[jobspec.ID]job.PurgedRow // of purged arrays with a token
	purged  int                          // elements
	grants  map[uint64]job.GrantRow
	sums    [4]int
	kvs     entries
	params  map[uint64][]job.ParamsRow // by set, ascending
	uploads map[uint64]string          // set → token
}

// array is a submission with its finished elements.
type array struct {
	row     *job.ArrayRow
	single  *job.ElementRow // of a job with n = 1
	ended   map[int]*job.ElementRow
	ranges  []*job.RangeRow
	count   int // finished elements
	hi      int
	starts  map[int]job.StartRow
	summary job.Summary
}

func newState() *state {
	return &state{specs: map[uint64][]byte{}, envs: map[uint64][]byte{}, arrays: map[jobspec.ID]*array{}, active: map[jobspec.ID]*array{},
		tokens: map[string]jobspec.ID{}, output: map[jobspec.ID][]job.OutputRow{}, members: map[int32]job.MemberRow{}, queues: map[string]job.QueueRow{}, kvs: entries{rows: map[entryKey]kvs.Row{}, spaces: map[string]kvs.SpaceRow{}},
		left: map[jobspec.ID]job.PurgedRow{}, grants: map[uint64]job.GrantRow{}, params: map[uint64][]job.ParamsRow{}, uploads: map[uint64]string{}}
}

// apply writes a Txn. What is there already stays as it is. It fails, with nothing written, where a token is used twice or a
// range has no array.
func (s *state) apply(t *job.Txn) error {
	if err := s.verify(t); err != nil {
		return err
	}
	for i := range t.Specs {
		putText(s.specs, t.Specs[i].ID, t.Specs[i].JSON)
		s.specID = max(s.specID, t.Specs[i].ID)
	}
	for i := range t.Envs {
		putText(s.envs, t.Envs[i].ID, t.Envs[i].Data)
		s.envID = max(s.envID, t.Envs[i].ID)
	}
	s.addParams(t)
	for i := range t.Arrays {
		s.addArray(&t.Arrays[i])
	}
	for i := range t.Output {
		s.addOutput(t.Output[i])
	}
	s.addStarts(t.Retried)
	s.addStarts(t.Starts)
	for _, h := range t.Hi {
		if a := s.active[h.Array]; a != nil {
			a.hi = max(a.hi, h.Hi)
		}
	}
	for i := range t.Ended {
		s.end(&t.Ended[i])
	}
	for i := range t.Ranges {
		s.endRange(&t.Ranges[i])
	}
	for _, l := range t.Logs {
		if a := s.arrays[l.Array]; a != nil {
			row := *a.row
			row.Log = l.Log
			a.row = &row
		}
	}
	for _, q := range t.Queues {
		s.queues[q.Name] = q
	}
	for _, g := range t.Grants {
		s.grants[g.Num] = g
	}
	for _, num := range t.Over {
		delete(s.grants, num)
	}
	for _, m := range t.Members {
		s.members[m.Rank] = m
	}
	s.lastID = max(s.lastID, t.LastID)
	return nil
}

func (s *state) verify(t *job.Txn) error {
	fresh := map[jobspec.ID]bool{}
	for i := range t.Arrays {
		a := &t.Arrays[i]
		fresh[a.ID] = true
		if other, used := s.tokens[a.Token]; used && other != a.ID {
			return fmt.Errorf("token %q of job %v is that of job %v", a.Token, a.ID, other)
		}
	}
	for i := range t.Ranges {
		if id := t.Ranges[i].Array; s.arrays[id] == nil && !fresh[id] {
			return fmt.Errorf("range of elements of array %v, which is not in the store", id)
		}
	}
	return nil
}

func putText(m map[uint64][]byte, id uint64, text []byte) {
	if _, ok := m[id]; !ok {
		m[id] = text
	}
}

func (s *state) addArray(row *job.ArrayRow) {
	if s.arrays[row.ID] != nil {
		return
	}
	a := &array{row: row, summary: job.Summary{MaxStatus: -1, FirstFailed: -1}}
	s.arrays[row.ID], s.active[row.ID] = a, a
	if row.Token != "" {
		s.tokens[row.Token] = row.ID
	}
	i := len(s.order)
	for i > 0 && s.order[i-1] > row.ID {
		i--
	}
	s.order = slices.Insert(s.order, i, row.ID)
}

// addOutput keeps what is new of a piece: a stream's output comes with ascending offsets.
func (s *state) addOutput(o job.OutputRow) {
	var end int64
	for _, p := range s.output[o.ID] {
		if p.Attempt == o.Attempt && p.Task == o.Task && p.Stream == o.Stream {
			end = max(end, p.Offset+int64(len(p.Data)))
		}
	}
	if skip := min(end-o.Offset, int64(len(o.Data))); skip > 0 {
		o.Offset, o.Data = o.Offset+skip, o.Data[skip:]
	}
	if len(o.Data) > 0 {
		s.output[o.ID] = append(s.output[o.ID], o)
	}
}

func (s *state) addStarts(rows []job.StartRow) {
	for _, r := range rows {
		a := s.active[r.Array]
		if a == nil || a.finished(r.Index) || a.starts[r.Index].Attempt > r.Attempt {
			continue
		}
		if a.starts == nil {
			a.starts = map[int]job.StartRow{}
		}
		a.starts[r.Index] = r
	}
}

func (s *state) end(e *job.ElementRow) {
	a := s.arrays[e.Array]
	if a == nil || a.finished(e.Index) {
		return
	}
	if e.ID == e.Array {
		a.single = e
	} else {
		if a.ended == nil {
			a.ended = map[int]*job.ElementRow{}
		}
		a.ended[e.Index] = e
	}
	delete(a.starts, e.Index)
	s.count(a, e.Result, 1, e.Status, e.Index)
}

func (s *state) endRange(r *job.RangeRow) {
	a := s.arrays[r.Array]
	if a.finished(r.Lo) {
		return
	}
	a.ranges = append(a.ranges, r)
	for i := range a.starts {
		if r.Lo <= i && i <= r.Hi {
			delete(a.starts, i)
		}
	}
	s.count(a, r.Result, r.Hi-r.Lo+1, r.Status, r.Lo)
}

// count adds n elements that ended alike, the first of them at index.
func (s *state) count(a *array, result uint8, n, status, index int) {
	a.count += n
	sum := &a.summary
	sum.MaxStatus = max(sum.MaxStatus, status)
	slots := []*int{&sum.Completed, &sum.Failed, &sum.Canceled, &sum.TimedOut}
	slot := resultSlot(result)
	*slots[slot] += n
	s.sums[slot] += n
	if slot != 0 && (sum.FirstFailed < 0 || index < sum.FirstFailed) {
		sum.FirstFailed = index
	}
	if a.count >= a.row.N {
		delete(s.active, a.row.ID)
	}
}

func resultSlot(result uint8) int {
	switch result {
	case 1:
		return 0
	case 4:
		return 2
	case 8:
		return 3
	}
	return 1
}

func (a *array) finished(index int) bool {
	_, ok := a.element(index)
	return ok
}

// element is a finished element's row.
func (a *array) element(index int) (job.ElementRow, bool) {
	if a.row.N == 1 && a.single != nil && index == 0 {
		return *a.single, true
	}
	if e := a.ended[index]; e != nil {
		return *e, true
	}
	for _, r := range a.ranges {
		if r.Lo <= index && index <= r.Hi {
			return a.ranged(r, index), true
		}
	}
	return job.ElementRow{}, false
}

// ranged makes up the row of an element of a range.
func (a *array) ranged(r *job.RangeRow, index int) job.ElementRow {
	id := a.row.ID
	if a.row.N > 1 {
		id += 1 + jobspec.ID(index)
	}
	return job.ElementRow{ID: id, Array: r.Array, Index: index, Result: r.Result, Status: r.Status, End: r.End, Events: r.Events}
}

// load is what the next leader gets.
func (s *state) load() *job.Loaded {
	l := &job.Loaded{Epoch: s.epoch, LastID: s.lastID, SpecID: s.specID, EnvID: s.envID, Purged: s.purged, Arrays: make([]job.LoadedArray, 0, len(s.active))}
	l.Counts.Completed, l.Counts.Failed, l.Counts.Canceled, l.Counts.TimedOut = s.sums[0], s.sums[1], s.sums[2], s.sums[3]
	for set := range s.params {
		l.ParamID = max(l.ParamID, set)
	}
	for _, id := range s.order {
		if a := s.active[id]; a != nil {
			l.Arrays = append(l.Arrays, s.loadArray(a))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.queues)) {
		l.Queues = append(l.Queues, s.queues[name])
	}
	for _, num := range slices.Sorted(maps.Keys(s.grants)) {
		l.Grants = append(l.Grants, s.grants[num])
	}
	for _, m := range s.members {
		l.Members = append(l.Members, m)
	}
	sort.Slice(l.Members, func(i, j int) bool { return l.Members[i].Rank < l.Members[j].Rank })
	return l
}

func (s *state) loadArray(a *array) job.LoadedArray {
	l := job.LoadedArray{ArrayRow: *a.row, JSON: s.specs[a.row.Spec], EnvData: s.envs[a.row.Env], Hi: a.hi}
	l.Results.Completed, l.Results.Failed = a.summary.Completed, a.summary.Failed
	l.Results.Canceled, l.Results.TimedOut = a.summary.Canceled, a.summary.TimedOut
	spans := make([]job.Span, 0, len(a.ended)+len(a.ranges))
	for i := range a.ended {
		spans = append(spans, job.Span{Lo: i, Hi: i})
	}
	for _, r := range a.ranges {
		spans = append(spans, job.Span{Lo: r.Lo, Hi: r.Hi})
	}
	sort.Slice(spans, func(i, j int) bool { return spans[i].Lo < spans[j].Lo })
	for _, p := range spans {
		if n := len(l.Finished); n > 0 && p.Lo == l.Finished[n-1].Hi+1 {
			l.Finished[n-1].Hi = p.Hi
		} else {
			l.Finished = append(l.Finished, p)
		}
	}
	for _, st := range a.starts {
		l.Starts = append(l.Starts, st)
	}
	sort.Slice(l.Starts, func(i, j int) bool { return l.Starts[i].Index < l.Starts[j].Index })
	return l
}
