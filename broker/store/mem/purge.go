package mem

import (
	"cmp"
	"slices"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// purge forgets those of the arrays that have ended.
func (s *state) purge(p *job.Purge) (res job.Purged) {
	for _, id := range p.Arrays {
		a := s.arrays[id]
		if a == nil || s.active[id] != nil {
			continue
		}
		sum := &a.summary
		res.Completed, res.Failed, res.Canceled, res.TimedOut = res.Completed+sum.Completed, res.Failed+sum.Failed, res.Canceled+sum.Canceled, res.TimedOut+sum.TimedOut
		s.forget(a)
	}
	for i, n := range []int{res.Completed, res.Failed, res.Canceled, res.TimedOut} {
		s.sums[i] -= n
		s.purged += n
	}
	if res.Elements() == 0 {
		return res
	}
	for id, row := range s.left {
		if row.Digest == "" && row.Submit < p.TokensUntil {
			delete(s.left, id)
			delete(s.tokens, row.Token)
		}
	}
	return res
}

func (s *state) forget(a *array) {
	row := a.row
	if row.Token != "" {
		s.left[row.ID] = job.PurgedRow{ID: row.ID, N: row.N, Name: row.Name, Token: row.Token, Digest: row.Digest, Submit: row.Submit, Summary: a.summary}
	}
	delete(s.arrays, row.ID)
	s.order = slices.DeleteFunc(s.order, func(id jobspec.ID) bool { return id == row.ID })
	delete(s.output, row.ID)
	for i := 0; i < row.N && row.N > 1; i++ {
		delete(s.output, row.ID+1+jobspec.ID(i))
	}
	for _, other := range s.arrays {
		if other.row.Params == row.Params {
			return
		}
	}
	delete(s.params, row.Params)
}

// Purged returns what is left of a purged array.
func (r reader) Purged(id jobspec.ID) (job.PurgedRow, bool, error) {
	row, ok := r.s.left[id]
	return row, ok, nil
}

// Oldest calls f for arrays whose elements have all ended, the one whose end is longest ago first.
func (r reader) Oldest(from job.EndPos, f func(job.EndedArray, job.EndPos) bool) error {
	type ended struct {
		job.EndedArray
		pos job.EndPos
	}
	var list []ended
	for id, a := range r.s.arrays {
		if r.s.active[id] == nil {
			pos := a.end()
			list = append(list, ended{job.EndedArray{ID: id, N: a.row.N, End: pos.End}, pos})
		}
	}
	slices.SortFunc(list, func(a, b ended) int { return comparePos(a.pos, b.pos) })
	for _, e := range list {
		if comparePos(from, e.pos) < 0 && !f(e.EndedArray, e.pos) {
			break
		}
	}
	return nil
}

func comparePos(a, b job.EndPos) int {
	return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(a.Result, b.Result), cmp.Compare(a.ID, b.ID))
}

// end is the place of the first of the elements that ended last.
func (a *array) end() (last job.EndPos) {
	for _, n := range a.runs(nil, 0, 0, 0) {
		p := job.EndPos{End: n.end, Result: n.result, ID: n.id}
		if n.ranged != nil {
			p.ID = a.ranged(n.ranged, n.ranged.Lo).ID
		}
		if last.ID == 0 || p.End > last.End || p.End == last.End && comparePos(p, last) < 0 {
			last = p
		}
	}
	return last
}
