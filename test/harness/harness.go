// Package harness is what end-to-end tests share: the frond binary, built once a test process, and a way to find every process
// that a test has started.
package harness

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Patience is how long a test waits for what must come, also on a machine that is slow and busy. Who waits in vain has found a fault.
const Patience = 2 * time.Minute

var binDir string

// Main is for TestMain: it builds the frond binary, runs the tests and removes it. With FROND_TEST_BIN, the tests are run with the frond
// in that directory instead.
func Main(m *testing.M) int {
	hearSignals()
	if len(os.TempDir()) > maxTemp {
		os.Setenv("TMPDIR", "/tmp")
	}
	if binDir = os.Getenv("FROND_TEST_BIN"); binDir != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "frondbin")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "frond"), "github.com/frond-hpc/frond/cmd/frond").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "build frond: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// maxTemp is how long the path of the directory for temporary files may be: what the tests make in it has sockets, whose paths have a limit.
const maxTemp = 30

// hearSignals undoes what nohup does, and a shell to what it starts in the background: a signal that is ignored here would be ignored in all
// that the tests start, and a script cannot trap it. What is caught here is not ignored there.
func hearSignals() {
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

// BinDir is the directory of the frond binary.
func BinDir() string { return binDir }

// Mark is the environment variable by which a test's processes are found: all of them inherit it.
const Mark = "FRONDTEST_MARK"

// Environ is the environment of one test: frond first in PATH, and a home, a registry and a run directory of its own in dir, which
// must be short (socket paths) and is the mark.
func Environ(dir string) []string {
	path := binDir + string(os.PathListSeparator) + os.Getenv("PATH")
	return append(plain(os.Environ()), "PATH="+path, "HOME="+dir, "FROND_HOME="+filepath.Join(dir, "home"), "FROND_RUNDIR="+dir, "FROND_URI=", Mark+"="+dir)
}

// plain leaves out what tells frond that it is in a job of some scheduler, as the tests themselves may be, and the user's own settings.
func plain(environ []string) []string {
	return slices.DeleteFunc(environ, func(kv string) bool {
		for _, prefix := range [...]string{"FROND_", "SLURM", "FLUX_", "PMI", "PALS_", "OMPI_", "JSM_", "MPI_LOCAL", "LSB_", "PBS_", "SGE_", "PE_HOSTFILE", "JOB_ID", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"} {
			if strings.HasPrefix(kv, prefix) && !strings.HasPrefix(kv, "FROND_TEST_") {
				return true
			}
		}
		return false
	})
}

// Process is a living process.
type Process struct {
	PID  int
	Args string // separated by blanks
}

// Processes lists the living processes that carry a mark.
func Processes(mark string) []Process {
	var list []Process
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		environ, err := os.ReadFile(dir + "/environ")
		if err != nil || !strings.Contains("\x00"+string(environ), "\x00"+Mark+"="+mark+"\x00") {
			continue
		}
		args, _ := os.ReadFile(dir + "/cmdline")
		pid, _ := strconv.Atoi(filepath.Base(dir))
		list = append(list, Process{pid, strings.ReplaceAll(string(args), "\x00", " ")})
	}
	return list
}

// Find returns the process with this mark whose arguments begin with prefix; 0 if there is none.
func Find(mark, prefix string) int {
	for _, p := range Processes(mark) {
		if strings.HasPrefix(p.Args, prefix) {
			return p.PID
		}
	}
	return 0
}

// Left describes what a test has left: processes with its mark, and run directories.
func Left(mark, rundir string) []string {
	left, _ := filepath.Glob(filepath.Join(rundir, "frond-*", "*"))
	for _, p := range Processes(mark) {
		left = append(left, fmt.Sprintf("process %d: %s", p.PID, p.Args))
	}
	return left
}

// KillAll ends whatever carries the mark, for tests that failed.
func KillAll(mark string) {
	for range 5 {
		procs := Processes(mark)
		for _, p := range procs {
			syscall.Kill(p.PID, syscall.SIGKILL)
		}
		if len(procs) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Kill ends a process by SIGKILL and waits until it is gone.
func Kill(pid int) {
	syscall.Kill(pid, syscall.SIGKILL)
	Until(Patience, func() bool { return syscall.Kill(pid, 0) != nil })
}

// Until waits until ok, for at most limit, and tells whether it came to be.
func Until(limit time.Duration, ok func() bool) bool {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}
