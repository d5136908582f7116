// Package mpi runs real MPI programs, made with Debian's MPICH, as jobs over several brokers.
package mpi

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const compiler = "mpicc.mpich"

// compile makes testdata/trial.c; without MPICH the test is skipped.
func compile(t *testing.T, dir string) string {
	t.Helper()
	cc, err := exec.LookPath(compiler)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: scripts/testdeps.sh installs it", compiler)
		}
		t.Skipf("SKIP: needs %s: scripts/testdeps.sh installs it as root", compiler)
	}
	bin := filepath.Join(dir, "trial")
	out, err := exec.Command(cc, "-o", bin, "testdata/trial.c").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return bin
}

// mark is what the end of each command of a script prints.
const mark = "=== exit code "

// run gives each command of a script to a shell in an instance of four brokers, and returns what each printed, with its exit code.
func run(t *testing.T, script func(trial string) []string) []string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fm")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	defer harness.KillAll(dir)
	var text strings.Builder
	for _, command := range script(compile(t, dir)) {
		fmt.Fprintf(&text, "%s\necho %q$?\n", command, mark)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(harness.BinDir(), "frond"), "start", "-n4", "--resources", "node[4]/core[4]", "--", "sh", "-c", text.String())
	cmd.Env, cmd.Dir = harness.Environ(dir), dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.True(t, harness.Until(harness.Patience, func() bool { return len(harness.Left(dir, dir)) == 0 }), "%v", harness.Left(dir, dir))
	parts := strings.Split(string(out), mark)
	for i := 1; i < len(parts); i++ {
		code, rest, _ := strings.Cut(parts[i], "\n")
		parts[i-1] += mark + code
		parts[i] = rest
	}
	return parts[:len(parts)-1]
}

// hello is what n tasks print.
func hello(n int) []string {
	var lines []string
	for rank := range n {
		token := rank + 1
		if rank == 0 {
			token = n
		}
		lines = append(lines, fmt.Sprintf("rank %d of %d: sum %d token %d", rank, n, n*(n-1)/2, token))
	}
	slices.Sort(lines)
	return lines
}

func sorted(text string) []string {
	lines := strings.Split(text, "\n")
	lines = lines[:len(lines)-1]
	slices.Sort(lines)
	return lines
}

func TestMPICHProgramsRunAcrossBrokers(t *testing.T) {
	outs := run(t, func(trial string) []string {
		return []string{
			"frond run -N4 -n8 " + trial,
			"frond run -n3 " + trial,
			"frond run -N4 -n16 -o taskmap=cyclic " + trial,
			"frond run -N2 -n2 " + trial + " & frond run -N2 -n2 " + trial + " & wait",
		}
	})
	require.Len(t, outs, 4)
	for i, want := range [][]string{hello(8), hello(3), hello(16), append(hello(2), hello(2)...)} {
		slices.Sort(want)
		require.Equal(t, want, sorted(outs[i]), "%s", outs[i])
		require.True(t, strings.HasSuffix(outs[i], mark+"0"), "%s", outs[i])
	}
}

func TestAnMPIJobEndsWithTheFirstTaskThatFails(t *testing.T) {
	outs := run(t, func(trial string) []string {
		return []string{
			"frond run -o exit-timeout=none -N4 -n4 " + trial + " abort",
			"frond run -o exit-timeout=none -N4 -n4 " + trial + " die",
			"frond run -o exit-timeout=none -N1 -n4 " + trial + " leave",
			"frond run -N2 -n2 " + trial + " spawn",
		}
	})
	require.Len(t, outs, 4)
	require.Contains(t, outs[0], "exception: type=exec severity=0 task 3 called MPI_Abort with exit code 7\n")
	require.True(t, strings.HasSuffix(outs[0], mark+"7"), "%s", outs[0])
	require.Contains(t, outs[1], "task 1 ended (signal 9) before it had finalized PMI\n")
	require.True(t, strings.HasSuffix(outs[1], mark+"137"), "%s", outs[1])
	require.Contains(t, outs[2], "task 1 ended (exit code 3) before it had finalized PMI\n")
	require.True(t, strings.HasSuffix(outs[2], mark+"3"), "%s", outs[2])
	require.Contains(t, outs[3], "spawn was refused")
}
