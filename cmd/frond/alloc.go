package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

type allocCmd struct {
	nestOptions
	bg bool
}

func newAllocCmd(e *env) *cobra.Command {
	o := &allocCmd{}
	cmd := &cobra.Command{
		Use:   "alloc [OPTIONS] [COMMAND [ARG…]]",
		Short: "Start an instance of its own and work in it",
		Long: `Start an instance as a job, on resources of its own, and run a command in it, else a shell; frond run and frond submit
there use its resources. A terminal is lent to the command: all keys go to it, and ~. at the beginning of a line leaves
the job alone. The job ends with the command.

With --bg the id is printed when the instance is there; without a command it stays until it is ended (frond cancel). frond
proxy ID runs commands in it.

Exit codes: the command's (128 + the signal for a signal); 1 when the instance could not be started. With --bg 0, or 1.`,
		Example: `  frond alloc -N2 -t 1h
  frond alloc -n4 ./sweep.sh
  frond proxy $(frond alloc --bg -n4) frond run -n4 hostname`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	o.nestOptions.add(f)
	f.BoolVar(&o.bg, "bg", false, "in the background: print the id when the instance is there")
	o.keepHistory(f, false)
	return cmd
}

func (o *allocCmd) run(ctx context.Context, e *env, args []string) error {
	if len(args) == 0 && !o.bg {
		args = []string{shell(e)}
	}
	if o.name == "" {
		o.name = "alloc"
		if len(args) > 0 {
			o.name = filepath.Base(args[0])
		}
	}
	if !o.bg && e.isTerminal(e.stdin) && e.isTerminal(e.stdout) {
		o.setopt = append([]string{"pty.interactive"}, o.setopt...)
	}
	if err := o.nest(args); err != nil {
		return err
	}
	r := &runCmd{submitOptions: o.submitOptions}
	r.addWindow(e)
	b, err := r.batch("", "", os.Environ(), !o.bg)
	if err == nil {
		err = b.addFinish(&o.submitOptions, os.Environ())
	}
	if err != nil {
		return err
	}
	if o.dryRun {
		return b.print(e)
	}
	return e.connected(ctx, func(c *client.Client) error {
		waiting := ctx
		if o.bg { // before there is a job that would be left behind
			var stop func()
			waiting, stop = signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
		}
		ids, err := b.submit(ctx, c)
		if err != nil {
			return err
		}
		if o.bg {
			return o.background(ctx, waiting, e, c, ids[0])
		}
		if o.verbose > 0 {
			fmt.Fprintf(e.stderr, "jobid: %s\n", e.idText(ids[0]))
		}
		f := &foreground{env: e, client: c, verb: "frond alloc", id: ids[0], own: true, raw: o.unbuffered, stdin: []int{0}}
		return f.run(ctx)
	})
}

// background waits until the instance is there. When waiting is over before, by a signal, nobody would know of the job: it is cancelled.
func (o *allocCmd) background(ctx, waiting context.Context, e *env, c *client.Client, id jobspec.ID) error {
	err := waitEvent(waiting, e, c, "frond alloc", id, "memo")
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		_, err = call(ctx, c, api.Raise, wire.Any, api.RaiseReq{IDs: []jobspec.ID{id}, Type: "cancel", Note: "interrupted by the user"})
		return &exitError{1, cmp.Or(err, fmt.Errorf("interrupted; job %s is canceled", e.idText(id)))}
	}
	if err != nil {
		return err
	}
	if !o.quiet {
		fmt.Fprintln(e.stdout, e.idText(id))
	}
	return nil
}
