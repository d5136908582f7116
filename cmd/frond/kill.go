package main

import (
	"context"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/spf13/cobra"
)

type killOptions struct {
	signal string
	json   bool
}

func newKillCmd(e *env) *cobra.Command {
	o := &killOptions{}
	cmd := &cobra.Command{
		Use:   "kill [OPTIONS] JOBID…",
		Short: "Send a signal to the tasks of running jobs",
		Long: `Send a signal to all tasks of running jobs.

Exit codes: 0, or 1 when one of the jobs is unknown or not running.`,
		Example: `  frond kill f2Gk
  frond kill -s USR1 f2Gk:17`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	cmd.Flags().StringVarP(&o.signal, "signal", "s", "TERM", "the signal, by name or number")
	cmd.Flags().BoolVar(&o.json, "json", false, "print how many jobs were meant and the errors as JSON")
	return cmd
}

func (o *killOptions) run(ctx context.Context, e *env, args []string) error {
	sig, err := parseSignal(o.signal)
	if err != nil {
		return err
	}
	ids, err := e.parseIDs(args)
	if err != nil {
		return err
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	rep, err := client.Call(ctx, c, api.Kill, api.KillReq{IDs: ids, Signal: int(sig)})
	if err != nil {
		return err
	}
	return reportMulti(e, "frond kill", rep, o.json)
}
