package resource

import (
	"fmt"
	"slices"

	"github.com/frond-hpc/frond/jobspec"
)

// Inventory is the nodes of an instance as its scheduler sees them: which there are, which may get work, and what of them
// is free. Nodes stand in flat arrays by Node.Index. Not safe for concurrent use.
type Inventory struct {
	nodes []invNode
	known int
	free  *Index // what is free on nodes that may get work
	up    *Index // all of nodes that may get work
	all   *Index // all of all nodes that are known
	names map[string]int
	// shares are the gpus of which parts are in use, by node
	shares map[int][]gpuShare

	feasible map[feasibleKey]error // answers since the last Add or Remove
}

type invNode struct {
	node    *Node // nil: not known. Immutable: Add makes a new one
	up      bool
	used    Mask // may name nodes that are not known yet, or cores that a node no longer has
	usedGPU Mask
	usedMem int64
}

// NewInventory returns an inventory without nodes.
func NewInventory() *Inventory {
	return &Inventory{free: NewIndex(1), up: NewIndex(1), all: NewIndex(1), names: make(map[string]int), shares: make(map[int][]gpuShare)}
}

// Add makes a node known, or replaces what is known of the one with its Index; what is in use there stays in use.
// A new node is up. The error says that the index cannot be.
func (v *Inventory) Add(n Node) error {
	if n.Index < 0 || n.Index >= MaxNodes {
		return fmt.Errorf("node %q: index %d outside 0-%d", n.Name, n.Index, MaxNodes-1)
	}
	v.grow(n.Index + 1)
	s := &v.nodes[n.Index]
	if s.node == nil {
		v.known++
		s.up = true
	} else if v.names[s.node.Name] == n.Index {
		delete(v.names, s.node.Name)
	}
	s.node = &n
	if _, taken := v.names[n.Name]; !taken {
		v.names[n.Name] = n.Index
	}
	v.changed(n.Index)
	return nil
}

// Remove forgets a node. What is in use there stays booked until Give, in case a node of this index comes again.
func (v *Inventory) Remove(node int) {
	if v.Node(node) == nil {
		return
	}
	s := &v.nodes[node]
	if v.names[s.node.Name] == node {
		delete(v.names, s.node.Name)
	}
	s.node, s.up = nil, false
	v.known--
	v.changed(node)
}

func (v *Inventory) changed(node int) {
	v.feasible = nil
	v.all.Set(node, v.whole(node))
	v.refresh(node)
}

// SetUp says whether a known node may get work (neither offline nor drained).
func (v *Inventory) SetUp(node int, up bool) {
	if v.Node(node) == nil || v.nodes[node].up == up {
		return
	}
	v.nodes[node].up = up
	v.refresh(node)
}

// Up tells whether a node is known and may get work.
func (v *Inventory) Up(node int) bool { return v.Node(node) != nil && v.nodes[node].up }

// Node returns a known node, or nil. It is immutable.
func (v *Inventory) Node(index int) *Node {
	if index < 0 || index >= len(v.nodes) {
		return nil
	}
	return v.nodes[index].node
}

// Named returns the index of the node of that name, the one added first if several share it.
func (v *Inventory) Named(name string) (index int, ok bool) {
	index, ok = v.names[name]
	return index, ok
}

// Known is the number of nodes.
func (v *Inventory) Known() int { return v.known }

// Len is the largest index ever used, plus one.
func (v *Inventory) Len() int { return len(v.nodes) }

// Free is the index of what is free. It must not be changed.
func (v *Inventory) Free() *Index { return v.free }

// UpTotal is the index of all that nodes have which may get work, in use or not. It must not be changed.
func (v *Inventory) UpTotal() *Index { return v.up }

// Total is the index of all that known nodes have. It must not be changed.
func (v *Inventory) Total() *Index { return v.all }

// FreeMasks are the free cores and gpus of a known node, up or not.
func (v *Inventory) FreeMasks(node int) (cores, gpus Mask) {
	s := &v.nodes[node]
	return s.node.Cores.Minus(s.used), s.node.GPUs.Minus(s.usedGPU)
}

// Used is what is in use of a node, known or not. Slots is 0.
func (v *Inventory) Used(node int) NodeAlloc {
	if node < 0 || node >= len(v.nodes) {
		return NodeAlloc{Node: node}
	}
	s := &v.nodes[node]
	u := NodeAlloc{Node: node, Cores: s.used, GPUs: s.usedGPU, MemMiB: s.usedMem}
	if shares := v.shares[node]; len(shares) > 0 {
		parts := make([]int, 0, len(shares))
		for _, id := range u.GPUs.IDs() {
			if k := v.share(node, id); k >= 0 {
				parts = append(parts, shares[k].used)
			} else {
				parts = append(parts, WholeGPU)
			}
		}
		u.GPUParts = &parts
	}
	return u
}

