package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

// reportFormats are the named formats of `frond report -o`.
var reportFormats = map[string]string{
	"default": "{id:>12} {name:<12.12+} {jobs:>7} {ok:>7} {failed:>6} ?:{active:>7h} {elapsed_min!F:>8h} {elapsed_mean!F:>8h} {elapsed_max!F:>8h} " +
		"{cpu!F:>8h} {efficiency:>5h} {maxrss:>9h}",
}

var reportHeaders = map[string]string{"id": "ARRAY", "name": "NAME", "jobs": "JOBS", "ok": "OK", "failed": "FAILED", "active": "ACTIVE",
	"canceled": "CANCELED", "timeout": "TIMEOUT", "elapsed_min": "MIN", "elapsed_mean": "MEAN", "elapsed_max": "MAX", "elapsed": "ELAPSED",
	"cpu": "CPU", "efficiency": "EFF", "maxrss": "MAXRSS"}

type reportOptions struct {
	since    string
	format   string
	noHeader bool
	json     bool
}

func newReportCmd(e *env) *cobra.Command {
	o := &reportOptions{}
	cmd := &cobra.Command{
		Use:   "report [OPTIONS] [JOBID…]",
		Short: "Sum up what jobs have used",
		Long: `Show one line for each array, and one for all single jobs of a name: how many there are, how many
succeeded and failed, how long they ran (least, mean and most), the processor time they used, that
time as a share of the cores they had (EFF), and the largest memory of a process (MAXRSS, in KiB).
Failed are also those that were cancelled or ran into their time limit.

Exit codes: 0, or 1 when a job id is unknown or the instance does not answer.`,
		Example: `  frond report
  frond report --since=-1h
  frond report --json f2Gk`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.format == "help" {
				return printFormats(e.stdout, "frond report", reportFormats, reportHeaders)
			}
			return e.connected(cmd.Context(), func(c *client.Client) error { return o.run(cmd.Context(), e, c, args) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.since, "since", "", "only jobs active since `WHEN`: -15m, or 2026-06-21 06:00")
	f.StringVarP(&o.format, "format", "o", "", "output `FORMAT`; help lists the fields")
	f.BoolVarP(&o.noHeader, "no-header", "n", false, "no line of headers")
	f.BoolVar(&o.json, "json", false, "print JSON: {\"reports\": […]}")
	return cmd
}

func (o *reportOptions) run(ctx context.Context, e *env, c *client.Client, args []string) error {
	now := time.Now()
	f, err := pickFormat(e, o.format, "FROND_REPORT_FORMAT_DEFAULT", reportFormats, func(name string) (string, bool) {
		h, ok := reportHeaders[name]
		return h, ok
	})
	if err != nil {
		return err
	}
	req := api.ListReq{Collapse: true}
	if req.IDs, err = e.parseIDs(args); err != nil {
		return err
	}
	if err := e.checkElements(ctx, c); err != nil {
		return err
	}
	if o.since != "" {
		if req.Since, err = parseSince(o.since, now); err != nil {
			return err
		}
	}
	l := &jobListing{ctx: ctx, c: c, req: req}
	defer l.close()
	r := &report{now: float64(now.UnixNano()) / 1e9, ascii: e.asciiIDs(), groups: map[reportKey]*reportGroup{}}
	if len(req.IDs) > 1 {
		r.seen = map[jobspec.ID]bool{}
	}
	if err := eachJob(l.next, r.add); err != nil {
		return unknownJob(err, args)
	}
	groups := r.sorted()
	if o.json {
		return writeJSON(e.stdout, map[string]any{"reports": groups})
	}
	rows := make([]record, len(groups))
	for i, g := range groups {
		rows[i] = g.field
	}
	t := table{format: f, noHeader: o.noHeader}
	return t.write(e.stdout, rows)
}

// report adds jobs up as they come, so that a million of them need no room.
type report struct {
	now    float64
	ascii  bool
	groups map[reportKey]*reportGroup
	seen   map[jobspec.ID]bool // where jobs are named, which can name one twice; else nil
}

// reportKey names a group: an array, or all single jobs of a name.
type reportKey struct {
	array jobspec.ID
	name  string
}

// reportGroup is one line of the report; the JSON form of it, too.
type reportGroup struct {
	ID         string  `json:"id,omitempty"` // of an array
	Name       string  `json:"name"`
	Jobs       int     `json:"jobs"`
	Completed  int     `json:"completed"`
	Failed     int     `json:"failed"`
	Canceled   int     `json:"canceled"`
	Timeout    int     `json:"timeout"`
	Active     int     `json:"active"`
	Ran        int     `json:"ran"` // those that the times are of
	ElapsedMin float64 `json:"elapsed_min"`
	ElapsedMax float64 `json:"elapsed_max"`
	Elapsed    float64 `json:"elapsed_seconds"`
	CPU        float64 `json:"cpu_seconds"`
	CoreTime   float64 `json:"core_seconds"` // elapsed time × cores
	MaxRSS     int64   `json:"maxrss_kib"`
	first      float64 // submission of the first
}

func (r *report) add(j *api.JobInfo) error {
	if r.seen != nil {
		if r.seen[j.ID] {
			return nil
		}
		r.seen[j.ID] = true
	}
	key := reportKey{array: j.Array}
	if j.Array == 0 {
		key.name = j.Name
	}
	g := r.groups[key]
	if g == nil {
		g = &reportGroup{Name: j.Name, first: j.TSubmit}
		if j.Array != 0 {
			g.ID = j.Array.String()
			if r.ascii {
				g.ID = j.Array.F58Plain()
			}
		}
		r.groups[key] = g
	}
	g.first = min(g.first, j.TSubmit)
	g.count(jobView{JobInfo: j, now: r.now})
	return nil
}

func (g *reportGroup) count(j jobView) {
	n := max(1, j.NElements)
	g.Jobs += n
	switch {
	case !j.inactive():
		g.Active += n
		return
	case j.result() == jobspec.ResultCompleted:
		g.Completed += n
	case j.result() == jobspec.ResultCanceled:
		g.Canceled += n
	case j.result() == jobspec.ResultTimeout:
		g.Timeout += n
	default:
		g.Failed += n
	}
	if j.TRun == 0 {
		return
	}
	t := j.runtime()
	if t <= 0 { // it could not be started
		return
	}
	if g.Ran == 0 || t < g.ElapsedMin {
		g.ElapsedMin = t
	}
	g.ElapsedMax = max(g.ElapsedMax, t)
	g.Ran++
	g.Elapsed += t
	g.CPU += j.CPU
	g.CoreTime += t * float64(max(1, j.NCores))
	g.MaxRSS = max(g.MaxRSS, j.MaxRSSKiB)
}

// sorted are the groups in the order of their first submissions.
func (r *report) sorted() []*reportGroup {
	list := make([]*reportGroup, 0, len(r.groups))
	for _, g := range r.groups {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *reportGroup) int {
		return cmp.Or(cmp.Compare(a.first, b.first), strings.Compare(a.ID, b.ID), strings.Compare(a.Name, b.Name))
	})
	return list
}

// field is the value of a column.
func (g *reportGroup) field(name string) any {
	switch name {
	case "id":
		return g.ID
	case "name":
		return g.Name
	case "jobs":
		return g.Jobs
	case "ok":
		return g.Completed
	case "failed":
		return g.Failed + g.Canceled + g.Timeout
	case "canceled":
		return g.Canceled
	case "timeout":
		return g.Timeout
	case "active":
		return count(g.Active)
	}
	if g.Ran == 0 {
		return nil
	}
	return g.usage(name)
}

func (g *reportGroup) usage(name string) any {
	switch name {
	case "elapsed":
		return g.Elapsed
	case "elapsed_min":
		return g.ElapsedMin
	case "elapsed_mean":
		return g.Elapsed / float64(g.Ran)
	case "elapsed_max":
		return g.ElapsedMax
	case "cpu":
		return g.CPU
	case "efficiency":
		return efficiency(g.CPU, g.CoreTime)
	}
	return onlyIf(g.MaxRSS > 0, int(g.MaxRSS))
}

// efficiency is processor time as a share of the time that cores were there for it; nil for what ran too short to say.
func efficiency(cpu, coreTime float64) any {
	if coreTime <= 0 {
		return nil
	}
	return fmt.Sprintf("%.0f%%", 100*cpu/coreTime)
}
