package kvs

import (
	"fmt"

	"github.com/frond-hpc/frond/overlay/wire"
)

// Machine is the key-value store. One owner uses it.
//
// A commit is applied to the latest state at once. Take gives what has come since the last Take to the store; Done says that it is durable, or
// that it failed, and then everything that is not durable is forgotten.
type Machine struct {
	limits                  Limits
	latest, flight, durable *state
	txn                     *Txn     // since Take
	changed                 []Change // of txn
	inFlight                []Change
	touched                 map[string]bool // namespaces that txn changes
	order                   []string        // of touched
	busy                    bool
}

// Change names a key whose entry, or something below it, may be another one than before.
type Change struct{ Space, Key string }

// New makes a machine of what a store holds; nil = nothing.
func New(l *Loaded, limits Limits) (*Machine, error) {
	st := (&state{}).withSpace(Primary, &space{root: emptyDir})
	if l != nil {
		var err error
		if st, err = load(st, l); err != nil {
			return nil, err
		}
	}
	return &Machine{limits: limits, latest: st, durable: st, txn: &Txn{}, touched: map[string]bool{}}, nil
}

func load(st *state, l *Loaded) (*state, error) {
	for _, s := range l.Spaces {
		st = st.withSpace(s.Name, &space{owner: s.Owner, seq: s.Seq, root: emptyDir})
	}
	for i := 0; i < len(l.Rows); {
		name := l.Rows[i].Space
		s, ok := st.spaces.get(name)
		if !ok {
			return nil, fmt.Errorf("load key-value store: key %q is in namespace %q, which is not there", l.Rows[i].Key, name)
		}
		e := &editor{name: name, root: s.root}
		for ; i < len(l.Rows) && l.Rows[i].Space == name; i++ {
			if err := e.load(&l.Rows[i]); err != nil {
				return nil, err
			}
			e.rows, e.changed = e.rows[:0], e.changed[:0]
		}
		st = st.withSpace(name, &space{owner: s.owner, seq: s.seq, root: e.root})
	}
	for _, t := range l.Tokens {
		st = st.withToken(t)
	}
	return st, nil
}

// load takes a row as it was written.
func (e *editor) load(r *Row) error {
	path, err := Parse(r.Key)
	if err != nil || len(path) == 0 {
		return fmt.Errorf("load key-value store: %q is no key: %w", r.Key, err)
	}
	switch {
	case r.Kind == Dir:
		if e.at(path) == nil {
			e.set(path, emptyDir)
		}
	case r.Kind == Link:
		e.set(path, newLink(string(r.Data)))
	case r.Kind != Value:
		return fmt.Errorf("load key-value store: %s is of unknown kind %d", r.Key, r.Kind)
	case r.Part == 0:
		e.set(path, newValue(r.Data))
	default:
		old := e.at(path)
		if old == nil || old.kind != Value {
			return fmt.Errorf("load key-value store: %s begins with part %d", r.Key, r.Part)
		}
		v := old.grown(r.Data)
		v.parts = r.Part + 1
		e.root = swap(e.root, path, v)
	}
	return nil
}

// Commit applies ops to a namespace, all or none, and returns the namespace's sequence number after it. It is durable when a Take after it
// is Done. No ops: nothing changes.
func (m *Machine) Commit(sp string, ops []Op) (seq uint64, err error) {
	s, ok := m.latest.spaces.get(sp)
	switch {
	case !ok:
		return 0, noSpace(sp)
	case len(ops) == 0:
		return s.seq, nil
	}
	e := &editor{limits: m.limits, st: m.latest, name: sp, root: s.root}
	for i := range ops {
		if err := e.apply(&ops[i]); err != nil {
			return 0, err
		}
	}
	next := m.latest.withSpace(sp, &space{owner: s.owner, seq: s.seq + 1, root: e.root})
	if next.bytes > m.limits.Total && next.bytes > m.latest.bytes {
		return 0, tooMuch(m.limits.Total)
	}
	m.latest = next
	m.txn.Rows = append(m.txn.Rows, e.rows...)
	for _, key := range e.changed {
		m.changed = append(m.changed, Change{sp, key})
	}
	m.touch(sp)
	return s.seq + 1, nil
}

