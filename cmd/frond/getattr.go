package main

import (
	"context"
	"fmt"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/spf13/cobra"
)

func newGetattrCmd(e *env) *cobra.Command {
	rank := -1
	cmd := &cobra.Command{
		Use:   "getattr NAME",
		Short: "Show one attribute of a broker",
		Long: `Show one attribute of a broker.

Exit codes: 0, or 1 when there is no such attribute.`,
		Example: `  frond getattr size
  frond getattr -r 3 local-uri`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.connected(cmd.Context(), func(c *client.Client) error {
				rep, err := call(cmd.Context(), c, api.AttrGet, rankTarget(rank), api.AttrReq{Name: args[0]})
				if err != nil && args[0] == "hostlist" {
					rep.Value, err = hostlistAttr(cmd.Context(), c)
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(e.stdout, rep.Value)
				return err
			})
		},
	}
	cmd.Flags().IntVarP(&rank, "rank", "r", -1, "ask the broker with this `RANK`")
	return cmd
}

// hostlistAttr is Flux's attribute hostlist, the hosts of the brokers by rank, which only the leader can know.
func hostlistAttr(ctx context.Context, c *client.Client) (string, error) {
	tree, err := call(ctx, c, api.OverlayStatus, wire.Any, api.Empty{})
	if err != nil {
		return "", err
	}
	var hosts []string
	for _, m := range tree.Members {
		if m.State != "left" {
			hosts = append(hosts, m.Host)
		}
	}
	return hostlist.Encode(hosts), nil
}
