package exec

import (
	"testing"
	"time"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
)

func TestAShortRunIsOneRecord(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Minute)
	h.start(1, 1, spec())
	require.Len(t, take[Launch](h), 1)
	h.started(1, 0)
	h.sleep(time.Millisecond)
	require.Empty(t, h.records(), "Started waits for a moment")
	h.ended(1, 0, 3<<8)
	recs := h.records()
	require.Len(t, recs, 1)
	require.Equal(t, RecEnded, recs[0].Kind)
	require.Equal(t, ref(1), recs[0].Ref)
	require.Equal(t, 3<<8, recs[0].Status)
	require.EqualValues(t, 100, recs[0].MaxRSS)
	require.Equal(t, 0.5, recs[0].CPU)
	require.Positive(t, recs[0].Start)
	require.Contains(t, h.m.runs, ref(1), "kept until acknowledged")
	h.ackAll()
	require.NotContains(t, h.m.runs, ref(1))
}

func TestALongRunTellsItsStart(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Minute)
	h.start(1, 2, spec())
	h.started(1, 0)
	h.sleep(20 * time.Millisecond)
	require.Empty(t, h.records(), "not all tasks have started")
	h.started(1, 1)
	h.sleep(20 * time.Millisecond)
	require.Equal(t, []RecordKind{RecStarted}, h.kinds())
	h.ended(1, 1, 0)
	require.Empty(t, h.records())
	h.ended(1, 0, 9)
	recs := h.records()
	require.Equal(t, 137<<8, recs[0].Status, "a signal counts as exit code 128 + signal, as in Flux")
	require.Equal(t, 1.0, recs[0].CPU)
}

func TestOutputLetsTheStartedGoFirst(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Minute)
	h.start(1, 1, spec())
	h.started(1, 0)
	h.step(Tasks{{Kind: TaskOutput, Run: 1, Stream: 1, Data: []byte("ab")}, {Kind: TaskOutput, Run: 1, Stream: 2, Data: []byte("x")}, {Kind: TaskOutput, Run: 1, Stream: 1, Data: []byte("c")}})
	h.ended(1, 0, 0)
	h.sleep(time.Millisecond)
	recs := h.records()
	require.Equal(t, RecStarted, recs[0].Kind)
	require.EqualValues(t, []int64{0, 0, 2}, []int64{recs[1].Offset, recs[2].Offset, recs[3].Offset})
	require.Equal(t, RecEnded, recs[4].Kind)
}

func TestStartsThatAreKnownOrStaleAreDropped(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Minute)
	h.start(1, 1, spec())
	h.start(1, 1, spec())
	require.Len(t, take[Launch](h), 1, "the second is a duplicate")
	h.ended(1, 0, 0)
	h.start(1, 1, spec())
	h.ackAll()
	h.start(1, 1, spec())
	require.Empty(t, take[Launch](h), "an acknowledged run is still known")
	h.start(1, 1, spec(), func(s *Start) { s.Ref.Attempt = 2 })
	require.Len(t, take[Launch](h), 1, "another attempt is another run")
	h.step(StartRuns{Session: h.m.session - 1, Specs: []*Spec{spec()}, Starts: []Start{{Ref: ref(9), SpecID: 1, Parts: []Part{{NTasks: 1}}}}})
	require.Empty(t, take[Launch](h), "a start of another session")
}

func TestAStartThatCannotBeDoneEndsWithAnException(t *testing.T) {
	for name, change := range map[string]func(*Start){
		"its spec was not sent": func(s *Start) { s.SpecID = 77 },
		"it has no tasks":       func(s *Start) { s.Parts = nil },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, Config{})
			h.connect(time.Minute)
			h.start(1, 1, spec(), change)
			require.Equal(t, []RecordKind{RecException, RecEnded}, h.kinds())
			h.ackAll()
			require.Empty(t, h.m.runs)
		})
	}
}

