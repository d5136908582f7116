package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
)

// instanceHeaders are fields of jobs that are instances, with Flux's names.
var instanceHeaders = map[string]string{
	"instance.stats": "STATS", "instance.progress": "PROG", "instance.utilization": "UTIL",
	"instance.resources.all.nnodes": "NNODES", "instance.resources.all.ncores": "NCORES", "instance.resources.all.ngpus": "NGPUS",
	"instance.resources.free.ncores": "FREE", "instance.resources.allocated.ncores": "ALLOC", "instance.resources.up.nnodes": "UP",
}

// instanceView is what an instance says of itself, for those who look at it from outside.
type instanceView struct {
	counts                              api.CountsRep
	nodes, up, cores, gpus, upCores, in int // in: allocated cores
}

// viewInstance asks an instance.
func viewInstance(ctx context.Context, c *client.Client) (*instanceView, error) {
	v := &instanceView{}
	var err error
	if v.counts, err = currentCounts(ctx, c); err != nil {
		return nil, err
	}
	rep, err := call(ctx, c, api.ResourceStatus, wire.Any, api.Empty{})
	if err != nil {
		return nil, err
	}
	for i := range rep.Nodes {
		n := &rep.Nodes[i]
		v.nodes++
		v.cores += n.Node.Cores.Count()
		v.gpus += n.Node.GPUs.Count()
		v.in += n.Used.Cores.Count()
		if n.Online && !n.Drained {
			v.up++
			v.upCores += n.Node.Cores.Count()
		}
	}
	return v, nil
}

// field is the value of instance.NAME; nil of a job that is none.
func (v *instanceView) field(name string) any {
	if v == nil {
		return nil
	}
	switch name {
	case "stats":
		done := v.counts.Inactive - v.counts.Failed
		return fmt.Sprintf("PD:%d R:%d CD:%d F:%d", v.counts.Pending, v.counts.Running, done, v.counts.Failed)
	case "progress":
		return percent(v.counts.Inactive, v.counts.Inactive+v.counts.Pending+v.counts.Running)
	case "utilization":
		return percent(v.in, v.cores)
	}
	switch strings.TrimPrefix(name, "resources.") {
	case "all.nnodes":
		return v.nodes
	case "all.ncores":
		return v.cores
	case "all.ngpus":
		return v.gpus
	case "free.ncores":
		return v.upCores - v.in
	case "allocated.ncores":
		return v.in
	case "up.nnodes":
		return v.up
	}
	return nil
}

// percent is part of whole as text; nil without a whole.
func percent(part, whole int) any {
	if whole == 0 {
		return nil
	}
	return fmt.Sprintf("%d%%", 100*part/whole)
}

// inspect notes what an instance says of itself.
func (d *treeDrawer) inspect(ctx context.Context, c *client.Client, in nested) {
	if v, err := viewInstance(ctx, c); err == nil { // else its fields are empty
		d.seen[in.job.ID] = v
	}
}
