package resource

import "math"

// Room is what one node can give, as counts. As a need it is what is wanted of one node: every field must be covered.
type Room struct {
	Cores  int32
	GPUs   int32 // hundredths: of whole gpus, or where none is whole the most that one has free. A need below 100 is a part of one
	Whole  int32 // as Cores when nothing of the node is in use, else 0: for whole nodes
	MemMiB int32 // capped at 2 PiB
} // four fields: the compiler keeps structs with more in memory

// Covers tells whether r has at least need in every field.
func (r Room) Covers(need Room) bool {
	return r.Cores >= need.Cores && r.GPUs >= need.GPUs && r.Whole >= need.Whole && r.MemMiB >= need.MemMiB
}

// Min is the smaller of both, field by field.
func (r Room) Min(o Room) Room {
	return Room{min(r.Cores, o.Cores), min(r.GPUs, o.GPUs), min(r.Whole, o.Whole), min(r.MemMiB, o.MemMiB)}
}

func (r Room) max(o Room) Room {
	return Room{max(r.Cores, o.Cores), max(r.GPUs, o.GPUs), max(r.Whole, o.Whole), max(r.MemMiB, o.MemMiB)}
}

// Times is so many of it, for a node: Whole is not looked at.
func (r Room) Times(n int) Room {
	return Room{Cores: times(int64(n), int(r.Cores)), GPUs: times(int64(n), int(r.GPUs)), MemMiB: times(int64(n), int(r.MemMiB))}
}

// Slots is how many slots of one such Room fit, at most limit. The need must ask for a core; its Whole is not looked at.
func (r Room) Slots(slot Room, limit int) int {
	n := min(int64(limit), int64(r.Cores/slot.Cores))
	if slot.GPUs > 0 {
		n = min(n, int64(r.gpuSlots(slot.GPUs)))
	}
	if slot.MemMiB > 0 {
		n = min(n, int64(r.MemMiB/slot.MemMiB))
	}
	return int(n)
}

// Partial tells whether, as a need, it asks for a part of a gpu.
func (r Room) Partial() bool { return r.GPUs > 0 && r.GPUs < WholeGPU }

// gpuSlots is for how many slots of so much gpu each there surely is room; of parts, shared gpus beside whole ones are not seen.
func (r Room) gpuSlots(need int32) int32 {
	if need < WholeGPU && r.GPUs >= WholeGPU {
		return r.GPUs / WholeGPU * (WholeGPU / need)
	}
	return r.GPUs / need
}

// Index finds nodes with room: a tournament tree over the nodes' rooms in order of their number, the largest of each
// field in every inner place, so that a search descends only where it may succeed and a change costs the depth at most. Beside it, it
// counts nodes by free cores, which answers most "is there room at all" without a search.
type Index struct {
	size  int     // leaves, a power of two
	tree  []Room  // [1] is the root; leaf i is tree[size+i]
	nodes []int32 // how many have exactly so many cores
	least []int32 // how many have at least so many, if counted
	cores int64   // sums over all nodes
	gpus  int64

	counted bool // least is up to date
}

// NewIndex makes an index for nodes 0 … n-1, without room.
func NewIndex(n int) *Index {
	x := &Index{size: 1, nodes: make([]int32, 2)}
	for x.size < n {
		x.size *= 2
	}
	x.tree = make([]Room, 2*x.size)
	return x
}

// Len is the number of places; node numbers are below it.
func (x *Index) Len() int { return x.size }

// Grow makes places for nodes 0 … n-1.
func (x *Index) Grow(n int) {
	if n <= x.size {
		return
	}
	old := x.tree[x.size:]
	for x.size < n {
		x.size *= 2
	}
	x.tree = make([]Room, 2*x.size)
	copy(x.tree[x.size:], old)
	x.rebuild()
}

// Fill sets all nodes at once: cheaper than one Set for each.
func (x *Index) Fill(room func(node int) Room) {
	clear(x.nodes)
	x.counted = false
	x.cores, x.gpus = 0, 0
	for i := range x.size {
		r := room(i)
		x.tree[x.size+i] = r
		x.count(r, 1)
	}
	x.rebuild()
}

func (x *Index) rebuild() {
	for i := x.size - 1; i > 0; i-- {
		x.tree[i] = x.tree[2*i].max(x.tree[2*i+1])
	}
}

// At is a node's room.
func (x *Index) At(node int) Room { return x.tree[x.size+node] }

// Set changes a node's room.
func (x *Index) Set(node int, r Room) {
	i := x.size + node
	old := x.tree[i]
	if old == r {
		return
	}
	x.tree[i] = r
	x.count(old, -1)
	x.count(r, 1)
	for i >>= 1; i > 0; i >>= 1 {
		best := x.tree[2*i].max(x.tree[2*i+1])
		if best == x.tree[i] {
			return
		}
		x.tree[i] = best
	}
}

// count books a node of room r in (1) or out (-1).
func (x *Index) count(r Room, by int32) {
	if r.Cores <= 0 {
		return
	}
	x.counted = false
	for int(r.Cores) >= len(x.nodes) {
		x.nodes = append(x.nodes, 0)
	}
	x.nodes[r.Cores] += by
	x.cores += int64(by) * int64(r.Cores)
	x.gpus += int64(by) * int64(r.GPUs)
}

// Next is the lowest node ≥ from whose room covers need, or -1.
func (x *Index) Next(from int, need Room) int {
	if from >= x.size {
		return -1
	}
	i := 1
	if from > 0 {
		i = x.size + from
	}
	for {
		switch {
		case !x.tree[i].Covers(need):
			for i&1 == 1 { // the right end of a subtree: climb
				i >>= 1
			}
			if i == 0 {
				return -1
			}
			i++
		case i >= x.size:
			return i - x.size
		default:
			i *= 2
		}
	}
}

// Cores and GPUs are sums over all nodes that have a core.
func (x *Index) Cores() int64 { return x.cores }

// GPUs is the sum of gpus, in hundredths as in Room, of nodes that have a core.
func (x *Index) GPUs() int64 { return x.gpus }

// Largest is the most that any one node has, field by field.
func (x *Index) Largest() Room { return x.tree[1] }

// NodesWith counts the nodes with at least that many cores (1 or more).
func (x *Index) NodesWith(cores int32) int {
	if int(cores) >= len(x.nodes) {
		return 0
	}
	if !x.counted {
		x.sum()
	}
	return int(x.least[cores])
}

// sum makes least: a pass over a long queue asks for it more often than it changes.
func (x *Index) sum() {
	x.least = append(x.least[:0], x.nodes...)
	for c := len(x.least) - 2; c >= 0; c-- {
		x.least[c] += x.least[c+1]
	}
	x.counted = true
}

// SlotsOf counts the slots of the given number of cores (1 or more) that fit into all nodes.
func (x *Index) SlotsOf(cores int32) int {
	n := 0
	for c := int(cores); c < len(x.nodes); c++ {
		n += int(x.nodes[c]) * (c / int(cores))
	}
	return n
}

// capMiB fits a memory size into a Room.
func capMiB(mib int64) int32 { return int32(max(0, min(mib, math.MaxInt32))) }
