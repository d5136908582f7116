package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

// grepOptions select jobs by name: what pgrep and pkill share.
type grepOptions struct {
	jobs jobsOptions
	max  int
	wait bool
}

func (o *grepOptions) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVarP(&o.jobs.anyUser, "all-users", "A", false, "jobs of all users (an instance has one: no difference)")
	f.StringVarP(&o.jobs.user, "user", "u", "", "jobs of `USER` (name, uid or all)")
	f.StringVarP(&o.jobs.filter, "filter", "f", "", "only these `STATES` or results (default pending,running)")
	f.StringVarP(&o.jobs.queue, "queue", "q", "", "jobs of these queues (`NAMES`)")
	f.IntVarP(&o.jobs.count, "count", "c", 0, "at most `N` of the jobs that match, 0 for all")
	f.IntVar(&o.max, "max-entries", 0, "look at `N` jobs at most, 0 for all")
}

const grepHelp = `EXPRESSION is a regular expression that part of a job's name must match; several must match all, as one with blanks
between its parts. name:EXPRESSION says the same, ID..ID are the jobs with ids in a range.`

func newPgrepCmd(e *env) *cobra.Command {
	o := &grepOptions{}
	cmd := &cobra.Command{
		Use:   "pgrep [OPTIONS] EXPRESSION…",
		Short: "Find jobs by name",
		Long: "Print the ids of the active jobs, with -a of all, whose name matches.\n" + grepHelp + `

Exit codes: 0 when a job matches, 1 when none does, 2 for an expression that makes no sense.`,
		Example: "  frond pgrep '^sim' && echo still at it\n  frond pgrep -a -o '{id.f58} {name} {status}' mesh",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.find(cmd.Context(), e, args) },
	}
	o.add(cmd)
	f := cmd.Flags()
	f.BoolVarP(&o.jobs.all, "all", "a", false, "jobs in all states")
	f.BoolVarP(&o.jobs.noHeader, "no-header", "n", false, "no line of headers")
	f.StringVarP(&o.jobs.format, "format", "o", "", "output `FORMAT` or its name, as of frond jobs (default: ids alone)")
	f.BoolVar(&o.jobs.json, "json", false, "print JSON: {\"jobs\": […]}")
	return cmd
}

func newPkillCmd(e *env) *cobra.Command {
	o := &grepOptions{}
	cmd := &cobra.Command{
		Use:   "pkill [OPTIONS] EXPRESSION…",
		Short: "Cancel jobs by name",
		Long: "Cancel the active jobs whose name matches.\n" + grepHelp + `

Exit codes: 0 when a job matches, 1 when none does, 2 for an expression that makes no sense.`,
		Example: "  frond pkill --wait '^test-'",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.kill(cmd.Context(), e, args) },
	}
	o.add(cmd)
	cmd.Flags().BoolVar(&o.wait, "wait", false, "wait until the jobs have ended")
	cmd.Flags().BoolVar(&o.jobs.json, "json", false, "print how many jobs were meant and the errors as JSON")
	return cmd
}

// jobMatch tells whether a job is meant.
type jobMatch func(j *api.JobInfo) bool

// parseGrep reads the expressions.
func parseGrep(args []string) (jobMatch, error) {
	var all []jobMatch
	for _, arg := range args {
		if lo, hi, ok := strings.Cut(arg, ".."); ok {
			from, err1 := jobspec.ParseID(lo)
			to, err2 := jobspec.ParseID(hi)
			if err1 == nil && err2 == nil {
				all = append(all, func(j *api.JobInfo) bool { return j.ID >= from && j.ID <= to })
				continue
			}
		}
		re, err := regexp.Compile(strings.TrimPrefix(arg, "name:"))
		if err != nil {
			return nil, &exitError{Code: 2, Err: fmt.Errorf("%q: %w", arg, err)}
		}
		all = append(all, func(j *api.JobInfo) bool { return re.MatchString(j.Name) })
	}
	return func(j *api.JobInfo) bool {
		for _, match := range all {
			if !match(j) {
				return false
			}
		}
		return true
	}, nil
}

// search lists the jobs that match, and how they are to be shown.
func (o *grepOptions) search(ctx context.Context, e *env, c *client.Client, args []string) (*jobsPlan, []*api.JobInfo, error) {
	match, err := parseGrep(args)
	if err != nil {
		return nil, nil, err
	}
	limit := o.jobs.count
	o.jobs.count = o.max
	plan, err := o.jobs.plan(e, nil, time.Now())
	if err != nil || plan.nobody {
		return plan, nil, err
	}
	plan.req.Collapse = false
	l := &jobListing{ctx: ctx, c: c, req: plan.req}
	defer l.close()
	var jobs []*api.JobInfo
	err = plan.each(l.next, func(j *api.JobInfo) error {
		if match(j) && (limit == 0 || len(jobs) < limit) {
			jobs = append(jobs, j)
		}
		return nil
	})
	return plan, jobs, err
}

func (o *grepOptions) find(ctx context.Context, e *env, args []string) error {
	if _, err := parseGrep(args); err != nil {
		return err
	}
	if o.jobs.format == "" {
		o.jobs.format, o.jobs.noHeader = "{id.f58}", true
	}
	return e.connected(ctx, func(c *client.Client) error {
		plan, jobs, err := o.search(ctx, e, c, args)
		if err != nil {
			return err
		}
		if len(jobs) > 0 || o.jobs.json {
			if err := plan.print(e, jobs); err != nil {
				return err
			}
		}
		return codeIf(len(jobs) == 0, 1)
	})
}

func (o *grepOptions) kill(ctx context.Context, e *env, args []string) error {
	if _, err := parseGrep(args); err != nil {
		return err
	}
	return e.connected(ctx, func(c *client.Client) error {
		_, jobs, err := o.search(ctx, e, c, args)
		if err == nil && len(jobs) == 0 {
			err = errors.New("no job matches")
		}
		if err != nil {
			return err
		}
		ids := make([]jobspec.ID, len(jobs))
		for i, j := range jobs {
			ids[i] = j.ID
		}
		rep, err := client.Call(ctx, c, api.Raise, api.RaiseReq{IDs: ids, Type: "cancel"})
		if err != nil {
			return err
		}
		if !o.jobs.json {
			fmt.Fprintf(e.stderr, "frond pkill: Canceled %d jobs\n", rep.Count-len(rep.Errors))
		}
		if o.wait {
			w := &waiter{env: e, verb: "frond pkill", quiet: true}
			_ = w.wait(ctx, c, api.WaitReq{IDs: ids}) // that they were cancelled is no failure of this command
		}
		return reportMulti(e, "frond pkill", rep, o.jobs.json)
	})
}
