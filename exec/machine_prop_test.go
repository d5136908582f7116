package exec

import (
	"fmt"
	"testing"
	"time"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// world is a simple leader and a simple driver around a machine, with a network that loses answers.
type world struct {
	*harness
	t        *rapid.T
	launched map[Ref]int
	running  map[RunID]*Job
	ended    map[Ref]int // Ended records acknowledged
	offset   map[Ref]int64
	wrote    map[Ref]int64
	killed   map[Ref]bool // by a sync
	started  map[Ref]bool // sent
	syncs    []CallSync
	reports  []CallReport
	renews   []CallRenew
	stopped  bool
}

// absorb looks at the actions since the last time.
func (w *world) absorb() {
	for _, a := range w.act {
		switch a := a.(type) {
		case Launch:
			for _, j := range a.Jobs {
				w.launched[j.Ref]++
				require.Equal(w.t, 1, w.launched[j.Ref], "started twice")
				w.running[j.ID] = j
			}
		case Signal:
			if j := w.running[a.Run]; j != nil && (a.Sig == 9 || a.Sig == 15 && int(j.ID)%3 != 0) {
				defer w.finish(j, a.Sig)
			}
		case CallSync:
			w.syncs = append(w.syncs, a)
		case CallReport:
			require.Equal(w.t, w.m.session, a.Session)
			w.reports = append(w.reports, a)
		case CallRenew:
			w.renews = append(w.renews, a)
		case Stopped:
			w.stopped = true
		}
	}
	w.act = nil
}

func (w *world) do(ev any) {
	w.step(ev)
	w.absorb()
}

func (w *world) finish(j *Job, status int) {
	if w.running[j.ID] == nil {
		return
	}
	delete(w.running, j.ID)
	var evs Tasks
	for k := range j.Parts[0].NTasks {
		evs = append(evs, TaskEvent{Kind: TaskEnded, Run: j.ID, Task: k, Start: 1e9, Status: status})
	}
	w.do(evs)
}

// durable is the leader making a report durable.
func (w *world) durable(c CallReport) {
	for _, r := range c.Records {
		switch r.Kind {
		case RecOutput:
			if r.Offset == w.offset[r.Ref] { // else it was sent before
				w.offset[r.Ref] += int64(len(r.Data))
			} else {
				require.Less(w.t, r.Offset, w.offset[r.Ref], "a gap in the output")
			}
		case RecEnded:
			w.ended[r.Ref]++
		}
	}
}

func (w *world) answerSync(fail bool) {
	if len(w.syncs) == 0 {
		return
	}
	c := w.syncs[len(w.syncs)-1]
	w.syncs = nil
	rep := SyncReply{Session: c.Session, Failed: fail, Lease: 30 * time.Second}
	for _, r := range c.Runs {
		switch rapid.IntRange(0, 9).Draw(w.t, "verdict") {
		case 0:
			rep.Kill = append(rep.Kill, r.Ref)
			w.killed[r.Ref] = w.killed[r.Ref] || !fail
		case 1:
			if w.ended[r.Ref] > 0 {
				rep.Forget = append(rep.Forget, r.Ref)
			}
		}
	}
	w.do(rep)
}

func TestPropNoRunIsLostOrStartedTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{harness: newHarness(t, Config{MaxUnacked: 4000}), t: t, launched: map[Ref]int{}, running: map[RunID]*Job{}, ended: map[Ref]int{},
			offset: map[Ref]int64{}, wrote: map[Ref]int64{}, killed: map[Ref]bool{}, started: map[Ref]bool{}}
		inc := uint64(1)
		w.do(Contact{Up: true, Incarnation: inc})
		mock := &Spec{ID: 2, Job: &jobspec.Jobspec{Shell: shell(), Test: &jobspec.TestExec{RunDuration: 0.05}}}
		pick := func() *Job {
			for id := RunID(1); id <= w.m.lastID; id++ {
				if j := w.running[id]; j != nil && rapid.Bool().Draw(t, "this") {
					return j
				}
			}
			return nil
		}
		t.Repeat(map[string]func(*rapid.T){
			"start": func(t *rapid.T) {
				n := rapid.IntRange(1, 3).Draw(t, "tasks")
				s := Start{Ref: ref(rapid.IntRange(1, 40).Draw(t, "job")), SpecID: rapid.Uint64Range(1, 2).Draw(t, "spec"), Parts: []Part{{NTasks: n}}, NTasks: n}
				if rapid.IntRange(0, 3).Draw(t, "limited") == 0 {
					s.Limit = 2 * time.Second
				}
				if w.m.session > 0 && w.m.synced {
					w.started[s.Ref] = true
				}
				w.do(StartRuns{Session: w.m.session, Specs: []*Spec{spec(), mock}, Starts: []Start{s}})
			},
			"stale start": func(t *rapid.T) {
				w.do(StartRuns{Session: w.m.session - 1, Specs: []*Spec{spec()}, Starts: []Start{{Ref: ref(1000), SpecID: 1, Parts: []Part{{NTasks: 1}}}}})
				require.Zero(t, w.launched[ref(1000)])
			},
			"task starts": func(t *rapid.T) {
				if j := pick(); j != nil && w.m.byID[j.ID].started == 0 {
					var evs Tasks
					for k := range j.Parts[0].NTasks {
						evs = append(evs, TaskEvent{Kind: TaskStarted, Run: j.ID, Task: k, Time: w.epoch()})
					}
					w.do(evs)
				}
			},
			"output": func(t *rapid.T) {
				if j := pick(); j != nil {
					n := rapid.IntRange(1, 3000).Draw(t, "bytes")
					w.wrote[j.Ref] += int64(n)
					w.do(Tasks{{Kind: TaskOutput, Run: j.ID, Stream: 1, Data: make([]byte, n)}})
				}
			},
			"end": func(t *rapid.T) {
				if j := pick(); j != nil {
					w.finish(j, rapid.SampledFrom([]int{0, 256, 9}).Draw(t, "status"))
				}
			},
			"kill": func(t *rapid.T) {
				w.do(KillRuns{Session: w.m.session, Runs: []Ref{ref(rapid.IntRange(1, 40).Draw(t, "job"))}, Signal: 15, End: rapid.Bool().Draw(t, "end")})
			},
			"time passes": func(t *rapid.T) {
				w.sleep(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond)
				w.absorb()
			},
			"contact": func(t *rapid.T) {
				up := rapid.Bool().Draw(t, "up")
				inc++
				w.reports, w.renews, w.syncs = nil, nil, nil
				w.do(Contact{Up: up, Incarnation: inc})
			},
			"sync is answered": func(t *rapid.T) { w.answerSync(rapid.IntRange(0, 4).Draw(t, "fail") == 0) },
			"report is answered": func(t *rapid.T) {
				if len(w.reports) == 0 {
					return
				}
				i := rapid.IntRange(0, len(w.reports)-1).Draw(t, "which")
				for _, c := range w.reports[:i+1] { // in order, some answers lost
					w.durable(c)
				}
				c := w.reports[i]
				w.reports = append(w.reports[:i:i], w.reports[i+1:]...)
				w.do(ReportReply{Call: c.Call, Failed: rapid.IntRange(0, 5).Draw(t, "fail") == 0})
			},
			"renewal is answered": func(t *rapid.T) {
				if len(w.renews) > 0 {
					c := w.renews[0]
					w.renews = w.renews[1:]
					w.do(RenewReply{Call: c.Call, Failed: rapid.Bool().Draw(t, "fail"), Resync: rapid.IntRange(0, 5).Draw(t, "resync") == 0})
				}
			},
			"": func(t *rapid.T) {},
		})
		w.settle(inc + 1)
	})
}

