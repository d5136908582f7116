package kvs

import "fmt"

// Check returns the first broken invariant.
func (m *Machine) Check() error {
	for name, st := range map[string]*state{"latest": m.latest, "durable": m.durable, "flight": m.flight} {
		if st == nil {
			continue
		}
		if err := st.check(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if !m.busy && !m.Dirty() && m.latest != m.durable {
		return fmt.Errorf("nothing is to be written, and yet not all is durable")
	}
	return nil
}

func (st *state) check() error {
	var total, count int64
	var err error
	st.spaces.all(func(name string, s *space) bool {
		total += cost(name, s.root)
		count += s.root.count
		err = s.root.check(name)
		return err == nil
	})
	if err == nil && (total != st.bytes || count != st.count) {
		err = fmt.Errorf("%d bytes in %d entries, counted as %d in %d", total, count, st.bytes, st.count)
	}
	return err
}

func (v *node) check(key string) error {
	if v.kind != Dir {
		if want := Overhead + int64(len(v.data())); v.bytes != want || v.count != 1 || v.parts < 1 || v.dir != nil {
			return fmt.Errorf("%s: %d bytes, count %d, %d parts", key, v.bytes, v.count, v.parts)
		}
		return nil
	}
	sum, count := int64(Overhead), int64(1)
	var err error
	last := ""
	v.dir.all(func(name string, c *node) bool {
		if name <= last {
			err = fmt.Errorf("%s: %q comes after %q", key, name, last)
			return false
		}
		last = name
		sum, count = sum+cost(name, c), count+c.count
		err = c.check(key + "." + name)
		return err == nil
	})
	if err == nil && (sum != v.bytes || count != v.count) {
		err = fmt.Errorf("%s: directory of %d bytes in %d entries counts as %d in %d", key, sum, count, v.bytes, v.count)
	}
	if err == nil {
		err = v.dir.check()
	}
	return err
}

// check looks at the treap's order of priorities and sizes.
func (t *tree[V]) check() error {
	if t == nil {
		return nil
	}
	if t.n != t.left.size()+t.right.size()+1 {
		return fmt.Errorf("size %d at %q", t.n, t.key)
	}
	for _, c := range []*tree[V]{t.left, t.right} {
		if c != nil && c.prio > t.prio {
			return fmt.Errorf("priority of %q above that of %q", c.key, t.key)
		}
		if err := c.check(); err != nil {
			return err
		}
	}
	return nil
}