// CommitOnce is Commit under a token: a second one with the same token does nothing and returns what the first did. The last Limits.Tokens are
// known.
func (m *Machine) CommitOnce(token, sp string, ops []Op) (seq uint64, err error) {
	if token == "" || len(token) > MaxToken {
		return 0, wire.Errorf(wire.Invalid, "a token has 1 to %d bytes, not %d", MaxToken, len(token))
	}
	if done, ok := m.latest.tokens.get(token); ok {
		return done.seq, nil
	}
	if seq, err = m.Commit(sp, ops); err != nil || len(ops) == 0 {
		return seq, err
	}
	row := TokenRow{N: m.latest.lastN + 1, Token: token, Seq: seq}
	m.latest = m.latest.withToken(row)
	m.txn.Tokens = append(m.txn.Tokens, row)
	if m.latest.tokens.size() > max(m.limits.Tokens, 1) {
		old, n := m.latest.oldest()
		m.latest = m.latest.without(old, n)
		m.txn.Forget = n
	}
	return seq, nil
}

func (m *Machine) touch(sp string) {
	if !m.touched[sp] {
		m.touched[sp] = true
		m.order = append(m.order, sp)
	}
}

// CreateSpace makes an empty namespace.
func (m *Machine) CreateSpace(name string, owner uint32) error {
	if err := checkSpaceName(name); err != nil {
		return err
	}
	if _, ok := m.latest.spaces.get(name); ok {
		return wire.Errorf(wire.Exists, "there is a namespace %q already", name)
	}
	if n := m.latest.spaces.size(); n >= m.limits.Spaces {
		return wire.Errorf(wire.TooLarge, "there are %d namespaces, which is the limit: remove one", n)
	}
	m.latest = m.latest.withSpace(name, &space{owner: owner, root: emptyDir})
	m.touch(name)
	return nil
}

// RemoveSpace removes a namespace with all that is in it.
func (m *Machine) RemoveSpace(name string) error {
	if _, ok := m.latest.spaces.get(name); !ok {
		return noSpace(name)
	}
	if name == Primary {
		return wire.Errorf(wire.Denied, "namespace %q cannot be removed", name)
	}
	m.latest = m.latest.withSpace(name, nil)
	m.txn.Rows = append(m.txn.Rows, Row{Space: name, Drop: true})
	m.changed = append(m.changed, Change{name, ""})
	m.touch(name)
	return nil
}

// Dirty tells whether there is something to Take.
func (m *Machine) Dirty() bool { return len(m.order) > 0 }

// Busy tells whether a Take has not been Done.
func (m *Machine) Busy() bool { return m.busy }

// Take returns what is to be written next.
func (m *Machine) Take() *Txn {
	t := m.txn
	for _, name := range m.order {
		row := SpaceRow{Name: name, Gone: true}
		if s, ok := m.latest.spaces.get(name); ok {
			row = SpaceRow{Name: name, Owner: s.owner, Seq: s.seq}
		}
		t.Spaces = append(t.Spaces, row)
	}
	m.flight, m.inFlight, m.busy = m.latest, m.changed, true
	m.reset()
	return t
}

func (m *Machine) reset() {
	m.txn, m.changed, m.order = &Txn{}, nil, nil
	clear(m.touched)
}

// Done ends a Take. When it is durable the changes are returned, in order; else all that is not durable is forgotten.
func (m *Machine) Done(ok bool) []Change {
	m.busy = false
	changed := m.inFlight
	m.inFlight = nil
	if !ok {
		m.latest, m.flight = m.durable, nil
		m.reset()
		return nil
	}
	m.durable, m.flight = m.flight, nil
	return changed
}
