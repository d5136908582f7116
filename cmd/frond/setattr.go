package main

import (
	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/spf13/cobra"
)

func newSetattrCmd(e *env) *cobra.Command {
	rank, force := -1, false
	cmd := &cobra.Command{
		Use:   "setattr [OPTIONS] NAME VALUE",
		Short: "Set an attribute of a broker",
		Long: `Set an attribute of a broker, which 'frond getattr' then shows until the broker ends. Those that the broker has of itself cannot be set.

Exit codes: 0, or 1 when the attribute cannot be set.`,
		Example: "  frond setattr --force my.note 'do not touch'",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.connected(cmd.Context(), func(c *client.Client) error {
				_, err := call(cmd.Context(), c, api.AttrSet, rankTarget(rank), api.AttrSetReq{Name: args[0], Value: args[1], Create: force})
				return err
			})
		},
	}
	f := cmd.Flags()
	f.IntVarP(&rank, "rank", "r", -1, "of the broker with this `RANK`")
	f.BoolVarP(&force, "force", "f", false, "make an attribute that is not there")
	return cmd
}
