package main

import (
	"fmt"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/resource"
	"github.com/spf13/cobra"
)

// statusFormats are the named formats of `frond resource status -o`, laid out as Flux's.
var statusFormats = map[string]string{
	"default": "{state:>10} {up:>2} {nnodes:>6} {nodelist}",
	"long":    "{state:>10} {up:>2} {nnodes:>6} {ranks:<15.15+} {reason:<25.25+} {nodelist}",
}

// drainFormats are those of `frond resource drain` without arguments.
var drainFormats = map[string]string{
	"default": "{timestamp!d:%b%d %R::<12} {state:<8.8} {ranks:<8.8+} {reason:<30.30+} {nodelist}",
	"long":    "{timestamp!d:%FT%T::<20} {state:<8.8} {ranks:<8.8+} {reason:<30.30+} {nodelist}",
}

var (
	statusStates  = []string{"avail", "draining", "drained"}
	statusAliases = map[string][]string{"all": statusStates, "drain": {"draining", "drained"}}
)

type resourceStatusOptions struct {
	states, format string
	noHeader, json bool
	choice         nodeChoice
	skipEmpty      bool
}

func newResourceStatusCmd(e *env) *cobra.Command {
	o := &resourceStatusOptions{}
	cmd := &cobra.Command{
		Use:   "status [OPTIONS]",
		Short: "List nodes by availability",
		Long: `List the nodes that are available, draining (drained, with jobs still running) and drained, and
whether they are online.

Exit codes: 0, or 1 when the instance does not answer.`,
		Example: "  frond resource status -o long",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd, e) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.states, "states", "s", "", "only these states: avail, draining, drained, drain, online, offline, all")
	f.StringVarP(&o.format, "format", "o", "", "output format or its name; help lists them")
	f.BoolVarP(&o.noHeader, "no-header", "n", false, "no line of headers")
	f.BoolVar(&o.json, "json", false, "print one JSON object with all nodes")
	f.BoolVar(&o.skipEmpty, "skip-empty", false, "leave out states without nodes (always done)")
	o.choice.add(f)
	f.StringVarP(&e.color, "color", "L", "auto", "colour the output: auto, always or never")
	return cmd
}

func (o *resourceStatusOptions) run(cmd *cobra.Command, e *env) error {
	if o.format == "help" {
		return printFormats(e.stdout, "frond resource status", statusFormats, groupHeaders)
	}
	keep, states, err := o.filter()
	if err != nil {
		return err
	}
	f, err := pickFormat(e, o.format, "FROND_RESOURCE_STATUS_FORMAT_DEFAULT", statusFormats, groupHeader)
	if err != nil {
		return err
	}
	nodes, err := nodeStatus(cmd.Context(), e, o.choice)
	if err != nil {
		return err
	}
	if o.json {
		return printNodesJSON(e, nodes, func(n *api.NodeStatus) bool { return keep(n) })
	}
	list := availabilityGroups(nodes, keep, usesReason(f))
	return printGroups(e, list.inStates(states), f, o.noHeader)
}

// filter turns --states into a condition on nodes and the states to list. online and offline narrow the others.
func (o *resourceStatusOptions) filter() (keep func(*api.NodeStatus) bool, states []string, err error) {
	switch o.states {
	case "online", "offline":
		return func(n *api.NodeStatus) bool { return n.Online == (o.states == "online") }, statusStates, nil
	}
	if states, err = parseStates(o.states, statusStates, statusAliases); err != nil {
		return nil, nil, fmt.Errorf("%w, online, offline, all", err)
	}
	return func(n *api.NodeStatus) bool {
		for _, s := range states {
			if s == availability(n) {
				return true
			}
		}
		return false
	}, states, nil
}

// availability is avail, draining or drained.
func availability(n *api.NodeStatus) string {
	switch {
	case !n.Drained:
		return "avail"
	case n.Used.Cores.Count()+n.Used.GPUs.Count() > 0:
		return "draining"
	}
	return "drained"
}

func usesReason(f *format) bool {
	for _, name := range f.fields() {
		if name == "reason" || name == "timestamp" {
			return true
		}
	}
	return false
}

// availabilityGroups groups nodes by availability and presence, and by reason where that is shown.
func availabilityGroups(nodes []api.NodeStatus, keep func(*api.NodeStatus) bool, byReason bool) *groups {
	s := &groups{}
	for i := range nodes {
		n := &nodes[i]
		if !keep(n) {
			continue
		}
		state := availability(n)
		key := state + onlineText(n.Online)
		if byReason && n.Drained {
			key += fmt.Sprintf("\x00%s\x00%v", n.Reason, n.Time)
		}
		g := s.get(key, func() *nodeGroup {
			g := &nodeGroup{state: state, online: n.Online}
			if byReason {
				g.reason, g.time = n.Reason, n.Time
			}
			return g
		})
		g.add(n, n.Node.Cores.Count(), n.Node.GPUs.Count())
	}
	return s
}

// printNodesJSON prints every node on its own.
func printNodesJSON(e *env, nodes []api.NodeStatus, keep func(*api.NodeStatus) bool) error {
	a := newJSONArray(e.stdout, "nodes")
	for i := range nodes {
		if !keep(&nodes[i]) {
			continue
		}
		if err := a.add(nodeJSON(&nodes[i])); err != nil {
			return err
		}
	}
	return a.close()
}

func nodeJSON(n *api.NodeStatus) map[string]any {
	props := n.Node.Properties
	if props == nil {
		props = []string{}
	}
	m := map[string]any{"rank": n.Node.Index, "name": n.Node.Name, "broker": n.Node.Broker, "state": availability(n), "online": n.Online,
		"cores": n.Node.Cores.String(), "gpus": n.Node.GPUs.String(), "ncores": n.Node.Cores.Count(), "ngpus": n.Node.GPUs.Count(),
		"memory_mib": n.Node.MemMiB, "properties": props, "allocated_cores": n.Used.Cores.String(), "allocated_gpus": resource.FormatGPUs(n.Used.GPUs, n.Used.GPUParts)}
	if n.Drained {
		m["reason"], m["timestamp"] = n.Reason, n.Time
	}
	return m
}
