package main

import (
	"context"
	"errors"
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
error. An array's id prints the output of all its elements, in their order. Output that went to
files (--output) is not here.

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
	cmd.MarkFlagsMutuallyExclusive("follow", "tail")
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
	for _, id := range ids {
		if err := o.one(ctx, e, c, id); err != nil {
			return err
		}
	}
	return nil
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
	a := &attacher{env: e, verb: "frond logs", client: c, id: id, out: w, quiet: true, noFollow: !o.follow}
	if o.json {
		a.piece = func(p *api.Output) error { return writeJSON(e.stdout, o.pieceJSON(id, p)) }
	}
	if _, err := a.run(ctx); err != nil {
		return err
	}
	if kept != nil {
		return kept.flush(e.stdout)
	}
	return nil
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
