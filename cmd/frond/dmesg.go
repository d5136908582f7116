package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/spf13/cobra"
)

type dmesgOptions struct {
	rank      int
	follow    bool
	fresh     bool
	clear     bool
	readClear bool
	human     bool
	delta     bool
	when      string
	json      bool

	times *eventPrinter // for --human
	last  float64       // time of the line before
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
	f.BoolVarP(&o.fresh, "new", "n", false, "only what comes, as it comes")
	f.BoolVarP(&o.clear, "clear", "C", false, "forget what there is")
	f.BoolVarP(&o.readClear, "read-clear", "c", false, "print what there is and forget it")
	f.BoolVarP(&o.human, "human", "H", false, "print times for people: the minute, then the seconds since")
	f.BoolVarP(&o.delta, "delta", "d", false, "with --human: the seconds since the line before")
	f.StringVarP(&o.when, "color", "L", "", "`WHEN` to colour the output: auto, always or never")
	f.Lookup("color").NoOptDefVal = "always"
	f.IntVarP(&o.rank, "rank", "r", -1, "show the log of the broker with this `RANK`")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line")
	return cmd
}

func (o *dmesgOptions) run(ctx context.Context, e *env) error {
	switch {
	case o.clear && (o.readClear || o.follow || o.fresh):
		return errors.New("--clear prints nothing: it excludes --read-clear, --follow and --new")
	case o.when != "" && o.when != "auto" && o.when != "always" && o.when != "never":
		return fmt.Errorf("--color: %q is none of auto, always, never", o.when)
	case o.when != "":
		e.color = o.when
	}
	color := e.useColor(e.stdout)
	o.times = newEventPrinter(io.Discard, eventStyle{time: "human"})
	req := api.DmesgReq{Follow: o.follow || o.fresh, New: o.fresh || o.clear, Clear: o.clear || o.readClear}
	return e.connected(ctx, func(c *client.Client) error {
		return stream(ctx, c, api.Dmesg, rankTarget(o.rank), req, func(l api.DmesgLine) error {
			if o.json {
				return writeJSON(e.stdout, l)
			}
			return o.write(e, l, color)
		})
	})
}

// write prints a line as `flux dmesg` does: time, level and rank, message.
func (o *dmesgOptions) write(e *env, l api.DmesgLine, color bool) error {
	at := time.UnixMicro(int64(l.Time * 1e6)).Format("2006-01-02T15:04:05.000000Z07:00")
	switch {
	case o.delta && o.last != 0 && l.Time-o.last < 60:
		at = fmt.Sprintf("[%+11.6f]", l.Time-o.last)
	case o.human || o.delta:
		at = o.times.stamp(l.Time)
	}
	o.last = l.Time
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
