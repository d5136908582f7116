package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

type pstreeOptions struct {
	all, long, parentIDs, noHeader, noCombine, compact, ascii, extended bool
	count, level                                                        int
	filter, label, parentLabel, detailFormat, details, skipRoot         string
}

// pstreeDetails are the named formats of what stands before the tree (--details).
var pstreeDetails = map[string]string{
	"default":   "{id.f58:>12} {username:<8.8} {status_abbrev:>2.2} {ntasks:>6} {nnodes:>6h} {runtime!F:>8h}",
	"resources": "{id.f58:>12} {instance.resources.all.nnodes:>6h} {instance.resources.all.ncores:>6h} {instance.resources.all.ngpus:>5h} {instance.resources.free.ncores:>6h}",
	"progress":  "{id.f58:>12} {ntasks:>6} {nnodes:>6h} {instance.progress:>5h} {instance.utilization:>5h} {runtime!F:>8h}",
	"stats":     "{id.f58:>12} {instance.stats:<26h} {instance.utilization:>5h} {runtime!F:>8h}",
}

func newPstreeCmd(e *env) *cobra.Command {
	o := &pstreeOptions{}
	cmd := &cobra.Command{
		Use:   "pstree [OPTIONS] [JOBID…]",
		Short: "Show jobs, and those of instances that are jobs, as a tree",
		Long: `Show the running jobs of the instance as a tree, in which jobs that are instances have theirs below them. With JOBID only
these. Jobs that do not run have their status behind the name; jobs alike without others below them are one entry, 3*[sleep].

With -x, or --details=default|resources|progress|stats, columns stand before the tree.

Exit codes: 0, or 1 when a job id is unknown or the instance does not answer.`,
		Example: `  frond pstree
  frond pstree -a -L2
  frond pstree --details=progress --skip-root=no`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "jobs in all states")
	f.IntVarP(&o.count, "count", "c", 1000, "at most `N` jobs of an instance, 0 for all")
	f.StringVarP(&o.filter, "filter", "f", "running", "only these `STATES` or results")
	f.BoolVarP(&o.extended, "extended", "x", false, "columns before the tree, as --details=default")
	f.BoolVarP(&o.long, "long", "l", false, "more of each job in the tree")
	f.IntVarP(&o.level, "level", "L", 0, "at most `N` levels of instances (default: all)")
	f.BoolVarP(&o.parentIDs, "parent-ids", "p", false, "ids before the names of jobs that are instances")
	f.BoolVarP(&o.noHeader, "no-header", "n", false, "no line of headers over the columns")
	f.BoolVarP(&o.noCombine, "no-combine", "X", false, "jobs alike each for itself")
	f.StringVarP(&o.label, "label", "o", "", "the text of a job, a `FORMAT` as of frond jobs")
	f.StringVar(&o.parentLabel, "parent-label", "", "that of a job that is an instance: `FORMAT` (default: as --label)")
	f.StringVar(&o.detailFormat, "detail-format", "", "columns before the tree: `FORMAT`")
	f.StringVarP(&o.details, "details", "d", "", "columns before the tree by `NAME`: "+strings.Join(formatNames(pstreeDetails), ", "))
	f.BoolVarP(&o.compact, "compact", "C", false, "shorter lines between names")
	f.BoolVar(&o.ascii, "ascii", false, "lines of ASCII characters")
	f.StringVar(&o.skipRoot, "skip-root", "", "`yes|no`: without the instance itself (default: no, but yes with columns)")
	return cmd
}

