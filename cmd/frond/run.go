package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

type runCmd struct {
	submitOptions
	waitEvent string
	cc, bcc   string
}

func newRunCmd(e *env) *cobra.Command {
	o := &runCmd{}
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] COMMAND [ARG…]",
		Short: "Run a job in the foreground",
		Long: `Submit a command as a job, print its output while it runs, and end as it ends. Standard input goes
to task 0 (--input names other tasks or a file). Ctrl-C sends SIGINT to the tasks, twice within
two seconds cancels the job, Ctrl-C Ctrl-Z detaches: the command ends with 0 and the job goes on.

With -o pty task 0 has a terminal of its own, with -o pty.interactive this one: all keys go to it,
and ~. at the beginning of a line leaves the job alone (frond job attach lends the terminal again).

Exit codes: the largest of the tasks' (128 + the signal for a task that died of one);
1 when an exception ended the job without one, or when it could not be submitted.`,
		Example: `  frond run -N2 -n8 -l hostname
  frond run -n1 -g1 -t 1h ./train < data`,
		Args: needCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.command = args
			return o.run(cmd.Context(), e)
		},
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.waitEvent, "wait-event", "", "only wait until the job has had the event `NAME`: alloc, start …")
	cmd.Flags().StringVar(&o.cc, "cc", "", "one job for each id of `IDSET`, as in submit; output of all is printed")
	cmd.Flags().StringVar(&o.bcc, "bcc", "", "as --cc, for `IDSET`, without FROND_JOB_CC in the environment")
	return cmd
}

func (o *runCmd) run(ctx context.Context, e *env) error {
	o.addWindow(e)
	batch, err := o.batch(o.cc, o.bcc, os.Environ(), true)
	if err != nil {
		return err
	}
	if err := batch.addFinish(&o.submitOptions, os.Environ()); err != nil {
		return err
	}
	if o.dryRun {
		return batch.print(e)
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	ids, err := batch.submit(ctx, c)
	if err != nil {
		return err
	}
	all := batch.elements(ids)
	if o.verbose > 0 {
		for _, id := range all {
			fmt.Fprintf(e.stderr, "jobid: %s\n", e.idText(id))
		}
	}
	if len(all) > 1 && o.waitEvent == "" {
		return watchAll(ctx, e, c, "frond run", all, o.label, o.unbuffered)
	}
	if o.waitEvent != "" {
		return waitEvents(ctx, e, c, "frond run", all, o.waitEvent)
	}
	f := &foreground{env: e, client: c, verb: "frond run", id: all[0], own: true, label: o.label, raw: o.unbuffered, stdin: o.inputRanks()}
	if f.stdin == nil && o.input == "" {
		f.stdin = []int{0}
	}
	if o.verbose > 1 {
		f.events = newEventPrinter(e.stderr, eventStyle{time: "offset"}).print
	}
	return f.run(ctx)
}

// foreground shows one job as if it ran here: run and job attach.
type foreground struct {
	env    *env
	client *client.Client
	verb   string
	id     jobspec.ID
	label  bool
	raw    bool
	quiet  bool
	stdin  []int // task ranks that get standard input; empty = none
	events func(*api.Event)
	back   func() // restores the terminal that the job was lent; nil = it was not

	own      bool // the job is this command's: it ends when nobody reads its output
	readOnly bool // pass on neither input nor signals

	until string  // the event at which the command ends, before the job; empty = none
	shown printed // output that is not to be printed again
}

// run returns nil for a job that completed, else an exitError with its exit code.
func (f *foreground) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signal.Ignore(syscall.SIGPIPE) // a write then fails instead
	signals := newInterrupts(ctx, f.env, f.client, f.verb, f.id, cancel)
	signals.own = f.own
	if !f.readOnly {
		defer signals.watch()()
	}
	if f.interactive(ctx) {
		back, err := f.lend(ctx, signals)
		if err != nil {
			return err
		}
		defer back()
		f.back, f.raw = back, true
	} else if in := f.env.usableInput(); in != nil && len(f.stdin) > 0 && !f.readOnly {
		go (&feeder{client: f.client, id: f.id, tasks: f.stdin, rest: f.own}).feed(ctx, in)
	}
	out := newOutputWriter(f.env.stdout, f.env.stderr, f.label)
	out.raw = f.raw
	a := &attacher{env: f.env, verb: f.verb, client: f.client, id: f.id, out: out, events: f.events, until: f.until}
	if f.shown != nil {
		a.piece = func(p *api.Output) error {
			if f.shown.rest(p) {
				out.write(p)
			}
			return out.failed
		}
	}
	end, err := a.run(ctx)
	if f.back != nil {
		f.back()
	}
	switch {
	case signals.detached():
		return nil
	case signals.gaveUp():
		return &exitError{Code: 128 + int(syscall.SIGINT)}
	case errors.Is(err, syscall.EPIPE):
		return f.unread(signals)
	case err != nil:
		return err
	}
	f.remark(end)
	return codeIf(true, end.code())
}

// unread ends the command when nobody reads its output any more, and the job of frond run with it.
func (f *foreground) unread(job *interrupts) error {
	if f.own {
		_ = job.end()
	}
	return &exitError{Code: 128 + int(syscall.SIGPIPE)}
}

// remark tells a person at a terminal what the exit code means.
func (f *foreground) remark(end jobEnd) {
	if f.quiet || !end.hasStatus || !f.env.isTerminal(f.env.stderr) {
		return
	}
	if how := statusText(end.status); how != "" {
		fmt.Fprintf(f.env.stderr, "%s: %s: %s\n", f.verb, f.env.idText(f.id), how)
	}
}

// maxWatched is how many jobs are followed at once. Output of the others is kept by the instance and comes later.
const maxWatched = 256

// watchAll prints the output of jobs, whole lines at a time, until all have ended, and returns an exitError with the worst exit code.
func watchAll(ctx context.Context, e *env, c *client.Client, verb string, ids []jobspec.ID, label, raw bool) error {
	var mu sync.Mutex
	out, errw := &lockedWriter{&mu, e.stdout}, &lockedWriter{&mu, e.stderr}
	worst, failed := 0, error(nil)
	next := make(chan jobspec.ID)
	var done sync.WaitGroup
	for range min(maxWatched, len(ids)) {
		done.Go(func() {
			for id := range next {
				w := newOutputWriter(out, errw, label)
				w.prefix, w.whole, w.raw = e.idText(id)+": ", len(ids) > 1, raw
				a := &attacher{env: e, verb: verb, client: c, id: id, out: w}
				end, err := a.run(ctx)
				mu.Lock()
				worst = max(worst, end.code())
				if failed == nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	for _, id := range ids {
		next <- id
	}
	close(next)
	done.Wait()
	if failed != nil {
		return failed
	}
	return codeIf(true, worst)
}

// lockedWriter lets several goroutines share a writer.
type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
