// Package hostile does to a real instance what no user should: malformed frames on its sockets, peers without its certificate,
// impossible requests, full disks, too many clients. Each must get a clear error, and after each the same brokers must still serve;
// in the end no job may be lost and nothing may be left.
package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if uri := os.Getenv(crowdURI); uri != "" {
		os.Exit(crowd(uri)) // see crowd_test.go
	}
	if path := os.Getenv(knockPath); path != "" {
		os.Exit(knock(path)) // see uid_test.go
	}
	os.Exit(harness.Main(m))
}

// patience is how long an answer may take on a loaded machine.
const patience = harness.Patience

// brokers of an instance under attack: the leader, two children, and a child of the first of them.
const brokers = 4

// instance is a detached instance.
type instance struct {
	dir       string // run directory, registry, files of the test; the mark
	transport string
	work      []byte // jobspec of a job on all nodes
	acked     []jobspec.ID
	long      jobspec.ID   // a job that runs all the time
	first     []api.Member // as they were at the start
	turn      int
}

// start makes an instance that ends with the test, which fails if anything of it is left.
func start(t *testing.T, args ...string) *instance {
	t.Helper()
	in := place(t)
	in.start(t, args...)
	return in
}

// place is a place for an instance.
func place(t *testing.T) *instance {
	t.Helper()
	dir, err := os.MkdirTemp("", "fh") // short: socket paths have a limit
	require.NoError(t, err)
	in := &instance{dir: dir, transport: boot.Unix}
	t.Cleanup(func() { in.end(t) })
	return in
}

func (in *instance) start(t *testing.T, args ...string) {
	t.Helper()
	in.frond(t, append([]string{"start", "--detach", "--name", "x", "-n", fmt.Sprint(brokers), "--fanout", "2", "--resources", "node[4]/core[4]", "--transport", in.transport}, args...)...)
	in.work = []byte(in.frond(t, "submit", "--dry-run", "--env-remove=*", "-N4", "-n4", "/bin/true"))
	in.long = in.submit(t, in.frond(t, "submit", "--dry-run", "--env-remove=*", "-N4", "-n4", "/bin/sleep", "1000"))
	in.first = in.members(t)
	require.Len(t, in.first, brokers)
	require.Equal(t, int32(1), in.first[3].Parent)
}

func (in *instance) end(t *testing.T) {
	if harness.Find(in.dir, "frond start ") > 0 {
		if out, code := in.try("shutdown", "x"); code != 0 {
			t.Errorf("shutdown: exit code %d\n%s", code, out)
		}
	}
	var left []string
	if !harness.Until(harness.Patience, func() bool { left = harness.Left(in.dir, in.dir); return len(left) == 0 }) {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
	if t.Failed() {
		in.showLogs(t)
	}
	harness.KillAll(in.dir)
	os.RemoveAll(in.dir)
}

func (in *instance) showLogs(t *testing.T) {
	logs, _ := filepath.Glob(filepath.Join(in.rundir(), "*", "log"))
	for _, path := range logs {
		text, _ := os.ReadFile(path)
		t.Logf("%s:\n%s", path, text[max(0, len(text)-4000):])
	}
}

// log is what a broker has logged.
func (in *instance) log(t *testing.T, rank int) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(in.rundir(), fmt.Sprint(rank), "log"))
	require.NoError(t, err)
	return string(text)
}

func (in *instance) rundir() string {
	return filepath.Join(in.dir, fmt.Sprintf("frond-%d", os.Getuid()), "x")
}

// socket is a broker's local socket, port that of the tree.
func (in *instance) socket(rank int) string {
	return filepath.Join(in.rundir(), fmt.Sprint(rank), "local")
}

func (in *instance) port(rank int) string {
	return filepath.Join(in.rundir(), fmt.Sprint(rank), "tbon")
}

// treeAddr is where a broker's children dial it.
func (in *instance) treeAddr(rank int) string {
	return (&boot.Info{RunDir: in.rundir(), Transport: in.transport}).TreeAddr(rank)
}

// command is a frond command for the instance.
func (in *instance) command(ctx context.Context, args ...string) *exec.Cmd {
	if args[0] != "start" && args[0] != "shutdown" && args[0] != "list" {
		args = append([]string{"--instance", "x"}, args...)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(harness.BinDir(), "frond"), args...)
	cmd.Env, cmd.Dir = harness.Environ(in.dir), in.dir
	return cmd
}

// try runs a frond command: what it printed, and its exit code (-1: it did not end by itself in time).
func (in *instance) try(args ...string) (string, int) { return in.tryInput("", args...) }

