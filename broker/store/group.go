package store

import (
	"fmt"
	"slices"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// group collects what one transaction changes beside the rows it is given: which arrays are new, how far they have ended, and
// the sums.
type group struct {
	w       *writer
	careful bool
	expect  int // rows that must have been inserted if none was there before
	fresh   map[jobspec.ID]*freshArray
	singles []jobspec.ID // single jobs that ended
	tallies map[jobspec.ID]*tally
	sums    [4]int              // elements ended, by result
	seen    map[jobspec.ID]bool // careful: elements already in this group
	lastID  jobspec.ID
	over    []jobspec.ID // arrays that are complete now, set by settle
}

// freshArray is a new array of this group.
type freshArray struct {
	n     int
	ended bool
	hi    int
}

// tally is how far an array with n > 1 got in this group.
type tally struct {
	counts      [4]int
	maxStatus   int
	firstFailed int
	end         float64 // the latest
}

const noneFailed = int(^uint(0) >> 1)

func newGroup(w *writer, careful bool) *group {
	return &group{w: w, careful: careful, fresh: map[jobspec.ID]*freshArray{}, tallies: map[jobspec.ID]*tally{}, seen: map[jobspec.ID]bool{}}
}

// insert writes the rows of t that are inserted, and collects the rest.
func (g *group) insert(t *job.Txn) error {
	g.lastID = max(g.lastID, t.LastID)
	steps := []func(*job.Txn) error{g.arrays, g.output, g.ended, g.ranges}
	for _, step := range steps {
		if err := step(t); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) texts(t *job.Txn) error {
	for i := range t.Specs {
		if err := g.w.specs.add(int64(t.Specs[i].ID), string(t.Specs[i].JSON)); err != nil {
			return err
		}
	}
	for i := range t.Envs {
		data := t.Envs[i].Data
		if data == nil {
			data = []byte{}
		}
		if err := g.w.envs.add(int64(t.Envs[i].ID), data); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) arrays(t *job.Txn) error {
	for i := range t.Arrays {
		a := &t.Arrays[i]
		if g.careful {
			known, err := g.knowsArray(a.ID)
			if err != nil {
				return err
			}
			if known {
				continue
			}
		}
		g.fresh[a.ID] = &freshArray{n: a.N}
		err := g.w.arrays.add(sqlID(a.ID), int64(a.N), int64(a.Spec), int64(a.Env), null(a.Name), null(a.CC), bit(a.BCC),
			int64(a.Urgency), int64(a.Flags), int64(a.User), null(a.Token), a.Submit, int64(a.Params), null(a.Digest), null(a.Indexes), int64(a.Size))
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *group) knowsArray(id jobspec.ID) (bool, error) {
	if g.fresh[id] != nil {
		return true, nil
	}
	return g.w.c.one(func(*row) {}, `SELECT 1 FROM array WHERE id = ?`, sqlID(id))
}

func (g *group) output(t *job.Txn) error {
	for i := range t.Output {
		o := &t.Output[i]
		offset, data := o.Offset, o.Data
		if g.careful {
			if err := g.w.outputs.flush(); err != nil {
				return err
			}
			end, err := g.w.c.number(`SELECT max(offset + len) FROM output WHERE id = ? AND attempt = ? AND task = ? AND stream = ?`,
				sqlID(o.ID), int64(o.Attempt), int64(o.Task), int64(o.Stream))
			if err != nil {
				return err
			}
			offset, data = uncovered(offset, data, end)
		}
		if len(data) == 0 {
			continue
		}
		num, pos, err := g.w.seg.add(data)
		if err != nil {
			return err
		}
		err = g.w.outputs.add(sqlID(o.ID), int64(o.Attempt), int64(o.Task), int64(o.Stream), offset, num, pos, int64(len(data)))
		if err != nil {
			return err
		}
	}
	return nil
}

// uncovered is the part of data, which begins at offset, from end on.
func uncovered(offset int64, data []byte, end int64) (int64, []byte) {
	if skip := end - offset; skip > 0 {
		skip = min(skip, int64(len(data)))
		return offset + skip, data[skip:]
	}
	return offset, data
}

func (g *group) ended(t *job.Txn) error {
	for i := range t.Ended {
		e := &t.Ended[i]
		if g.careful {
			known, err := g.knowsElement(e.ID)
			if err != nil {
				return err
			}
			if known {
				continue
			}
		}
		err := g.w.elements.add(sqlID(e.ID), sqlID(e.Array), int64(e.Index), int64(e.Result), int64(e.Status), int64(e.Attempt),
			e.Start, e.End, null(e.Nodelist), null(e.Ranks), textOrNull(e.R), e.MaxRSS, e.CPU, e.Events)
		if err != nil {
			return err
		}
		g.count(e.Result, 1)
		if e.ID == e.Array {
			g.singles = append(g.singles, e.ID)
		} else {
			g.tally(e.Array).add(e.Result, 1, e.Status, e.Index, e.End)
		}
	}
	return nil
}

func (g *group) knowsElement(id jobspec.ID) (bool, error) {
	if g.seen[id] {
		return true, nil
	}
	g.seen[id] = true
	return g.w.c.one(func(*row) {}, `SELECT 1 FROM element WHERE id = ?`, sqlID(id))
}

func (g *group) ranges(t *job.Txn) error {
	for i := range t.Ranges {
		r := &t.Ranges[i]
		n, err := g.arraySize(r.Array)
		if err != nil {
			return err
		}
		id := elementID(r.Array, n, r.Lo)
		if g.careful {
			known, err := g.w.c.one(func(*row) {}, `SELECT 1 FROM range WHERE id = ?`, sqlID(id))
			if err != nil {
				return err
			}
			if known {
				continue
			}
		}
		if err := g.w.c.run(`INSERT INTO range (`+rangeColumns+`) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING`, sqlID(id), sqlID(r.Array),
			int64(r.Lo), int64(r.Hi), int64(r.Result), r.End, r.Events, int64(r.Status)); err != nil {
			return err
		}
		g.expect++
		g.count(r.Result, r.Hi-r.Lo+1)
		if n == 1 {
			g.singles = append(g.singles, r.Array)
		} else {
			g.tally(r.Array).add(r.Result, r.Hi-r.Lo+1, r.Status, r.Lo, r.End)
		}
	}
	return nil
}

// arraySize finds an array's n, in this group or in the database.
func (g *group) arraySize(id jobspec.ID) (int, error) {
	if a := g.fresh[id]; a != nil {
		return a.n, nil
	}
	if err := g.w.arrays.flush(); err != nil {
		return 0, err
	}
	n, err := g.w.c.number(`SELECT n FROM array WHERE id = ?`, sqlID(id))
	if err == nil && n == 0 {
		err = fmt.Errorf("range of elements of array %v, which is not in the store", id)
	}
	return int(n), err
}

// elementID is the id of an element of an array of n.
func elementID(array jobspec.ID, n, index int) jobspec.ID {
	if n == 1 {
		return array
	}
	return array + 1 + jobspec.ID(index)
}

func (g *group) count(result uint8, n int) { g.sums[resultSlot(result)] += n }

// resultSlot is the place of a result among counts in the order completed, failed, canceled, timeout.
func resultSlot(result uint8) int {
	switch result {
	case 1:
		return 0
	case 4:
		return 2
	case 8:
		return 3
	}
	return 1
}

func (g *group) tally(array jobspec.ID) *tally {
	t := g.tallies[array]
	if t == nil {
		t = &tally{maxStatus: -1, firstFailed: noneFailed}
		g.tallies[array] = t
	}
	return t
}

func (t *tally) add(result uint8, n, status, index int, end float64) {
	slot := resultSlot(result)
	t.counts[slot] += n
	t.maxStatus = max(t.maxStatus, status)
	t.end = max(t.end, end)
	if slot != 0 {
		t.firstFailed = min(t.firstFailed, index)
	}
}

// sortedKeys makes the order of writes independent of map order.
func sortedKeys[V any](m map[jobspec.ID]V) []jobspec.ID {
	keys := make([]jobspec.ID, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
