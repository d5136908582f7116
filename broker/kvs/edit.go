package kvs

import "github.com/frond-hpc/frond/overlay/wire"

// OpKind tells what an Op does.
type OpKind uint8

// The kinds of ops. They stand on the wire.
const (
	Put     OpKind = 1 + iota // Key gets the value Data, whatever was there; missing directories are made, values in their place go
	Append                    // Data is added to the value of Key, which is made if there is none
	Unlink                    // Key goes
	Mkdir                     // Key is a directory: it stays if it is one
	Symlink                   // Key is a link to Target, in TargetSpace if that is not empty
	Copy                      // Key becomes what Target in TargetSpace (empty: the same) is, with all below
)

// Op is one change. Ops of a commit are done in order, each on what the ones before have made.
type Op struct {
	Kind        OpKind
	Key         string
	Data        []byte
	Target      string
	TargetSpace string
	Recursive   bool // Unlink: a directory that is not empty, too
	Must        bool // Unlink: a key that is not there is an error
}

// editor applies a commit to a state.
type editor struct {
	limits  Limits
	st      *state
	name    string
	root    *node
	rows    []Row
	changed []string // keys
}

func (e *editor) apply(op *Op) error {
	path, err := Parse(op.Key)
	if err != nil {
		return err
	}
	if len(path) == 0 && op.Kind != Mkdir && op.Kind != Append {
		return wire.Errorf(wire.Invalid, "the root cannot be replaced or removed")
	}
	if path, err = e.canonical(path); err != nil {
		return err
	}
	switch op.Kind {
	case Put:
		err = e.putValue(path, op.Data)
	case Append:
		err = e.appendValue(path, op)
	case Unlink:
		err = e.unlink(path, op)
	case Mkdir:
		err = e.mkdir(path, op)
	case Symlink:
		err = e.symlink(path, op)
	case Copy:
		err = e.copy(path, op)
	default:
		err = wire.Errorf(wire.Invalid, "unknown kind %d of change", op.Kind)
	}
	return err
}

// canonical follows the links on the way to the last name of a path, which need not exist.
func (e *editor) canonical(path []string) ([]string, error) {
	for links := 0; ; links++ {
		at, i := e.root, 0
		for ; i < len(path)-1 && at != nil && at.kind == Dir; i++ {
			at, _ = at.dir.get(path[i])
		}
		if at == nil || at.kind != Link {
			return path, nil
		}
		if links == MaxLinks {
			return nil, wire.Errorf(wire.Invalid, "%s: more than %d links have to be followed: they may form a circle", join(path), MaxLinks)
		}
		sp, next, err := follows(at, path[i:])
		if err != nil {
			return nil, err
		}
		if sp != "" && sp != e.name {
			return nil, wire.Errorf(wire.Invalid, "%s: a link on the way leads to namespace %q: commit there", join(path), sp)
		}
		path = next
	}
}

// at is what stands under a canonical path.
func (e *editor) at(path []string) *node {
	v := e.root
	for _, name := range path {
		if v == nil || v.kind != Dir {
			return nil
		}
		v, _ = v.dir.get(name)
	}
	return v
}

// set puts v at a path, and the rows that say so.
func (e *editor) set(path []string, v *node) {
	e.root = e.place(e.root, path, 0, v)
	e.changed = append(e.changed, join(path))
}

func (e *editor) place(d *node, path []string, i int, v *node) *node {
	name := path[i]
	old, _ := d.dir.get(name)
	if i == len(path)-1 {
		e.replace(join(path), old, v)
		return d.withEntry(name, v)
	}
	if old == nil || old.kind != Dir {
		e.replace(join(path[:i+1]), old, emptyDir)
		old = emptyDir
	}
	return d.withEntry(name, e.place(old, path, i+1, v))
}

// replace writes the rows by which v takes the place of old, which may be nil.
func (e *editor) replace(key string, old, v *node) {
	if old != nil && (old.kind == Dir || old.parts > 1) {
		e.rows = append(e.rows, Row{Space: e.name, Key: key, Drop: true})
	}
	e.rows = append(e.rows, Row{Space: e.name, Key: key, Kind: v.kind, Data: v.data()})
	v.dir.all(func(name string, c *node) bool {
		e.replace(key+"."+name, nil, c)
		return true
	})
}

func (e *editor) putValue(path []string, data []byte) error {
	if err := checkSize(join(path), len(data)); err != nil {
		return err
	}
	e.set(path, newValue(data))
	return nil
}

