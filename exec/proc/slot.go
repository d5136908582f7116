package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/exec/spawner"
	"golang.org/x/sys/unix"
)

// slot is a spawner and what belongs to it.
type slot struct {
	d     *Driver
	sp    *spawner.Spawner
	tmp   string // temporary directory of its task
	spool [2]*spool
	env   []byte // scratch
	fds   [3]spawner.FD
	cpus  []int     // of its last task; changed only while it is not idle
	since time.Time // idle since; guarded by Driver.mu

	mu      sync.Mutex
	task    *task
	begun   time.Time // of task
	heard   time.Time // when it last had written something, or begun
	stopped bool      // task is stopped until its spool is read
}

// maxLook bounds the search for a slot whose spawner has the right cpus: moving one costs as much as looking at many.
const maxLook = 64

// takeIdle prefers the slot used last of those whose spawner sits on these cpus. It needs d.mu.
func (d *Driver) takeIdle(cpus []int) *slot {
	n := len(d.idle)
	if n == 0 {
		return nil
	}
	at := n - 1
	for i := n - 1; i >= max(0, n-maxLook); i-- {
		if slices.Equal(d.idle[i].cpus, cpus) {
			at = i
			break
		}
	}
	s := d.idle[at]
	d.idle = slices.Delete(d.idle, at, at+1)
	d.wakeLocked()
	return s
}

// takeSlot returns an idle slot or a new one.
func (d *Driver) takeSlot(t *task) (*slot, error) {
	d.mu.Lock()
	if s := d.takeIdle(t.cpus); s != nil {
		d.mu.Unlock()
		return s, nil
	}
	n := d.nslots
	d.nslots++
	d.mu.Unlock()
	return d.newSlot(n)
}

func (d *Driver) newSlot(n int) (*slot, error) {
	s := &slot{d: d, tmp: filepath.Join(d.tmp(), fmt.Sprintf("s%d", n))}
	err := os.MkdirAll(s.tmp, 0o700)
	for i := range s.spool {
		if err == nil {
			s.spool[i], err = newSpool(d.cfg.RunDir)
		}
	}
	if err == nil {
		s.sp, err = spawner.New(spawner.Options{Spool: [2]*os.File{s.spool[0].file, s.spool[1].file}, TmpDir: s.tmp})
	}
	if err != nil {
		s.discard()
		return nil, err
	}
	if !d.adopt(s) {
		s.sp.Close()
		s.discard()
		return nil, os.ErrClosed
	}
	return s, nil
}

func (d *Driver) adopt(s *slot) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.slots[s] = struct{}{}
	d.wakeLocked()
	d.wg.Add(1)
	go s.serve()
	return true
}

// discard gives up what a slot holds besides its process.
func (s *slot) discard() {
	for _, p := range s.spool {
		if p != nil {
			p.file.Close()
		}
	}
	removeAll(s.tmp)
}

// start runs t here. Io is nil for a task that writes to the spool.
func (s *slot) start(t *task, io *stdio) {
	s.mu.Lock()
	s.task, s.begun, s.stopped = t, time.Now(), false
	s.heard = s.begun
	if !s.d.begin(t, s) {
		s.task = nil
		s.mu.Unlock()
		io.abandon()
		s.d.end(t, exec.TaskEvent{Status: int(t.cancel)})
		s.d.release(s)
		return
	}
	err := s.sp.Start(s.request(t, io))
	s.mu.Unlock()
	io.handedOver(s.d)
	if err != nil {
		s.d.retire(s) // serve finds it ended, and tells
	}
}

func (s *slot) signal(t *task, sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.task != t {
		return
	}
	if t.job.Spec.Job.Instance != nil && sig != syscall.SIGKILL {
		s.sp.SignalMain(sig) // the broker sees to its tasks itself
	} else {
		s.sp.Signal(sig)
	}
	if s.stopped && ends(sig) {
		s.resume()
	}
}

