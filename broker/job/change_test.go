package job

import (
	"testing"
	"time"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/resource/idset"
	"github.com/stretchr/testify/require"
)

// stage is a machine with one node of four cores, whose store answers at once.
type stage struct {
	t   *testing.T
	now time.Time
	m   *Machine
	id  uint64
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, now: time.Unix(1800000000, 0)}
	m, _, err := New(Config{Now: s.now, Lease: testLease})
	require.NoError(t, err)
	s.m = m
	s.step(NodesKnown{[]resource.Node{{Index: 0, Name: "n0", Cores: resource.MaskRange(0, 3)}}})
	s.step(MemberChanged{Row: MemberRow{Rank: 0, UUID: "u", State: "online"}})
	s.step(Synced{Rank: 0, UUID: "u", Session: 1})
	return s
}

// step takes an event and all commits that follow, and returns all actions as one.
func (s *stage) step(ev any) *Actions {
	s.now = s.now.Add(time.Millisecond)
	sum := s.m.Step(s.now, ev)
	require.NoError(s.t, s.m.Check(), "after %T", ev)
	for s.m.Dirty() {
		s.m.TakeTxn()
		a := s.m.Step(s.now, Committed{})
		require.NoError(s.t, s.m.Check())
		sum.Queue = append(sum.Queue, a.Queue...)
		sum.Dequeue = append(sum.Dequeue, a.Dequeue...)
		sum.Starts = append(sum.Starts, a.Starts...)
		sum.Ended = append(sum.Ended, a.Ended...)
		sum.Spans = append(sum.Spans, a.Spans...)
		sum.Done = append(sum.Done, a.Done...)
	}
	return sum
}

func (s *stage) submit(n int, targets []DependTarget, deps ...jobspec.Dependency) (jobspec.ID, *Actions) {
	j := &jobspec.Jobspec{Command: []string{"x"}, Name: "x", Request: jobspec.Request{Slots: 1, Cores: 1}, Rerun: true, TaskCount: jobspec.TaskCount{PerSlot: 1},
		Dependencies: deps}
	a := s.step(Submitted{Items: []Item{{Spec: &Spec{ID: 1, Job: j}, N: n, Urgency: 16, Depends: targets}}})
	return a.IDs[0], a
}

// allocate gives the array's next element a core; the actions tell whether it is started.
func (s *stage) allocate(id jobspec.ID) *Actions {
	s.id++
	res := &resource.Alloc{Nodes: []resource.NodeAlloc{{Node: 0, Cores: resource.MaskRange(0, 0), Slots: 1}}}
	return s.step(Allocated{[]Allocation{{ID: s.id, Array: id, Alloc: res}}})
}

// end ends a run.
func (s *stage) end(key RunKey, status int) *Actions {
	now := float64(s.now.UnixNano()) / 1e9
	return s.step(Reported{Rank: 0, UUID: "u", Session: 1, Records: []Record{{Kind: Ended, Key: key, Time: now, Start: now, Status: status}}})
}

func queued(a *Actions) (n int) {
	for _, q := range a.Queue {
		n += q.Count
	}
	return n
}

func TestAHeldJobDoesNotTakeAnAllocationThatWasOnItsWay(t *testing.T) {
	s := newStage(t)
	id, a := s.submit(3, nil)
	require.Equal(t, 3, queued(a))
	hold := 0
	a = s.step(Changed{Targets: []Target{{id, 0, 2}}, Urgency: &hold})
	require.Equal(t, []Prioritized{{id, 0}}, a.Priorities)
	a = s.allocate(id)
	require.Empty(t, a.Starts)
	require.Len(t, a.Free, 1)
	require.Equal(t, 1, queued(a), "what was given back is asked for again")
	high := 31
	a = s.step(Changed{Targets: []Target{{id, 0, 2}}, Urgency: &high})
	require.Equal(t, uint32(4294967295), a.Priorities[0].Priority)
	require.Len(t, s.allocate(id).Starts, 1)
}

func TestAStoppedQueueAsksForNothing(t *testing.T) {
	s := newStage(t)
	id, _ := s.submit(3, nil)
	a := s.step(QueueChanged{Rows: []QueueRow{{Stopped: true}}})
	require.Equal(t, []Dequeued{{id, 3}}, a.Dequeue)
	require.Len(t, s.allocate(id).Free, 1, "an allocation that was on its way is given back")
	a = s.step(QueueChanged{Rows: []QueueRow{{}}})
	require.Equal(t, 3, queued(a))
	require.Len(t, s.allocate(id).Starts, 1)
}

