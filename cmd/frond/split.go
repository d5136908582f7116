package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/branchsvc"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

type splitCmd struct {
	json   bool
	within string
}

func newSplitCmd(e *env) *cobra.Command {
	o := &splitCmd{}
	cmd := &cobra.Command{
		Use:   "split [flags] [KxL…|off]",
		Short: "Make branches that run slices of the queue, or do away with them",
		Long: `A branch is an instance that this one makes for itself, on nodes of its own. It gets slices of the queue and runs them with a scheduler of its
own, so that many jobs start at a time; all commands go on as if there was one queue. 4 makes four branches, 4x8 makes four with eight below
each. For a job that fits no branch they make way, and come back when it has ended.

One that has failed is made again after a while; until then its nodes are the instance's own. If all have failed, it is no longer split.

off takes back what has not started, lets the rest end, and gives the nodes back. Without an argument the branches are listed;
WORK is the cores of what each has been given.

Exit code: 0; 1 if it cannot be done, and then nothing is changed.`,
		Example: `  frond split 4x8
  frond split
  frond split off`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	cmd.Flags().StringVar(&o.within, "start-time", "", "how long a branch may take to come up once its nodes are free, a `DURATION` (default: 2m)")
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON: {\"branches\": […]}")
	return cmd
}

func (o *splitCmd) run(ctx context.Context, e *env, args []string) error {
	req := api.BranchSplitReq{}
	if o.within != "" {
		s, err := jobspec.ParseFSD(o.within)
		if err != nil || s < 1 || s > 24*3600 {
			return fmt.Errorf("--start-time %s: must be between 1s and 24h", o.within)
		}
		req.Within = s
	}
	if len(args) > 0 && args[0] != "off" {
		var err error
		if req.Widths, err = branchsvc.ParseWidths(args[0]); err != nil {
			return err
		}
	}
	return e.connected(ctx, func(c *client.Client) error {
		if len(args) > 0 {
			_, err := call(ctx, c, api.BranchSplit, wire.Any, req)
			return err
		}
		rep, err := call(ctx, c, api.BranchStatus, wire.Any, api.Empty{})
		if err != nil {
			return err
		}
		if o.json {
			return writeJSON(e.stdout, map[string]any{"split": branchsvc.Widths(rep.Widths), "branches": rep.Branches})
		}
		fmt.Fprintf(e.stdout, "%6s %-9s %6s %6s %8s %s\n", "BRANCH", "STATE", "NNODES", "NCORES", "WORK", "JOBID")
		for _, b := range rep.Branches {
			fmt.Fprintln(e.stdout, strings.TrimRight(fmt.Sprintf("%6d %-9s %6s %6d %8d %v  %s", b.Branch, b.State, b.Nodes, b.Cores, b.Held, b.Job, b.Note), " "))
		}
		return nil
	})
}
