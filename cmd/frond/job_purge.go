package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

type jobPurgeOptions struct {
	age   string
	num   int
	force bool
	batch int
	json  bool
}

func newJobPurgeCmd(e *env) *cobra.Command {
	o := &jobPurgeOptions{}
	cmd := &cobra.Command{
		Use:   "purge [--age-limit=FSD] [--num-limit=N] [-f] [--batch=N] [JOBID …]",
		Short: "Forget jobs that have ended, with their output",
		Long: `Forget jobs that have ended: their records, events and output. Either those that --age-limit and --num-limit say, or the jobs and
arrays that are named. Without --force nothing is purged, only counted.

Arrays are purged as a whole, when their last element has ended. What unfinished jobs depend on is left. A purged job is as unknown as
one that never was, but what was submitted with --once is not run again: the key stays, and so does how it ended, for frond wait.
frond start --inactive-age-limit and --inactive-num-limit purge by themselves.

Exit codes: 0, or 1 for an error; then nothing was purged that was named.`,
		Example: `  frond job purge --age-limit=7d
  frond job purge --force --num-limit=1000
  frond job purge --force f2Gk f3Hm`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.age, "age-limit", "", "purge what ended longer ago than this `FSD`")
	f.IntVar(&o.num, "num-limit", -1, "purge the oldest until at most `N` jobs that have ended are left")
	f.BoolVarP(&o.force, "force", "f", false, "purge; without it the jobs are only counted")
	f.IntVar(&o.batch, "batch", 1000, "purge `N` jobs or arrays at a time")
	f.BoolVar(&o.json, "json", false, "print the numbers as JSON")
	return cmd
}

func (o *jobPurgeOptions) run(ctx context.Context, e *env, args []string) error {
	req, err := o.request(e, args)
	if err != nil {
		return err
	}
	return e.connected(ctx, func(c *client.Client) error {
		if len(args) > 0 {
			if req.IDs, err = e.parseIDs(args); err != nil {
				return err
			}
		}
		total, inactive := 0, -1
		for more := true; more; {
			rep, err := client.Call(ctx, c, api.Purge, req)
			if err == nil && len(rep.Errors) > 0 {
				err = reportMulti(e, "frond job purge", api.MultiRep{Errors: rep.Errors}, false)
			}
			if err != nil {
				return err
			}
			if total += rep.Count; inactive < 0 {
				inactive = rep.Inactive
			}
			req.After, more = rep.Next, rep.Next != nil
		}
		return o.print(e, total, inactive)
	})
}

func (o *jobPurgeOptions) request(e *env, args []string) (req api.PurgeReq, err error) {
	req = api.PurgeReq{Force: o.force, Batch: o.batch}
	limits := o.age != "" || o.num >= 0
	switch {
	case o.num < -1:
		return req, fmt.Errorf("--num-limit=%d: must be 0 or more", o.num)
	case o.batch < 1:
		return req, fmt.Errorf("--batch=%d: must be 1 or more", o.batch)
	case limits && len(args) > 0:
		return req, errors.New("either name jobs, or give --age-limit or --num-limit")
	case !limits && len(args) == 0:
		return req, errors.New("say what to purge: --age-limit=FSD, --num-limit=N (0 = all that has ended), or ids")
	}
	if o.age != "" {
		age, err := jobspec.ParseFSD(o.age)
		if err != nil {
			return req, fmt.Errorf("--age-limit: %w", err)
		}
		req.AgeLimit = &age
	}
	if o.num >= 0 {
		req.NumLimit = &o.num
	}
	return req, nil
}

func (o *jobPurgeOptions) print(e *env, total, inactive int) error {
	switch {
	case o.json:
		purged := total
		if !o.force {
			purged = 0
		}
		return writeJSON(e.stdout, map[string]any{"purged": purged, "eligible": total, "inactive": inactive - purged})
	case !o.force:
		fmt.Fprintf(e.stdout, "use --force to purge %d of %d inactive jobs\n", total, inactive)
	default:
		fmt.Fprintf(e.stdout, "purged %d inactive jobs, %d remaining\n", total, inactive-total)
	}
	return nil
}