func TestAfterCorrGoesElementByElement(t *testing.T) {
	s := newStage(t)
	first, _ := s.submit(3, nil)
	next, a := s.submit(3, []DependTarget{{Array: first, N: 3}}, jobspec.Dependency{Scheme: "aftercorr", Value: "f1"})
	require.Zero(t, queued(a))
	var keys []RunKey
	for range 3 {
		keys = append(keys, s.allocate(first).Starts[0].Runs[0].Key)
	}
	a = s.end(keys[2], 0)
	require.Equal(t, 1, queued(a))
	a = s.allocate(next)
	require.Equal(t, 2, a.Starts[0].Runs[0].Index, "the one whose counterpart has completed")
	require.Len(t, s.allocate(next).Free, 1, "no other may start")
	a = s.end(keys[0], 256)
	require.Equal(t, Target{next, 0, 0}, a.Spans[0].Target, "its counterpart failed: it can never run")
	a = s.end(keys[1], 0)
	require.Equal(t, 1, queued(a))
	require.Equal(t, 1, s.allocate(next).Starts[0].Runs[0].Index)
}

func TestAJobOfWhichAPartIsLostIsNotCompleted(t *testing.T) {
	s := newStage(t)
	s.step(NodesKnown{[]resource.Node{{Index: 1, Name: "n1", Broker: 1, Cores: resource.MaskRange(0, 3)}}})
	s.step(MemberChanged{Row: MemberRow{Rank: 1, UUID: "v", State: "online"}})
	s.step(Synced{Rank: 1, UUID: "v", Session: 1})
	j := &jobspec.Jobspec{Command: []string{"x"}, Name: "x", Request: jobspec.Request{Nodes: 2, Slots: 2, Cores: 1}, TaskCount: jobspec.TaskCount{PerSlot: 1},
		Shell: jobspec.ShellOptions{ExitTimeout: -1}}
	id := s.step(Submitted{Items: []Item{{Spec: &Spec{ID: 2, Job: j}, N: 1, Urgency: 16}}}).IDs[0]
	res := &resource.Alloc{}
	for i := range 2 {
		res.Nodes = append(res.Nodes, resource.NodeAlloc{Node: i, Cores: resource.MaskRange(0, 0), Slots: 1})
	}
	a := s.step(Allocated{[]Allocation{{ID: 1, Array: id, Alloc: res}}})
	require.Len(t, a.Starts, 2)
	require.Empty(t, s.end(a.Starts[0].Runs[0].Key, 0).Ended)
	s.step(Raised{Targets: []Target{{id, 0, 0}}, Exc: Exception{Type: "cancel"}})
	a = s.step(MemberChanged{Row: MemberRow{Rank: 1, UUID: "v", State: "dead"}})
	require.Len(t, a.Ended, 1)
	require.Equal(t, jobspec.ResultCanceled, a.Ended[0].Result)
	require.Equal(t, -1, a.Ended[0].Status)
}

func TestElementsThatCanNeverRunCountAsFailed(t *testing.T) {
	s := newStage(t)
	first, _ := s.submit(3, nil)
	j := &jobspec.Jobspec{Command: []string{"x"}, Name: "x", Request: jobspec.Request{Slots: 1, Cores: 1}, TaskCount: jobspec.TaskCount{PerSlot: 1},
		Dependencies: []jobspec.Dependency{{Scheme: "aftercorr", Value: "f1"}}, Array: jobspec.ArrayOptions{MaxFails: 2}}
	next := s.step(Submitted{Items: []Item{{Spec: &Spec{ID: 2, Job: j}, N: 3, Urgency: 16, Depends: []DependTarget{{Array: first, N: 3}}}}}).IDs[0]
	var keys []RunKey
	for range 3 {
		keys = append(keys, s.allocate(first).Starts[0].Runs[0].Key)
	}
	require.Empty(t, s.end(keys[0], 256).Done)
	a := s.end(keys[1], 256)
	require.Len(t, a.Spans, 2)
	require.Equal(t, [2]any{Target{next, 2, 2}, jobspec.ResultCanceled}, [2]any{a.Spans[1].Target, a.Spans[1].Result})
}

func TestADependencyOnElementsCountsTheseAlone(t *testing.T) {
	s := newStage(t)
	first, _ := s.submit(4, nil)
	var keys []RunKey
	for range 4 {
		keys = append(keys, s.allocate(first).Starts[0].Runs[0].Key)
	}
	_, a := s.submit(1, []DependTarget{{Array: first, N: 4, Elements: idset.Of(1, 3)}}, jobspec.Dependency{Scheme: "afterok", Value: "f1:1,3"})
	require.Zero(t, queued(a))
	require.Zero(t, queued(s.end(keys[1], 0)))
	require.Zero(t, queued(s.end(keys[0], 256)), "it does not wait for this one")
	require.Equal(t, 1, queued(s.end(keys[3], 0)))
}

