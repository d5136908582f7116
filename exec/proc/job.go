package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/jobspec"
)

// job is a run whose tasks are not all ended.
type job struct {
	*exec.Job
	prep  *prepared
	tasks []task
	left  int    // tasks that have not ended; guarded by Driver.mu
	told  bool   // to end, by a signal through the driver; guarded by it too
	tmp   string // of a job of several tasks; those of one use their slot's
	pmi   *wireUp
	files files // opened by the launching goroutine
	one   [1]task
}

// task is one process of a job.
type task struct {
	job   *job
	part  *exec.Part
	rank  int   // in the job
	local int   // on this node of the job
	cpus  []int // machine cpus that it is bound to; none = no binding

	// guarded by Driver.mu
	slot   *slot          // while it runs
	ended  bool           // the end was told
	cancel syscall.Signal // it came before the task ran: do not start it

	spool   bool // writes to the slot's spool files
	stdin   *feeder
	pmi     *pmiConn
	tty     *os.File // the master of its terminal
	pumps   []*pump
	started float64 // guarded by slot.mu
}

func (d *Driver) newJob(ej *exec.Job) *job {
	j := &job{Job: ej, prep: d.prepare(ej.Spec)}
	for i := range ej.Parts {
		j.left += ej.Parts[i].NTasks
	}
	j.tasks = j.one[:0]
	if j.left > 1 {
		j.tasks = make([]task, 0, j.left)
	}
	for i := range ej.Parts {
		p := &ej.Parts[i]
		ranks := ej.Tasks(p)
		for k, rank := range ranks {
			t := task{job: j, part: p, rank: rank, local: k}
			t.cpus = d.cpus(&t)
			if ej.Watched && j.shell().Stdin == "" || j.shell().PTY.Has(rank) {
				t.stdin = newFeeder()
			}
			j.tasks = append(j.tasks, t)
		}
	}
	if usesPMI(ej) {
		j.pmi = j.newWireUp()
	}
	return j
}

// quick tells whether a job can be started at once: no files, no pipes.
func (j *job) quick() bool {
	return len(j.tasks) == 1 && !j.Watched && j.Spec.Job.Instance == nil && j.prep.plain && j.pmi == nil && (j.Params == nil || j.small())
}

// small tells whether a command with parameters is small enough to be sent in one write.
func (j *job) small() bool {
	return j.prep.size+j.paramBytes() < maxPlain
}

// paramBytes is how long its parameters make the command and file names of a job.
func (j *job) paramBytes() int {
	n := 0
	if jobspec.IsArgv(j.Spec.Job.Command) {
		for _, p := range j.Params {
			n += len(p) + 1
		}
	}
	for _, name := range j.prep.params {
		v, _ := jobspec.Param(j.Params, name)
		n += len(v)
	}
	return n
}

func (d *Driver) launch(ej *exec.Job) {
	j := d.newJob(ej)
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	d.jobs[j.ID] = j
	d.rush.launches += j.left
	d.limitMemory(j)
	var s *slot
	if j.quick() {
		s = d.takeIdle(j.tasks[0].cpus)
	}
	if s == nil {
		d.wg.Add(1)
	}
	d.mu.Unlock()
	if s != nil {
		t := &j.tasks[0]
		t.spool = true
		s.start(t, nil)
		return
	}
	go func() {
		defer d.wg.Done()
		d.launchSlowly(j)
	}()
}

// launchSlowly opens what the tasks need and starts them.
func (d *Driver) launchSlowly(j *job) {
	var failed error
	if len(j.tasks) > 1 || len(j.Spec.Job.Files) > 0 || j.Spec.Job.Instance != nil {
		j.tmp = filepath.Join(d.tmp(), fmt.Sprintf("j%d", j.ID))
		if failed = os.Mkdir(j.tmp, 0o700); failed == nil {
			failed = unpack(j.tmp, j.Spec.Job.Files)
		}
		if failed == nil && j.Spec.Job.Instance != nil {
			failed = d.writeChild(j)
		}
		if failed != nil {
			d.end(&j.tasks[0], exec.TaskEvent{Status: 1 << 8, Note: d.note(&j.tasks[0], failed)})
		}
	}
	told := failed != nil // of the first task
	for i := range j.tasks {
		t := &j.tasks[i]
		if failed != nil {
			if i > 0 || !told {
				d.end(t, exec.TaskEvent{Status: 1 << 8})
			}
			continue
		}
		if failed = d.launchTask(t); failed != nil {
			d.end(t, exec.TaskEvent{Status: 1 << 8, Note: d.note(t, failed)})
		}
	}
}

// maxExpanded bounds what parameters may make of a command: far above what a kernel takes (ARG_MAX).
const maxExpanded = 16 << 20

func (d *Driver) launchTask(t *task) error {
	if t.job.paramBytes() > maxExpanded {
		return errors.New("its parameters make the command too long")
	}
	io, err := d.openStdio(t)
	if err != nil {
		return err
	}
	s, err := d.takeSlot(t)
	if err != nil {
		io.abandon()
		return err
	}
	s.start(t, io)
	return nil
}

// note is what Flux says when a task cannot be started.
func (d *Driver) note(t *task, err error) string {
	return fmt.Sprintf("task %d (host %s): start failed: %s", t.rank, d.nodeName(t.part.Node), describe(err))
}

func (d *Driver) nodeName(index int) string {
	if n := d.nodes[index]; n != nil && n.Name != "" {
		return n.Name
	}
	return d.cfg.Hostname
}

// begin moves a task to its slot; false if it was cancelled before.
func (d *Driver) begin(t *task, s *slot) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t.cancel != 0 || d.closed {
		return false
	}
	t.slot = s
	return true
}

// end settles and tells the end of a task.
func (d *Driver) end(t *task, ev exec.TaskEvent) { d.tell(d.settle(t, ev)) }

// settle takes note of the end of a task and completes the event; with the last one the job is forgotten.
func (d *Driver) settle(t *task, ev exec.TaskEvent) exec.TaskEvent {
	j := t.job
	t.stdin.close()
	ev.Kind, ev.Run, ev.Task = exec.TaskEnded, j.ID, t.rank
	if ev.Time == 0 {
		ev.Time = now()
	}
	d.mu.Lock()
	t.slot, t.ended = nil, true
	j.left--
	last := j.left == 0
	if last {
		delete(d.jobs, j.ID)
		delete(d.limited, j.ID)
	}
	d.mu.Unlock()
	if last {
		j.files.close()
		if j.tmp != "" {
			removeAll(j.tmp)
		}
		if j.Spec.Job.Instance != nil && d.cfg.Killed != nil && syscall.WaitStatus(ev.Status).Signaled() {
			d.cfg.Killed()
		}
	}
	return ev
}

func now() float64 { return float64(time.Now().UnixNano()) / 1e9 }
