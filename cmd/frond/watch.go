package main

import (
	"context"
	"fmt"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

type watchOptions struct {
	jobs          jobsOptions
	active, all   bool
	progress, jps bool
	label         bool
	verbose       int
}

func newWatchCmd(e *env) *cobra.Command {
	o := &watchOptions{}
	cmd := &cobra.Command{
		Use:   "watch [OPTIONS] [JOBID…]",
		Short: "Show the output of jobs as it comes, until they have ended",
		Long: `Show the output of the given jobs, or of those that -a, -A, -f or --since choose, from its beginning until they have
ended.

Exit codes: the largest of the jobs' (128 + the signal for a signal), 1 where there is none to watch.`,
		Example: "  frond watch --active --label-io\n  frond watch f2Gk f2Gm",
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.active, "active", "a", false, "all active jobs")
	f.BoolVarP(&o.all, "all", "A", false, "all jobs, also those that have ended")
	f.IntVarP(&o.jobs.count, "count", "c", 1000, "at most `N` jobs, 0 for all")
	f.StringVarP(&o.jobs.filter, "filter", "f", "", "jobs in these `STATES` or with these results")
	f.StringVar(&o.jobs.since, "since", "", "jobs active since `WHEN`: -15m, or 2026-06-21 06:00; implies --all")
	f.BoolVar(&o.progress, "progress", false, "show a bar (on a terminal)")
	f.BoolVar(&o.jps, "jps", false, "with --progress: accepted as in Flux")
	f.BoolVarP(&o.label, "label-io", "l", false, "put the task's rank in front of each line")
	f.CountVarP(&o.verbose, "verbose", "v", "tell what is watched")
	return cmd
}

func (o *watchOptions) run(ctx context.Context, e *env, args []string) error {
	choose := o.active || o.all || o.jobs.filter != "" || o.jobs.since != ""
	if choose == (len(args) > 0) {
		return fmt.Errorf("give either job ids, or choose jobs with --active, --all, --filter or --since")
	}
	o.jobs.all = o.all
	o.jobs.format = "{id.f58}"
	plan, err := o.jobs.plan(e, args, time.Now())
	if err != nil {
		return err
	}
	plan.req.Collapse = false
	return e.connected(ctx, func(c *client.Client) error {
		l := &jobListing{ctx: ctx, c: c, req: plan.req}
		defer l.close()
		var ids []jobspec.ID
		err := plan.each(l.next, func(j *api.JobInfo) error {
			ids = append(ids, j.ID)
			return nil
		})
		if err != nil {
			return unknownJob(err, args)
		}
		if len(ids) == 0 {
			return fmt.Errorf("no job matches")
		}
		if o.verbose > 0 {
			fmt.Fprintf(e.stderr, "frond watch: Watching %d jobs\n", len(ids))
		}
		stop := o.bar(ctx, e, c, ids)
		defer stop()
		return watchAll(ctx, e, c, "frond watch", ids, o.label, false)
	})
}

// bar shows progress beside the output.
func (o *watchOptions) bar(ctx context.Context, e *env, c *client.Client, ids []jobspec.ID) func() {
	if !o.progress {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := &waiter{env: e, verb: "frond watch", quiet: true, bar: newProgress(e)}
		_ = w.wait(ctx, c, api.WaitReq{IDs: ids, Progress: true}) // watchAll tells how the jobs ended
	}()
	return func() {
		cancel()
		<-done
	}
}
