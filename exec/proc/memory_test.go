package proc

import (
	"os"
	"testing"

	"github.com/frond-hpc/frond/exec"
	"github.com/stretchr/testify/require"
)

func limit(mib int64) func(*exec.Job) { return func(j *exec.Job) { j.Parts[0].MemMiB = mib } }

func TestAJobOverItsMemoryIsTold(t *testing.T) {
	s := open(t)
	// Each task holds 15 MB: together they are over the limit.
	j := script(1, 2, "x=$(head -c 15000000 /dev/zero | tr '\\000' a); sleep 60", limit(20))
	s.Do(exec.Launch{Jobs: []*exec.Job{j}})
	events := s.Wait(func(ev []exec.TaskEvent) bool { return lastOf(ev, exec.RunExceeds) != nil })
	require.Regexp(t, `^used \d+ of 20 MiB of memory on n0$`, lastOf(events, exec.RunExceeds).Note)
	s.Do(exec.Signal{Run: 1, Sig: 9})
	s.Wait(func(ev []exec.TaskEvent) bool { return ended(ev) == 2 })
	require.Empty(t, s.d.limited)
}

func TestAJobWithinItsMemoryIsLeftAlone(t *testing.T) {
	s := open(t)
	events := s.run(script(1, 1, "sleep 0.6", limit(1000)), script(2, 1, "x=$(head -c 15000000 /dev/zero | tr '\\000' a); sleep 0.6"))
	require.Nil(t, lastOf(events, exec.RunExceeds))
}

func TestTheTableOfProcessesKnowsThisOne(t *testing.T) {
	table := processes()
	require.Contains(t, table.below([]int{os.Getppid()}), os.Getpid())
	require.NotContains(t, table.below([]int{os.Getpid()}), os.Getpid())
	rss := table.rss([]int{os.Getpid()})
	require.Greater(t, rss, int64(1<<20))
	require.Positive(t, proportional([]int{os.Getpid()}, rss))
}
