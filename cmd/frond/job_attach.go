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

type jobAttachOptions struct {
	events   bool
	status   bool
	until    string
	tail     int
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
Ctrl-C to it, and end with its exit code, as frond run does. With --wait-event the command ends when the job has had
that event, and the job goes on.

Exit codes: as frond run; 0 if the job has not finished yet.`,
		Example: "  frond job attach -l f2Gk\n  frond job attach -E -r f2Gk:17\n  frond job attach --tail=20 --show-status f2Gk",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args[0]) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.events, "show-events", "E", false, "print the job's events on standard error")
	f.BoolVar(&o.status, "show-status", false, "tell on standard error what the job waits for until it has started")
	f.StringVarP(&o.until, "wait-event", "w", "", "end at the event `NAME`: start, finish …, instead of with the job")
	f.IntVar(&o.tail, "tail", -1, "begin with the last `NUM` lines of each of standard output and standard error")
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
	f.until = o.until
	var shows []func(*api.Event)
	if o.events {
		shows = append(shows, newEventPrinter(e.stderr, eventStyle{time: "offset"}).print)
	}
	if o.status {
		shows = append(shows, (&statusLine{env: e, id: id}).event)
	}
	f.events = func(ev *api.Event) {
		for _, show := range shows {
			show(ev)
		}
	}
	if o.tail >= 0 {
		if f.shown, err = o.past(ctx, e, c, id); err != nil {
			return err
		}
	}
	return f.run(ctx)
}

// past prints the last lines of what has come so far.
func (o *jobAttachOptions) past(ctx context.Context, e *env, c *client.Client, id jobspec.ID) (printed, error) {
	stdout, stderr := &tailLines{n: o.tail}, &tailLines{n: o.tail}
	w, shown := newOutputWriter(stdout, stderr, o.label), printed{}
	a := &attacher{env: e, verb: "frond job attach", client: c, id: id, out: w, quiet: true, noFollow: true}
	a.piece = func(p *api.Output) error {
		shown.note(p)
		w.write(p)
		return nil
	}
	if _, err := a.run(ctx); err != nil {
		return nil, err
	}
	return shown, errors.Join(stdout.flush(e.stdout), stderr.flush(e.stderr))
}

// statusLine shows what a job waits for: at a terminal in one line, which goes away when the job has started.
type statusLine struct {
	env  *env
	id   jobspec.ID
	last string
}

// statusTexts are Flux's words for what follows an event.
var statusTexts = map[string]string{
	"submit":   "resolving dependencies",
	"depend":   "waiting for priority assignment",
	"priority": "waiting for resources",
	"retry":    "waiting for resources",
	"alloc":    "starting",
	"start":    "started",
	"clean":    "",
}

func (l *statusLine) event(ev *api.Event) {
	text, is := statusTexts[ev.Name]
	if !is || text == l.last {
		return
	}
	switch tty := l.env.isTerminal(l.env.stderr); {
	case !tty && text != "":
		fmt.Fprintf(l.env.stderr, "frond job attach: %s %s\n", l.env.idText(l.id), text)
	case tty && (text == "" || text == "started"):
		fmt.Fprint(l.env.stderr, "\r\x1b[K")
	case tty:
		fmt.Fprintf(l.env.stderr, "\r\x1b[Kfrond job attach: %s %s", l.env.idText(l.id), text)
	}
	l.last = text
}
