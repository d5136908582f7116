package kvs

import "github.com/frond-hpc/frond/overlay/wire"

// Entry is what stands under a key.
type Entry struct {
	Name    string // its last name, in listings
	Kind    Kind
	Data    []byte // of a value; of a link its target. Not to be changed
	Entries int    // of a directory
}

func (v *node) entry(name string) Entry {
	e := Entry{Name: name, Kind: v.kind, Entries: v.dir.size()}
	if v.kind != Dir {
		e.Data = v.data()
	}
	return e
}

// found is where a lookup ends: v is nil if there is nothing.
type found struct {
	v       *node
	viaLink bool // a link was followed on the way
}

// find looks a path up. A link on the way is followed; one at its end only with follow.
func (st *state) find(sp string, path []string, follow bool) (found, error) {
	var f found
	for links := 0; ; links++ {
		s, ok := st.spaces.get(sp)
		if !ok {
			return f, noSpace(sp)
		}
		at, rest := s.root, path
		for len(rest) > 0 && at != nil && at.kind == Dir {
			at, _ = at.dir.get(rest[0])
			rest = rest[1:]
		}
		f.v = at
		if at == nil || at.kind != Link || len(rest) == 0 && !follow {
			if len(rest) > 0 {
				f.v = nil
			}
			return f, nil
		}
		if links == MaxLinks {
			return f, wire.Errorf(wire.Invalid, "%s: more than %d links have to be followed: they may form a circle", join(path), MaxLinks)
		}
		f.viaLink = true
		other, next, err := follows(at, rest)
		if err != nil {
			return f, err
		}
		if path = next; other != "" {
			sp = other
		}
	}
}

// follows is where a link leads with the names behind it.
func follows(link *node, rest []string) (sp string, path []string, err error) {
	sp, key := splitLink(link.to)
	target, err := Parse(key)
	if err != nil {
		return "", nil, err
	}
	if len(target)+len(rest) > MaxDepth {
		return "", nil, wire.Errorf(wire.TooLarge, "a link to %.40q leads to a key of more than %d names", link.to, MaxDepth)
	}
	return sp, append(append(make([]string, 0, len(target)+len(rest)), target...), rest...), nil
}

func noSpace(name string) *wire.Error {
	return wire.Errorf(wire.NotFound, "there is no namespace %q ('frond kvs namespace list' shows them)", name)
}

func noKey(key string) *wire.Error {
	return wire.Errorf(wire.NotFound, "%s: there is no such key", key)
}

// Get looks a key up in the durable state; seq is its namespace's.
func (m *Machine) Get(sp, key string, follow bool) (e Entry, seq uint64, err error) {
	v, seq, err := m.node(sp, key, follow)
	if err != nil {
		return e, seq, err
	}
	return v.entry(""), seq, nil
}

func (m *Machine) node(sp, key string, follow bool) (*node, uint64, error) {
	path, err := Parse(key)
	if err != nil {
		return nil, 0, err
	}
	f, err := m.durable.find(sp, path, follow)
	if err != nil {
		return nil, 0, err
	}
	s, _ := m.durable.spaces.get(sp)
	if f.v == nil {
		return nil, s.seq, noKey(key)
	}
	return f.v, s.seq, nil
}

// List calls f for the entries of a directory behind the name after, in order, until it returns false.
func (m *Machine) List(sp, key, after string, f func(Entry) bool) (seq uint64, err error) {
	v, seq, err := m.node(sp, key, true)
	if err != nil {
		return seq, err
	}
	if v.kind != Dir {
		return seq, wire.Errorf(wire.Invalid, "%s: not a directory", key)
	}
	v.dir.after(after, func(name string, v *node) bool { return f(v.entry(name)) })
	return seq, nil
}

// Root is a namespace as a whole.
type Root struct {
	Name    string
	Owner   uint32
	Seq     uint64
	Entries int64
	Bytes   int64
}

// Root tells of a namespace.
func (m *Machine) Root(sp string) (Root, error) {
	s, ok := m.durable.spaces.get(sp)
	if !ok {
		return Root{}, noSpace(sp)
	}
	return s.summary(sp), nil
}

func (s *space) summary(name string) Root {
	return Root{Name: name, Owner: s.owner, Seq: s.seq, Entries: s.root.count - 1, Bytes: s.root.bytes}
}

// Spaces lists the namespaces by name.
func (m *Machine) Spaces() []Root {
	var list []Root
	m.durable.spaces.all(func(name string, s *space) bool {
		list = append(list, s.summary(name))
		return true
	})
	return list
}
