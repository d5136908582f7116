package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// whole is the median time of a command from its start to its end, with a bare `true` run after each, whose median is the yardstick:
// both see the same machine.
func whole(ctx context.Context, environ []string, argv ...string) (ms, base float64, err error) {
	const rounds = 41
	var times, bases []float64
	for range rounds {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = environ
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, 0, fmt.Errorf("%v: %w\n%s", argv, err, out)
		}
		times = append(times, time.Since(began).Seconds()*1000)
		began = time.Now()
		if err := exec.CommandContext(ctx, "true").Run(); err != nil {
			return 0, 0, err
		}
		bases = append(bases, time.Since(began).Seconds()*1000)
	}
	return median(times), median(bases), nil
}

// commandRows: what a user waits for.
func commandRows(ctx context.Context, b *bench) ([]row, error) {
	in, err := b.start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = in.stop() }()
	environ := append(os.Environ(), "FROND_URI="+in.uri)
	var rows []row
	for _, args := range [][]string{{"run", "true"}, {"submit", "true"}, {"jobs", "-a"}} {
		ms, base, err := whole(ctx, environ, append([]string{b.frond}, args...)...)
		if err != nil {
			return nil, err
		}
		kind := "real"
		if args[0] == "jobs" {
			kind = "-"
		}
		rows = append(rows, row{what: fmt.Sprintf("frond %s %s, the whole command", args[0], args[1]), kind: kind, value: ms, unit: "ms", base: base,
			baseWhat: "bare `true`", floor: 30, aim: 15, lower: true})
	}
	return rows, nil
}
