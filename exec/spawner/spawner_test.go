package spawner

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// slot is a spawner with spool files, as proc uses it.
type slot struct {
	*Spawner
	t     testing.TB
	spool [2]*os.File
	tmp   string
}

func newSlot(t testing.TB) *slot { return newSlotWith(t, Options{}) }

func newSlotWith(t testing.TB, o Options) *slot {
	s := &slot{t: t, tmp: t.TempDir()}
	for i := range s.spool {
		fd, err := unix.MemfdCreate("spool", unix.MFD_CLOEXEC)
		require.NoError(t, err)
		s.spool[i] = os.NewFile(uintptr(fd), "spool")
	}
	var err error
	o.Spool, o.TmpDir = s.spool, s.tmp
	s.Spawner, err = New(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		s.Close()
		s.spool[0].Close()
		s.spool[1].Close()
	})
	return s
}

func (s *slot) start(r Request) {
	if r.Env == nil {
		r.Env = [][]byte{Terminated([]string{"PATH=" + os.Getenv("PATH")})}
	}
	if r.FDs == nil {
		r.FDs = []FD{{0, Null}, {1, SpoolOut}, {2, SpoolErr}}
	}
	if r.Umask == 0 {
		r.Umask = -1
	}
	require.NoError(s.t, s.Start(&r))
}

func (s *slot) next() Report {
	r, err := s.Next()
	require.NoError(s.t, err)
	return r
}

// end waits for the end of the task, past a Started.
func (s *slot) end() Report {
	for {
		if r := s.next(); r.Kind != Started {
			return r
		}
	}
}

func (s *slot) run(argv ...string) Report {
	s.start(Request{Argv: argv})
	return s.end()
}

// read takes what a dead task has written.
func (s *slot) read(i int) string {
	text := s.peek(i)
	s.spool[i].Truncate(0)
	return text
}

// peek is what has been written so far.
func (s *slot) peek(i int) string {
	b := make([]byte, 64<<10)
	n, _ := s.spool[i].ReadAt(b, 0)
	return string(b[:n])
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestStatusIsThatOfTheMainProcess(t *testing.T) {
	s := newSlot(t)
	for _, c := range []struct {
		name   string
		argv   []string
		status int
	}{
		{"success is 0", []string{"true"}, 0},
		{"an exit code stands in the second byte", []string{"sh", "-c", "exit 3"}, 3 << 8},
		{"a signal stands in the low bits", []string{"sh", "-c", "kill -9 $$"}, 9},
		{"SIGPIPE has its default disposition", []string{"sh", "-c", "kill -PIPE $$"}, 13},
		{"SIGTERM is not blocked", []string{"sh", "-c", "kill -TERM $$"}, 15},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := s.run(c.argv...)
			require.Equal(t, Exited, r.Kind)
			require.Equal(t, c.status, r.Status)
			require.Positive(t, r.PID)
			require.GreaterOrEqual(t, r.End, r.Start)
		})
	}
}

func TestFailuresOfExecNameTheStep(t *testing.T) {
	s := newSlot(t)
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, []byte("echo from a script\n"), 0o644))
	for _, c := range []struct {
		name string
		req  Request
		step Step
		err  syscall.Errno
	}{
		{"a command that is in no directory of PATH", Request{Argv: []string{"no-such-command"}}, StepExec, syscall.ENOENT},
		{"a path that does not exist", Request{Argv: []string{"/no/such"}}, StepExec, syscall.ENOENT},
		{"a file that is not executable", Request{Argv: []string{plain}}, StepExec, syscall.EACCES},
		{"a directory", Request{Argv: []string{dir}}, StepExec, syscall.EACCES},
		{"an empty name", Request{Argv: []string{""}}, StepExec, syscall.ENOENT},
		{"a missing working directory", Request{Argv: []string{"true"}, Dir: "/no/such"}, StepChdir, syscall.ENOENT},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.start(c.req)
			r := s.next()
			require.Equal(t, Failed, r.Kind)
			require.Equal(t, c.step, r.Step, r.Step.String())
			require.Equal(t, c.err, r.Err)
			require.Equal(t, 0, s.run("true").Status, "the spawner goes on")
		})
	}
	require.NoError(t, os.Chmod(plain, 0o755))
	s.run(plain)
	require.Equal(t, "from a script\n", s.read(0), "a script without #! is run by the shell")
}

