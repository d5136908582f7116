// Package resource holds the model of what there is: nodes with cores, gpus, memory and properties, sets of
// them (R version 1, Flux RFC 20), the short form of resource descriptions, and the inventory on which requests are
// matched. It is pure.
package resource

import (
	"fmt"

	"github.com/frond-hpc/frond/resource/idset"
)

// Node describes one node as its broker offers it. Core and gpu ids are logical, zero-origin per node.
type Node struct {
	Index      int      // place in the instance's R ("rank" in R_lite); stable for the node's life
	Name       string   // the scheduler's name for it, need not be a hostname
	Broker     int32    // rank of the broker that runs its tasks
	Cores      Mask     // core ids
	GPUs       Mask     // gpu ids
	MemMiB     int64    // 0 = unknown
	Properties []string // sorted
	CPUs       []int    // machine cpu number of each core id in order, for affinity; nil = no binding
}

// Oversubscribe is the node with n cores in place of each: core ids n·i … n·i+n-1, on the cpu of the i-th.
func (n Node) Oversubscribe(by int) (Node, error) {
	if by == 1 {
		return n, nil
	}
	count := n.Cores.Count()
	if count > (MaxMaskID+1)/by {
		return n, fmt.Errorf("%d cores for each of the %d of node %s are more than %d", by, count, n.Name, MaxMaskID+1)
	}
	cpus := n.CPUs
	n.Cores, n.CPUs = MaskRange(0, count*by-1), nil
	for _, cpu := range cpus {
		for range by {
			n.CPUs = append(n.CPUs, cpu)
		}
	}
	return n, nil
}

// NodeAlloc is a part of one node.
type NodeAlloc struct {
	Node   int // Node.Index
	Cores  Mask
	GPUs   Mask
	Slots  int   // slots placed on this node
	MemMiB int64 // memory taken on this node; 0 = none asked for
	// GPUParts are the hundredths taken of each of GPUs, by id; nil = they are taken whole. Never both in one allocation.
	GPUParts *[]int
}

// Alloc is a concrete set of resources given to one job. Immutable once made.
type Alloc struct {
	Nodes     []NodeAlloc // ascending by Node
	Exclusive bool
}

// Ranks is the idset of the nodes' indexes ("ranks" in R).
func (a *Alloc) Ranks() string {
	var set idset.Set
	for i := range a.Nodes {
		set.Add(a.Nodes[i].Node)
	}
	return set.String()
}
