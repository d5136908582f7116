package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

// jobFormats are the named formats of `frond jobs -o`, Flux's by name and layout.
var jobFormats = map[string]string{
	"default": "{id.f58:>12} ?:{queue:<8.8} {username:<8.8} {name:<10.10+} {status_abbrev:>2.2} {ntasks:>6} {nnodes:>6h} " +
		"{contextual_time!F:>8h} {contextual_info}",
	"long": "{id.f58:>12} ?:{queue:<8.8} {username:<8.8} {name:<10.10+} {status:>9.9} {ntasks:>6} {nnodes:>6h} " +
		"{t_submit!d:%b%d %R::>12} {t_remaining!F:>12h} {contextual_time!F:>8h} {contextual_info}",
	"deps": "{id.f58:>12} ?:{queue:<8.8} {name:<10.10+} {urgency:<3} {priority:<12} {state:<8.8} {contextual_info}",
	"endreason": "{id.f58:>12} ?:{queue:<8.8} {username:<8.8} {name:<10.10+} {status_abbrev:>2.2} " +
		"{t_inactive!d:%b%d %R::>12h} {inactive_reason}",
	"usage": "{id.f58:>12} {name:<10.10+} {status_abbrev:>2.2} {ncores:>6h} {runtime!F:>8h} {cpu!F:>8h} {efficiency:>5h} {maxrss:>10h}",
	"array": "{id.f58:>12} {array:>12h} {index:>7h} {cc:>7h} {name:<10.10+} {status_abbrev:>2.2} {attempt:>7} {contextual_time!F:>8h} {contextual_info}",
}

type jobsOptions struct {
	all, anyUser bool
	noHeader     bool
	user         string
	name         string
	queue        string
	filter       string
	since        string
	format       string
	sort         string
	count        int
	json         bool
	include      string
	width        int
	stats        bool
	statsOnly    bool
	recursive    bool // in instances that are jobs, too
	recurseAll   bool
	level        int // so many levels of them; 0 = all
	threads      int
}

func newJobsCmd(e *env) *cobra.Command {
	o := &jobsOptions{}
	cmd := &cobra.Command{
		Use:   "jobs [OPTIONS] [JOBID…]",
		Short: "List jobs",
		Long: `List the jobs of the instance: those that are pending or running, with -a all.
An array's pending elements are one row, which tells how many of the array have ended; --json, -o and ids list them one by one.
JOBID is an id in any form, ARRAY:17 or ARRAY:1-10 names elements of an array, ID/ID a job of an instance that is a job.

Formats (-o) are Python's format strings over named fields, as in flux jobs:
'{id.f58:>12} {name:<10.10+} {t_inactive!d:%H:%M:%S} {runtime!F:>8h}', or a name: ` + strings.Join(formatNames(jobFormats), ", ") + `.
'frond jobs -o help' lists the fields.

Exit codes: 0, or 1 when a job id is unknown or the instance does not answer;
with --stats-only 1 when no job is active.`,
		Example: `  frond jobs -a -c 20
  frond jobs -f failed -o '{id.f58} {returncode} {nodelist}'
  frond jobs --json f2Gk:0-9`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, e, args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "list jobs in all states")
	f.BoolVarP(&o.anyUser, "all-users", "A", false, "jobs of all users (an instance has one: no difference)")
	f.BoolVarP(&o.noHeader, "no-header", "n", false, "no line of headers")
	f.BoolVar(&o.noHeader, "suppress-header", false, "same as --no-header")
	f.StringVarP(&o.user, "user", "u", "", "jobs of `USER` (name, uid or all)")
	f.StringVar(&o.name, "name", "", "jobs called `NAME`")
	f.StringVarP(&o.queue, "queue", "q", "", "jobs of these queues (`NAMES`)")
	f.StringVarP(&o.filter, "filter", "f", "", "only these `STATES` or results (default pending,running)")
	f.StringVarP(&o.include, "include", "i", "", "only jobs that run or ran on some of these `HOSTS|RANKS`")
	f.IntVarP(&o.width, "width", "w", 0, "cut lines after `N` columns, 0 not at all (default: the terminal's)")
	f.StringVar(&o.since, "since", "", "jobs active since `WHEN`: -15m, or 2026-06-21 06:00; implies -a")
	f.StringVarP(&o.format, "format", "o", "", "output `FORMAT` or its name; help lists them")
	f.StringVar(&o.sort, "sort", "", "sort by `FIELDS` (- in front reverses)")
	f.IntVarP(&o.count, "count", "c", 1000, "at most `N` jobs, 0 for all")
	f.BoolVar(&o.json, "json", false, "print JSON: {\"jobs\": […]}, or one object for one id")
	f.BoolVar(&o.stats, "stats", false, "print the numbers of jobs first")
	f.BoolVar(&o.statsOnly, "stats-only", false, "print only the numbers of jobs")
	f.BoolVarP(&o.recursive, "recursive", "R", false, "list the jobs of instances that are jobs, too, each after its path")
	f.IntVarP(&o.level, "level", "L", 0, "with -R: at most `N` levels of them (default: all)")
	f.BoolVar(&o.recurseAll, "recurse-all", false, "the same as -R: all instances are yours")
	f.IntVar(&o.threads, "threads", 0, "Flux's: `N` makes no difference")
	_ = f.MarkHidden("suppress-header")
	return cmd
}

