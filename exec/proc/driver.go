package proc

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/exec/pty"
	"github.com/frond-hpc/frond/resource"
)

// Config of a driver.
type Config struct {
	Nodes    []resource.Node // this broker's; CPUs tells how to bind
	Rank     int32           // this broker's
	RunDir   string          // private to this broker; temporary directories of tasks are made in it
	Hostname string          // for messages and {{node.name}} where a node has no name
	URI      string          // of the local broker: FROND_URI
	TaskURI  string          // in a branch: that of its top, for all that is no child instance; empty = URI
	JobPath  string          // FROND_JOB_ID_PATH of the job that this instance is; "" at the top
	Env      []string        // NAME=value for every task, such as FROND_OUTER_JOBID
	KeepEnv  bool            // tasks keep what an outer scheduler has set for its own
	PathDir  string          // stands first in the PATH of tasks; empty = nothing is added
	Outer    bool            // an outer scheduler may send SIGTERM to all processes here (hold.go)
	MaxIdle  time.Duration   // a spawner idle for so long is ended; default 10 s
	Killed   func()          // if set, called when a broker of a child instance was killed, before its end is told: it has left what it has made
	Rush     func(on bool)   // if set, told from a goroutine of the driver when many short tasks begin to come, and when they cease to
}

// maxUnread is how far a task may be ahead of the reader of its spool before it is stopped.
const maxUnread = 16 << 20

// Driver carries out exec's effects. Use Close when the last run has ended.
type Driver struct {
	cfg   Config
	nodes map[int]*resource.Node

	mu     sync.Mutex
	emit   func(any, error) // done of the Open effect
	jobs   map[exec.RunID]*job
	idle   []*slot // the last one was used last
	slots  map[*slot]struct{}
	nslots int // ever made
	paused bool
	gate   *sync.Cond // on mu: paused or closed changed
	closed bool
	dozing bool // the poller waits for a kick, or for longer than slowPoll
	fresh  bool // a slot was taken since the poller came

	interrupted bool // this process got SIGTERM
	held        map[exec.RunID][]exec.TaskEvent
	rush        rush

	limited  map[exec.RunID]*job // with memory limits
	watching bool                // a goroutine looks at them

	closing chan struct{} // closed by Close

	kick chan struct{}
	wg   sync.WaitGroup // every goroutine
}

// New makes a driver and its directory RunDir/tmp, emptied.
func New(cfg Config) (*Driver, error) {
	cfg.MaxIdle = cmp.Or(cfg.MaxIdle, 10*time.Second)
	d := &Driver{cfg: cfg, nodes: map[int]*resource.Node{}, jobs: map[exec.RunID]*job{}, slots: map[*slot]struct{}{}, kick: make(chan struct{}, 1),
		limited: map[exec.RunID]*job{}, closing: make(chan struct{})}
	d.gate = sync.NewCond(&d.mu)
	for i := range cfg.Nodes {
		d.nodes[cfg.Nodes[i].Index] = &cfg.Nodes[i]
	}
	if err := removeAll(d.tmp()); err != nil {
		return nil, fmt.Errorf("empty %s: %w", d.tmp(), err)
	}
	if err := os.MkdirAll(d.tmp(), 0o700); err != nil {
		return nil, fmt.Errorf("make directory for tasks: %w", err)
	}
	d.wg.Add(1)
	go d.poll()
	return d, nil
}

func (d *Driver) tmp() string { return filepath.Join(d.cfg.RunDir, "tmp") }

// Do implements reactor.Driver with the effects of package exec.
func (d *Driver) Do(_ time.Time, effect any, done func(result any, err error)) {
	switch e := effect.(type) {
	case exec.Open:
		d.mu.Lock()
		d.emit = done
		d.mu.Unlock()
	case exec.Launch:
		for _, j := range e.Jobs {
			d.launch(j)
		}
	case exec.Signal:
		d.signal(e)
	case exec.Feed:
		d.feed(e)
	case exec.Fence:
		d.fence(e)
	case exec.Flow:
		d.mu.Lock()
		d.paused = e.Paused
		d.gate.Broadcast()
		d.mu.Unlock()
	default:
		done(nil, fmt.Errorf("proc: unknown effect %T", effect))
	}
}

// Close ends all tasks at once and waits until nothing of them, and no goroutine, is left. No event comes after it.
func (d *Driver) Close() {
	d.mu.Lock()
	if !d.closed {
		d.closed = true
		close(d.closing)
	}
	d.gate.Broadcast()
	slots := make([]*slot, 0, len(d.slots))
	for s := range d.slots {
		slots = append(slots, s)
	}
	for _, j := range d.jobs {
		for i := range j.tasks {
			j.tasks[i].stdin.close()
		}
	}
	d.mu.Unlock()
	d.wake()
	var wg sync.WaitGroup
	for _, s := range slots {
		wg.Go(s.sp.Close)
	}
	wg.Wait()
	d.wg.Wait()
	removeAll(d.tmp())
}

// tell gives events to the service.
func (d *Driver) tell(ev ...exec.TaskEvent) {
	d.mu.Lock()
	emit := d.emit
	if d.closed {
		emit = nil
	}
	d.mu.Unlock()
	if emit != nil && len(ev) > 0 {
		emit(exec.Tasks(ev), nil)
	}
}

// pass waits until output may be read; false when the driver is closed.
func (d *Driver) pass() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.paused && !d.closed {
		d.gate.Wait()
	}
	return !d.closed
}

func (d *Driver) signal(e exec.Signal) {
	sig := syscall.Signal(e.Sig)
	d.mu.Lock()
	var hit []*task
	var on []*slot
	if j := d.jobs[e.Run]; j != nil {
		j.told = j.told || ends(sig)
		for i := range j.tasks {
			t := &j.tasks[i]
			switch {
			case t.slot != nil:
				hit, on = append(hit, t), append(on, t.slot)
			case !t.ended && ends(sig):
				t.cancel = sig
			}
		}
	}
	d.mu.Unlock()
	for i, t := range hit {
		on[i].signal(t, sig)
	}
	if d.cfg.Outer && ends(sig) {
		d.unhold(e.Run, true)
	}
}

// ends tells whether a process that has set up nothing dies of sig.
func ends(sig syscall.Signal) bool {
	switch sig {
	case 0, syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGURG, syscall.SIGWINCH:
		return false
	}
	return true
}

func (d *Driver) feed(e exec.Feed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := d.jobs[e.Run]
	if j == nil {
		return
	}
	for i := range j.tasks {
		if t := &j.tasks[i]; e.Task == t.rank || e.Task < 0 && -2-e.Task != t.rank {
			pty.Resize(t.tty, e.Window.Rows, e.Window.Cols)
			t.stdin.add(e.Data, e.EOF)
		}
	}
}

// removeAll removes a tree that tasks may have made hard to remove.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	filepath.WalkDir(dir, func(path string, e os.DirEntry, _ error) error {
		if e != nil && e.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
