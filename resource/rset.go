package resource

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/resource/idset"
)

// Sets of resources as R has them. A node of one set is that of another with the same rank and name.

// nodeKey is what makes a node.
type nodeKey struct {
	index int
	name  string
}

func (r R) byKey() map[nodeKey]*Node {
	m := make(map[nodeKey]*Node, len(r.Nodes))
	for i := range r.Nodes {
		n := &r.Nodes[i]
		m[nodeKey{n.Index, n.Name}] = n
	}
	return m
}

// Append joins sets that have nothing in common. A rank may be in both with other cores; with another host it is an error.
func (r R) Append(o R) (R, error) {
	nodes := slices.Clone(r.Nodes)
	at := make(map[int]int, len(nodes))
	for i := range nodes {
		at[nodes[i].Index] = i
	}
	for _, n := range o.Nodes {
		i, both := at[n.Index]
		if !both {
			nodes = append(nodes, n)
			continue
		}
		m := &nodes[i]
		switch {
		case m.Name != n.Name:
			return R{}, fmt.Errorf("rank %d is %s in one R and %s in another", n.Index, m.Name, n.Name)
		case m.Cores.Overlaps(n.Cores) || m.GPUs.Overlaps(n.GPUs):
			return R{}, fmt.Errorf("both have some of the same resources of rank %d (%s)", n.Index, n.Name)
		}
		m.Cores, m.GPUs, m.MemMiB = m.Cores.Union(n.Cores), m.GPUs.Union(n.GPUs), m.MemMiB+n.MemMiB
		for _, p := range n.Properties {
			m.AddProperty(p)
		}
	}
	r.Nodes = nodes
	r.sort()
	return r, nil
}

// Diff is what r has and o has not.
func (r R) Diff(o R) R {
	have := o.byKey()
	return r.filter(func(n *Node) bool {
		if m := have[nodeKey{n.Index, n.Name}]; m != nil {
			n.Cores, n.GPUs = n.Cores.Minus(m.Cores), n.GPUs.Minus(m.GPUs)
		}
		return !n.Cores.Empty() || !n.GPUs.Empty()
	})
}

// Intersect is what both have.
func (r R) Intersect(o R) R {
	have := o.byKey()
	return r.filter(func(n *Node) bool {
		m := have[nodeKey{n.Index, n.Name}]
		if m == nil {
			return false
		}
		n.Cores, n.GPUs = n.Cores.Intersect(m.Cores), n.GPUs.Intersect(m.GPUs)
		return !n.Cores.Empty() || !n.GPUs.Empty()
	})
}

// Filter is the nodes that f wants.
func (r R) Filter(f func(*Node) bool) R { return r.filter(f) }

// filter is the nodes, as f changes them, for which it returns true.
func (r R) filter(f func(*Node) bool) R {
	var nodes []Node
	for _, n := range r.Nodes {
		if f(&n) {
			nodes = append(nodes, n)
		}
	}
	r.Nodes = nodes
	return r
}

// Remap numbers ranks, and the cores of each, from 0. Gpus keep their ids, by which programs know them.
func (r R) Remap() R {
	i := -1
	return r.filter(func(n *Node) bool {
		i++
		n.Index, n.Cores, n.CPUs = i, MaskRange(0, n.Cores.Count()-1), nil
		return true
	})
}

func (r *R) sort() { slices.SortFunc(r.Nodes, func(a, b Node) int { return a.Index - b.Index }) }

// Short is the set as people write it: rank[0-1]/core[0-3],gpu0 rank2/core0.
func (r R) Short() string {
	type kind struct{ cores, gpus string }
	groups := make(map[kind]*idset.Set)
	var order []kind
	for i := range r.Nodes {
		n := &r.Nodes[i]
		k := kind{n.Cores.String(), n.GPUs.String()}
		if groups[k] == nil {
			groups[k] = &idset.Set{}
			order = append(order, k)
		}
		groups[k].Add(n.Index)
	}
	texts := make([]string, len(order))
	for i, k := range order {
		texts[i] = "rank" + groups[k].StringBrackets() + "/" + shortIDs("core", k.cores)
		if k.gpus != "" {
			if k.cores != "" {
				texts[i] += ","
			}
			texts[i] += shortIDs("gpu", k.gpus)
		}
	}
	return strings.Join(texts, " ")
}

func shortIDs(name, ids string) string {
	if ids == "" {
		return ""
	}
	if _, err := strconv.Atoi(ids); err == nil {
		return name + ids
	}
	return name + "[" + ids + "]"
}
