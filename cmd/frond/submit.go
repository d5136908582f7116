package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/idset"
	"github.com/spf13/cobra"
)

type submitCmd struct {
	submitOptions
	followOptions
	source  sourceOptions
	cc, bcc string
	array   string
	once    string
	json    bool
}

func newSubmitCmd(e *env) *cobra.Command {
	o := &submitCmd{}
	cmd := &cobra.Command{
		Use:   "submit [OPTIONS] COMMAND [ARG…]",
		Short: "Submit a job or an array of jobs",
		Long: `Submit a command as a job and print its id. With --cc=IDSET one job is made for each id of the set:
they are elements of one array, {cc} in the command and in file names is the id, FROND_JOB_CC
holds it in the environment (with --bcc not).

With --array=SPEC the set is written as Slurm does, and %N after it limits how many run at once.
A job that fails runs again with --retries=N (up to N times; not when it was cancelled or reached its
time limit); with --max-fails=N the rest of an array is cancelled when N of its jobs have failed for good.

With --each-line=FILE one job is made for each line of a file, with --from-json=FILE for each item of
a JSON array. {line} and {entry} in the command and in file names are the line and the item (of a
string what it holds); FROND_LINE has the line, FROND_ENTRY the item as JSON.

The job gets this command's environment, working directory and resource limits.

With --once=KEY nothing is submitted if the same was submitted under this key before: the ids of then
are printed, and --wait waits for those jobs. So a script that is run again with the same --statedir
goes on where it was. It is the same when command, options and parameters are (not the environment);
another submission under the same key is an error.

With --on-finish=COMMAND a shell runs COMMAND once when the job, or the last of all jobs submitted by this command,
has ended in whatever way. It is a job of its own, NAME.on-finish, with one core, the same directory and environment, and
FROND_FINISHED_ID, FROND_RESULT (completed, failed, canceled or timeout; of an array the worst), FROND_EXIT_CODE,
FROND_STATUS (as wait(2) has it) and FROND_FAILED (how many jobs did not complete). --wait does not wait for it.

Exit codes: 0 when submitted; with --wait or --watch the largest exit code of the jobs
(128 + the signal for a signal), 1 for a job that ended by an exception without one.`,
		Example: `  frond submit -n4 -c2 -t 30m ./simulate input.dat
  frond submit --cc=1-1000 --output='out.{cc}' ./sweep --seed={cc}
  frond submit --array=1-1000%50 --retries=2 ./job.sh {cc}
  frond submit --once=step1 --wait --cc=1-100 ./step1 {cc}
  frond submit --each-line=files.txt gzip {line}
  frond submit --wait --progress --quiet --cc=0-99 ./step {cc}`,
		Args: needCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.command = args
			if cmd.Flags().Changed("once") {
				if err := checkKey(o.once); err != nil {
					return err
				}
			}
			return o.run(cmd.Context(), e)
		},
	}
	o.submitOptions.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.cc, "cc", "", "one job for each id of `IDSET`: 1-100 or 3,5,7")
	f.StringVar(&o.bcc, "bcc", "", "as --cc, for `IDSET`, without FROND_JOB_CC in the environment")
	f.StringVar(&o.array, "array", "", "as --cc, in Slurm's spelling: `SPEC` is 1-100, 0-90:10 or 1-1000%50 (50 at once)")
	f.StringVar(&o.once, "once", "", "submit nothing if it was submitted under `KEY` before: the same ids again")
	o.addArray(cmd)
	o.source.add(cmd)
	o.followOptions.add(f)
	f.BoolVar(&o.json, "json", false, "print the ids as JSON: {\"ids\": […]}")
	return cmd
}

func (o *submitCmd) run(ctx context.Context, e *env) error {
	batch, err := o.make(e)
	if err != nil {
		return err
	}
	return o.submit(ctx, e, "frond submit", batch)
}