func TestATaskThatCannotBeStartedEndsItsRun(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Minute)
	h.start(1, 2, spec())
	h.started(1, 0)
	h.step(Tasks{{Kind: TaskEnded, Run: 1, Task: 1, Status: 127 << 8, Note: "task 1 (host a): start failed: x: No such file or directory"}})
	require.Equal(t, []int{15}, signals(h))
	h.ended(1, 0, 15)
	h.sleep(time.Millisecond)
	recs := h.m.queue.sent[0].recs
	require.Equal(t, RecException, recs[0].Kind)
	require.Equal(t, "exec", recs[0].Type)
	require.Equal(t, []int{127 << 8, 127 << 8}, []int{recs[0].Status, recs[len(recs)-1].Status}, "what the others are killed with does not hide it")
}

func TestEndingIsTermThenKillAgainAndAgain(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Hour)
	h.start(1, 1, spec())
	h.started(1, 0)
	take[any](h)
	h.step(KillRuns{Session: h.m.session, Runs: []Ref{ref(1), ref(2)}, Signal: 15, End: true})
	require.Equal(t, []int{15}, signals(h))
	h.sleep(4900 * time.Millisecond)
	require.Empty(t, signals(h))
	h.step(KillRuns{Session: h.m.session, Runs: []Ref{ref(1)}, Signal: 15, End: true})
	h.sleep(200 * time.Millisecond)
	require.Equal(t, []int{9}, signals(h), "asking again gives no more time")
	h.sleep(30 * time.Second)
	require.Equal(t, []int{9, 9}, signals(h), "after 5 s, then 10 s later, …")
	h.ended(1, 0, 9)
	h.sleep(10 * time.Minute)
	require.Empty(t, signals(h))
}

func TestAPlainSignalIsPassedOn(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Hour)
	h.start(1, 1, spec())
	h.started(1, 0)
	h.step(KillRuns{Session: h.m.session, Runs: []Ref{ref(1)}, Signal: 10})
	h.step(KillRuns{Session: h.m.session - 1, Runs: []Ref{ref(1)}, Signal: 12})
	h.sleep(time.Minute)
	require.Equal(t, []int{10}, signals(h))
}

func TestTheTimeLimitIsWarnedOfAndKept(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Hour)
	sp := spec(func(js *jobspec.Jobspec) { js.Shell.Signal, js.Shell.SignalLeft = 10, 20 })
	h.start(1, 1, sp, func(s *Start) { s.Limit = time.Minute })
	h.sleep(5 * time.Second) // the limit counts from the start of the task, not of the request
	h.started(1, 0)
	h.sleep(39 * time.Second)
	require.Empty(t, signals(h))
	h.sleep(2 * time.Second)
	require.Equal(t, []int{10}, signals(h))
	h.sleep(20 * time.Second)
	require.Equal(t, []int{14}, signals(h), "SIGALRM, as in Flux")
	h.sleep(6 * time.Second)
	require.Equal(t, []int{9}, signals(h))
	h.ended(1, 0, 9)
	h.ackAll()
	h.act = nil
	h.sleep(time.Hour)
	require.Empty(t, h.m.timers)
}

func TestATimeoutIsReportedBeforeTheEnd(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Hour)
	h.start(1, 1, spec(), func(s *Start) { s.Limit = time.Second })
	h.started(1, 0)
	h.sleep(2 * time.Second)
	h.ended(1, 0, 14)
	recs := h.records()
	require.Equal(t, RecStarted, recs[0].Kind)
	require.Equal(t, "timeout", recs[1].Type)
	require.Equal(t, 0, recs[1].Severity)
	require.Equal(t, RecEnded, recs[2].Kind)
}

func TestOtherTasksGoOnForTheExitTimeout(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*jobspec.Jobspec)
		status int
		sleep  time.Duration
		sigs   []int
	}{
		{"30 s by default, whatever the status", func(*jobspec.Jobspec) {}, 0, 31 * time.Second, []int{15}},
		{"not before", func(*jobspec.Jobspec) {}, 0, 29 * time.Second, nil},
		{"forever without a timeout", func(js *jobspec.Jobspec) { js.Shell.ExitTimeout = -1 }, 1 << 8, time.Hour, nil},
		{"no time at all with exit-on-error", func(js *jobspec.Jobspec) { js.Shell.ExitOnError = true }, 1 << 8, 0, []int{15}},
		{"exit-on-error is for errors", func(js *jobspec.Jobspec) { js.Shell.ExitOnError = true }, 0, time.Second, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t, Config{})
			h.connect(24 * time.Hour)
			h.start(1, 3, spec(c.change))
			for k := range 3 {
				h.started(1, k)
			}
			h.ended(1, 1, c.status)
			h.sleep(c.sleep)
			require.Equal(t, c.sigs, signals(h))
		})
	}
}

