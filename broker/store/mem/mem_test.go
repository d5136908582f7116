package mem_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/store/mem"
	"github.com/frond-hpc/frond/broker/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Checks(40)
	os.Exit(m.Run())
}

// loop is the smallest scheduler: what is due first comes first.
type loop struct {
	now   time.Duration
	queue []timed
}

type timed struct {
	at time.Duration
	f  func()
}

func (l *loop) after(d time.Duration, f func()) {
	at := l.now + d
	i := len(l.queue)
	for i > 0 && l.queue[i-1].at > at {
		i--
	}
	l.queue = append(l.queue[:i], append([]timed{{at, f}}, l.queue[i:]...)...)
}

// run runs everything that is queued, n steps at most.
func (l *loop) run(n int) {
	for ; len(l.queue) > 0 && n > 0; n-- {
		t := l.queue[0]
		l.queue = l.queue[1:]
		l.now = t.at
		t.f()
	}
}

type subject struct {
	*mem.Store
	loop *loop
}

func (s *subject) Open() (reactor.Driver, *job.Loaded, error) {
	d, l := s.Store.Open()
	return d, l, nil
}
func (s *subject) Close() error { return nil }
func (s *subject) Crash()       { s.loop.run(2); s.Store.Crash() }
func (s *subject) Settle()      { s.loop.run(1 << 30) }
func (s *subject) Discard()     {}

func TestConformance(t *testing.T) {
	t.Run("at once", func(t *testing.T) {
		fresh := func() storetest.Subject { return &subject{mem.New(mem.Options{}), &loop{}} }
		storetest.Run(t, fresh)
		storetest.RunKVS(t, fresh)
	})
	t.Run("slow", func(t *testing.T) {
		seed := uint64(0)
		fresh := func() storetest.Subject {
			l := &loop{}
			seed++
			return &subject{mem.New(mem.Options{After: l.after, MinDelay: time.Millisecond, MaxDelay: time.Second, Seed: seed}), l}
		}
		storetest.Run(t, fresh)
		storetest.RunKVS(t, fresh)
	})
}

func TestLeader(t *testing.T) {
	txn := func(id int) *job.Commit {
		return &job.Commit{Txn: &job.Txn{Specs: []job.SpecRow{{ID: uint64(id), JSON: []byte("{}")}}}}
	}
	t.Run("a replaced leader's commits fail for good", func(t *testing.T) {
		s := mem.New(mem.Options{})
		old, _ := s.Open()
		_, l := s.Open()
		require.Equal(t, uint64(2), l.Epoch)
		var got error
		old.Do(time.Time{}, txn(1), func(_ any, err error) { got = err })
		require.ErrorIs(t, got, mem.ErrTakenOver)
	})
	t.Run("a failing commit fails those behind it, and all may be sent again", func(t *testing.T) {
		lp := &loop{}
		broken := errors.New("disk full")
		fail := broken
		s := mem.New(mem.Options{After: lp.after, Fail: func() error { return fail }})
		d, _ := s.Open()
		var errs []error
		note := func(_ any, err error) { errs = append(errs, err) }
		d.Do(time.Time{}, txn(1), note)
		d.Do(time.Time{}, txn(2), note)
		lp.run(1)
		fail = nil
		lp.run(10)
		require.Len(t, errs, 2)
		require.ErrorIs(t, errs[0], broken)
		require.ErrorIs(t, errs[1], broken)
		d.Do(time.Time{}, txn(1), note)
		d.Do(time.Time{}, txn(2), note)
		lp.run(10)
		require.Equal(t, []error{nil, nil}, errs[2:])
		_, l := s.Open()
		require.Equal(t, uint64(2), l.SpecID)
	})
	t.Run("what survives a crash is a prefix that the seed decides", func(t *testing.T) {
		survivors := func(seed uint64) uint64 {
			lp := &loop{}
			s := mem.New(mem.Options{After: lp.after, MaxDelay: time.Second, Seed: seed})
			d, _ := s.Open()
			for i := range 10 {
				d.Do(time.Time{}, txn(i+1), func(any, error) { t.Error("answered after the crash") })
			}
			s.Crash()
			lp.run(100)
			_, l := s.Open()
			return l.SpecID
		}
		seen := map[uint64]bool{}
		for seed := range uint64(40) {
			n := survivors(seed)
			require.Equal(t, n, survivors(seed))
			seen[n] = true
		}
		require.Greater(t, len(seen), 4, "%v", seen)
	})
}
