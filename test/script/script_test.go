// Package script runs the end-to-end scripts: every .txtar file in the folders beside this file is one script of
// go-internal/testscript, run with the real frond binary, in a run directory and a registry of its own.
//
// Beside testscript's own commands scripts have:
//
//	exits CODE CMD ARGS…   run CMD; it must exit with CODE
//	eventually CMD ARGS…   run CMD until it succeeds, for at most 30 s
//	nothing-left           no process of the script and no run directory is left (waits for at most 10 s)
//	signal-broker RANK SIG send a signal to the broker of that rank, and wait until a killed one is gone
//	signal-start SIG       send a signal to the supervisor (frond start)
//	await FILE             wait until FILE exists and is not empty, for at most 30 s
package script

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// binDir holds the frond binary that the scripts run.
var binDir string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
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

func TestScripts(t *testing.T) {
	dirs, err := filepath.Glob("*/*.txtar")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no scripts (%v)", err)
	}
	areas := map[string]bool{}
	for _, path := range dirs {
		areas[filepath.Dir(path)] = true
	}
	for area := range areas {
		t.Run(area, func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Dir:                 area,
				Setup:               setup,
				Cmds:                commands,
				UpdateScripts:       os.Getenv("UPDATE") != "",
				RequireExplicitExec: true,
			})
		})
	}
}

// mark is the variable by which a script's processes are found; they inherit it.
const mark = "SCRIPT_MARK"

func setup(env *testscript.Env) error {
	run, err := os.MkdirTemp("", "fr") // short: socket paths have a limit
	if err != nil {
		return err
	}
	env.Defer(func() {
		killAll(env.WorkDir)
		os.RemoveAll(run)
	})
	env.Setenv("PATH", binDir+string(os.PathListSeparator)+env.Getenv("PATH"))
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("FROND_HOME", filepath.Join(env.WorkDir, ".frond"))
	env.Setenv("FROND_RUNDIR", run)
	env.Setenv(mark, env.WorkDir)
	return nil
}

var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":         cmdExits,
	"eventually":    cmdEventually,
	"nothing-left":  cmdNothingLeft,
	"signal-broker": cmdSignalBroker,
	"signal-start":  cmdSignalStart,
	"await":         cmdAwait,
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE CMD ARGS…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		code = failed.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, not %s", code, args[0])
	}
}

// patience is how long scripts wait for what must come.
const patience = 30 * time.Second

func until(limit time.Duration, ok func() bool) bool {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

func cmdEventually(ts *testscript.TestScript, neg bool, args []string) {
	if !until(patience, func() bool { return (ts.Exec(args[0], args[1:]...) == nil) != neg }) {
		ts.Fatalf("%v: not within %v", args, patience)
	}
}

func cmdAwait(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	if !until(patience, func() bool { fi, err := os.Stat(path); return err == nil && fi.Size() > 0 }) {
		ts.Fatalf("%s: not there within %v", args[0], patience)
	}
}

func cmdNothingLeft(ts *testscript.TestScript, _ bool, _ []string) {
	var left []string
	gone := until(10*time.Second, func() bool {
		left = nil
		for _, p := range processes(ts.Getenv(mark)) {
			left = append(left, fmt.Sprintf("process %d: %s", p.pid, p.cmdline))
		}
		dirs, _ := filepath.Glob(filepath.Join(ts.Getenv("FROND_RUNDIR"), "frond-*", "*"))
		left = append(left, dirs...)
		return len(left) == 0
	})
	if !gone {
		ts.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

func cmdSignalBroker(ts *testscript.TestScript, _ bool, args []string) {
	sig := signalNumber(ts, args[1])
	var pid int
	found := until(patience, func() bool {
		for _, p := range processes(ts.Getenv(mark)) {
			if strings.HasPrefix(p.cmdline, "frond broker --rank "+args[0]+" ") {
				pid = p.pid
			}
		}
		return pid > 0
	})
	if !found {
		ts.Fatalf("there is no broker %s", args[0])
	}
	send(ts, pid, sig)
}

func cmdSignalStart(ts *testscript.TestScript, _ bool, args []string) {
	for _, p := range processes(ts.Getenv(mark)) {
		if strings.HasPrefix(p.cmdline, "frond start ") {
			send(ts, p.pid, signalNumber(ts, args[0]))
			return
		}
	}
	ts.Fatalf("there is no supervisor")
}

func signalNumber(ts *testscript.TestScript, name string) syscall.Signal {
	for sig, n := range map[syscall.Signal]string{syscall.SIGINT: "INT", syscall.SIGTERM: "TERM", syscall.SIGHUP: "HUP",
		syscall.SIGKILL: "KILL", syscall.SIGSTOP: "STOP", syscall.SIGCONT: "CONT"} {
		if n == name {
			return sig
		}
	}
	ts.Fatalf("unknown signal %s", name)
	return 0
}

func send(ts *testscript.TestScript, pid int, sig syscall.Signal) {
	ts.Check(syscall.Kill(pid, sig))
	if sig == syscall.SIGKILL {
		until(patience, func() bool { return syscall.Kill(pid, 0) != nil })
	}
}

type process struct {
	pid     int
	cmdline string
}

// processes lists the living processes that carry the mark of a script, but for the one that runs it.
func processes(work string) []process {
	var list []process
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		environ, err := os.ReadFile(dir + "/environ")
		if err != nil || !strings.Contains("\x00"+string(environ), "\x00"+mark+"="+work+"\x00") {
			continue
		}
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		pid, _ := strconv.Atoi(filepath.Base(dir))
		list = append(list, process{pid, strings.ReplaceAll(string(cmdline), "\x00", " ")})
	}
	return list
}

// killAll ends what a failed script has left.
func killAll(work string) {
	for range 3 {
		for _, p := range processes(work) {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
