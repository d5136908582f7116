package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

const (
	beatEvery = 10 * time.Second
	// beatDead is the age of a beat after which an owner on another host counts as dead.
	beatDead = 60 * time.Second
)

// lockHolder is the content of statedir/lock: who uses the directory. On the same host and boot and in the same pid
// namespace the process itself can be looked up; elsewhere only the beat tells. Beat always has ten digits and is renewed in place.
type lockHolder struct {
	Host   string `json:"host"`
	BootID string `json:"boot_id"`
	PIDNS  string `json:"pid_ns"` // of the process: containers on one host share the boot id, not the pids
	PID    int    `json:"pid"`
	Start  uint64 `json:"start"` // the process's start in clock ticks since boot: tells it from a later one of the same pid
	Epoch  uint64 `json:"epoch"`
	Beat   int64  `json:"beat"` // Unix seconds
}

// thisProcess describes the caller.
func thisProcess() *lockHolder {
	h := &lockHolder{PID: os.Getpid()}
	h.Host, _ = os.Hostname()
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	h.BootID = strings.TrimSpace(string(boot))
	h.PIDNS, _ = os.Readlink("/proc/self/ns/pid")
	h.Start, _ = processStart(h.PID)
	return h
}

// lockFile is a held lock. Its file stays open: beats go to the inode that was created here and never to that of a successor.
type lockFile struct {
	path   string
	f      *os.File
	holder lockHolder
	stop   chan struct{} // closed to end keepBeating
}

// acquire makes the lock file, taking it over from an owner that is provably dead. Two that try at once are told apart by link and
// rename, which are atomic; should both succeed nevertheless (a file system that lies), the epoch in the database stops the first.
func acquire(dir string, me *lockHolder) (*lockFile, error) {
	if me == nil {
		me = thisProcess()
	}
	path := filepath.Join(dir, "lock")
	l := &lockFile{path: path, holder: *me, stop: make(chan struct{})}
	for range 10 {
		err := l.create()
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("lock state directory %s: %w", dir, err)
		}
		if err := clearStale(dir, path, me); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("lock state directory %s: others keep taking it: %w", dir, ErrInUse)
}

// create makes the lock file with its content at once, or fails with fs.ErrExist.
func (l *lockFile) create() error {
	f, err := os.CreateTemp(filepath.Dir(l.path), "lock.*.new") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	l.f = f
	if err = l.beat(time.Now()); err == nil {
		err = os.Link(f.Name(), l.path)
	}
	if err != nil {
		f.Close()
	}
	return err
}

// asides makes names for stale locks unique within the process.
var asides atomic.Int64

// clearStale removes the lock of a dead owner, or returns an ErrInUse that names the living one.
func clearStale(dir, path string, me *lockHolder) error {
	old, err := readLock(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // given up just now
	}
	if err != nil {
		return fmt.Errorf("%w: %s: its lock file cannot be read: %w; remove it if no leader uses the directory", ErrInUse, dir, err)
	}
	why, alive := old.alive(me, path)
	if alive {
		return inUse(dir, old, why)
	}
	aside := fmt.Sprintf("%s.%d-%d.old", path, os.Getpid(), asides.Add(1))
	if err := os.Rename(path, aside); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("take over %s: %w", path, err)
	}
	defer os.Remove(aside)
	if now, err := readLock(aside); err == nil && !now.same(old) {
		os.Link(aside, path) // another one took it between our two looks: give it back
		return inUse(dir, now, "has just taken it")
	}
	return nil
}

func inUse(dir string, h *lockHolder, why string) error {
	return fmt.Errorf("state directory %s is in use by pid %d on host %s (%s; stop that instance or name another directory): %w",
		dir, h.PID, h.Host, why, ErrInUse)
}

// same tells whether two contents are of one owner; the beat may differ.
func (h *lockHolder) same(o *lockHolder) bool {
	a, b := *h, *o
	a.Beat, b.Beat, a.Epoch, b.Epoch = 0, 0, 0, 0
	return a == b
}

// alive tells whether the holder may still be running, as seen from me, and why.
func (h *lockHolder) alive(me *lockHolder, path string) (why string, alive bool) {
	age := h.age(path)
	last := fmt.Sprintf("its last sign of life was %.0f s ago", age.Seconds())
	switch {
	case h.Host == me.Host && h.BootID != me.BootID:
		return "the host has been restarted", false
	case h.Host == me.Host && h.PIDNS == me.PIDNS:
		start, ok := processStart(h.PID)
		return "it is running", ok && start == h.Start
	default:
		return last, age <= beatDead
	}
}

// age is the time since the last beat: the smaller of what the clock in the file and the file system's own clock say, so
// that hosts whose clocks differ do not take each other's directories.
func (h *lockHolder) age(path string) time.Duration {
	age := time.Since(time.Unix(h.Beat, 0))
	fi, err := os.Stat(path)
	if err != nil {
		return age
	}
	probe, err := os.CreateTemp(filepath.Dir(path), "lock.*.probe")
	if err != nil {
		return age
	}
	defer os.Remove(probe.Name())
	defer probe.Close()
	probe.WriteString("x")
	if now, err := probe.Stat(); err == nil {
		age = min(age, now.ModTime().Sub(fi.ModTime()))
	}
	return max(age, 0)
}

// readLock reads a lock file; one that is being written is read again.
func readLock(path string) (h *lockHolder, err error) {
	for range 5 {
		var text []byte
		if text, err = os.ReadFile(path); err != nil {
			return nil, err
		}
		h = &lockHolder{}
		if err = json.Unmarshal(text, h); err == nil {
			return h, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, err
}

// beat writes the content anew. It is one small write of what only grows (the epoch) in place.
func (l *lockFile) beat(now time.Time) error {
	l.holder.Beat = now.Unix()
	text, err := json.Marshal(&l.holder)
	if err != nil {
		return err
	}
	_, err = l.f.WriteAt(append(text, '\n'), 0)
	return err
}

// setEpoch notes the epoch in the lock file, for people; before keepBeating runs.
func (l *lockFile) setEpoch(epoch uint64) {
	l.holder.Epoch = epoch
	l.beat(time.Now())
}

// keepBeating renews the beat until stop is closed. A write that fails is tried again at the next beat.
func (l *lockFile) keepBeating() {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		select {
		case <-l.stop:
			return
		case now := <-t.C:
			l.beat(now)
		}
	}
}

// release removes the lock if it is still ours.
func (l *lockFile) release() {
	mine, err := l.f.Stat()
	if there, err2 := os.Stat(l.path); err == nil && err2 == nil && os.SameFile(mine, there) {
		os.Remove(l.path)
	}
	l.f.Close()
}

// processStart returns when a process was started, in clock ticks since boot (proc(5), stat field 22); ok is false if there is
// none of this pid, or only a zombie.
func processStart(pid int) (ticks uint64, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	f := strings.Fields(rest)
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return 0, false
	}
	_, err = fmt.Sscan(f[19], &ticks)
	return ticks, err == nil
}
