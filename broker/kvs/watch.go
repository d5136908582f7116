package kvs

import (
	"bytes"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/overlay/wire"
)

// WatchMode says what a watch wants to know.
type WatchMode struct {
	WaitCreate bool // a key that is not there yet is waited for
	Uniq       bool // only other values than the one before
	Append     bool // only what was added; that it is replaced ends the watch
	Tree       bool // the keys that change below a directory
}

// Watch is someone who watches a key.
type Watch struct {
	ID   uint64
	Mode WatchMode
	Data any // the caller's

	space string
	key   string
	path  []string
	last  *node // as last told; nil = not there
	told  bool
	links bool // the key leads over a link: it may change with any commit
}

// Told is one thing that a watch is told.
type Told struct {
	Watch *Watch
	Seq   uint64
	Key   string // of a change below a directory
	Entry Entry  // the zero Kind: it is not there any more
	From  int    // Append: where in the value Data begins
	Whole int    // size of the value
	Err   error  // the watch has ended
}

// Watches are all that is watched, as a tree of names: a change finds those who wait for it without asking the others.
type Watches struct {
	m      *Machine
	spaces map[string]*watched
	linked map[uint64]*Watch // those whose key leads over a link
	byID   map[uint64]*Watch
}

// watched is one name in the tree.
type watched struct {
	names map[string]*watched
	list  map[uint64]*Watch
}

// NewWatches makes an empty one.
func NewWatches(m *Machine) *Watches {
	return &Watches{m: m, spaces: map[string]*watched{}, linked: map[uint64]*Watch{}, byID: map[uint64]*Watch{}}
}

// Len counts watches.
func (ws *Watches) Len() int { return len(ws.byID) }

// Add begins a watch and returns what it is told at once. IDs are the caller's and never used again.
func (ws *Watches) Add(id uint64, sp, key string, mode WatchMode, data any) ([]Told, error) {
	path, err := Parse(key)
	if err != nil {
		return nil, err
	}
	w := &Watch{ID: id, Mode: mode, Data: data, space: sp, key: key, path: path}
	f, seq, err := ws.look(w)
	switch {
	case err != nil:
		return nil, err
	case f.v == nil && !mode.WaitCreate:
		return nil, noKey(key)
	}
	if err := w.fits(f.v); err != nil {
		return nil, err
	}
	told := w.begin(f.v, seq)
	ws.byID[id] = w
	ws.file(w, f.viaLink)
	return told, nil
}

// look finds a watch's key in the durable state.
func (ws *Watches) look(w *Watch) (found, uint64, error) {
	f, err := ws.m.durable.find(w.space, w.path, true)
	s, ok := ws.m.durable.spaces.get(w.space)
	if err != nil || !ok {
		return f, 0, err
	}
	return f, s.seq, nil
}

// fits tells whether an entry can be watched.
func (w *Watch) fits(v *node) error {
	switch {
	case v == nil:
		return nil
	case w.Mode.Tree && v.kind != Dir:
		return wire.Errorf(wire.Invalid, "%s: not a directory", w.key)
	case !w.Mode.Tree && v.kind == Dir:
		return wire.Errorf(wire.Invalid, "%s is a directory", w.key)
	}
	return nil
}

// begin is the first thing that a watch is told.
func (w *Watch) begin(v *node, seq uint64) []Told {
	if w.last = v; v == nil {
		return nil
	}
	w.told = true
	return []Told{{Watch: w, Seq: seq, Entry: v.entry(""), Whole: v.n}}
}

// file puts a watch where changes find it.
func (ws *Watches) file(w *Watch, links bool) {
	if w.links = links; links {
		ws.linked[w.ID] = w
		return
	}
	at := ws.spaces[w.space]
	if at == nil {
		at = &watched{}
		ws.spaces[w.space] = at
	}
	for _, name := range w.path {
		next := at.names[name]
		if next == nil {
			next = &watched{}
			if at.names == nil {
				at.names = map[string]*watched{}
			}
			at.names[name] = next
		}
		at = next
	}
	if at.list == nil {
		at.list = map[uint64]*Watch{}
	}
	at.list[w.ID] = w
}

// Remove ends a watch.
func (ws *Watches) Remove(id uint64) {
	w := ws.byID[id]
	if w == nil {
		return
	}
	delete(ws.byID, id)
	ws.unfile(w)
}

func (ws *Watches) unfile(w *Watch) {
	if w.links {
		delete(ws.linked, w.ID)
		return
	}
	if root := ws.spaces[w.space]; root != nil && root.remove(w, w.path) {
		delete(ws.spaces, w.space)
	}
}

// remove takes w out and tells whether nothing is left.
func (n *watched) remove(w *Watch, path []string) bool {
	if len(path) == 0 {
		delete(n.list, w.ID)
	} else if next := n.names[path[0]]; next != nil && next.remove(w, path[1:]) {
		delete(n.names, path[0])
	}
	return len(n.list)+len(n.names) == 0
}

