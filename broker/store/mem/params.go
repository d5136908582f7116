package mem

import (
	"cmp"
	"slices"

	"github.com/frond-hpc/frond/broker/job"
)

func (s *state) addParams(t *job.Txn) {
	for _, u := range t.Uploads {
		if _, ok := s.uploads[u.Set]; !ok {
			s.uploads[u.Set] = u.Token
		}
	}
	for _, p := range t.Params {
		if i, found := slices.BinarySearchFunc(s.params[p.Set], p.First, func(r job.ParamsRow, first int) int { return cmp.Compare(r.First, first) }); !found {
			s.params[p.Set] = slices.Insert(s.params[p.Set], i, p)
		}
	}
	for i := range t.Arrays {
		delete(s.uploads, t.Arrays[i].Params)
	}
}

// Params returns the chunk that holds an element's parameters.
func (r reader) Params(set uint64, index int) (job.ParamsRow, bool, error) {
	for _, p := range r.s.params[set] {
		if p.First <= index && index < p.First+p.N {
			return p, true, nil
		}
	}
	return job.ParamsRow{}, false, nil
}

// Upload returns the set that is being uploaded under a token.
func (r reader) Upload(token string) (set uint64, n int, ok bool, err error) {
	for id, t := range r.s.uploads {
		if t == token && id >= set {
			set, ok = id, true
		}
	}
	if rows := r.s.params[set]; ok && len(rows) > 0 {
		last := rows[len(rows)-1]
		n = last.First + last.N
	}
	return set, n, ok, nil
}
