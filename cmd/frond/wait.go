package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

type waitOptions struct {
	all      bool
	verbose  bool
	quiet    bool
	progress bool
	json     bool
}

func newWaitCmd(e *env) *cobra.Command {
	o := &waitOptions{}
	cmd := &cobra.Command{
		Use:   "wait [OPTIONS] [JOBID…]",
		Short: "Wait for jobs to end",
		Long: `Wait until the given jobs, or with --all all that are active now, have ended.
An array counts as one and ends with its last element.

Exit codes: 0 when all completed; else the largest exit code of the jobs, at least 1.
What failed is told on standard error (not with --quiet).`,
		Example: `  id=$(frond submit --cc=1-100 --quiet sleep 1); frond wait --all
  frond wait -v f2Gk f2Gm`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "wait for all active jobs")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print each job as it ends")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "do not tell what failed")
	f.BoolVar(&o.progress, "progress", false, "show a bar (on a terminal)")
	f.BoolVar(&o.json, "json", false, "print one JSON object a job as it ends")
	return cmd
}

func (o *waitOptions) run(ctx context.Context, e *env, args []string) error {
	if o.all == (len(args) > 0) {
		return fmt.Errorf("give either job ids or --all")
	}
	ids, err := e.parseIDs(args)
	if err != nil {
		return err
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	w := &waiter{env: e, verb: "frond wait", quiet: o.quiet, json: o.json, verbose: o.verbose}
	if o.progress {
		w.bar = newProgress(e)
	}
	return w.wait(ctx, c, api.WaitReq{IDs: ids, All: o.all, Progress: o.progress})
}

// waiter follows jobs until they have ended and keeps the worst exit code.
type waiter struct {
	env     *env
	verb    string // in front of messages
	quiet   bool
	verbose bool
	json    bool
	bar     *progress // nil = none
	worst   int
	done    map[jobspec.ID]bool
}

// wait returns nil when all completed, else an exitError with the worst exit code.
func (w *waiter) wait(ctx context.Context, c *client.Client, req api.WaitReq) error {
	defer w.bar.stop()
	s, err := client.Open(ctx, c, api.Wait, req)
	if err != nil {
		return err
	}
	defer s.Close()
	w.done = map[jobspec.ID]bool{}
	for {
		rep, err := s.Next()
		if errors.Is(err, io.EOF) {
			return w.end()
		}
		if err != nil {
			return err
		}
		w.step(&rep)
	}
}

func (w *waiter) end() error {
	if w.worst == 0 {
		return nil
	}
	return &exitError{Code: w.worst}
}

// step takes one answer. After a reconnection some come again.
func (w *waiter) step(rep *api.WaitRep) {
	w.bar.update(rep)
	if !rep.Done && rep.Err == "" || w.done[rep.ID] {
		return
	}
	w.done[rep.ID] = true
	code := waitCode(rep)
	w.worst = max(w.worst, code)
	switch {
	case w.json:
		_ = writeJSON(w.env.stdout, waitJSON(rep))
	case w.verbose && code == 0:
		fmt.Fprintf(w.env.stdout, "%s: %s\n", w.env.idText(rep.ID), outcome(rep))
	case code != 0 && !w.quiet:
		w.bar.note(fmt.Sprintf("%s: %s: %s\n", w.verb, w.env.idText(rep.ID), outcome(rep)), w.env.stderr)
	}
}

// waitCode is the exit code of a job's outcome: as a shell would show its largest wait status, 1 where it did not complete without one.
func waitCode(rep *api.WaitRep) int {
	if rep.Err != "" {
		return 1
	}
	code := jobspec.ExitCode(rep.Status)
	if code == 0 && rep.Failed+rep.Canceled+rep.TimedOut > 0 {
		return 1
	}
	return code
}

// outcome says in words how a job or an array ended.
func outcome(rep *api.WaitRep) string {
	if rep.Err != "" {
		return rep.Err
	}
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{rep.Failed, "failed"}, {rep.Canceled, "canceled"}, {rep.TimedOut, "timed out"}} {
		switch {
		case p.n == 0:
		case rep.N > 1:
			parts = append(parts, fmt.Sprintf("%d of %d %s", p.n, rep.N, p.what))
		default:
			parts = append(parts, p.what)
		}
	}
	if len(parts) == 0 {
		if rep.N > 1 {
			return fmt.Sprintf("all %d completed", rep.N)
		}
		return "completed"
	}
	s := strings.Join(parts, ", ")
	if how := statusText(rep.Status); how != "" {
		s += ": " + how
	}
	if rep.Exception != "" {
		s += ": exception: " + escaped(rep.Exception)
	}
	return s
}

// statusText describes a wait status; "" for one that says nothing.
func statusText(status int) string {
	code := jobspec.ExitCode(status)
	switch sig := jobspec.WaitSignal(status); {
	case sig != 0:
		return signalName(sig)
	case code > 128 && code < 128+65:
		return fmt.Sprintf("%s (exit code %d)", signalName(code-128), code)
	case code > 0:
		return fmt.Sprintf("exit code %d", code)
	}
	return ""
}

func waitJSON(rep *api.WaitRep) map[string]any {
	m := map[string]any{"id": uint64(rep.ID), "n": rep.N, "completed": rep.Completed, "failed": rep.Failed, "canceled": rep.Canceled,
		"timeout": rep.TimedOut, "waitstatus": rep.Status, "returncode": waitCode(rep)}
	if rep.Exception != "" {
		m["exception"] = rep.Exception
	}
	if rep.Err != "" {
		m["error"] = rep.Err
	}
	return m
}
