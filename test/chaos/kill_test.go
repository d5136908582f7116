package chaos

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

func TestJobsOfADeadLeafRunAgainElsewhere(t *testing.T) {
	in := newInstance(t)
	in.start("-n", "4", "--lease", "1h", "--resources", "node[4]/core[50]")
	open := in.gate()
	in.frond("submit", "--cc=1-20", "--quiet", "--job-name=once", "--rerun=no", "--requires=ranks:3", "flock", "-s", in.dir+"/gate", "true")
	in.frond("submit", "--cc=1-180", "--quiet", "--job-name=again", "sh", "-c", "flock -s "+in.dir+"/gate true; echo {cc} >>"+in.dir+"/done")
	in.awaitRunning(200)
	in.killBroker(3)
	open()
	in.try("wait", "--all", "--quiet") // the supervisor saw it die: no lease is waited for

	again, once, second := 0, 0, 0
	for _, j := range in.jobs() {
		switch j.Name {
		case "again":
			again++
			require.True(t, j.completed(), "%+v", j)
			if j.Attempt == 2 {
				second++
				require.NotEqual(t, "3", j.Ranks)
			}
		case "once":
			once++
			require.False(t, j.completed(), "%+v", j)
		}
	}
	require.Equal(t, []int{180, 20}, []int{again, once})
	require.Equal(t, 30, second, "what ran on the dead node runs again")
	require.Len(t, in.lines("done"), 180, "every job has done its work")
	require.Equal(t, "dead", in.member(3).State)
	id := strings.Fields(in.frond("jobs", "-a", "-n", "-c", "100000", "-o", "{id} {name}", "--name=once"))[0]
	require.Contains(t, in.frond("job", "eventlog", id), "node3", "the exception names the lost node")
}

func TestTheChildrenOfADeadInteriorBrokerAreAdopted(t *testing.T) {
	in := newInstance(t)
	in.start("-n", "7", "--fanout", "2", "--resources", "node[7]/core[4]")
	require.Equal(t, int32(1), in.member(3).Parent)
	in.frond("submit", "-n4", "--requires=ranks:3", "--quiet", "sh", "-c", "sleep 3; echo $FROND_TASK_RANK >>"+in.dir+"/done")
	in.awaitRunning(1)
	in.killBroker(1)
	adopted := harness.Until(harness.Patience, func() bool {
		three, four := in.member(3), in.member(4)
		return three.State == "online" && three.Parent != 1 && four.State == "online" && four.Parent != 1
	})
	require.True(t, adopted, "%+v", in.member(3))
	in.frond("wait", "--all")
	jobs := in.jobs()
	require.Len(t, jobs, 1)
	require.Equal(t, 1, jobs[0].Attempt, "its tasks have gone on")
	require.Equal(t, map[string]int{"0": 1, "1": 1, "2": 1, "3": 1}, in.lines("done"))
}

func TestADeadLeaderComesBackAndAdoptsWhatRuns(t *testing.T) {
	in := newInstance(t)
	in.start("-n", "4", "--statedir", filepath.Join(in.dir, "s"), "--resources", "node[4]/core[4]")
	in.frond("submit", "--cc=1-40", "--quiet", "--requires=-ranks:0", "sh", "-c", "sleep 0.5; echo {cc} >>"+in.dir+"/done")
	in.frond("submit", "-n4", "--requires=ranks:3", "--quiet", "--job-name=long", "sh", "-c", "sleep 5; echo long$FROND_TASK_RANK >>"+in.dir+"/done")
	time.Sleep(time.Second)
	for range 2 {
		in.killBroker(0)
		require.True(t, harness.Until(harness.Patience, func() bool { return in.broker(0) > 0 }), "the leader is started again")
		time.Sleep(500 * time.Millisecond)
	}
	in.frond("wait", "--all")
	for _, j := range in.jobs() {
		require.True(t, j.completed(), "%+v", j)
		require.Equal(t, 1, j.Attempt, "what runs elsewhere is adopted: %+v", j)
	}
	lines := in.lines("done")
	require.Len(t, lines, 44)
	for what, n := range lines {
		require.Equal(t, 1, n, "%s has run more than once", what)
	}
}

