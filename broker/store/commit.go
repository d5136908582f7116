package store

import (
	"fmt"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/kvs"
	"github.com/frond-hpc/frond/resource"
)

// groupRows and groupBytes bound what is merged into one SQLite transaction, and with it the time until the first of its commits
// is answered.
const (
	groupRows  = 20_000
	groupBytes = 16 << 20
)

// commitLoop is the writing goroutine.
func (s *Store) commitLoop() {
	for tasks := s.commits.all(); tasks != nil; tasks = s.commits.all() {
		for len(tasks) > 0 {
			n := s.turn(tasks)
			tasks = tasks[n:]
		}
	}
}

// turn carries out some of the tasks, at least the first, and returns how many.
func (s *Store) turn(tasks []*task) int {
	if q, ok := tasks[0].effect.(*job.Query); ok {
		runQuery(s.w.c, s.dir, q, tasks[0].done)
		return 1
	}
	if c, ok := tasks[0].effect.(*kvs.Commit); ok {
		s.turnKVS(tasks[0], c)
		return 1
	}
	if c, ok := tasks[0].effect.(*resource.DrainCommit); ok {
		s.turnDrains(tasks[0], c)
		return 1
	}
	if p, ok := tasks[0].effect.(*job.Purge); ok {
		s.turnPurge(tasks[0], p)
		return 1
	}
	if p, ok := tasks[0].effect.(*job.HistoryPart); ok {
		tasks[0].done(nil, s.keepHistory(p))
		return 1
	}
	if _, ok := tasks[0].effect.(*job.Commit); !ok {
		tasks[0].done(nil, fmt.Errorf("store has no effect %T", tasks[0].effect))
		return 1
	}
	n := groupLen(tasks)
	err := s.w.commit(txns(tasks[:n]))
	if err == nil {
		finish(tasks[:n], nil)
		return n
	}
	if n > 1 {
		// One of them may be at fault alone: those before it must not suffer from it.
		n, err = s.oneByOne(tasks[:n])
	} else {
		n = 0
	}
	if err != nil {
		s.fail(tasks[n:], err)
		return len(tasks)
	}
	return n
}

// oneByOne commits each task by itself until one fails, and returns how many were committed.
func (s *Store) oneByOne(tasks []*task) (int, error) {
	for i := range tasks {
		if err := s.w.commit(txns(tasks[i : i+1])); err != nil {
			return i, err
		}
		finish(tasks[i:i+1], nil)
	}
	return len(tasks), nil
}

// fail answers the commit that failed and all of jobs behind it; what else is among them is carried out.
func (s *Store) fail(tasks []*task, err error) {
	err = s.explain(err)
	for i, t := range tasks {
		if q, ok := t.effect.(*job.Query); ok {
			runQuery(s.w.c, s.dir, q, t.done)
			continue
		}
		if c, ok := t.effect.(*kvs.Commit); ok {
			s.turnKVS(t, c)
			continue
		}
		if c, ok := t.effect.(*resource.DrainCommit); ok {
			s.turnDrains(t, c)
			continue
		}
		if p, ok := t.effect.(*job.Purge); ok {
			s.turnPurge(t, p)
			continue
		}
		if p, ok := t.effect.(*job.HistoryPart); ok {
			t.done(nil, s.keepHistory(p))
			continue
		}
		if i > 0 {
			t.done(nil, fmt.Errorf("%w: %w", ErrBehind, err))
			continue
		}
		t.done(nil, err)
	}
}

// explain makes an error a sentence and reports a takeover, once.
func (s *Store) explain(err error) error {
	err = fmt.Errorf("commit to state directory %s: %w", s.dir, err)
	if s.w.takenOver && s.opts.TakenOver != nil {
		s.opts.TakenOver(err)
		s.opts.TakenOver = nil
	}
	return err
}

func finish(tasks []*task, err error) {
	for _, t := range tasks {
		t.done(nil, err)
	}
}

// groupLen is how many of the tasks, all commits, make one transaction.
func groupLen(tasks []*task) int {
	rows, size := 0, 0
	for i, t := range tasks {
		c, ok := t.effect.(*job.Commit)
		if !ok || rows > groupRows || size > groupBytes {
			return i
		}
		rows += len(c.Txn.Arrays) + len(c.Txn.Ended) + len(c.Txn.Output)
		for k := range c.Txn.Output {
			size += len(c.Txn.Output[k].Data)
		}
		for k := range c.Txn.Params {
			size += len(c.Txn.Params[k].Data)
		}
	}
	return len(tasks)
}

func txns(tasks []*task) []*job.Txn {
	list := make([]*job.Txn, len(tasks))
	for i, t := range tasks {
		list[i] = t.effect.(*job.Commit).Txn
	}
	return list
}
