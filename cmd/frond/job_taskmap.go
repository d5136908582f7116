package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
	"github.com/spf13/cobra"
)

type taskmapOptions struct {
	taskids, ntasks, nodeid, hostname int
	to                                string
}

func newJobTaskmapCmd(e *env) *cobra.Command {
	o := &taskmapOptions{}
	cmd := &cobra.Command{
		Use:   "taskmap [OPTIONS] JOBID|TASKMAP",
		Short: "Tell which tasks of a job are on which of its nodes",
		Long: `Print the task map of a job that has or had resources, or convert one that is given. Formats (--to) are
raw (ids of tasks by node), pmi, multiline (task: node) and hosts (task: host); the default is that of Flux's RFC 34.

Exit codes: 0, or 1 when the job is unknown or has no resources yet, or there is no such task or node.`,
		Example: "  frond job taskmap --to=hosts f2Gk\n  frond job taskmap --nodeid=3 f2Gk",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args[0]) },
	}
	f := cmd.Flags()
	f.IntVar(&o.taskids, "taskids", -1, "print the tasks on node `NODEID` of the job")
	f.IntVar(&o.ntasks, "ntasks", -1, "print how many tasks are on node `NODEID`")
	f.IntVar(&o.nodeid, "nodeid", -1, "print the node of task `TASKID`")
	f.IntVar(&o.hostname, "hostname", -1, "print the name of the host of task `TASKID`")
	f.StringVar(&o.to, "to", "", "print in another `FORMAT`: raw, pmi, multiline or hosts")
	return cmd
}

func (o *taskmapOptions) run(ctx context.Context, e *env, arg string) error {
	var hosts []string
	text := arg
	if !strings.HasPrefix(arg, "[") && !strings.HasPrefix(arg, "{") && !strings.ContainsAny(arg, ";(") {
		var err error
		if text, hosts, err = fetchTaskmap(ctx, e, arg); err != nil {
			return err
		}
	}
	m, err := jobspec.ParseTaskmap(text)
	if err != nil {
		return err
	}
	out, err := o.show(m, hosts)
	if err == nil {
		fmt.Fprintln(e.stdout, out)
	}
	return err
}

// fetchTaskmap asks for the task map and the hosts of a job.
func fetchTaskmap(ctx context.Context, e *env, arg string) (text string, hosts []string, err error) {
	id, err := e.parseOneID(arg)
	if err != nil {
		return "", nil, err
	}
	err = e.connected(ctx, func(c *client.Client) error {
		rep, err := client.Call(ctx, c, api.Info, api.InfoReq{ID: id, Key: "taskmap"})
		if err != nil {
			return infoError(e, id, err)
		}
		text = rep.Value
		if rep, err = client.Call(ctx, c, api.Info, api.InfoReq{ID: id, Key: "R"}); err != nil {
			return infoError(e, id, err)
		}
		var r struct {
			Execution struct {
				Nodelist []string `json:"nodelist"`
			} `json:"execution"`
		}
		if err := json.Unmarshal([]byte(rep.Value), &r); err != nil {
			return fmt.Errorf("read R of %s: %w", arg, err)
		}
		hosts, err = hostlist.Parse(strings.Join(r.Execution.Nodelist, ","))
		return err
	})
	return text, hosts, err
}

// show is what was asked for.
func (o *taskmapOptions) show(m jobspec.Taskmap, hosts []string) (string, error) {
	nodes := m.Counts(0)
	where := make(map[int]int)
	last := -1
	for node := range nodes {
		for _, t := range m.Tasks(node) {
			where[t] = node
			last = max(last, t)
		}
	}
	switch {
	case o.taskids >= 0 || o.ntasks >= 0:
		node := max(o.taskids, o.ntasks)
		if node >= len(nodes) {
			return "", fmt.Errorf("there is no node %d: the job has %d", node, len(nodes))
		}
		if o.ntasks >= 0 {
			return fmt.Sprint(nodes[node]), nil
		}
		return idset.Of(m.Tasks(node)...).String(), nil
	case o.nodeid >= 0 || o.hostname >= 0:
		node, ok := where[max(o.nodeid, o.hostname)]
		if !ok {
			return "", fmt.Errorf("there is no task %d: the job has %d", max(o.nodeid, o.hostname), last+1)
		}
		if o.nodeid >= 0 {
			return fmt.Sprint(node), nil
		}
		return hostOf(hosts, node)
	}
	return o.convert(m, len(nodes), where, hosts)
}

func (o *taskmapOptions) convert(m jobspec.Taskmap, nodes int, where map[int]int, hosts []string) (string, error) {
	var parts []string
	switch o.to {
	case "":
		return m.String(), nil
	case "raw":
		for node := range nodes {
			parts = append(parts, idset.Of(m.Tasks(node)...).String())
		}
		return strings.Join(parts, ";"), nil
	case "pmi":
		return m.PMI(), nil
	case "multiline", "hosts":
		for t := range len(where) {
			name := fmt.Sprint(where[t])
			if o.to == "hosts" {
				var err error
				if name, err = hostOf(hosts, where[t]); err != nil {
					return "", err
				}
			}
			parts = append(parts, fmt.Sprintf("%d: %s", t, name))
		}
		return strings.Join(parts, "\n"), nil
	}
	return "", fmt.Errorf("--to: there is no format %q; use raw, pmi, multiline or hosts", o.to)
}

func hostOf(hosts []string, node int) (string, error) {
	if node >= len(hosts) {
		return "", fmt.Errorf("hosts are known of a job only, not of a task map")
	}
	return hosts[node], nil
}