func TestADependencyOnThePastAsksTheStore(t *testing.T) {
	s := newStage(t)
	ok := []jobspec.Dependency{{Scheme: "afterok", Value: "f1"}}
	id, a := s.submit(1, []DependTarget{{Array: 77, N: 2}}, ok...)
	require.Len(t, a.Lookups, 1)
	require.Zero(t, queued(s.step(Looked{Array: id, Ended: []Outcome{{Lo: 0, Hi: 0, OK: true, Ran: true}}})), "one of two")
	require.Zero(t, queued(s.step(Looked{Array: id, Ended: []Outcome{{Lo: 0, Hi: 0, OK: true, Ran: true}}})), "told twice is told once")
	require.Equal(t, 1, queued(s.step(Looked{Array: id, Ended: []Outcome{{Lo: 1, Hi: 1, OK: true, Ran: true}}})))
	id, _ = s.submit(1, []DependTarget{{Array: 77, N: 2}}, ok...)
	a = s.step(Looked{Array: id, Ended: []Outcome{{Lo: 1, Hi: 1, Ran: true}}})
	require.Equal(t, Target{id, 0, 0}, a.Spans[0].Target)
	id, _ = s.submit(1, []DependTarget{{Array: 77, N: 2}}, ok...)
	a = s.step(Looked{Array: id, Failed: true})
	require.Equal(t, s.now.Add(time.Second), a.Wake, "it is tried again")
}

func TestTimeLimits(t *testing.T) {
	s := newStage(t)
	id, _ := s.submit(1, nil)
	all := []Target{{id, 0, 0}}
	a := s.step(Changed{Targets: all, Duration: &DurationChange{Sign: 1, Seconds: 5}})
	require.Contains(t, a.Errors[id], "has no time limit")
	a = s.step(Changed{Targets: all, Duration: &DurationChange{Seconds: 60}})
	require.Equal(t, 60.0, a.Limits[0].Duration)
	run := s.allocate(id).Starts[0].Runs[0]
	require.Equal(t, 60.0, run.Limit)
	a = s.step(Changed{Targets: all, Duration: &DurationChange{Sign: -1, Seconds: 60}})
	require.Contains(t, a.Errors[id], "cannot be taken from it")
	a = s.step(Changed{Targets: all, Duration: &DurationChange{Sign: 1, Seconds: 30}, DryRun: true})
	require.Empty(t, a.Limits)
	a = s.step(Changed{Targets: all, Duration: &DurationChange{Sign: 1, Seconds: 30}})
	require.Equal(t, []RankRuns{{Rank: 0, Session: 1, Runs: []RunKey{run.Key}}}, a.Limits[0].Runs)
	require.InDelta(t, float64(s.now.Unix())+90, a.Limits[0].Ends[0].End, 2)
}

func TestALongJobDoesNotHoldOnToThoseThatWaitedForIt(t *testing.T) {
	s := newStage(t)
	long, _ := s.submit(1, nil)
	run := s.allocate(long).Starts[0].Runs[0].Key
	s.step(Reported{Rank: 0, UUID: "u", Session: 1, Records: []Record{{Kind: Started, Key: run, Time: 1800000000}}})
	for range 100 {
		id, a := s.submit(1, []DependTarget{{Array: long, N: 1}}, jobspec.Dependency{Scheme: "afterstart", Value: "f1"})
		require.Equal(t, 1, queued(a))
		s.end(s.allocate(id).Starts[0].Runs[0].Key, 0)
	}
	require.Less(t, len(s.m.arrays[long].followers), 10)
}

func TestEachElementsFollowerHearsOfItsEnd(t *testing.T) {
	s := newStage(t)
	first, _ := s.submit(20, nil)
	var waiting []jobspec.ID
	for i := range 20 {
		id, a := s.submit(1, []DependTarget{{Array: first, N: 20, Elements: idset.Of(i)}}, jobspec.Dependency{Scheme: "afterok", Value: "f1"})
		require.Zero(t, queued(a))
		waiting = append(waiting, id)
	}
	for i := range 20 {
		run := s.allocate(first).Starts[0].Runs[0].Key
		a := s.end(run, 0)
		require.Len(t, a.Queue, 1)
		require.Equal(t, waiting[i], a.Queue[0].Array)
	}
}
