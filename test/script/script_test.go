// Package script runs the end-to-end scripts: every .txtar file in the folders beside this file is one script of
// go-internal/testscript, run with the real frond binary, in a run directory and a registry of its own.
//
// Beside testscript's own commands scripts have:
//
//	exits CODE CMD ARGS…   run CMD; it must exit with CODE
//	eventually CMD ARGS…   run CMD until it succeeds, for at most 2 min
//	nothing-left           no process of the script and no run directory is left (waits for at most 2 min)
//	signal-broker RANK SIG send a signal to the broker of that rank, and wait until a killed one is gone
//	signal-start SIG       send a signal to the supervisor (frond start)
//	await FILE             wait until FILE exists and is not empty, for at most 2 min
package script

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

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

func setup(env *testscript.Env) error {
	run, err := os.MkdirTemp("", "fr") // short: socket paths have a limit
	if err != nil {
		return err
	}
	env.Defer(func() {
		harness.KillAll(run)
		os.RemoveAll(run)
	})
	for _, kv := range harness.Environ(run) {
		name, value, _ := strings.Cut(kv, "=")
		if name == "PATH" || name == harness.Mark || strings.HasPrefix(name, "FROND_") {
			env.Setenv(name, value)
		}
	}
	env.Setenv("HOME", env.WorkDir)
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
const patience = harness.Patience

func cmdEventually(ts *testscript.TestScript, neg bool, args []string) {
	if !harness.Until(patience, func() bool { return (ts.Exec(args[0], args[1:]...) == nil) != neg }) {
		ts.Fatalf("%v: not within %v", args, patience)
	}
}

func cmdAwait(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	if !harness.Until(patience, func() bool { fi, err := os.Stat(path); return err == nil && fi.Size() > 0 }) {
		ts.Fatalf("%s: not there within %v", args[0], patience)
	}
}

func cmdNothingLeft(ts *testscript.TestScript, _ bool, _ []string) {
	var left []string
	gone := harness.Until(harness.Patience, func() bool {
		left = harness.Left(ts.Getenv(harness.Mark), ts.Getenv("FROND_RUNDIR"))
		return len(left) == 0
	})
	if !gone {
		ts.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

func cmdSignalBroker(ts *testscript.TestScript, _ bool, args []string) {
	signalProcess(ts, "frond broker --rank "+args[0]+" ", args[1])
}

func cmdSignalStart(ts *testscript.TestScript, _ bool, args []string) {
	signalProcess(ts, "frond start ", args[0])
}

func signalProcess(ts *testscript.TestScript, prefix, name string) {
	sig := signalNumber(ts, name)
	pid := 0
	if !harness.Until(patience, func() bool { pid = harness.Find(ts.Getenv(harness.Mark), prefix); return pid > 0 }) {
		ts.Fatalf("there is no process %q", prefix)
	}
	if sig == syscall.SIGKILL {
		harness.Kill(pid)
		return
	}
	ts.Check(syscall.Kill(pid, sig))
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
