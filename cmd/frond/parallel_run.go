package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/parallel"
)

// parallelJob is a job on its way.
type parallelJob struct {
	*parallel.Job
	command  string
	order    int // in which output is printed with -k, from 0
	attempts int
	chunk    *parallelChunk // the submission that it is in
	index    int
	out      [2]spilled // what it wrote
	shown    [2]int64   // bytes of out that were printed
	attempt  uint32     // of the instance, that its output is of
	err      error      // of keeping its output
	stale    bool       // output of it was lost with a connection: it is read anew at the end
}

// parallelChunk is a submission.
type parallelChunk struct {
	tag  int
	jobs []*parallelJob
	id   jobspec.ID // known when the submission was answered
	left int
}

// parallelRun runs the jobs of a plan in an instance. All of its state belongs to the goroutine of loop; others send it events.
//
// Jobs are submitted in arrays, in one of two ways. Ahead of time in large ones, so that the instance always has work: nothing is
// asked of a job but its end. Or, where it counts what has happened before a job starts (--halt, --delay, slot numbers, -j below the
// cores of the instance), just as many as may run now.
type parallelRun struct {
	*parallelPlan
	e      *env
	client *client.Client
	shell  *shellRunner
	step   bool // submit only what may run now
	limit  int  // jobs that run at a time
	local  bool // there is only one node: it is ":", as in GNU parallel

	input   chan parallelInput
	events  *parallelEvents
	done    context.CancelFunc
	pending []*parallelJob // made, not submitted
	ended   bool           // the input
	failed  error          // of the input, or of printing

	chunks     map[int]*parallelChunk
	tags       int
	running    int // submitted, not ended
	order      int
	submitting bool
	submitted  chan parallelSubmitted
	slotsUsed  []bool
	lastStart  time.Time
	stopping   bool // no more jobs are started
	killed     bool // what runs is being ended; its output is not printed
	code       int  // exit code of a signal or a closed pipe; 0 = none

	tally   parallel.Tally
	printer *parallelPrinter
	log     *parallelLog
	bar     *progress
}

// parallelInput is a job, or why there are no more: io.EOF or an error.
type parallelInput struct {
	job *parallelJob
	err error
}

// parallelSubmitted is the answer to a submission.
type parallelSubmitted struct {
	chunk *parallelChunk
	id    jobspec.ID
	err   error
}

