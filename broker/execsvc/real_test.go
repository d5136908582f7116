package execsvc_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/execsvc"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/exec/proc"
	"github.com/frond-hpc/frond/exec/spawner"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// leader is a service "job" that starts total runs of spec, width at a time, and acknowledges everything.
type leader struct {
	spec         api.Spec
	total, width int
	next, ended  int
	session      uint64
	status       map[int]int
	done         chan struct{}
}

func (l *leader) Name() string { return "job" }

func (l *leader) Handle(_ time.Time, in any, out *reactor.Out) {
	req, ok := in.(*rpc.Request)
	if !ok {
		return
	}
	switch req.Topic {
	case api.ExecSync.Topic:
		r, _ := api.ExecSync.Decode(req)
		l.session = r.Session
		out.Reply(req, api.ExecSyncRep{Lease: 30})
		l.start(out, l.width, []api.Spec{l.spec})
	case api.ExecReport.Topic:
		r, _ := api.ExecReport.Decode(req)
		out.Reply(req, api.Empty{})
		n := 0
		for i := range r.Records {
			if r.Records[i].Kind == api.RecEnded {
				n++
				l.status[r.Records[i].Status]++
			}
		}
		l.ended += n
		l.start(out, n, nil)
		if n > 0 && l.ended == l.total {
			close(l.done)
		}
	}
}

func (l *leader) start(out *reactor.Out, n int, specs []api.Spec) {
	n = min(n, l.total-l.next)
	if n == 0 {
		return
	}
	starts := make([]api.StartItem, n)
	for i := range starts {
		l.next++
		starts[i] = api.StartItem{Ref: api.RunRef{Job: jobspec.ID(l.next), Attempt: 1, Epoch: 1}, Spec: 1, NTasks: 1, NNodes: 1, Nodelist: "n0",
			Parts: []api.NodePart{{Cores: resource.MaskOf(0), NTasks: 1}}}
	}
	out.Call(reactor.Call{Topic: api.ExecStart.Topic, Target: 0, NoReply: true, Body: api.ExecStartReq{Session: l.session, Specs: specs, Starts: starts}})
}

// run runs total jobs through a real host, service and driver.
func run(tb testing.TB, js *jobspec.Jobspec, total, width int) (*leader, time.Duration) {
	d, err := proc.New(proc.Config{Nodes: []resource.Node{{Name: "n0", Cores: resource.MaskRange(0, 1)}}, RunDir: tb.TempDir(), Hostname: "h", URI: "local:///x"})
	require.NoError(tb, err)
	defer d.Close()
	l := &leader{spec: api.Spec{ID: 1, Parsed: js, Env: spawner.Terminated(os.Environ())}, total: total, width: width, status: map[int]int{}, done: make(chan struct{})}
	dir := reactor.NewDirectory("job", "exec")
	h := reactor.NewHost(reactor.HostConfig{Directory: dir, Router: reactor.NewInbox[any](), Log: func(_ string, line reactor.Log) { tb.Log(line) }})
	h.Add(l, nil)
	h.Add(execsvc.New(execsvc.Config{UUID: "u"}), d)
	h.SetRank(0)
	h.Start()
	defer h.Stop()
	begin := time.Now()
	h.Post("exec", api.Contact{Up: true, Epoch: 1, Incarnation: 1})
	select {
	case <-l.done:
	case <-time.After(5 * time.Minute):
		require.FailNow(tb, "jobs are missing", "%d of %d ended", l.ended, total)
	}
	return l, time.Since(begin)
}

func job(command ...string) *jobspec.Jobspec {
	return &jobspec.Jobspec{Command: command, Cwd: "/", Shell: jobspec.ShellOptions{Umask: -1, KillTimeout: 5, ExitTimeout: 30}}
}

func entries(tb testing.TB, dir string) int {
	list, err := os.ReadDir(dir)
	require.NoError(tb, err)
	return len(list)
}

// children counts processes below this one.
func children(tb testing.TB) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	require.NoError(tb, err)
	return len(strings.Fields(string(b)))
}

func TestTenThousandQuickStartsLeaveNothing(t *testing.T) {
	total := 10000
	if testing.Short() {
		total = 500
	}
	fds := entries(t, "/proc/self/fd")
	l, took := run(t, job("/bin/true"), total, 4)
	require.Equal(t, map[int]int{0: total}, l.status)
	require.LessOrEqual(t, entries(t, "/proc/self/fd"), fds+4, "runtime's own aside")
	require.Zero(t, children(t))
	t.Logf("%.0f/s", float64(total)/took.Seconds())
}

func TestMockJobsGoThroughEverythingButTheDriver(t *testing.T) {
	js := job("/no/such")
	js.Test = &jobspec.TestExec{RunDuration: 0.001}
	l, _ := run(t, js, 20000, 200)
	require.Equal(t, map[int]int{0: 20000}, l.status)
}

func cpu() time.Duration {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// BenchmarkTrue runs `true` through host, service, machine, driver and spawners, two at a time, beside the bare C loop.
// broker-µs/job is the CPU of this process, without spawners.
func BenchmarkTrue(b *testing.B) {
	bare, err := spawner.BareLoop(max(b.N, 100), 2, "/bin/true")
	require.NoError(b, err)
	b.ResetTimer()
	before := cpu()
	_, took := run(b, job("/bin/true"), b.N, 2)
	rate, ref := float64(b.N)/took.Seconds(), float64(max(b.N, 100))/bare.Elapsed.Seconds()
	b.ReportMetric(rate, "jobs/s")
	b.ReportMetric(ref, "bare/s")
	b.ReportMetric(rate/ref, "ratio")
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "broker-µs/job")
	b.ReportMetric(float64(bare.SelfCPU.Microseconds())/float64(max(b.N, 100)), "bare-µs/job")
}

// BenchmarkMock is 64 × 64 cores of 1 ms jobs.
func BenchmarkMock(b *testing.B) {
	js := job("true")
	js.Test = &jobspec.TestExec{RunDuration: 0.001}
	before := cpu()
	_, took := run(b, js, b.N, 4096)
	b.ReportMetric(float64(b.N)/took.Seconds(), "jobs/s")
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/job")
}
