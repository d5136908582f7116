package exec

import (
	"testing"
	"time"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
)

var fenceRef = Ref{Job: 70, Attempt: 1, Epoch: 1}

// startTasks starts a run of two tasks here, of a job on as many brokers.
func (h *harness) startTasks(brokers int, change ...func(*Start, *jobspec.Jobspec)) {
	js := &jobspec.Jobspec{Command: []string{"x"}, Shell: jobspec.ShellOptions{KillTimeout: 5, ExitTimeout: -1}}
	s := Start{Ref: fenceRef, SpecID: 9, Parts: []Part{{NodeID: 1, FirstTask: 2, NTasks: 2}}, NTasks: 2 * brokers, NNodes: brokers, Taskmap: "[[0,2,2,1]]",
		Nodelist: "n[0-1]", Root: 1, Brokers: brokers}
	if brokers == 1 {
		s.Taskmap, s.Parts[0] = "", Part{NTasks: 2}
	}
	for _, c := range change {
		c(&s, js)
	}
	h.step(StartRuns{Session: h.m.session, Specs: []*Spec{{ID: 9, Job: js}}, Starts: []Start{s}})
}

func (h *harness) fence(pairs ...string) {
	h.step(Tasks{{Kind: TaskFence, Run: h.m.lastID, Pairs: pairs}})
}

func TestAFenceOnOneBrokerAsksNobody(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(30 * time.Second)
	h.startTasks(1)
	h.fence("a", "1")
	require.Equal(t, []Fence{{h.m.lastID, []string{"a", "1"}}}, take[Fence](h))
}

func TestAFenceIsAskedOfTheRootUntilItAnswers(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(0)
	h.startTasks(2)
	h.fence("a", "1")
	calls := take[CallFence](h)
	require.Equal(t, []CallFence{{Call: calls[0].Call, Root: 1, Ref: fenceRef, Seq: 1, Rank: 3, Of: 2, Pairs: []string{"a", "1"}}}, calls)
	h.step(FenceReply{Call: calls[0].Call, Failed: true})
	require.Empty(t, take[CallFence](h))
	h.sleep(time.Second)
	again := take[CallFence](h)
	require.Len(t, again, 1)
	require.Equal(t, 1, again[0].Seq)
	h.step(FenceReply{Call: calls[0].Call, Pairs: []string{"late", "1"}})
	require.Empty(t, take[Fence](h), "an answer to a call that was given up")
	h.step(FenceReply{Call: again[0].Call, Pairs: []string{"a", "1", "b", "2"}})
	require.Equal(t, []Fence{{h.m.lastID, []string{"a", "1", "b", "2"}}}, take[Fence](h))
	h.fence()
	require.Equal(t, 2, take[CallFence](h)[0].Seq)
	h.step(Tasks{{Kind: TaskEnded, Run: h.m.lastID, Task: 2, Start: 1}, {Kind: TaskEnded, Run: h.m.lastID, Task: 3, Start: 1}})
	require.Empty(t, h.m.asks, "nobody waits any more")
}

func ask(key string, rank int32, seq int, pairs ...string) FenceAsked {
	return FenceAsked{Key: key, Ref: fenceRef, Seq: seq, Rank: rank, Of: 2, Pairs: pairs}
}

func TestTheRootAnswersWhenAllHaveAsked(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(0)
	h.step(ask("k1", 5, 1, "b", "2")) // before the run has come
	h.startTasks(2)
	require.Empty(t, take[FenceDone](h))
	h.step(ask("k1 again", 5, 1, "b", "2")) // the link healed, and the call with it
	require.Empty(t, take[FenceDone](h))
	h.step(ask("k2", 3, 1, "a", "1"))
	done := FenceDone{Keys: []any{"k2", "k1 again"}, Pairs: []string{"a", "1", "b", "2"}}
	require.Equal(t, []FenceDone{done}, take[FenceDone](h))
	h.step(ask("k3", 3, 2))
	h.step(ask("k1 lost", 5, 1, "b", "2"))
	require.Equal(t, []FenceDone{{Keys: []any{"k1 lost"}, Pairs: done.Pairs}}, take[FenceDone](h), "an answer that was lost comes again")
	h.step(Tasks{{Kind: TaskEnded, Run: h.m.lastID, Task: 2, Start: 1}, {Kind: TaskEnded, Run: h.m.lastID, Task: 3, Start: 1}})
	require.Equal(t, []FenceDone{{Keys: []any{"k3"}, Failed: true}}, take[FenceDone](h), "the root's part is over")
	h.step(ask("k4", 5, 2))
	require.Equal(t, []FenceDone{{Keys: []any{"k4"}, Failed: true}}, take[FenceDone](h))
}

