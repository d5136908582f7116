package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/frond-hpc/frond/broker/kvs"
	"github.com/frond-hpc/frond/broker/reactor"
)

// RunKVS is the part of the suite for the key-value store: whatever happens to leaders, the next one has every commit that was answered, in
// order, and of the others a beginning. The driver that fresh's Subject opens has a method KVS() *kvs.Loaded.
func RunKVS(t *testing.T, fresh func() Subject) {
	t.Run("no answered commit is lost over crashes and restarts, and none is there in part", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) { kvsLives(t, fresh()) })
	})
}

// kvsLife is a store with the machine of its present leader. states[i] is all that is there after i commits of the store.
type kvsLife struct {
	t      *rapid.T
	s      Subject
	d      reactor.Driver
	m      *kvs.Machine
	states []string
	done   [][]string // tokens of the commits that led to each state
	tokens int
	acked  int
	life   atomic.Int64 // counts crashes
}

func kvsLives(t *rapid.T, s Subject) {
	defer s.Discard()
	l := &kvsLife{t: t, s: s, states: []string{DumpKVS(newMachine(t, nil))}, done: [][]string{nil}}
	l.open()
	t.Repeat(map[string]func(*rapid.T){
		"commit":  func(*rapid.T) { l.write(); l.settle() },
		"leave":   func(*rapid.T) { l.settle(); l.write() },
		"restart": func(*rapid.T) { l.settle(); require.NoError(t, s.Close()); l.open() },
		"crash":   func(*rapid.T) { l.life.Add(1); l.s.Crash(); l.open() }, // no answer counts from here on
	})
	l.settle()
	require.NoError(t, s.Close())
	l.open()
	require.Equal(t, l.states[l.acked], DumpKVS(l.m))
}

func newMachine(t TB, l *kvs.Loaded) *kvs.Machine {
	m, err := kvs.New(l, kvs.DefaultLimits)
	require.NoError(t, err)
	return m
}

func (l *kvsLife) open() {
	d, _, err := l.s.Open()
	require.NoError(l.t, err)
	l.d = d
	l.m = newMachine(l.t, d.(interface{ KVS() *kvs.Loaded }).KVS())
	require.NoError(l.t, l.m.Check())
	dump := DumpKVS(l.m)
	for n := l.acked; n < len(l.states); n++ {
		if l.states[n] == dump {
			l.states, l.done, l.acked = l.states[:n+1], l.done[:n+1], n
			l.again()
			return
		}
	}
	l.t.Fatalf("what the store holds is none of the states since the last answer:\n%s\nlast answered:\n%s", dump, l.states[l.acked])
}

// again makes the commits that are in the store once more: nothing happens.
func (l *kvsLife) again() {
	for _, token := range slices.Concat(l.done[:l.acked+1]...) {
		_, err := l.m.CommitOnce(token, "no such namespace", []kvs.Op{{Kind: kvs.Unlink, Key: "a", Recursive: true}})
		require.NoError(l.t, err)
	}
	require.False(l.t, l.m.Dirty())
}

// write gives the store one commit of some random changes.
func (l *kvsLife) write() {
	if l.m.Busy() {
		l.settle()
	}
	var done []string
	for range rapid.IntRange(1, 4).Draw(l.t, "commits") {
		sp := rapid.SampledFrom([]string{kvs.Primary, kvs.Primary, "two", "three"}).Draw(l.t, "namespace")
		switch rapid.IntRange(0, 9).Draw(l.t, "what") {
		case 0:
			_ = l.m.CreateSpace(sp, 7)
		case 1:
			_ = l.m.RemoveSpace(sp)
		default:
			l.tokens++
			if _, err := l.m.CommitOnce(fmt.Sprint("t", l.tokens), sp, GenOps(l.t)); err == nil {
				done = append(done, fmt.Sprint("t", l.tokens))
			}
		}
	}
	if !l.m.Dirty() {
		return
	}
	txn := l.m.Take()
	shadow := *l.m
	shadow.Done(true)
	l.states, l.done = append(l.states, DumpKVS(&shadow)), append(l.done, done)
	life := l.life.Load()
	l.d.Do(time.Time{}, &kvs.Commit{Txn: txn}, func(_ any, err error) {
		if err == nil && life == l.life.Load() {
			l.acked = len(l.states) - 1
		}
	})
}

func (l *kvsLife) settle() {
	l.s.Settle()
	if l.m.Busy() {
		require.Equal(l.t, len(l.states)-1, l.acked, "a commit was not answered")
		l.m.Done(true)
	}
}

// GenOps draws the ops of a commit, over few keys so that they meet.
func GenOps(t *rapid.T) []kvs.Op {
	key := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c-d", "é"}), 1, 3).Draw(t, "path"), ".")
	})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) kvs.Op {
		return kvs.Op{Kind: kvs.OpKind(rapid.IntRange(1, 6).Draw(t, "kind")), Key: key.Draw(t, "key"), Data: rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "data"),
			Target: key.Draw(t, "target"), Recursive: rapid.Bool().Draw(t, "recursive"), Must: rapid.Bool().Draw(t, "must")}
	}), 1, 4).Draw(t, "ops")
}

// DumpKVS writes all that is durable.
func DumpKVS(m *kvs.Machine) string {
	var b strings.Builder
	for _, sp := range m.Spaces() {
		fmt.Fprintf(&b, "%s owner %d seq %d, %d entries\n", sp.Name, sp.Owner, sp.Seq, sp.Entries)
		dumpDir(&b, m, sp.Name, ".", "")
	}
	return b.String()
}

func dumpDir(b *strings.Builder, m *kvs.Machine, sp, dir, prefix string) {
	_, _ = m.List(sp, dir, "", func(e kvs.Entry) bool {
		key := prefix + e.Name
		fmt.Fprintf(b, "  %s %d %q\n", key, e.Kind, e.Data)
		if e.Kind == kvs.Dir {
			dumpDir(b, m, sp, key, key+".")
		}
		return true
	})
}
