package exec

import (
	"testing"
	"time"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
)

// harness drives a machine by hand and checks its invariants after each step.
type harness struct {
	t   require.TestingT
	m   *Machine
	now time.Time
	act []any // of all steps since last taken
}

func newHarness(t require.TestingT, cfg Config) *harness {
	return &harness{t: t, m: New(cfg), now: time.Unix(1e9, 0)}
}

func (h *harness) step(ev any) {
	h.act = append(h.act, append([]any(nil), h.m.Step(h.now, ev)...)...)
	require.NoError(h.t, h.m.Check(), "after %T %+v", ev, ev)
}

// sleep lets time pass in Ticks as the machine asks for them, and then some.
func (h *harness) sleep(d time.Duration) {
	until := h.now.Add(d)
	for h.m.armed != 0 {
		at := h.m.base.Add(time.Duration(h.m.armed))
		if at.After(until) {
			break
		}
		h.now = at
		h.step(Tick{})
	}
	h.now = until
	h.step(Tick{})
}

// connect opens a session with a lease.
func (h *harness) connect(lease time.Duration) {
	h.step(Contact{Up: true, Rank: 3, Epoch: 1, Incarnation: 1})
	h.step(SyncReply{Session: h.m.session, Lease: lease})
}

// take returns the actions of one type so far, and drops all.
func take[T any](h *harness) []T {
	var list []T
	for _, a := range h.act {
		if x, ok := a.(T); ok {
			list = append(list, x)
		}
	}
	h.act = nil
	return list
}

// records returns all records reported so far, without acknowledging them.
func (h *harness) records() []Record {
	var recs []Record
	for _, r := range take[CallReport](h) {
		recs = append(recs, r.Records...)
	}
	return recs
}

func (h *harness) kinds() []RecordKind {
	var kinds []RecordKind
	for _, r := range h.records() {
		kinds = append(kinds, r.Kind)
	}
	return kinds
}

// ackAll acknowledges all outstanding reports.
func (h *harness) ackAll() {
	for len(h.m.queue.sent) > 0 {
		h.step(ReportReply{Call: h.m.queue.sent[0].call})
	}
}

func shell() jobspec.ShellOptions {
	return jobspec.ShellOptions{Umask: -1, KillTimeout: 5, ExitTimeout: 30}
}

// spec 1 runs true; change it as a test needs.
func spec(change ...func(*jobspec.Jobspec)) *Spec {
	js := &jobspec.Jobspec{Command: []string{"true"}, Shell: shell()}
	for _, c := range change {
		c(js)
	}
	return &Spec{ID: 1, Job: js}
}

func ref(job int) Ref { return Ref{Job: jobspec.ID(job), Attempt: 1, Epoch: 1} }

// start starts a job of n tasks of spec sp.
func (h *harness) start(job, n int, sp *Spec, change ...func(*Start)) {
	s := Start{Ref: ref(job), SpecID: sp.ID, Parts: []Part{{NTasks: n}}, NTasks: n, NNodes: 1}
	for _, c := range change {
		c(&s)
	}
	h.step(StartRuns{Session: h.m.session, Specs: []*Spec{sp}, Starts: []Start{s}})
}

func (h *harness) started(run RunID, task int) {
	h.step(Tasks{{Kind: TaskStarted, Run: run, Task: task, Time: h.epoch()}})
}

func (h *harness) ended(run RunID, task, status int) {
	h.step(Tasks{{Kind: TaskEnded, Run: run, Task: task, Time: h.epoch(), Start: 1e9, Status: status, MaxRSS: 100, CPU: 0.5}})
}

func (h *harness) epoch() float64 { return float64(h.now.UnixNano()) / 1e9 }

func signals(h *harness) []int {
	var sigs []int
	for _, s := range take[Signal](h) {
		sigs = append(sigs, s.Sig)
	}
	return sigs
}

func TestTheHarnessFindsABrokenInvariant(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Minute)
	h.start(1, 1, spec())
	h.m.live++
	require.Error(t, h.m.Check())
}
