// Package mem is the store of package job in memory, for simulation and tests. It keeps what was durable across crashes of
// leaders, and takes its time when told to: a commit is durable some seeded delay after it was given, and what a crash
// finds in between is kept or lost as the seed has it. It has no goroutines; a scheduler of the caller drives it.
package mem

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/kvs"
)

// ErrTakenOver answers commits of a leader when another one has been opened since. It is final.
var ErrTakenOver = errors.New("another leader has taken over the store")

// Options of New. The zero value is a store that carries out each effect within Do.
type Options struct {
	// After calls f when d of virtual time has passed, on the loop that also calls Do; nil = at once, and no delays.
	After func(d time.Duration, f func())
	// MinDelay and MaxDelay bound the time that a commit or a query takes.
	MinDelay, MaxDelay time.Duration
	// Seed decides delays, and which commits in flight survive a crash.
	Seed uint64
	// Fail, if set, is asked before each commit is carried out; an error fails it and all that are queued behind it.
	Fail func() error
}

// Store is the durable part. It is used by one goroutine.
type Store struct {
	opts   Options
	rng    *rand.Rand
	state  *state
	leader *Leader
}

// Leader is one leader's access to a Store, a reactor.Driver.
type Leader struct {
	store *Store
	epoch uint64
	dead  bool
	queue []flight // commits on their way, in order
}

type flight struct {
	txn   *job.Txn
	kvs   *kvs.Txn   // instead
	purge *job.Purge // instead
	done  func(result any, err error)
}

// New makes an empty store.
func New(o Options) *Store {
	return &Store{opts: o, rng: rand.New(rand.NewPCG(o.Seed, 0x66726f6e64)), state: newState()}
}

// Open makes the next leader, with a raised epoch. From then on commits of the one before fail with ErrTakenOver.
func (s *Store) Open() (*Leader, *job.Loaded) {
	s.state.epoch++
	s.leader = &Leader{store: s, epoch: s.state.epoch}
	return s.leader, s.state.load()
}

// Read lets f look at what is durable at this moment, whoever leads.
func (s *Store) Read(f func(job.Reader) error) error { return f(reader{s.state}) }

// Crash ends the present leader: of its commits on their way the first few are durable and the rest lost, none is answered.
func (s *Store) Crash() {
	l := s.leader
	if l == nil || l.dead {
		return
	}
	l.dead = true
	for _, f := range l.queue[:s.rng.IntN(len(l.queue)+1)] {
		if l.epoch != s.state.epoch {
			break
		}
		if _, err := s.state.take(f); err != nil {
			break
		}
	}
	l.queue = nil
}

// Do carries out a *job.Commit, *job.Query, *job.Purge or *kvs.Commit (reactor.Driver).
func (l *Leader) Do(_ time.Time, effect any, done func(result any, err error)) {
	switch e := effect.(type) {
	case *job.Commit:
		l.queue = append(l.queue, flight{txn: e.Txn, done: done})
		l.after(l.commit)
	case *kvs.Commit:
		l.queue = append(l.queue, flight{kvs: e.Txn, done: done})
		l.after(l.commit)
	case *job.Purge:
		l.queue = append(l.queue, flight{purge: e, done: done})
		l.after(l.commit)
	case *job.Query:
		l.after(func() { done(e.Run(reader{l.store.state})) })
	default:
		l.after(func() { done(nil, fmt.Errorf("store has no effect %T", effect)) })
	}
}

// after calls f when the seed says, unless the leader has crashed by then.
func (l *Leader) after(f func()) {
	o := &l.store.opts
	if o.After == nil {
		f()
		return
	}
	d := o.MinDelay
	if o.MaxDelay > o.MinDelay {
		d += time.Duration(l.store.rng.Int64N(int64(o.MaxDelay - o.MinDelay + 1)))
	}
	o.After(d, func() {
		if !l.dead {
			f()
		}
	})
}

// commit carries out the first commit in the queue: whichever's time has come, they end in order.
func (l *Leader) commit() {
	if len(l.queue) == 0 {
		return // it failed with one before it
	}
	f := l.queue[0]
	result, err := l.write(f)
	if err == nil {
		l.queue = l.queue[1:]
		f.done(result, nil)
		return
	}
	failed := l.queue
	l.queue = nil
	for i, f := range failed {
		if i > 0 {
			err = fmt.Errorf("an earlier commit failed: %w", err)
		}
		f.done(nil, err)
	}
}

func (l *Leader) write(f flight) (any, error) {
	if l.epoch != l.store.state.epoch {
		return nil, ErrTakenOver
	}
	if fail := l.store.opts.Fail; fail != nil {
		if err := fail(); err != nil {
			return nil, err
		}
	}
	return l.store.state.take(f)
}
