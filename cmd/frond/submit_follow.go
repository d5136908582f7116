package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/pflag"
)

// followOptions are what submit and bulksubmit do once the jobs are submitted.
type followOptions struct {
	wait, watch    bool
	progress, jps  bool
	waitEvent      string
	log, logStderr string
}

func (o *followOptions) add(f *pflag.FlagSet) {
	f.BoolVar(&o.wait, "wait", false, "wait until all jobs have ended")
	f.BoolVar(&o.watch, "watch", false, "print the output of all jobs; implies --wait")
	f.StringVar(&o.waitEvent, "wait-event", "", "wait until every job has had the event `NAME`: start, finish, clean …")
	f.BoolVar(&o.progress, "progress", false, "with --wait show a bar (on a terminal)")
	f.BoolVar(&o.jps, "jps", false, "with --progress show the jobs per second")
	f.StringVar(&o.log, "log", "", "write what goes to standard output to `FILE`")
	f.StringVar(&o.logStderr, "log-stderr", "", "write what goes to standard error to `FILE`")
}

// redirect opens the files of --log and --log-stderr in place of the env's streams, until the returned function is called.
func (o *followOptions) redirect(e *env) (restore func() error, err error) {
	out, errw := e.stdout, e.stderr
	var files []*os.File
	restore = func() error {
		e.stdout, e.stderr = out, errw
		var err error
		for _, f := range files {
			if e := f.Close(); e != nil && err == nil {
				err = e
			}
		}
		return err
	}
	for _, f := range []struct {
		option, name string
		to           *io.Writer
	}{{"--log", o.log, &e.stdout}, {"--log-stderr", o.logStderr, &e.stderr}} {
		if f.name == "" {
			continue
		}
		file, err := os.Create(f.name)
		if err != nil {
			_ = restore()
			return nil, fmt.Errorf("%s: %w", f.option, err)
		}
		files = append(files, file)
		*f.to = file
	}
	return restore, nil
}

// follow does what the options ask for with submitted jobs: ids as they were answered, elements one by one.
func (o *followOptions) follow(ctx context.Context, e *env, c *client.Client, verb string, ids, elements []jobspec.ID, label, raw bool) error {
	switch {
	case o.watch:
		return watchAll(ctx, e, c, verb, elements, label, raw)
	case o.wait:
		w := &waiter{env: e, verb: verb}
		if o.progress {
			w.bar = newProgress(e)
			w.bar.countRate(o.jps)
		}
		return w.wait(ctx, c, api.WaitReq{IDs: ids, Progress: o.progress})
	case o.waitEvent != "":
		return waitEvents(ctx, e, c, verb, elements, o.waitEvent)
	}
	return nil
}

// waitEvents waits until each job has had an event.
func waitEvents(ctx context.Context, e *env, c *client.Client, verb string, ids []jobspec.ID, name string) error {
	var mu sync.Mutex
	var failed error
	next := make(chan jobspec.ID)
	var done sync.WaitGroup
	for range min(maxWatched, len(ids)) {
		done.Go(func() {
			for id := range next {
				if err := waitEvent(ctx, e, c, verb, id, name); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	for _, id := range ids {
		next <- id
	}
	close(next)
	done.Wait()
	return failed
}

func waitEvent(ctx context.Context, e *env, c *client.Client, verb string, id jobspec.ID, name string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := false
	a := &attacher{env: e, verb: verb, client: c, id: id, out: newOutputWriter(io.Discard, io.Discard, false), noOutput: true, quiet: true,
		events: func(ev *api.Event) {
			if ev.Name == name {
				seen = true
				cancel()
			}
		}}
	_, err := a.run(ctx)
	switch {
	case seen:
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%s: event %q never received: the job has ended", e.idText(id), name)
}

// rate counts jobs per second for a bar.
type rate struct {
	start time.Time
	done  int
}

func (r *rate) text(done int, now time.Time) string {
	if s := now.Sub(r.start).Seconds(); s > 0 {
		return fmt.Sprintf("%.1f job/s ", float64(done-r.done)/s)
	}
	return ""
}
