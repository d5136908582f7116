package exec

import (
	"testing"
	"time"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
)

// startPerilog starts a run of two tasks with a prolog and an epilog of its own.
func (h *harness) startPerilog() {
	h.startTasks(1, func(_ *Start, js *jobspec.Jobspec) {
		js.Cwd, js.Shell.Prolog, js.Shell.Epilog = "/job", "pro", "epi"
	})
}

// endSide ends the command that runs, and checks what it is.
func (h *harness) endSide(command, cwd string, status int) {
	launched := take[Launch](h)
	require.NotEmpty(h.t, launched)
	job := launched[len(launched)-1].Jobs[0]
	require.Equal(h.t, []string{"/bin/sh", "-c", command}, job.Spec.Job.Command)
	require.Equal(h.t, cwd, job.Spec.Job.Cwd)
	h.step(Tasks{{Kind: TaskOutput, Run: job.ID, Stream: 1, Data: []byte(command + "\n")}, {Kind: TaskEnded, Run: job.ID, Start: 1, Status: status}})
}

// told are the events and exceptions of all records so far, and the last status.
func (h *harness) told(recs []Record) (list []string) {
	for _, r := range recs {
		switch r.Kind {
		case RecEvent, RecException:
			list = append(list, r.Type)
		case RecEnded:
			list = append(list, "ended")
		}
	}
	return list
}

// all keeps records across the takes of other actions.
func reports(h *harness) func() []Record {
	var all []Record
	return func() []Record {
		for _, a := range h.act {
			if r, ok := a.(CallReport); ok {
				all = append(all, r.Records...)
			}
		}
		return all
	}
}

func TestAPrologRunsBeforeTheTasksAndAnEpilogAfterThem(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(0)
	recs := reports(h)
	h.startPerilog()
	recs()
	h.endSide("pro", "/job", 0)
	launched := take[Launch](h)
	require.Equal(t, []string{"x"}, launched[0].Jobs[0].Spec.Job.Command)
	run := launched[0].Jobs[0].ID
	h.step(Tasks{{Kind: TaskEnded, Run: run, Task: 0, Start: 1, Time: 5, Status: 3 << 8}, {Kind: TaskEnded, Run: run, Task: 1, Start: 1, Time: 6}})
	recs()
	h.step(KillRuns{Session: h.m.session, Runs: []Ref{fenceRef}, End: true})
	require.Empty(t, killed(h), "an epilog is not the job's to end")
	h.endSide("epi", "/job", 1<<8)
	last := recs()
	end := last[len(last)-1]
	require.Equal(t, RecEnded, end.Kind)
	require.Equal(t, 3<<8, end.Status)
	require.Equal(t, 6.0, end.Time, "when its tasks had ended")
	exc := last[len(last)-2]
	require.Equal(t, 1, exc.Severity)
	require.Equal(t, "epilog failed on n[0-1]: exit code 1", exc.Note)
}

func killed(h *harness) (list []Signal) {
	for _, a := range h.act {
		if s, ok := a.(Signal); ok {
			list = append(list, s)
		}
	}
	return list
}

func TestAPrologThatFailsEndsTheJobWithoutTasks(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(0)
	h.startPerilog()
	h.endSide("pro", "/job", 2<<8)
	recs := h.records()
	require.Equal(t, []string{"prolog-finish", "prolog", "ended"}, h.told(recs))
	require.Equal(t, 2<<8, recs[len(recs)-1].Status)
	require.Zero(t, recs[len(recs)-1].Start)
}

func TestAJobThatIsEndedInItsPrologRunsNothingMore(t *testing.T) {
	for _, status := range []int{15, 0} { // it may end before the signal, or take it for nothing
		h := newHarness(t, Config{})
		h.connect(0)
		h.startPerilog()
		side := h.m.lastID
		h.step(KillRuns{Session: h.m.session, Runs: []Ref{fenceRef}, End: true})
		require.Equal(t, []Signal{{side, sigTERM}}, killed(h))
		h.act = nil
		h.step(Tasks{{Kind: TaskEnded, Run: side, Start: 1, Status: status}})
		recs := h.records()
		require.Equal(t, []string{"prolog-finish", "ended"}, h.told(recs))
		require.NotZero(t, recs[len(recs)-1].Status, "no success without a task")
	}
}