func TestTheTaskGetsWhatWasAskedFor(t *testing.T) {
	s := newSlot(t)
	sh := func(script string, r Request) string {
		r.Argv = []string{"sh", "-c", script}
		s.start(r)
		require.Equal(t, 0, s.end().Status)
		require.Empty(t, s.read(1))
		return strings.TrimSpace(s.read(0))
	}
	all, last := sh(cpusAllowed, Request{}), strconv.Itoa(runtime.NumCPU()-1)
	require.Equal(t, "/", sh("pwd", Request{Dir: "/"}))
	require.Equal(t, "0027", sh("umask", Request{Umask: 0o27}))
	require.Equal(t, "5", sh("nice", Request{Nice: 5}))
	require.Equal(t, "77", sh("ulimit -n", Request{RLimits: []RLimit{{unix.RLIMIT_NOFILE, 77}}}))
	require.Equal(t, "0", sh("ulimit -c", Request{RLimits: []RLimit{{unix.RLIMIT_CORE, 0}}}))
	require.Equal(t, "0", sh(cpusAllowed, Request{CPUs: []int{0}}))
	require.Equal(t, all, sh(cpusAllowed, Request{}), "the task before it left no binding")
	require.Equal(t, last, sh(cpusAllowed, Request{CPUs: []int{runtime.NumCPU() - 1}}))
	require.Equal(t, "0", sh(cpusAllowed, Request{CPUs: []int{0}}))
	require.Equal(t, "b c", sh(`echo "$A"`, Request{Env: [][]byte{[]byte("A=b c\x00"), Terminated([]string{"PATH=/usr/bin:/bin"})}}))
	require.Equal(t, "yes", sh(`test "$(ps -o pgid= $$)" -eq $$ && echo yes`, Request{}), "it leads a process group")
	require.Equal(t, "0 1 2", sh(openFDs, Request{}), "no descriptor of the broker's leaks")
}

// cpusAllowed is the list of cpus of the shell.
const cpusAllowed = `sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/$$/status`

// openFDs lists descriptors without opening one.
const openFDs = `for i in $(seq 0 300); do [ -e /proc/$$/fd/$i ] && l="$l $i"; done; echo $l`

func TestFilesSentAlongTakeTheirPlaces(t *testing.T) {
	s := newSlot(t)
	var out [4]*os.File
	var fds []FD
	for i := range out {
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		require.NoError(t, err)
		defer f.Close()
		out[i] = f
		fds = append(fds, FD{4 - i, i}) // 4 3 2 1: they cross the spawner's own
	}
	s.start(Request{Argv: []string{"sh", "-c", "for i in 1 2 3 4; do echo $i >&$i; done"}, FDs: append(fds, FD{0, Null}), Files: out[:]})
	require.Equal(t, 0, s.end().Status)
	for i := range out {
		b, err := os.ReadFile(out[i].Name())
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintln(4-i), string(b))
	}
	s.run("sh", "-c", openFDs)
	require.Equal(t, "0 1 2\n", s.read(0))
}

func TestALargeEnvironmentArrives(t *testing.T) {
	s := newSlot(t)
	env := []string{"PATH=" + os.Getenv("PATH")}
	for i := range 12 {
		env = append(env, fmt.Sprintf("V%d=%s", i, strings.Repeat("x", 100<<10)))
	}
	s.start(Request{Argv: []string{"sh", "-c", "echo ${#V0} ${#V11}"}, Env: [][]byte{Terminated(env)}})
	require.Equal(t, 0, s.end().Status)
	require.Equal(t, "102400 102400\n", s.read(0))
	s.start(Request{Argv: []string{"true", strings.Repeat("y", 8<<20)}})
	r := s.next()
	require.Equal(t, syscall.E2BIG, r.Err, "what the kernel refuses is an error, not an end")
	require.Equal(t, 0, s.run("true").Status)
}

