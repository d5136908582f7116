package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/parallel"
)

// throwAway turns this process into the supervisor of an instance of this host for the time of the run, in which the same command
// line runs again. It has a core for each job that may run at a time.
func (o *parallelOptions) throwAway(e *env) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	slots, err := o.slotCount(runtime.NumCPU())
	if err != nil {
		return err
	}
	if slots == 0 {
		slots = runtime.NumCPU()
	}
	args := []string{"frond", "start", "--unlisted", "--on-exit=cancel", fmt.Sprintf("--resources=node/core[%d]", slots), "--", self, "parallel",
		"--use-shell=" + o.shell, "--use-slots=" + strconv.Itoa(slots)}
	at := 1
	for at < len(os.Args) && os.Args[at] != "parallel" {
		at++
	}
	if at == len(os.Args) {
		return fmt.Errorf("cannot find the verb in the command line")
	}
	return fmt.Errorf("start an instance: %w", syscall.Exec(self, append(args, os.Args[at+1:]...), os.Environ()))
}

// start connects to the instance and runs the jobs.
func (o *parallelOptions) start(ctx context.Context, e *env, p *parallelPlan) error {
	signal.Ignore(syscall.SIGPIPE) // a write then fails instead
	o.jobName = "parallel"
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &parallelRun{parallelPlan: p, e: e, client: c, done: cancel, input: make(chan parallelInput, 1024), chunks: map[int]*parallelChunk{},
		submitted: make(chan parallelSubmitted, 1)}
	if err := r.size(ctx); err != nil {
		return err
	}
	if r.shell, err = newShellRunner(p, e, r.local); err != nil {
		return err
	}
	r.events = newParallelEvents(c, r.shell.watched)
	r.shell.follow = r.events.followKey
	r.printer = newParallelPrinter(p, r.events.spill, e.stdout, e.stderr)
	if r.log, err = openParallelLog(p, e, r.events.spill); err != nil {
		return err
	}
	r.log.local = r.local
	r.tally = parallel.Tally{Halt: p.halt, Total: p.known}
	if o.bar || o.eta || o.progress {
		r.bar = newProgress(e)
	}
	s, err := r.events.open(ctx)
	if err != nil {
		return err
	}
	go r.events.run(ctx, s)
	go r.read(ctx)
	return r.loop(ctx)
}

// size finds how many jobs run at a time, and whether the instance sees to that by itself.
func (r *parallelRun) size(ctx context.Context) error {
	cores := r.o.slots
	r.local = true
	if cores == 0 {
		nodes, err := call(ctx, r.client, api.ResourceStatus, wire.Any, api.Empty{})
		if err != nil {
			return err
		}
		for _, n := range nodes.Nodes {
			cores += n.Node.Cores.Count()
		}
		r.local = len(nodes.Nodes) == 1
	}
	r.limit = max(cores, 1)
	if r.slots > 0 && r.slots < cores {
		r.limit, r.step = r.slots, true
	}
	uses := func(t *parallel.Template) bool { return t != nil && t.UsesSlot() }
	if r.halt.Enabled() || r.delay > 0 || r.retries != 1 || r.o.slotVar != "" || uses(r.command) || uses(r.tagging) || uses(r.results) {
		r.step = true
	}
	return nil
}

// kill ends all jobs that were submitted.
func (r *parallelRun) kill(ctx context.Context) {
	var ids []jobspec.ID
	for _, c := range r.chunks {
		if c.id != 0 {
			ids = append(ids, c.id)
		}
	}
	if len(ids) == 0 {
		return
	}
	go func() { // errors are those of jobs that have ended meanwhile
		_, _ = client.Call(ctx, r.client, api.Raise, api.RaiseReq{IDs: ids, Type: "cancel", Severity: 0, Note: "frond parallel ends"})
	}()
}

// parallelSignals are the signals that a run knows.
type parallelSignals struct{ ch chan os.Signal }

func watchParallelSignals() *parallelSignals {
	s := &parallelSignals{make(chan os.Signal, 4)}
	signal.Notify(s.ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1)
	return s
}

func (s *parallelSignals) stop() { signal.Stop(s.ch) }