// serve reads what the spawner reports, until it ends.
func (s *slot) serve() {
	defer s.d.wg.Done()
	for {
		r, err := s.sp.Next()
		if err != nil {
			s.lost()
			return
		}
		if r.Kind == spawner.Started {
			s.started(&r)
		} else {
			s.finished(&r)
		}
	}
}

func (s *slot) started(r *spawner.Report) {
	s.mu.Lock()
	t := s.task
	t.started = float64(r.Start) / 1e9
	s.mu.Unlock()
	s.d.tell(exec.TaskEvent{Kind: exec.TaskStarted, Run: t.job.ID, Task: t.rank, Time: t.started})
}

// finished collects what is left of a task, tells its end and makes the slot free.
func (s *slot) finished(r *spawner.Report) {
	s.mu.Lock()
	t := s.task
	s.task = nil
	s.mu.Unlock()
	s.collect(t, r.Size)
	ok := !r.TmpDirty || s.cleanTmp()
	out := s.d.outcome(t, r)
	out.Owing = t.pmi.finish()
	ev := s.d.settle(t, out)
	if ok { // before the end is told: the next start finds it
		s.d.release(s)
	} else {
		s.d.retire(s)
	}
	s.d.tellEnd(t, ev)
}

// collect tells the last output of a dead task.
func (s *slot) collect(t *task, size [2]int64) {
	for i, p := range s.spool {
		if t.spool && (size[i] > 0 || p.pos > 0) {
			p.drain(s.d, t, i+1)
		}
	}
	for _, p := range t.pumps {
		p.wait()
	}
}

// outcome translates a report.
func (d *Driver) outcome(t *task, r *spawner.Report) exec.TaskEvent {
	ev := exec.TaskEvent{Time: float64(r.End) / 1e9}
	if r.Kind == spawner.Exited {
		ev.Start, ev.Status, ev.MaxRSS, ev.CPU = float64(r.Start)/1e9, r.Status, r.MaxRSS, r.CPU
		return ev
	}
	what := r.Step.String()
	ev.Status = 1 << 8
	switch r.Step {
	case spawner.StepChdir:
		what = "working directory " + t.dir(d)
	case spawner.StepExec:
		what = t.job.argv(d, t)[0]
		ev.Status = 126 << 8
		if r.Err == unix.ENOENT {
			ev.Status = 127 << 8
		}
	}
	ev.Note = d.note(t, &os.PathError{Op: "exec", Path: what, Err: r.Err})
	return ev
}

// lost: the spawner has ended, by Close or because someone killed it; then its task is dead, too.
func (s *slot) lost() {
	s.sp.Close()
	s.mu.Lock()
	t := s.task
	s.task = nil
	s.mu.Unlock()
	s.d.forgetSlot(s)
	if t != nil {
		s.collect(t, [2]int64{1, 1})
		t.pmi.finish()
		s.d.end(t, exec.TaskEvent{Start: t.started, Status: 9, Note: fmt.Sprintf("task %d (host %s): its spawner was killed", t.rank, s.d.nodeName(t.part.Node))})
	}
	s.discard()
}

// cleanTmp empties the temporary directory for the next task.
func (s *slot) cleanTmp() bool {
	return removeAll(s.tmp) == nil && os.MkdirAll(s.tmp, 0o700) == nil
}

// release makes a slot idle.
func (d *Driver) release(s *slot) {
	d.mu.Lock()
	s.since = time.Now()
	d.idle = append(d.idle, s)
	d.mu.Unlock()
}

// retire ends a slot's spawner; serve does the rest.
func (d *Driver) retire(s *slot) {
	d.wg.Add(1)
	go func() {
		defer d.wg.Done()
		s.sp.Close()
	}()
}

func (d *Driver) forgetSlot(s *slot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.slots, s)
	for i, o := range d.idle {
		if o == s {
			d.idle = append(d.idle[:i], d.idle[i+1:]...)
			return
		}
	}
}
