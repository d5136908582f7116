package mpi

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

// launchers are MPICH's mpiexec, where processes find each other by PMI, and Open MPI's, where they do so by files.
var launchers = map[string][]string{
	"mpiexec.mpich":   nil,
	"mpiexec.openmpi": {"--oversubscribe", "--bind-to", "none"},
}

// launch runs a command line by each launcher, with its options and -n, and calls check with what it printed.
func launch(t *testing.T, env []string, line string, check func(t *testing.T, dir, out string, code int)) {
	for launcher, opts := range launchers {
		t.Run(launcher, func(t *testing.T) {
			harness.Need(t, harness.Has(launcher), "needs "+launcher+": scripts/testdeps.sh installs it as root")
			dir, err := os.MkdirTemp("", "fm")
			require.NoError(t, err)
			t.Cleanup(func() {
				harness.KillAll(dir)
				os.RemoveAll(dir)
			})
			cmd := exec.Command("timeout", "300", "sh", "-c", launcher+" "+strings.Join(opts, " ")+" "+line)
			cmd.Dir = dir
			cmd.Env = append(append(harness.Environ(dir), "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "TMPDIR="+dir), env...)
			out, _ := cmd.CombinedOutput()
			check(t, dir, string(out), cmd.ProcessState.ExitCode())
			var left []string
			ok := harness.Until(harness.Patience, func() bool { left = harness.Left(dir, dir); return len(left) == 0 })
			require.True(t, ok, "%v", left)
			files, _ := os.ReadDir(dir + "/home/boot")
			require.Empty(t, files, "what processes met by")
		})
	}
}

func TestMpiexecFrondStart(t *testing.T) {
	launch(t, nil, `-n 4 frond start sh -c '
		echo one leader; frond overlay status; frond run -N4 -n4 sh -c "echo task; env" | grep -E "^(task|PMI_SIZE|OMPI_COMM_WORLD)" | sort | uniq -c
		env | grep -E "^(PMI|OMPI_COMM|PMIX)_" || echo the program is no task; exit 3'`, func(t *testing.T, _, out string, code int) {
		require.Equal(t, 3, code, out)
		require.Equal(t, 1, strings.Count(out, "one leader"), "never n singletons: %s", out)
		require.Regexp(t, `(?m)^3 +\S+\.3 .*online`, out)
		require.Contains(t, out, "4 task")
		require.Contains(t, out, "4 PMI_SIZE=4", "Frond's own, for MPI in it")
		require.NotContains(t, out, "OMPI_COMM_WORLD", out)
		require.Contains(t, out, "the program is no task")
	})
}

func TestMpiexecTheSameWork(t *testing.T) {
	work := t.TempDir()
	line, prints, err := harness.Workload(work, "testdata/trial.c")
	require.NoError(t, err)
	launch(t, nil, "-n 2 frond start "+line, func(t *testing.T, _, out string, code int) {
		require.Equal(t, prints, harness.WorkloadPart(out), out)
		require.Equal(t, harness.WorkloadCode, code, out)
	})
}

func TestMpiexecWrongUse(t *testing.T) {
	launch(t, nil, "-n 2 frond start -n 3 true", func(t *testing.T, _, out string, code int) {
		require.NotZero(t, code)
		require.Contains(t, out, "has started this command 2 times")
	})
	launch(t, []string{"PALS_RANKID=9"}, "-n 2 sh -c 'PMI_SIZE=7 exec frond start true'", func(t *testing.T, _, out string, code int) {
		require.NotZero(t, code)
		require.Contains(t, out, "contradict", out)
	})
	launch(t, nil, "-n 2 frond start --detach", func(t *testing.T, _, out string, code int) {
		require.NotZero(t, code)
		require.Contains(t, out, "so --detach cannot work there")
	})
	launch(t, nil, "-n 2 frond start --statedir /proc/nowhere true", func(t *testing.T, _, out string, code int) {
		require.NotZero(t, code)
		require.Contains(t, out, "--statedir: ", "the other process does not hang")
	})
	launch(t, nil, "-n 2 frond start --dry-run true", func(t *testing.T, _, out string, code int) {
		require.Zero(t, code, out)
		require.Equal(t, 1, strings.Count(out, "found:    this process is number 0 of 2 that mpiexec of "), out)
	})
	launch(t, nil, "-n 2 frond start --launcher=local echo alone", func(t *testing.T, _, out string, code int) {
		require.Zero(t, code, out)
		require.Equal(t, 2, strings.Count(out, "alone\n"), "as the user wants it")
	})
}
