package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// parallelJobs is how many jobs the two programs run.
const parallelJobs = 2000

// parallelRows: frond parallel in a throw-away instance beside GNU parallel, each as a whole command.
func parallelRows(ctx context.Context, b *bench) ([]row, error) {
	if _, err := exec.LookPath("parallel"); err != nil {
		fmt.Fprintln(os.Stderr, "bench: parallel: SKIP: needs GNU parallel (Debian's package parallel)")
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "fb")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	run := func(name string, args ...string) (float64, error) {
		cmd := exec.CommandContext(ctx, name, append(args, "true")...)
		cmd.Stdin = strings.NewReader(strings.Repeat("x\n", parallelJobs))
		cmd.Env = append(os.Environ(), "FROND_URI=", "FROND_HOME="+dir, "FROND_RUNDIR="+dir, "SHELL=/bin/bash", "PARALLEL_SHELL=/bin/bash")
		began := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("%s: %w: %s", name, err, out)
		}
		return time.Since(began).Seconds(), nil
	}
	var rows []row
	gnu, err := run("parallel")
	if err != nil {
		return nil, err
	}
	for _, way := range []struct {
		what string
		args []string
	}{{"as it is", []string{"parallel"}}, {"with --joblog, -k and --tag", []string{"parallel", "--joblog", dir + "/log", "-k", "--tag"}}} {
		own, err := run(b.frond, way.args...)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{what: fmt.Sprintf("frond parallel, %d × true, %s", parallelJobs, way.what), kind: "real", value: own / gnu, unit: "of GNU parallel's time",
			base: 1, baseWhat: fmt.Sprintf("GNU parallel %.2f s; here %.2f s", gnu, own), floor: 2.0 / 3, aim: 0.25, lower: true})
	}
	return rows, nil
}
