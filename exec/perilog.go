package exec

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/frond-hpc/frond/jobspec"
)

// Prologs and epilogs: commands that run on each node of a job before its tasks and after them, those of the instance (Spec.Prolog) and
// those of the job (shell options). On several brokers all tasks start after the last prolog, by a fence before those of PMI. The driver
// knows them as runs of their own, of one task a node. A prolog that fails ends the job, without tasks and epilog; an epilog that fails is
// told and changes nothing.

// perilogLimit is how long each phase may take.
const perilogLimit = int64(30 * 60 * 1e9)

// phase is where a run is in its life.
type phase uint8

const (
	inTasks phase = iota
	inProlog
	inEpilog
)

func (p phase) String() string { return [...]string{"tasks", "prolog", "epilog"}[p] }

// side is a command of a run's prolog or epilog that the driver runs.
type side struct {
	of     *run
	id     RunID
	left   int // tasks
	status int
	note   string // why one could not be started
}

// command is one command of a phase, and whether it runs in the job's directory.
type command struct {
	text string
	own  bool
}

// prologs and epilogs: the instance's commands enclose the job's.
func (r *run) prologs() []command {
	return commands(command{r.job.Spec.Prolog, false}, command{r.shell().Prolog, true})
}
func (r *run) epilogs() []command {
	return commands(command{r.shell().Epilog, true}, command{r.job.Spec.Epilog, false})
}

func commands(all ...command) []command {
	var list []command
	for _, c := range all {
		if c.text != "" {
			list = append(list, c)
		}
	}
	return list
}

// startPhase begins a prolog or an epilog.
func (m *Machine) startPhase(r *run, p phase, list []command) {
	r.phase, r.commands = p, list
	r.limitAt = m.now + perilogLimit
	m.reschedule(r)
	m.record(r, Record{Kind: RecEvent, Type: p.String() + "-start", Note: p.String()})
	m.nextCommand(r)
}

func (m *Machine) nextCommand(r *run) {
	c := r.commands[0]
	r.commands = r.commands[1:]
	m.lastID++
	job := r.sideJob(m.lastID, c)
	r.side = &side{of: r, id: m.lastID, left: len(job.Parts)}
	m.sides[m.lastID] = r.side
	m.act(Launch{[]*Job{job}})
}

// sideJob is what the driver runs for a command.
func (r *run) sideJob(id RunID, c command) *Job {
	js := r.job.Spec.Job
	own := &jobspec.Jobspec{Command: []string{"/bin/sh", "-c", c.text}, TaskCount: jobspec.TaskCount{PerNode: 1}, Cwd: "/", Name: js.Name,
		Environment: map[string]string{}, EnvUnset: js.EnvUnset,
		Shell: jobspec.ShellOptions{CPUAffinity: js.Shell.CPUAffinity, GPUAffinity: js.Shell.GPUAffinity, Umask: -1, PMI: "off"}}
	if c.own {
		own.Cwd = js.Cwd
	}
	for name, value := range js.Environment {
		own.Environment[name] = value
	}
	job := &Job{ID: id, Spec: &Spec{Job: own, Env: r.job.Spec.Env}, Start: r.job.Start}
	job.Watched, job.Limit, job.Vars = false, 0, r.job.Vars
	if r.phase == inEpilog {
		job.Vars = append(slices.Clip(job.Vars), "FROND_STATUS="+strconv.Itoa(r.status))
	}
	job.Parts = make([]Part, len(r.job.Parts))
	for i, p := range r.job.Parts {
		p.NTasks, p.MemMiB = 1, 0
		job.Parts[i] = p
	}
	return job
}

// onSide takes a fact about a command. What it writes goes to the standard error of the run's first task here.
func (m *Machine) onSide(s *side, ev *TaskEvent) {
	switch ev.Kind {
	case TaskOutput:
		if len(ev.Data) > 0 {
			m.output(s.of, &TaskEvent{Time: ev.Time, Task: s.of.job.Tasks(&s.of.job.Parts[0])[0], Stream: 2, Data: ev.Data})
		}
	case TaskEnded:
		s.left--
		s.status = max(s.status, jobspec.TaskStatus(ev.Status))
		if s.note == "" {
			s.note = ev.Note
		}
		if s.left == 0 {
			m.sideOver(s, ev.Time)
		}
	}
}

func (m *Machine) sideOver(s *side, t float64) {
	r := s.of
	delete(m.sides, s.id)
	r.side = nil
	if s.status == 0 && len(r.commands) > 0 && !r.ending {
		m.nextCommand(r)
		return
	}
	m.record(r, Record{Kind: RecEvent, Type: r.phase.String() + "-finish", Status: s.status, Note: r.phase.String()})
	if r.phase == inEpilog {
		if s.status != 0 {
			m.exception(r, typeEpilog, 1, s.failure("epilog"))
		}
		m.finish(r, r.endedAt)
		return
	}
	switch {
	case s.status != 0 && !r.ending:
		r.status = s.status
		m.record(r, Record{Kind: RecException, Type: typeProlog, Note: s.failure("prolog"), Status: s.status})
		m.finish(r, t)
	case r.ending || m.stopping:
		r.status = max(r.status, s.status, jobspec.TaskStatus(sigTERM)) // whatever the prolog made of it: no task has run
		m.finish(r, t)
	case r.job.Brokers > 1:
		r.fences++
		r.ask = &fenceAsk{seq: r.fences}
		m.askFence(r)
	default:
		m.launch(r)
	}
}

// prepared tells whether a run's prolog is over here and not yet on all brokers of the job.
func (r *run) prepared() bool { return r.phase == inProlog && r.side == nil }

// launch starts the tasks after the prolog.
func (m *Machine) launch(r *run) {
	r.phase, r.limitAt = inTasks, 0
	m.reschedule(r)
	m.act(Launch{[]*Job{&r.job}})
	for _, ev := range r.input {
		m.act(Feed{r.job.ID, ev.Task, ev.Data, ev.EOF, ev.Window})
	}
	r.input = nil
}

// maxHeldInput bounds what a run holds of standard input until its tasks are there.
const maxHeldInput = 16 << 20

func (m *Machine) holdInput(r *run, ev Input) {
	size := len(ev.Data)
	for _, held := range r.input {
		size += len(held.Data)
	}
	if size > maxHeldInput {
		m.log("warn", "standard input is dropped: too much came during a prolog", "job", r.job.Ref.Job.String())
		return
	}
	r.input = append(r.input, ev)
}

func (s *side) failure(what string) string {
	if s.note != "" {
		return what + " failed: " + s.note
	}
	return fmt.Sprintf("%s failed on %s: %s", what, s.of.job.Nodelist, how(s.status))
}

// tasksOver: all tasks have ended. The epilog comes, if there is one and nothing hurries.
func (m *Machine) tasksOver(r *run, t float64) {
	list := r.epilogs()
	if len(list) == 0 || r.discard || m.stopping {
		m.finish(r, t)
		return
	}
	r.endedAt = t
	r.ending, r.killAt, r.warnAt, r.exitAt, r.fenceAt = false, 0, 0, 0, 0
	r.ask = nil
	m.startPhase(r, inEpilog, list)
}
