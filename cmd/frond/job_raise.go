package main

import (
	"context"
	"fmt"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/spf13/cobra"
)

type jobRaiseOptions struct {
	severity int
	typ      string
	message  string
	json     bool
}

func newJobRaiseCmd(e *env) *cobra.Command {
	o := &jobRaiseOptions{}
	cmd := &cobra.Command{
		Use:   "raise [OPTIONS] JOBID…",
		Short: "Post an exception on jobs",
		Long: `Post an exception on jobs. Severity 0 ends them, 1 to 7 is a remark in their eventlogs.

Exit codes: 0, or 1 when one of the jobs is unknown or has ended already.`,
		Example: "  frond job raise -s 7 -t note -m 'input was changed' f2Gk",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.IntVarP(&o.severity, "severity", "s", 0, "0 (fatal) to 7")
	f.StringVarP(&o.typ, "type", "t", "cancel", "type of the exception, a word")
	f.StringVarP(&o.message, "message", "m", "", "a note")
	f.BoolVar(&o.json, "json", false, "print how many jobs were meant and the errors as JSON")
	return cmd
}

func (o *jobRaiseOptions) run(ctx context.Context, e *env, args []string) error {
	if o.severity < 0 || o.severity > 7 {
		return fmt.Errorf("--severity: %d is not between 0 and 7", o.severity)
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
	rep, err := client.Call(ctx, c, api.Raise, api.RaiseReq{IDs: ids, Type: o.typ, Severity: o.severity, Note: o.message})
	if err != nil {
		return err
	}
	return reportMulti(e, "frond job raise", rep, o.json)
}
