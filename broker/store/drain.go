package store

import (
	"fmt"

	"github.com/frond-hpc/frond/resource"
)

// formatDrain adds the drained nodes.
const formatDrain = `
CREATE TABLE drain (
	node   INTEGER PRIMARY KEY, -- index in the instance's R
	name   TEXT NOT NULL,       -- of the node then
	reason TEXT NOT NULL,
	since  REAL NOT NULL
);
`

// Drains are the nodes that were drained when the store was opened.
func (s *Store) Drains() []resource.Drain { return s.drains }

func loadDrains(c *conn) (list []resource.Drain, err error) {
	err = c.each(`SELECT node, name, reason, since FROM drain ORDER BY node`, nil, func(r *row) bool {
		list = append(list, resource.Drain{Node: int(r.int()), Name: r.text(), Reason: r.text(), Since: r.float()})
		return true
	})
	return list, err
}

// turnDrains carries out a commit of drains. Its failure is its own.
func (s *Store) turnDrains(t *task, c *resource.DrainCommit) {
	if err := s.w.commitDrains(c); err != nil {
		t.done(nil, s.explain(fmt.Errorf("drains: %w", err)))
		return
	}
	t.done(nil, nil)
}

func (w *writer) commitDrains(c *resource.DrainCommit) error {
	if w.takenOver {
		return ErrTakenOver
	}
	if err := w.c.run(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	err := w.checkEpoch()
	for i := 0; i < len(c.Clear) && err == nil; i++ {
		err = w.c.run(`DELETE FROM drain WHERE node = ?`, int64(c.Clear[i]))
	}
	for i := 0; i < len(c.Set) && err == nil; i++ {
		d := &c.Set[i]
		err = w.c.run(`INSERT OR REPLACE INTO drain VALUES (?,?,?,?)`, int64(d.Node), d.Name, d.Reason, d.Since)
	}
	if err == nil {
		err = w.c.run(`COMMIT`)
	}
	if err != nil {
		w.c.rollback()
	}
	return err
}
