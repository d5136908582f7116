package exec

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEachContactOpensASession(t *testing.T) {
	h := newHarness(t, Config{})
	h.step(Contact{Up: true, Incarnation: 1})
	require.EqualValues(t, 1, take[CallSync](h)[0].Session)
	h.step(Contact{Up: false})
	h.sleep(time.Minute)
	require.Empty(t, take[CallSync](h), "without contact nobody is asked")
	h.step(Contact{Up: true, Incarnation: 2})
	require.EqualValues(t, 2, take[CallSync](h)[0].Session)
	h.step(SyncReply{Session: 1, Lease: time.Minute})
	require.False(t, h.m.synced, "an answer to the session before")
}

func TestAFailedSyncIsTriedAgainInANewSession(t *testing.T) {
	h := newHarness(t, Config{})
	h.step(Contact{Up: true})
	h.step(SyncReply{Session: 1, Failed: true})
	take[any](h)
	h.sleep(time.Second)
	require.EqualValues(t, 2, take[CallSync](h)[0].Session)
}

func TestASyncTellsWhatRunsAndWhatIsNotAcknowledged(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Minute)
	for i := 1; i <= 3; i++ {
		h.start(i, 1, spec(), func(s *Start) { s.Limit = time.Hour; s.NNodes = 4 })
	}
	h.started(1, 0)
	h.started(2, 0)
	h.ended(2, 0, 0)
	h.step(Contact{Up: false})
	h.step(Contact{Up: true, Incarnation: 2})
	runs := take[CallSync](h)
	last := runs[len(runs)-1].Runs
	require.Len(t, last, 3)
	require.Equal(t, ref(1), last[0].Ref)
	require.Equal(t, 4, last[0].NNodes)
	require.InDelta(t, 3600, last[0].End-last[0].Start, 0.001)
	require.True(t, last[1].Ended)
	require.Zero(t, last[2].Start)
}

func TestRecordsAreSentAgainInTheNextSession(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Minute)
	h.start(1, 1, spec())
	h.start(2, 1, spec())
	h.ended(1, 0, 0)
	h.sleep(time.Millisecond)
	h.ended(2, 0, 0)
	h.sleep(time.Millisecond)
	require.Len(t, h.records(), 2)
	h.step(ReportReply{Call: h.m.queue.sent[0].call, Failed: true})
	require.Empty(t, h.records(), "not before the leader has answered a sync")
	h.sleep(time.Second)
	require.Len(t, take[CallSync](h), 1)
	h.step(SyncReply{Session: h.m.session, Lease: time.Minute})
	recs := h.records()
	require.Len(t, recs, 2)
	require.Equal(t, []Ref{ref(1), ref(2)}, []Ref{recs[0].Ref, recs[1].Ref}, "in order")
	h.ackAll()
	require.Empty(t, h.m.runs)
}

func TestALateAnswerToAnOldReportAcknowledgesNothing(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Minute)
	h.start(1, 1, spec())
	h.ended(1, 0, 0)
	call := h.m.queue.sent[0].call
	h.step(Contact{Up: true, Incarnation: 2})
	h.step(ReportReply{Call: call})
	require.Contains(t, h.m.runs, ref(1))
}

func TestTheLeaderSaysWhatToForgetAndWhatToKill(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(time.Minute)
	for i := 1; i <= 4; i++ {
		h.start(i, 1, spec())
		h.started(RunID(i), 0)
	}
	h.ended(1, 0, 0)
	h.ended(2, 0, 0)
	h.step(Contact{Up: true, Incarnation: 2})
	take[any](h)
	h.step(SyncReply{Session: h.m.session, Lease: time.Minute, Forget: []Ref{ref(1), ref(3), ref(99)}, Kill: []Ref{ref(2), ref(4), ref(98)}})
	require.NotContains(t, h.m.runs, ref(1))
	require.NotContains(t, h.m.runs, ref(2), "killing what has ended is forgetting it")
	require.Contains(t, h.m.runs, ref(3), "what runs is not forgotten")
	require.Equal(t, []Signal{{4, 9}}, take[Signal](h))
	h.ended(4, 0, 9)
	h.sleep(time.Second)
	for _, rec := range h.records() {
		require.Equal(t, ref(3), rec.Ref, "nothing of the others is reported")
	}
	require.NotContains(t, h.m.runs, ref(4))
}

func TestTheLeaseIsRenewedFromWhenItWasAsked(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(30 * time.Second)
	h.start(1, 1, spec())
	h.started(1, 0)
	h.sleep(7600 * time.Millisecond)
	calls := take[CallRenew](h)
	require.Len(t, calls, 1, "every lease/4")
	h.sleep(4 * time.Second)
	h.step(RenewReply{Call: calls[0].Call})
	take[any](h)
	h.sleep(25500 * time.Millisecond) // 37.1 s after the sync, 29.6 s after the renewal was sent
	require.Empty(t, signals(h))
	h.sleep(1 * time.Second)
	require.Equal(t, []int{15}, signals(h))
	h.sleep(4 * time.Second)
	require.Equal(t, []int{9}, signals(h), "well before the leader's 10 s are over")
}

