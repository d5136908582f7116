// Package rexecproc runs the processes of package rexec, each under a spawner of its own.
package rexecproc

import (
	"bytes"
	"sync"
	"time"

	"github.com/frond-hpc/frond/exec/rexec"
)

// Config of a driver.
type Config struct {
	URI string // FROND_URI of the processes
}

// Driver carries out the effects of package rexec (reactor.Driver). Each process has up to five goroutines; Close waits for all.
type Driver struct {
	cfg     Config
	mu      sync.Mutex
	runs    map[string]*run
	closed  bool
	running sync.WaitGroup
}

// New makes a driver.
func New(cfg Config) *Driver { return &Driver{cfg: cfg, runs: map[string]*run{}} }

// Do carries out an effect.
func (d *Driver) Do(_ time.Time, effect any, done func(result any, err error)) {
	switch e := effect.(type) {
	case *rexec.Start:
		d.start(e, done)
	case *rexec.Write:
		if r := d.find(e.ID); r == nil || !r.put(e, done) {
			done(nil, nil)
		}
	case *rexec.Ack:
		if r := d.find(e.ID); r != nil {
			r.ack(e.Bytes)
		}
	case *rexec.Signal:
		if r := d.find(e.ID); r != nil {
			r.signal(e.Signal)
		}
	case *rexec.Kill:
		if r := d.find(e.ID); r != nil {
			d.running.Go(r.kill)
		}
	}
}

func (d *Driver) find(id string) *run {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.runs[id]
}

func (d *Driver) start(e *rexec.Start, done func(any, error)) {
	r := newRun(e, d.environ(e.Env), done)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		done(rexec.Failed{Text: "the broker is stopping", Code: 1}, nil)
		return
	}
	d.runs[e.ID] = r
	d.running.Go(func() {
		last := r.run()
		d.mu.Lock()
		delete(d.runs, e.ID)
		d.mu.Unlock()
		done(last, nil)
	})
}

// environ is the caller's environment with this broker's FROND_URI.
func (d *Driver) environ(env []byte) []byte {
	var out []byte
	for entry := range bytes.SplitAfterSeq(env, []byte{0}) {
		if len(entry) > 0 && !bytes.HasPrefix(entry, []byte("FROND_URI=")) {
			out = append(out, entry...)
		}
	}
	if n := len(out); n > 0 && out[n-1] != 0 {
		out = append(out, 0)
	}
	if d.cfg.URI == "" {
		return out
	}
	return append(append(append(out, "FROND_URI="...), d.cfg.URI...), 0)
}

// Close kills everything and waits until nothing is left.
func (d *Driver) Close() {
	d.mu.Lock()
	d.closed = true
	for _, r := range d.runs {
		d.running.Go(r.kill)
	}
	d.mu.Unlock()
	d.running.Wait()
}
