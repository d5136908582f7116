package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

type logsOptions struct {
	follow bool
	err    bool
	out    bool
	label  bool
	tail   int
	json   bool
}

func newLogsCmd(e *env) *cobra.Command {
	o := &logsOptions{}
	cmd := &cobra.Command{
		Use:   "logs [OPTIONS] JOBID…",
		Short: "Print the output of jobs",
		Long: `Print what jobs have written so far: standard output to standard output, standard error to standard
error. An array's id prints the output of all its elements, in their order, with --follow as it comes, by whole
lines. Output that went to files (--output) is not here.

Exit codes: 0, or 1 when a job is unknown.`,
		Example: `  frond logs f2Gk
  frond logs --err --tail 20 f2Gk:17
  frond logs -f f2Gk`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "go on until the jobs have ended")
	f.BoolVar(&o.err, "err", false, "only standard error (to standard output)")
	f.BoolVar(&o.out, "out", false, "only standard output")
	f.BoolVarP(&o.label, "label-io", "l", false, "put id and task rank in front of each line")
	f.IntVar(&o.tail, "tail", -1, "only the last so many lines of each job")
	f.BoolVar(&o.json, "json", false, "print one JSON object for each piece of output")
	cmd.MarkFlagsMutuallyExclusive("err", "out")
	return cmd
}