// Take books a part of a node as in use. Cores and gpus that are in use already are an error, and then nothing is booked.
// The node need not be known yet.
func (v *Inventory) Take(a NodeAlloc) error {
	if a.Node < 0 || a.Node >= MaxNodes {
		return fmt.Errorf("node index %d outside 0-%d", a.Node, MaxNodes-1)
	}
	v.grow(a.Node + 1)
	s := &v.nodes[a.Node]
	if s.used.Overlaps(a.Cores) {
		return fmt.Errorf("cores %v of node %d are in use", s.used.Intersect(a.Cores), a.Node)
	}
	if a.GPUParts != nil {
		if err := v.checkParts(&a); err != nil {
			return err
		}
		v.bookParts(&a, 1)
	} else if s.usedGPU.Overlaps(a.GPUs) {
		return fmt.Errorf("gpus %v of node %d are in use", s.usedGPU.Intersect(a.GPUs), a.Node)
	}
	s.used, s.usedGPU, s.usedMem = s.used.Union(a.Cores), s.usedGPU.Union(a.GPUs), s.usedMem+a.MemMiB // shared gpus are among them
	v.refreshFree(a.Node)
	return nil
}

// Give ends what Take booked.
func (v *Inventory) Give(a NodeAlloc) {
	s := &v.nodes[a.Node]
	s.used, s.usedMem = s.used.Minus(a.Cores), s.usedMem-a.MemMiB
	if a.GPUParts != nil {
		v.bookParts(&a, -1)
	} else {
		s.usedGPU = s.usedGPU.Minus(a.GPUs)
	}
	v.refreshFree(a.Node)
}

func (v *Inventory) grow(n int) {
	if n <= len(v.nodes) {
		return
	}
	v.nodes = slices.Grow(v.nodes, n-len(v.nodes))[:n]
	v.free.Grow(n)
	v.up.Grow(n)
	v.all.Grow(n)
}

// refresh brings the indexes up to date after a change of the node itself.
func (v *Inventory) refresh(node int) {
	var up Room
	if v.nodes[node].up {
		up = v.whole(node)
	}
	v.up.Set(node, up)
	v.refreshFree(node)
}

func (v *Inventory) refreshFree(node int) { v.free.Set(node, v.roomOf(node)) }

// whole is all that a known node has.
func (v *Inventory) whole(node int) Room {
	n := v.nodes[node].node
	if n == nil {
		return Room{}
	}
	c := int32(n.Cores.Count())
	return Room{Cores: c, GPUs: WholeGPU * int32(n.GPUs.Count()), Whole: c, MemMiB: capMiB(n.MemMiB)}
}

// roomOf is what is free on a node that may get work.
func (v *Inventory) roomOf(node int) Room {
	s := &v.nodes[node]
	if !s.up {
		return Room{}
	}
	cores, gpus := v.FreeMasks(node)
	r := Room{Cores: int32(cores.Count()), GPUs: WholeGPU * int32(gpus.Count()), MemMiB: capMiB(s.node.MemMiB - s.usedMem)}
	if r.GPUs == 0 && len(v.shares) > 0 {
		r.GPUs = v.largestPart(node)
	}
	if s.used.Empty() && s.usedGPU.Empty() && s.usedMem == 0 {
		r.Whole = r.Cores
	}
	return r
}

// Matches tells whether a known node satisfies the constraint.
func (v *Inventory) Matches(node int, c *jobspec.Constraint) bool {
	return c.Match(target{v.nodes[node].node})
}

// target is a Node as constraints see it: its rank is its Index (the rank in R).
type target struct{ n *Node }

func (t target) Rank() int    { return t.n.Index }
func (t target) Host() string { return t.n.Name }
func (t target) HasProperty(name string) bool {
	return slices.Contains(t.n.Properties, name)
}

// Check verifies that the indexes agree with the nodes. It is for tests: it looks at every node.
func (v *Inventory) Check() error {
	known := 0
	for i := range v.nodes {
		s := &v.nodes[i]
		if s.node == nil && s.up {
			return fmt.Errorf("node %d is up but not known", i)
		}
		if s.node != nil {
			known++
		}
		if s.usedMem < 0 {
			return fmt.Errorf("node %d: memory in use is %d MiB", i, s.usedMem)
		}
		var up Room
		if s.up {
			up = v.whole(i)
		}
		for _, c := range []struct {
			what      string
			got, want Room
		}{{"free", v.free.At(i), v.roomOf(i)}, {"up", v.up.At(i), up}, {"total", v.all.At(i), v.whole(i)}} {
			if c.got != c.want {
				return fmt.Errorf("node %d: %s index has %+v, the node %+v", i, c.what, c.got, c.want)
			}
		}
	}
	if known != v.known {
		return fmt.Errorf("%d nodes known, counted as %d", known, v.known)
	}
	return nil
}
