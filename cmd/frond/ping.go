package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
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
	batch    bool
	userid   bool
}

func newPingCmd(e *env) *cobra.Command {
	o := &pingOptions{}
	cmd := &cobra.Command{
		Use:   "ping [OPTIONS] [RANK]",
		Short: "Measure round trips to a broker",
		Long: `Measure round trips to a broker of the instance, through the tree.

Exit codes: 0 when every ping was answered, else 1.`,
		Example: `  frond ping -r 3 -c 10 -i 0.1s`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				rank, err := strconv.ParseInt(strings.TrimSuffix(args[0], "!broker"), 10, 32)
				if err != nil || rank < 0 {
					return fmt.Errorf("%q is no rank; brokers are what can be pinged", args[0])
				}
				o.rank = int(rank)
			}
			return o.run(cmd.Context(), e)
		},
	}
	f := cmd.Flags()
	f.IntVarP(&o.rank, "rank", "r", -1, "`RANK` of the broker (default: the one this command is connected to)")
	f.IntVarP(&o.count, "count", "c", 0, "stop after `N` (default: go on until interrupted)")
	f.StringVarP(&o.interval, "interval", "i", "1s", "`DURATION` between two pings")
	f.BoolVarP(&o.batch, "batch", "b", false, "send all at once, then wait for the answers; needs --count")
	f.BoolVarP(&o.userid, "userid", "u", false, "print the user whose broker it is")
	f.IntVarP(&o.pad, "pad", "p", 0, "add `N` bytes to each message")
	return cmd
}

const (
	maxPad   = 8 << 20
	maxBatch = 10_000
)

// all sends every ping before it waits for the first answer.
func (o *pingOptions) all(ctx context.Context, e *env, c *client.Client) error {
	began := make([]time.Time, o.count)
	sent := make([]*client.Future[api.PingRep], o.count)
	for i := range sent {
		began[i] = time.Now()
		sent[i] = client.Go(ctx, c, api.Ping, api.PingReq{Pad: make([]byte, o.pad)}, client.Rank(rankTarget(o.rank)))
	}
	for i, f := range sent {
		rep, err := f.Wait(ctx)
		if err == nil {
			err = o.print(e, rep, i, time.Since(began[i]))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *pingOptions) run(ctx context.Context, e *env) error {
	interval, err := jobspec.ParseFSD(o.interval)
	switch {
	case err != nil:
		return fmt.Errorf("--interval %s: %w", o.interval, err)
	case o.pad < 0 || o.pad > maxPad:
		return fmt.Errorf("--pad %d: must be 0 to %d", o.pad, maxPad)
	case o.count < 0:
		return errors.New("--count must not be negative")
	case o.batch && (o.count == 0 || o.count > maxBatch):
		return fmt.Errorf("--batch needs --count, at most %d", maxBatch)
	}
	return e.connected(ctx, func(c *client.Client) error {
		if o.batch {
			return o.all(ctx, e, c)
		}
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
	return o.print(e, rep, seq, time.Since(began))
}

func (o *pingOptions) print(e *env, rep api.PingRep, seq int, took time.Duration) error {
	if len(rep.Pad) != o.pad {
		return fmt.Errorf("broker %d echoed %d of %d bytes", rep.Rank, len(rep.Pad), o.pad)
	}
	user := ""
	if o.userid { // a broker answers nobody but its owner
		user = fmt.Sprintf(" userid=%d rolemask=0x1", os.Getuid())
	}
	_, err := fmt.Fprintf(e.stdout, "%d!broker.ping pad=%d seq=%d time=%.3f ms%s\n", rep.Rank, o.pad, seq, float64(took.Nanoseconds())/1e6, user)
	return err
}
