package main

import (
	"fmt"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/spf13/cobra"
)

// resourceFormats are the named formats of `frond resource list -o`, laid out as Flux's.
var resourceFormats = map[string]string{
	"default": "{state:>10} ?:{properties:<10.10+} {nnodes:>6} {ncores:>8} {ngpus:>8} {nodelist}",
	"rlist":   "{state:>10} ?:{properties:<10.10+} {nnodes:>6} {ncores:>8} {ngpus:>8} {ranks}",
}

var (
	listStates  = []string{"free", "allocated", "down"}
	listAliases = map[string][]string{"all": listStates, "up": {"free", "allocated"}}
)

type resourceListOptions struct {
	states, format string
	noHeader, json bool
	choice         nodeChoice
	skipEmpty      bool
	noSkipEmpty    bool
}

func newResourceListCmd(e *env) *cobra.Command {
	o := &resourceListOptions{}
	cmd := &cobra.Command{
		Use:   "list [OPTIONS]",
		Short: "List what is free, allocated and down",
		Long: `List the nodes, cores and gpus that are free, allocated and down (offline or drained). A node of
which a part is allocated counts in both rows. Named counters (frond start --resource) follow, unless -o is given.

Exit codes: 0, or 1 when the instance does not answer.`,
		Example: "  frond resource list -s free -n -o '{ncores}'",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd, e) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.states, "states", "s", "", "only these states: free, allocated, down, up, all")
	f.StringVarP(&o.format, "format", "o", "", "output format or its name; help lists them")
	f.BoolVarP(&o.noHeader, "no-header", "n", false, "no line of headers")
	f.BoolVar(&o.skipEmpty, "skip-empty", false, "leave out states without nodes")
	f.BoolVar(&o.noSkipEmpty, "no-skip-empty", false, "do not leave them out (the default)")
	o.choice.add(f)
	f.BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

func (o *resourceListOptions) run(cmd *cobra.Command, e *env) error {
	if o.format == "help" {
		return printFormats(e.stdout, "frond resource list", resourceFormats, groupHeaders)
	}
	states, err := parseStates(o.states, listStates, listAliases)
	if err != nil {
		return err
	}
	f, err := pickFormat(e, o.format, "FROND_RESOURCE_LIST_FORMAT_DEFAULT", resourceFormats, groupHeader)
	if err != nil {
		return err
	}
	rep, err := resourceStatus(cmd.Context(), e, o.choice)
	if err != nil {
		return err
	}
	list := usageGroups(rep.Nodes, !o.skipEmpty || o.noSkipEmpty).inStates(states)
	if o.json {
		return printResourcesJSON(e, list, rep.Counters)
	}
	if err := printGroups(e, list, f, o.noHeader); err != nil || len(rep.Counters) == 0 || o.format != "" {
		return err
	}
	return printCounters(e, rep.Counters, o.noHeader)
}

// printCounters prints the named counters as a table of its own below that of the nodes.
func printCounters(e *env, list []api.CounterUse, noHeader bool) error {
	rows := make([]record, len(list))
	for i, c := range list {
		rows[i] = func(name string) any {
			switch name {
			case "name":
				return c.Name
			case "total":
				return c.Total
			case "used":
				return c.Used
			}
			return max(0, c.Total-c.Used)
		}
	}
	f, err := parseFormat("{name:>10.20+} {free:>6} {used:>8} {total:>8}", func(name string) (string, bool) {
		if name == "name" {
			return "RESOURCE", true
		}
		return strings.ToUpper(name), true
	})
	if err != nil {
		return err
	}
	if !noHeader {
		fmt.Fprintln(e.stdout)
	}
	t := table{format: f, noHeader: noHeader}
	return t.write(e.stdout, rows)
}

func printResourcesJSON(e *env, list []*nodeGroup, counters []api.CounterUse) error {
	groups := make([]map[string]any, len(list))
	for i, g := range list {
		groups[i] = g.json()
	}
	out := map[string]any{"resources": groups}
	if len(counters) > 0 {
		out["counters"] = counters
	}
	return writeJSON(e.stdout, out)
}

