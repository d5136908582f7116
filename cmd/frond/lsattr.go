package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/spf13/cobra"
)

type lsattrOptions struct {
	rank   int
	values bool
	json   bool
}

func newLsattrCmd(e *env) *cobra.Command {
	o := &lsattrOptions{}
	cmd := &cobra.Command{
		Use:   "lsattr",
		Short: "List the attributes of a broker",
		Long: `List the names of a broker's attributes: its rank, the size and name of the instance, its directories.

Exit codes: 0, or 1 when there is no such broker.`,
		Example: "  frond lsattr -v",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), e) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.values, "values", "v", false, "with their values")
	f.IntVarP(&o.rank, "rank", "r", -1, "ask the broker with this `RANK`")
	f.BoolVar(&o.json, "json", false, "print one JSON object of names and values")
	return cmd
}

func (o *lsattrOptions) run(ctx context.Context, e *env) error {
	return e.connected(ctx, func(c *client.Client) error {
		rep, err := call(ctx, c, api.AttrList, rankTarget(o.rank), api.Empty{})
		if err != nil {
			return err
		}
		if o.json {
			return writeJSON(e.stdout, rep.Attrs)
		}
		for _, name := range slices.Sorted(maps.Keys(rep.Attrs)) {
			if o.values {
				fmt.Fprintf(e.stdout, "%-24s %s\n", name, rep.Attrs[name])
			} else {
				fmt.Fprintln(e.stdout, name)
			}
		}
		return nil
	})
}
