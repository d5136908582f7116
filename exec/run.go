package exec

import (
	"fmt"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/hostlist"
)

// run is one attempt of a job on this broker.
type run struct {
	job    Job // immutable but for Limit, which only the machine looks at: the driver has it, too
	mock   bool
	ntasks int // here

	started, ended        int     // tasks
	firstStart, lastStart float64 // epoch seconds
	status                int
	maxRSS                int64
	signal                int // largest that a task died of
	cpu                   float64
	offsets               map[stream]int64
	over                  bool // all tasks have ended; kept until acknowledged
	discard               bool // nothing of it is wanted

	fresh   bool // its Started is held back …
	freshAt int64

	fences int       // barriers so far
	ask    *fenceAsk // the one that is asked for

	phase    phase
	input    []Input   // that came during the prolog
	side     *side     // the command of a prolog or epilog that runs
	commands []command // of the phase, to come
	endedAt  float64   // epoch seconds when the last task ended, in the epilog

	failed    bool // a task could not be started, or one that the others wait for is gone
	ending    bool // it was told to end
	killDelay int64

	// deadlines, 0 = none; due is the earliest and place the one in the heap, counted from 1
	beganAt                                          int64 // when the limits began to count, 0 = not yet
	limitAt, warnAt, killAt, exitAt, mockAt, fenceAt int64
	due                                              int64
	place                                            int
}

type stream struct {
	task   int
	stream uint8
}

func (r *run) shell() *jobspec.ShellOptions { return &r.job.Spec.Job.Shell }

func (m *Machine) onStartRuns(ev StartRuns) {
	if ev.Session != m.session || m.session == 0 || m.stopping {
		return
	}
	if !m.synced && m.lease.end == 0 { // the starts overtook the answer that tells the lease
		m.lease.end = m.now + int64(presumedLease)
	}
	for _, s := range ev.Specs {
		m.specs[s.ID] = s
	}
	var jobs []*Job
	for i := range ev.Starts {
		r := m.admit(&ev.Starts[i])
		if r == nil || r.mock || r.over {
			continue
		}
		m.byID[r.job.ID] = r
		if list := r.prologs(); len(list) > 0 {
			m.startPhase(r, inProlog, list)
			continue
		}
		jobs = append(jobs, &r.job)
	}
	for _, id := range ev.Drop {
		delete(m.specs, id)
	}
	if len(jobs) > 0 {
		m.act(Launch{jobs})
	}
}

// admit makes a run of a start; nil if it is known already.
func (m *Machine) admit(s *Start) *run {
	if m.runs[s.Ref] != nil || m.past.has(s.Ref) {
		return nil
	}
	m.lastID++
	r := &run{job: Job{ID: m.lastID, Spec: m.specs[s.SpecID], Start: *s}}
	for i := range s.Parts {
		r.ntasks += s.Parts[i].NTasks
	}
	m.runs[s.Ref] = r
	m.live++
	switch {
	case r.job.Spec == nil:
		m.refuse(r, fmt.Sprintf("the node was not sent jobspec %d of this job", s.SpecID))
	case r.job.Spec.Job == nil:
		m.refuse(r, "the node cannot read this job's jobspec: "+r.job.Spec.Bad)
	case r.ntasks < 1:
		m.refuse(r, "the node was sent a start without tasks")
	case r.job.Spec.Job.Test != nil && !m.cfg.MockInDriver:
		m.startMock(r)
	case s.NTasks > 1:
		m.number(r)
	}
	return r
}

// number finds out which tasks are where.
func (m *Machine) number(r *run) {
	j := &r.job
	counts := []int{j.NTasks}
	if j.Taskmap != "" {
		blocks, err := jobspec.ParseTaskmap(j.Taskmap)
		if err != nil {
			m.refuse(r, "the node cannot read this job's task map: "+err.Error())
			return
		}
		counts = blocks.Counts(j.NNodes)
	}
	var names []string
	if !r.shell().Numbering.Block() {
		names, _ = hostlist.Parse(j.Nodelist) // the leader wrote it
	}
	var err error
	if j.Map, err = r.shell().Numbering.Map(counts, names); err != nil {
		m.refuse(r, "taskmap does not fit: "+err.Error())
	}
}

// how a task ended, for people.
func how(status int) string {
	if sig := status & 0x7f; sig != 0 {
		return fmt.Sprintf("signal %d", sig)
	}
	return fmt.Sprintf("exit code %d", jobspec.ExitCode(status))
}

// refuse ends a run that cannot be started.
func (m *Machine) refuse(r *run, why string) {
	m.exception(r, typeExec, 0, why)
	r.status = 1 << 8
	m.finish(r, m.wall)
}

func (m *Machine) onTask(ev *TaskEvent) {
	r := m.byID[ev.Run]
	if r == nil || r.over {
		if s := m.sides[ev.Run]; s != nil {
			m.onSide(s, ev)
		}
		return
	}
	switch ev.Kind {
	case TaskStarted:
		m.taskStarted(r, ev.Time)
	case TaskOutput:
		m.output(r, ev)
	case TaskEnded:
		m.taskEnded(r, ev)
	case TaskFence:
		m.taskFence(r, ev.Pairs)
	case TaskAborted:
		m.taskAborted(r, ev)
	case RunExceeds:
		if !r.ending {
			m.exception(r, typeMemory, 0, ev.Note)
			m.end(r, sigKILL, 0) // at once: it would take the memory of others
		}
	}
}