// submit submits a batch, prints the ids and does what else the options ask for.
func (o *submitCmd) submit(ctx context.Context, e *env, verb string, b *batch) (err error) {
	if err := b.addFinish(&o.submitOptions, os.Environ()); err != nil {
		return err
	}
	restore, err := o.redirect(e)
	if err != nil {
		return err
	}
	defer func() {
		if e := restore(); e != nil && err == nil {
			err = e
		}
	}()
	if o.dryRun {
		return b.print(e)
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	b.once = o.once
	ids, err := b.submit(ctx, c)
	if err != nil {
		return err
	}
	if err := o.printIDs(e, b, ids); err != nil {
		return err
	}
	return o.follow(ctx, e, c, verb, ids, b.elements(ids), o.label, o.unbuffered)
}

func (o *submitCmd) make(e *env) (*batch, error) {
	if o.source.given() {
		return o.source.batch(e, &o.submitOptions, api.SubmitItem{Watched: o.watch})
	}
	cc := o.cc
	if o.array != "" {
		var err error
		if cc, o.atOnce, err = arraySpec(o.array); err != nil {
			return nil, err
		}
	}
	return o.batch(cc, o.bcc, os.Environ(), o.watch)
}

// jobName is the name that the job will have.
func (o *submitOptions) jobName() string {
	if o.name != "" {
		return o.name
	}
	return filepath.Base(o.command[0])
}

// printIDs prints the ids of all jobs, an array's elements one by one.
func (o *submitCmd) printIDs(e *env, b *batch, ids []jobspec.ID) error {
	if o.json {
		all := []uint64{}
		for _, id := range b.elements(ids) {
			all = append(all, uint64(id))
		}
		return writeJSON(e.stdout, map[string]any{"ids": all})
	}
	if o.quiet {
		return nil
	}
	out := bufio.NewWriter(e.stdout)
	ascii := e.asciiIDs()
	for _, id := range b.elements(ids) {
		if ascii {
			out.WriteString(id.F58Plain())
		} else {
			out.WriteString(id.String())
		}
		out.WriteByte('\n')
	}
	return flush(out)
}

// batch is what one command line submits.
type batch struct {
	items []api.SubmitItem
	envs  [][]byte
	dry   []func() ([]byte, error) // the jobspec of each job as --dry-run shows it
	// params has the parameters of the elements of those items that have some (item.Params), by the item's place
	params map[int]iter.Seq[[]string]
	// once is a key: what was submitted under it before is not submitted again; content tells whether it is the same
	once    string
	content [][]byte
	names   []string // of the jobs
	finish  bool     // the last item is the job of --on-finish
}

// batch makes the items of the options: one item, a job or an array, unless {cc} stands where it makes the jobs differ in more than
// their command line.
func (o *submitOptions) batch(cc, bcc string, environ []string, watched bool) (*batch, error) {
	if cc != "" && bcc != "" {
		return nil, fmt.Errorf("--cc and --bcc cannot be combined")
	}
	b := &batch{}
	if cc == "" && bcc == "" {
		return b, b.add(o, environ, api.SubmitItem{Watched: watched}, nil)
	}
	set, err := idset.Parse(cc + bcc)
	if err != nil {
		return nil, fmt.Errorf("--cc: %w", err)
	}
	if set.Empty() {
		return nil, fmt.Errorf("--cc: the set of ids is empty")
	}
	if !o.differs() {
		return b, b.add(o, environ, api.SubmitItem{N: set.Len(), CC: set.String(), BCC: bcc != "", Watched: watched}, &set)
	}
	if o.maxFails+o.atOnce != "" {
		return nil, errors.New("--max-fails and %N of --array need one array; {cc} in options other than the command and file names makes jobs of their own")
	}
	if set.Len() > maxDifferent {
		return nil, fmt.Errorf("{cc} in options makes %d different jobspecs; at most %d are allowed", set.Len(), maxDifferent)
	}
	for id := range set.All() {
		value := strconv.Itoa(id)
		one := idset.Of(id)
		if err := b.add(o.with(value), environ, api.SubmitItem{N: 1, CC: value, BCC: bcc != "", Watched: watched}, &one); err != nil {
			return nil, err
		}
	}
	return b, nil
}

const maxDifferent = 100_000 // jobspecs of one command

// add appends the item for o. set has the values of {cc}, nil where there are none.
func (b *batch) add(o *submitOptions, environ []string, item api.SubmitItem, set *idset.Set) error {
	spec, err := o.spec()
	if err != nil {
		return err
	}
	vars, err := applyEnvRules(environ, o.env)
	if err != nil {
		return err
	}
	if item.Spec, err = jobspec.BuildJSON(spec); err != nil {
		return err
	}
	if item.Urgency, err = o.urgencyValue(); err != nil {
		return err
	}
	if item.Flags, err = parseSubmitFlags(o.flags); err != nil {
		return err
	}
	content, err := o.content(spec)
	if err != nil {
		return err
	}
	b.content, b.names = append(b.content, content), append(b.names, o.jobName())
	item.Env = b.envIndex(vars.bytes())
	b.items = append(b.items, item)
	if o.dryRun {
		b.addDry(o, vars, set, item.BCC, b.params[len(b.items)-1])
	}
	return nil
}

// envIndex is the 1-based place of an environment among those that travel with the batch.
func (b *batch) envIndex(env []byte) int {
	if n := len(b.envs); n == 0 || string(b.envs[n-1]) != string(env) {
		b.envs = append(b.envs, env)
	}
	return len(b.envs)
}

// addDry notes how to show the jobspecs of an item in full, with {cc} replaced as the tasks will see it.
func (b *batch) addDry(o *submitOptions, vars *environ, set *idset.Set, bcc bool, lists iter.Seq[[]string]) {
	show := func(o *submitOptions, cc string) func() ([]byte, error) {
		return func() ([]byte, error) {
			spec, err := o.spec()
			if err != nil {
				return nil, err
			}
			spec.Environment = map[string]string{}
			for _, name := range vars.names {
				spec.Environment[name] = vars.values[name]
			}
			if cc != "" && !bcc {
				spec.Environment["FROND_JOB_CC"] = cc
			}
			return jobspec.BuildJSON(spec)
		}
	}
	if lists != nil {
		for list := range lists {
			one := *o
			one.command = jobspec.WithParams(o.command, list)
			b.dry = append(b.dry, show(&one, ""))
		}
		return
	}
	if set == nil {
		b.dry = append(b.dry, show(o, ""))
		return
	}
	for id := range set.All() {
		cc := strconv.Itoa(id)
		b.dry = append(b.dry, show(o.with(cc), cc))
	}
}

// print shows the jobspecs, one a line.
func (b *batch) print(e *env) error {
	out := bufio.NewWriter(e.stdout)
	for _, show := range b.dry {
		spec, err := show()
		if err != nil {
			return err
		}
		out.Write(spec)
		out.WriteByte('\n')
	}
	return flush(out)
}

// Limits of one request, well below a frame's 16 MiB.
const (
	maxItems = 4096
	maxSpecs = 4 << 20 // bytes
)

// submit sends the batch, in several requests where it is large, and returns an id for each item but that of --on-finish. Each request carries a token,
// so that it can be sent again after a lost connection.
func (b *batch) submit(ctx context.Context, c *client.Client) ([]jobspec.ID, error) {
	var ids []jobspec.ID
	for first := 0; first < len(b.items); {
		n, size := 0, 0
		for first+n < len(b.items) && n < maxItems && (n == 0 || size+len(b.content[first+n]) < maxSpecs) {
			size += len(b.content[first+n]) // not of the jobspec: the same batch is always cut in the same places
			n++
		}
		if b.finish && n < len(b.items) {
			return nil, errors.New("--on-finish: the jobs' options are too large for one request")
		}
		some, err := b.submitPart(ctx, c, first, n)
		if err != nil {
			return ids, err
		}
		if len(some) != n {
			return ids, fmt.Errorf("the instance answered %d ids for %d jobs", len(some), n)
		}
		ids = append(ids, some...)
		first += n
	}
	return b.jobs(ids), nil
}

// submitPart sends one request, of n items from the first on.
func (b *batch) submitPart(ctx context.Context, c *client.Client, first, n int) ([]jobspec.ID, error) {
	req := b.request(first, n)
	uploads := req.Token
	if b.once != "" {
		ids, err := b.asOnce(ctx, c, &req, first)
		if err != nil || ids != nil {
			return ids, err
		}
		uploads = req.Uploads
	}
	if err := b.uploadParams(ctx, c, uploads, first, n); err != nil {
		return nil, err
	}
	rep, err := client.Call(ctx, c, api.Submit, req)
	return rep.IDs, err
}

// request is the part of the batch from item first on, with the environments it uses.
func (b *batch) request(first, n int) api.SubmitReq {
	req := api.SubmitReq{Token: rand.Text(), Items: append([]api.SubmitItem(nil), b.items[first:first+n]...)}
	at := map[int]int{}
	for i := range req.Items {
		old := req.Items[i].Env
		if at[old] == 0 {
			req.Envs = append(req.Envs, b.envs[old-1])
			at[old] = len(req.Envs)
		}
		req.Items[i].Env = at[old]
	}
	return req
}

// elements are the ids of all jobs: of an array with id A those of its elements, A+1 and on.
func (b *batch) elements(ids []jobspec.ID) []jobspec.ID {
	var all []jobspec.ID
	for i, id := range ids {
		if b.items[i].N <= 1 {
			all = append(all, id)
			continue
		}
		for k := range b.items[i].N {
			all = append(all, id+1+jobspec.ID(k))
		}
	}
	return all
}
