package main

import (
	"bufio"
	"context"
	"io"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/spf13/cobra"
)

type jobEventlogOptions struct {
	format, times string
	human         bool
	follow        bool
}

func newJobEventlogCmd(e *env) *cobra.Command {
	o := &jobEventlogOptions{}
	cmd := &cobra.Command{
		Use:   "eventlog [OPTIONS] JOBID",
		Short: "Print the events of a job",
		Long: `Print the events of a job, one a line: its time, its name, and what else is known of it.

Exit codes: 0, or 1 when the job is unknown.`,
		Example: "  frond job eventlog -H f2Gk\n  frond job eventlog -f json f2Gk",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args[0]) },
	}
	f := cmd.Flags()
	addEventFlags(f, &o.format, &o.times, &o.human)
	f.BoolVarP(&o.follow, "follow", "F", false, "go on until the job has ended")
	return cmd
}

func (o *jobEventlogOptions) run(ctx context.Context, e *env, arg string) error {
	style, err := parseEventStyle(o.format, o.times, o.human)
	if err != nil {
		return err
	}
	id, err := e.parseOneID(arg)
	if err != nil {
		return err
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	out := bufio.NewWriter(e.stdout)
	p := newEventPrinter(out, style)
	show := p.print
	if o.follow {
		show = func(ev *api.Event) { p.print(ev); _ = out.Flush() }
	}
	a := &attacher{env: e, client: c, id: id, out: newOutputWriter(io.Discard, io.Discard, false), events: show, quiet: true,
		noOutput: true, noFollow: !o.follow}
	if _, err := a.run(ctx); err != nil {
		return err
	}
	return flush(out)
}
