package storetest

import (
	"fmt"
	"reflect"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/jobspec"
)

// CheckLoaded compares what a store loaded with a model; the epoch is left out.
func CheckLoaded(t TB, m *Model, got *job.Loaded) {
	t.Helper()
	want, have := *m.Loaded(), *got
	have.Epoch = 0
	if len(have.Arrays) == 0 {
		have.Arrays = nil
	}
	require.Equal(t, want, have)
}

// CheckReader compares everything a reader tells with a model, in one query.
func CheckReader(t TB, m *Model, d reactor.Driver, settle func()) {
	t.Helper()
	var got any
	var failed error
	d.Do(time.Time{}, &job.Query{Key: 1, Run: func(r job.Reader) (any, error) { return readState(r, m) }}, func(result any, err error) {
		got, failed = result, err
	})
	settle()
	require.NoError(t, failed)
	require.Equal(t, modelState(m), got)
}

// state is everything a reader tells about the arrays of a model.
type state struct {
	Arrays   map[jobspec.ID]job.ArrayRow
	Found    map[jobspec.ID]jobspec.ID // element → array
	Tokens   map[string]jobspec.ID
	Named    map[string]jobspec.ID
	Texts    map[uint64]string
	Elements map[Element]job.ElementRow
	Sums     map[jobspec.ID]job.Summary
	Ended    [][]job.ElementRow
	Output   map[jobspec.ID][][]job.OutputRow
	Params   map[uint64][]*job.ParamsRow // by index
	Upload   [2]int
	Oldest   []job.EndedArray
	Left     map[jobspec.ID]job.PurgedRow
}

func newState() *state {
	return &state{map[jobspec.ID]job.ArrayRow{}, map[jobspec.ID]jobspec.ID{}, map[string]jobspec.ID{}, map[string]jobspec.ID{}, map[uint64]string{},
		map[Element]job.ElementRow{}, map[jobspec.ID]job.Summary{}, nil, map[jobspec.ID][][]job.OutputRow{}, map[uint64][]*job.ParamsRow{}, [2]int{}, nil, map[jobspec.ID]job.PurgedRow{}}
}

// listing is one set of arguments of Ended.
type listing struct {
	array   jobspec.ID
	results int
	since   float64
	until   float64
	limit   int
}

// listings are the calls of Ended that are compared.
func listings(m *Model) []listing {
	list := []listing{{}, {limit: 3}, {results: 1}, {results: 2 | 4 | 8}, {results: 4, limit: 1}}
	for _, e := range m.Elements {
		list[4].since = max(list[4].since, e.End-2)
	}
	list = append(list, listing{since: list[4].since}, listing{until: list[4].since + 1}, listing{since: list[4].since, until: list[4].since + 1}, listing{array: 1 << 40})
	ids := m.IDs()
	for _, id := range ids[max(0, len(ids)-4):] {
		list = append(list, listing{array: id}, listing{array: id, results: 1 | 4, limit: 2})
	}
	for i := range list {
		if list[i].limit == 0 {
			list[i].limit = 1 << 30
		}
	}
	return list
}

func modelState(m *Model) *state {
	s := newState()
	for _, id := range m.IDs() {
		a := m.Arrays[id]
		s.Arrays[id], s.Found[id], s.Sums[id] = a, id, m.Summary(id)
		s.Texts[a.Spec], s.Texts[1000+a.Env] = string(m.Specs[a.Spec]), string(m.Envs[a.Env])
		if a.Token != "" {
			s.Tokens[a.Token] = id
		}
		if a.Name != "" {
			s.Named[a.Name] = id // ids ascend
		}
		for i := range a.N {
			el := m.ElementID(id, i)
			s.Found[el] = id
			if e, ok := m.Elements[Element{id, i}]; ok {
				s.Elements[Element{id, i}] = e
			}
			if len(m.Output[el]) > 0 || i == 0 {
				s.Output[el] = [][]job.OutputRow{m.OutputOf(el, 0), m.OutputOf(el, 1), m.OutputOf(el, 2)}
			}
		}
	}
	for set := range m.Loaded().ParamID + 2 {
		for i := range paramsAsked {
			s.Params[set] = append(s.Params[set], m.ParamsOf(set, i))
		}
	}
	s.Oldest = m.Oldest()
	for id, row := range m.Left {
		s.Left[id], s.Tokens[row.Token] = row, id
	}
	set, n := m.UploadOf(uploadToken)
	s.Upload = [2]int{int(set), n}
	for _, l := range listings(m) {
		s.Ended = append(s.Ended, m.Ended(l.array, l.results, l.since, l.until, l.limit))
	}
	return s
}

