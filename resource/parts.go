package resource

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// WholeGPU is a gpu in the unit in which parts of one are given out.
const WholeGPU = 100

// gpuShare is a gpu of which parts are in use.
type gpuShare struct {
	id   int
	used int // 1 … WholeGPU
}

// checkParts tells whether a part of a node with shares of gpus can be taken.
func (v *Inventory) checkParts(a *NodeAlloc) error {
	parts := *a.GPUParts
	if a.GPUs.Count() != len(parts) {
		return fmt.Errorf("%d parts of %d gpus", len(parts), a.GPUs.Count())
	}
	for i, id := range a.GPUs.IDs() {
		used := 0
		if k := v.share(a.Node, id); k >= 0 {
			used = v.shares[a.Node][k].used
		} else if v.nodes[a.Node].usedGPU.Has(id) {
			used = WholeGPU
		}
		if parts[i] < 1 || used+parts[i] > WholeGPU {
			return fmt.Errorf("%d %% of gpu %d of node %d: %d %% is in use", parts[i], id, a.Node, used)
		}
	}
	return nil
}

// share is the place of a gpu among the node's shared ones, or -1.
func (v *Inventory) share(node, id int) int {
	return slices.IndexFunc(v.shares[node], func(s gpuShare) bool { return s.id == id })
}

// bookParts takes (by = 1) or gives back (-1) shares of gpus. A gpu is in use as long as a part of it is.
func (v *Inventory) bookParts(a *NodeAlloc, by int) {
	n := &v.nodes[a.Node]
	for i, id := range a.GPUs.IDs() {
		k := v.share(a.Node, id)
		if k < 0 {
			k = len(v.shares[a.Node])
			v.shares[a.Node] = append(v.shares[a.Node], gpuShare{id: id})
			n.usedGPU = n.usedGPU.Union(MaskOf(id))
		}
		s := &v.shares[a.Node][k]
		if s.used += by * (*a.GPUParts)[i]; s.used <= 0 {
			v.shares[a.Node] = slices.Delete(v.shares[a.Node], k, k+1)
			n.usedGPU = n.usedGPU.Minus(MaskOf(id))
		}
	}
	if len(v.shares[a.Node]) == 0 {
		delete(v.shares, a.Node)
	}
}

// largestPart is the largest part of one gpu of a node that is free, where none is free as a whole.
func (v *Inventory) largestPart(node int) int32 {
	most := 0
	for _, s := range v.shares[node] {
		if v.nodes[node].node.GPUs.Has(s.id) {
			most = max(most, WholeGPU-s.used)
		}
	}
	return int32(most)
}

// PartSlots is how many slots of that part of a gpu a known node has free, each on one gpu.
func (v *Inventory) PartSlots(node, part int) int {
	_, gpus := v.FreeMasks(node)
	n := gpus.Count() * (WholeGPU / part)
	for _, s := range v.shares[node] {
		if v.nodes[node].node.GPUs.Has(s.id) {
			n += (WholeGPU - s.used) / part
		}
	}
	return n
}

// PickParts finds gpus for slots of that part each: those that are shared already and have the least left, then whole ones, by id. There
// must be room (PartSlots).
func (v *Inventory) PickParts(node, part, slots int) (gpus Mask, parts []int) {
	_, free := v.FreeMasks(node)
	shares := slices.DeleteFunc(slices.Clone(v.shares[node]), func(s gpuShare) bool { return !v.nodes[node].node.GPUs.Has(s.id) })
	slices.SortFunc(shares, func(a, b gpuShare) int { return b.used - a.used })
	taken := map[int]int{}
	for i := 0; slots > 0; {
		if i < len(shares) {
			if shares[i].used+part > WholeGPU {
				i++
				continue
			}
		} else {
			id := free.Lowest()
			free = free.Minus(MaskOf(id))
			shares = append(shares, gpuShare{id: id})
		}
		shares[i].used += part
		taken[shares[i].id] += part
		slots--
	}
	for id := range taken {
		gpus = gpus.Union(MaskOf(id))
	}
	for _, id := range gpus.IDs() {
		parts = append(parts, taken[id])
	}
	return gpus, parts
}

