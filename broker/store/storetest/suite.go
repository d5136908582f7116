// Package storetest is the conformance suite of the store's port (package job): every implementation passes it. It compares
// stores with a plain model, through random transactions, repeated ones, queries, orderly ends and crashes of leaders.
package storetest

import (
	"flag"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/jobspec"
)

// Checks sets how many random lives the suite tries, unless -rapid.checks was given; for a TestMain.
func Checks(n int) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		flag.Set("rapid.checks", strconv.Itoa(n))
	}
}

// Subject is one store through the lives of several leaders.
type Subject interface {
	// Open makes the next leader. The one before has ended by Close or Crash.
	Open() (reactor.Driver, *job.Loaded, error)
	// Close ends the leader in order.
	Close() error
	// Crash ends it at once; commits on their way are kept or lost, the later ones first.
	Crash()
	// Settle waits until all effects given so far have been answered.
	Settle()
	// Discard removes everything.
	Discard()
}

// TB is what the suite needs of *testing.T and *rapid.T.
type TB interface {
	require.TestingT
	Helper()
}

// Run runs the suite; fresh makes an empty store.
func Run(t *testing.T, fresh func() Subject) {
	t.Run("random transactions, crashes and restarts give what the model gives", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) { lives(t, fresh()) })
	})
	t.Run("an empty store loads as nothing, with epochs that count up", func(t *testing.T) {
		s := fresh()
		defer s.Discard()
		for epoch := uint64(1); epoch < 4; epoch++ {
			_, loaded, err := s.Open()
			require.NoError(t, err)
			require.Equal(t, epoch, loaded.Epoch)
			CheckLoaded(t, ModelOf(nil), loaded)
			require.NoError(t, s.Close())
		}
	})
	t.Run("a commit that breaks a rule fails, and those behind it, with nothing written", func(t *testing.T) { refusal(t, fresh()) })
	t.Run("a query sees the commits that were answered before", func(t *testing.T) { order(t, fresh()) })
	t.Run("a large array is purged in pieces, of which nothing is seen", func(t *testing.T) { purges(t, fresh()) })
	t.Run("a listing ends when its reader has enough, and may ask on meanwhile", func(t *testing.T) { nested(t, fresh()) })
}

// life is a subject with what was given to it.
type life struct {
	t     *rapid.T
	s     Subject
	d     reactor.Driver
	gen   *Gen
	acked int
}

func lives(t *rapid.T, s Subject) {
	defer s.Discard()
	l := &life{t: t, s: s, gen: NewGen(t)}
	l.open()
	t.Repeat(map[string]func(*rapid.T){
		"commit":  func(*rapid.T) { l.commit(); l.s.Settle() },
		"burst":   func(*rapid.T) { l.burst() },
		"query":   func(*rapid.T) { l.s.Settle(); CheckReader(l.t, l.gen.model, l.d, l.s.Settle) },
		"restart": func(*rapid.T) { l.restart() },
		"crash":   func(*rapid.T) { l.crash() },
		"purge":   func(*rapid.T) { l.givePurge() },
	})
	l.s.Settle()
	CheckReader(t, l.gen.model, l.d, l.s.Settle)
}

func (l *life) open() {
	d, loaded, err := l.s.Open()
	require.NoError(l.t, err)
	// A crash may have lost what was not answered: LastID tells how many there are.
	n := 0
	for n < len(l.gen.txns) && l.gen.txns[n].LastID <= loaded.LastID {
		n++
	}
	require.GreaterOrEqual(l.t, n, l.acked, "answered commits are missing")
	l.gen.Back(n, loaded.Purged)
	l.d, l.acked = d, n
	CheckLoaded(l.t, l.gen.model, loaded)
}

func (l *life) commit() {
	d := l.d
	l.d.Do(time.Time{}, &job.Commit{Txn: l.gen.Next()}, func(_ any, err error) {
		if err == nil && d == l.d {
			l.acked++
		}
	})
}

func (l *life) burst() {
	for range rapid.IntRange(2, 12).Draw(l.t, "burst") {
		l.commit()
	}
	l.s.Settle()
}

func (l *life) restart() {
	l.s.Settle()
	require.NoError(l.t, l.s.Close())
	require.Equal(l.t, len(l.gen.txns), l.acked)
	l.open()
}

