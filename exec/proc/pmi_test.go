package proc

import (
	"testing"

	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
)

// talk speaks PMI in the shell: each line goes to descriptor 3, and its answer is printed.
const talk = `exec 4<&$PMI_FD; say() { echo "$1" >&$PMI_FD; read -r answer <&4; echo "$answer"; }; say "cmd=init pmi_version=1 pmi_subversion=1"; `

func several(j *exec.Job) { j.NTasks = 2; j.Map = jobspec.BlockMap([]int{2}) }

func TestTasksMeetInABarrier(t *testing.T) {
	s := open(t)
	j := script(1, 2, talk+`say "cmd=put kvsname=$FROND_JOB_ID key=k$PMI_RANK value=v$PMI_RANK"; say cmd=barrier_in
		say "cmd=get kvsname=$FROND_JOB_ID key=k$((1 - PMI_RANK))"; say "cmd=get kvsname=$FROND_JOB_ID key=far"
		say "cmd=get kvsname=$FROND_JOB_ID key=PMI_process_mapping"; say cmd=finalize`, several)
	s.Do(exec.Launch{Jobs: []*exec.Job{j}})
	events := s.Wait(func(ev []exec.TaskEvent) bool { return lastOf(ev, exec.TaskFence) != nil })
	require.Equal(t, []string{"k0", "v0", "k1", "v1"}, lastOf(events, exec.TaskFence).Pairs)
	s.Do(exec.Fence{Run: 1, Pairs: []string{"k0", "v0", "k1", "v1", "far", "away"}})
	events = s.Wait(func(ev []exec.TaskEvent) bool { return ended(ev) == 2 })
	require.Equal(t, "cmd=response_to_init rc=0 pmi_version=1 pmi_subversion=1\ncmd=put_result rc=0\ncmd=barrier_out rc=0\n"+
		"cmd=get_result rc=0 value=v1\ncmd=get_result rc=0 value=away\ncmd=get_result rc=0 value=(vector,(0,1,2))\ncmd=finalize_ack rc=0\n", text(events, 0, 1))
	for _, ev := range events {
		require.False(t, ev.Owing)
	}
}

func TestATaskThatDiesInABarrierOwesTheOthers(t *testing.T) {
	s := open(t)
	events := s.run(script(1, 2, talk+`[ $PMI_RANK = 1 ] && kill -9 $$; echo cmd=barrier_in >&3; sleep 0.1; exit 0`, several))
	owing := 0
	for _, ev := range events {
		if ev.Owing {
			owing++
		}
	}
	require.Equal(t, 2, owing, "neither has finalized")
}

func TestAbortAndNonsenseAreToldBeforeTheEnd(t *testing.T) {
	s := open(t)
	for line, want := range map[string]exec.TaskEvent{
		"cmd=abort exitcode=7": {Status: 7 << 8, Note: "task 0 called MPI_Abort with exit code 7"},
		"cmd=abort":            {Status: 1 << 8, Note: "task 0 called MPI_Abort with exit code 1"},
		"cmd=nonsense":         {Status: 1 << 8, Note: `task 0: PMI: "nonsense" is not a command of PMI-1`},
	} {
		events := s.run(script(1, 1, talk+"echo "+line+" >&3", func(j *exec.Job) { j.Spec.Job.Shell.PMI = "simple" }))
		got := lastOf(events, exec.TaskAborted)
		require.NotNil(t, got, line)
		require.Equal(t, want.Note, got.Note)
		require.Equal(t, want.Status, got.Status)
		require.Equal(t, exec.TaskEnded, last(events).Kind)
	}
}

func TestOnlyJobsOfSeveralTasksHavePMI(t *testing.T) {
	s := open(t)
	require.Equal(t, "none\n", text(s.run(script(1, 1, "echo ${PMI_FD-none}")), 0, 1))
	require.Equal(t, "none\n", text(s.run(script(2, 2, "echo ${PMI_FD-none}", several, func(j *exec.Job) { j.Spec.Job.Shell.PMI = "off" })), 1, 1))
	require.Equal(t, "3 1 2\n", text(s.run(script(3, 2, "echo $PMI_FD $PMI_RANK $PMI_SIZE", several)), 1, 1))
}

// lastOf is the last event of a kind.
func lastOf(events []exec.TaskEvent, kind exec.TaskEventKind) *exec.TaskEvent {
	for i := len(events) - 1; i >= 0; i-- {
		if events[i].Kind == kind {
			return &events[i]
		}
	}
	return nil
}

func ended(events []exec.TaskEvent) (n int) {
	for _, ev := range events {
		if ev.Kind == exec.TaskEnded {
			n++
		}
	}
	return n
}
