package store

import (
	"database/sql/driver"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// readers is the number of goroutines that answer queries, so that a long listing does not hold up a short question.
const readers = 2

// queryLoop answers queries on a connection of its own, which is opened with the first of them.
func (s *Store) queryLoop() {
	var c *conn
	for t := s.queries.one(); t != nil; t = s.queries.one() {
		if c == nil {
			var err error
			if c, err = openReading(s.dir); err != nil {
				t.done(nil, err)
				continue
			}
		}
		runQuery(c, s.dir, t.effect.(*job.Query), t.done)
	}
	if c != nil {
		c.close()
	}
}

// openReading opens a connection that cannot write.
func openReading(dir string) (*conn, error) {
	c, err := openConn(filepath.Join(dir, dbName))
	if err != nil {
		return nil, err
	}
	if err := c.script(`PRAGMA query_only=ON; PRAGMA cache_size=-4096; PRAGMA temp_store=FILE`); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// runQuery runs a query on one snapshot of the database.
func runQuery(c *conn, dir string, q *job.Query, done func(any, error)) {
	result, err := query(c, dir, q.Run)
	done(result, err)
}

func query(c *conn, dir string, run func(job.Reader) (any, error)) (any, error) {
	if err := c.run(`BEGIN`); err != nil {
		return nil, fmt.Errorf("query state directory %s: %w", dir, err)
	}
	defer c.rollback()
	r := newReader(c, dir)
	defer r.close()
	return run(r)
}

// reader implements job.Reader for the time of one query.
type reader struct {
	c     *conn
	dir   string
	files segmentReader
	below map[int]*reader // of branches that were asked for
}

func newReader(c *conn, dir string) *reader {
	return &reader{c: c, dir: dir, files: segmentReader{dir: filepath.Join(dir, "output")}}
}

// close lets go of all but the connection.
func (r *reader) close() {
	r.files.close()
	for _, b := range r.below {
		b.close()
		b.c.close()
	}
}

// Below reads what a branch keeps, which may be gone, or have been started again meanwhile.
func (r *reader) Below(branch int) (job.Reader, bool, error) {
	if b := r.below[branch]; b != nil {
		return b, true, nil
	}
	dir := filepath.Join(r.dir, "branch", strconv.Itoa(branch))
	if _, err := os.Stat(filepath.Join(dir, dbName)); err != nil {
		return nil, false, nil
	}
	c, err := openReading(dir)
	if err != nil {
		return nil, false, err
	}
	if err = checkFormat(c, dir); err == nil {
		err = c.run(`BEGIN`)
	}
	if err != nil {
		c.close()
		return nil, false, fmt.Errorf("read what branch %d keeps in %s: %w", branch, dir, err)
	}
	if r.below == nil {
		r.below = make(map[int]*reader)
	}
	b := newReader(c, dir)
	r.below[branch] = b
	return b, true, nil
}

const arrayColumns = `id, n, spec, env, name, cc, bcc, urgency, flags, user, token, submit, params, digest, indexes, size`

// arraySelect is arrayColumns with the array's log, as arrayRow reads them.
const arraySelect = arrayColumns + `, (SELECT h.events FROM history h WHERE h.id = array.id)`

func arrayRow(r *row) job.ArrayRow {
	return job.ArrayRow{ID: jobspec.ID(r.int()), N: int(r.int()), Spec: uint64(r.int()), Env: uint64(r.int()), Name: r.text(), CC: r.text(),
		BCC: r.int() != 0, Urgency: int(r.int()), Flags: int(r.int()), User: uint32(r.int()), Token: r.text(), Submit: r.float(), Params: uint64(r.int()), Digest: r.text(),
		Indexes: r.text(), Size: int(r.int()), Log: r.bytes()}
}

// Array returns a submission.
func (r *reader) Array(id jobspec.ID) (a job.ArrayRow, ok bool, err error) {
	ok, err = r.c.one(func(r *row) { a = arrayRow(r) }, `SELECT `+arraySelect+` FROM array WHERE id = ?`, sqlID(id))
	return a, ok, err
}

// Find returns the array that holds or is id: the last one before it, if it reaches that far.
func (r *reader) Find(id jobspec.ID) (a job.ArrayRow, ok bool, err error) {
	ok, err = r.c.one(func(r *row) { a = arrayRow(r) }, `SELECT `+arraySelect+` FROM array WHERE id <= ? ORDER BY id DESC LIMIT 1`, sqlID(id))
	if !ok || err != nil || id != a.ID && (a.N == 1 || id > a.ID+jobspec.ID(a.N)) {
		return job.ArrayRow{}, false, err
	}
	return a, true, nil
}

// Token returns the array that was submitted with a token.
func (r *reader) Token(token string) (id jobspec.ID, ok bool, err error) {
	ok, err = r.c.one(func(r *row) { id = jobspec.ID(r.int()) }, `SELECT id FROM array WHERE token = ?1 UNION ALL SELECT id FROM purged WHERE token = ?1`, token)
	return id, ok, err
}

// Named returns the array submitted last with a name.
func (r *reader) Named(name string) (a job.ArrayRow, ok bool, err error) {
	ok, err = r.c.one(func(r *row) { a = arrayRow(r) }, `SELECT `+arraySelect+` FROM array WHERE name = ? ORDER BY id DESC LIMIT 1`, name)
	return a, ok, err
}

// Spec returns an interned jobspec; nil if there is none.
func (r *reader) Spec(id uint64) ([]byte, error) {
	return r.text(`SELECT json FROM spec WHERE id = ?`, id)
}

// Env returns an interned environment; nil if there is none.
func (r *reader) Env(id uint64) ([]byte, error) {
	return r.text(`SELECT data FROM env WHERE id = ?`, id)
}

func (r *reader) text(sql string, id uint64) (text []byte, err error) {
	_, err = r.c.one(func(r *row) { text = r.bytes() }, sql, int64(id))
	return text, err
}

// Element returns the row of a finished element.
func (r *reader) Element(array jobspec.ID, index int) (e job.ElementRow, ok bool, err error) {
	n, err := r.c.number(`SELECT n FROM array WHERE id = ?`, sqlID(array))
	if err != nil || index < 0 || int64(index) >= n {
		return e, false, err
	}
	id := elementID(array, int(n), index)
	ok, err = r.c.one(func(r *row) { e = elementRow(r) }, `SELECT `+elementColumns+` FROM element WHERE id = ?`, sqlID(id))
	if ok || err != nil {
		return e, ok, err
	}
	var g endedRange
	ok, err = r.c.one(func(r *row) { g = rangeRow(r) }, `SELECT `+rangeColumns+` FROM range WHERE id <= ? ORDER BY id DESC LIMIT 1`, sqlID(id))
	if !ok || err != nil || id > g.last() {
		return e, false, err
	}
	return g.element(id), true, nil
}

// Summary counts an array's finished elements.
func (r *reader) Summary(array jobspec.ID) (s job.Summary, err error) {
	s.MaxStatus, s.FirstFailed = -1, -1
	ok, err := r.c.one(func(r *row) {
		s = job.Summary{Completed: int(r.int()), Failed: int(r.int()), Canceled: int(r.int()), TimedOut: int(r.int()),
			MaxStatus: int(r.int()), FirstFailed: int(r.int())}
	}, `SELECT completed, failed, canceled, timedout, maxstatus, coalesce(firstfailed, -1) FROM total WHERE array = ?`, sqlID(array))
	if ok || err != nil {
		return s, err
	}
	e, ok, err := r.Element(array, 0) // a single job
	if ok {
		s = summaryOf(e)
	}
	return s, err
}

func summaryOf(e job.ElementRow) job.Summary {
	s := job.Summary{MaxStatus: e.Status, FirstFailed: -1}
	switch resultSlot(e.Result) {
	case 0:
		s.Completed = 1
		return s
	case 1:
		s.Failed = 1
	case 2:
		s.Canceled = 1
	case 3:
		s.TimedOut = 1
	}
	s.FirstFailed = 0
	return s
}

// Output calls f for an element's output. Within one attempt rows lie in the segments in the order in which they were
// written; bytes that came twice are left out.
func (r *reader) Output(id jobspec.ID, attempt uint32, f func(job.OutputRow) bool) error {
	return r.OutputFrom(id, attempt, job.OutputPos{}, func(o job.OutputRow, _ job.OutputPos) bool { return f(o) })
}

// OutputFrom is Output from a place on.
func (r *reader) OutputFrom(id jobspec.ID, attempt uint32, from job.OutputPos, f func(job.OutputRow, job.OutputPos) bool) error {
	if attempt == 0 {
		latest, err := r.c.number(`SELECT max(attempt) FROM output WHERE id = ?`, sqlID(id))
		if err != nil {
			return err
		}
		attempt = uint32(latest)
	}
	var failed error
	ends := map[outputStream]int64{}
	err := r.c.each(`SELECT task, stream, offset, seg, pos, len FROM output WHERE id = ? AND attempt = ? AND (seg, pos) >= (?, ?) ORDER BY seg, pos`,
		[]driver.Value{sqlID(id), int64(attempt), from.Seg, from.Pos}, func(row *row) bool {
			o := job.OutputRow{ID: id, Attempt: attempt, Task: int(row.int()), Stream: uint8(row.int()), Offset: row.int()}
			seg, pos, size := row.int(), row.int(), row.int()
			if o.Data, failed = r.files.read(seg, pos, size); failed != nil {
				return false
			}
			key := outputStream{o.Task, o.Stream}
			o.Offset, o.Data = uncovered(o.Offset, o.Data, ends[key])
			if len(o.Data) == 0 {
				return true
			}
			ends[key] = o.Offset + int64(len(o.Data))
			return f(o, job.OutputPos{Seg: seg, Pos: pos + size})
		})
	if err == nil {
		err = failed
	}
	return err
}

type outputStream struct {
	task   int
	stream uint8
}
