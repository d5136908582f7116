package sge

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

// TestGridEngine has one cluster for all.
func TestGridEngine(t *testing.T) {
	c := start(t)
	for _, part := range []struct {
		name string
		test func(*testing.T, *cluster)
	}{
		{"the same work as elsewhere", workload},
		{"a broker on each host", everyHost},
		{"by mpiexec, once per host and once per slot", mpiexec},
		{"a serial job", serial},
		{"a parallel environment that lets nothing start", loose},
		{"the time limit, and on in another job", limit},
		{"qdel", deleted},
	} {
		t.Run(part.name, func(t *testing.T) {
			c.t = t
			part.test(t, c)
			c.clean()
		})
	}
	c.t = t
}

func workload(t *testing.T, c *cluster) {
	work, prints, err := harness.Workload(c.dir, "../mpi/testdata/trial.c")
	require.NoError(t, err)
	out := c.finish("work", c.submit("work", "-pe tight 6", "frond start "+work+"\necho exit code $?"))
	require.Equal(t, prints, harness.WorkloadPart(out), out)
	require.Contains(t, out, fmt.Sprintf("exit code %d", harness.WorkloadCode))
}

func everyHost(t *testing.T, c *cluster) {
	id := c.submit("hosts", "-pe tight 6", `
		frond start --dry-run true
		frond start --check
		frond start sh -c '
			frond resource list -s free
			frond run -N3 -n3 sh -c "echo on \$(hostname) as \$(id -un)"
			frond run -N3 -n3 env | grep -E "^(SGE_JOB|SGE_TASK|PE_HOSTFILE|JOB_ID)" || echo no job of Grid Engine here
			qstat -j $FROND_OUTER_JOBID | grep job_number'
		echo exit code $?`)
	out := c.finish("hosts", id)
	require.Regexp(t, "in the batch script of job "+id+` of Grid Engine, with 3 nodes: h\[`, out) // in whatever order
	require.Contains(t, out, "granted:  6 cores at most")
	require.Contains(t, out, "qrsh -inherit h")
	require.Regexp(t, `(?m)^2 +h[0-2] +h[0-2] +qrsh .* tcp://10.77.0`, out)
	require.Regexp(t, `free +3 +6 `, out)
	for i := range 3 {
		require.Contains(t, out, fmt.Sprintf("on h%d as frondtest", i))
	}
	require.Contains(t, out, "no job of Grid Engine here")
	require.Regexp(t, `job_number: +`+id, out, "the program may use qstat")
	require.Contains(t, out, "exit code 0")
}

// mpiexec of MPICH asks Grid Engine for the hosts and starts its processes by qrsh: they become one instance with a broker on each host.
func mpiexec(t *testing.T, c *cluster) {
	harness.Need(t, harness.Has("mpiexec.mpich"), "needs mpiexec.mpich: scripts/testdeps.sh installs it as root")
	out := c.finish("mpi", c.submit("mpi", "-pe tight 6", `
		for opt in "-n 3 -ppn 1" "-n 6"; do
			mpiexec.mpich $opt frond start sh -c 'echo one leader; frond resource list -s free; frond run -N3 -n3 hostname; exit 3'
			echo exit code $?
		done`))
	require.Equal(t, 2, strings.Count(out, "one leader"), out)
	require.Equal(t, 2, strings.Count(out, "exit code 3"), out)
	for i := range 3 {
		require.Equal(t, 2, strings.Count(out, fmt.Sprintf("h%d\n", i))-strings.Count(out, fmt.Sprintf("-h%d\n", i)), out)
	}
	require.Contains(t, out, "6 processes were started on 3 nodes: one on each becomes the broker, the others wait")
}

// serial: one slot is one core.
func serial(t *testing.T, c *cluster) {
	out := c.finish("one", c.submit("one", "", "frond start sh -c 'frond resource list -s free; frond run hostname'"))
	require.Regexp(t, `free +1 +1 +0 h[0-2]`, out)
}

func loose(t *testing.T, c *cluster) {
	out := c.finish("loose", c.submit("loose", "-pe loose 6", "frond start echo started; echo exit code $?"))
	require.Regexp(t, `broker [12] did not start: node h[0-2]: no broker there has reported in; the launcher says:\n +error: executing task of job`, out)
	require.Contains(t, out, "the launcher ended: exit code 1")
	require.Contains(t, out, "exit code 1")
	require.NotContains(t, out, "started\n")
}

// limit: before h_rt is over the instance ends in order, and the next job goes on with it. Each job appends to a file when it ends, so that one that ran again would show.
func limit(t *testing.T, c *cluster) {
	script := `frond start --statedir state --end-margin 10s sh -c '
		[ -s jobs ] || frond submit --cc=1-60 sh -c "sleep 0.5; echo \$FROND_JOB_CC >>$PWD/ended" >jobs
		frond wait $(cat jobs) && echo all have ended'`
	out := c.finish("first", c.submit("first", "-pe tight 6 -l h_rt=15", script))
	require.Contains(t, out, "jobs that have not ended stay in", out)
	require.NotContains(t, out, "all have ended")
	c.clean()
	out = c.finish("second", c.submit("second", "-pe tight 6", script))
	require.Contains(t, out, "all have ended")
	text, err := os.ReadFile(filepath.Join(c.dir, "ended"))
	require.NoError(t, err)
	seen := map[string]int{}
	for line := range strings.FieldsSeq(string(text)) {
		seen[line]++
	}
	require.Len(t, seen, 60, "no job is lost")
	for id, n := range seen {
		require.Equal(t, 1, n, "job %s has ended once", id)
	}
}

// deleted: with qsub -notify qdel sends USR2, which is for the command if it catches it, and some seconds later kills the processes of all hosts; what the instance could
// not take away itself is found by the next one.
func deleted(t *testing.T, c *cluster) {
	id := c.submit("deleted", "-pe tight 6 -notify", "exec frond start sh -c 'trap \"date >>warned\" USR2; frond submit -N3 -n3 sleep 1000; echo x >ready; while :; do sleep 0.1; done'")
	ready := harness.Until(harness.Patience, func() bool { _, err := os.Stat(filepath.Join(c.dir, "ready")); return err == nil })
	require.True(t, ready)
	c.admin("qdel", id)
	c.finish("deleted", id)
	text, err := os.ReadFile(filepath.Join(c.dir, "warned"))
	require.NoError(t, err)
	require.NotEmpty(t, text)
	over := harness.Until(harness.Patience, func() bool { return len(harness.Processes(c.dir)) == 0 })
	require.True(t, over, "%v", harness.Processes(c.dir))
	c.shell("frond list")
}