func checkSize(key string, n int) error {
	if n > MaxValue {
		return wire.Errorf(wire.TooLarge, "%s: a value of %d bytes is over the limit of %d: keep it in a file", key, n, MaxValue)
	}
	return nil
}

func (e *editor) appendValue(path []string, op *Op) error {
	old := e.at(path)
	switch {
	case old == nil:
		return e.putValue(path, op.Data)
	case old.kind == Link:
		return wire.Errorf(wire.Invalid, "%s is a link: append to what it leads to", op.Key)
	case old.kind == Dir:
		return wire.Errorf(wire.Invalid, "%s is a directory: it cannot be appended to", op.Key)
	}
	if err := checkSize(op.Key, old.n+len(op.Data)); err != nil {
		return err
	}
	v := old.grown(op.Data)
	e.root = swap(e.root, path, v)
	e.rows = append(e.rows, Row{Space: e.name, Key: join(path), Part: v.parts - 1, Kind: Value, Data: op.Data})
	e.changed = append(e.changed, join(path))
	return nil
}

// swap puts v in the place of an entry that is there; nil takes it out.
func swap(d *node, path []string, v *node) *node {
	if len(path) == 1 {
		return d.withEntry(path[0], v)
	}
	c, _ := d.dir.get(path[0])
	return d.withEntry(path[0], swap(c, path[1:], v))
}

func (e *editor) unlink(path []string, op *Op) error {
	old := e.at(path)
	switch {
	case old == nil && op.Must:
		return noKey(op.Key)
	case old == nil:
		return nil
	case old.dir.size() > 0 && !op.Recursive:
		return wire.Errorf(wire.Invalid, "%s: directory not empty (-R removes it with all below)", op.Key)
	}
	e.root = swap(e.root, path, nil)
	e.rows = append(e.rows, Row{Space: e.name, Key: join(path), Drop: true})
	e.changed = append(e.changed, join(path))
	return nil
}

func (e *editor) mkdir(path []string, op *Op) error {
	old := e.at(path)
	switch {
	case old == nil:
		e.set(path, emptyDir)
	case old.kind != Dir:
		return wire.Errorf(wire.Exists, "%s is there already, and is no directory", op.Key)
	}
	return nil
}

func (e *editor) symlink(path []string, op *Op) error {
	if _, err := Parse(op.Target); err != nil {
		return err
	}
	if op.TargetSpace != "" {
		if err := checkSpaceName(op.TargetSpace); err != nil {
			return err
		}
	}
	e.set(path, newLink(LinkText(op.TargetSpace, op.Target)))
	return nil
}

// copy shares what it copies; the store gets rows of its own for it.
func (e *editor) copy(path []string, op *Op) error {
	from, err := Parse(op.Target)
	if err != nil {
		return err
	}
	st, sp := e.state(), op.TargetSpace
	if sp == "" {
		sp = e.name
	}
	f, err := st.find(sp, from, false)
	if err != nil {
		return err
	}
	if f.v == nil {
		return noKey(op.Target)
	}
	if st.bytes+f.v.bytes > e.limits.Total { // before its rows are made: copies of copies grow fast
		return tooMuch(e.limits.Total)
	}
	if deep := len(path) + f.v.depth(); deep > MaxDepth {
		return wire.Errorf(wire.TooLarge, "%s: the copy would have keys of %d names, which is over the limit of %d", op.Key, deep, MaxDepth)
	}
	e.set(path, f.v.whole())
	return nil
}

// whole is v with each value in one part, as it is written anew.
func (v *node) whole() *node {
	switch {
	case v.kind == Dir:
		d := *v
		v.dir.all(func(name string, c *node) bool {
			if w := c.whole(); w != c {
				d.dir = d.dir.put(name, w)
			}
			return true
		})
		if d.dir == v.dir {
			return v
		}
		return &d
	case v.parts > 1:
		w := *v
		w.parts = 1
		return &w
	}
	return v
}

// depth is how many names the longest key below v has.
func (v *node) depth() (n int) {
	v.dir.all(func(_ string, c *node) bool {
		n = max(n, 1+c.depth())
		return true
	})
	return n
}

// state is what the editor has made so far.
func (e *editor) state() *state {
	s, _ := e.st.spaces.get(e.name)
	return e.st.withSpace(e.name, &space{owner: s.owner, seq: s.seq, root: e.root})
}

func tooMuch(total int64) *wire.Error {
	return wire.Errorf(wire.TooLarge, "the key-value store would hold more than %s, which is its limit: unlink what is not needed any more", Size(total))
}
