package kvs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func machine(t require.TestingT) *Machine {
	m, err := New(nil, DefaultLimits)
	require.NoError(t, err)
	return m
}

// do commits ops and makes them durable.
func do(t require.TestingT, m *Machine, ops ...Op) {
	_, err := m.Commit(Primary, ops)
	require.NoError(t, err)
	m.Take()
	m.Done(true)
	require.NoError(t, m.Check())
}

func put(key, value string) Op { return Op{Kind: Put, Key: key, Data: []byte(value)} }

func get(t *testing.T, m *Machine, key string) string {
	e, _, err := m.Get(Primary, key, true)
	require.NoError(t, err)
	require.Equal(t, Value, e.Kind)
	return string(e.Data)
}

func TestKeysAreSplitAtDots(t *testing.T) {
	for key, want := range map[string][]string{"a": {"a"}, "a.b.c": {"a", "b", "c"}, ".a..b.": {"a", "b"}, ".": nil, "...": nil, "ключ.ü": {"ключ", "ü"}} {
		path, err := Parse(key)
		require.NoError(t, err, key)
		require.Equal(t, want, path, key)
	}
	for key, text := range map[string]string{
		"":                            "must not be empty",
		"a\nb":                        "control characters",
		"a\x1b[2Jb":                   "control characters",
		"a\u0085":                     "control characters",
		"a\xff":                       "not UTF-8",
		strings.Repeat("x", MaxKey+1): "over the limit of 4096",
		strings.Repeat("a.", 200):     "200 names",
	} {
		_, err := Parse(key)
		require.ErrorContains(t, err, text)
	}
}

func TestACommitIsDoneAsAWholeOrNotAtAll(t *testing.T) {
	m := machine(t)
	do(t, m, put("a.b", "1"))
	for name, bad := range map[string]Op{
		"a key that must be there and is not": {Kind: Unlink, Key: "x", Must: true},
		"a directory that is not empty":       {Kind: Unlink, Key: "a"},
		"a value that is too large":           {Kind: Put, Key: "v", Data: make([]byte, MaxValue+1)},
		"an empty key":                        {Kind: Put},
		"the root":                            {Kind: Unlink, Key: ".", Recursive: true},
		"an unknown kind":                     {Kind: 99, Key: "a"},
		"append to a directory":               {Kind: Append, Key: "a"},
		"a directory where a value is":        {Kind: Mkdir, Key: "a.b"},
		"a copy of nothing":                   {Kind: Copy, Key: "c", Target: "nothing"},
	} {
		_, err := m.Commit(Primary, []Op{put("a.b", "2"), put("new", "3"), bad})
		require.Error(t, err, name)
		require.False(t, m.Dirty(), name)
	}
	require.Equal(t, "1", get(t, m, "a.b"))
	_, _, err := m.Get(Primary, "new", true)
	require.ErrorContains(t, err, "new: there is no such key")
}

func TestNobodySeesWhatIsNotDurableAndAFailedCommitLeavesNothing(t *testing.T) {
	m := machine(t)
	do(t, m, put("a", "1"))
	_, err := m.Commit(Primary, []Op{put("a", "2")})
	require.NoError(t, err)
	m.Take()
	_, err = m.Commit(Primary, []Op{{Kind: Append, Key: "a", Data: []byte("3")}})
	require.NoError(t, err)
	require.Equal(t, "1", get(t, m, "a"))
	require.Empty(t, m.Done(false))
	require.False(t, m.Dirty(), "what built on it is forgotten too")
	require.Equal(t, "1", get(t, m, "a"))
	do(t, m, Op{Kind: Append, Key: "a", Data: []byte("4")})
	require.Equal(t, "14", get(t, m, "a"))
	r, err := m.Root(Primary)
	require.NoError(t, err)
	require.Equal(t, uint64(2), r.Seq)
}

func TestAppendedValuesShareMemoryAndNothingElse(t *testing.T) {
	m := machine(t)
	do(t, m, put("a", "x"))
	do(t, m, Op{Kind: Append, Key: "a", Data: []byte("y")}, Op{Kind: Copy, Key: "b", Target: "a"})
	do(t, m, Op{Kind: Append, Key: "a", Data: []byte("1")})
	do(t, m, Op{Kind: Append, Key: "b", Data: []byte("2")})
	do(t, m, Op{Kind: Append, Key: "a", Data: []byte("3")})
	require.Equal(t, "xy13", get(t, m, "a"))
	require.Equal(t, "xy2", get(t, m, "b"))
}

