package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/sched"
	"github.com/frond-hpc/frond/sched/easy"
)

// cluster is n nodes of cores each.
func cluster(n, cores int) []resource.Node {
	nodes := make([]resource.Node, n)
	for i := range nodes {
		nodes[i] = resource.Node{Index: i, Name: fmt.Sprintf("node%d", i), Broker: int32(i), Cores: resource.MaskRange(0, cores-1)}
	}
	return nodes
}

func newSched(nodes []resource.Node) *sched.Machine {
	m := sched.New(sched.Config{Policy: easy.Policy{}})
	m.Step(1, sched.Nodes{Add: nodes})
	return m
}

// passes runs the scheduler until it asks for nothing more and returns what it allocated.
func passes(m *sched.Machine, now float64) (ids []uint64) {
	for again := true; again; {
		again = false
		for _, a := range m.Step(now, sched.RunPass{}) {
			switch a := a.(type) {
			case sched.Allocs:
				for i := range a.Allocs {
					ids = append(ids, a.Allocs[i].ID)
				}
			case sched.Wake:
				again = again || a.At <= now
			}
		}
	}
	return ids
}

// matchRate fills a cluster with 1-core jobs that each are a group of their own, then frees and matches again, one job at a time.
func matchRate(n, cores int) float64 {
	m := newSched(cluster(n, cores))
	req := jobspec.Request{Slots: 1, Cores: 1}
	fill := n*cores - 1000
	m.Step(1, sched.Submit{Groups: []sched.GroupSpec{{ID: 1, Request: req, Priority: 16, Order: 1, Count: fill}}})
	ids := passes(m, 1)
	const rounds = 20000
	next := sched.GroupID(2)
	began := time.Now()
	for i := range rounds {
		m.Step(1, sched.Free{IDs: ids[i : i+1]})
		m.Step(1, sched.Submit{Groups: []sched.GroupSpec{{ID: next, Request: req, Priority: 16, Order: uint64(next), Count: 1}}})
		next++
		got := passes(m, 1)
		if len(got) != 1 {
			panic(fmt.Sprintf("%d allocations instead of one", len(got)))
		}
		ids = append(ids, got[0])
	}
	return rounds / time.Since(began).Seconds()
}

// easyPass is one full pass over a queue of 10,000 distinct jobs that fit but would delay the head, which waits for 1,000 nodes.
func easyPass() time.Duration {
	m := newSched(cluster(1000, 48))
	m.Step(1, sched.Submit{Groups: []sched.GroupSpec{{ID: 1, Request: jobspec.Request{Nodes: 1, Slots: 1, Cores: 40}, Duration: 3600, Priority: 16, Order: 1, Count: 1000}}})
	passes(m, 1)
	groups := []sched.GroupSpec{{ID: 2, Request: jobspec.Request{Nodes: 1000, Slots: 1, Cores: 48, Exclusive: true}, Duration: 60, Priority: 17, Order: 2, Count: 1}}
	for i := range 10000 {
		groups = append(groups, sched.GroupSpec{ID: sched.GroupID(10 + i), Request: jobspec.Request{Nodes: 1 + i%7, Slots: 1, Cores: 1 + i%8},
			Duration: float64(7200 + i), Priority: 16, Order: uint64(10 + i), Count: 1})
	}
	m.Step(1, sched.Submit{Groups: groups})
	began := time.Now()
	passes(m, 1)
	return time.Since(began)
}

// graphSize loads 16,384 nodes of 48 cores and says what that took and holds.
func graphSize() (bytes float64, load time.Duration) {
	var before, after runtime.MemStats
	nodes := cluster(16384, 48)
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	m := newSched(nodes)
	load = time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(m)
	runtime.KeepAlive(nodes)
	return float64(after.HeapAlloc - before.HeapAlloc), load
}

func schedRows(context.Context, *bench) ([]row, error) {
	small := matchRate(100, 64)
	thousand := matchRate(1000, 48)
	huge := matchRate(100000, 64)
	bytes, load := graphSize()
	pass := easyPass()
	return []row{
		{what: "1-core matches/s, 1,000×48", kind: "-", value: thousand, unit: "/s", base: yardCPU(), baseWhat: "sha256 of 1 KiB, a second, on one core", floor: 50000, aim: 200000},
		{what: "1-core matches/s, 100,000×64", kind: "-", value: huge, unit: "/s", base: small, baseWhat: "100×64", floor: 50000, aim: 200000},
		{what: "cost of a match at 100,000 nodes over that at 100", kind: "-", value: small / huge, unit: "×", floor: 3, aim: 3, lower: true},
		{what: "memory of a graph of 16,384×48", kind: "-", value: bytes / 1e6, unit: "MB", base: 2100, baseWhat: "2.1 GB of Fluxion", floor: 200, aim: 50, lower: true},
		{what: "loading a graph of 16,384×48", kind: "-", value: load.Seconds(), unit: "s", base: 5, baseWhat: "5 s of Fluxion", floor: 1, aim: 0.2, lower: true},
		{what: "EASY pass over a queue of 10,000 distinct jobs", kind: "-", value: pass.Seconds() * 1000, unit: "ms", base: 1e6 / yardCPU(), baseWhat: "1,000 sha256 of 1 KiB", floor: 50, aim: 10, lower: true},
	}, nil
}