// PartBook follows parts of gpus while allocations are given back in thought. The zero value with Inv begins with what is in use now.
type PartBook struct {
	Inv  *Inventory
	used map[int][]gpuShare
}

// Release gives back a part with shares of gpus: the gpus that are whole then, or else how much of one is free at most.
func (b *PartBook) Release(a *NodeAlloc) (gpus int32) {
	if b.used == nil {
		b.used = map[int][]gpuShare{}
	}
	shares, known := b.used[a.Node]
	if !known {
		shares = slices.Clone(b.Inv.shares[a.Node])
		b.used[a.Node] = shares
	}
	whole, part := int32(0), int32(0)
	for i, id := range a.GPUs.IDs() {
		k := slices.IndexFunc(shares, func(s gpuShare) bool { return s.id == id })
		if k < 0 {
			continue
		}
		if shares[k].used -= (*a.GPUParts)[i]; shares[k].used <= 0 {
			whole += WholeGPU
			shares[k].used = WholeGPU // it is counted: not again
			continue
		}
		part = max(part, int32(WholeGPU-shares[k].used))
	}
	if whole > 0 {
		return whole
	}
	return part
}

// AddGPUs is what is free, in Room's hundredths, when some comes back.
func AddGPUs(free, by int32) int32 {
	if free < WholeGPU && by < WholeGPU {
		return max(free, by)
	}
	return free/WholeGPU*WholeGPU + by/WholeGPU*WholeGPU
}

// lessParts is what is left of gpus when k slots of a part of one are taken: of the largest part where none is whole, else of whole
// ones. It may be less than there would be, never more.
func lessParts(free, part, k int32) int32 {
	if free < WholeGPU {
		return max(0, free-part*k)
	}
	per := WholeGPU / part
	gpus := (k + per - 1) / per
	if left := free - WholeGPU*gpus; left != 0 {
		return max(0, left)
	}
	return max(0, WholeGPU-part*(k-(gpus-1)*per))
}

// Less is what is left of a room when so many slots are taken out of it.
func (r Room) Less(slot Room, slots int) Room {
	by := slot.Times(slots)
	gpus := max(0, r.GPUs-by.GPUs)
	if slot.Partial() {
		gpus = lessParts(r.GPUs, slot.GPUs, int32(slots))
	}
	return Room{Cores: max(0, r.Cores-by.Cores), GPUs: gpus, MemMiB: max(0, r.MemMiB-by.MemMiB)}
}

// LessAlloc is Less for an allocated part.
func (r Room) LessAlloc(a *NodeAlloc) Room {
	out := Room{Cores: max(0, r.Cores-int32(a.Cores.Count())), GPUs: max(0, r.GPUs-WholeGPU*int32(a.GPUs.Count())),
		MemMiB: max(0, r.MemMiB-capMiB(a.MemMiB))}
	if a.GPUParts != nil && r.GPUs < WholeGPU*int32(len(*a.GPUParts)) {
		part := int32(0)
		for _, p := range *a.GPUParts {
			part += int32(p)
		}
		if out.GPUs = 0; r.GPUs < WholeGPU {
			out.GPUs = max(0, r.GPUs-part)
		}
	}
	return out
}

// FormatGPUs writes gpus as an idset, and where parts of them were taken their hundredths behind it: "0-1%50,25".
func FormatGPUs(gpus Mask, parts *[]int) string {
	text := gpus.String()
	if parts == nil {
		return text
	}
	for i, p := range *parts {
		sep := ","
		if i == 0 {
			sep = "%"
		}
		text += sep + strconv.Itoa(p)
	}
	return text
}

// ParseGPUs reads what FormatGPUs writes.
func ParseGPUs(text string) (gpus Mask, parts *[]int, err error) {
	ids, list, shared := strings.Cut(text, "%")
	if gpus, err = ParseMask(ids); err != nil || !shared {
		return gpus, nil, err
	}
	parts = new([]int)
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return gpus, nil, fmt.Errorf("%q is not a part of a gpu", clip(word))
		}
		*parts = append(*parts, n)
	}
	return gpus, parts, nil
}