func (o *jobsOptions) run(cmd *cobra.Command, e *env, args []string) error {
	if o.format == "help" {
		return printFormats(e.stdout, "frond jobs", jobFormats, jobHeaders)
	}
	if o.json && (o.stats || o.statsOnly) {
		return fmt.Errorf("--json cannot be combined with --stats or --stats-only")
	}
	if o.level < 0 {
		return fmt.Errorf("-L/--level %d: must be at least 1", o.level)
	}
	if o.count < 0 {
		return fmt.Errorf("-c/--count %d: must be 0 (all) or a number of jobs", o.count)
	}
	if cmd.Flags().Changed("width") && o.width == 0 {
		o.width = -1
	} else if o.width < 0 {
		return fmt.Errorf("--width %d: must be 0 (not cut) or a number of columns", o.width)
	}
	plan, err := o.plan(e, args, time.Now())
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if o.stats || o.statsOnly {
		counts, err := currentCounts(ctx, c)
		if err != nil {
			return err
		}
		fmt.Fprintf(e.stdout, "%d running, %d completed, %d failed, %d pending\n",
			counts.Running, counts.Inactive-counts.Failed, counts.Failed, counts.Pending)
		if o.statsOnly {
			return codeIf(counts.Running+counts.Pending == 0, 1)
		}
	}
	if plan.nobody {
		return plan.print(e, nil)
	}
	if o.recursive || o.recurseAll || o.level > 0 {
		uri, err := e.uri()
		if err != nil {
			return err
		}
		levels := o.level
		if levels == 0 {
			levels = -1
		}
		return plan.recurse(ctx, e, c, uri, levels)
	}
	return plan.list(ctx, e, c)
}

// codeIf is an exit code without a message, where cond holds.
func codeIf(cond bool, code int) error {
	if !cond || code == 0 {
		return nil
	}
	return &exitError{Code: code}
}

// currentCounts asks for the numbers of jobs.
func currentCounts(ctx context.Context, c *client.Client) (api.CountsRep, error) {
	s, err := client.Open(ctx, c, api.Counts, api.CountsReq{})
	if err != nil {
		return api.CountsRep{}, err
	}
	defer s.Close()
	rep, err := s.Next()
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the instance did not tell its numbers of jobs")
	}
	return rep, err
}