func (in *instance) tryInput(stdin string, args ...string) (string, int) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := in.command(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	return output(cmd)
}

// output runs a command to its end.
func output(cmd *exec.Cmd) (string, int) {
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	var exit *exec.ExitError
	switch {
	case err == nil:
		return text, 0
	case errors.As(err, &exit):
		return text, exit.ExitCode()
	}
	return text + err.Error(), -1
}

// frond runs a frond command that must succeed.
func (in *instance) frond(t *testing.T, args ...string) string {
	t.Helper()
	out, code := in.try(args...)
	require.Zero(t, code, "frond %s:\n%s", strings.Join(args, " "), out)
	return out
}

// dial connects to the broker of a rank.
func (in *instance) dial(t *testing.T, rank int) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client.Dial(ctx, "local://"+in.socket(rank))
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// submit submits a jobspec by way of the command.
func (in *instance) submit(t *testing.T, spec string) jobspec.ID {
	t.Helper()
	out, code := in.tryInput(spec, "job", "submit", "-")
	require.Zero(t, code, "%s", out)
	id, err := jobspec.ParseID(out)
	require.NoError(t, err)
	in.acked = append(in.acked, id)
	return id
}

func (in *instance) members(t *testing.T) []api.Member {
	t.Helper()
	rep, err := client.Call(t.Context(), in.dial(t, 0), api.OverlayStatus, api.Empty{})
	require.NoError(t, err)
	return rep.Members
}

// serves checks that the same brokers run a job on all nodes, submitted to another broker each time, and that their links have not
// been made anew.
func (in *instance) serves(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	in.turn++
	c := in.dial(t, in.turn%brokers)
	defer c.Close()
	rep, err := client.Call(ctx, c, api.Submit, api.SubmitReq{Items: []api.SubmitItem{{Spec: in.work, Urgency: 16}}})
	require.NoError(t, err, "the instance takes no job any more")
	in.acked = append(in.acked, rep.IDs...)
	end := waitFor(ctx, t, c, rep.IDs)[0]
	require.Equal(t, 1, end.Completed, "the instance runs no job any more: %+v", end)
	require.Equal(t, in.first, in.members(t)[:brokers], "the brokers are not the same any more")
}

// waitFor waits for jobs.
func waitFor(ctx context.Context, t *testing.T, c *client.Client, ids []jobspec.ID) []api.WaitRep {
	t.Helper()
	s, err := client.Open(ctx, c, api.Wait, api.WaitReq{IDs: ids})
	require.NoError(t, err)
	defer s.Close()
	var ends []api.WaitRep
	for {
		rep, err := s.Next()
		if err == io.EOF {
			require.Len(t, ends, len(ids))
			return ends
		}
		require.NoError(t, err)
		ends = append(ends, rep)
	}
}

// lostNothing checks that every job that was acknowledged has been done, and that what ran has not been disturbed.
func (in *instance) lostNothing(t *testing.T) {
	t.Helper()
	for _, j := range in.list(t, in.acked) {
		if j.ID == in.long {
			require.Equal(t, int(jobspec.StateRun), j.State, "%+v", j)
			require.Equal(t, 1, j.Attempt, "the job that runs all the time was disturbed")
			continue
		}
		require.Equal(t, int(jobspec.ResultCompleted), j.Result, "%+v", j)
	}
}

func (in *instance) list(t *testing.T, ids []jobspec.ID) []api.JobInfo {
	t.Helper()
	s, err := client.Open(t.Context(), in.dial(t, 0), api.List, api.ListReq{IDs: ids})
	require.NoError(t, err)
	defer s.Close()
	var jobs []api.JobInfo
	for {
		rep, err := s.Next()
		if err == io.EOF {
			require.Len(t, jobs, len(ids))
			return jobs
		}
		require.NoError(t, err)
		jobs = append(jobs, rep.Jobs...)
	}
}

// rss is a broker's memory in MiB.
func (in *instance) rss(t *testing.T, rank int) int64 {
	t.Helper()
	rep, err := client.Call(t.Context(), in.dial(t, rank), api.Stats, api.Empty{}, client.Rank(int32(rank)))
	require.NoError(t, err)
	return rep.RSSKiB >> 10
}

// skip skips a test that cannot be done here; where CI is set it must not be skipped.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("must not be skipped in CI: "+format, args...)
	}
	t.Skipf("SKIP: "+format, args...)
}

// needsRoot skips a test that only root can do.
func needsRoot(t *testing.T, why string) {
	t.Helper()
	if os.Getuid() != 0 {
		skip(t, "root is needed %s", why)
	}
}
