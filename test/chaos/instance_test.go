// Package chaos kills processes of real instances: brokers, leaders and supervisors, with jobs running. What is promised must
// hold: every job finishes once, and nothing stays behind.
package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// instance is a detached instance under test.
type instance struct {
	t   *testing.T
	dir string // run directory, registry, files of the test; the mark
}

// newInstance makes a place for an instance; what is left of it in the end fails the test.
func newInstance(t *testing.T) *instance {
	t.Helper()
	dir, err := os.MkdirTemp("", "fc")
	require.NoError(t, err)
	in := &instance{t, dir}
	t.Cleanup(in.end)
	return in
}

// start starts it with further arguments of frond start.
func (in *instance) start(args ...string) {
	in.t.Helper()
	in.frond(append([]string{"start", "--detach", "--name", "x"}, args...)...)
}

func (in *instance) end() {
	if in.supervisor() > 0 {
		out, err := in.try("shutdown", "x")
		if err != nil {
			in.t.Errorf("shutdown: %v\n%s", err, out)
		}
	}
	var left []string
	if !harness.Until(harness.Patience, func() bool { left = harness.Left(in.dir, in.dir); return len(left) == 0 }) {
		in.t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
	if in.t.Failed() {
		in.showLogs()
	}
	harness.KillAll(in.dir)
	os.RemoveAll(in.dir)
}

func (in *instance) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(in.dir, "frond-*", "x", "*", "log"))
	for _, path := range logs {
		text, _ := os.ReadFile(path)
		in.t.Logf("%s:\n%s", path, text[max(0, len(text)-4000):])
	}
}

// try runs a frond command against the instance; what it printed is returned, also if it fails.
func (in *instance) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if args[0] != "start" && args[0] != "shutdown" && args[0] != "list" {
		args = append([]string{"--instance", "x"}, args...)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(harness.BinDir(), "frond"), args...)
	cmd.Env, cmd.Dir = harness.Environ(in.dir), in.dir
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// frond runs a frond command that must succeed.
func (in *instance) frond(args ...string) string {
	in.t.Helper()
	out, err := in.try(args...)
	require.NoError(in.t, err, "frond %s:\n%s", strings.Join(args, " "), out)
	return out
}

func (in *instance) supervisor() int { return harness.Find(in.dir, "frond start ") }

func (in *instance) broker(rank int) int {
	return harness.Find(in.dir, fmt.Sprintf("frond broker --rank %d ", rank))
}

// killBroker kills the broker process of a rank.
func (in *instance) killBroker(rank int) {
	in.t.Helper()
	pid := in.broker(rank)
	require.Positive(in.t, pid, "broker %d is not there", rank)
	harness.Kill(pid)
}

// jobRow is what the tests look at of `frond jobs --json`.
type jobRow struct {
	Name    string `json:"name"`
	Result  string `json:"result"`
	Ranks   string `json:"ranks"`
	Attempt int    `json:"attempt"`
}

func (j jobRow) completed() bool { return j.Result == "COMPLETED" }

// jobs lists all jobs.
func (in *instance) jobs() []jobRow {
	in.t.Helper()
	var list struct{ Jobs []jobRow }
	out := in.frond("jobs", "-a", "-c", "100000", "--json")
	require.NoError(in.t, json.Unmarshal([]byte(out), &list), "%s", out)
	return list.Jobs
}

// member finds a rank in overlay status.
func (in *instance) member(rank int32) api.Member {
	in.t.Helper()
	var members []api.Member
	require.NoError(in.t, json.Unmarshal([]byte(in.frond("overlay", "status", "--json")), &members))
	for _, m := range members {
		if m.Rank == rank {
			return m
		}
	}
	in.t.Fatalf("overlay status has no rank %d", rank)
	return api.Member{}
}

// lines counts the lines of a file of the test by their text.
func (in *instance) lines(file string) map[string]int {
	in.t.Helper()
	data, err := os.ReadFile(filepath.Join(in.dir, file))
	require.NoError(in.t, err)
	count := map[string]int{}
	for _, l := range strings.Fields(string(data)) {
		count[l]++
	}
	return count
}

// gate makes what jobs wait for with `flock -s gate`, and returns what opens it.
func (in *instance) gate() (open func()) {
	in.t.Helper()
	f, err := os.Create(filepath.Join(in.dir, "gate"))
	require.NoError(in.t, err)
	require.NoError(in.t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	in.t.Cleanup(func() { f.Close() })
	return func() { f.Close() }
}

// awaitRunning waits until n jobs run.
func (in *instance) awaitRunning(n int) {
	in.t.Helper()
	ok := harness.Until(harness.Patience, func() bool {
		out := in.frond("jobs", "-f", "running", "-c", "100000", "-n", "-o", "{id}")
		return len(strings.Fields(out)) >= n
	})
	require.True(in.t, ok, "%d jobs do not run", n)
}