func TestAReportRenewsTheLeaseFromWhenItWasSent(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(30 * time.Second)
	h.start(1, 1, spec())
	h.start(2, 1, spec())
	h.started(1, 0)
	h.started(2, 0)
	h.sleep(4 * time.Second)
	h.ackAll()
	h.ended(1, 0, 0)
	h.sleep(500 * time.Millisecond)
	h.ackAll()
	take[any](h)
	h.sleep(4 * time.Second) // 8.5 s after the sync
	require.Empty(t, take[CallRenew](h), "lease/4 after the report, not after the sync")
	h.sleep(3200 * time.Millisecond) // 7.7 s after the report
	calls := take[CallRenew](h)
	require.Len(t, calls, 1)
	h.step(RenewReply{Call: calls[0].Call, Failed: true})
	h.sleep(22100 * time.Millisecond) // 29.8 s after the report
	require.Empty(t, signals(h))
	h.sleep(time.Second)
	require.Equal(t, []int{15}, signals(h))
}

func TestWhatTheLeaseEndsIsMarkedAndReportedLater(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(30 * time.Second)
	h.start(1, 1, spec())
	h.started(1, 0)
	h.sleep(time.Second)
	h.step(Contact{Up: false})
	h.sleep(time.Minute)
	h.ended(1, 0, 15)
	h.sleep(time.Hour)
	take[any](h)
	h.step(Contact{Up: true, Incarnation: 2})
	require.True(t, take[CallSync](h)[0].Runs[0].Ended)
	h.step(SyncReply{Session: h.m.session, Lease: 30 * time.Second})
	recs := h.records()
	require.Equal(t, "lease", recs[len(recs)-2].Type)
	require.Equal(t, RecEnded, recs[len(recs)-1].Kind)
}

func TestAMachineThatSleptKillsAtOnce(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(30 * time.Second)
	h.start(1, 1, spec())
	h.started(1, 0)
	take[any](h)
	h.now = h.now.Add(time.Hour)
	h.step(Tick{})
	require.Equal(t, []int{9}, signals(h))
}

func TestResyncOpensASessionAtOnce(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(30 * time.Second)
	h.sleep(8 * time.Second)
	call := take[CallRenew](h)[0].Call
	h.step(RenewReply{Call: call, Failed: true, Resync: true})
	require.EqualValues(t, 2, take[CallSync](h)[0].Session)
}

func TestAFailedRenewalIsTriedAgain(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(30 * time.Second)
	h.sleep(8 * time.Second)
	h.step(RenewReply{Call: take[CallRenew](h)[0].Call, Failed: true})
	h.sleep(7500 * time.Millisecond)
	require.Len(t, take[CallRenew](h), 1)
}

func TestStopEndsEverythingAndReportsIt(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(30 * time.Second)
	h.start(1, 1, spec())
	h.started(1, 0)
	take[any](h)
	h.step(Stop{})
	require.Equal(t, []int{15}, signals(h))
	h.start(2, 1, spec())
	require.Empty(t, take[Launch](h), "nothing new is started")
	h.sleep(2100 * time.Millisecond)
	require.Equal(t, []int{9}, signals(h))
	h.ended(1, 0, 9)
	h.sleep(time.Millisecond)
	require.Empty(t, take[Stopped](h), "its end is not acknowledged yet")
	h.ackAll()
	require.Len(t, take[Stopped](h), 1)
}

func TestStopDoesNotWaitForALeaderThatIsGone(t *testing.T) {
	h := newHarness(t, Config{})
	h.step(Stop{})
	require.Len(t, take[Stopped](h), 1, "nothing runs, nobody is there")

	h = newHarness(t, Config{})
	h.connect(30 * time.Second)
	h.start(1, 1, spec())
	h.step(Stop{})
	h.ended(1, 0, 15)
	h.sleep(3 * time.Second)
	require.Len(t, take[Stopped](h), 1, "it never answers")
}

func TestAStopWithTimeLeavesTasksTheirKillTimeout(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(30 * time.Second)
	h.start(1, 1, spec())
	h.started(1, 0)
	take[any](h)
	h.step(Stop{Grace: 15 * time.Second})
	require.Equal(t, []int{15}, signals(h))
	h.sleep(4900 * time.Millisecond)
	require.Empty(t, signals(h))
	h.sleep(200 * time.Millisecond)
	require.Equal(t, []int{9}, signals(h), "5 s, unless the job says otherwise")
}
