package guard

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func start(t *testing.T, argv ...string) *Program {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	require.NoError(t, err)
	defer null.Close()
	p, err := Start(argv, os.Environ(), t.TempDir(), null, null, os.Stderr)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func readPID(t *testing.T, path string) int {
	t.Helper()
	var pid int
	require.Eventually(t, func() bool {
		data, _ := os.ReadFile(path)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(data)))
		return pid > 0
	}, time.Minute, 5*time.Millisecond)
	return pid
}

func TestTheStatusOfTheProgramIsReported(t *testing.T) {
	for name, row := range map[string]struct {
		script string
		exit   int
		signal syscall.Signal
	}{
		"an exit code":       {"exit 7", 7, 0},
		"success":            {"exit 0", 0, 0},
		"death by a signal":  {"kill -KILL $$", -1, syscall.SIGKILL},
		"its group is asked": {"trap 'exit 4' TERM; kill -TERM 0; sleep 5", 4, 0},
	} {
		t.Run(name, func(t *testing.T) {
			st, err := start(t, "sh", "-c", row.script).Wait()
			require.NoError(t, err)
			require.Equal(t, row.exit, st.ExitStatus())
			if row.signal != 0 {
				require.Equal(t, row.signal, st.Signal())
			}
		})
	}
}

func TestACommandThatIsNotThereIsAnError(t *testing.T) {
	_, err := Start([]string{"/no/such/command"}, nil, "", nil, nil, nil)
	require.ErrorIs(t, err, syscall.ENOENT)
	_, err = Start([]string{t.TempDir()}, nil, "", nil, nil, nil)
	require.ErrorIs(t, err, syscall.EACCES)
}

func TestASignalReachesTheProgram(t *testing.T) {
	p := start(t, "sh", "-c", "trap 'exit 9' USR1; while :; do sleep 0.01; done")
	time.Sleep(50 * time.Millisecond)
	p.Signal(syscall.SIGUSR1)
	st, err := p.Wait()
	require.NoError(t, err)
	require.True(t, st.ExitStatus() == 9 || st.Signal() == syscall.SIGUSR1)
}

func TestWhatTheProgramLeftIsEndedByClose(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	p := start(t, "sh", "-c", "(setsid sh -c 'trap \"\" TERM; echo $$ >"+file+"; while :; do sleep 1; done' &) ; exit 3")
	st, err := p.Wait()
	require.NoError(t, err)
	require.Equal(t, 3, st.ExitStatus())
	pid := readPID(t, file)
	require.True(t, alive(pid), "a daemon outlives the program")
	p.Close()
	require.False(t, alive(pid), "but not the guard")
}

func TestAProgramThatRunsIsEndedByClose(t *testing.T) {
	p := start(t, "sleep", "1000")
	p.Close()
	require.False(t, alive(p.PID))
}

// TestSupervisorKilled plays a supervisor that dies by SIGKILL, in a process of its own.
func TestSupervisorKilled(t *testing.T) {
	if file := os.Getenv("GUARD_TEST_FILE"); file != "" {
		p := start(t, "sh", "-c", "echo $$ >"+file+"; sleep 1000")
		readPID(t, file)
		_ = p
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	file := filepath.Join(t.TempDir(), "pid")
	attr := &os.ProcAttr{Env: append(os.Environ(), "GUARD_TEST_FILE="+file), Files: []*os.File{nil, nil, nil}}
	proc, err := os.StartProcess("/proc/self/exe", []string{"guard.test", "-test.run=^TestSupervisorKilled$"}, attr)
	require.NoError(t, err)
	st, err := proc.Wait()
	require.NoError(t, err)
	require.Equal(t, syscall.SIGKILL, st.Sys().(syscall.WaitStatus).Signal())
	pid := readPID(t, file)
	require.Eventually(t, func() bool { return !alive(pid) }, time.Minute, 5*time.Millisecond)
}