// usageGroups splits nodes into free, allocated and down parts. withEmpty has a row for states without nodes.
func usageGroups(nodes []api.NodeStatus, withEmpty bool) *groups {
	s := &groups{}
	for i := range nodes {
		n := &nodes[i]
		props := strings.Join(n.Node.Properties, ",")
		add := func(state string, cores, gpus int) {
			g := s.get(state+"\x00"+props, func() *nodeGroup { return &nodeGroup{state: state, properties: props} })
			g.add(n, cores, gpus)
		}
		cores, gpus := n.Node.Cores.Count(), n.Node.GPUs.Count()
		usedCores, usedGPUs := n.Used.Cores.Count(), n.Used.GPUs.Count()
		if usedCores+usedGPUs > 0 {
			add("allocated", usedCores, usedGPUs)
		}
		switch {
		case !n.Online || n.Drained:
			add("down", cores, gpus)
		case cores > usedCores || gpus > usedGPUs:
			add("free", cores-usedCores, gpus-usedGPUs)
		}
	}
	if withEmpty {
		s.fill(listStates)
	}
	return s
}

// fill adds an empty group for each state that has none.
func (s *groups) fill(states []string) {
	for _, st := range states {
		if len(s.inStates([]string{st})) == 0 {
			s.get(st, func() *nodeGroup { return &nodeGroup{state: st} })
		}
	}
}

func unknownState(name string, known []string) error {
	return fmt.Errorf("unknown state %q: there are %s", name, strings.Join(known, ", "))
}

func newResourceInfoCmd(e *env) *cobra.Command {
	states, choice, asJSON := "all", nodeChoice{}, false
	cmd := &cobra.Command{
		Use:   "info [--json] [-s STATES] [-q QUEUE] [-i TARGETS]",
		Short: "Print how many nodes, cores and gpus there are",
		Long: `Print how many nodes, cores and gpus there are, in one line, and for how long, where the instance's end is known.

Exit codes: 0, or 1 when the instance does not answer.`,
		Example: "  frond resource info -s free",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			wanted, err := parseStates(states, listStates, listAliases)
			if err != nil {
				return err
			}
			rep, err := resourceStatus(cmd.Context(), e, choice)
			if err != nil {
				return err
			}
			sum := resourceInfo(rep.Nodes, wanted)
			if asJSON {
				sum.Expiration = rep.Expiration
				return writeJSON(e.stdout, sum)
			}
			_, err = fmt.Fprintln(e.stdout, sum.text()+leftText(", ", rep.Expiration))
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	cmd.Flags().StringVarP(&states, "states", "s", "all", "count these states: free, allocated, down, up, all")
	choice.add(cmd.Flags())
	return cmd
}

// totals are numbers of nodes, cores and gpus.
type totals struct {
	NNodes     int     `json:"nnodes"`
	NCores     int     `json:"ncores"`
	NGPUs      int     `json:"ngpus"`
	Expiration float64 `json:"expiration"` // of the instance, epoch seconds; 0 = unknown
}

func (t totals) text() string {
	return fmt.Sprintf("%s, %s, %s", plural(t.NNodes, "Node"), plural(t.NCores, "Core"), plural(t.NGPUs, "GPU"))
}

// resourceInfo counts what is in the wanted states. A drained node's allocated part is not counted twice.
func resourceInfo(nodes []api.NodeStatus, wanted []string) totals {
	sum := &nodeGroup{}
	if len(wanted) == len(listStates) {
		for i := range nodes {
			sum.add(&nodes[i], nodes[i].Node.Cores.Count(), nodes[i].Node.GPUs.Count())
		}
	} else {
		for _, g := range usageGroups(nodes, false).inStates(wanted) {
			sum.cores += g.cores
			sum.gpus += g.gpus
			sum.ranks = sum.ranks.Union(g.ranks)
		}
	}
	return totals{NNodes: sum.ranks.Len(), NCores: sum.cores, NGPUs: sum.gpus}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
