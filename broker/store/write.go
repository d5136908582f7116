package store

import (
	"errors"
	"fmt"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// writer turns groups of Txns into SQLite transactions. The writing goroutine owns it.
type writer struct {
	dir       string
	c         *conn
	epoch     uint64
	seg       *segments
	takenOver bool
	started   map[jobspec.ID]bool // arrays that may have rows in table start: most have none, and need no delete

	loose map[int64]bool // segments in which output of purged jobs lies

	specs, envs, arrays, elements, outputs, actives, inactives *bulk
	entries                                                    *bulk // of the key-value store
}

// errRepeated says that a group has rows that the database has already.
var errRepeated = errors.New("rows are there already")

// prepare readies a writer whose connection and epoch are set.
func (w *writer) prepare(loaded *job.Loaded) {
	w.started = map[jobspec.ID]bool{}
	for i := range loaded.Arrays {
		if len(loaded.Arrays[i].Starts) > 0 {
			w.started[loaded.Arrays[i].ID] = true
		}
	}
	w.specs = newBulk(w.c, `INSERT OR IGNORE INTO spec VALUES `, 2, ``)
	w.envs = newBulk(w.c, `INSERT OR IGNORE INTO env VALUES `, 2, ``)
	w.arrays = newBulk(w.c, `INSERT INTO array (`+arrayColumns+`) VALUES `, 16, ` ON CONFLICT (id) DO NOTHING`)
	w.elements = newBulk(w.c, `INSERT INTO element VALUES `, 14, ` ON CONFLICT (id) DO NOTHING`)
	w.outputs = newBulk(w.c, `INSERT INTO output VALUES `, 8, ` ON CONFLICT (id, attempt, task, stream, offset) DO NOTHING`)
	w.entries = newBulk(w.c, `INSERT OR REPLACE INTO kvs VALUES `, 5, ``)
	w.actives = newBulk(w.c, `INSERT INTO active VALUES `, 2, ``)
	w.inactives = newBulk(w.c, `DELETE FROM active WHERE id IN (VALUES `, 1, `)`)
}

func (w *writer) close() error {
	w.seg.abandon()
	return w.c.close()
}

// commit writes a group in one transaction. After an error nothing of it is in the database.
func (w *writer) commit(group []*job.Txn) error {
	if w.takenOver {
		return ErrTakenOver
	}
	err := w.try(group, false)
	if errors.Is(err, errRepeated) {
		err = w.try(group, true)
	}
	return err
}

// try is commit. With careful it looks before it writes whether a row is there already; without, it finds out afterwards and returns
// errRepeated.
func (w *writer) try(group []*job.Txn, careful bool) error {
	if err := w.c.run(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	mark := w.seg.mark()
	g := newGroup(w, careful)
	err := w.checkEpoch()
	if err == nil {
		err = w.apply(g, group)
	}
	if err == nil {
		err = w.seg.flush()
	}
	if err != nil {
		w.c.rollback()
		w.seg.back(mark)
		return err
	}
	// From here on output stays where it is: a commit that is reported as failed may yet be found in the WAL after a crash.
	if err := w.c.run(`COMMIT`); err != nil {
		w.c.rollback()
		return err
	}
	for _, id := range g.over {
		delete(w.started, id)
	}
	return nil
}

func (w *writer) checkEpoch() error {
	epoch, err := w.c.number(`SELECT epoch FROM meta`)
	if err == nil && uint64(epoch) != w.epoch {
		w.takenOver = true
		err = fmt.Errorf("%w: its epoch is %d, this leader's %d", ErrTakenOver, epoch, w.epoch)
	}
	return err
}

// apply writes the rows of a group within a transaction.
func (w *writer) apply(g *group, list []*job.Txn) error {
	for _, b := range []*bulk{w.specs, w.envs, w.arrays, w.elements, w.outputs, w.actives, w.inactives} {
		b.reset()
	}
	for _, t := range list {
		if err := g.texts(t); err != nil {
			return err
		}
	}
	// Before the rows are counted that follow: texts that are there already are no sign of a repetition.
	for _, b := range []*bulk{w.specs, w.envs} {
		if err := b.flush(); err != nil {
			return err
		}
	}
	before, err := w.c.number(`SELECT total_changes()`)
	if err != nil {
		return err
	}
	for _, t := range list {
		if err := g.insert(t); err != nil {
			return err
		}
	}
	for _, b := range []*bulk{w.arrays, w.elements, w.outputs} {
		if err := b.flush(); err != nil {
			return err
		}
		g.expect += b.sent
	}
	after, err := w.c.number(`SELECT total_changes()`)
	if err != nil {
		return err
	}
	if after-before != int64(g.expect) {
		if g.careful {
			return fmt.Errorf("%d of %d rows were written", after-before, g.expect)
		}
		return errRepeated
	}
	return g.settle(list)
}
