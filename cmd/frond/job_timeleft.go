package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

func newJobTimeleftCmd(e *env) *cobra.Command {
	human, asJSON := false, false
	cmd := &cobra.Command{
		Use:   "timeleft [-H] [JOBID]",
		Short: "Print how long a running job may run on",
		Long: `Print the seconds that are left until a running job reaches its time limit, or the instance ends, whichever is sooner;
4294967295 (with -H: infinity) where neither is known. Within a job JOBID may be left out.

Exit codes: 0, or 1 when the job does not run.`,
		Example: "  frond job timeleft -H f2Gk",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{e.getenv("FROND_JOB_ID")}
			}
			return timeleft(cmd.Context(), e, args[0], human, asJSON)
		},
	}
	cmd.Flags().BoolVarP(&human, "human", "H", false, "print a duration for people")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: {\"timeleft\": SECONDS}, null without limit")
	return cmd
}

func timeleft(ctx context.Context, e *env, arg string, human, asJSON bool) error {
	if arg == "" {
		return fmt.Errorf("a job id is missing (FROND_JOB_ID is not set: this is not a job)")
	}
	id, err := e.parseOneID(arg)
	if err != nil {
		return err
	}
	return e.connected(ctx, func(c *client.Client) error {
		j, err := oneJob(ctx, c, id)
		if err != nil {
			return unknownJob(err, []string{arg})
		}
		switch s := jobspec.State(j.State); {
		case s == jobspec.StateInactive:
			return fmt.Errorf("job %s has ended", arg)
		case s&jobspec.StatesRunning == 0:
			return fmt.Errorf("job %s has not started", arg)
		}
		left := max(0, j.Expiration-float64(time.Now().UnixNano())/1e9)
		switch {
		case asJSON && j.Expiration == 0:
			return writeJSON(e.stdout, map[string]any{"timeleft": nil})
		case asJSON:
			return writeJSON(e.stdout, map[string]any{"timeleft": left})
		case j.Expiration == 0 && human:
			fmt.Fprintln(e.stdout, "infinity")
		case j.Expiration == 0:
			fmt.Fprintln(e.stdout, uint32(math.MaxUint32))
		case human:
			fmt.Fprintln(e.stdout, jobspec.FormatFSD(math.Floor(left)))
		default:
			fmt.Fprintln(e.stdout, int64(left))
		}
		return nil
	})
}
