// Package parallel runs the same command lines with GNU parallel and with frond parallel, and compares all that they do.
package parallel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// gnu is where GNU parallel is; without it the test is skipped.
func gnu(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("parallel")
	if err == nil {
		if out, _ := exec.Command(path, "--version").Output(); strings.HasPrefix(string(out), "GNU parallel") {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("GNU parallel is missing: scripts/testdeps.sh installs it")
	}
	t.Skip("SKIP: needs GNU parallel: scripts/testdeps.sh installs it as root")
	return ""
}

// outcome is all that a command line does.
type outcome struct {
	stdout, stderr string
	code           int
	files          string // of the working directory, with their contents
}

var placeholder = regexp.MustCompile(`\bPAR\b`)

// runIn runs a shell's command line in which PAR stands for the program.
func runIn(t *testing.T, line, program string, environ []string) outcome {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lines"), []byte("a\nb c\n/d/e.f\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "numbers"), []byte("1\n2\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "table"), []byte("x,y\n1,2\n3,4\n"), 0o600))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/bash", "-c", placeholder.ReplaceAllString(line, program))
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	cmd.Env = append(environ, "SHELL=/bin/bash", "PARALLEL_SHELL=/bin/bash", "LC_ALL=C.UTF-8", "OMP_NUM_THREADS=1")
	err := cmd.Run()
	var x *exec.ExitError
	if err != nil && !errors.As(err, &x) {
		t.Fatal(err)
	}
	return outcome{mask(out.String()), mask(errs.String()), cmd.ProcessState.ExitCode(), tree(t, dir)}
}

// times are those of job logs, and of tables of results.
var times = []*regexp.Regexp{
	regexp.MustCompile(`\t\d+\.\d{3}\t *\d+\.\d{3}\t`), regexp.MustCompile(`,\d+\.\d{3},\d+\.\d{3},`),
	regexp.MustCompile(`"Starttime": \d+\.\d{3}, "JobRuntime": \d+\.\d{3}`),
}

func mask(s string) string {
	for _, re := range times {
		s = re.ReplaceAllString(s, "<TIMES>")
	}
	return s
}

func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s: %q\n", strings.TrimPrefix(path, dir+"/"), mask(string(text)))
		return err
	})
	require.NoError(t, err)
	return b.String()
}

// newDir makes a short directory for a test's instances.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fp")
	require.NoError(t, err)
	t.Cleanup(func() {
		left := []string{}
		harness.Until(harness.Patience, func() bool { left = harness.Left(dir, dir); return len(left) == 0 })
		harness.KillAll(dir)
		os.RemoveAll(dir)
		require.Empty(t, left)
	})
	return dir
}

// compare runs all rows with both programs. frond runs where environ says.
func compare(t *testing.T, environ []string) {
	program := gnu(t)
	for i, line := range rows {
		t.Run(fmt.Sprintf("%03d", i+1), func(t *testing.T) {
			t.Parallel()
			want := runIn(t, line.command, program, environ)
			got := runIn(t, line.command, "frond parallel", environ)
			if line.anyText {
				want.stdout = got.stdout
			}
			require.Equal(t, want.stdout, got.stdout, "standard output of %s\nstandard error: %s", line.command, got.stderr)
			require.Equal(t, want.code, got.code, "exit code of %s\nstandard error: %s", line.command, got.stderr)
			require.Equal(t, want.files, got.files, "files of %s", line.command)
			if !line.anyError {
				require.Equal(t, want.stderr, got.stderr, "standard error of %s", line.command)
			}
		})
	}
}

func TestAsGNUParallelInAThrowAwayInstance(t *testing.T) {
	compare(t, harness.Environ(newDir(t)))
}

func TestAsGNUParallelInAnInstance(t *testing.T) {
	dir := newDir(t)
	environ := harness.Environ(dir)
	frond := filepath.Join(harness.BinDir(), "frond")
	start := exec.Command(frond, "start", "--detach", "--name", "p", "--resources", "node/core[8]")
	start.Env = environ
	out, err := start.CombinedOutput()
	require.NoError(t, err, "%s", out)
	uri := strings.Fields(string(out))[1]
	t.Cleanup(func() {
		stop := exec.Command(frond, "shutdown")
		stop.Env = append(environ, "FROND_URI="+uri)
		out, err := stop.CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	compare(t, append(environ, "FROND_URI="+uri))
}
