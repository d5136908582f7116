package main

import (
	"context"
	"fmt"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

type jobUrgencyOptions struct {
	verbose bool
	json    bool
}

func newJobUrgencyCmd(e *env) *cobra.Command {
	o := &jobUrgencyOptions{}
	cmd := &cobra.Command{
		Use:   "urgency [-v] JOBID N|hold|expedite|default",
		Short: "Change the order in which jobs start, hold or expedite them",
		Long: `Set the urgency of a job or a whole array: 0 to 31, higher first; hold (0) keeps it from starting until its
urgency is set again, default is 16, expedite (31) puts it before all others.
What runs already is not affected.

Exit codes: 0, or 1 when the job is unknown or has ended.`,
		Example: "  frond job urgency f2Gk hold\n  frond job urgency f2Gk default",
		Args:    cobra.ExactArgs(2),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "print the urgency that the job had")
	cmd.Flags().BoolVar(&o.json, "json", false, "print how many jobs were meant and the errors as JSON")
	return cmd
}

func (o *jobUrgencyOptions) run(ctx context.Context, e *env, args []string) error {
	ids, err := e.parseIDArg(args[0])
	if err != nil {
		return err
	}
	urgency, err := jobspec.ParseUrgency(args[1])
	if err != nil {
		return err
	}
	return e.connected(ctx, func(c *client.Client) error {
		old := -1
		if o.verbose {
			if j, err := oneJob(ctx, c, ids[0]); err == nil {
				old = j.Urgency
			}
		}
		rep, err := client.Call(ctx, c, api.Update, api.UpdateReq{IDs: ids, Urgency: &urgency})
		if err != nil {
			return err
		}
		if err := reportMulti(e, "frond job urgency", rep, o.json); err != nil {
			return err
		}
		if old >= 0 {
			fmt.Fprintf(e.stdout, "old urgency: %s\n", urgencyText(old))
		}
		return nil
	})
}

func urgencyText(n int) string {
	switch n {
	case 0:
		return "held"
	case 31:
		return "expedited"
	}
	return fmt.Sprint(n)
}

// oneJob is the record of a job, of an array's first.
func oneJob(ctx context.Context, c *client.Client, id jobspec.ID) (*api.JobInfo, error) {
	l := &jobListing{ctx: ctx, c: c, req: api.ListReq{IDs: []jobspec.ID{id}, Collapse: true}}
	defer l.close()
	var found *api.JobInfo
	err := eachJob(l.next, func(j *api.JobInfo) error {
		if found == nil {
			found = j
		}
		return nil
	})
	if err == nil && found == nil {
		err = wire.Errorf(wire.NotFound, "unknown job id %v", id)
	}
	return found, err
}
