package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

type explainOptions struct{ json bool }

func newExplainCmd(e *env) *cobra.Command {
	o := &explainOptions{}
	cmd := &cobra.Command{
		Use:   "explain [--json] JOBID…",
		Short: "Say in a sentence why a job waits, or what became of it",
		Long: `Say of each job, element (ARRAY:17) or array in a plain sentence why it does not run yet and when it is
expected to start, where it runs, or how it ended. Estimates take it that all jobs run to their time
limits and that the queue goes in order; behind a job without a time limit nothing is known.

Exit codes: 0, or 1 when a job is unknown.`,
		Example: `  frond explain f2Gk
  frond explain --json f2Gk:17`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON object a job")
	return cmd
}

func (o *explainOptions) run(ctx context.Context, e *env, args []string) error {
	ids, err := e.parseIDs(args)
	if err != nil {
		return err
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, id := range ids {
		x := &explanation{ctx: ctx, e: e, c: c, now: time.Now()}
		if err := x.ask(id); err != nil {
			return infoError(e, id, err)
		}
		text := x.text()
		if o.json {
			err = writeJSON(e.stdout, x.json(id, text))
		} else {
			_, err = fmt.Fprintf(e.stdout, "%s.\n", escaped(x.subject(id)+" "+text))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// explanation is what is known of one job, and puts it into words.
type explanation struct {
	ctx      context.Context
	e        *env
	c        *client.Client
	now      time.Time
	rep      api.ExplainRep
	attempts []earlier
}

// earlier is an attempt before the last.
type earlier struct {
	Attempt int    `json:"attempt"`
	Nodes   string `json:"nodelist,omitempty"`
	Reason  string `json:"reason"`
}

func (x *explanation) ask(id jobspec.ID) (err error) {
	if x.rep, err = client.Call(x.ctx, x.c, api.Explain, api.ExplainReq{ID: id}); err != nil {
		return err
	}
	if x.rep.Array != nil || x.rep.Job.Attempt < 2 {
		return nil
	}
	rep, err := client.Call(x.ctx, x.c, api.Info, api.InfoReq{ID: id, Key: "eventlog"})
	if err != nil {
		return nil // it has just moved between memory and store: the sentence goes without
	}
	for line := range strings.Lines(rep.Value) {
		var ev struct {
			Name    string  `json:"name"`
			Context earlier `json:"context"`
		}
		if json.Unmarshal([]byte(line), &ev) == nil && ev.Name == "retry" {
			x.attempts = append(x.attempts, ev.Context)
		}
	}
	return nil
}

// subject is the id, with the name of the command.
func (x *explanation) subject(id jobspec.ID) string {
	return fmt.Sprintf("%s (%s)", x.e.idText(id), x.rep.Job.Name)
}

func (x *explanation) json(id jobspec.ID, text string) map[string]any {
	m := map[string]any{"id": uint64(id), "text": text}
	if x.rep.Array != nil {
		a := x.rep.Array
		m["array"] = map[string]any{"nelements": a.N, "pending": a.Pending, "running": a.Running, "completed": a.Completed, "failed": a.Failed,
			"canceled": a.Canceled, "timeout": a.TimedOut}
	}
	j := &x.rep.Job
	if j.State != 0 {
		m["job"] = jobView{JobInfo: j, now: float64(x.now.UnixNano()) / 1e9, ascii: x.e.asciiIDs(), users: map[uint32]string{}}.json()
	}
	if j.TEstimate > 0 {
		m["t_estimate"] = j.TEstimate
	}
	if x.rep.Ahead > 0 {
		m["ahead"] = x.rep.Ahead
	}
	if len(x.attempts) > 0 {
		m["attempts"] = x.attempts
	}
	return m
}

// text is the sentence, without subject and full stop.
func (x *explanation) text() string {
	if a := x.rep.Array; a != nil {
		return x.array(a)
	}
	j := &x.rep.Job
	switch s := jobspec.State(j.State); {
	case s&jobspec.StatesPending != 0:
		return x.waiting() + x.before()
	case s == jobspec.StateRun:
		return x.running() + x.before()
	case s == jobspec.StateCleanup && j.Reason != "":
		return "has ended, and " + j.Reason + "; it is tried again until it can"
	case s == jobspec.StateCleanup:
		return "has just ended; its end is being written down"
	}
	return x.ended() + x.before()
}

// array sums up an array and explains what is left of it.
func (x *explanation) array(a *api.WaitRep) string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{a.Pending, "pending"}, {a.Running, "running"}, {a.Completed, "completed"}, {a.Failed, "failed"}, {a.Canceled, "canceled"}, {a.TimedOut, "timed out"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	text := fmt.Sprintf("has %d elements: %s", a.N, strings.Join(parts, ", "))
	switch {
	case a.Pending > 0:
		text += "; the next one " + x.waiting()
	case a.Done && a.Exception != "":
		text += "; the first failure: " + a.Exception
	}
	return text
}

// waiting says why a job waits, and for how long.
func (x *explanation) waiting() string {
	j := &x.rep.Job
	text := j.Reason
	switch first, _, _ := strings.Cut(text, " "); {
	case j.State == int(jobspec.StateSched) && j.Priority == 0 || text == "is held":
		return "is held (urgency 0) and starts only after 'frond job urgency " + x.e.idText(jobView{JobInfo: j}.shown()) + " default'"
	case text == "" || text == "queue stopped":
		return x.queueStopped()
	case first == "needs":
		if n := x.unseen(); n != "" {
			return "waits for nodes that have not come up: it " + text + n
		}
		return "cannot run: it " + text
	case first != "waits" && first != "is":
		text = "waits: " + text
	}
	if strings.Contains(text, "offline or drained") {
		text += x.absent()
	}
	if text == "is about to start" || strings.HasPrefix(text, "waits for another allocation") {
		return text
	}
	return text + x.expected()
}

// unseen tells of brokers that were to be there from the beginning and have never come (frond start --min-nodes); empty: all have.
func (x *explanation) unseen() string {
	rep, err := client.Call(x.ctx, x.c, api.OverlayStatus, api.Empty{})
	if err != nil || len(rep.Members) >= rep.Size {
		return ""
	}
	return fmt.Sprintf(", and %d of %d brokers never came (frond start has said which)", rep.Size-len(rep.Members), rep.Size)
}

// queueStopped explains a wait of which the scheduler does not know.
func (x *explanation) queueStopped() string {
	rep, err := client.Call(x.ctx, x.c, api.Queues, api.Empty{})
	if err == nil {
		for i := range rep.Queues {
			q := &rep.Queues[i]
			if q.Name != x.rep.Job.Queue || q.Started {
				continue
			}
			text, verb := "waits: the queue", "frond queue start"
			if q.Name != "" {
				text, verb = text+" "+q.Name, verb+" "+q.Name
			}
			text += " is stopped"
			if q.StopReason != "" {
				text += " (" + q.StopReason + ")"
			}
			return text + "; '" + verb + "' has it start jobs again"
		}
	}
	return "waits, and the scheduler has not said why"
}

// expected is when it should start.
func (x *explanation) expected() string {
	at := x.rep.Job.TEstimate
	if at == 0 {
		return "; when it can start is not known"
	}
	who := "it"
	if x.rep.Array == nil && x.rep.Job.Array != 0 {
		who = "the next element of its array"
	}
	in := max(0, at-float64(x.now.UnixNano())/1e9)
	if in < 1 {
		return "; " + who + " should start at once"
	}
	return fmt.Sprintf("; %s should start within %s (%s)", who, roundFSD(in), x.clock(at))
}

// absent names nodes that are not up, with the reason for which they were drained.
func (x *explanation) absent() string {
	rep, err := client.Call(x.ctx, x.c, api.ResourceStatus, api.Empty{})
	if err != nil {
		return ""
	}
	var names []string
	for i := range rep.Nodes {
		n := &rep.Nodes[i]
		switch {
		case n.Drained && n.Reason != "":
			names = append(names, n.Node.Name+" drained: "+n.Reason)
		case n.Drained:
			names = append(names, n.Node.Name+" drained")
		case !n.Online:
			names = append(names, n.Node.Name+" offline")
		}
	}
	const most = 3
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("%d more", len(names)-most))
	}
	return " (" + strings.Join(names, "; ") + ")"
}

func (x *explanation) running() string {
	j := &x.rep.Job
	text := fmt.Sprintf("has been running for %s on %s", roundFSD(float64(x.now.UnixNano())/1e9-j.TRun), j.Nodelist)
	switch {
	case j.Expiration == 0:
	case j.Duration == 0 || j.TRun+j.Duration > j.Expiration+1:
		text += fmt.Sprintf("; the instance ends at %s", x.clock(j.Expiration))
	default:
		text += fmt.Sprintf("; its time limit ends it at %s", x.clock(j.Expiration))
	}
	return text
}

// ended says how a job ended, where and when.
func (x *explanation) ended() string {
	j := jobView{JobInfo: &x.rep.Job}
	ran := " before it ran"
	if j.TRun > 0 {
		ran = fmt.Sprintf(" after %s on %s", roundFSD(j.TInactive-j.TRun), j.Nodelist)
	}
	when := ", at " + x.clock(j.TInactive)
	switch j.result() {
	case jobspec.ResultCompleted:
		return "completed" + ran + when
	case jobspec.ResultCanceled:
		return noted("was canceled"+ran+when, j.ExcNote)
	case jobspec.ResultTimeout:
		return "was ended by its time limit" + ran + when
	}
	return "failed" + ran + when + ": " + x.cause(j)
}

// cause is why a job failed.
func (x *explanation) cause(j jobView) string {
	status := ""
	switch sig := jobspec.WaitSignal(j.WaitStatus); {
	case !j.HasStatus:
	case sig != 0:
		status = fmt.Sprintf("killed by signal %d (%s)", sig, signalName(sig))
	case j.WaitStatus != 0:
		status = fmt.Sprintf("exit code %d", jobspec.ExitCode(j.WaitStatus))
	}
	if !j.ExcOccurred || j.ExcSeverity > 0 {
		return status
	}
	text := noted("exception "+j.ExcType, j.ExcNote)
	if status != "" {
		text += " (" + status + ")"
	}
	return text
}

// before tells of the attempts before the last.
func (x *explanation) before() string {
	if len(x.attempts) == 0 {
		if n := x.rep.Job.Attempt; n > 1 {
			return fmt.Sprintf("; this is attempt %d", n)
		}
		return ""
	}
	text := fmt.Sprintf("; this is attempt %d", x.rep.Job.Attempt)
	for _, a := range x.attempts[max(0, len(x.attempts)-3):] {
		text += fmt.Sprintf(", attempt %d ended with %s", a.Attempt, a.Reason)
	}
	return text
}

// clock is a time of today, or a date and time.
func (x *explanation) clock(t float64) string {
	at := epoch(t).Local()
	if at.YearDay() == x.now.YearDay() && at.Year() == x.now.Year() {
		return at.Format("15:04:05")
	}
	return at.Format("2006-01-02 15:04")
}

// roundFSD writes seconds as a duration without more digits than one wants to read.
func roundFSD(s float64) string {
	switch {
	case s < 0.1:
		s = math.Round(s*1000) / 1000
	case s < 10:
		s = math.Round(s*10) / 10
	case s < 90:
		s = math.Round(s)
	case s < 5400:
		return fmt.Sprintf("%.0fm", s/60)
	case s < 172800:
		return fmt.Sprintf("%.1fh", s/3600)
	default:
		return fmt.Sprintf("%.1fd", s/86400)
	}
	return jobspec.FormatFSD(s)
}
