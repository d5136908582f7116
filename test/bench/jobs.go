package main

import (
	"context"
	"fmt"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/exec/spawner"
)

// bareRate runs `true` by a bare C loop at parallelism 2.
func bareRate(n int) (perSecond, cpuPerJob float64, err error) {
	b, err := spawner.BareLoop(n, 2, "/bin/true")
	if err != nil {
		return 0, 0, err
	}
	return float64(n) / b.Elapsed.Seconds(), (b.SelfCPU + b.ChildCPU).Seconds() / float64(n), nil
}

// realRows: real jobs a second, and what the system costs a job beyond the job itself.
func realRows(ctx context.Context, b *bench) ([]row, error) {
	bare1, cpu1, err := bareRate(b.jobs)
	if err != nil {
		return nil, err
	}
	idle, err := b.start(ctx)
	if err != nil {
		return nil, err
	}
	idleCPU, err := idle.stop()
	if err != nil {
		return nil, err
	}
	in, err := b.start(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := in.submit(ctx, api.SubmitItem{Spec: spec("", "true"), Env: 1, N: b.jobs, Urgency: 16}); err != nil {
		return nil, err
	}
	counts, err := in.idle(ctx)
	if err == nil {
		err = expect(counts, b.jobs)
	}
	rate := float64(b.jobs) / time.Since(began).Seconds()
	cpu, stopErr := in.stop()
	if err != nil || stopErr != nil {
		return nil, fmt.Errorf("%w %w", err, stopErr)
	}
	bare2, cpu2, err := bareRate(b.jobs)
	if err != nil {
		return nil, err
	}
	bare, bareCPU := (bare1+bare2)/2, (cpu1+cpu2)/2
	own := (cpu-idleCPU).Seconds()/float64(b.jobs) - bareCPU
	return []row{
		{what: "real jobs of true, submit to durable end", kind: "real", value: rate / bare, unit: "of bare", base: 1, baseWhat: fmt.Sprintf("bare C loop %.0f/s; here %.0f/s", bare, rate), floor: 0.4, aim: 0.7},
		{what: "CPU a real job beyond its own", kind: "real", value: own * 1000, unit: "ms", base: bareCPU * 1000, baseWhat: "CPU of true in the bare loop", floor: 0.5, aim: 0.1, lower: true},
	}, nil
}

// mockWay submits n mock jobs of 0.001 s in one of three ways.
type mockWay struct {
	name   string
	submit func(ctx context.Context, in *instance, n int) error
}

func asArray(ctx context.Context, in *instance, n int) error {
	_, err := in.submit(ctx, api.SubmitItem{Spec: spec("0.001s", "true"), N: n, Urgency: 16})
	return err
}

func asArrays(ctx context.Context, in *instance, n int) error {
	items := make([]api.SubmitItem, 1000)
	for i := range items {
		items[i] = api.SubmitItem{Spec: spec("0.001s", "true"), N: n / len(items), Urgency: 16}
	}
	_, err := in.submit(ctx, items...)
	return err
}

// asSingles submits one job a request, pipelined on one connection.
func asSingles(ctx context.Context, in *instance, n int) error {
	const window = 2000
	text := spec("0.001s", "true")
	futures := make([]*client.Future[api.SubmitRep], 0, window)
	for i := range n {
		if len(futures) == window {
			if _, err := futures[0].Wait(ctx); err != nil {
				return err
			}
			futures = append(futures[:0], futures[1:]...)
		}
		futures = append(futures, client.Go(ctx, in.c, api.Submit, api.SubmitReq{Token: fmt.Sprintf("%d-%d", time.Now().UnixMilli(), i),
			Items: []api.SubmitItem{{Spec: text, Urgency: 16}}}))
	}
	for _, f := range futures {
		if _, err := f.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// mockRows: jobs a second with mock execution on node[64]/core[64], and the leader's memory after the large runs.
func mockRows(ctx context.Context, b *bench) ([]row, error) {
	var rows []row
	ways := []mockWay{{"one array", asArray}, {"1,000 arrays", asArrays}, {"single submissions", asSingles}}
	for _, way := range ways {
		small := 0.0
		for _, n := range []int{10000, b.mock} {
			rate, rss, err := b.mockRun(ctx, way, n)
			if err != nil {
				return nil, fmt.Errorf("%s of %d: %w", way.name, n, err)
			}
			r := row{what: fmt.Sprintf("mock jobs, %d as %s", n, way.name), kind: "mock", value: rate, unit: "jobs/s", floor: 10000, aim: 100000}
			if n == 10000 {
				small = rate
				r.base, r.baseWhat = yardCPU(), "sha256 of 1 KiB, a second, on one core"
			} else {
				r.base, r.baseWhat = small, "the rate at 10,000"
			}
			rows = append(rows, r)
			if n > 10000 {
				rows = append(rows, row{what: fmt.Sprintf("leader's memory after %d as %s", n, way.name), kind: "mock", value: rss / 1024, unit: "MiB",
					base: 340, baseWhat: "340 MB that Flux needs after 1,000 real jobs", floor: 150, aim: 150, lower: true})
			}
		}
	}
	return rows, nil
}

func (b *bench) mockRun(ctx context.Context, way mockWay, n int) (rate, rssKiB float64, err error) {
	in, err := b.start(ctx, "--resources", "node[64]/core[64]")
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err = way.submit(ctx, in, n); err == nil {
		var counts api.CountsRep
		if counts, err = in.idle(ctx); err == nil {
			err = expect(counts, n)
		}
	}
	rate = float64(n) / time.Since(began).Seconds()
	st, statErr := in.stats(ctx, 0)
	_, stopErr := in.stop()
	if err == nil {
		err = statErr
	}
	if err == nil {
		err = stopErr
	}
	return rate, float64(st.RSSKiB), err
}

// submitRows: how fast a million elements are accepted, and what pending jobs cost in memory. All are held (urgency 0).
func submitRows(ctx context.Context, b *bench) ([]row, error) {
	in, err := b.start(ctx, "--resources", "node[64]/core[64]")
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = in.stop() }()
	before, err := in.stats(ctx, 0)
	if err != nil {
		return nil, err
	}
	one := time.Now()
	if _, err := in.submit(ctx, api.SubmitItem{Spec: spec("", "true"), Env: 1, N: 1, Urgency: 0}); err != nil {
		return nil, err
	}
	single := time.Since(one).Seconds()
	began := time.Now()
	if _, err := in.submit(ctx, api.SubmitItem{Spec: spec("", "true"), Env: 1, N: 1000000, Urgency: 0}); err != nil {
		return nil, err
	}
	accepted := time.Since(began).Seconds()
	after, err := in.stats(ctx, 0)
	if err != nil {
		return nil, err
	}
	const singles = 200000
	items := make([]api.SubmitItem, 1000)
	for i := range items {
		items[i] = api.SubmitItem{Spec: spec("", "true"), Env: 1, Urgency: 0}
	}
	for range singles / len(items) {
		if _, err := in.submit(ctx, items...); err != nil {
			return nil, err
		}
	}
	full, err := in.stats(ctx, 0)
	if err != nil {
		return nil, err
	}
	return []row{
		{what: "1,000,000-element array accepted, durable", kind: "-", value: accepted, unit: "s", base: single, baseWhat: "one job submitted", floor: 1, aim: 0.1, lower: true},
		{what: "leader's memory a pending array element", kind: "-", value: float64(max(after.RSSKiB-before.RSSKiB, 0)) * 1024 / 1e6, unit: "B", base: 16, baseWhat: "16 B", floor: 16, aim: 16, lower: true},
		{what: "leader's memory a pending single job", kind: "-", value: float64(max(full.RSSKiB-after.RSSKiB, 0)) * 1024 / singles, unit: "B", base: 1024, baseWhat: "1 KiB", floor: 1024, aim: 1024, lower: true},
	}, nil
}
