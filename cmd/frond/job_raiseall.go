package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

// massOptions are those of verbs that do something to all jobs.
type massOptions struct {
	severity int
	signal   string
	user     string
	states   string
	force    bool
	json     bool
}

func newJobRaiseallCmd(e *env) *cobra.Command {
	o := &massOptions{}
	cmd := &cobra.Command{
		Use:   "raiseall [OPTIONS] TYPE [MESSAGE…]",
		Short: "Post an exception on all jobs",
		Long: `Post an exception on all active jobs, or those in some states. Without --force it only tells how many that are.
Severity 0 ends them.

Exit codes: 0, or 1 for an error.`,
		Example: "  frond job raiseall -f -S pending cancel 'wrong input'",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.raise(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.IntVarP(&o.severity, "severity", "s", 0, "0 (fatal) to 7")
	f.StringVarP(&o.user, "user", "u", "", "jobs of `USER` (an instance has one)")
	f.StringVarP(&o.states, "states", "S", "active", "jobs in these `STATES`")
	f.BoolVarP(&o.force, "force", "f", false, "do it")
	f.BoolVar(&o.json, "json", false, "print how many jobs were meant as JSON")
	return cmd
}

func newJobKillallCmd(e *env) *cobra.Command {
	o := &massOptions{}
	cmd := &cobra.Command{
		Use:   "killall [OPTIONS]",
		Short: "Send a signal to all running jobs",
		Long: `Send a signal to the tasks of all running jobs. Without --force it only tells how many jobs that are.

Exit codes: 0, or 1 for an error.`,
		Example: "  frond job killall -f -s USR1",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.kill(cmd.Context(), e) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.signal, "signal", "s", "TERM", "the signal, by name or number")
	f.StringVarP(&o.user, "user", "u", "", "jobs of `USER` (an instance has one)")
	f.BoolVarP(&o.force, "force", "f", false, "do it")
	f.BoolVar(&o.json, "json", false, "print how many jobs were meant as JSON")
	return cmd
}

func (o *massOptions) raise(ctx context.Context, e *env, args []string) error {
	f, err := jobspec.ParseFilter(o.states)
	if err != nil {
		return err
	}
	if f.Results != 0 || f.States&jobspec.StatesActive == 0 {
		return fmt.Errorf("--states: only active jobs are meant, not %q", o.states)
	}
	return e.connected(ctx, func(c *client.Client) error {
		if !o.force {
			ids, err := o.matching(ctx, c, f.States&jobspec.StatesActive)
			if err != nil {
				return err
			}
			return o.tell(e, "raiseall", len(ids))
		}
		rep := api.MultiRep{}
		if !foreignUser(o.user) {
			rep, err = client.Call(ctx, c, api.Raise, api.RaiseReq{All: true, States: int(f.States), Type: args[0], Severity: o.severity,
				Note: strings.Join(args[1:], " ")})
			if err != nil {
				return err
			}
		}
		return o.done(e, "raiseall", rep)
	})
}

func (o *massOptions) kill(ctx context.Context, e *env) error {
	sig, err := parseSignal(o.signal)
	if err != nil {
		return err
	}
	return e.connected(ctx, func(c *client.Client) error {
		ids, err := o.matching(ctx, c, jobspec.StateRun)
		if err != nil {
			return err
		}
		if !o.force {
			return o.tell(e, "killall", len(ids))
		}
		rep := api.MultiRep{}
		if len(ids) > 0 {
			if rep, err = client.Call(ctx, c, api.Kill, api.KillReq{IDs: ids, Signal: int(sig)}); err != nil {
				return err
			}
		}
		return o.done(e, "killall", rep)
	})
}

// matching lists the ids of the jobs that are meant.
func (o *massOptions) matching(ctx context.Context, c *client.Client, states jobspec.State) ([]jobspec.ID, error) {
	if foreignUser(o.user) {
		return nil, nil
	}
	l := &jobListing{ctx: ctx, c: c, req: api.ListReq{States: int(states)}}
	defer l.close()
	var ids []jobspec.ID
	err := eachJob(l.next, func(j *api.JobInfo) error {
		ids = append(ids, j.ID)
		return nil
	})
	return ids, err
}

func (o *massOptions) tell(e *env, verb string, n int) error {
	if o.json {
		return writeJSON(e.stdout, map[string]any{"count": n, "done": false})
	}
	fmt.Fprintf(e.stderr, "frond job %s: Command matched %d jobs (-f to confirm)\n", verb, n)
	return nil
}

// done tells how many jobs it was done to. Those that ended meanwhile are no error.
func (o *massOptions) done(e *env, verb string, rep api.MultiRep) error {
	n := rep.Count - len(rep.Errors)
	if o.json {
		return writeJSON(e.stdout, map[string]any{"count": n, "done": true})
	}
	fmt.Fprintf(e.stderr, "frond job %s: %d jobs\n", verb, n)
	return nil
}