func TestAnotherStartGoesOnFromTheStore(t *testing.T) {
	in := newInstance(t)
	args := []string{"-n", "3", "--lease", "1h", "--statedir", filepath.Join(in.dir, "s"), "--resources", "node[3]/core[4]"}
	in.start(args...)
	in.frond("submit", "--cc=1-100", "--quiet", "sh", "-c", "sleep 0.3; echo {cc} >>"+in.dir+"/done")
	finished := map[string]bool{}
	require.True(t, harness.Until(harness.Patience, func() bool {
		for _, cc := range strings.Fields(in.frond("jobs", "-a", "-n", "-c", "1000", "-f", "completed", "-o", "{cc}")) {
			finished[cc] = true
		}
		return len(finished) >= 10
	}))

	harness.Kill(in.supervisor())
	gone := harness.Until(harness.Patience, func() bool { return len(harness.Processes(in.dir)) == 0 })
	require.True(t, gone, "its processes end by themselves: %v", harness.Processes(in.dir))

	in.start(append(args, "--recover")...)
	in.frond("wait", "--all") // no lease is waited for
	jobs := in.jobs()
	require.Len(t, jobs, 100)
	for _, j := range jobs {
		require.True(t, j.completed(), "%+v", j)
	}
	lines := in.lines("done")
	require.Len(t, lines, 100)
	for cc, n := range lines {
		require.True(t, n == 1 || !finished[cc], "%s was finished and has run again", cc)
	}
}

func TestKillingEverythingLeavesNoTask(t *testing.T) {
	in := newInstance(t)
	in.start("-n", "2", "--resources", "node[2]/core[4]")
	file := filepath.Join(in.dir, "pids")
	in.frond("submit", "--cc=1-4", "--quiet", "sh", "-c",
		"(setsid sh -c 'echo $$ >>"+file+"; exec sleep 1000' &) ; (env -i setsid sleep 1000 & echo $! >>"+file+"); echo $$ >>"+file+"; sleep 1000")
	require.True(t, harness.Until(harness.Patience, func() bool {
		data, _ := os.ReadFile(file)
		return len(strings.Fields(string(data))) == 12
	}))
	pids := in.lines("pids")
	for _, p := range []int{in.broker(1), in.broker(0), in.supervisor()} {
		syscall.Kill(p, syscall.SIGKILL)
	}
	for text := range pids {
		pid, err := strconv.Atoi(text)
		require.NoError(t, err)
		ended := harness.Until(harness.Patience, func() bool { return syscall.Kill(pid, 0) != nil })
		require.True(t, ended, "process %d of a task is left", pid)
	}
	in.frond("list") // clears the run directory
}

func TestAFrozenBrokerLosesItsJobsWhenItsLeaseHasRunOut(t *testing.T) {
	in := newInstance(t)
	in.start("-n", "2", "--lease", "4s", "--resources", "node[2]/core[1]")
	open := in.gate()
	in.frond("submit", "--quiet", "--cc=1-2", "flock", "-s", in.dir+"/gate", "true")
	in.awaitRunning(2)
	frozen := in.broker(1)
	require.NoError(t, syscall.Kill(frozen, syscall.SIGSTOP))
	began := time.Now()
	open()
	in.frond("wait", "--all")
	require.Greater(t, time.Since(began), 10*time.Second, "not before lease + 10 s; it may have been heard last a lease ago")
	attempts := 0
	for _, j := range in.jobs() {
		require.True(t, j.completed(), "%+v", j)
		attempts += j.Attempt
	}
	require.Equal(t, 3, attempts)
	require.NoError(t, syscall.Kill(frozen, syscall.SIGCONT))
	back := harness.Until(harness.Patience, func() bool { return in.member(1).State == "online" })
	require.True(t, back, "it joins again: %+v", in.member(1))
	in.frond("run", "-N2", "-n2", "true")
}
