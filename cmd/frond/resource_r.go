package main

import (
	"io"

	"github.com/frond-hpc/frond/resource"
	"github.com/spf13/cobra"
)

func newResourceRCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "R",
		Short: "Print the instance's resources as R version 1",
		Long: `Print the instance's resources as R version 1 (Flux RFC 20), one line of JSON.

Exit codes: 0, or 1 when the instance does not answer.`,
		Example: "  frond resource R | jq .execution.nodelist",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := nodeStatus(cmd.Context(), e)
			if err != nil {
				return err
			}
			nodes := make([]resource.Node, len(status))
			for i := range status {
				nodes[i] = status[i].Node
			}
			_, err = io.WriteString(e.stdout, string(resource.EncodeNodes(nodes))+"\n")
			return err
		},
	}
}
