package main

import (
	"context"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

func newJobStatsCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Print the numbers of jobs by state and result, as JSON",
		Long: `Print how many jobs are in each state and how those ended that have, as JSON with the keys of flux job stats.

Exit codes: 0, or 1 for an error.`,
		Example: "  frond job stats",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return jobStats(cmd.Context(), e) },
	}
}

func jobStats(ctx context.Context, e *env) error {
	return e.connected(ctx, func(c *client.Client) error {
		states := map[string]int{"depend": 0, "priority": 0, "sched": 0, "run": 0, "cleanup": 0, "inactive": 0, "total": 0}
		names := map[jobspec.State]string{jobspec.StateDepend: "depend", jobspec.StatePriority: "priority", jobspec.StateSched: "sched",
			jobspec.StateRun: "run", jobspec.StateCleanup: "cleanup"}
		l := &jobListing{ctx: ctx, c: c, req: api.ListReq{States: int(jobspec.StatesActive), Collapse: true}}
		defer l.close()
		err := eachJob(l.next, func(j *api.JobInfo) error {
			n := max(1, j.NElements)
			states[names[jobspec.State(j.State)]] += n
			states["total"] += n
			return nil
		})
		if err != nil {
			return err
		}
		counts, err := currentCounts(ctx, c)
		if err != nil {
			return err
		}
		states["inactive"] = counts.Inactive
		states["total"] += counts.Inactive
		return writeJSON(e.stdout, map[string]any{"job_states": states, "successful": counts.Inactive - counts.Failed,
			"failed": counts.Failed - counts.Canceled - counts.TimedOut, "canceled": counts.Canceled, "timeout": counts.TimedOut, "inactive_purged": counts.Purged})
	})
}
