package store

import (
	"database/sql/driver"
	"strings"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

const (
	elementColumns = `id, array, idx, result, status, attempt, t_run, t_end, nodelist, ranks, r, maxrss, cpu, events`
	rangeColumns   = `id, array, lo, hi, result, t_end, events, status`
	// sortBelow is the number of elements up to which an array's are found by id and sorted, rather than by the order of ends of
	// all arrays.
	sortBelow = 4096
)

func elementRow(r *row) job.ElementRow {
	return job.ElementRow{ID: jobspec.ID(r.int()), Array: jobspec.ID(r.int()), Index: int(r.int()), Result: uint8(r.int()), Status: int(r.int()),
		Attempt: uint32(r.int()), Start: r.float(), End: r.float(), Nodelist: r.text(), Ranks: r.text(), R: r.bytes(), MaxRSS: r.int(),
		CPU: r.float(), Events: r.bytes()}
}

// endedRange is a row of table range.
type endedRange struct {
	id jobspec.ID // of element Lo
	job.RangeRow
}

func rangeRow(r *row) endedRange {
	return endedRange{jobspec.ID(r.int()), job.RangeRow{Array: jobspec.ID(r.int()), Lo: int(r.int()), Hi: int(r.int()), Result: uint8(r.int()),
		End: r.float(), Events: r.bytes(), Status: int(r.int())}}
}

func (g *endedRange) last() jobspec.ID { return g.id + jobspec.ID(g.Hi-g.Lo) }

// element makes up the row of one of its elements.
func (g *endedRange) element(id jobspec.ID) job.ElementRow {
	return job.ElementRow{ID: id, Array: g.Array, Index: g.Lo + int(id-g.id), Result: g.Result, Status: g.Status, End: g.End, Events: g.Events}
}

// Ended calls f for finished elements, newest end first; of equal ends the larger result, then the larger id comes first. It
// reads as far as f wants.
func (r *reader) Ended(array jobspec.ID, results int, since, until float64, f func(job.ElementRow) bool) error {
	where, args, byID, err := r.endedWhere(array, results, since, until)
	if err != nil || where == "" {
		return err
	}
	gone, err := r.forgotten()
	if err != nil {
		return err
	}
	if gone != nil {
		all := f
		f = func(e job.ElementRow) bool { return gone[e.Array] || all(e) }
	}
	ranges, err := r.endedRanges(where, args)
	if err != nil {
		return err
	}
	defer ranges.cur.close()
	from := `element INDEXED BY element_end`
	if byID {
		from = `element NOT INDEXED`
	}
	more := true
	err = r.c.each(`SELECT `+elementColumns+` FROM `+from+where+` ORDER BY t_end DESC, result DESC, id DESC`, args, func(row *row) bool {
		e := elementRow(row)
		more = ranges.before(&e, f) && f(e)
		return more
	})
	if err == nil && more {
		ranges.before(nil, f)
	}
	if err == nil {
		err = ranges.err
	}
	return err
}

// endedWhere is the condition of Ended, for tables element and range alike; "" if there can be none.
func (r *reader) endedWhere(array jobspec.ID, results int, since, until float64) (where string, args []driver.Value, byID bool, err error) {
	conds := []string{`t_end >= ?`}
	args = append(args, since)
	if until > 0 {
		conds = append(conds, `t_end <= ?`)
		args = append(args, until)
	}
	if results != 0 {
		conds = append(conds, `result & ? != 0`)
		args = append(args, int64(results))
	}
	if array != 0 {
		n, err := r.c.number(`SELECT n FROM array WHERE id = ?`, sqlID(array))
		if err != nil || n == 0 {
			return "", nil, false, err
		}
		conds = append(conds, `id BETWEEN ? AND ?`)
		args = append(args, idSpan(array, int(n))...)
		byID = n <= sortBelow
	}
	return ` WHERE ` + strings.Join(conds, ` AND `), args, byID, nil
}

// rangeList is the ranges that a listing has not come to yet, in its order.
type rangeList struct {
	cur  *cursor
	head endedRange
	at   jobspec.ID // next element of head
	more bool       // head is valid
	err  error
}

// endedRanges begins a list, which must be closed.
func (r *reader) endedRanges(where string, args []driver.Value) (*rangeList, error) {
	cur, err := r.c.open(`SELECT `+rangeColumns+` FROM range`+where+` ORDER BY t_end DESC, result DESC, id DESC`, args)
	if err != nil {
		return nil, err
	}
	l := &rangeList{cur: cur}
	l.advance()
	return l, nil
}

func (l *rangeList) advance() {
	row, err := l.cur.next()
	l.more, l.err = row != nil, err
	if l.more {
		l.head = rangeRow(row)
		l.at = l.head.last()
	}
}

// before calls f for the elements that come before e, for all that are left if e is nil. It returns false when f did.
func (l *rangeList) before(e *job.ElementRow, f func(job.ElementRow) bool) bool {
	for l.more && (e == nil || newer(l.head.End, l.head.Result, l.at, e)) {
		if !f(l.head.element(l.at)) {
			return false
		}
		if l.at--; l.at < l.head.id {
			l.advance()
		}
	}
	return true
}

func newer(end float64, result uint8, id jobspec.ID, e *job.ElementRow) bool {
	if end != e.End {
		return end > e.End
	}
	if result != e.Result {
		return result > e.Result
	}
	return id > e.ID
}