// settle lets everything end with a leader that answers: then each run that was sent has ended once or more, or was killed by a sync,
// and nothing is left.
func (w *world) settle(inc uint64) {
	w.do(Contact{Up: true, Incarnation: inc})
	for range 200 {
		for _, j := range w.m.ordered() {
			if job := w.running[j.job.ID]; job != nil {
				w.finish(job, 0)
			}
		}
		if len(w.syncs) > 0 {
			c := w.syncs[len(w.syncs)-1]
			w.syncs = nil
			w.do(SyncReply{Session: c.Session, Lease: 30 * time.Second})
		}
		for len(w.reports) > 0 {
			c := w.reports[0]
			w.reports = w.reports[1:]
			w.durable(c)
			w.do(ReportReply{Call: c.Call})
		}
		w.sleep(100 * time.Millisecond)
		w.absorb()
	}
	require.Empty(w.t, w.m.runs, fmt.Sprint("left ", len(w.m.queue.pending), " ", len(w.m.queue.sent), " synced ", w.m.synced))
	for ref := range w.started {
		require.True(w.t, w.ended[ref] > 0 || w.killed[ref], "run %v is lost", ref)
		require.True(w.t, w.killed[ref] || w.offset[ref] == w.wrote[ref], "run %v wrote %d bytes, %d arrived", ref, w.wrote[ref], w.offset[ref])
	}
	w.do(Stop{})
	require.True(w.t, w.stopped)
}

func BenchmarkMockRuns(b *testing.B) {
	m := New(Config{})
	now := time.Unix(1e9, 0)
	m.Step(now, Contact{Up: true})
	m.Step(now, SyncReply{Session: 1, Lease: time.Hour})
	mock := &Spec{ID: 1, Job: &jobspec.Jobspec{Shell: shell(), Test: &jobspec.TestExec{RunDuration: 0.001}}}
	acked := 0
	b.ReportAllocs()
	for done := 0; done < b.N; done += 100 { // 100 starts a millisecond
		starts := make([]Start, 100)
		for i := range starts {
			starts[i] = Start{Ref: Ref{jobspec.ID(done + i), 1, 1}, SpecID: 1, Parts: []Part{{NTasks: 1}}, NTasks: 1}
		}
		now = now.Add(time.Millisecond)
		var calls []uint64
		for _, ev := range []any{StartRuns{Session: 1, Specs: []*Spec{mock}, Starts: starts}, Tick{}} {
			for _, a := range m.Step(now, ev) {
				if r, ok := a.(CallReport); ok {
					calls = append(calls, r.Call)
					acked += len(r.Records)
				}
			}
		}
		for _, c := range calls {
			m.Step(now, ReportReply{Call: c})
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
}
