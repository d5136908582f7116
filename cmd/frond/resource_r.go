package main

import (
	"io"
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/resource"
	"github.com/spf13/cobra"
)

func newResourceRCmd(e *env) *cobra.Command {
	states, choice := "all", nodeChoice{}
	cmd := &cobra.Command{
		Use:   "R [-s STATES] [-q QUEUE] [-i TARGETS]",
		Short: "Print the instance's resources as R version 1",
		Long: `Print the instance's resources, or what of them is in some states, as R version 1 (Flux RFC 20), one
line of JSON.

Exit codes: 0, or 1 when the instance does not answer.`,
		Example: "  frond resource R | jq .execution.nodelist\n  frond resource R -s free",
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
			_, err = io.WriteString(e.stdout, string(resource.EncodeR(resource.R{Nodes: nodesIn(rep.Nodes, wanted), Expiration: rep.Expiration}))+"\n")
			return err
		},
	}
	cmd.Flags().StringVarP(&states, "states", "s", "all", "what is in these states: free, allocated, down, up, all")
	choice.add(cmd.Flags())
	return cmd
}

// nodesIn are the parts of nodes that are in the wanted states, as usageGroups counts them.
func nodesIn(status []api.NodeStatus, wanted []string) []resource.Node {
	var nodes []resource.Node
	for i := range status {
		s := &status[i]
		n := s.Node
		if len(wanted) < len(listStates) {
			var cores, gpus resource.Mask
			up := s.Online && !s.Drained
			if slices.Contains(wanted, "allocated") {
				cores, gpus = s.Used.Cores.Intersect(n.Cores), s.Used.GPUs.Intersect(n.GPUs)
			}
			if slices.Contains(wanted, "free") && up {
				cores, gpus = cores.Union(n.Cores.Minus(s.Used.Cores)), gpus.Union(n.GPUs.Minus(s.Used.GPUs))
			}
			if slices.Contains(wanted, "down") && !up {
				cores, gpus = n.Cores, n.GPUs
			}
			if n.Cores, n.GPUs = cores, gpus; cores.Empty() && gpus.Empty() {
				continue
			}
		}
		nodes = append(nodes, n)
	}
	return nodes
}
