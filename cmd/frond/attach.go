package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// attacher follows one job: it prints its output (and events, if asked), passes standard input and signals to it, and knows at the
// end how the job ended. It is what run, job attach, submit --watch and logs -f share.
type attacher struct {
	env    *env
	verb   string // in front of messages
	client *client.Client
	id     jobspec.ID
	out    *outputWriter

	events   func(*api.Event)        // each event, once; nil = not wanted
	piece    func(*api.Output) error // each piece of output instead of out; nil = out
	noOutput bool
	noFollow bool
	quiet    bool   // no messages about exceptions
	until    string // the event at which it stops, before the job's end; empty = none

	seen  int // events of the stream so far
	skip  int // events to skip: they came before a reconnection
	state jobEnd
	found bool // the event until has come
}

// jobEnd is what a job's events tell about its end.
type jobEnd struct {
	hasStatus bool
	status    int
	fatal     bool   // an exception of severity 0 occurred
	exception string // "type=cancel severity=0 note" of the first fatal one
}

// code is the exit code for a job that ended so: its own, or 1 after a fatal exception without one (flux-facts §7.5).
func (s jobEnd) code() int {
	code := 0
	if s.hasStatus {
		code = jobspec.ExitCode(s.status)
	}
	if code == 0 && s.fatal {
		return 1
	}
	return code
}

// step folds one event into the end.
func (s *jobEnd) step(ev *api.Event) error {
	switch ev.Name {
	case "finish":
		var c struct{ Status int }
		if err := json.Unmarshal([]byte(ev.Context), &c); err != nil {
			return fmt.Errorf("read event finish: %w", err)
		}
		s.hasStatus, s.status = true, c.Status
	case "exception":
		var c struct {
			Type     string
			Severity int
			Note     string
		}
		if err := json.Unmarshal([]byte(ev.Context), &c); err != nil {
			return fmt.Errorf("read event exception: %w", err)
		}
		if c.Severity == 0 && !s.fatal {
			s.fatal = true
			s.exception = strings.TrimSpace(fmt.Sprintf("type=%s severity=%d %s", c.Type, c.Severity, c.Note))
		}
	}
	return nil
}

// run follows the job to its end.
func (a *attacher) run(ctx context.Context) (jobEnd, error) {
	req := api.AttachReq{ID: a.id, Events: true, Output: !a.noOutput, Follow: !a.noFollow}
	s, err := client.Open(ctx, a.client, api.Attach, req)
	if err != nil {
		return a.state, a.explain(err)
	}
	defer s.Close()
	restarts := 0
	for {
		rep, err := s.Next()
		if errors.Is(err, io.EOF) {
			return a.state, a.out.finish()
		}
		if err != nil {
			_ = a.out.finish()
			return a.state, a.explain(err)
		}
		if n := s.Restarts(); n != restarts {
			restarts = n
			a.restart()
		}
		if err := a.take(&rep); err != nil {
			return a.state, err
		}
		if a.found {
			return a.state, a.out.finish()
		}
	}
}

// restart prepares for events that come again.
func (a *attacher) restart() {
	a.skip, a.seen = max(a.seen, a.skip), 0
}

// take handles one answer.
func (a *attacher) take(rep *api.AttachRep) error {
	for i := range rep.Events {
		if a.seen++; a.seen <= a.skip {
			continue
		}
		if err := a.event(&rep.Events[i]); err != nil {
			return err
		}
	}
	for i := range rep.Output {
		if a.piece == nil {
			a.out.write(&rep.Output[i])
		} else if err := a.piece(&rep.Output[i]); err != nil {
			return err
		}
	}
	return a.out.failed
}

func (a *attacher) event(ev *api.Event) error {
	a.found = a.found || a.until != "" && ev.Name == a.until
	before := a.state.fatal
	if err := a.state.step(ev); err != nil {
		return err
	}
	if a.state.fatal && !before && !a.quiet {
		fmt.Fprintf(a.env.stderr, "%s: %s: exception: %s\n", a.verb, a.env.idText(a.id), escaped(a.state.exception))
	}
	if ev.Name == "retry" && !a.quiet && a.env.isTerminal(a.env.stderr) {
		fmt.Fprintf(a.env.stderr, "%s: %s: an attempt failed or was lost, the job runs again: %s\n", a.verb, a.env.idText(a.id), contextText(ev.Context))
	}
	if a.events != nil {
		a.events(ev)
	}
	return nil
}

func (a *attacher) explain(err error) error {
	if isNotFound(err) && strings.HasPrefix(err.Error(), "unknown job") {
		return fmt.Errorf("JobID %s unknown", a.env.idText(a.id))
	}
	return fmt.Errorf("%s: %w", a.env.idText(a.id), err)
}

// isNotFound tells whether the instance does not know what was asked for.
func isNotFound(err error) bool { return errors.Is(err, &wire.Error{Code: wire.NotFound}) }
