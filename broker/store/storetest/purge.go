package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/jobspec"
)

// Purge folds a purge and returns what it must answer.
func (m *Model) Purge(p *job.Purge) (res job.Purged) {
	for _, id := range p.Arrays {
		l, unfinished := m.loadedArray(id)
		if _, ok := m.Arrays[id]; !ok || unfinished {
			continue
		}
		n := l.Results
		res.Completed, res.Failed, res.Canceled, res.TimedOut = res.Completed+n.Completed, res.Failed+n.Failed, res.Canceled+n.Canceled, res.TimedOut+n.TimedOut
		if a := l.ArrayRow; a.Token != "" {
			m.Left[id] = job.PurgedRow{ID: id, N: a.N, Name: a.Name, Token: a.Token, Digest: a.Digest, Submit: a.Submit, Summary: m.Summary(id)}
		}
		m.forget(id)
	}
	m.Purged += res.Elements()
	for id, row := range m.Left {
		if row.Digest == "" && row.Submit < p.TokensUntil && res.Elements() > 0 {
			delete(m.Left, id)
		}
	}
	return res
}

func (m *Model) forget(id jobspec.ID) {
	row := m.Arrays[id]
	for i := range row.N {
		delete(m.Output, m.ElementID(id, i))
		delete(m.Elements, Element{id, i})
		delete(m.Starts, Element{id, i})
	}
	delete(m.Hi, id)
	delete(m.Arrays, id)
	for _, a := range m.Arrays {
		if a.Params == row.Params {
			return
		}
	}
	delete(m.Params, row.Params)
}

// Oldest is what Reader.Oldest must list.
func (m *Model) Oldest() (list []job.EndedArray) {
	first := map[jobspec.ID]job.ElementRow{} // of those that ended last
	for _, id := range m.IDs() {
		if _, unfinished := m.loadedArray(id); unfinished {
			continue
		}
		list = append(list, job.EndedArray{ID: id, N: m.Arrays[id].N})
		for i := range m.Arrays[id].N {
			e, best := m.Elements[Element{id, i}], first[id]
			if best.ID == 0 || e.End > best.End || e.End == best.End && e.Result < best.Result {
				first[id] = e
			}
		}
	}
	for i := range list {
		list[i].End = first[list[i].ID].End
	}
	slices.SortFunc(list, func(a, b job.EndedArray) int {
		return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(first[a.ID].Result, first[b.ID].Result), cmp.Compare(first[a.ID].ID, first[b.ID].ID))
	})
	return list
}

// purge makes a purge of some arrays: ended ones, unfinished ones and one that is not there.
func (g *Gen) purge() *job.Purge {
	p := &job.Purge{Arrays: []jobspec.ID{1 << 40}, TokensUntil: g.clock - float64(g.number("kept", 0, 8))}
	for _, id := range g.model.IDs() {
		if g.number("purged", 0, 2) == 0 {
			p.Arrays = append(p.Arrays, id)
		}
	}
	return p
}

// Purge makes a purge that follows the transactions made so far, with what it must answer.
func (g *Gen) Purge() (*job.Purge, job.Purged) {
	p := g.purge()
	g.purges = append(g.purges, purgeAfter{p, len(g.txns)})
	g.whole = len(g.txns)
	return p, g.model.Purge(p)
}

// purgeAfter is a purge and the number of transactions before it.
type purgeAfter struct {
	p *job.Purge
	n int
}

// fold makes the model of the first n transactions and k purges.
func (g *Gen) fold(n, k int) *Model {
	m := ModelOf(nil)
	for i := range n + 1 {
		for _, p := range g.purges[:k] {
			if p.n == i {
				m.Purge(p.p)
			}
		}
		if i < n {
			m.Add(g.txns[i])
		}
	}
	return m
}

// givePurge gives a purge and compares the answer.
func (l *life) givePurge() {
	l.s.Settle()
	p, want := l.gen.Purge()
	got := purgeAll(l.t, l.s, l.d, p)
	require.Equal(l.t, want, got)
}

// purgeAll purges until all room is given back.
func purgeAll(t TB, s Subject, d reactor.Driver, p *job.Purge) (sum job.Purged) {
	for more := true; more; {
		more = false
		d.Do(time.Time{}, p, func(res any, err error) {
			require.NoError(t, err)
			got := res.(job.Purged)
			if more = got.More; len(p.Arrays) > 0 {
				sum = got
			}
		})
		s.Settle()
		p = &job.Purge{}
	}
	sum.More = false
	return sum
}

// oldest asks for Oldest at once and one by one.
func (q *asking) oldest() {
	q.note(q.r.Oldest(job.EndPos{}, func(a job.EndedArray, _ job.EndPos) bool {
		q.s.Oldest = append(q.s.Oldest, a)
		return true
	}))
	var single []job.EndedArray
	for pos, more := (job.EndPos{}), true; more; {
		more = false
		q.note(q.r.Oldest(pos, func(a job.EndedArray, behind job.EndPos) bool {
			if !slices.Contains(single, a) {
				single = append(single, a)
			}
			pos, more = behind, true
			return false
		}))
	}
	if !slices.Equal(single, q.s.Oldest) {
		q.note(fmt.Errorf("oldest, one by one: %v, at once: %v", single, q.s.Oldest))
	}
	for id, row := range q.m.Left {
		q.token(row.Token)
		if row, ok, err := q.r.Purged(id); ok {
			q.s.Left[id] = row
			q.note(err)
		}
		q.found(id)
	}
}

// purges forgets a large array in pieces, of which nothing is seen.
func purges(t *testing.T, s Subject) {
	defer s.Discard()
	d, _, err := s.Open()
	require.NoError(t, err)
	const n = 10_000
	txn := &job.Txn{Arrays: []job.ArrayRow{{ID: 10, N: n, Token: "t/0"}, {ID: 20_000, N: 1, Token: "t/1", Digest: "d"}, {ID: 20_001, N: 1}}, LastID: 20_001}
	for i := range n {
		txn.Ended = append(txn.Ended, job.ElementRow{ID: 11 + jobspec.ID(i), Array: 10, Index: i, Result: 1, End: float64(i % 100)})
	}
	txn.Ended = append(txn.Ended, job.ElementRow{ID: 20_000, Array: 20_000, Result: 2, Status: 256, End: 5})
	txn.Output = []job.OutputRow{{ID: 12, Attempt: 1, Stream: 1, Data: []byte("out")}}
	require.NoError(t, commitAll(s, d, txn)[0])
	var first job.Purged
	d.Do(time.Time{}, &job.Purge{Arrays: []jobspec.ID{10, 20_000, 20_001}, TokensUntil: 1}, func(res any, err error) {
		require.NoError(t, err)
		first = res.(job.Purged)
	})
	s.Settle()
	require.Equal(t, n+1, first.Elements())
	require.Equal(t, 1, first.Failed)
	m := ModelOf([]*job.Txn{txn})
	m.Purge(&job.Purge{Arrays: []jobspec.ID{10, 20_000}, TokensUntil: 1})
	require.Len(t, m.Left, 1, "the key stays")
	CheckReader(t, m, d, s.Settle)
	s.Crash()
	d, loaded, err := s.Open()
	require.NoError(t, err)
	CheckLoaded(t, m, loaded)
	CheckReader(t, m, d, s.Settle)
	require.Equal(t, job.Purged{}, purgeAll(t, s, d, &job.Purge{Arrays: []jobspec.ID{10, 20_000, 20_001}}))
	CheckReader(t, m, d, s.Settle)
	require.NoError(t, s.Close())
}