func TestAPrologMayNotTakeForEver(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(0)
	h.startPerilog()
	h.sleep(31 * time.Minute)
	require.Equal(t, sigKILL, killed(h)[0].Sig)
	require.Contains(t, h.told(h.records()), "prolog")
}

func TestTheInstancesCommandsEncloseTheJobs(t *testing.T) {
	h := newHarness(t, Config{})
	h.connect(0)
	js := &jobspec.Jobspec{Command: []string{"x"}, Cwd: "/job", Shell: jobspec.ShellOptions{Prolog: "own pro", Epilog: "own epi"}}
	h.step(StartRuns{Session: h.m.session, Specs: []*Spec{{ID: 9, Job: js, Prolog: "pro", Epilog: "epi"}},
		Starts: []Start{{Ref: fenceRef, SpecID: 9, Parts: []Part{{NTasks: 1}}, NTasks: 1, NNodes: 1}}})
	h.endSide("pro", "/", 0)
	h.endSide("own pro", "/job", 0)
	run := take[Launch](h)[0].Jobs[0].ID
	h.step(Tasks{{Kind: TaskEnded, Run: run, Start: 1, Status: 9}})
	h.endSide("own epi", "/job", 0)
	h.endSide("epi", "/", 0)
	recs := h.records()
	require.Equal(t, []string{"epilog-finish", "ended"}, h.told(recs))
}

// launches tells whether anything was started since actions were last taken.
func launches(h *harness) bool {
	for _, a := range h.act {
		if _, ok := a.(Launch); ok {
			return true
		}
	}
	return false
}

func TestTheTasksOfSeveralBrokersStartAfterTheLastProlog(t *testing.T) {
	begin := func(t *testing.T) (*harness, CallFence) {
		h := newHarness(t, Config{})
		h.connect(0)
		h.startTasks(2, func(_ *Start, js *jobspec.Jobspec) { js.Cwd, js.Shell.Prolog = "/job", "pro" })
		h.endSide("pro", "/job", 0)
		require.False(t, launches(h), "another prolog may still run")
		calls := take[CallFence](h)
		require.Len(t, calls, 1)
		require.Equal(t, 1, calls[0].Seq)
		return h, calls[0]
	}
	t.Run("all are done", func(t *testing.T) {
		h, call := begin(t)
		h.step(KillRuns{Session: h.m.session, Runs: []Ref{fenceRef}, Signal: 10})
		require.Empty(t, killed(h), "there are no tasks yet")
		h.step(FenceReply{Call: call.Call})
		launched := take[Launch](h)
		require.Len(t, launched, 1)
		require.Equal(t, []string{"x"}, launched[0].Jobs[0].Spec.Job.Command)
		h.step(Tasks{{Kind: TaskFence, Run: launched[0].Jobs[0].ID}})
		require.Equal(t, 2, take[CallFence](h)[0].Seq, "the first of PMI")
	})
	t.Run("the job is ended meanwhile", func(t *testing.T) {
		h, call := begin(t)
		h.step(KillRuns{Session: h.m.session, Runs: []Ref{fenceRef}, End: true})
		h.step(FenceReply{Call: call.Call})
		require.False(t, launches(h))
		recs := h.records()
		end := recs[len(recs)-1]
		require.Equal(t, RecEnded, end.Kind)
		require.Equal(t, jobspec.TaskStatus(sigTERM), end.Status)
	})
	t.Run("the others take for ever", func(t *testing.T) {
		h, _ := begin(t)
		h.sleep(31 * time.Minute)
		require.Contains(t, h.told(h.records()), "prolog")
		require.Empty(t, h.m.asks)
	})
}
