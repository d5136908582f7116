package store

import (
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// settle writes what follows from the inserted rows: sums, which arrays are active, attempts of unfinished elements, members.
func (g *group) settle(group []*job.Txn) error {
	for _, t := range group {
		if err := g.params(t); err != nil {
			return err
		}
		if err := g.history(t); err != nil {
			return err
		}
		if err := g.queues(t); err != nil {
			return err
		}
		if err := g.grants(t); err != nil {
			return err
		}
	}
	over, err := g.totals()
	if err != nil {
		return err
	}
	for _, t := range group {
		if err := g.starts(t); err != nil {
			return err
		}
	}
	for _, t := range group {
		if err := g.unstart(t); err != nil {
			return err
		}
	}
	g.over = append(over, g.singles...)
	if err := g.activity(group, g.over); err != nil {
		return err
	}
	for _, t := range group {
		if err := g.members(t); err != nil {
			return err
		}
	}
	return g.meta()
}

// totals adds the tallies to table total and returns the arrays that are complete now.
func (g *group) totals() (over []jobspec.ID, err error) {
	for _, id := range sortedKeys(g.fresh) {
		if a := g.fresh[id]; a.n > 1 {
			if err := g.w.c.run(`INSERT INTO total VALUES (?, ?, 0, 0, 0, 0, -1, NULL, 0)`, sqlID(id), int64(a.n)); err != nil {
				return nil, err
			}
		}
	}
	for _, id := range sortedKeys(g.tallies) {
		t := g.tallies[id]
		done, err := g.addTotal(id, t)
		if err != nil {
			return nil, err
		}
		if done {
			over = append(over, id)
		}
	}
	return over, nil
}

func (g *group) addTotal(id jobspec.ID, t *tally) (done bool, err error) {
	var first any // NULL: none failed in this group
	if t.firstFailed != noneFailed {
		first = int64(t.firstFailed)
	}
	err = g.w.c.run(`UPDATE total SET completed = completed + ?1, failed = failed + ?2, canceled = canceled + ?3, timedout = timedout + ?4,
			maxstatus = max(maxstatus, ?5), firstfailed = min(coalesce(firstfailed, ?6), coalesce(?6, firstfailed)),
			t_end = max(t_end, ?7)
		WHERE array = ?8`,
		int64(t.counts[0]), int64(t.counts[1]), int64(t.counts[2]), int64(t.counts[3]), int64(t.maxStatus), first, t.end, sqlID(id))
	if err != nil {
		return false, err
	}
	// Not by RETURNING, for which SQLite makes a temporary table with a page cache of its own each time.
	_, err = g.w.c.one(func(r *row) { done = r.int() != 0 },
		`SELECT completed + failed + canceled + timedout >= n FROM total WHERE array = ?`, sqlID(id))
	return done, err
}

// starts keeps the latest attempt of each element: of equal numbers the one written later, a start after a retry.
func (g *group) starts(t *job.Txn) error {
	for _, rows := range [][]job.StartRow{t.Retried, t.Starts} {
		for i := range rows {
			r := &rows[i]
			g.w.started[r.Array] = true
			err := g.w.c.run(`INSERT INTO start (array, idx, attempt, node, failed) VALUES (?,?,?,?,?) ON CONFLICT (array, idx) DO UPDATE
				SET attempt = excluded.attempt, node = excluded.node, failed = excluded.failed WHERE excluded.attempt >= attempt`,
				sqlID(r.Array), int64(r.Index), int64(r.Attempt), null(r.Node), int64(r.Failed))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// unstart forgets the attempts of elements that have ended.
func (g *group) unstart(t *job.Txn) error {
	if len(g.w.started) == 0 {
		return nil
	}
	for i := range t.Ended {
		if e := &t.Ended[i]; g.w.started[e.Array] {
			if err := g.w.c.run(`DELETE FROM start WHERE array = ? AND idx = ?`, sqlID(e.Array), int64(e.Index)); err != nil {
				return err
			}
		}
	}
	for i := range t.Ranges {
		if r := &t.Ranges[i]; g.w.started[r.Array] {
			err := g.w.c.run(`DELETE FROM start WHERE array = ? AND idx BETWEEN ? AND ?`, sqlID(r.Array), int64(r.Lo), int64(r.Hi))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// activity brings table active up to date. A job that came and ended within one group never enters it.
func (g *group) activity(group []*job.Txn, over []jobspec.ID) error {
	for _, t := range group {
		for _, h := range t.Hi {
			if a := g.fresh[h.Array]; a != nil {
				a.hi = max(a.hi, h.Hi)
			} else if err := g.w.c.run(`UPDATE active SET hi = max(hi, ?) WHERE id = ?`, int64(h.Hi), sqlID(h.Array)); err != nil {
				return err
			}
		}
	}
	for _, id := range over {
		if a := g.fresh[id]; a != nil {
			a.ended = true
		} else if err := g.w.inactives.add(sqlID(id)); err != nil {
			return err
		}
	}
	for _, id := range sortedKeys(g.fresh) {
		if a := g.fresh[id]; !a.ended {
			if err := g.w.actives.add(sqlID(id), int64(a.hi)); err != nil {
				return err
			}
		}
	}
	if err := g.w.actives.flush(); err != nil {
		return err
	}
	return g.w.inactives.flush()
}

func (g *group) history(t *job.Txn) error {
	for i := range t.Logs {
		if err := g.w.c.run(`INSERT OR REPLACE INTO history VALUES (?,?)`, sqlID(t.Logs[i].Array), t.Logs[i].Log); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) queues(t *job.Txn) error {
	for i := range t.Queues {
		q := &t.Queues[i]
		if err := g.w.c.run(`INSERT OR REPLACE INTO queue VALUES (?,?,?,?,?)`, q.Name, bit(q.Disabled), bit(q.Stopped), null(q.Why), null(q.WhyStop)); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) grants(t *job.Txn) error {
	for i := range t.Grants {
		r := &t.Grants[i]
		if err := g.w.c.run(`INSERT OR REPLACE INTO granted VALUES (?,?,?)`, int64(r.Num), int64(r.Branch), r.Items); err != nil {
			return err
		}
	}
	for _, num := range t.Over {
		if err := g.w.c.run(`DELETE FROM granted WHERE num = ?`, int64(num)); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) members(t *job.Txn) error {
	for i := range t.Members {
		m := &t.Members[i]
		err := g.w.c.run(`INSERT OR REPLACE INTO member VALUES (?,?,?,?,?,?)`, int64(m.Rank), null(m.UUID), null(m.Host),
			null(m.BootID), int64(m.PID), null(m.State))
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *group) meta() error {
	return g.w.c.run(`UPDATE meta SET last_id = max(last_id, ?), completed = completed + ?, failed = failed + ?,
		canceled = canceled + ?, timedout = timedout + ?`, sqlID(g.lastID),
		int64(g.sums[0]), int64(g.sums[1]), int64(g.sums[2]), int64(g.sums[3]))
}
