package main

import (
	"context"
	"fmt"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
)

// childrenN is how many child instances are started.
const childrenN = 200

// childRows: child instances, each of one broker and a program that ends at once, from their submission to the durable end of the last.
func childRows(ctx context.Context, b *bench) ([]row, error) {
	one, err := b.yardExec()
	if err != nil {
		return nil, err
	}
	in, err := b.start(ctx, "--resources", "node/core[4]")
	if err != nil {
		return nil, err
	}
	text, err := jobspec.BuildJSON(jobspec.Options{Command: []string{"frond", "child", "--", "true"}, Cwd: "/tmp", Setattr: []string{"system.instance.history=false"}})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := in.submit(ctx, api.SubmitItem{Spec: text, Env: 1, N: childrenN, Urgency: 16}); err != nil {
		return nil, err
	}
	counts, err := in.idle(ctx)
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	if err := expect(counts, childrenN); err != nil {
		return nil, err
	}
	cpu, err := in.stop()
	if err != nil {
		return nil, err
	}
	return []row{
		{what: "child instances started per second", kind: "real", value: childrenN / took.Seconds(), unit: "/s", base: 1 / one, baseWhat: "`frond version` one after the other", floor: 5, aim: 50},
		{what: fmt.Sprintf("CPU of a child instance, of %d", childrenN), kind: "real", value: 1000 * cpu.Seconds() / childrenN, unit: "ms", base: 1000 * one, baseWhat: "`frond version`", lower: true},
	}, nil
}