// jobsPlan is what a `frond jobs` asks for and how it shows it.
type jobsPlan struct {
	req      api.ListReq
	args     []string                // the ids as the user wrote them
	queues   []string                // nil = any
	include  func(*api.JobInfo) bool // nil = any
	width    int
	max      int // jobs to show; 0 = all
	format   *format
	sort     []sortKey
	noHeader bool
	json     bool
	single   bool // --json of one id: the bare object
	nobody   bool // jobs of another user: there are none
	below    int  // states to list of instances that are jobs (-R)
	// inspect is called with a connection to each instance that is looked into; nil = it is not
	inspect func(ctx context.Context, c *client.Client, in nested)
	now     float64
}

// plan checks the options and makes the request of them.
func (o *jobsOptions) plan(e *env, args []string, now time.Time) (*jobsPlan, error) {
	p := &jobsPlan{args: args, noHeader: o.noHeader, json: o.json, now: float64(now.UnixNano()) / 1e9}
	ids, err := e.parseIDs(args)
	if err != nil {
		return nil, err
	}
	p.single = o.json && len(ids) == 1
	p.req = api.ListReq{IDs: ids, Name: o.name}
	if len(ids) == 0 {
		p.max = max(0, o.count)
	}
	p.width = o.width
	if p.include, err = parseInclude(o.include); err != nil {
		return nil, err
	}
	if o.queue == "" && p.include == nil {
		p.req.Max = p.max
	}
	if o.queue != "" { // the instance does not filter by queue
		p.queues = strings.Split(o.queue, ",")
	}
	if o.since != "" {
		if p.req.Since, err = parseSince(o.since, now); err != nil {
			return nil, err
		}
	}
	if err := o.setFilter(&p.req); err != nil {
		return nil, err
	}
	below := api.ListReq{}
	if err := o.setFilter(&below); err != nil {
		return nil, err
	}
	p.below = below.States
	p.nobody = !o.anyUser && foreignUser(o.user)
	if p.sort, err = parseSort(o.sort); err != nil {
		return nil, err
	}
	p.req.Collapse = !o.json && len(ids) == 0 && o.format == ""
	if p.format, err = pickFormat(e, o.format, "FROND_JOBS_FORMAT_DEFAULT", jobFormats, jobHeader); err != nil {
		return nil, err
	}
	p.req.Reasons = o.json || slices.ContainsFunc(p.format.fields(), tellsReason)
	return p, nil
}

// setFilter sets states and results: given ids are shown in any state.
func (o *jobsOptions) setFilter(req *api.ListReq) error {
	switch {
	case o.filter != "":
		f, err := jobspec.ParseFilter(o.filter)
		if err != nil {
			return err
		}
		req.States, req.Results = int(f.States), int(f.Results)
	case !o.all && o.since == "" && len(req.IDs) == 0:
		req.States = int(jobspec.StatesActive)
	}
	return nil
}

// foreignUser tells whether who is a user other than the one who runs the command. All jobs of an instance are its owner's.
func foreignUser(who string) bool {
	if who == "" || who == "all" {
		return false
	}
	me, err := user.Current()
	return err != nil || who != me.Username && who != me.Uid
}

// parseSince reads --since as epoch seconds: -FSD, an epoch time, or a date with or without a time.
func parseSince(s string, now time.Time) (float64, error) {
	if ago, ok := strings.CutPrefix(s, "-"); ok {
		secs, err := jobspec.ParseFSD(ago)
		if err != nil || math.IsInf(secs, 0) {
			return 0, fmt.Errorf("--since: %q is not a duration, as in -15m or -6h", s)
		}
		return max(1e-9, float64(now.UnixNano())/1e9-secs), nil
	}
	at, err := parseWhen(s)
	if err != nil {
		return 0, err
	}
	if at > float64(now.UnixNano())/1e9 {
		return 0, fmt.Errorf("--since: %q lies in the future", s)
	}
	return at, nil
}