// read makes jobs of the input until its end.
func (r *parallelRun) read(ctx context.Context) {
	for {
		j, err := r.nextJob()
		select {
		case r.input <- parallelInput{j, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// nextJob is the next job that is to be run.
func (r *parallelRun) nextJob() (*parallelJob, error) {
	for {
		j, command, err := r.log.next(r.parallelPlan)
		if err != nil {
			return nil, err
		}
		skip, err := r.log.has(r.parallelPlan, j, command)
		if err != nil {
			return nil, err
		}
		if !skip {
			return &parallelJob{Job: j, command: command}, nil
		}
	}
}

// loop runs until all jobs have ended, and returns the exit code as an error.
func (r *parallelRun) loop(ctx context.Context) error {
	signals := watchParallelSignals()
	defer signals.stop()
	for {
		timer := r.submit(ctx)
		if r.finished() {
			return r.end()
		}
		in := r.input
		if len(r.pending) >= maxPending || r.ended || r.stopping {
			in = nil
		}
		select {
		case i := <-in:
			r.take(i)
			r.drainInput()
		case <-r.events.ready:
			for _, ev := range r.events.take() {
				r.onEvent(ctx, ev)
			}
			r.print(ctx, r.printer.flush())
			r.show()
		case s := <-r.submitted:
			r.onSubmitted(ctx, s)
		case sig := <-signals.ch:
			r.onSignal(ctx, sig)
		case <-timer:
		}
	}
}

// maxPending is how many jobs are made ahead of those that are submitted.
const maxPending = 4096

func (r *parallelRun) finished() bool {
	if r.submitting {
		return false
	}
	if r.stopping && r.running == 0 {
		return true
	}
	return r.ended && len(r.pending) == 0 && r.running == 0
}

// end prints what is left and makes the exit code.
func (r *parallelRun) end() error {
	err := r.printer.end(r.killed)
	err = errors.Join(r.log.close(), err)
	r.bar.stop()
	switch {
	case r.code != 0:
		return &exitError{Code: r.code}
	case r.failed != nil:
		return &exitError{255, r.failed}
	case errors.Is(err, syscall.EPIPE):
		return &exitError{Code: 128 + int(syscall.SIGPIPE)}
	case err != nil:
		return err
	}
	if r.tally.Total == 0 {
		r.tally.Total = r.order
	}
	return codeIf(true, r.tally.ExitCode())
}

// take takes a job of the input.
func (r *parallelRun) take(i parallelInput) {
	if i.err != nil {
		r.ended = true
		if !errors.Is(i.err, io.EOF) {
			r.failed = i.err
		}
		return
	}
	i.job.order = r.order
	r.order++
	r.pending = append(r.pending, i.job)
}

// drainInput takes what is there without waiting.
func (r *parallelRun) drainInput() {
	for len(r.pending) < maxPending && !r.ended {
		select {
		case i := <-r.input:
			r.take(i)
		default:
			return
		}
	}
}

// submit submits what may be submitted now. The channel tells when to try again, nil = after some event.
func (r *parallelRun) submit(ctx context.Context) <-chan time.Time {
	if r.submitting || r.stopping || len(r.pending) == 0 {
		return nil
	}
	n := r.room()
	if r.delay > 0 && n > 0 {
		if wait := time.Until(r.lastStart.Add(r.delay)); wait > 0 {
			return time.After(wait)
		}
		n = 1
	}
	n = min(n, len(r.pending))
	if n == 0 {
		return nil
	}
	r.lastStart = time.Now()
	jobs := slices.Clone(r.pending[:n])
	r.pending = slices.Delete(r.pending, 0, n)
	c := &parallelChunk{tag: r.tags, jobs: jobs, left: n}
	r.tags++
	for i, j := range jobs {
		r.prepare(c, j, i)
	}
	r.chunks[c.tag] = c
	r.events.add(c)
	r.running += n
	r.submitting = true
	go func() {
		id, err := r.shell.submit(ctx, r.client, c, r.step)
		r.submitted <- parallelSubmitted{c, id, err}
	}()
	return nil
}

// room is how many more jobs may be submitted.
func (r *parallelRun) room() int {
	if r.step {
		return r.limit - r.running
	}
	// The first jobs go at once; then the instance is given more before it runs out of them.
	ahead := max(4*r.limit, maxAhead)
	if r.running > ahead/2 {
		return 0
	}
	if r.tags == 0 {
		return 2 * r.limit
	}
	return min(ahead-r.running, maxChunk)
}

const (
	maxAhead = 4096 // jobs that are submitted before they can run
	maxChunk = 2048 // jobs of one submission
)

// prepare gives a job what it needs to run.
func (r *parallelRun) prepare(c *parallelChunk, j *parallelJob, index int) {
	j.chunk, j.index, j.attempt = c, index, 0
	j.attempts++
	if !r.step {
		return
	}
	if j.attempts == 1 {
		j.Slot = r.takeSlot()
		j.command = r.log.command(r.parallelPlan, j)
	} else {
		j.Slot = r.takeSlot()
	}
}

func (r *parallelRun) takeSlot() int {
	i := slices.Index(r.slotsUsed, false)
	if i < 0 {
		i = len(r.slotsUsed)
		r.slotsUsed = append(r.slotsUsed, false)
	}
	r.slotsUsed[i] = true
	return i + 1
}

// onSubmitted takes the answer to a submission.
func (r *parallelRun) onSubmitted(ctx context.Context, s parallelSubmitted) {
	r.submitting = false
	if s.err == nil {
		for _, j := range s.chunk.jobs {
			r.trace(j)
		}
		r.events.submitted(s.chunk, s.id)
		if r.killed {
			r.kill(ctx)
		}
		return
	}
	r.fail(ctx, s.err)
	r.running -= s.chunk.left
	s.chunk.left = 0
	delete(r.chunks, s.chunk.tag)
}

// trace prints a command line that is about to run (-t).
func (r *parallelRun) trace(j *parallelJob) {
	if r.o.trace && j.attempts == 1 {
		fmt.Fprintln(r.e.stderr, j.command)
	}
}

// fail ends the run because of err: what runs may end.
func (r *parallelRun) fail(ctx context.Context, err error) {
	if r.failed == nil {
		r.failed = err
	}
	r.stop(ctx, true)
}

// onEvent takes the end of a job, or output that is to be printed at once.
func (r *parallelRun) onEvent(ctx context.Context, ev parallelEvent) {
	switch {
	case ev.err != nil:
		r.fail(ctx, ev.err)
	case ev.end == nil:
		r.print(ctx, r.printer.live(ev.job))
	default:
		r.onEnd(ctx, ev.job, ev.end)
	}
}

// print notes an error of printing.
func (r *parallelRun) print(ctx context.Context, err error) {
	if err == nil {
		return
	}
	if errors.Is(err, syscall.EPIPE) {
		r.code = 128 + int(syscall.SIGPIPE)
	} else if r.failed == nil {
		r.failed = err
	}
	r.stop(ctx, true)
}

// onEnd takes the end of a job: it runs again, or is done.
func (r *parallelRun) onEnd(ctx context.Context, j *parallelJob, end *parallelEnd) {
	r.running--
	if c := j.chunk; c.left > 0 {
		if c.left--; c.left == 0 {
			delete(r.chunks, c.tag)
			r.events.remove(c)
		}
	}
	if r.step {
		r.slotsUsed[j.Slot-1] = false
	}
	if r.killed {
		return
	}
	if end.timedOut {
		fmt.Fprintf(r.e.stderr, "parallel: Warning: This job was killed because it timed out:\nparallel: Warning: %s\n", j.command)
	}
	if end.Failed() && (r.retries == 0 || j.attempts < r.retries) && !r.stopping {
		r.printer.forget(j)
		r.pending = slices.Insert(r.pending, 0, j)
		return
	}
	if j.err != nil {
		r.print(ctx, j.err)
	}
	r.complete(ctx, j, end)
}

// complete logs, prints and counts a job.
func (r *parallelRun) complete(ctx context.Context, j *parallelJob, end *parallelEnd) {
	if end.note != "" {
		r.events.keep(j, 1, []byte("frond parallel: "+end.note+"\n"))
	}
	r.print(ctx, r.log.write(r.parallelPlan, j, end))
	r.print(ctx, r.printer.done(j))
	if r.known > 0 {
		r.tally.Total = r.known
	}
	if verdict := r.tally.Add(end.Outcome); verdict != "" {
		fmt.Fprintf(r.e.stderr, "parallel: This job %s:\n%s\n", verdict, j.command)
	}
	if r.tally.Halted && !r.stopping {
		r.stop(ctx, r.halt.Now)
		if !r.halt.Now && r.running > 0 {
			fmt.Fprintf(r.e.stderr, "parallel: Starting no more jobs. Waiting for %d jobs to finish.\n", r.running)
		}
	}
}

// halt_ starts no more jobs; with now, what runs is ended.
func (r *parallelRun) stop(ctx context.Context, now bool) {
	r.stopping = true
	if now && !r.killed {
		r.killed = true
		r.kill(ctx)
	}
}

// onSignal: HUP starts no more jobs, INT and TERM end all, USR1 lists what runs.
func (r *parallelRun) onSignal(ctx context.Context, sig os.Signal) {
	switch sig {
	case syscall.SIGUSR1:
		for _, c := range r.chunks {
			for _, j := range c.jobs {
				if j.chunk == c {
					fmt.Fprintf(r.e.stderr, "parallel: %s\n", j.command)
				}
			}
		}
	case syscall.SIGHUP:
		r.stop(ctx, false)
	default:
		if r.code != 0 {
			r.running = 0 // a second time: do not wait
		}
		r.code = 128 + int(sig.(syscall.Signal))
		r.stop(ctx, true)
	}
}

// show brings the bar up to date.
func (r *parallelRun) show() {
	if r.bar == nil {
		return
	}
	n := max(r.known, r.order)
	r.bar.show(tally{n: n, pending: n - r.tally.Done - min(r.running, r.limit), running: min(r.running, r.limit), completed: r.tally.Done - r.tally.Failed,
		failed: r.tally.Failed})
}
