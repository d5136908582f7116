package kvs

// tree is an ordered map that never changes: put and del return another one, which shares what is alike. It is a treap whose priorities are
// hashes of the keys, so its shape depends on nothing but its content. nil is the empty one.
type tree[V any] struct {
	key         string
	prio        uint32
	n           int
	val         V
	left, right *tree[V]
}

func (t *tree[V]) size() int {
	if t == nil {
		return 0
	}
	return t.n
}

func (t *tree[V]) get(key string) (v V, ok bool) {
	for t != nil {
		switch {
		case key == t.key:
			return t.val, true
		case key < t.key:
			t = t.left
		default:
			t = t.right
		}
	}
	return v, false
}

// with is t with other children.
func (t *tree[V]) with(left, right *tree[V]) *tree[V] {
	return &tree[V]{key: t.key, prio: t.prio, val: t.val, left: left, right: right, n: left.size() + right.size() + 1}
}

func (t *tree[V]) put(key string, val V) *tree[V] { return t.insert(key, hash(key), val) }

func (t *tree[V]) insert(key string, prio uint32, val V) *tree[V] {
	switch {
	case t == nil:
		return &tree[V]{key: key, prio: prio, val: val, n: 1}
	case key == t.key:
		c := *t
		c.val = val
		return &c
	case prio > t.prio: // it is not in t: what is has no higher priority than t
		left, right := t.split(key)
		return &tree[V]{key: key, prio: prio, val: val, left: left, right: right, n: t.n + 1}
	case key < t.key:
		return t.with(t.left.insert(key, prio, val), t.right)
	}
	return t.with(t.left, t.right.insert(key, prio, val))
}

// split divides t, which does not have key, into what is before and what is after it.
func (t *tree[V]) split(key string) (left, right *tree[V]) {
	switch {
	case t == nil:
		return nil, nil
	case key < t.key:
		a, b := t.left.split(key)
		return a, t.with(b, t.right)
	}
	a, b := t.right.split(key)
	return t.with(t.left, a), b
}

func (t *tree[V]) del(key string) *tree[V] {
	switch {
	case t == nil:
		return nil
	case key == t.key:
		return t.left.merge(t.right)
	case key < t.key:
		return t.with(t.left.del(key), t.right)
	}
	return t.with(t.left, t.right.del(key))
}

// merge joins t with r, all of whose keys come after t's.
func (t *tree[V]) merge(r *tree[V]) *tree[V] {
	switch {
	case t == nil:
		return r
	case r == nil:
		return t
	case t.prio >= r.prio:
		return t.with(t.left, t.right.merge(r))
	}
	return r.with(t.merge(r.left), r.right)
}

// after calls f for the entries behind key, in order, until it returns false.
func (t *tree[V]) after(key string, f func(string, V) bool) bool {
	if t == nil {
		return true
	}
	if key < t.key {
		if !t.left.after(key, f) || !f(t.key, t.val) {
			return false
		}
	}
	return t.right.after(key, f)
}

// all calls f for every entry, in order. No key is empty.
func (t *tree[V]) all(f func(string, V) bool) bool { return t.after("", f) }

// hash is FNV-1a with a last mixing (murmur3's), as its high bits alone are poor for short keys.
func hash(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}
