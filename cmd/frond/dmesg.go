package main

import (
	"context"
	"fmt"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/spf13/cobra"
)

type dmesgOptions struct {
	rank   int
	follow bool
	json   bool
}

func newDmesgCmd(e *env) *cobra.Command {
	o := &dmesgOptions{}
	cmd := &cobra.Command{
		Use:   "dmesg",
		Short: "Show a broker's log",
		Long: `Show what the nearest broker, or the one of --rank, has logged lately.

Exit codes: 0, or 1 when there is no such broker.`,
		Example: "  frond dmesg -f\n  frond dmesg -r 3",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), e) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with what comes")
	f.IntVarP(&o.rank, "rank", "r", -1, "show the log of the broker with this `RANK`")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line")
	return cmd
}

func (o *dmesgOptions) run(ctx context.Context, e *env) error {
	color := e.useColor(e.stdout)
	return e.connected(ctx, func(c *client.Client) error {
		return stream(ctx, c, api.Dmesg, rankTarget(o.rank), api.DmesgReq{Follow: o.follow}, func(l api.DmesgLine) error {
			if o.json {
				return writeJSON(e.stdout, l)
			}
			return writeLogLine(e, l, color)
		})
	})
}

// writeLogLine prints a line as `flux dmesg` does: time, level and rank, message.
func writeLogLine(e *env, l api.DmesgLine, color bool) error {
	at := time.UnixMicro(int64(l.Time * 1e6)).Format("2006-01-02T15:04:05.000000Z07:00")
	line := fmt.Sprintf("%s %s[%d]: %s", at, l.Level, l.Rank, l.Text)
	if c := levelColor(l.Level); color && c != "" {
		line = c + line + colorOff
	}
	_, err := fmt.Fprintln(e.stdout, line)
	return err
}

func levelColor(level string) string {
	switch level {
	case "error":
		return colorRed
	case "warn":
		return colorYellow
	case "debug":
		return colorFaint
	}
	return ""
}