func (o *logsOptions) run(ctx context.Context, e *env, args []string) error {
	ids, err := e.parseIDs(args)
	if err != nil {
		return err
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if ids, err = expandArrays(ctx, c, ids); err != nil {
		return unknownJob(err, args)
	}
	switch {
	case o.tail < -1:
		return errors.New("--tail must not be negative")
	case o.follow && len(ids) > 1 && o.tail >= 0:
		return fmt.Errorf("--follow with --tail takes one job; %d are named", len(ids))
	case o.follow && len(ids) > 1 && !o.json:
		return o.all(ctx, e, c, ids)
	}
	for _, id := range ids {
		if err := o.one(ctx, e, c, id); err != nil {
			return err
		}
	}
	return nil
}

// all follows several jobs at once.
func (o *logsOptions) all(ctx context.Context, e *env, c *client.Client, ids []jobspec.ID) error {
	sel := *e
	switch {
	case o.err:
		sel.stdout, sel.stderr = io.Discard, e.stdout
	case o.out:
		sel.stderr = io.Discard
	}
	err := watchAll(ctx, &sel, c, "frond logs", ids, o.label, false)
	var code *exitError
	if errors.As(err, &code) { // how the jobs ended is not asked for
		return nil
	}
	return err
}

// expandArrays replaces the ids of arrays by those of their elements.
func expandArrays(ctx context.Context, c *client.Client, ids []jobspec.ID) ([]jobspec.ID, error) {
	l := &jobListing{ctx: ctx, c: c, req: api.ListReq{IDs: ids}}
	defer l.close()
	var all []jobspec.ID
	err := eachJob(l.next, func(j *api.JobInfo) error {
		all = append(all, j.ID)
		return nil
	})
	if len(all) > len(ids) {
		slices.Sort(all) // elements come in the order in which they ended
	}
	return all, err
}

// one prints one job's output.
func (o *logsOptions) one(ctx context.Context, e *env, c *client.Client, id jobspec.ID) error {
	stdout, stderr := e.stdout, e.stderr
	var kept *tailLines
	if o.tail >= 0 {
		kept = &tailLines{n: o.tail}
		stdout = kept
		if !o.out && !o.err {
			stderr = kept
		}
	}
	switch {
	case o.err:
		stdout, stderr = io.Discard, stdout
	case o.out:
		stderr = io.Discard
	}
	w := newOutputWriter(stdout, stderr, o.label)
	w.prefix = e.idText(id) + ": "
	a := &attacher{env: e, verb: "frond logs", client: c, id: id, out: w, quiet: true, noFollow: !o.follow || kept != nil}
	shown := printed{}
	if o.json {
		a.piece = func(p *api.Output) error { return writeJSON(e.stdout, o.pieceJSON(id, p)) }
	} else if kept != nil {
		a.piece = func(p *api.Output) error {
			shown.note(p)
			w.write(p)
			return nil
		}
	}
	if _, err := a.run(ctx); err != nil {
		return err
	}
	if kept == nil {
		return nil
	}
	if err := kept.flush(e.stdout); err != nil || !o.follow {
		return err
	}
	rest := *o
	rest.tail = -1
	return rest.goOn(ctx, e, c, id, shown)
}

// attemptStream is one stream of one task in one attempt of a job.
type attemptStream struct {
	attempt uint32
	task    int
	stream  uint8
}

// printed tells how far the streams of a job were printed: the offset behind the last byte of each.
type printed map[attemptStream]int64

func (m printed) note(p *api.Output) {
	m[attemptStream{p.Attempt, p.Task, p.Stream}] = p.Offset + int64(len(p.Data))
}

// rest leaves of a piece what was not printed; false = nothing.
func (m printed) rest(p *api.Output) bool {
	if skip := m[attemptStream{p.Attempt, p.Task, p.Stream}] - p.Offset; skip > 0 {
		skip = min(skip, int64(len(p.Data)))
		p.Offset, p.Data = p.Offset+skip, p.Data[skip:]
	}
	return len(p.Data) > 0
}

// goOn follows a job of which some was printed.
func (o *logsOptions) goOn(ctx context.Context, e *env, c *client.Client, id jobspec.ID, shown printed) error {
	stdout, stderr := e.stdout, e.stderr
	switch {
	case o.err:
		stdout, stderr = io.Discard, e.stdout
	case o.out:
		stderr = io.Discard
	}
	w := newOutputWriter(stdout, stderr, o.label)
	w.prefix = e.idText(id) + ": "
	a := &attacher{env: e, verb: "frond logs", client: c, id: id, out: w, quiet: true}
	a.piece = func(p *api.Output) error {
		if shown.rest(p) {
			w.write(p)
		}
		return nil
	}
	_, err := a.run(ctx)
	return err
}

func (o *logsOptions) pieceJSON(id jobspec.ID, p *api.Output) map[string]any {
	stream := "stdout"
	if p.Stream == 2 {
		stream = "stderr"
	}
	return map[string]any{"id": uint64(id), "task": p.Task, "stream": stream, "offset": p.Offset, "data": string(p.Data)}
}

// jobListing reads a listing page by page, asking for more where the leader stopped. It does not begin anew when the connection was lost,
// because what was read of it has been used already.
type jobListing struct {
	ctx context.Context
	c   *client.Client
	req api.ListReq
	s   *client.Stream[api.ListRep] // nil = to be opened
	got int
}

// next is the next page (type pages).
func (l *jobListing) next() (api.ListRep, error) {
	for {
		if l.s == nil {
			s, err := client.Open(l.ctx, l.c, api.List, l.req)
			if err != nil {
				return api.ListRep{}, err
			}
			l.s = s
		}
		rep, err := l.s.Next()
		switch {
		case err == nil && l.s.Restarts() > 0:
			return rep, errors.New("the connection was lost while jobs were listed; try again")
		case err == nil && rep.Next != nil && len(rep.Jobs) == 0:
			l.goOn(rep.Next)
			continue
		case err == nil:
			l.got += len(rep.Jobs)
		}
		return rep, err
	}
}

// goOn makes the next request the one for the rest.
func (l *jobListing) goOn(at *api.ListAfter) {
	l.close()
	l.req.After = at
	if l.req.Max > 0 {
		l.req.Max -= l.got
	}
	l.got = 0
}

func (l *jobListing) close() {
	if l.s != nil {
		l.s.Close()
		l.s = nil
	}
}
