package main

import (
	"context"
	"fmt"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

type jobStatusOptions struct {
	verbose   int
	json      bool
	exception int
}

func newJobStatusCmd(e *env) *cobra.Command {
	o := &jobStatusOptions{}
	cmd := &cobra.Command{
		Use:   "status [OPTIONS] JOBID…",
		Short: "Wait for jobs and exit with their exit code",
		Long: `Wait until the jobs have ended and exit with the largest of their exit codes (128 + the signal for a
signal). An array stands for its elements.

Exit codes: the largest of the jobs; for a job that an exception ended before it had one, that of
--exception-exit-code.`,
		Example: "  frond job status -v f2Gk f2Gm",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.CountVarP(&o.verbose, "verbose", "v", "tell on standard error how each job ended")
	f.BoolVarP(&o.json, "json", "j", false, "print what is known of each job, a JSON object a line")
	f.IntVarP(&o.exception, "exception-exit-code", "e", 1, "exit code `N` for jobs that an exception ended before they ran")
	return cmd
}

func (o *jobStatusOptions) run(ctx context.Context, e *env, args []string) error {
	ids, err := e.parseIDs(args)
	if err != nil {
		return err
	}
	return e.connected(ctx, func(c *client.Client) error {
		w := &waiter{env: e, verb: "frond job status", quiet: true}
		if err := w.wait(ctx, c, api.WaitReq{IDs: ids}); err != nil && ctx.Err() != nil {
			return err
		}
		l := &jobListing{ctx: ctx, c: c, req: api.ListReq{IDs: ids}}
		defer l.close()
		worst := 0
		err := eachJob(l.next, func(j *api.JobInfo) error {
			code, text := o.outcome(j)
			worst = max(worst, code)
			if o.verbose > 0 {
				fmt.Fprintf(e.stderr, "frond job status: %s: %s\n", e.idText(j.ID), text)
			}
			if o.json {
				return writeJSON(e.stdout, jobView{JobInfo: j, ascii: e.asciiIDs()}.json())
			}
			return nil
		})
		if err != nil {
			return unknownJob(err, args)
		}
		return codeIf(worst > 0, worst)
	})
}

// outcome is the exit code of a job that has ended, and how it ended in words.
func (o *jobStatusOptions) outcome(j *api.JobInfo) (int, string) {
	if !j.HasStatus {
		if j.ExcOccurred {
			return o.exception, fmt.Sprintf("exception type=%s %s", j.ExcType, j.ExcNote)
		}
		return o.exception, "ended without a status"
	}
	code := jobspec.ExitCode(j.WaitStatus)
	text := statusText(j.WaitStatus)
	if text == "" {
		text = "exit code 0"
	}
	if code == 0 && j.Result != int(jobspec.ResultCompleted) && j.Result != 0 {
		code = o.exception
	}
	return code, text
}