func (l *life) crash() {
	l.s.Settle()
	done := l.acked
	l.d = crashing{l.d}
	for range rapid.IntRange(0, 5).Draw(l.t, "in flight") {
		l.commit()
	}
	if rapid.Bool().Draw(l.t, "purge in flight") {
		p, _ := l.gen.Purge()
		l.d.Do(time.Time{}, p, func(any, error) {})
	}
	l.s.Crash()
	l.acked = done
	l.open()
}

// crashing is a driver whose answers are not counted any more.
type crashing struct{ reactor.Driver }

func (c crashing) Do(now time.Time, effect any, done func(any, error)) {
	c.Driver.Do(now, effect, func(any, error) {})
}

// commitAll gives transactions and returns the errors of their answers.
func commitAll(s Subject, d reactor.Driver, txns ...*job.Txn) []error {
	errs := make([]error, len(txns))
	for i, t := range txns {
		d.Do(time.Time{}, &job.Commit{Txn: t}, func(_ any, err error) { errs[i] = err })
	}
	s.Settle()
	return errs
}

func refusal(t *testing.T, s Subject) {
	defer s.Discard()
	d, _, err := s.Open()
	require.NoError(t, err)
	array := func(id jobspec.ID, token string) *job.Txn {
		return &job.Txn{Arrays: []job.ArrayRow{{ID: id, N: 1, Token: token}}, LastID: id}
	}
	require.NoError(t, commitAll(s, d, array(1, "a"))[0])
	bad := array(5, "a") // a token that another array has
	bad.Members = []job.MemberRow{{Rank: 1, Host: "h"}}
	require.Error(t, commitAll(s, d, bad)[0])
	require.Error(t, commitAll(s, d, &job.Txn{Ranges: []job.RangeRow{{Array: 77, Lo: 0, Hi: 3, Result: 4}}})[0])
	want := ModelOf([]*job.Txn{array(1, "a")})
	CheckReader(t, want, d, s.Settle)
	require.NoError(t, commitAll(s, d, array(6, "b"))[0])
	require.NoError(t, s.Close())
	_, loaded, err := s.Open()
	require.NoError(t, err)
	want.Add(array(6, "b"))
	CheckLoaded(t, want, loaded)
	require.NoError(t, s.Close())
}

func order(t *testing.T, s Subject) {
	defer s.Discard()
	d, _, err := s.Open()
	require.NoError(t, err)
	var misses int
	for i := range jobspec.ID(50) {
		id := i + 1
		txn := &job.Txn{Arrays: []job.ArrayRow{{ID: id, N: 1}}, LastID: id}
		d.Do(time.Time{}, &job.Commit{Txn: txn}, func(_ any, err error) {
			d.Do(time.Time{}, &job.Query{Run: func(r job.Reader) (any, error) {
				_, ok, err := r.Array(id)
				return ok, err
			}}, func(ok any, err error) {
				if err != nil || ok != true {
					misses++
				}
			})
		})
		s.Settle()
	}
	require.Zero(t, misses)
	require.NoError(t, s.Close())
}

func nested(t *testing.T, s Subject) {
	defer s.Discard()
	d, _, err := s.Open()
	require.NoError(t, err)
	txn := &job.Txn{Arrays: []job.ArrayRow{{ID: 10, N: 50, Name: "many"}, {ID: 100, N: 1, Name: "one"}}, LastID: 100}
	for i := range 20 {
		txn.Ended = append(txn.Ended, job.ElementRow{ID: 11 + jobspec.ID(i), Array: 10, Index: i, Result: 1, End: float64(i)})
	}
	txn.Ranges = []job.RangeRow{{Array: 10, Lo: 30, Hi: 49, Result: 4, End: 10}}
	require.NoError(t, commitAll(s, d, txn)[0])
	var names []string
	d.Do(time.Time{}, &job.Query{Run: func(r job.Reader) (any, error) {
		return nil, r.Ended(0, 0, 0, 0, func(e job.ElementRow) bool {
			a, _, _ := r.Array(e.Array)
			inner := 0
			r.Ended(e.Array, 4, 0, 0, func(job.ElementRow) bool { inner++; return inner < 3 })
			names = append(names, fmt.Sprint(a.Name, e.Index, "/", inner))
			return len(names) < 12
		})
	}}, func(any, error) {})
	s.Settle()
	require.Equal(t, []string{"many19/3", "many18/3", "many17/3", "many16/3", "many15/3", "many14/3", "many13/3", "many12/3", "many11/3",
		"many49/3", "many48/3", "many47/3"}, names)
	require.NoError(t, s.Close())
}
