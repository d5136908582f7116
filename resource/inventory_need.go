package resource

import (
	"fmt"
	"math"

	"github.com/frond-hpc/frond/jobspec"
)

// Need is a request in the form in which nodes are searched.
type Need struct {
	Req  jobspec.Request
	Slot Room // one slot
	Node Room // one node's part, if Req.Nodes > 0; else all slots, for a node that can take the whole request
}

// NeedOf converts a request; it must pass Valid before it is used.
func NeedOf(req jobspec.Request) Need {
	n := Need{Req: req}
	n.Slot = Room{Cores: cap32(int64(req.Cores)), GPUs: times(WholeGPU, req.GPUs) + int32(req.GPUPart), MemMiB: cap32(req.MemMiB)}
	k := int64(req.Slots)
	n.Node = Room{Cores: times(k, req.Cores), GPUs: times(k, int(n.Slot.GPUs)), MemMiB: times(k, int(req.MemMiB))}
	if n.Slot.Partial() {
		n.Node.GPUs = n.Slot.GPUs
	}
	if req.Exclusive {
		n.Node.Whole = n.Node.Cores
		if n.Slot.Partial() { // whole gpus it gets anyway
			per := int64(WholeGPU / n.Slot.GPUs)
			n.Node.GPUs = times(WholeGPU, int((k+per-1)/per))
		}
	}
	return n
}

// Valid checks what the matching relies on; jobspecs have been checked for it by their parser.
func (n Need) Valid() error {
	r := n.Req
	switch {
	case r.Slots < 1:
		return fmt.Errorf("needs at least one slot, not %d", r.Slots)
	case r.Cores < 1:
		return fmt.Errorf("needs at least one core in a slot, not %d", r.Cores)
	case r.Nodes < 0 || r.GPUs < 0 || r.MemMiB < 0:
		return fmt.Errorf("a negative amount is asked for")
	case r.GPUPart < 0 || r.GPUPart >= WholeGPU || r.GPUPart > 0 && r.GPUs > 0:
		return fmt.Errorf("a part of a gpu is below a whole one")
	case r.Exclusive && r.Nodes == 0:
		return fmt.Errorf("whole nodes need a number of nodes")
	}
	return nil
}

// CoveredBy tells whether one node's part surely fits into a room.
func (n *Need) CoveredBy(r Room) bool {
	return r.Covers(n.Node) && (!n.Node.Partial() || r.gpuSlots(n.Node.GPUs) >= cap32(int64(n.Req.Slots)))
}

// TotalCores is the least number of cores the whole request takes.
func (n Need) TotalCores() int64 {
	return int64(n.Node.Cores) * int64(max(n.Req.Nodes, 1))
}

// TotalGPUs is the least that the whole request takes of gpus, in hundredths.
func (n Need) TotalGPUs() int64 {
	return int64(n.Node.GPUs) * int64(max(n.Req.Nodes, 1))
}

func cap32(n int64) int32 { return int32(max(0, min(n, math.MaxInt32))) }

func times(k int64, n int) int32 {
	if n > 0 && k > math.MaxInt32/int64(n) {
		return math.MaxInt32
	}
	return cap32(k * int64(n))
}
