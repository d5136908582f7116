package main

import (
	"context"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

func newJobListCmd(e *env) *cobra.Command {
	all, count, states := false, 1000, ""
	cmd := &cobra.Command{
		Use:   "list [OPTIONS]",
		Short: "List jobs for programs, a JSON object a line",
		Long: `Print the jobs that are active, with -a all, each as a JSON object on a line of its own (the fields of 'frond jobs --json').

Exit codes: 0, or 1 for an error.`,
		Example: "  frond job list -a -c 10",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return listLines(cmd.Context(), e, all, count, states)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "jobs in all states")
	f.IntVarP(&count, "count", "c", 1000, "at most `N` jobs, 0 for all")
	f.StringVarP(&states, "states", "s", "", "only these `STATES` or results")
	return cmd
}

func listLines(ctx context.Context, e *env, all bool, count int, states string) error {
	req := api.ListReq{Max: max(count, 0)}
	switch {
	case states != "":
		f, err := jobspec.ParseFilter(states)
		if err != nil {
			return err
		}
		req.States, req.Results = int(f.States), int(f.Results)
	case !all:
		req.States = int(jobspec.StatesActive)
	}
	return e.connected(ctx, func(c *client.Client) error {
		l := &jobListing{ctx: ctx, c: c, req: req}
		defer l.close()
		users := map[uint32]string{}
		return eachJob(l.next, func(j *api.JobInfo) error {
			return writeJSON(e.stdout, jobView{JobInfo: j, ascii: e.asciiIDs(), users: users}.json())
		})
	})
}
