package store

import (
	"database/sql/driver"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// load reads what a leader needs to go on. It visits unfinished arrays only, and of their finished elements hardly more than the
// edges of the spans they form.
func load(c *conn) (*job.Loaded, error) {
	l := &loader{c: c, out: &job.Loaded{}, texts: map[uint64][]byte{}, envs: map[uint64][]byte{}}
	for _, step := range []func() error{l.meta, l.members, l.arrays, l.details, l.starts} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return l.out, nil
}

type loader struct {
	c           *conn
	out         *job.Loaded
	texts, envs map[uint64][]byte // shared by the arrays that name them
	name        string            // of the array before: equal names share their memory
}

func (l *loader) meta() (err error) {
	_, err = l.c.one(func(r *row) {
		l.out.Epoch, l.out.LastID = uint64(r.int()), jobspec.ID(r.int())
		n := &l.out.Counts
		n.Completed, n.Failed, n.Canceled, n.TimedOut = int(r.int()), int(r.int()), int(r.int()), int(r.int())
		l.out.SpecID, l.out.EnvID, l.out.ParamID = uint64(r.int()), uint64(r.int()), uint64(r.int())
		l.out.Purged = int(r.int())
	}, `SELECT epoch, last_id, completed, failed, canceled, timedout,
		(SELECT coalesce(max(id), 0) FROM spec), (SELECT coalesce(max(id), 0) FROM env),
		(SELECT coalesce(max(id) >> 22, 0) FROM params), purged FROM meta`)
	return err
}

func (l *loader) members() error {
	err := l.c.each(`SELECT name, disabled, stopped, why, whystop FROM queue ORDER BY name`, nil, func(r *row) bool {
		l.out.Queues = append(l.out.Queues, job.QueueRow{Name: r.text(), Disabled: r.int() != 0, Stopped: r.int() != 0, Why: r.text(), WhyStop: r.text()})
		return true
	})
	if err != nil {
		return err
	}
	err = l.c.each(`SELECT num, branch, items FROM granted ORDER BY num`, nil, func(r *row) bool {
		l.out.Grants = append(l.out.Grants, job.GrantRow{Num: uint64(r.int()), Branch: int(r.int()), Items: r.bytes()})
		return true
	})
	if err != nil {
		return err
	}
	return l.c.each(`SELECT rank, uuid, host, boot_id, pid, state FROM member ORDER BY rank`, nil, func(r *row) bool {
		l.out.Members = append(l.out.Members, job.MemberRow{
			Rank: int32(r.int()), UUID: r.text(), Host: r.text(), BootID: r.text(), PID: int(r.int()), State: r.text()})
		return true
	})
}

func (l *loader) arrays() error {
	n, err := l.c.number(`SELECT count(*) FROM active`)
	if err != nil {
		return err
	}
	l.out.Arrays = make([]job.LoadedArray, 0, n)
	return l.c.each(`SELECT `+arraySelect+`, hi FROM active JOIN array USING (id) ORDER BY id`, nil, func(r *row) bool {
		a := job.LoadedArray{ArrayRow: arrayRow(r), Hi: int(r.int())}
		if a.Name == l.name {
			a.Name = l.name
		}
		l.name = a.Name
		l.out.Arrays = append(l.out.Arrays, a)
		return true
	})
}

// details fills in the texts of all arrays and the progress of those with n > 1.
func (l *loader) details() (err error) {
	for i := range l.out.Arrays {
		a := &l.out.Arrays[i]
		if a.JSON, err = l.text(l.texts, `SELECT json FROM spec WHERE id = ?`, a.Spec); err != nil {
			return err
		}
		if a.EnvData, err = l.text(l.envs, `SELECT data FROM env WHERE id = ?`, a.Env); err != nil {
			return err
		}
		if a.N > 1 {
			if err = l.progress(a); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *loader) text(known map[uint64][]byte, sql string, id uint64) (text []byte, err error) {
	if text, ok := known[id]; ok {
		return text, nil
	}
	_, err = l.c.one(func(r *row) { text = r.bytes() }, sql, int64(id))
	known[id] = text
	return text, err
}

func (l *loader) progress(a *job.LoadedArray) error {
	_, err := l.c.one(func(r *row) {
		n := &a.Results
		n.Completed, n.Failed, n.Canceled, n.TimedOut = int(r.int()), int(r.int()), int(r.int()), int(r.int())
	}, `SELECT completed, failed, canceled, timedout FROM total WHERE array = ?`, sqlID(a.ID))
	if err != nil {
		return err
	}
	elements := &spanFinder{c: l.c, base: int64(a.ID) + 1}
	if a.Results.Completed+a.Results.Failed+a.Results.Canceled+a.Results.TimedOut > 0 {
		err = elements.all(a.N)
	}
	if err != nil {
		return err
	}
	var ranges []job.Span
	err = l.c.each(`SELECT lo, hi FROM range WHERE id BETWEEN ? AND ? ORDER BY id`, idSpan(a.ID, a.N), func(r *row) bool {
		ranges = append(ranges, job.Span{Lo: int(r.int()), Hi: int(r.int())})
		return true
	})
	a.Finished = mergeSpans(elements.spans, ranges)
	return err
}

// idSpan is the ids of the elements of an array of n, as arguments of a BETWEEN.
func idSpan(id jobspec.ID, n int) []driver.Value {
	return []driver.Value{sqlID(elementID(id, n, 0)), sqlID(elementID(id, n, n-1))}
}

// starts reads the attempts of elements that have not finished.
func (l *loader) starts() error {
	i := 0
	return l.c.each(`SELECT array, idx, attempt, node, failed FROM start ORDER BY array, idx`, nil, func(r *row) bool {
		s := job.StartRow{Array: jobspec.ID(r.int()), Index: int(r.int()), Attempt: uint32(r.int()), Node: r.text(), Failed: int(r.int())}
		for i < len(l.out.Arrays) && l.out.Arrays[i].ID < s.Array {
			i++
		}
		if i == len(l.out.Arrays) {
			return false
		}
		if a := &l.out.Arrays[i]; a.ID == s.Array && !inSpans(a.Finished, s.Index) {
			a.Starts = append(a.Starts, s)
		}
		return true
	})
}

// spanFinder finds the spans of an array's elements in table element. It asks SQLite to count them block by block: where all or none of a
// block are there, which is so nearly everywhere, no row has to be read. Other blocks are halved; their pages are in the cache by then.
type spanFinder struct {
	c     *conn
	base  int64 // id of index 0
	spans []job.Span
}

const (
	countBlock = 16384
	scanBelow  = 256 // the width at which rows are read instead of counted
)

func (f *spanFinder) all(n int) error {
	for lo := 0; lo < n; lo += countBlock {
		if err := f.find(lo, min(lo+countBlock, n)-1); err != nil {
			return err
		}
	}
	return nil
}

func (f *spanFinder) find(lo, hi int) error {
	if hi-lo < scanBelow {
		return f.c.each(`SELECT id FROM element WHERE id BETWEEN ? AND ? ORDER BY id`, f.ids(lo, hi), func(r *row) bool {
			i := int(r.int() - f.base)
			f.add(i, i)
			return true
		})
	}
	n, err := f.c.number(`SELECT count(*) FROM element WHERE id BETWEEN ? AND ?`, f.ids(lo, hi)...)
	switch {
	case err != nil || n == 0:
		return err
	case n == int64(hi-lo+1):
		f.add(lo, hi)
		return nil
	}
	mid := lo + (hi-lo)/2
	if err := f.find(lo, mid); err != nil {
		return err
	}
	return f.find(mid+1, hi)
}

func (f *spanFinder) ids(lo, hi int) []driver.Value {
	return []driver.Value{f.base + int64(lo), f.base + int64(hi)}
}

func (f *spanFinder) add(lo, hi int) { f.spans = appendSpan(f.spans, job.Span{Lo: lo, Hi: hi}) }

// appendSpan appends a span that begins at or after the last one's begin, joining what touches.
func appendSpan(list []job.Span, s job.Span) []job.Span {
	if n := len(list); n > 0 && s.Lo <= list[n-1].Hi+1 {
		list[n-1].Hi = max(list[n-1].Hi, s.Hi)
		return list
	}
	return append(list, s)
}

// mergeSpans joins two ascending lists into one.
func mergeSpans(a, b []job.Span) (out []job.Span) {
	for len(a)+len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && a[0].Lo <= b[0].Lo {
			out, a = appendSpan(out, a[0]), a[1:]
		} else {
			out, b = appendSpan(out, b[0]), b[1:]
		}
	}
	return out
}

// inSpans tells whether i lies in one of the ascending spans.
func inSpans(spans []job.Span, i int) bool {
	lo, hi := 0, len(spans)
	for lo < hi {
		if mid := (lo + hi) / 2; spans[mid].Hi < i {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo < len(spans) && spans[lo].Lo <= i
}
