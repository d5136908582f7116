package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

type pingOptions struct {
	rank     int
	count    int
	interval string
	pad      int
}

func newPingCmd(e *env) *cobra.Command {
	o := &pingOptions{}
	cmd := &cobra.Command{
		Use:   "ping",
		Short: "Measure round trips to a broker",
		Long: `Measure round trips to a broker of the instance, through the tree.

Exit codes: 0 when every ping was answered, else 1.`,
		Example: `  frond ping -r 3 -c 10 -i 0.1s`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), e) },
	}
	f := cmd.Flags()
	f.IntVarP(&o.rank, "rank", "r", -1, "`RANK` of the broker (default: the one this command is connected to)")
	f.IntVarP(&o.count, "count", "c", 0, "stop after `N` (default: go on until interrupted)")
	f.StringVarP(&o.interval, "interval", "i", "1s", "`DURATION` between two pings")
	f.IntVarP(&o.pad, "pad", "p", 0, "add `N` bytes to each message")
	return cmd
}

const maxPad = 8 << 20

func (o *pingOptions) run(ctx context.Context, e *env) error {
	interval, err := jobspec.ParseFSD(o.interval)
	switch {
	case err != nil:
		return fmt.Errorf("--interval %s: %w", o.interval, err)
	case o.pad < 0 || o.pad > maxPad:
		return fmt.Errorf("--pad %d: must be 0 to %d", o.pad, maxPad)
	case o.count < 0:
		return errors.New("--count must not be negative")
	}
	return e.connected(ctx, func(c *client.Client) error {
		for i := 0; o.count == 0 || i < o.count; i++ {
			if i > 0 {
				time.Sleep(time.Duration(interval * float64(time.Second)))
			}
			if err := o.once(ctx, e, c, i); err != nil {
				return err
			}
		}
		return nil
	})
}

func (o *pingOptions) once(ctx context.Context, e *env, c *client.Client, seq int) error {
	began := time.Now()
	rep, err := call(ctx, c, api.Ping, rankTarget(o.rank), api.PingReq{Pad: make([]byte, o.pad)})
	if err != nil {
		return err
	}
	took := time.Since(began)
	if len(rep.Pad) != o.pad {
		return fmt.Errorf("broker %d echoed %d of %d bytes", rep.Rank, len(rep.Pad), o.pad)
	}
	fmt.Fprintf(e.stdout, "%d!broker.ping pad=%d seq=%d time=%.3f ms\n", rep.Rank, o.pad, seq, float64(took.Nanoseconds())/1e6)
	return nil
}