func TestFencesOfRunsThatNeverComeAreGivenUp(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(0)
	h.step(ask("k1", 5, 1))
	h.sleep(time.Hour)
	other := ask("k2", 5, 1)
	other.Ref.Job++
	h.step(other)
	require.Equal(t, []FenceDone{{Keys: []any{"k1"}, Failed: true}}, take[FenceDone](h))
	require.Len(t, h.m.fences, 1)
}

func TestATaskThatOwesTheOthersEndsTheJob(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(0)
	h.startTasks(2)
	h.step(Tasks{{Kind: TaskEnded, Run: h.m.lastID, Task: 2, Start: 1, Status: 9, Owing: true}})
	recs := h.records()
	require.Equal(t, "task 2 ended (signal 9) before it had finalized PMI", recs[0].Note)
	require.Equal(t, 137<<8, recs[0].Status)
	h.step(Tasks{{Kind: TaskEnded, Run: h.m.lastID, Task: 3, Start: 1, Status: 15, Owing: true}})
	recs = h.records()
	require.Equal(t, RecEnded, recs[len(recs)-1].Kind, "one exception is enough")
	require.Equal(t, 137<<8, recs[len(recs)-1].Status)
}

func TestAnAbortEndsTheJobWithItsStatus(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(0)
	h.startTasks(1)
	h.step(Tasks{{Kind: TaskAborted, Run: h.m.lastID, Task: 1, Status: 7 << 8, Note: "abort"}})
	require.Equal(t, []Signal{{h.m.lastID, sigTERM}}, take[Signal](h))
	h.step(Tasks{{Kind: TaskEnded, Run: h.m.lastID, Task: 0, Start: 1, Status: 15}, {Kind: TaskEnded, Run: h.m.lastID, Task: 1, Start: 1, Status: 9}})
	recs := h.records()
	require.Equal(t, 7<<8, recs[len(recs)-1].Status)
}

func TestTasksAreNumberedAsTheTaskmapSays(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(0)
	h.startTasks(2, func(_ *Start, js *jobspec.Jobspec) { js.Shell.Numbering = jobspec.Numbering{Scheme: "cyclic"} })
	job := take[Launch](h)[0].Jobs[0]
	require.Equal(t, []int{1, 3}, job.Tasks(&job.Parts[0]))
	require.Equal(t, "(vector,(0,2,1),(0,2,1))", job.Map.PMI())

	h = newHarness(t, Config{})
	h.connect(0)
	h.startTasks(2, func(_ *Start, js *jobspec.Jobspec) {
		js.Shell.Numbering = jobspec.Numbering{Scheme: "hostfile", Value: "n1,n2"}
	})
	recs := h.records()
	require.Equal(t, `taskmap does not fit: host "n2" is not among the job's nodes`, recs[0].Note)
}

func TestARunOverItsMemoryIsKilledAtOnce(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(0)
	h.startTasks(1)
	h.step(Tasks{{Kind: RunExceeds, Run: h.m.lastID, Note: "used 21 of 20 MiB"}, {Kind: RunExceeds, Run: h.m.lastID, Note: "again"}})
	require.Equal(t, []Signal{{h.m.lastID, sigKILL}}, take[Signal](h))
	h.step(Tasks{{Kind: TaskEnded, Run: h.m.lastID, Task: 0, Start: 1, Status: 9}, {Kind: TaskEnded, Run: h.m.lastID, Task: 1, Start: 1, Status: 9}})
	recs := h.records()
	require.Equal(t, RecEnded, recs[len(recs)-1].Kind)
	for _, r := range recs {
		require.NotEqual(t, "again", r.Note)
	}
}