// leftovers starts processes that try to escape; each writes its pid.
const leftovers = `
sleep 1000 & echo $!
setsid sleep 1000 & echo $!
(sleep 1000 & echo $!) &
env -i setsid sh -c 'trap "" TERM HUP INT; (setsid /bin/sleep 1000 & echo $!); /bin/sleep 1000' & echo $!
wait_for() { while [ $(wc -l </proc/$$/fd/1) -lt 5 ]; do sleep 0.01; done; }
wait_for
`

func pidsIn(t testing.TB, text string, n int) []int {
	var pids []int
	for _, f := range strings.Fields(text) {
		pid, err := strconv.Atoi(f)
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	require.Len(t, pids, n)
	return pids
}

func TestNothingOfATaskIsLeftWhenItsEndIsReported(t *testing.T) {
	for name, scan := range map[string]bool{"by the children files": false, "by every process's stat": true} {
		t.Run(name, func(t *testing.T) {
			s := newSlotWith(t, Options{scan: scan})
			r := s.run("sh", "-c", leftovers)
			require.Equal(t, Exited, r.Kind)
			for _, pid := range pidsIn(t, s.read(0), 5) {
				require.False(t, alive(pid), "pid %d", pid)
			}
		})
	}
}

func TestASignalReachesTheWholeTree(t *testing.T) {
	s := newSlot(t)
	s.start(Request{Argv: []string{"sh", "-c", "trap 'echo main' USR1; setsid sh -c 'trap \"echo deep\" USR1; echo up; while :; do sleep 0.01; done' & while :; do sleep 0.01; done"}})
	require.Equal(t, Started, s.next().Kind)
	var out string
	for deadline := time.Now().Add(time.Minute); !strings.Contains(out, "up") && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		out = s.peek(0)
	}
	require.NoError(t, s.Signal(syscall.SIGUSR1))
	for deadline := time.Now().Add(time.Minute); !(strings.Contains(out, "main") && strings.Contains(out, "deep")) && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		out = s.peek(0)
	}
	require.Contains(t, out, "main")
	require.Contains(t, out, "deep")
	require.NoError(t, s.Signal(syscall.SIGKILL))
	require.Equal(t, 9, s.end().Status)
}

func TestASignalThatArrivesTogetherWithTheStartIsNotLost(t *testing.T) {
	s := newSlot(t)
	s.run("true")
	require.NoError(t, syscall.Kill(s.PID, syscall.SIGSTOP))
	s.start(Request{Argv: []string{"sleep", "1000"}})
	require.NoError(t, s.Signal(syscall.SIGTERM))
	require.NoError(t, syscall.Kill(s.PID, syscall.SIGCONT))
	ends := make(chan Report, 1)
	go func() { ends <- s.end() }()
	select {
	case r := <-ends:
		require.Equal(t, 15, r.Status)
	case <-time.After(time.Minute):
		s.Close()
		require.Fail(t, "the task runs on")
	}
}

func TestClosingTheSocketEndsTheTree(t *testing.T) {
	s := newSlot(t)
	s.start(Request{Argv: []string{"sh", "-c", leftovers + "; sleep 1000"}})
	var text string
	for len(strings.Fields(text)) < 5 {
		text = s.peek(0)
	}
	pids := pidsIn(t, text, 5)
	s.Close()
	for _, pid := range append(pids, s.PID) {
		require.False(t, alive(pid), "pid %d", pid)
	}
}

