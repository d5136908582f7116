package kvs

import "encoding/binary"

// node is an entry. It never changes.
type node struct {
	kind  Kind
	blob  *blob // of a value: its first n bytes
	n     int
	parts int // rows in the store
	to    string
	dir   *tree[*node]
	bytes int64 // of it and all below, without its own name
	count int64 // entries: it and all below
}

// blob lets values that grow by appending share memory: the longest of them owns the end. Whoever appends to another one copies.
type blob struct{ buf []byte }

var emptyDir = &node{kind: Dir, bytes: Overhead, count: 1, parts: 1}

func newValue(data []byte) *node {
	return &node{kind: Value, blob: &blob{data}, n: len(data), parts: 1, bytes: Overhead + int64(len(data)), count: 1}
}

func newLink(text string) *node {
	return &node{kind: Link, to: text, parts: 1, bytes: Overhead + int64(len(text)), count: 1}
}

func (v *node) data() []byte {
	if v.kind == Link {
		return []byte(v.to)
	}
	if v.blob == nil {
		return nil
	}
	return v.blob.buf[:v.n:v.n]
}

// grown is value v with more at its end.
func (v *node) grown(more []byte) *node {
	b := v.blob
	if len(b.buf) != v.n {
		b = &blob{v.data()} // its capacity ends there: append copies
	}
	b.buf = append(b.buf, more...)
	return &node{kind: Value, blob: b, n: len(b.buf), parts: v.parts + 1, bytes: Overhead + int64(len(b.buf)), count: 1}
}

// cost is what an entry counts in its directory.
func cost(name string, v *node) int64 { return int64(len(name)) + v.bytes }

// withEntry is directory v with an entry put in, or in place of the one of that name; nil takes it out.
func (v *node) withEntry(name string, e *node) *node {
	d := *v
	if old, ok := v.dir.get(name); ok {
		d.bytes -= cost(name, old)
		d.count -= old.count
	}
	if e == nil {
		d.dir = v.dir.del(name)
		return &d
	}
	d.dir = v.dir.put(name, e)
	d.bytes += cost(name, e)
	d.count += e.count
	return &d
}

// state is everything. It never changes.
type state struct {
	spaces *tree[*space]
	bytes  int64
	count  int64
	tokens *tree[tokenSeq]
	ages   *tree[string] // tokens by number
	lastN  uint64        // of the tokens
}

// tokenSeq is what a commit with a token was answered.
type tokenSeq struct{ n, seq uint64 }

// age is a token's number as a key.
func age(n uint64) string { return string(binary.BigEndian.AppendUint64([]byte{1}, n)) }

// withToken is st with one more token.
func (st *state) withToken(r TokenRow) *state {
	c := *st
	c.tokens, c.ages, c.lastN = st.tokens.put(r.Token, tokenSeq{r.N, r.Seq}), st.ages.put(age(r.N), r.Token), r.N
	return &c
}

// oldest is the first of the tokens.
func (st *state) oldest() (token string, n uint64) {
	st.ages.all(func(_ string, t string) bool {
		token = t
		return false
	})
	v, _ := st.tokens.get(token)
	return token, v.n
}

// without is st without its oldest token.
func (st *state) without(token string, n uint64) *state {
	c := *st
	c.tokens, c.ages = st.tokens.del(token), st.ages.del(age(n))
	return &c
}

// space is a namespace. It never changes.
type space struct {
	owner uint32
	seq   uint64 // of its last commit
	root  *node
}

// withSpace is st with a namespace put in or replaced; nil takes it out.
func (st *state) withSpace(name string, sp *space) *state {
	c := *st
	if old, ok := st.spaces.get(name); ok {
		c.bytes -= cost(name, old.root)
		c.count -= old.root.count
	}
	if sp == nil {
		c.spaces = st.spaces.del(name)
		return &c
	}
	c.spaces = st.spaces.put(name, sp)
	c.bytes += cost(name, sp.root)
	c.count += sp.root.count
	return &c
}
