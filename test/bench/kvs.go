package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/client"
)

// kvsRows measures the key-value store and pipelined calls: one client, without and with a state directory.
func kvsRows(ctx context.Context, b *bench) ([]row, error) {
	yard, err := yardSync()
	if err != nil {
		return nil, err
	}
	in, err := b.start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = in.stop() }()
	rows, err := in.kvs(ctx)
	if err != nil {
		return nil, err
	}
	durable, err := b.durablePuts(ctx)
	if err != nil {
		return nil, err
	}
	return append(rows, row{what: "KVS put+commit/s, with --statedir, 64 at a time", kind: "-", value: durable, unit: "/s", base: yard,
		baseWhat: "write+fsync of a small file", floor: 2000, aim: 5000}), nil
}

const (
	kvsKeys = 1000 // written and read
	atATime = 64
)

func (in *instance) kvs(ctx context.Context) ([]row, error) {
	socket, err := yardSocket()
	if err != nil {
		return nil, err
	}
	rows := []row{
		{what: "KVS put+commit/s, one after the other", floor: 2000, aim: 5000},
		{what: "KVS put+commit/s, 64 at a time", floor: 2000, aim: 5000},
		{what: "KVS get/s, one after the other"},
		{what: "KVS get/s, 64 at a time", floor: 20000, aim: 50000},
		{what: "calls/s, pipelined (ping)", floor: 50000, aim: 100000},
	}
	put := func(i int) api.KVSCommitReq {
		return api.KVSCommitReq{Ops: []api.KVSOp{{Kind: api.KVSPut, Key: kvsKey(i), Data: []byte("a value of some length")}}}
	}
	get := func(i int) api.KVSGetReq { return api.KVSGetReq{Key: kvsKey(i)} }
	measure := []func() (float64, error){
		func() (float64, error) { return rate(ctx, in.c, api.KVSCommit, 1, put) },
		func() (float64, error) { return rate(ctx, in.c, api.KVSCommit, atATime, put) },
		func() (float64, error) { return rate(ctx, in.c, api.KVSGet, 1, get) },
		func() (float64, error) { return rate(ctx, in.c, api.KVSGet, atATime, get) },
		func() (float64, error) {
			return rate(ctx, in.c, api.Ping, 256, func(int) api.PingReq { return api.PingReq{} })
		},
	}
	for i := range rows {
		v, err := measure[i]()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rows[i].what, err)
		}
		rows[i].kind, rows[i].value, rows[i].unit = "-", v, "/s"
		rows[i].base, rows[i].baseWhat = 1/socket, "round trips of a bare unix socket"
	}
	return rows, nil
}

func kvsKey(i int) string { return fmt.Sprintf("bench.%d.key", i%kvsKeys) }

// rate is how many calls a second one client makes with so many under way.
func rate[Req, Rep any](ctx context.Context, c *client.Client, m rpc.Method[Req, Rep], under int, req func(i int) Req) (float64, error) {
	const lasts = 3 * time.Second
	began := time.Now()
	way := make([]*client.Future[Rep], 0, under)
	n := 0
	for time.Since(began) < lasts {
		if under == 1 {
			if _, err := client.Call(ctx, c, m, req(n)); err != nil {
				return 0, err
			}
			n++
			continue
		}
		for i := range under { // the first half's answers are awaited while the second is under way
			if i < len(way) {
				if _, err := way[i].Wait(ctx); err != nil {
					return 0, err
				}
				way[i] = client.Go(ctx, c, m, req(n+i))
			} else {
				way = append(way, client.Go(ctx, c, m, req(n+i)))
			}
		}
		n += under
	}
	for _, f := range way {
		if _, err := f.Wait(ctx); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

func (b *bench) durablePuts(ctx context.Context) (float64, error) {
	dir, err := os.MkdirTemp("", "frond-bench")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	in, err := b.start(ctx, "--statedir", filepath.Join(dir, "state"))
	if err != nil {
		return 0, err
	}
	v, err := rate(ctx, in.c, api.KVSCommit, atATime, func(i int) api.KVSCommitReq {
		return api.KVSCommitReq{Ops: []api.KVSOp{{Kind: api.KVSPut, Key: kvsKey(i), Data: []byte("a value of some length")}}}
	})
	if _, serr := in.stop(); err == nil {
		err = serr
	}
	return v, err
}

// yardSync is how often a second a small file can be written and synced.
func yardSync() (float64, error) {
	f, err := os.CreateTemp("", "frond-bench")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	began, n := time.Now(), 0
	for ; time.Since(began) < time.Second; n++ {
		if _, err := f.WriteAt([]byte("some bytes"), 0); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(began).Seconds(), nil
}
