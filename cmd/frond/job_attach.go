package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

type jobAttachOptions struct {
	events   bool
	label    bool
	quiet    bool
	readOnly bool
	raw      bool
	verbose  int
	stdin    string
}

func newJobAttachCmd(e *env) *cobra.Command {
	o := &jobAttachOptions{}
	cmd := &cobra.Command{
		Use:   "attach [OPTIONS] JOBID",
		Short: "Show a job's output from its beginning and end as it ends",
		Long: `Show a job's output, from its beginning and until the job has ended, pass standard input and
Ctrl-C to it, and end with its exit code, as frond run does.

Exit codes: as frond run.`,
		Example: "  frond job attach -l f2Gk\n  frond job attach -E -r f2Gk:17",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args[0]) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.events, "show-events", "E", false, "print the job's events on standard error")
	f.BoolVarP(&o.label, "label-io", "l", false, "put the task's rank in front of each line")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no remarks")
	f.BoolVarP(&o.readOnly, "read-only", "r", false, "do not pass on standard input, and leave the job alone on Ctrl-C")
	f.BoolVarP(&o.raw, "unbuffered", "u", false, "do not hold output back for whole lines")
	f.CountVarP(&o.verbose, "verbose", "v", "print the job id on standard error")
	f.StringVarP(&o.stdin, "stdin-ranks", "i", "0", "task ranks that get standard input: a set of ids, or all")
	return cmd
}

func (o *jobAttachOptions) run(ctx context.Context, e *env, arg string) error {
	id, err := e.parseOneID(arg)
	if err != nil {
		return err
	}
	ranks := (&submitOptions{input: o.stdin}).inputRanks()
	if ranks == nil {
		return fmt.Errorf("--stdin-ranks: %q is neither a set of task ranks nor all", o.stdin)
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if o.verbose > 0 {
		fmt.Fprintf(e.stderr, "jobid: %s\n", e.idText(id))
	}
	f := &foreground{env: e, client: c, verb: "frond job attach", id: id, label: o.label, raw: o.raw, quiet: o.quiet, stdin: ranks, readOnly: o.readOnly}
	if o.events {
		f.events = newEventPrinter(e.stderr, eventStyle{time: "offset"}).print
	}
	return f.run(ctx)
}