func TestOutputThatNobodyAcknowledgesStopsTheReading(t *testing.T) {
	h := newHarness(t, Config{MaxUnacked: 1000})
	h.connect(time.Hour)
	h.start(1, 1, spec())
	h.started(1, 0)
	out := func(n int) { h.step(Tasks{{Kind: TaskOutput, Run: 1, Stream: 1, Data: make([]byte, n)}}) }
	out(900)
	require.Empty(t, take[Flow](h))
	out(200)
	require.Equal(t, []Flow{{true}}, take[Flow](h))
	out(100)
	h.sleep(time.Second)
	h.ackAll()
	h.sleep(time.Second)
	require.Equal(t, []Flow{{false}}, take[Flow](h))
}

func TestMockRunsTakeTheirTimeWithoutADriver(t *testing.T) {
	mock := func(d float64, status int, exc string) *Spec {
		return spec(func(js *jobspec.Jobspec) {
			js.Test = &jobspec.TestExec{RunDuration: d, WaitStatus: status, MockException: exc}
		})
	}
	h := newHarness(t, Config{})
	h.connect(time.Hour)
	h.start(1, 1, mock(0.01, 256, ""))
	require.Empty(t, take[Launch](h))
	h.sleep(9 * time.Millisecond)
	require.Equal(t, 1, h.m.live)
	h.sleep(2 * time.Millisecond)
	require.Equal(t, 0, h.m.live)
	recs := h.records()
	require.Equal(t, 256, recs[len(recs)-1].Status)
	require.InDelta(t, 0.01, recs[len(recs)-1].Time-recs[len(recs)-1].Start, 0.001)

	h.start(2, 1, mock(100, 0, ""))
	h.step(KillRuns{Session: h.m.session, Runs: []Ref{ref(2)}, End: true})
	require.Equal(t, 143<<8, lastRecord(h).Status)
	h.start(3, 1, mock(100, 0, "init"))
	require.Zero(t, lastRecord(h).Start)
	h.start(4, 1, mock(100, 0, "run"))
	require.Positive(t, lastRecord(h).Start)
	h.start(5, 1, mock(100, 0, ""), func(s *Start) { s.Limit = time.Second })
	h.sleep(1100 * time.Millisecond)
	require.Equal(t, 142<<8, lastRecord(h).Status)
}

func lastRecord(h *harness) Record {
	h.sleep(10 * time.Millisecond)
	recs := h.records()
	return recs[len(recs)-1]
}

func TestAMockRunInADriverIsLaunched(t *testing.T) {
	h := newHarness(t, Config{MockInDriver: true})
	h.connect(time.Hour)
	h.start(1, 1, spec(func(js *jobspec.Jobspec) { js.Test = &jobspec.TestExec{} }))
	require.Len(t, take[Launch](h), 1)
}

func TestInputReachesRunningTasksOnly(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Hour)
	h.start(1, 1, spec())
	h.step(Input{Session: h.m.session, Run: ref(1), Task: -1, Data: []byte("x")})
	h.step(Input{Session: h.m.session, Run: ref(2), Task: -1, Data: []byte("y")})
	require.Equal(t, []Feed{{Run: 1, Task: -1, Data: []byte("x")}}, take[Feed](h))
}

func TestReportsGrowWhenAnswersAreSlow(t *testing.T) {
	h := newHarness(t, Config{MaxCalls: 8})
	h.connect(time.Hour)
	calls := 0
	for i := range 2000 {
		h.start(i, 1, spec())
		h.ended(RunID(i+1), 0, 0)
		h.sleep(100 * time.Microsecond)
		calls += len(take[CallReport](h))
	}
	require.Equal(t, 8, calls, "no more than MaxCalls are out")
	h.ackAll()
	h.sleep(time.Second)
	h.ackAll()
	require.Empty(t, h.m.runs)
}