func (m *Machine) taskStarted(r *run, t float64) {
	r.started++
	if r.firstStart == 0 {
		r.firstStart = t
		m.setLimits(r)
	}
	r.lastStart = max(r.lastStart, t)
	if r.started == r.ntasks {
		m.holdStarted(r)
	}
}

func (m *Machine) output(r *run, ev *TaskEvent) {
	if r.discard || len(ev.Data) == 0 && !ev.EOF {
		return
	}
	if r.offsets == nil {
		r.offsets = map[stream]int64{}
	}
	key := stream{ev.Task, ev.Stream}
	off := r.offsets[key]
	r.offsets[key] = off + int64(len(ev.Data))
	m.record(r, Record{Kind: RecOutput, Time: ev.Time, Task: ev.Task, Stream: ev.Stream, Offset: off, Data: ev.Data, EOF: ev.EOF})
}

func (m *Machine) taskEnded(r *run, ev *TaskEvent) {
	r.ended++
	if ev.Start > 0 && (r.firstStart == 0 || ev.Start < r.firstStart) {
		r.firstStart = ev.Start
	}
	status := jobspec.TaskStatus(ev.Status)
	if !r.failed {
		r.status = max(r.status, status)
	}
	r.signal = max(r.signal, jobspec.WaitSignal(ev.Status))
	r.maxRSS = max(r.maxRSS, ev.MaxRSS)
	r.cpu += ev.CPU
	if ev.Note != "" && !r.failed { // one is enough for all tasks, and decides: the others are ended because of it
		r.failed, r.status = true, status
		m.record(r, Record{Kind: RecException, Type: typeExec, Note: ev.Note, Status: status})
	}
	if ev.Owing && ev.Status != 0 && !r.failed && !r.ending && r.job.NTasks > 1 { // the others would wait for it in a barrier
		ev.Note = fmt.Sprintf("task %d ended (%s) before it had finalized PMI", ev.Task, how(ev.Status))
		r.failed, r.status = true, status
		m.record(r, Record{Kind: RecException, Type: typeExec, Note: ev.Note, Status: status})
	}
	if r.ended == r.ntasks {
		m.tasksOver(r, ev.Time)
		return
	}
	m.othersGoOn(r, ev)
}

// othersGoOn decides what the end of a task means for the other tasks of its run.
func (m *Machine) othersGoOn(r *run, ev *TaskEvent) {
	sh := r.shell()
	switch {
	case r.ending:
	case ev.Note != "":
		m.end(r, sigTERM, r.killTimeout())
	case sh.ExitOnError && ev.Status != 0:
		m.exception(r, typeExec, 0, fmt.Sprintf("task %d exited with exit code %d and exit-on-error is set", ev.Task, jobspec.ExitCode(ev.Status)))
		m.end(r, sigTERM, r.killTimeout())
	case r.ended == 1 && sh.ExitTimeout >= 0:
		r.exitAt = m.now + nanos(sh.ExitTimeout)
		m.reschedule(r)
	}
}

// finish ends a run: everything of it is dead.
func (m *Machine) finish(r *run, t float64) {
	r.over = true
	m.live--
	if r.fresh { // the Ended says it all
		r.fresh = false
	}
	r.limitAt, r.warnAt, r.killAt, r.exitAt, r.mockAt, r.fenceAt = 0, 0, 0, 0, 0, 0
	m.timers.set(r, 0)
	m.endFences(r)
	delete(m.byID, r.job.ID)
	if r.discard {
		m.forget(r)
		return
	}
	m.record(r, Record{Kind: RecEnded, Time: t, Status: r.status, Start: r.firstStart, NTasks: r.ntasks, MaxRSS: r.maxRSS, CPU: r.cpu, Signal: r.signal})
	r.offsets = nil
}

// forget drops an ended run, but knows it for a while if it comes again.
func (m *Machine) forget(r *run) {
	delete(m.runs, r.job.Ref)
	m.past.add(r.job.Ref)
}

func (m *Machine) onInput(ev Input) {
	r := m.runs[ev.Run]
	if ev.Session != m.session || r == nil || r.over || r.mock || r.phase == inEpilog {
		return
	}
	if r.phase == inProlog {
		m.holdInput(r, ev)
		return
	}
	m.act(Feed{r.job.ID, ev.Task, ev.Data, ev.EOF, ev.Window})
}

// memory is the set of the last limit refs added. It grows with them: most brokers never see so many.
type memory struct {
	limit int
	ring  []Ref
	at    int
	set   map[Ref]struct{}
}

func newMemory(n int) memory { return memory{limit: n, set: map[Ref]struct{}{}} }

func (p *memory) has(ref Ref) bool {
	_, ok := p.set[ref]
	return ok
}

func (p *memory) add(ref Ref) {
	if len(p.ring) < p.limit {
		p.ring = append(p.ring, ref)
	} else {
		delete(p.set, p.ring[p.at])
		p.ring[p.at] = ref
		p.at = (p.at + 1) % len(p.ring)
	}
	p.set[ref] = struct{}{}
}
