package main

import (
	"context"
	"strconv"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource/idset"
	"github.com/spf13/cobra"
)

func newOverlayCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "overlay",
		Short:   "Look at the tree of brokers",
		Example: "  frond overlay status",
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newOverlayStatusCmd(e))
	return cmd
}

func newOverlayStatusCmd(e *env) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show all brokers with their state and place in the tree, lost ones included",
		Long: `Show all brokers with their rank, state, parent and children. Lost ones stay in the list.

Exit codes: 0, or 1 when there is no instance.`,
		Example: "  frond overlay status\n  frond overlay status --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.connected(cmd.Context(), func(c *client.Client) error { return overlayStatus(cmd.Context(), e, c, asJSON) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list with rank, name, host, pid, state, parent and children")
	return cmd
}

func overlayStatus(ctx context.Context, e *env, c *client.Client, asJSON bool) error {
	rep, err := call(ctx, c, api.OverlayStatus, wire.Any, api.Empty{})
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(e.stdout, flatMembers(rep.Members))
	}
	var rows [][]any
	for _, m := range rep.Members {
		rows = append(rows, []any{m.Rank, m.Name, m.Host, m.PID, m.State, parentText(m.Parent), childrenText(m.Children), m.Reason})
	}
	return columns(e.stdout, "RANK NAME HOST PID STATE PARENT CHILDREN REASON", rows)
}

// flatMembers makes empty lists of children [] in JSON, and the whole [] if there is no member.
func flatMembers(members []api.Member) []api.Member {
	out := make([]api.Member, len(members))
	for i, m := range members {
		if m.Children == nil {
			m.Children = []int32{}
		}
		out[i] = m
	}
	return out
}

func parentText(parent int32) string {
	if parent < 0 {
		return "-"
	}
	return strconv.Itoa(int(parent))
}

func childrenText(children []int32) string {
	if len(children) == 0 {
		return "-"
	}
	var set idset.Set
	for _, rank := range children {
		set.Add(int(rank))
	}
	return set.String()
}