func TestLinksAreFollowed(t *testing.T) {
	m := machine(t)
	require.NoError(t, m.CreateSpace("other", 1))
	_, err := m.Commit("other", []Op{put("far", "away")})
	require.NoError(t, err)
	do(t, m, put("dir.v", "1"), Op{Kind: Symlink, Key: "l", Target: "dir"}, Op{Kind: Symlink, Key: "x", Target: "far", TargetSpace: "other"},
		Op{Kind: Symlink, Key: "loop.a", Target: "loop.b"}, Op{Kind: Symlink, Key: "loop.b", Target: "loop.a"})
	require.Equal(t, "1", get(t, m, "l.v"))
	require.Equal(t, "away", get(t, m, "x"))
	do(t, m, put("l.w", "2"))
	require.Equal(t, "2", get(t, m, "dir.w"), "a commit follows links on the way")
	e, _, err := m.Get(Primary, "x", false)
	require.NoError(t, err)
	require.Equal(t, "other::far", string(e.Data))
	_, _, err = m.Get(Primary, "loop.a", true)
	require.ErrorContains(t, err, "circle")
	_, err = m.Commit(Primary, []Op{put("x.y", "1")})
	require.ErrorContains(t, err, `leads to namespace "other"`)
	_, err = m.Commit(Primary, []Op{put("loop.a.y", "1")})
	require.ErrorContains(t, err, "circle")
}

func TestLimitsAreSaid(t *testing.T) {
	m, err := New(nil, Limits{Total: 4000, Spaces: 2})
	require.NoError(t, err)
	_, err = m.Commit(Primary, []Op{put("a", strings.Repeat("x", 1500))})
	require.NoError(t, err)
	_, err = m.Commit(Primary, []Op{{Kind: Copy, Key: "b.a", Target: "a"}})
	require.NoError(t, err)
	_, err = m.Commit(Primary, []Op{put("c", strings.Repeat("x", 1500))})
	require.ErrorIs(t, err, &wire.Error{Code: wire.TooLarge})
	require.ErrorContains(t, err, "4000 bytes, which is its limit")
	_, err = m.Commit(Primary, []Op{{Kind: Copy, Key: "c", Target: "b"}})
	require.ErrorIs(t, err, &wire.Error{Code: wire.TooLarge})
	_, err = m.Commit(Primary, []Op{{Kind: Unlink, Key: "a"}})
	require.NoError(t, err, "there is always room to make room")
	require.NoError(t, m.CreateSpace("two", 0))
	require.ErrorContains(t, m.CreateSpace("three", 0), "there are 2 namespaces, which is the limit")
	for _, name := range []string{"", "a\nb", "a::b", strings.Repeat("n", 300)} {
		require.Error(t, m.CreateSpace(name, 0))
	}
	require.ErrorIs(t, m.CreateSpace("two", 0), &wire.Error{Code: wire.Exists})
	require.ErrorIs(t, m.RemoveSpace(Primary), &wire.Error{Code: wire.Denied})
	require.NoError(t, m.RemoveSpace("two"))
}

func TestACommitUnderATokenIsMadeOnce(t *testing.T) {
	m, err := New(nil, Limits{Total: 1 << 20, Spaces: 2, Tokens: 2})
	require.NoError(t, err)
	once := func(token string) uint64 {
		seq, err := m.CommitOnce(token, Primary, []Op{{Kind: Append, Key: "a", Data: []byte(token)}})
		require.NoError(t, err)
		return seq
	}
	require.Equal(t, []uint64{1, 1, 2, 1, 2}, []uint64{once("x"), once("x"), once("y"), once("x"), once("y")})
	m.Take()
	m.Done(false)
	require.Equal(t, uint64(1), once("y"), "what was not written is not known")
	once("x")
	once("z")
	txn := m.Take()
	require.Equal(t, uint64(1), txn.Forget, "y is the oldest")
	m.Done(true)
	require.Equal(t, "yxz", get(t, m, "a"))
	once("x")
	require.False(t, m.Dirty())
	once("y")
	require.True(t, m.Dirty(), "too long ago to be known")
	_, err = m.CommitOnce("", Primary, nil)
	require.ErrorContains(t, err, "a token has 1 to 128 bytes")
	_, err = m.CommitOnce(strings.Repeat("t", 200), Primary, nil)
	require.ErrorContains(t, err, "not 200")
}

