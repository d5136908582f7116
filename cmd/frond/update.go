package main

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

type updateOptions struct {
	dryRun  bool
	verbose bool
	wait    bool
	json    bool
}

func newUpdateCmd(e *env) *cobra.Command {
	o := &updateOptions{}
	cmd := &cobra.Command{
		Use:   "update [OPTIONS] JOBID KEY=VALUE…",
		Short: "Change a job that was submitted: its time limit",
		Long: `Change attributes of a job or a whole array that has not ended. KEY is duration, or its full path
attributes.system.duration; VALUE is a duration as 90s or 1.5h (a number alone is seconds, 0 or infinity no
limit), with + or - in front it is added to the limit or taken from it. A running job's limit moves, too.
Other attributes are settled when a job is submitted.

Exit codes: 0, or 1 when the job has ended or the change is not allowed.`,
		Example: "  frond update f2Gk duration=2h\n  frond update f2Gk duration=+30m",
		Args:    cobra.MinimumNArgs(2),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "check, and print the changes as JSON without making them")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "tell what is changed")
	f.BoolVar(&o.wait, "wait", false, "return when the change is durable (always so)")
	f.BoolVar(&o.json, "json", false, "print how many jobs were meant and the errors as JSON")
	return cmd
}

func (o *updateOptions) run(ctx context.Context, e *env, args []string) error {
	ids, err := e.parseIDArg(args[0])
	if err != nil {
		return err
	}
	req := api.UpdateReq{IDs: ids, DryRun: o.dryRun}
	for _, arg := range args[1:] {
		if err := setUpdate(&req, arg); err != nil {
			return err
		}
	}
	return e.connected(ctx, func(c *client.Client) error {
		before, err := oneJob(ctx, c, ids[0])
		if err != nil {
			return fmt.Errorf("JobID %s unknown", args[0])
		}
		rep, err := client.Call(ctx, c, api.Update, req)
		if err != nil {
			return err
		}
		if err := reportMulti(e, "frond update", rep, o.json); err != nil {
			return err
		}
		after := newDuration(before.Duration, req.Duration)
		if o.dryRun {
			return writeJSON(e.stdout, map[string]any{"attributes.system.duration": after})
		}
		if o.verbose {
			fmt.Fprintf(e.stderr, "frond update: updated duration of %s from %s to %s\n", args[0], limitText(before.Duration), limitText(after))
		}
		return nil
	})
}

func limitText(secs float64) string {
	if secs == 0 {
		return "unlimited"
	}
	return jobspec.FormatFSD(secs)
}

func newDuration(old float64, d *api.DurationChange) float64 {
	if d.Sign == 0 {
		return d.Seconds
	}
	return old + float64(d.Sign)*d.Seconds
}

// setUpdate reads one KEY=VALUE.
func setUpdate(req *api.UpdateReq, arg string) error {
	key, value, ok := strings.Cut(arg, "=")
	if !ok || key == "" {
		return fmt.Errorf("%q must be KEY=VALUE", arg)
	}
	switch strings.TrimPrefix(strings.TrimPrefix(key, "attributes."), "system.") {
	case "duration":
	case "name", "job.name", "queue", "constraints", "dependencies", "urgency":
		return fmt.Errorf("%s cannot be updated after submission%s", key, updateHint(key))
	default:
		return fmt.Errorf("%s cannot be updated after submission; only duration can", key)
	}
	d := &api.DurationChange{}
	switch {
	case strings.HasPrefix(value, "+"):
		d.Sign = 1
	case strings.HasPrefix(value, "-"):
		d.Sign = -1
	}
	secs, err := jobspec.ParseFSD(strings.TrimLeft(value, "+-"))
	if err != nil || strings.Count(value, "+")+strings.Count(value, "-") > 1 && d.Sign != 0 {
		return fmt.Errorf("duration: %q is not a duration, as in 90s, 1.5h, +30m or -10m", value)
	}
	if math.IsInf(secs, 0) {
		if d.Sign != 0 {
			return fmt.Errorf("duration: infinity cannot be added or taken away; write duration=infinity")
		}
		secs = 0
	}
	d.Seconds = secs
	req.Duration = d
	return nil
}

func updateHint(key string) string {
	if key == "urgency" {
		return ": use frond job urgency"
	}
	return "; only duration can"
}
