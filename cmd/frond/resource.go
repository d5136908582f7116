package main

import (
	"context"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newResourceCmd is `frond resource`.
func newResourceCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "resource COMMAND",
		Short:   "Nodes of the instance: what is free, allocated, down or drained",
		Example: "  frond resource list\n  frond resource drain node3 'bad disk'",
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newResourceListCmd(e), newResourceInfoCmd(e), newResourceStatusCmd(e), newResourceDrainCmd(e), newResourceUndrainCmd(e),
		newResourceRCmd(e), newResourceEventlogCmd(e))
	return cmd
}

// nodeChoice is which nodes the options -i and -q choose.
type nodeChoice struct{ include, queues string }

func (n *nodeChoice) add(f *pflag.FlagSet) {
	f.StringVarP(&n.include, "include", "i", "", "only these nodes: ranks or names (`TARGETS`)")
	f.StringVarP(&n.queues, "queue", "q", "", "only nodes on which jobs of one of these `QUEUES` can run")
}

// nodeStatus asks for the nodes that are chosen.
func nodeStatus(ctx context.Context, e *env, choice nodeChoice) ([]api.NodeStatus, error) {
	rep, err := resourceStatus(ctx, e, choice)
	return rep.Nodes, err
}

// resourceStatus is nodeStatus, with named counters.
func resourceStatus(ctx context.Context, e *env, choice nodeChoice) (rep api.ResourceStatusRep, err error) {
	wanted, err := nodeFilter(choice.include)
	if err != nil {
		return rep, err
	}
	err = e.connected(ctx, func(c *client.Client) error {
		serves, err := queueFilter(ctx, c, choice.queues)
		if err != nil {
			return err
		}
		if rep, err = client.Call(ctx, c, api.ResourceStatus, api.Empty{}); err != nil {
			return err
		}
		rep.Nodes = slices.DeleteFunc(rep.Nodes, func(n api.NodeStatus) bool { return !wanted(n.Node.Index, n.Node.Name) || !serves(&n) })
		return nil
	})
	return rep, err
}

// queueFilter tells which nodes have the properties that one of the queues requires.
func queueFilter(ctx context.Context, c *client.Client, names string) (func(*api.NodeStatus) bool, error) {
	if names == "" {
		return func(*api.NodeStatus) bool { return true }, nil
	}
	list, err := queues(ctx, c, strings.Split(names, ","))
	if err != nil {
		return nil, err
	}
	var needs []*jobspec.Constraint
	for i := range list {
		needs = append(needs, &jobspec.Constraint{Op: "properties", Names: list[i].Requires})
	}
	any := &jobspec.Constraint{Op: "or", Sub: needs}
	return func(n *api.NodeStatus) bool { return any.Match(statusTarget{n}) }, nil
}

// statusTarget is a node as constraints see it.
type statusTarget struct{ n *api.NodeStatus }

func (t statusTarget) Rank() int    { return t.n.Node.Index }
func (t statusTarget) Host() string { return t.n.Node.Name }
func (t statusTarget) HasProperty(name string) bool {
	return slices.Contains(t.n.Node.Properties, name)
}

// nodeGroup is a row of a table of resources: nodes that are alike.
type nodeGroup struct {
	state      string
	properties string
	online     bool
	reason     string
	time       float64
	cores      int
	gpus       int
	ranks      idset.Set
	names      []string
}

// add counts a part of a node in.
func (g *nodeGroup) add(n *api.NodeStatus, cores, gpus int) {
	g.cores += cores
	g.gpus += gpus
	if !g.ranks.Has(n.Node.Index) {
		g.ranks.Add(n.Node.Index)
		g.names = append(g.names, n.Node.Name)
	}
}

// groupHeaders are the fields of a nodeGroup.
var groupHeaders = map[string]string{
	"state": "STATE", "up": "UP", "status": "STATUS", "nnodes": "NNODES", "ncores": "NCORES", "ngpus": "NGPUS", "ranks": "RANKS",
	"nodelist": "NODELIST", "properties": "PROPERTIES", "reason": "REASON", "timestamp": "TIME",
}

func groupHeader(name string) (string, bool) {
	h, ok := groupHeaders[name]
	return h, ok
}

// record gives the fields; ascii avoids signs outside ASCII.
func (g *nodeGroup) record(ascii bool) record {
	return func(name string) any {
		switch name {
		case "state":
			return g.state
		case "up":
			return upSign(g.online, ascii)
		case "status":
			return onlineText(g.online)
		case "nnodes":
			return g.ranks.Len()
		case "ncores":
			return g.cores
		case "ngpus":
			return g.gpus
		case "ranks":
			return g.ranks.String()
		case "nodelist":
			return hostlist.Encode(g.names)
		case "properties":
			return g.properties
		case "reason":
			return g.reason
		}
		return unset(g.time)
	}
}

func upSign(online, ascii bool) string {
	switch {
	case online && ascii:
		return "y"
	case online:
		return "✔"
	case ascii:
		return "n"
	}
	return "✗"
}

func onlineText(online bool) string {
	if online {
		return "online"
	}
	return "offline"
}

// json is the group for programs.
func (g *nodeGroup) json() map[string]any {
	m := map[string]any{"state": g.state, "nnodes": g.ranks.Len(), "ncores": g.cores, "ngpus": g.gpus, "ranks": g.ranks.String(),
		"nodelist": hostlist.Encode(g.names), "properties": splitProperties(g.properties)}
	if g.reason != "" {
		m["reason"] = g.reason
	}
	if g.time != 0 {
		m["timestamp"] = g.time
	}
	return m
}

func splitProperties(s string) []string {
	if s == "" {
		return []string{}
	}
	return strings.Split(s, ",")
}

// groups collects nodeGroups by key, in the order of their keys' first use.
type groups struct {
	list []*nodeGroup
	by   map[string]*nodeGroup
}

func (s *groups) get(key string, make func() *nodeGroup) *nodeGroup {
	g, ok := s.by[key]
	if !ok {
		g = make()
		if s.by == nil {
			s.by = map[string]*nodeGroup{}
		}
		s.by[key] = g
		s.list = append(s.list, g)
	}
	return g
}

// inStates keeps the groups whose state is wanted, in the order of states.
func (s *groups) inStates(states []string) []*nodeGroup {
	var out []*nodeGroup
	for _, st := range states {
		for _, g := range s.list {
			if g.state == st {
				out = append(out, g)
			}
		}
	}
	return out
}

// printGroups prints groups as a table.
func printGroups(e *env, list []*nodeGroup, f *format, noHeader bool) error {
	rows := make([]record, len(list))
	for i, g := range list {
		rows[i] = g.record(e.asciiIDs())
	}
	t := table{format: f, noHeader: noHeader}
	if e.useColor(e.stdout) {
		t.color = stateColor
	}
	return t.write(e.stdout, rows)
}

// stateColor is the color of a row of resources.
func stateColor(r record) string {
	if r("nnodes") == 0 {
		return ""
	}
	switch text(r("state")) {
	case "down", "offline":
		return colorRed
	case "drained", "draining":
		return colorYellow
	}
	return ""
}

// parseStates reads a list of states that must be among known; aliases expands others.
func parseStates(s string, known []string, aliases map[string][]string) ([]string, error) {
	if s == "" {
		return known, nil
	}
	var states []string
	for name := range strings.SplitSeq(strings.ToLower(s), ",") {
		switch {
		case slices.Contains(known, name):
			states = append(states, name)
		case aliases[name] != nil:
			states = append(states, aliases[name]...)
		default:
			return nil, unknownState(name, known)
		}
	}
	return states, nil
}
