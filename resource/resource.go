// Package resource holds the model of what there is: nodes with cores, gpus, memory and properties, sets of
// them (R version 1, Flux RFC 20), the short form of resource descriptions, and the inventory on which requests are
// matched. It is pure.
package resource

import "github.com/frond-hpc/frond/resource/idset"

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

// NodeAlloc is a part of one node.
type NodeAlloc struct {
	Node   int // Node.Index
	Cores  Mask
	GPUs   Mask
	Slots  int   // slots placed on this node
	MemMiB int64 // memory taken on this node; 0 = none asked for
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
