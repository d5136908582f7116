package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

type cancelOptions struct {
	all     bool
	dryRun  bool
	quiet   bool
	json    bool
	user    string
	states  string
	message string
}

func newCancelCmd(e *env) *cobra.Command {
	o := &cancelOptions{}
	cmd := &cobra.Command{
		Use:   "cancel [OPTIONS] JOBID…",
		Short: "Cancel jobs",
		Long: `Cancel pending or running jobs: pending ones never run, the tasks of running ones get
SIGTERM and, when they do not end, SIGKILL. An array is cancelled as a whole, ARRAY:1-10 by element.

Exit codes: 0, or 1 when one of the jobs is unknown or has ended already.`,
		Example: `  frond cancel f2Gk
  frond cancel --all --states=pending -m "wrong input"`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "all active jobs")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "only tell how many jobs would be cancelled")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "with --all do not tell how many jobs were cancelled")
	f.StringVarP(&o.user, "user", "u", "", "with --all: jobs of this user (an instance has one)")
	f.StringVarP(&o.states, "states", "S", "", "with --all: jobs in these states (default active)")
	f.StringVarP(&o.message, "message", "m", "", "a note, kept with the job")
	f.BoolVar(&o.json, "json", false, "print how many jobs were meant and the errors as JSON")
	return cmd
}

func (o *cancelOptions) run(ctx context.Context, e *env, args []string) error {
	req, err := o.request(e, args)
	if err != nil {
		return err
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if o.dryRun {
		return o.pretend(ctx, e, c, req)
	}
	rep := api.MultiRep{}
	if !o.all || !foreignUser(o.user) {
		if rep, err = client.Call(ctx, c, api.Raise, req); err != nil {
			return err
		}
	}
	if o.all && !o.quiet && !o.json && e.isTerminal(e.stderr) {
		fmt.Fprintf(e.stderr, "frond cancel: Canceled %d jobs (%d errors)\n", rep.Count-len(rep.Errors), len(rep.Errors))
	}
	return reportMulti(e, "frond cancel", rep, o.json)
}

func (o *cancelOptions) request(e *env, args []string) (api.RaiseReq, error) {
	req := api.RaiseReq{All: o.all, Type: "cancel", Note: o.message}
	if o.all == (len(args) > 0) {
		return req, fmt.Errorf("give either job ids or --all")
	}
	if !o.all && (o.states != "" || o.user != "") {
		return req, fmt.Errorf("--states and --user go with --all only")
	}
	var err error
	if req.IDs, err = e.parseIDs(args); err != nil {
		return req, err
	}
	if o.states != "" {
		f, err := jobspec.ParseFilter(o.states)
		if err != nil {
			return req, err
		}
		if f.Results != 0 || f.States&jobspec.StatesActive == 0 {
			return req, fmt.Errorf("--states: only active jobs can be cancelled, not %q", o.states)
		}
		req.States = int(f.States)
	}
	return req, nil
}

// pretend tells what would be cancelled.
func (o *cancelOptions) pretend(ctx context.Context, e *env, c *client.Client, req api.RaiseReq) error {
	list := api.ListReq{IDs: req.IDs, States: req.States}
	if list.States == 0 {
		list.States = int(jobspec.StatesActive)
	}
	l := &jobListing{ctx: ctx, c: c, req: list}
	defer l.close()
	n := 0
	if err := eachJob(l.next, func(*api.JobInfo) error { n++; return nil }); err != nil {
		return err
	}
	fmt.Fprintf(e.stderr, "frond cancel: Would cancel %d jobs\n", n)
	return nil
}

// reportMulti prints the errors of a call on several jobs, by id, and makes the exit code of them.
func reportMulti(e *env, verb string, rep api.MultiRep, asJSON bool) error {
	ids := make([]jobspec.ID, 0, len(rep.Errors))
	for id := range rep.Errors {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if asJSON {
		errs := map[string]string{}
		for _, id := range ids {
			errs[id.Dec()] = rep.Errors[id]
		}
		if err := writeJSON(e.stdout, map[string]any{"count": rep.Count, "errors": errs}); err != nil {
			return err
		}
		return codeIf(len(ids) > 0, 1)
	}
	var b strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&b, "%s: ERROR: %s: %s\n", verb, e.idText(id), rep.Errors[id])
	}
	fmt.Fprint(e.stderr, b.String())
	return codeIf(len(ids) > 0, 1)
}