// readState asks a reader for all that modelState has, and for some things that are not there.
func readState(r job.Reader, m *Model) (*state, error) {
	q := &asking{r: r, s: newState(), m: m}
	for _, id := range m.IDs() {
		q.array(id)
		a := m.Arrays[id]
		for i := range a.N {
			q.element(id, i)
		}
		q.element(id, a.N)
	}
	q.params()
	q.oldest()
	for _, name := range []string{"name0", "name1", "no such name"} {
		a, ok, err := r.Named(name)
		q.note(err)
		if ok {
			q.s.Named[name] = a.ID
		}
	}
	q.found(m.LastID + 1000)
	q.token("no such token")
	for _, l := range listings(m) {
		var rows []job.ElementRow
		q.note(r.Ended(l.array, l.results, l.since, l.until, func(e job.ElementRow) bool {
			rows = append(rows, e)
			return len(rows) < l.limit
		}))
		q.s.Ended = append(q.s.Ended, rows)
	}
	return q.s, q.err
}

// asking collects a reader's answers and the first error.
type asking struct {
	r   job.Reader
	s   *state
	m   *Model
	err error
}

func (q *asking) note(err error) {
	if q.err == nil {
		q.err = err
	}
}

func (q *asking) array(id jobspec.ID) {
	a, ok, err := q.r.Array(id)
	q.note(err)
	if ok {
		q.s.Arrays[id] = a
	}
	sum, err := q.r.Summary(id)
	q.note(err)
	q.s.Sums[id] = sum
	want := q.m.Arrays[id]
	if want.Token != "" {
		q.token(want.Token)
	}
	spec, err := q.r.Spec(want.Spec)
	q.note(err)
	env, err := q.r.Env(want.Env)
	q.note(err)
	q.s.Texts[want.Spec], q.s.Texts[1000+want.Env] = string(spec), string(env)
	q.found(id)
}

// paramsAsked is how many elements' parameters are compared.
const paramsAsked = 20

func (q *asking) params() {
	for set := range q.m.Loaded().ParamID + 2 {
		for i := range paramsAsked {
			row, ok, err := q.r.Params(set, i)
			q.note(err)
			if q.s.Params[set] = append(q.s.Params[set], nil); ok {
				q.s.Params[set][i] = &row
			}
		}
	}
	set, n, _, err := q.r.Upload(uploadToken)
	q.note(err)
	q.s.Upload = [2]int{int(set), n}
}

func (q *asking) token(token string) {
	id, ok, err := q.r.Token(token)
	q.note(err)
	if ok {
		q.s.Tokens[token] = id
	}
}

func (q *asking) found(id jobspec.ID) {
	a, ok, err := q.r.Find(id)
	q.note(err)
	if ok {
		q.s.Found[id] = a.ID
	}
}

func (q *asking) element(array jobspec.ID, index int) {
	e, ok, err := q.r.Element(array, index)
	q.note(err)
	if ok {
		q.s.Elements[Element{array, index}] = e
	}
	if index == q.m.Arrays[array].N {
		return
	}
	id := q.m.ElementID(array, index)
	q.found(id)
	if len(q.m.Output[id]) == 0 && index > 0 {
		return
	}
	lists := make([][]job.OutputRow, 3)
	for attempt := range lists {
		q.note(q.r.Output(id, uint32(attempt), func(o job.OutputRow) bool {
			lists[attempt] = append(lists[attempt], o)
			return true
		}))
		if one := q.rowByRow(id, uint32(attempt)); !reflect.DeepEqual(one, lists[attempt]) {
			q.note(fmt.Errorf("output of %v: row by row it is %v, at once %v", id, one, lists[attempt]))
		}
	}
	q.s.Output[id] = lists
}

// rowByRow reads output with one call a row, and cuts what repeats.
func (q *asking) rowByRow(id jobspec.ID, attempt uint32) (rows []job.OutputRow) {
	ends := map[[2]int]int64{}
	for pos, more := (job.OutputPos{}), true; more; {
		more = false
		q.note(q.r.OutputFrom(id, attempt, pos, func(o job.OutputRow, behind job.OutputPos) bool {
			pos, more = behind, true
			key := [2]int{o.Task, int(o.Stream)}
			if skip := max(0, ends[key]-o.Offset); skip < int64(len(o.Data)) {
				o.Offset, o.Data = o.Offset+skip, o.Data[skip:]
				ends[key] = o.Offset + int64(len(o.Data))
				rows = append(rows, o)
			}
			return false
		}))
	}
	return rows
}
