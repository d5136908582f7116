package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/frond-hpc/frond/broker/branchsvc"
	"github.com/frond-hpc/frond/overlay/meet"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/resource/idset"
	"github.com/frond-hpc/frond/resource/probe"
	"github.com/vmihailenco/msgpack/v5"
)

// deal says what each broker offers, as msgpack of its []resource.Node: a part of this host, or of --resources, whose node i stands on the
// i mod N-th broker that offers any, and is bound to no cpus. Brokers elsewhere whose part is empty say what they have.
func (o *startOptions) deal(p *launchPlan) ([][]byte, error) {
	parts := make([][]resource.Node, p.size())
	bearers, first := p.local, 0 // those who join have theirs
	if p.nodes != nil {
		bearers = p.size()
	}
	if p.nodes != nil && p.here < 0 { // the leader offers nothing
		bearers, first = bearers-1, 1
	}
	nodes, err := o.nodes(p)
	if err == nil {
		err = o.setProperties(p, nodes)
	}
	if widths, _ := o.widths(); err == nil && widths != nil && p.way == nil && o.child == nil { // else it is seen when all are there
		if err = branchsvc.CheckWidths(widths, len(nodes)); err != nil {
			err = fmt.Errorf("--split %w", err)
		}
	}
	if err != nil {
		return nil, err
	}
	for i, n := range nodes {
		rank := first + i%bearers
		n.Broker = int32(rank)
		parts[rank] = append(parts[rank], n)
	}
	out := make([][]byte, len(parts))
	for rank, part := range parts {
		if out[rank], err = msgpack.Marshal(part); err != nil {
			return nil, fmt.Errorf("encode resources: %w", err)
		}
	}
	return out, nil
}

func (o *startOptions) nodes(p *launchPlan) ([]resource.Node, error) {
	if o.child != nil {
		return o.child.Nodes, nil
	}
	if o.resources != "" {
		nodes, err := resource.ParseResources(o.resources, os.ReadFile)
		if err != nil {
			return nil, fmt.Errorf("--resources: %w", err)
		}
		for i := range nodes {
			if nodes[i], err = nodes[i].Oversubscribe(max(1, o.oversub)); err != nil {
				return nil, fmt.Errorf("--oversubscribe: %w", err)
			}
		}
		return nodes, nil
	}
	if p.nodes == nil {
		place := meet.Place{Oversub: o.oversub}
		p.grantedHere(&place)
		host, err := hostNode(place)
		if err != nil {
			return nil, err
		}
		return probe.Deal(host, p.local), nil
	}
	if p.here < 0 {
		return nil, nil
	}
	place := meet.Place{Node: p.nodes[p.here], Oversub: o.oversub}
	if p.crew != nil {
		place.Part, place.Parts = p.crew.part(0)
	}
	p.granted(&place, p.here)
	host, err := hostNode(place)
	return []resource.Node{host}, err
}

// setProperties gives nodes what --property says, and notes it for those that brokers elsewhere will offer.
func (o *startOptions) setProperties(p *launchPlan, nodes []resource.Node) error {
	list, err := resource.ParseProperties(o.properties)
	if err != nil {
		return fmt.Errorf("--property: %w", err)
	}
	all := nodes
	if o.resources == "" && p.nodes != nil {
		all = p.places()
	}
	for i := range list {
		if err := list[i].Missing(all); err != nil && !o.recalled { // the nodes may be others than at the start before
			return fmt.Errorf("--property: %w", err)
		}
	}
	resource.SetProperties(all, list)
	p.properties = make(map[int][]string)
	for i := range all {
		p.properties[all[i].Index] = all[i].Properties
	}
	for i := range nodes {
		nodes[i].Properties = p.properties[nodes[i].Index]
	}
	return nil
}

// hostNode is what this host has, as far as it may be offered.
func hostNode(p meet.Place) (resource.Node, error) {
	host, err := probe.Probe("/")
	if err != nil {
		return host, fmt.Errorf("find out what this host has: %w", err)
	}
	gpus, err := idset.Parse(p.GPUs)
	if err != nil {
		return host, fmt.Errorf("granted gpus: %w", err)
	}
	host = probe.Limit(host, probe.Grant{Cores: p.Cores, MemMiB: p.MemMiB, NoGPUs: p.NoGPUs, GPUs: slices.Collect(gpus.All()), Named: probe.GPUsNamed(os.Getenv)})
	if p.Parts > 1 {
		host = probe.Deal(host, p.Parts)[p.Part]
	}
	if host, err = host.Oversubscribe(max(1, p.Oversub)); err != nil {
		return host, fmt.Errorf("--oversubscribe: %w", err)
	}
	if p.Node != "" {
		host.Name = p.Node
	}
	host.Index, host.Broker, host.Properties = p.Index, int32(p.Rank), p.Properties
	return host, nil
}

// places are the nodes by index in R, with their names.
func (p *launchPlan) places() []resource.Node {
	var names []string
	if p.here >= 0 {
		names = append(names, p.nodes[p.here])
	}
	names = append(names, p.others()...)
	nodes := make([]resource.Node, len(names))
	for i, n := range names {
		nodes[i] = resource.Node{Index: i, Name: n}
	}
	return nodes
}
