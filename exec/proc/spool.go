package proc

import (
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/exec"
	"golang.org/x/sys/unix"
)

// spool is a file that takes one stream of a slot's tasks, in memory where the kernel can.
type spool struct {
	mu   sync.Mutex
	file *os.File
	pos  int64 // read up to here
	hole int64 // given back to the kernel up to here
}

const (
	chunk    = 256 << 10 // bytes an output event
	turn     = 4 << 20   // bytes read from one spool before others have their turn
	punch    = 1 << 20   // give memory back in pieces of this size
	slowPoll = 50 * time.Millisecond
	fastPoll = 5 * time.Millisecond
	rarePoll = 250 * time.Millisecond // at most, while tasks are silent: an eighth of the time for which all are
)

func newSpool(dir string) (*spool, error) {
	if fd, err := unix.MemfdCreate("frond-spool", unix.MFD_CLOEXEC); err == nil {
		if _, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_APPEND); err == nil {
			return &spool{file: os.NewFile(uintptr(fd), "spool")}, nil
		}
		unix.Close(fd)
	}
	f, err := os.CreateTemp(dir, "spool-*")
	if err != nil {
		return nil, err
	}
	os.Remove(f.Name())
	unix.FcntlInt(f.Fd(), unix.F_SETFL, unix.O_APPEND)
	return &spool{file: f}, nil
}

// unread is the number of bytes that wait.
func (p *spool) unread() int64 {
	var st unix.Stat_t
	if unix.Fstat(int(p.file.Fd()), &st) != nil {
		return 0
	}
	if st.Size < p.pos { // the task truncated what it takes for its own file
		p.pos, p.hole = 0, 0
	}
	return st.Size - p.pos
}

// read tells up to limit bytes and returns how many are still there.
func (p *spool) read(d *Driver, t *task, stream int, limit int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.unread()
	for limit = min(limit, left); limit > 0; {
		buf := make([]byte, min(limit, chunk))
		n, err := p.file.ReadAt(buf, p.pos)
		if n == 0 {
			break
		}
		p.pos += int64(n)
		limit -= int64(n)
		left -= int64(n)
		d.tell(exec.TaskEvent{Kind: exec.TaskOutput, Run: t.job.ID, Task: t.rank, Time: now(), Stream: uint8(stream), Data: buf[:n]})
		if err != nil || d.isPaused() {
			break
		}
	}
	if p.pos-p.hole >= punch {
		unix.Fallocate(int(p.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, p.pos)
		p.hole = p.pos
	}
	return left
}

// drain tells all that is left, when nobody writes any more, and empties the spool.
func (p *spool) drain(d *Driver, t *task, stream int) {
	for d.pass() && p.read(d, t, stream, turn) > 0 {
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.file.Truncate(0)
	p.pos, p.hole = 0, 0
}

func (d *Driver) isPaused() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.paused || d.closed
}

// poll reads the spools of tasks that run for longer, and ends slots that are idle for long.
func (d *Driver) poll() {
	defer d.wg.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	silent := time.Duration(0)
	for {
		var wait time.Duration
		wait, silent = d.pollOnce(silent)
		if wait < 0 {
			return
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-d.kick:
		}
	}
}

// pollOnce returns when to come again, -1 for the end, and for how long all tasks have been silent, as it did the last time.
func (d *Driver) pollOnce(silent time.Duration) (wait, still time.Duration) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return -1, 0
	}
	busy := make([]*slot, 0, len(d.slots))
	for s := range d.slots {
		busy = append(busy, s)
	}
	d.shrink()
	d.dozing = len(d.slots) == len(d.idle)
	now := time.Now()
	changed, on := d.rush.look(now), d.rush.on
	wait = time.Hour
	if len(d.slots) > 0 {
		wait = min(time.Second, d.cfg.MaxIdle/4)
	}
	if !d.dozing {
		if wait = slowPoll; !d.fresh {
			wait = min(max(silent/8, slowPoll), rarePoll)
		}
		d.dozing = wait > slowPoll
	}
	d.fresh = false
	d.mu.Unlock()
	if changed && d.cfg.Rush != nil {
		d.cfg.Rush(on)
	}
	still = time.Hour
	for _, s := range busy {
		more, heard := s.poll()
		if more {
			wait = fastPoll
		}
		if !heard.IsZero() {
			still = min(still, now.Sub(heard))
		}
	}
	return min(wait, max(still/8, slowPoll)), still // less if one was heard just now
}

// shrink ends slots that have been idle for too long. It needs d.mu.
func (d *Driver) shrink() {
	n := 0
	for n < len(d.idle) && time.Since(d.idle[n].since) > d.cfg.MaxIdle {
		d.retire(d.idle[n])
		n++
	}
	d.idle = append(d.idle[:0], d.idle[n:]...)
}

// poll reads the spools of the slot's task, and tells whether there is more to be expected soon, and when the task was heard last; zero = it
// is none that writes to them.
func (s *slot) poll() (busy bool, heard time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.task
	if t == nil || !t.spool {
		return false, time.Time{}
	}
	if time.Since(s.begun) < slowPoll {
		return false, s.begun
	}
	most := int64(0)
	for i, p := range s.spool {
		p.mu.Lock()
		before := p.unread()
		p.mu.Unlock()
		left := before
		if before > 0 && !s.d.isPaused() {
			left = p.read(s.d, t, i+1, turn)
		}
		if before > 0 {
			s.heard = time.Now()
		}
		busy = busy || before > punch
		most = max(most, left)
	}
	switch {
	case most > maxUnread && !s.stopped:
		s.stopped = s.sp.Signal(syscall.SIGSTOP) == nil
	case most <= maxUnread/4 && s.stopped:
		s.resume()
	}
	return busy, s.heard
}

// resume needs s.mu.
func (s *slot) resume() {
	s.stopped = false
	s.sp.Signal(syscall.SIGCONT)
}

func (d *Driver) wake() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// wakeLocked wakes the poller if it does not come anyway. It needs d.mu.
func (d *Driver) wakeLocked() {
	d.fresh = true
	if d.dozing {
		d.dozing = false
		d.wake()
	}
}
