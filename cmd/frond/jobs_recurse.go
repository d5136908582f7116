package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
)

// jobTree is the jobs of an instance and of those below it.
type jobTree struct {
	path string // of job ids from where the listing begins; "" = there
	jobs []*api.JobInfo
	in   []*jobTree // of the jobs that are instances, in the order of jobs
}

// recurse lists the jobs of the instance at uri, which c is connected to, and of those below it, at most so many levels (-1 = all).
func (p *jobsPlan) recurse(ctx context.Context, e *env, c *client.Client, uri string, levels int) error {
	top, err := p.tree(ctx, e, c, uri, "", levels)
	if err != nil {
		return unknownJob(err, p.args)
	}
	if p.json {
		if p.single && len(top.jobs) == 1 {
			return writeJSON(e.stdout, p.treeJSON(e, top)[0])
		}
		return writeJSON(e.stdout, map[string]any{"jobs": p.treeJSON(e, top)})
	}
	return p.printTree(e, top)
}

func (p *jobsPlan) printTree(e *env, t *jobTree) error {
	if t.path != "" && !p.noHeader {
		fmt.Fprintf(e.stdout, "\n%s:\n", t.path)
	}
	if err := p.print(e, t.jobs); err != nil {
		return err
	}
	for _, in := range t.in {
		if err := p.printTree(e, in); err != nil {
			return err
		}
	}
	return nil
}

// treeJob is a job that is an instance with its jobs.
type treeJob struct {
	*jobJSON
	Jobs []treeJob `json:"jobs,omitzero"`
}

func (p *jobsPlan) treeJSON(e *env, t *jobTree) []treeJob {
	list := make([]treeJob, len(t.jobs))
	users := map[uint32]string{}
	for i, j := range t.jobs {
		list[i].jobJSON = jobView{JobInfo: j, now: p.now, ascii: e.asciiIDs(), users: users}.json()
		path := t.below(e, j)
		if at := slices.IndexFunc(t.in, func(in *jobTree) bool { return in.path == path }); at >= 0 {
			list[i].Jobs = p.treeJSON(e, t.in[at])
		}
	}
	return list
}

func (t *jobTree) below(e *env, j *api.JobInfo) string {
	if t.path == "" {
		return e.idText(j.ID)
	}
	return t.path + "/" + e.idText(j.ID)
}

func (p *jobsPlan) tree(ctx context.Context, e *env, c *client.Client, uri, path string, levels int) (*jobTree, error) {
	t := &jobTree{path: path}
	var into []*api.JobInfo
	l := &jobListing{ctx: ctx, c: c, req: p.req}
	defer l.close()
	err := p.each(l.next, func(j *api.JobInfo) error {
		t.jobs = append(t.jobs, j)
		into = append(into, j)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(p.req.IDs) == 0 && len(p.sort) == 0 {
		slices.SortStableFunc(t.jobs, listOrder)
		into = slices.Clone(t.jobs)
	}
	if p.req.States != 0 && p.req.States&int(jobspec.StatesRunning) == 0 || p.req.Results != 0 { // what is looked for may be in instances that run
		if into, err = addRunning(ctx, c, into); err != nil {
			return nil, err
		}
	}
	if levels == 0 {
		return t, nil
	}
	list, err := e.children(ctx, c, uri, into)
	if err != nil {
		return nil, err
	}
	for _, in := range list {
		sub, err := p.subtree(ctx, e, in, t.below(e, in.job), levels-1)
		if err != nil {
			fmt.Fprintf(e.stderr, "frond jobs: %s: %v\n", t.below(e, in.job), err) // it may just have ended
			continue
		}
		t.in = append(t.in, sub)
	}
	return t, nil
}

// addRunning adds the running jobs to a list.
func addRunning(ctx context.Context, c *client.Client, list []*api.JobInfo) ([]*api.JobInfo, error) {
	l := &jobListing{ctx: ctx, c: c, req: api.ListReq{States: int(jobspec.StatesRunning)}}
	defer l.close()
	err := eachJob(l.next, func(j *api.JobInfo) error {
		if !slices.ContainsFunc(list, func(k *api.JobInfo) bool { return k.ID == j.ID }) {
			list = append(list, j)
		}
		return nil
	})
	return list, err
}

// subtree is the tree of an instance below. Of one that has ended all jobs are listed that the filter does not exclude by name.
func (p *jobsPlan) subtree(ctx context.Context, e *env, in nested, path string, levels int) (*jobTree, error) {
	c, err := e.dial(ctx, in.uri)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if p.inspect != nil {
		p.inspect(ctx, c, in)
	}
	q := *p
	q.req.IDs, q.req.States = nil, p.below
	if jobspec.State(in.job.State) == jobspec.StateInactive && p.below == int(jobspec.StatesActive) {
		q.req.States = 0
	}
	return q.tree(ctx, e, c, in.uri, path, levels)
}
