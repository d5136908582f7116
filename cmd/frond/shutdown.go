package main

import (
	"context"
	"fmt"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

type shutdownOptions struct {
	keep   bool
	noWait bool
}

func newShutdownCmd(e *env) *cobra.Command {
	o := &shutdownOptions{}
	cmd := &cobra.Command{
		Use:   "shutdown [NAME]",
		Short: "End an instance",
		Long: `End an instance: FROND_URI's, or the one called NAME. Active jobs are cancelled, or with --keep stay in
its state directory for the next start. Returns when the instance has ended.

Exit codes: 0 when it has ended, else 1.`,
		Example: "  frond shutdown lab\n  frond shutdown --keep lab",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				e.target = args[0]
			}
			return o.run(cmd.Context(), e)
		},
	}
	cmd.Flags().BoolVar(&o.keep, "keep", false, "keep jobs that have not ended in the state directory")
	cmd.Flags().BoolVar(&o.noWait, "no-wait", false, "return when it has begun")
	return cmd
}

func (o *shutdownOptions) run(ctx context.Context, e *env) error {
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	rundir, err := o.check(ctx, c)
	if err != nil {
		return err
	}
	if _, err := call(ctx, c, api.Shutdown, wire.Any, api.ShutdownReq{Keep: o.keep, Reason: "shutdown by a user"}); err != nil {
		return err
	}
	if o.noWait || e.inside(rundir) {
		return nil
	}
	return awaitEnd(ctx, rundir)
}

// check refuses to keep jobs where there is no place for them, and returns the instance's run directory.
func (o *shutdownOptions) check(ctx context.Context, c *client.Client) (rundir string, err error) {
	rep, err := call(ctx, c, api.AttrList, wire.Any, api.Empty{})
	if err != nil {
		return "", err
	}
	if o.keep && rep.Attrs["statedir-cleanup"] == "1" {
		return "", fmt.Errorf("--keep: the instance was started without --statedir, its jobs cannot outlive it")
	}
	return rep.Attrs["rundir"], nil
}

// inside tells whether this command runs in the instance that it ends: the instance waits for its program, so this must not wait
// for the instance.
func (e *env) inside(rundir string) bool {
	return e.getenv("FROND_URI") == "local://"+rundir+"/0/local"
}

// awaitEnd waits until no process of the instance is left.
func awaitEnd(ctx context.Context, rundir string) error {
	deadline := time.Now().Add(leaderLimit + brokerLimit)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		if !boot.Held(rundir) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("the instance has not ended within %v", leaderLimit+brokerLimit)
}
