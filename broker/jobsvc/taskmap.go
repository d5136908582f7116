package jobsvc

import (
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/resource/hostlist"
)

// taskmapText is which tasks are on which node of an allocation (Flux RFC 34).
func taskmapText(j *jobspec.Jobspec, res *resource.Alloc, nodelist string) (string, error) {
	names, err := hostlist.Parse(nodelist)
	if err != nil {
		return "", wire.Errorf(wire.Internal, "nodes %q: %v", nodelist, err)
	}
	m, err := j.Shell.Numbering.Map(job.TasksPerNode(j, res), names)
	if err != nil {
		return "", wire.Errorf(wire.Invalid, "the tasks cannot be numbered as asked for: %v", err)
	}
	return m.String(), nil
}

// storedTaskmap makes it from what is kept of a finished element's allocation.
func storedTaskmap(rd job.Reader, row *job.ArrayRow, el *job.ElementRow) (any, error) {
	parts, err := job.LastAlloc(el.Events)
	if err != nil || len(parts) == 0 {
		return nil, wire.Errorf(wire.NotFound, "%v never had resources", el.ID)
	}
	text, err := rd.Spec(row.Spec)
	if err != nil {
		return nil, err
	}
	j, err := jobspec.Parse(text)
	if err != nil {
		return nil, err
	}
	res := &resource.Alloc{}
	for _, p := range parts {
		cores, err := resource.ParseMask(p.Cores)
		if err != nil {
			return nil, wire.Errorf(wire.Internal, "job %v: damaged allocation", el.ID)
		}
		slots := j.Request.Slots
		if j.Request.Nodes == 0 {
			slots = cores.Count() / max(j.Request.Cores, 1)
		}
		res.Nodes = append(res.Nodes, resource.NodeAlloc{Node: p.Node, Cores: cores, Slots: slots})
	}
	return taskmapText(j, res, el.Nodelist)
}
