package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type jobWaitEventOptions struct {
	format, times string
	human         bool
	timeout       string
	match         []string
	count         int
	quiet         bool
	verbose       bool
}

func newJobWaitEventCmd(e *env) *cobra.Command {
	o := &jobWaitEventOptions{}
	cmd := &cobra.Command{
		Use:   "wait-event [OPTIONS] JOBID EVENT",
		Short: "Wait for an event of a job",
		Long: `Wait until the event has happened to the job, and print it.

Exit codes: 0, or 1 when the job is unknown, has ended without the event, or the time is over.`,
		Example: "  frond job wait-event -t 10s f2Gk start\n  frond job wait-event -m type=cancel f2Gk exception",
		Args:    cobra.ExactArgs(2),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args[0], args[1]) },
	}
	f := cmd.Flags()
	addEventFlags(f, &o.format, &o.times, &o.human)
	f.StringVarP(&o.timeout, "timeout", "t", "", "give up after this duration")
	f.StringArrayVarP(&o.match, "match-context", "m", nil, "only an event whose context has KEY=VALUE")
	f.IntVarP(&o.count, "count", "c", 1, "wait until the event has come so many times")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "do not print the event")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print all events until then")
	f.BoolP("waitcreate", "W", false, "accepted as in Flux; a job has its eventlog from its submission on")
	return cmd
}

// addEventFlags declares how events are printed.
func addEventFlags(f *pflag.FlagSet, format, times *string, human *bool) {
	f.StringVarP(format, "format", "f", "text", "text or json")
	f.StringVarP(times, "time-format", "T", "raw", "raw (seconds since 1970), iso, offset (since the first event) or human")
	f.BoolVarP(human, "human", "H", false, "same as --time-format=human")
	f.VarP(&onlyValue{"eventlog", "a job has one eventlog; --path can only be eventlog"}, "path", "p", "the `PATH` of the log: eventlog")
	f.StringP("colour", "L", "auto", "accepted as in Flux; events are not coloured")
}

func (o *jobWaitEventOptions) run(ctx context.Context, e *env, arg, event string) error {
	w, err := o.watcher(e, event)
	if err != nil {
		return err
	}
	id, err := e.parseOneID(arg)
	if err != nil {
		return err
	}
	ctx, cancel, err := withTimeout(ctx, o.timeout)
	if err != nil {
		return err
	}
	defer cancel()
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	follow, found := context.WithCancel(ctx)
	defer found()
	w.found = found
	a := &attacher{env: e, client: c, id: id, out: newOutputWriter(io.Discard, io.Discard, false), events: w.event, quiet: true, noOutput: true}
	_, err = a.run(follow)
	switch {
	case w.left <= 0:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("timeout: event %q did not come within %s", event, o.timeout)
	case err != nil:
		return err
	}
	return fmt.Errorf("event %q never received: the job has ended", event)
}

// withTimeout bounds ctx by a duration; "" is none.
func withTimeout(ctx context.Context, timeout string) (context.Context, context.CancelFunc, error) {
	if timeout == "" {
		c, cancel := context.WithCancel(ctx)
		return c, cancel, nil
	}
	secs, err := jobspec.ParseFSD(timeout)
	if err != nil {
		return nil, nil, fmt.Errorf("--timeout: %w", err)
	}
	c, cancel := context.WithTimeout(ctx, time.Duration(min(secs*float64(time.Second), math.MaxInt64/2)))
	return c, cancel, nil
}

// eventWatcher counts the events that are waited for.
type eventWatcher struct {
	name    string
	match   [][2]string
	left    int
	quiet   bool
	verbose bool
	printer *eventPrinter
	found   func() // called when all have come
}

func (o *jobWaitEventOptions) watcher(e *env, event string) (*eventWatcher, error) {
	style, err := parseEventStyle(o.format, o.times, o.human)
	if err != nil {
		return nil, err
	}
	if o.count < 1 {
		return nil, fmt.Errorf("--count must be above 0")
	}
	w := &eventWatcher{name: event, left: o.count, quiet: o.quiet, verbose: o.verbose, printer: newEventPrinter(e.stdout, style)}
	for _, m := range o.match {
		key, value, ok := strings.Cut(m, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--match-context: %q is not KEY=VALUE", m)
		}
		w.match = append(w.match, [2]string{key, value})
	}
	return w, nil
}

// event takes the next event of the job.
func (w *eventWatcher) event(ev *api.Event) {
	if w.left <= 0 {
		return
	}
	hit := ev.Name == w.name
	for _, m := range w.match {
		hit = hit && contextHas(ev.Context, m[0], m[1])
	}
	if hit {
		w.left--
	}
	if w.verbose && !w.quiet || hit && w.left == 0 && !w.quiet {
		w.printer.print(ev)
	} else {
		w.printer.note(ev)
	}
	if w.left == 0 {
		w.found()
	}
}

// onlyValue is a flag that can have one value.
type onlyValue struct{ value, why string }

func (o *onlyValue) Set(s string) error {
	if s != o.value {
		return errors.New(o.why)
	}
	return nil
}
func (o *onlyValue) String() string { return "" }
func (o *onlyValue) Type() string   { return "name" }
