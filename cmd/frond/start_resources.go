package main

import (
	"fmt"
	"os"

	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/resource/probe"
	"github.com/vmihailenco/msgpack/v5"
)

// deal says what each broker offers, as msgpack of its []resource.Node: a part of this host, or of --resources, whose node i stands on
// broker i mod N and is bound to no cpus.
func (o *startOptions) deal() ([][]byte, error) {
	nodes, err := o.nodes()
	if err != nil {
		return nil, err
	}
	parts := make([][]resource.Node, o.brokers)
	for i, n := range nodes {
		rank := i % o.brokers
		n.Broker = int32(rank)
		parts[rank] = append(parts[rank], n)
	}
	out := make([][]byte, o.brokers)
	for rank, part := range parts {
		if out[rank], err = msgpack.Marshal(part); err != nil {
			return nil, fmt.Errorf("encode resources: %w", err)
		}
	}
	return out, nil
}

func (o *startOptions) nodes() ([]resource.Node, error) {
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
	host, err := probe.Probe("/")
	if err != nil {
		return nil, fmt.Errorf("find out what this host has: %w", err)
	}
	if host, err = host.Oversubscribe(max(1, o.oversub)); err != nil {
		return nil, fmt.Errorf("--oversubscribe: %w", err)
	}
	return probe.Deal(host, o.brokers), nil
}
