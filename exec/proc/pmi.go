package proc

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/exec/pmi"
	"golang.org/x/sys/unix"
)

// pmiFD is the descriptor of a task's PMI socket.
const pmiFD = 3

// maxPMILine bounds a line; the longest legal one has a key and a value.
const maxPMILine = 8 << 10

// wireUp is PMI for the tasks of one run: a server and a socket for each task.
type wireUp struct {
	mu      sync.Mutex
	server  *pmi.Server
	release chan struct{} // closed when the present barrier ends
}

// usesPMI tells whether the tasks of a job get PMI sockets: a job of several tasks does, unless it asks not to.
func usesPMI(ej *exec.Job) bool {
	how := ej.Spec.Job.Shell.PMI
	return how == "simple" || ej.NTasks > 1 && how != "off"
}

func (j *job) newWireUp() *wireUp {
	cfg := pmi.Config{Name: j.Ref.Job.String(), Size: j.NTasks}
	for i := range j.tasks {
		cfg.Tasks = append(cfg.Tasks, j.tasks[i].rank)
	}
	if !j.shell().PMINoMap {
		cfg.Mapping = "(vector,(0,1,1))"
		if j.Map != nil {
			cfg.Mapping = j.Map.PMI()
		}
	}
	return &wireUp{server: pmi.New(cfg), release: make(chan struct{})}
}

// pmiConn is one task's socket.
type pmiConn struct {
	t    *task
	conn net.Conn
	over chan struct{} // closed when the task is dead
	done chan struct{} // closed when everything that it wrote was handled
}

// openPMI makes a task's socket and adds its end to io.
func (io *stdio) openPMI() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make PMI socket: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "pmi")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		unix.Close(fds[1])
		return fmt.Errorf("make PMI socket: %w", err)
	}
	io.send(pmiFD, os.NewFile(uintptr(fds[1]), "pmi"), true)
	io.t.pmi = &pmiConn{t: io.t, conn: conn, over: make(chan struct{}), done: make(chan struct{})}
	return nil
}

// serve answers a task's lines until it closes its end.
func (c *pmiConn) serve(d *Driver) {
	defer d.wg.Done()
	defer close(c.done)
	defer c.conn.Close()
	in := bufio.NewScanner(c.conn)
	in.Buffer(make([]byte, 0, 1024), maxPMILine)
	for in.Scan() {
		if !c.line(d, in.Text()) {
			return
		}
	}
}

// line handles one line; false = the conversation is over.
func (c *pmiConn) line(d *Driver, text string) bool {
	j := c.t.job
	w := j.pmi
	w.mu.Lock()
	r := w.server.Line(c.t.rank, text)
	release := w.release
	w.mu.Unlock()
	switch {
	case r.Wrong != "":
		d.tell(exec.TaskEvent{Kind: exec.TaskAborted, Run: j.ID, Task: c.t.rank, Time: now(), Status: 1 << 8,
			Note: fmt.Sprintf("task %d: PMI: %s", c.t.rank, r.Wrong)})
		return false
	case r.Abort != nil:
		d.tell(exec.TaskEvent{Kind: exec.TaskAborted, Run: j.ID, Task: c.t.rank, Time: now(), Status: abortStatus(r.Abort.Code), Note: abortNote(c.t.rank, r.Abort)})
		return false
	case r.Fence:
		d.tell(exec.TaskEvent{Kind: exec.TaskFence, Run: j.ID, Task: c.t.rank, Time: now(), Pairs: r.Pairs})
	}
	if r.Wait {
		select {
		case <-release:
			r.Reply = pmi.Barrier
		case <-c.over:
			return false
		}
	}
	if r.Reply != "" {
		if _, err := c.conn.Write([]byte(r.Reply)); err != nil {
			return false
		}
	}
	return !r.Close
}

// abortStatus is the job's wait status after an abort: never that of success.
func abortStatus(code int) int {
	if code &= 0xff; code == 0 {
		code = 1
	}
	return code << 8
}

func abortNote(rank int, a *pmi.Abort) string {
	note := fmt.Sprintf("task %d called MPI_Abort with exit code %d", rank, a.Code)
	if a.Message != "" {
		note += ": " + a.Message
	}
	return note
}

// finish is called when the task is dead: it waits until what it has written was handled, and tells whether the task owes
// the others a finalize.
func (c *pmiConn) finish() bool {
	if c == nil {
		return false
	}
	close(c.over)
	c.conn.SetReadDeadline(time.Now().Add(lateOutput)) // someone who is no descendant may hold the other end
	<-c.done
	w := c.t.job.pmi
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.server.Unfinished(c.t.rank)
}

// fence ends a barrier.
func (d *Driver) fence(e exec.Fence) {
	d.mu.Lock()
	j := d.jobs[e.Run]
	d.mu.Unlock()
	if j == nil || j.pmi == nil {
		return
	}
	w := j.pmi
	w.mu.Lock()
	defer w.mu.Unlock()
	w.server.Release(e.Pairs)
	close(w.release)
	w.release = make(chan struct{})
}
