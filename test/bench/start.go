package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
)

// yardCPU is a measure of this machine's speed at this moment: SHA-256 sums of 1 KiB a second on one core.
func yardCPU() float64 {
	buf := make([]byte, 1024)
	n := 0
	for began := time.Now(); time.Since(began) < 200*time.Millisecond; n++ {
		sum := sha256.Sum256(buf)
		buf[0] = sum[0]
	}
	return float64(n) * 5
}

// yardExec is the median time of a whole `frond version`: what starting one process of this binary costs.
func (b *bench) yardExec() (float64, error) {
	var times []float64
	for range 11 {
		began := time.Now()
		if err := exec.Command(b.frond, "version").Run(); err != nil {
			return 0, err
		}
		times = append(times, time.Since(began).Seconds())
	}
	return median(times), nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// startRows: time until the program runs, and memory of brokers.
func startRows(ctx context.Context, b *bench) ([]row, error) {
	one, err := b.yardExec()
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, c := range []struct {
		n          int
		floor, aim float64
	}{{4, 0.5, 0.2}, {64, 5, 1}} {
		var times []float64
		var rss float64
		for range 3 {
			in, err := b.start(ctx, "-n", fmt.Sprint(c.n))
			if err != nil {
				return nil, err
			}
			times = append(times, in.ready.Seconds())
			if len(times) == 3 {
				if rss, err = in.leafMemory(ctx, c.n); err != nil {
					return nil, err
				}
			}
			if _, err := in.stop(); err != nil {
				return nil, err
			}
		}
		rows = append(rows, row{what: fmt.Sprintf("start until the program runs, %d brokers", c.n), kind: "-", value: median(times), unit: "s", base: one, baseWhat: "`frond version`", floor: c.floor, aim: c.aim, lower: true})
		if c.n == 64 {
			rows = append(rows, row{what: "memory of a leaf broker of 64 that has run jobs, at rest (RSS)", kind: "-", value: rss, unit: "MiB", base: 13, baseWhat: "13 MB of a Flux broker", floor: 25, aim: 15, lower: true})
		}
	}
	return rows, nil
}

// leafMemory is the RSS in MiB of the last broker of n, a second after each has run some jobs.
func (in *instance) leafMemory(ctx context.Context, n int) (float64, error) {
	if _, err := in.submit(ctx, api.SubmitItem{Spec: spec("", "true"), Env: 1, N: 10 * n, Urgency: 16}); err != nil {
		return 0, err
	}
	if counts, err := in.idle(ctx); err != nil {
		return 0, err
	} else if err := expect(counts, 10*n); err != nil {
		return 0, err
	}
	time.Sleep(time.Second)
	st, err := in.stats(ctx, int32(n-1))
	return float64(st.RSSKiB) / 1024, err
}

// yardSocket is the median round trip of 200 bytes over a bare unix socket.
func yardSocket() (float64, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		buf := make([]byte, 200)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	}()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	buf := make([]byte, 200)
	var times []float64
	for range 2000 {
		began := time.Now()
		if _, err := c.Write(buf); err != nil {
			return 0, err
		}
		if _, err := c.Read(buf); err != nil {
			return 0, err
		}
		times = append(times, time.Since(began).Seconds())
	}
	return median(times), nil
}

func (in *instance) rtt(ctx context.Context, rank int32) (float64, error) {
	var times []float64
	for range 1000 {
		began := time.Now()
		if _, err := client.Call(ctx, in.c, api.Ping, api.PingReq{Pad: make([]byte, 200)}, client.Rank(rank)); err != nil {
			return 0, err
		}
		times = append(times, time.Since(began).Seconds())
	}
	return median(times), nil
}

// rttRows: round trips between neighbours and to a leaf of 64, each beyond the client's own to its broker.
func rttRows(ctx context.Context, b *bench) ([]row, error) {
	yard, err := yardSocket()
	if err != nil {
		return nil, err
	}
	in, err := b.start(ctx, "-n", "64", "--fanout", "4")
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = in.stop() }()
	time.Sleep(2 * time.Second) // 64 brokers that have just started are busy with themselves
	local, err := in.rtt(ctx, 0)
	if err != nil {
		return nil, err
	}
	near, err := in.rtt(ctx, 1)
	if err != nil {
		return nil, err
	}
	leaf, err := in.rtt(ctx, 63) // 63 → 15 → 3 → 0: three hops
	if err != nil {
		return nil, err
	}
	const ms = 1000
	return []row{
		{what: "round trip client to its broker", kind: "-", value: local * ms, unit: "ms", base: yard * ms, baseWhat: "bare unix socket"},
		{what: "round trip between neighbours", kind: "-", value: (near - local) * ms, unit: "ms", base: yard * ms, baseWhat: "bare unix socket", floor: 0.25, aim: 0.1, lower: true},
		{what: "round trip to a leaf of 64 (3 hops), a hop", kind: "-", value: (leaf - local) * ms / 3, unit: "ms", base: yard * ms, baseWhat: "bare unix socket", floor: 0.25, aim: 0.1, lower: true},
	}, nil
}