func (o *pstreeOptions) run(ctx context.Context, e *env, args []string) error {
	d, err := o.drawer(e, args)
	if err != nil {
		return err
	}
	jobs := &jobsOptions{all: o.all, filter: o.filter, count: o.count}
	if o.all {
		jobs.filter = ""
	}
	plan, err := jobs.plan(e, args, time.Now())
	if err != nil {
		return err
	}
	plan.req.Collapse = true
	if d.columns != nil && slices.ContainsFunc(d.columns.fields(), func(f string) bool { return strings.HasPrefix(f, "instance.") }) {
		d.seen = map[jobspec.ID]*instanceView{}
		plan.inspect = d.inspect
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	uri, err := e.uri()
	if err != nil {
		return err
	}
	levels := -1
	if o.level > 0 {
		levels = o.level
	}
	tree, err := plan.tree(ctx, e, c, uri, "", levels)
	if err != nil {
		return unknownJob(err, args)
	}
	d.now = plan.now
	d.root(tree)
	return d.print(e)
}

// drawer checks the options.
func (o *pstreeOptions) drawer(e *env, args []string) (*treeDrawer, error) {
	d := &treeDrawer{e: e, combine: !o.noCombine, ids: o.parentIDs, users: map[uint32]string{}, noHeader: o.noHeader}
	if o.level < 0 {
		return nil, fmt.Errorf("-L/--level %d: must be at least 1", o.level)
	}
	d.lines = [2][4]string{{"├── ", "└── ", "│   ", "    "}, {"├─", "└─", "│ ", "  "}}[b2i(o.compact)]
	if o.ascii {
		d.lines = [2][4]string{{"|-- ", "`-- ", "|   ", "    "}, {"|-", "`-", "| ", "  "}}[b2i(o.compact)]
	}
	label := o.label
	if label == "" && o.long {
		label = "{name} {id.f58} {status_abbrev} {ntasks} {runtime!F}"
	}
	var err error
	if d.label, err = pstreeFormat("--label", label); err != nil {
		return nil, err
	}
	if d.parent, err = pstreeFormat("--parent-label", o.parentLabel); err != nil {
		return nil, err
	}
	if d.parent == nil {
		d.parent = d.label
	}
	if o.extended && o.details == "" {
		o.details = "default"
	}
	columns := o.detailFormat
	if columns == "" && o.details != "" {
		if columns = pstreeDetails[o.details]; columns == "" {
			return nil, fmt.Errorf("--details=%s: there are %s", o.details, strings.Join(slices.Sorted(maps.Keys(pstreeDetails)), ", "))
		}
	}
	if d.columns, err = pstreeFormat("--detail-format", columns); err != nil {
		return nil, err
	}
	switch o.skipRoot {
	case "":
		d.skipRoot = d.columns != nil
	case "yes", "no":
		d.skipRoot = o.skipRoot == "yes"
	default:
		return nil, fmt.Errorf("--skip-root=%s: must be yes or no", o.skipRoot)
	}
	d.skipRoot = d.skipRoot || len(args) > 0 && o.skipRoot != "no"
	d.combine = d.combine && d.columns == nil
	return d, nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func pstreeFormat(option, text string) (*format, error) {
	if text == "" {
		return nil, nil
	}
	f, err := parseFormat(text, pstreeHeader)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	return f, nil
}

// pstreeHeader knows the fields of jobs, and those of instances.
func pstreeHeader(name string) (string, bool) {
	if h, ok := instanceHeaders[name]; ok {
		return h, true
	}
	return jobHeader(name)
}

// treeDrawer makes lines of a tree of jobs.
type treeDrawer struct {
	e             *env
	label, parent *format // nil: the name, and the status if it does not run
	columns       *format // nil = none
	lines         [4]string
	combine, ids  bool
	skipRoot      bool
	noHeader      bool
	now           float64
	users         map[uint32]string
	seen          map[jobspec.ID]*instanceView
	rows          []treeRow
}

// treeRow is one line: the columns' values, nil for the root, and the tree.
type treeRow struct {
	rec  record
	text string
}

func (d *treeDrawer) root(t *jobTree) {
	if d.skipRoot {
		for _, b := range d.branches(t) {
			d.rows = append(d.rows, treeRow{b.rec, b.label})
			d.below(b.in, "")
		}
		return
	}
	d.rows = append(d.rows, treeRow{nil, "."})
	d.below(t, "")
}

// branch is one or more jobs below an instance.
type branch struct {
	rec   record
	label string
	in    *jobTree // nil: nothing is below it
	count int
}

// branches are the jobs of an instance, the oldest first, those alike as one.
func (d *treeDrawer) branches(t *jobTree) []branch {
	if t == nil {
		return nil
	}
	jobs := slices.Clone(t.jobs)
	slices.SortStableFunc(jobs, func(a, b *api.JobInfo) int { return int(min(1, max(-1, int64(a.ID)-int64(b.ID)))) })
	var list []branch
	for _, j := range jobs {
		path := t.below(d.e, j)
		b := branch{rec: d.record(j), count: max(1, j.NElements)}
		if at := slices.IndexFunc(t.in, func(in *jobTree) bool { return in.path == path }); at >= 0 {
			b.in = t.in[at]
		}
		b.label = d.labelOf(j, b.rec, b.in != nil)
		like := slices.IndexFunc(list, func(o branch) bool { return o.in == nil && o.label == b.label })
		if d.combine && b.in == nil && like >= 0 {
			list[like].count += b.count
			continue
		}
		list = append(list, b)
	}
	for i := range list {
		if b := &list[i]; b.count > 1 {
			b.label = fmt.Sprintf("%d*[%s]", b.count, b.label)
		}
	}
	return list
}

func (d *treeDrawer) record(j *api.JobInfo) record {
	v := jobView{JobInfo: j, now: d.now, ascii: d.e.asciiIDs(), users: d.users}
	return func(name string) any {
		if field, ok := strings.CutPrefix(name, "instance."); ok {
			return d.seen[j.ID].field(field)
		}
		return v.field(name)
	}
}

func (d *treeDrawer) labelOf(j *api.JobInfo, r record, parent bool) string {
	f := d.label
	if parent {
		f = d.parent
	}
	text := ""
	if f != nil {
		text = strings.TrimSpace(f.row(r))
	} else if text = j.Name; jobspec.State(j.State) != jobspec.StateRun {
		text += ":" + textOf(r("status_abbrev"))
	}
	if parent && d.ids {
		text = d.e.idText(j.ID) + " " + text
	}
	return escaped(text)
}

func textOf(v any) string {
	s, _ := v.(string)
	return s
}

func (d *treeDrawer) below(t *jobTree, indent string) {
	list := d.branches(t)
	for i, b := range list {
		turn, on := d.lines[0], d.lines[2]
		if i == len(list)-1 {
			turn, on = d.lines[1], d.lines[3]
		}
		d.rows = append(d.rows, treeRow{b.rec, indent + turn + b.label})
		d.below(b.in, indent+on)
	}
}

// print writes the lines, with the columns before them.
func (d *treeDrawer) print(e *env) error {
	var b bytes.Buffer
	width := 0
	if d.columns != nil {
		width = len([]rune(d.columns.header()))
		if !d.noHeader {
			fmt.Fprintln(&b, strings.TrimRight(d.columns.header(), " "))
		}
	}
	for _, r := range d.rows {
		switch {
		case d.columns == nil:
		case r.rec == nil:
			fmt.Fprintf(&b, "%*s ", width, "")
		default:
			line := d.columns.row(r.rec)
			fmt.Fprintf(&b, "%s%*s ", line, max(0, width-len([]rune(line))), "")
		}
		fmt.Fprintln(&b, r.text)
	}
	_, err := e.stdout.Write(b.Bytes())
	return err
}
