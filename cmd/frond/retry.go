package main

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

type retryOptions struct {
	failed bool
	lost   bool
	wait   bool
	quiet  bool
	json   bool
}

func newRetryCmd(e *env) *cobra.Command {
	o := &retryOptions{}
	cmd := &cobra.Command{
		Use:   "retry [OPTIONS] JOBID…",
		Short: "Run jobs again that did not complete",
		Long: `Submit jobs again that have ended without completing, of an array those of its elements: with the same
command, environment, parameters and indexes ({cc}, FROND_JOB_CC, FROND_ARRAY_INDEX). A job ends once, so
they become a new job, or a new array, whose id is printed. Elements that still wait or run are left alone.

Without an option all are meant that did not complete: failed, canceled, timed out. A job can be told to
run again by itself when it is submitted: frond submit --retries=N.

Exit codes: 0, or 1 when a job is unknown or nothing of it is to run again; with --wait the largest
exit code of the jobs.`,
		Example: `  frond retry f2Gk
  frond retry --failed --wait f2Gk:1-10
  frond retry --lost f2Gk`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.failed, "failed", false, "only those that failed or reached their time limit")
	f.BoolVar(&o.lost, "lost", false, "only those that were lost with their node")
	f.BoolVar(&o.wait, "wait", false, "wait until they have ended")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "do not print ids")
	f.BoolVar(&o.json, "json", false, "print the new ids as JSON: {\"jobs\": [{\"old\", \"id\", \"n\"}]}")
	cmd.MarkFlagsMutuallyExclusive("failed", "lost")
	return cmd
}

func (o *retryOptions) run(ctx context.Context, e *env, args []string) error {
	ids, err := e.parseIDs(args)
	if err != nil {
		return err
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	req := api.RetryReq{Token: rand.Text(), IDs: ids, Lost: o.lost}
	if o.failed {
		req.Results = int(jobspec.ResultFailed | jobspec.ResultTimeout)
	}
	rep, err := client.Call(ctx, c, api.Retry, req)
	if err != nil {
		return unknownJob(err, args)
	}
	var all []jobspec.ID
	list := []map[string]any{}
	for _, j := range rep.Jobs {
		all = append(all, j.ID)
		list = append(list, map[string]any{"old": uint64(j.Old), "id": uint64(j.ID), "n": j.N})
		if !o.quiet && !o.json {
			fmt.Fprintln(e.stdout, e.idText(j.ID))
		}
	}
	if o.json {
		if err := writeJSON(e.stdout, map[string]any{"jobs": list}); err != nil {
			return err
		}
	}
	if !o.wait {
		return nil
	}
	w := &waiter{env: e, verb: "frond retry"}
	return w.wait(ctx, c, api.WaitReq{IDs: all})
}
