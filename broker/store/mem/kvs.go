package mem

import (
	"cmp"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/broker/kvs"
)

// entries is what is durable of the key-value store, as rows: the same as in the tables of broker/store.
type entries struct {
	rows   map[entryKey]kvs.Row
	spaces map[string]kvs.SpaceRow
	tokens []kvs.TokenRow
}

type entryKey struct {
	space, key string
	part       int
}

// take writes one commit.
func (s *state) take(f flight) (any, error) {
	switch {
	case f.kvs != nil:
		s.kvs.apply(f.kvs)
	case f.purge != nil:
		return s.purge(f.purge), nil
	default:
		return nil, s.apply(f.txn)
	}
	return nil, nil
}

func (e *entries) apply(t *kvs.Txn) {
	for _, r := range t.Rows {
		if r.Drop {
			e.drop(r)
			continue
		}
		r.Data = slices.Clone(r.Data)
		e.rows[entryKey{r.Space, r.Key, r.Part}] = r
	}
	e.tokens = slices.DeleteFunc(append(e.tokens, t.Tokens...), func(k kvs.TokenRow) bool { return k.N <= t.Forget })
	for _, s := range t.Spaces {
		if e.spaces[s.Name] = s; s.Gone {
			delete(e.spaces, s.Name)
		}
	}
}

func (e *entries) drop(d kvs.Row) {
	for k := range e.rows {
		if k.space == d.Space && (d.Key == "" || k.key == d.Key || strings.HasPrefix(k.key, d.Key+".")) {
			delete(e.rows, k)
		}
	}
}

// KVS is what the key-value store holds.
func (l *Leader) KVS() *kvs.Loaded {
	out := &kvs.Loaded{Tokens: slices.Clone(l.store.state.kvs.tokens)}
	for _, r := range l.store.state.kvs.rows {
		out.Rows = append(out.Rows, r)
	}
	slices.SortFunc(out.Rows, func(a, b kvs.Row) int {
		return cmp.Or(cmp.Compare(a.Space, b.Space), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Part, b.Part))
	})
	for _, s := range l.store.state.kvs.spaces {
		out.Spaces = append(out.Spaces, s)
	}
	slices.SortFunc(out.Spaces, func(a, b kvs.SpaceRow) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
