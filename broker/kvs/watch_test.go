package kvs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

// watching is a machine with watches; commit returns what they are told, as text.
type watching struct {
	t  *testing.T
	m  *Machine
	ws *Watches
	id uint64
}

func newWatching(t *testing.T) *watching {
	m := machine(t)
	return &watching{t: t, m: m, ws: NewWatches(m)}
}

func (w *watching) add(key string, mode WatchMode) string {
	w.id++
	told, err := w.ws.Add(w.id, Primary, key, mode, nil)
	if err != nil {
		return err.Error()
	}
	return text(told)
}

func (w *watching) commit(ops ...Op) string {
	_, err := w.m.Commit(Primary, ops)
	require.NoError(w.t, err)
	w.m.Take()
	return text(w.ws.Changed(w.m.Done(true)))
}

func text(told []Told) string {
	var list []string
	for _, t := range told {
		switch {
		case t.Err != nil:
			list = append(list, fmt.Sprintf("%d over: %v", t.Watch.ID, t.Err))
		case t.Key != "" && t.Entry.Kind == 0:
			list = append(list, fmt.Sprintf("%d %s gone", t.Watch.ID, t.Key))
		default:
			list = append(list, strings.TrimSpace(fmt.Sprintf("%d %s %s@%d", t.Watch.ID, t.Key, t.Entry.Data, t.From)))
		}
	}
	return strings.Join(list, "; ")
}

func TestWatchesAreToldWhatTheyAskedFor(t *testing.T) {
	w := newWatching(t)
	require.Equal(t, "a: there is no such key", w.add("a", WatchMode{}))
	require.Equal(t, "", w.add("a", WatchMode{WaitCreate: true})) // 2
	require.Equal(t, "", w.commit(put("b", "0")))
	require.Equal(t, "2  1@0", w.commit(put("a", "1")))
	require.Equal(t, "3  1@0", w.add("a", WatchMode{Uniq: true}))
	require.Equal(t, "4  1@0", w.add("a", WatchMode{Append: true}))
	require.Equal(t, "2  1@0", w.commit(put("a", "1")), "the same value: not for those who want other ones")
	require.Equal(t, "2  12@0; 3  12@0; 4  2@1", w.commit(Op{Kind: Append, Key: "a", Data: []byte("2")}))
	require.Equal(t, "2  1@0; 3  1@0; 4 over: a: the value was replaced, not appended to", w.commit(put("a", "1")))
	require.Equal(t, "2 over: a: the key was removed; 3 over: a: the key was removed", w.commit(Op{Kind: Unlink, Key: "a"}))
	require.Zero(t, w.ws.Len())
	require.Empty(t, w.ws.spaces)
}

func TestAKeyBelowAChangeIsTold(t *testing.T) {
	w := newWatching(t)
	w.commit(put("d.e.k", "1"), put("other.e.k", "2"))
	require.Equal(t, "1  1@0", w.add("d.e.k", WatchMode{}))
	require.Equal(t, "1  2@0", w.commit(Op{Kind: Copy, Key: "d", Target: "other"}))
	require.Equal(t, "", w.commit(put("d.e.j", "1")))
	require.Equal(t, "1 over: d.e.k: the key was removed", w.commit(Op{Kind: Unlink, Key: "d", Recursive: true}))
}

func TestADirectoryIsWatchedWithAllBelow(t *testing.T) {
	w := newWatching(t)
	w.commit(put("d.a", "1"))
	require.Equal(t, "d.a: not a directory", w.add("d.a", WatchMode{Tree: true}))
	require.Equal(t, "2  @0", w.add("d", WatchMode{Tree: true}))
	require.Equal(t, "3  @0", w.add(".", WatchMode{Tree: true}))
	require.Equal(t, "2 d.x.y 2@0; 2 d.a gone; 3 d.x.y 2@0; 3 d.a gone; 3 z 9@0",
		w.commit(put("d.x.y", "1"), put("d.x.y", "2"), Op{Kind: Unlink, Key: "d.a"}, put("z", "9")))
	require.Equal(t, "2 over: d: too much has changed at once: read the directory again; 3 d @0; 3 d.q 1@0",
		w.commit(Op{Kind: Unlink, Key: "d", Recursive: true}, put("d.q", "1")))
}

func TestAWatchFollowsLinks(t *testing.T) {
	w := newWatching(t)
	w.commit(put("real", "1"), Op{Kind: Symlink, Key: "l", Target: "real"})
	require.Equal(t, "1  1@0", w.add("l", WatchMode{}))
	require.Equal(t, "1  2@0", w.commit(put("real", "2")))
	require.Equal(t, "", w.commit(put("else", "2")))
	require.Equal(t, "1  3@0", w.commit(put("l", "3")), "the link became a value")
	require.Empty(t, w.ws.linked)
	require.Equal(t, "1  2@0", w.commit(Op{Kind: Symlink, Key: "l", Target: "real"}))
}

func TestTooMuchChangeEndsWatchesOfDirectories(t *testing.T) {
	w := newWatching(t)
	w.commit(put("d.a", "1"))
	for range 300 {
		w.add("d", WatchMode{Tree: true})
	}
	var ops []Op
	for i := range 1000 {
		ops = append(ops, put(fmt.Sprint("d.k", i), "v"))
	}
	_, err := w.m.Commit(Primary, ops)
	require.NoError(t, err)
	w.m.Take()
	told := w.ws.Changed(w.m.Done(true))
	require.LessOrEqual(t, len(told), maxTold+300)
	require.ErrorIs(t, told[len(told)-1].Err, &wire.Error{Code: wire.Resync})
	require.Equal(t, maxTold/1000, w.ws.Len(), "those who came first go on")
}

func TestARemovedNamespaceEndsItsWatches(t *testing.T) {
	w := newWatching(t)
	require.NoError(t, w.m.CreateSpace("s", 0))
	w.m.Take()
	w.m.Done(true)
	_, err := w.ws.Add(1, "s", "k", WatchMode{WaitCreate: true}, nil)
	require.NoError(t, err)
	require.NoError(t, w.m.RemoveSpace("s"))
	w.m.Take()
	require.Contains(t, text(w.ws.Changed(w.m.Done(true))), `1 over: there is no namespace "s"`)
}

func BenchmarkTenThousandWatchersOfTenThousandKeys(b *testing.B) {
	m := machine(b)
	ws := NewWatches(m)
	var ops []Op
	for i := range 10000 {
		ops = append(ops, put(fmt.Sprint("d.k", i), "v"))
	}
	do(b, m, ops...)
	for i := range ops {
		_, err := ws.Add(uint64(i+1), Primary, fmt.Sprint("d.k", i), WatchMode{}, nil)
		require.NoError(b, err)
	}
	for b.Loop() {
		_, _ = m.Commit(Primary, []Op{put("d.k5", "w")})
		m.Take()
		if n := len(ws.Changed(m.Done(true))); n != 1 {
			b.Fatal(n)
		}
	}
}