// TestKillOfTheBrokerLeavesNothing lets a child process of the test own spawners, and kills it with SIGKILL.
func TestKillOfTheBrokerLeavesNothing(t *testing.T) {
	if os.Getenv("FROND_TEST_OWNER") != "" {
		s := newSlot(t)
		s.start(Request{Argv: []string{"sh", "-c", leftovers + "; sleep 1000"}})
		var text string
		for len(strings.Fields(text)) < 5 {
			text = s.peek(0)
		}
		fmt.Println("PIDS", strings.Join(strings.Fields(text), " "), s.PID)
		time.Sleep(time.Hour)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestKillOfTheBrokerLeavesNothing$")
	cmd.Env = append(os.Environ(), "FROND_TEST_OWNER=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var text string
	for b := make([]byte, 4096); !strings.Contains(text, "\n") || !strings.Contains(text, "PIDS"); {
		n, err := out.Read(b)
		require.NoError(t, err)
		text += string(b[:n])
	}
	require.NoError(t, cmd.Process.Kill())
	cmd.Wait()
	_, list, _ := strings.Cut(text, "PIDS")
	for _, pid := range pidsIn(t, list, 6) {
		require.Eventually(t, func() bool { return !alive(pid) }, time.Minute, 5*time.Millisecond, "pid %d", pid)
	}
}

func TestTheTemporaryDirectoryIsFoundDirty(t *testing.T) {
	s := newSlot(t)
	require.False(t, s.run("true").TmpDirty)
	require.True(t, s.run("touch", s.tmp+"/left").TmpDirty)
	require.NoError(t, os.Remove(s.tmp+"/left"))
	require.False(t, s.run("true").TmpDirty)
	time.Sleep(3500 * time.Millisecond) // from now on the time of the last change tells
	for range 2 {
		require.False(t, s.run("true").TmpDirty)
		require.False(t, s.run("true").TmpDirty)
		require.True(t, s.run("touch", s.tmp+"/left").TmpDirty)
		require.NoError(t, os.Remove(s.tmp+"/left"))
	}
	require.True(t, s.run("rmdir", s.tmp).TmpDirty, "gone counts as well")
	require.NoError(t, os.Mkdir(s.tmp, 0o700))
	require.False(t, s.run("true").TmpDirty)
}

func TestASpawnerIsSmall(t *testing.T) {
	s := newSlot(t)
	s.run("true")
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID))
	require.NoError(t, err)
	var anon int
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "RssAnon:") {
			fmt.Sscanf(line, "RssAnon: %d kB", &anon)
		}
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "Rss") {
			t.Log(strings.TrimSpace(line))
		}
	}
	require.Less(t, anon, 1024, "KiB of memory of its own")
}

func TestBareLoopCounts(t *testing.T) {
	b, err := BareLoop(20, 2, "true")
	require.NoError(t, err)
	require.Positive(t, b.Elapsed)
	require.Positive(t, b.ChildCPU)
}

// BenchmarkTrue compares two spawners driven from Go, each with a cpu of its own, with the bare C loop at parallelism 2: rate, and CPU
// of spawners and tasks.
func BenchmarkTrue(b *testing.B) {
	n := max(b.N, 10)
	bare, err := BareLoop(n, 2, "true")
	require.NoError(b, err)
	before := childrenCPU()
	slots := []*slot{newSlot(b), newSlot(b)}
	b.ResetTimer()
	done := make(chan int)
	for k, s := range slots {
		go func() {
			for range n/2 + k*(n%2) {
				s.start(Request{Argv: []string{"true"}, CPUs: []int{k % runtime.NumCPU()}})
				s.end()
			}
			done <- 1
		}()
	}
	<-done
	<-done
	b.StopTimer()
	slots[0].Close()
	slots[1].Close()
	rate, ref := float64(n)/b.Elapsed().Seconds(), float64(n)/bare.Elapsed.Seconds()
	b.ReportMetric(rate, "true/s")
	b.ReportMetric(ref, "bare/s")
	b.ReportMetric(float64((childrenCPU()-before).Microseconds())/float64(n), "cpu-us/true")
	b.ReportMetric(float64((bare.SelfCPU+bare.ChildCPU).Microseconds())/float64(n), "bare-cpu-us/true")
}

// childrenCPU is what processes waited for have used.
func childrenCPU() time.Duration {
	var ru unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_CHILDREN, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