// maxTold bounds what one call of Changed tells to those who watch directories; whoever would get more has to read again.
const maxTold = 1 << 18

// Changed returns what is to be told after these changes have become durable, in order of watches. Watches whose Told has Err are over.
func (ws *Watches) Changed(changes []Change) []Told {
	if len(ws.byID) == 0 {
		return nil
	}
	hit := map[uint64]*Watch{}
	below := map[uint64][]string{}
	for _, c := range changes {
		ws.hits(c, hit, below)
	}
	for id, w := range ws.linked {
		hit[id] = w
	}
	var told []Told
	room := maxTold
	for _, id := range sorted(hit) {
		w := hit[id]
		told = append(told, ws.check(w, below[id], &room)...)
		if n := len(told); n > 0 && told[n-1].Watch == w && told[n-1].Err != nil {
			ws.Remove(id)
		}
	}
	return told
}

// hits finds the watches that a change concerns: those of the key and of all below it, and those of directories above.
func (ws *Watches) hits(c Change, hit map[uint64]*Watch, below map[uint64][]string) {
	at := ws.spaces[c.Space]
	if at == nil {
		return
	}
	if c.Key != "" {
		for name := range strings.SplitSeq(c.Key, ".") {
			for id, w := range at.list {
				if w.Mode.Tree {
					hit[id] = w
					below[id] = append(below[id], c.Key)
				}
			}
			if at = at.names[name]; at == nil {
				return
			}
		}
	}
	at.all(func(id uint64, w *Watch) {
		hit[id] = w
		if w.Mode.Tree {
			below[id] = append(below[id], c.Key) // not below: the directory itself may be another one
		}
	})
}

func (n *watched) all(f func(uint64, *Watch)) {
	for id, w := range n.list {
		f(id, w)
	}
	for _, next := range n.names {
		next.all(f)
	}
}

func sorted(hit map[uint64]*Watch) []uint64 {
	ids := make([]uint64, 0, len(hit))
	for id := range hit {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// check finds out what a watch is to be told.
func (ws *Watches) check(w *Watch, below []string, room *int) []Told {
	f, seq, err := ws.look(w)
	if err == nil {
		err = w.fits(f.v)
	}
	if err != nil {
		return []Told{{Watch: w, Err: err}}
	}
	if f.viaLink != w.links {
		ws.unfile(w)
		ws.file(w, f.viaLink)
	}
	old := w.last
	w.last = f.v
	switch {
	case f.v == old:
		return nil
	case f.v == nil:
		return []Told{{Watch: w, Seq: seq, Err: wire.Errorf(wire.NotFound, "%s: the key was removed", w.key)}}
	case !w.told:
		return w.begin(f.v, seq)
	case w.Mode.Tree:
		return ws.tree(w, f.v, seq, below, room)
	case w.Mode.Append:
		return w.added(old, f.v, seq)
	case w.Mode.Uniq && bytes.Equal(old.data(), f.v.data()):
		return nil
	}
	return []Told{{Watch: w, Seq: seq, Entry: f.v.entry(""), Whole: f.v.n}}
}

// added is what was appended to a value.
func (w *Watch) added(old, v *node, seq uint64) []Told {
	if v.n < old.n || old.blob != v.blob && !bytes.HasPrefix(v.data(), old.data()) {
		return []Told{{Watch: w, Err: wire.Errorf(wire.Invalid, "%s: the value was replaced, not appended to", w.key)}}
	}
	e := v.entry("")
	e.Data = e.Data[old.n:]
	if len(e.Data) == 0 {
		return nil
	}
	return []Told{{Watch: w, Seq: seq, Entry: e, From: old.n, Whole: v.n}}
}

// tree tells of the keys that changed below a directory, each once, in order of their first change.
func (ws *Watches) tree(w *Watch, d *node, seq uint64, keys []string, room *int) []Told {
	again := []Told{{Watch: w, Err: wire.Errorf(wire.Resync, "%s: too much has changed at once: read the directory again", w.key)}}
	if *room -= len(keys); *room < 0 || w.links || len(keys) == 0 {
		return again
	}
	prefix := ""
	if len(w.path) > 0 {
		prefix = join(w.path) + "."
	}
	var told []Told
	seen := map[string]bool{}
	for _, key := range keys {
		if seen[key] {
			continue
		}
		seen[key] = true
		rest, isBelow := strings.CutPrefix(key, prefix)
		if !isBelow {
			return again
		}
		t := Told{Watch: w, Seq: seq, Key: key}
		v := d
		for name := range strings.SplitSeq(rest, ".") {
			if v != nil {
				v, _ = v.dir.get(name)
			}
		}
		if v != nil {
			t.Entry, t.Whole = v.entry(""), v.n
		}
		told = append(told, t)
	}
	return told
}
