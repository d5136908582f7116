package proc

import (
	"syscall"
	"time"

	"github.com/frond-hpc/frond/exec"
)

// At the end of an allocation its scheduler sends SIGTERM to all processes that it knows: the broker, and the tasks below it. Such a task
// has not failed: it runs again in the next allocation. So the end of a task by a SIGTERM that did not come through this driver is held for
// a moment. If the broker gets one as well (Interrupted), it is held until the broker stops, by which the attempt is lost.

const (
	holdTime  = 500 * time.Millisecond // between the scheduler's signals to one process and to another
	holdLimit = time.Minute            // for a stop to follow
)

// byTerm tells whether a wait status is that of a process, or of a shell's child, that SIGTERM has ended.
func byTerm(status int) bool {
	ws := syscall.WaitStatus(status)
	return ws.Signaled() && ws.Signal() == syscall.SIGTERM || ws.Exited() && ws.ExitStatus() == 128+int(syscall.SIGTERM)
}

// tellEnd tells the end of a task, or holds it.
func (d *Driver) tellEnd(t *task, ev exec.TaskEvent) {
	if !d.cfg.Outer || !byTerm(ev.Status) || !d.hold(t.job, ev) {
		d.tell(ev)
	}
}

func (d *Driver) hold(j *job, ev exec.TaskEvent) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if j.told || d.closed {
		return false
	}
	if d.held == nil {
		d.held = map[exec.RunID][]exec.TaskEvent{}
	}
	d.held[ev.Run] = append(d.held[ev.Run], ev)
	time.AfterFunc(holdTime, func() { d.unhold(ev.Run, false) })
	return true
}

// unhold tells the ends of a run's tasks that are held; after an interruption only with force.
func (d *Driver) unhold(run exec.RunID, force bool) {
	d.mu.Lock()
	var evs []exec.TaskEvent
	if force || !d.interrupted {
		evs = d.held[run]
		delete(d.held, run)
	}
	d.mu.Unlock()
	d.tell(evs...)
}

// Interrupted notes that this process got SIGTERM from outside.
func (d *Driver) Interrupted() {
	d.mu.Lock()
	d.interrupted = true
	d.mu.Unlock()
	time.AfterFunc(holdLimit, d.resume)
}

// resume tells all that is held: no stop has followed.
func (d *Driver) resume() {
	d.mu.Lock()
	d.interrupted = false
	var evs []exec.TaskEvent
	for _, list := range d.held {
		evs = append(evs, list...)
	}
	d.held = nil
	d.mu.Unlock()
	d.tell(evs...)
}
