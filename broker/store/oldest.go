package store

import (
	"database/sql/driver"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// Oldest calls f for arrays whose elements have all ended, the one whose end is longest ago first. It goes through the ends of elements in
// their order: an array's turn is when its last element's comes.
func (r *reader) Oldest(from job.EndPos, f func(job.EndedArray, job.EndPos) bool) error {
	gone, err := r.forgotten()
	if err != nil {
		return err
	}
	var lists [2]endList
	for i, table := range []string{`element INDEXED BY element_end`, `range INDEXED BY range_end`} {
		cur, err := r.c.open(`SELECT t_end, result, id, array FROM `+table+` WHERE (t_end, result, id) > (?, ?, ?) ORDER BY t_end, result, id`,
			[]driver.Value{from.End, int64(from.Result), sqlID(from.ID)})
		if err != nil {
			return err
		}
		defer cur.close()
		lists[i].cur = cur
		if err := lists[i].advance(); err != nil {
			return err
		}
	}
	arrays := map[jobspec.ID]*endedTotal{}
	for lists[0].more || lists[1].more {
		l := &lists[0]
		if !l.more || lists[1].more && older(lists[1].pos, l.pos) {
			l = &lists[1]
		}
		t, err := r.endedTotal(arrays, l)
		if err != nil {
			return err
		}
		if t.n > 0 && l.pos.End >= t.end && !gone[l.array] {
			if !f(job.EndedArray{ID: l.array, N: t.n, End: l.pos.End}, l.pos) {
				return nil
			}
			t.n = 0 // another element may have ended at the same time
		}
		if err := l.advance(); err != nil {
			return err
		}
	}
	return nil
}

// endedTotal is the size of an array that has ended and the end of its last element; n = 0: it has not, or it has had its turn.
type endedTotal struct {
	n   int
	end float64
}

func (r *reader) endedTotal(known map[jobspec.ID]*endedTotal, l *endList) (*endedTotal, error) {
	if l.array == l.pos.ID {
		return &endedTotal{1, l.pos.End}, nil
	}
	t := known[l.array]
	if t != nil {
		return t, nil
	}
	t = &endedTotal{}
	known[l.array] = t
	_, err := r.c.one(func(r *row) { t.n, t.end = int(r.int()), r.float() },
		`SELECT n, t_end FROM total WHERE array = ? AND completed + failed + canceled + timedout >= n`, sqlID(l.array))
	return t, err
}

// endList is what a walk through the ends of one table has come to.
type endList struct {
	cur   *cursor
	pos   job.EndPos
	array jobspec.ID
	more  bool
}

func (l *endList) advance() error {
	row, err := l.cur.next()
	if l.more = row != nil; l.more {
		l.pos = job.EndPos{End: row.float(), Result: uint8(row.int()), ID: jobspec.ID(row.int())}
		l.array = jobspec.ID(row.int())
	}
	return err
}

func older(a, b job.EndPos) bool {
	if a.End != b.End {
		return a.End < b.End
	}
	if a.Result != b.Result {
		return a.Result < b.Result
	}
	return a.ID < b.ID
}