func parseWhen(s string) (float64, error) {
	if x, err := strconv.ParseFloat(s, 64); err == nil && x > 0 {
		return x, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return float64(t.UnixNano()) / 1e9, nil
		}
	}
	return 0, fmt.Errorf("--since: %q is no time: write -15m (so long ago), 2026-06-21, '2026-06-21 06:00' or epoch seconds", s)
}

// list fetches and prints.
func (p *jobsPlan) list(ctx context.Context, e *env, c *client.Client) error {
	l := &jobListing{ctx: ctx, c: c, req: p.req}
	defer l.close()
	if p.json && !p.single && len(p.sort) == 0 {
		return unknownJob(p.streamJSON(e, l.next), p.args)
	}
	var jobs []*api.JobInfo
	err := p.each(l.next, func(j *api.JobInfo) error {
		jobs = append(jobs, j)
		return nil
	})
	if err != nil {
		return unknownJob(err, p.args)
	}
	return p.print(e, jobs)
}

// unknownJob turns "not found" into Flux's message, where it is clear which job is meant.
func unknownJob(err error, args []string) error {
	if isNotFound(err) && len(args) == 1 {
		return fmt.Errorf("JobID %s unknown", args[0])
	}
	return err
}

// pages is a stream of pages of jobs; io.EOF ends it.
type pages func() (api.ListRep, error)

// eachJob calls f for each job; io.EOF of f ends it without an error.
func eachJob(next pages, f func(*api.JobInfo) error) error {
	for {
		page, err := next()
		for i := 0; i < len(page.Jobs) && err == nil; i++ {
			err = f(&page.Jobs[i])
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// each calls f for the jobs to show.
func (p *jobsPlan) each(next pages, f func(*api.JobInfo) error) error {
	n := 0
	return eachJob(next, func(j *api.JobInfo) error {
		if p.queues != nil && !slices.Contains(p.queues, j.Queue) {
			return nil
		}
		if p.include != nil && !p.include(j) {
			return nil
		}
		if n++; p.max > 0 && n > p.max {
			return io.EOF
		}
		return f(j)
	})
}

func (p *jobsPlan) streamJSON(e *env, next pages) error {
	a := newJSONArray(e.stdout, "jobs")
	users := map[uint32]string{}
	err := p.each(next, func(j *api.JobInfo) error {
		return a.add(jobView{JobInfo: j, now: p.now, ascii: e.asciiIDs(), users: users}.json())
	})
	if err != nil {
		return err
	}
	return a.close()
}

// print shows the jobs as table or JSON.
func (p *jobsPlan) print(e *env, jobs []*api.JobInfo) error {
	if len(p.req.IDs) == 0 && len(p.sort) == 0 {
		slices.SortStableFunc(jobs, listOrder)
	}
	users := map[uint32]string{}
	views := make([]jobView, len(jobs))
	rows := make([]record, len(jobs))
	for i, j := range jobs {
		views[i] = jobView{JobInfo: j, now: p.now, ascii: e.asciiIDs(), users: users}
		rows[i] = views[i].field
	}
	sortRecords(rows, p.sort)
	if p.json {
		return p.printJSON(e, views)
	}
	t := table{format: p.format, noHeader: p.noHeader, width: p.width}
	if e.useColor(e.stdout) {
		t.color = rowColor
	}
	return t.write(e.stdout, rows)
}

func (p *jobsPlan) printJSON(e *env, views []jobView) error {
	if p.single && len(views) == 1 {
		return writeJSON(e.stdout, views[0].json())
	}
	a := newJSONArray(e.stdout, "jobs")
	for _, v := range views {
		if err := a.add(v.json()); err != nil {
			return err
		}
	}
	return a.close()
}

// rowColor is the color of a job's row by its status.
func rowColor(r record) string {
	switch text(r("status_abbrev")) {
	case "F":
		return colorRed
	case "TO":
		return colorYellow
	case "CA":
		return colorFaint
	case "D", "P", "S":
		return colorBlue
	}
	return ""
}
