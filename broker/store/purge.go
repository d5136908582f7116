package store

import (
	"database/sql/driver"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// formatPurge adds what purging needs. An array is forgotten in one transaction with its row in array; what else there is of it goes in pieces,
// as an array may have millions of rows, and table purge tells how far that is.
const formatPurge = `
ALTER TABLE meta ADD COLUMN purged INTEGER NOT NULL DEFAULT 0; -- elements
ALTER TABLE meta ADD COLUMN untidy INTEGER NOT NULL DEFAULT 0; -- there may be texts and segments that no row names
ALTER TABLE total ADD COLUMN t_end REAL NOT NULL DEFAULT 0;    -- of the element that ended last
UPDATE total SET t_end = max(
	coalesce((SELECT max(e.t_end) FROM element e WHERE e.id BETWEEN total.array + 1 AND total.array + total.n), 0),
	coalesce((SELECT max(r.t_end) FROM range r WHERE r.id BETWEEN total.array + 1 AND total.array + total.n), 0));
CREATE INDEX array_params ON array (params) WHERE params != 0;
CREATE TABLE purge (           -- arrays that are forgotten and of which there are rows yet
	id   INTEGER PRIMARY KEY,
	n    INTEGER NOT NULL,
	next INTEGER NOT NULL        -- elements before it have no more rows
);
CREATE TABLE purged (          -- forgotten submissions whose token has to stay known
	token       TEXT PRIMARY KEY,
	id          INTEGER NOT NULL,
	n           INTEGER NOT NULL,
	name        TEXT,
	digest      TEXT,
	submit      REAL NOT NULL,
	completed   INTEGER NOT NULL,
	failed      INTEGER NOT NULL,
	canceled    INTEGER NOT NULL,
	timedout    INTEGER NOT NULL,
	maxstatus   INTEGER NOT NULL,
	firstfailed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX purged_id ON purged (id);
`

// sweepElements is of how many elements rows are deleted in one transaction: commits wait for it.
const sweepElements = 4096

// turnPurge carries out a purge. Its failure is its own.
func (s *Store) turnPurge(t *task, p *job.Purge) {
	res, err := s.w.purge(p)
	if err != nil {
		t.done(nil, s.explain(fmt.Errorf("purge: %w", err)))
		return
	}
	s.dropHistories(p)
	t.done(res, nil)
}

// purge forgets arrays, deletes some of the rows of those that are forgotten, and once there are none, the segments that no row names.
func (w *writer) purge(p *job.Purge) (res job.Purged, err error) {
	if w.takenOver {
		return res, ErrTakenOver
	}
	if err := w.c.run(`BEGIN IMMEDIATE`); err != nil {
		return res, err
	}
	if err = w.checkEpoch(); err == nil {
		err = w.forget(p, &res)
	}
	segs := map[int64]bool{}
	if err == nil {
		res.More, err = w.sweep(segs)
	}
	if err == nil {
		err = w.c.run(`COMMIT`)
	}
	if err != nil {
		w.c.rollback()
		return job.Purged{}, err
	}
	if w.loose == nil {
		w.loose = segs
	}
	maps.Copy(w.loose, segs)
	if len(p.Arrays) > 0 {
		res.More = res.More || len(w.loose) > 0
	} else if !res.More && len(w.loose) > 0 {
		err = w.dropSegments(w.loose)
		w.loose = nil
	}
	return res, err
}

// forget takes the arrays that have ended out of all tables that have a row for each array, and notes them in table purge.
func (w *writer) forget(p *job.Purge, sum *job.Purged) error {
	if len(p.Arrays) == 0 {
		return nil
	}
	for _, id := range p.Arrays {
		if err := w.forgetArray(id, p.TokensUntil, sum); err != nil {
			return err
		}
	}
	if sum.Elements() == 0 {
		return nil
	}
	err := w.c.run(`DELETE FROM purged WHERE digest IS NULL AND submit < ?`, p.TokensUntil)
	if err == nil {
		err = w.c.run(`UPDATE meta SET completed = completed - ?, failed = failed - ?, canceled = canceled - ?, timedout = timedout - ?,
			purged = purged + ?, untidy = 1`, int64(sum.Completed), int64(sum.Failed), int64(sum.Canceled), int64(sum.TimedOut), int64(sum.Elements()))
	}
	return err
}

func (w *writer) forgetArray(id jobspec.ID, tokensUntil float64, sum *job.Purged) error {
	r := &reader{c: w.c}
	a, ok, err := r.Array(id)
	if err != nil || !ok {
		return err
	}
	if active, err := w.c.one(func(*row) {}, `SELECT 1 FROM active WHERE id = ?`, sqlID(id)); active || err != nil {
		return err
	}
	s, err := r.Summary(id)
	if err != nil {
		return err
	}
	sum.Completed, sum.Failed, sum.Canceled, sum.TimedOut = sum.Completed+s.Completed, sum.Failed+s.Failed, sum.Canceled+s.Canceled, sum.TimedOut+s.TimedOut
	if a.Token != "" && (a.Digest != "" || a.Submit >= tokensUntil) {
		err = w.c.run(`INSERT OR REPLACE INTO purged VALUES (?,?,?,?,?,?,?,?,?,?,?,?)`, a.Token, sqlID(id), int64(a.N), null(a.Name), null(a.Digest), a.Submit,
			int64(s.Completed), int64(s.Failed), int64(s.Canceled), int64(s.TimedOut), int64(s.MaxStatus), int64(s.FirstFailed))
	}
	for _, sql := range []string{`DELETE FROM array WHERE id = ?`, `DELETE FROM total WHERE array = ?`, `DELETE FROM history WHERE id = ?`,
		`DELETE FROM start WHERE array = ?`} {
		if err == nil {
			err = w.c.run(sql, sqlID(id))
		}
	}
	if err == nil {
		err = w.c.run(`INSERT OR REPLACE INTO purge VALUES (?,?,0)`, sqlID(id), int64(a.N))
	}
	if a.Params != 0 && err == nil {
		err = w.forgetParams(a.Params)
	}
	return err
}

// forgetParams deletes a set of parameters if no array has it any more: one whose elements run again shares its own.
func (w *writer) forgetParams(set uint64) error {
	used, err := w.c.one(func(*row) {}, `SELECT 1 FROM array WHERE params = ? AND params != 0`, int64(set))
	if err != nil || used {
		return err
	}
	return w.c.run(`DELETE FROM params WHERE id BETWEEN ? AND ?`, paramsID(set, 0), paramsID(set+1, 0)-1)
}

// leftover is a row of table purge.
type leftover struct {
	id      jobspec.ID
	n, next int
}

// sweep deletes rows of elements of forgotten arrays, of sweepElements elements at most, and notes the segments of their output. It tells
// whether there are more.
func (w *writer) sweep(segs map[int64]bool) (more bool, err error) {
	var list []leftover
	left := sweepElements
	err = w.c.each(`SELECT id, n, next FROM purge ORDER BY id`, nil, func(r *row) bool {
		if left <= 0 {
			more = true
			return false
		}
		l := leftover{jobspec.ID(r.int()), int(r.int()), int(r.int())}
		list = append(list, l)
		left -= l.n - l.next
		return true
	})
	for i := 0; i < len(list) && err == nil; i++ {
		l := &list[i]
		end := l.n
		if i == len(list)-1 && left < 0 {
			end, more = l.n+left, true
		}
		if err = w.sweepArray(l, end, segs); err != nil {
			break
		}
		if end == l.n {
			err = w.c.run(`DELETE FROM purge WHERE id = ?`, sqlID(l.id))
		} else {
			err = w.c.run(`UPDATE purge SET next = ? WHERE id = ?`, int64(end), sqlID(l.id))
		}
	}
	return more, err
}

// sweepArray deletes the rows of elements l.next … end-1.
func (w *writer) sweepArray(l *leftover, end int, segs map[int64]bool) error {
	span := []driver.Value{sqlID(elementID(l.id, l.n, l.next)), sqlID(elementID(l.id, l.n, end-1))}
	err := w.c.each(`SELECT DISTINCT seg FROM output WHERE id BETWEEN ? AND ?`, span, func(r *row) bool {
		segs[r.int()] = true
		return true
	})
	for _, sql := range []string{`DELETE FROM element WHERE id BETWEEN ? AND ?`, `DELETE FROM range WHERE id BETWEEN ? AND ?`,
		`DELETE FROM output WHERE id BETWEEN ? AND ?`} {
		if err == nil {
			err = w.c.run(sql, span...)
		}
	}
	return err
}

// dropSegments removes those of the given segments (nil = all) that no row names. It leaves the one that is being written and that with the
// largest number, so that numbers are not given twice.
func (w *writer) dropSegments(some map[int64]bool) error {
	named := map[int64]bool{w.seg.num: true}
	err := w.c.each(`SELECT DISTINCT seg FROM output`, nil, func(r *row) bool {
		named[r.int()] = true
		return true
	})
	if err != nil {
		return err
	}
	files, err := os.ReadDir(w.seg.dir)
	if err != nil {
		return fmt.Errorf("read output segments: %w", err)
	}
	last, err := lastSegment(w.seg.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		digits, ok := strings.CutSuffix(f.Name(), ".seg")
		num, _ := strconv.ParseInt(digits, 10, 64)
		if !ok || num == 0 || num == last || named[num] || some != nil && !some[num] {
			continue
		}
		if err := os.Remove(filepath.Join(w.seg.dir, f.Name())); err != nil {
			return fmt.Errorf("remove output of purged jobs: %w", err)
		}
	}
	return nil
}

// tidy finishes what purges left to do when the leader before ended: rows, segments, and texts that no array names. Those with the largest
// ids stay, so that no id is given twice: brokers may remember what it meant.
func (w *writer) tidy() error {
	if untidy, err := w.c.number(`SELECT untidy FROM meta`); err != nil || untidy == 0 {
		return err
	}
	for more := true; more; {
		res, err := w.purge(&job.Purge{})
		if err != nil {
			return err
		}
		more = res.More
	}
	if err := w.dropSegments(nil); err != nil {
		return err
	}
	return w.c.script(`BEGIN IMMEDIATE;
		DELETE FROM spec WHERE id < (SELECT max(id) FROM spec) AND id NOT IN (SELECT spec FROM array);
		DELETE FROM env WHERE id < (SELECT max(id) FROM env) AND id NOT IN (SELECT env FROM array);
		UPDATE meta SET untidy = 0;
		COMMIT`)
}

// Purged returns what is left of a purged array.
func (r *reader) Purged(id jobspec.ID) (p job.PurgedRow, ok bool, err error) {
	ok, err = r.c.one(func(r *row) {
		p = job.PurgedRow{Token: r.text(), ID: jobspec.ID(r.int()), N: int(r.int()), Name: r.text(), Digest: r.text(), Submit: r.float(),
			Summary: job.Summary{Completed: int(r.int()), Failed: int(r.int()), Canceled: int(r.int()), TimedOut: int(r.int()),
				MaxStatus: int(r.int()), FirstFailed: int(r.int())}}
	}, `SELECT token, id, n, name, digest, submit, completed, failed, canceled, timedout, maxstatus, firstfailed FROM purged WHERE id = ?`, sqlID(id))
	return p, ok, err
}

// forgotten are the arrays of which there may be rows though they are purged.
func (r *reader) forgotten() (set map[jobspec.ID]bool, err error) {
	err = r.c.each(`SELECT id FROM purge`, nil, func(r *row) bool {
		if set == nil {
			set = map[jobspec.ID]bool{}
		}
		set[jobspec.ID(r.int())] = true
		return true
	})
	return set, err
}
