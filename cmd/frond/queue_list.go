package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/spf13/cobra"
)

// queueFormats are the named formats of `frond queue list -o`.
var queueFormats = map[string]string{
	"default": "{queuem:<12} {enabled:>2} {started:>2} {defaults.timelimit!F:>8} {limits.timelimit!F:>10} {limits.range.nnodes:>10} " +
		"{limits.range.ncores:>10} {limits.range.ngpus:>10} ?:{requires:<12}",
	"long": "{queuem:<12} {enabled:>2} {started:>2} {pending:>8} {running:>8} {limits.timelimit!F:>10} {limits.range.nnodes:>10} " +
		"{limits.range.ncores:>10} {limits.range.ngpus:>10} {requires:<12} {disable_reason} {stop_reason}",
}

var queueHeaders = map[string]string{
	"queue": "QUEUE", "queuem": "QUEUE", "enabled": "EN", "started": "ST", "enable": "EN", "start": "ST", "defaults.timelimit": "TDEFAULT",
	"limits.timelimit": "TLIMIT", "limits.range.nnodes": "NNODES", "limits.range.ncores": "NCORES", "limits.range.ngpus": "NGPUS",
	"limits.min.nnodes": "MINNODES", "limits.max.nnodes": "MAXNODES", "limits.min.ncores": "MINCORES", "limits.max.ncores": "MAXCORES",
	"limits.min.ngpus": "MINGPUS", "limits.max.ngpus": "MAXGPUS", "requires": "REQUIRES", "pending": "PENDING", "running": "RUNNING",
	"disable_reason": "DISABLED", "stop_reason": "STOPPED",
}

func queueHeader(name string) (string, bool) {
	h, ok := queueHeaders[name]
	return h, ok
}

type queueListOptions struct {
	queues, format string
	noHeader, json bool
}

func newQueueListCmd(e *env) *cobra.Command {
	o := &queueListOptions{}
	cmd := &cobra.Command{
		Use:   "list [OPTIONS]",
		Short: "List queues with their limits",
		Long: `List the queues: whether they take jobs (EN) and start them (ST), the default and the largest time limit, and
the bounds of a job's size. An asterisk marks the default queue.

Exit codes: 0, or 1 for a queue that there is not.`,
		Example: "  frond queue list -o '{queue} {limits.timelimit!F}'",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), e) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.queues, "queue", "q", "", "only these queues (`NAMES`)")
	f.StringVarP(&o.format, "format", "o", "", "output `FORMAT` or its name; help lists them")
	f.BoolVarP(&o.noHeader, "no-header", "n", false, "no line of headers")
	f.BoolVar(&o.json, "json", false, "print JSON: {\"queues\": […]}")
	return cmd
}

func (o *queueListOptions) run(ctx context.Context, e *env) error {
	if o.format == "help" {
		return printFormats(e.stdout, "frond queue list", queueFormats, queueHeaders)
	}
	f, err := pickFormat(e, o.format, "FROND_QUEUE_LIST_FORMAT_DEFAULT", queueFormats, queueHeader)
	if err != nil {
		return err
	}
	var names []string
	if o.queues != "" {
		names = strings.Split(o.queues, ",")
	}
	return e.connected(ctx, func(c *client.Client) error {
		list, err := queues(ctx, c, names)
		if err != nil {
			return err
		}
		if o.json {
			return writeJSON(e.stdout, map[string]any{"queues": list})
		}
		rows := make([]record, len(list))
		for i := range list {
			rows[i] = queueRecord(&list[i])
		}
		t := table{format: f, noHeader: o.noHeader}
		return t.write(e.stdout, rows)
	})
}

func queueRecord(q *api.QueueInfo) record {
	mark := func(on bool) string {
		if on {
			return "✔"
		}
		return "✗"
	}
	return func(name string) any {
		switch name {
		case "queue":
			return q.Name
		case "queuem":
			if q.Default && q.Name != "" {
				return q.Name + "*"
			}
			return q.Name
		case "enabled", "enable":
			return mark(q.Enabled)
		case "started", "start":
			return mark(q.Started)
		case "defaults.timelimit":
			return orInfinite(q.DefaultDuration)
		case "limits.timelimit":
			return orInfinite(q.Limit)
		case "requires":
			return strings.Join(q.Requires, ",")
		case "pending":
			return q.Pending
		case "running":
			return q.Running
		case "disable_reason":
			return q.DisableReason
		case "stop_reason":
			return q.StopReason
		}
		return queueBound(q, name)
	}
}

// orInfinite is a duration in seconds, of which 0 is none.
func orInfinite(secs float64) float64 {
	if secs == 0 {
		return math.Inf(1)
	}
	return secs
}

// queueBound is one of the fields limits.{min,max,range}.{nnodes,ncores,ngpus}.
func queueBound(q *api.QueueInfo, name string) any {
	parts := strings.Split(name, ".")
	if len(parts) != 3 {
		return nil
	}
	pick := func(s *api.QueueSize) int {
		return map[string]int{"nnodes": s.Nodes, "ncores": s.Cores, "ngpus": s.GPUs}[parts[2]]
	}
	lo, hi := strconv.Itoa(pick(&q.Min)), "infinity"
	if n := pick(&q.Max); n > 0 {
		hi = strconv.Itoa(n)
	}
	switch parts[1] {
	case "min":
		return lo
	case "max":
		return hi
	}
	return fmt.Sprintf("%s-%s", lo, strings.Replace(hi, "infinity", "inf", 1))
}