func TestCopiesOfCopiesEndAtALimit(t *testing.T) {
	m := machine(t)
	do(t, m, put("a.v", "1"))
	for range MaxDepth {
		if _, err := m.Commit(Primary, []Op{{Kind: Copy, Key: "a.a", Target: "a"}}); err != nil {
			require.ErrorIs(t, err, &wire.Error{Code: wire.TooLarge})
			return
		}
	}
	t.Fatal("copies without end")
}

// model is the store as a plain map from whole keys to what is there: "d", "v…" or "l…".
type model map[string]string

func (m model) clear(key string) {
	for k := range m {
		if k == key || strings.HasPrefix(k, key+".") {
			delete(m, k)
		}
	}
}

// set does what is there of kind, with the directories on the way.
func (m model) set(key, what string) {
	parts := strings.Split(key, ".")
	for i := 1; i < len(parts); i++ {
		if dir := strings.Join(parts[:i], "."); m[dir] != "d" {
			m.clear(dir)
			m[dir] = "d"
		}
	}
	m.clear(key)
	m[key] = what
}

func (m model) hasBelow(key string) bool {
	for k := range m {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

// apply does one op without links; false = it is refused.
func (m model) apply(o Op) bool {
	old, there := m[o.Key]
	switch o.Kind {
	case Put:
		m.set(o.Key, "v"+string(o.Data))
	case Append:
		if old == "d" {
			return false
		}
		if !there {
			old = "v"
			m.set(o.Key, old)
		}
		m[o.Key] = old + string(o.Data)
	case Unlink:
		if !there {
			return !o.Must
		}
		if m.hasBelow(o.Key) && !o.Recursive {
			return false
		}
		m.clear(o.Key)
	case Mkdir:
		if there && old != "d" {
			return false
		}
		if !there {
			m.set(o.Key, "d")
		}
	case Copy:
		what, ok := m[o.Target]
		if !ok {
			return false
		}
		below := map[string]string{}
		for k, v := range m {
			if strings.HasPrefix(k, o.Target+".") {
				below[o.Key+strings.TrimPrefix(k, o.Target)] = v
			}
		}
		m.set(o.Key, what)
		maps.Copy(m, below)
	}
	return true
}

func (m model) dump() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s %q\n", k, m[k])
	}
	return b.String()
}

func dump(m *Machine) string {
	all := model{}
	var walk func(dir, prefix string)
	walk = func(dir, prefix string) {
		_, _ = m.List(Primary, dir, "", func(e Entry) bool {
			all[prefix+e.Name] = "v" + string(e.Data)
			if e.Kind == Dir {
				all[prefix+e.Name] = "d"
				walk(prefix+e.Name, prefix+e.Name+".")
			}
			return true
		})
	}
	walk(".", "")
	return all.dump()
}

func TestCommitsDoWhatAPlainMapDoes(t *testing.T) {
	key := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3).Draw(t, "path"), ".")
	})
	op := rapid.Custom(func(t *rapid.T) Op {
		kind := rapid.SampledFrom([]OpKind{Put, Append, Unlink, Mkdir, Copy}).Draw(t, "kind")
		return Op{Kind: kind, Key: key.Draw(t, "key"), Data: []byte(rapid.StringN(0, 3, 3).Draw(t, "data")), Target: key.Draw(t, "target"),
			Recursive: rapid.Bool().Draw(t, "recursive"), Must: rapid.Bool().Draw(t, "must")}
	})
	rapid.Check(t, func(t *rapid.T) {
		m, want := machine(t), model{}
		for range rapid.IntRange(1, 20).Draw(t, "commits") {
			ops := rapid.SliceOfN(op, 1, 3).Draw(t, "ops")
			next, ok := maps.Clone(want), true
			for _, o := range ops {
				ok = ok && next.apply(o)
			}
			_, err := m.Commit(Primary, ops)
			require.Equal(t, ok, err == nil, "%v: %v", ops, err)
			if ok {
				want = next
			}
			if m.Dirty() && rapid.Bool().Draw(t, "write") {
				m.Take()
				m.Done(true)
			}
			require.NoError(t, m.Check())
		}
		if m.Dirty() {
			m.Take()
			m.Done(true)
		}
		require.Equal(t, want.dump(), dump(m))
	})
}
