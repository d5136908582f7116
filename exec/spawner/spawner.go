package spawner

// #cgo CFLAGS: -O2 -Wall -Wextra
// #include "spawner.h"
import "C"

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Executable is what is run as a spawner: this program itself, also after its file was replaced.
const Executable = "/proc/self/exe"

// Sources of a task's descriptor besides the files sent along.
const (
	Null     = C.SRC_NULL      // /dev/null
	SpoolOut = C.SRC_SPOOL_OUT // the slot's spool files
	SpoolErr = C.SRC_SPOOL_ERR
)

// FD maps a descriptor of the task to its source: Null, SpoolOut, SpoolErr or an index into Request.Files.
type FD struct{ Target, Source int }

// RLimit is a soft limit; ^0 is unlimited. What is above the hard limit is lowered to it.
type RLimit struct {
	Resource int // RLIMIT_*
	Value    uint64
}

// Request is one task.
type Request struct {
	Dir     string // "" = the broker's own
	Argv    []string
	Env     [][]byte // pieces of NAME=value entries, each entry ended by NUL
	FDs     []FD
	Files   []*os.File // sent along; the caller may close them when Start has returned
	RLimits []RLimit
	CPUs    []int // machine cpus; none = no binding
	Umask   int   // -1 = the broker's
	Nice    int
	Self    bool // run this program itself, as Argv, also after its file was replaced
	TTY     bool // descriptor 0 is a terminal: it becomes the controlling one of the task, in a session of its own
}

// Kind of a Report.
type Kind uint32

// The kinds of reports.
const (
	Started Kind = C.REP_STARTED // it has run for some milliseconds by now
	Exited  Kind = C.REP_EXITED  // it has ended, and nothing of it is left
	Failed  Kind = C.REP_FAILED  // it could not be started: Step, Err
)

// Report is a fact about the spawner's task. The end of a task is one Exited or one Failed.
type Report struct {
	Kind       Kind
	PID        int
	Status     int           // wait(2) status of the main process
	Err        syscall.Errno // Failed
	Step       Step          // Failed
	TmpDirty   bool          // the slot's temporary directory is not empty, or gone
	Start, End int64         // nanoseconds of the epoch
	CPU        float64       // seconds, all of its processes
	MaxRSS     int64         // KiB, the largest process
	Size       [2]int64      // bytes in the spool files
}

// Step is what failed between fork and exec.
type Step int

// The steps that callers tell apart.
const (
	StepChdir Step = C.STEP_CHDIR
	StepExec  Step = C.STEP_EXEC
)

var stepNames = [...]string{"", "fork", "process group", "umask", "nice", "cpu affinity", "standard files", "working directory", "resource limits", "exec"}

// String names the step for people.
func (s Step) String() string {
	if s < 0 || int(s) >= len(stepNames) {
		return fmt.Sprintf("step %d", int(s))
	}
	return stepNames[s]
}

// Options of a spawner.
type Options struct {
	Spool  [2]*os.File // opened with O_APPEND, or nil; the caller keeps them
	TmpDir string      // the slot's temporary directory, watched for leftovers; "" = none
	scan   bool        // tests: find descendants as on a kernel without the children files
}

// Spawner is one spawner process. Start and Signal may be called from one goroutine at a time, Next from another.
type Spawner struct {
	PID  int
	proc *os.Process
	once sync.Once
	ctl  *os.File
	raw  syscall.RawConn
	buf  []byte // request under construction
	in   []byte // read, not yet parsed
	room [8 * C.sizeof_struct_rep]byte
}

// New starts a spawner process.
func New(o Options) (*Spawner, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("start spawner: %w", err)
	}
	defer null.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start spawner: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "spawner")
	defer theirs.Close()
	unix.SetNonblock(fds[0], true)
	s := &Spawner{ctl: os.NewFile(uintptr(fds[0]), "spawner")}
	if s.raw, err = s.ctl.SyscallConn(); err == nil {
		files := []*os.File{null, null, null, theirs, null, orNull(o.Spool[0], null), orNull(o.Spool[1], null)}
		argv := []string{"frond: spawner", o.TmpDir}
		if o.scan {
			argv = append(argv, "scan")
		}
		s.proc, err = os.StartProcess(Executable, argv, &os.ProcAttr{Files: files, Env: []string{}})
	}
	if err != nil {
		s.ctl.Close()
		return nil, fmt.Errorf("start spawner: %w", err)
	}
	s.PID = s.proc.Pid
	return s, nil
}

func orNull(f, null *os.File) *os.File {
	if f != nil {
		return f
	}
	return null
}

// Start gives the spawner its next task; the one before must have ended. It blocks only when the request is larger than what the
// socket holds (over 100 KiB) and the spawner is slow to read. Errors: E2BIG over 64 MiB, or the spawner is gone.
func (s *Spawner) Start(r *Request) error {
	s.encode(r)
	if len(s.buf) > 64<<20 {
		return fmt.Errorf("start task: %w", syscall.E2BIG)
	}
	sent := 0
	if len(r.Files) > 0 {
		n, err := s.sendFiles(r.Files)
		if err != nil {
			return fmt.Errorf("start task: %w", err)
		}
		sent = n
	}
	_, err := s.ctl.Write(s.buf[sent:])
	if cap(s.buf) > 1<<20 {
		s.buf = nil
	}
	if err != nil {
		return fmt.Errorf("start task: %w", err)
	}
	return nil
}

func (s *Spawner) sendFiles(files []*os.File) (n int, err error) {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	oob := unix.UnixRights(fds...)
	werr := s.raw.Write(func(fd uintptr) bool {
		n, err = unix.SendmsgN(int(fd), s.buf, oob, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		return err != unix.EAGAIN
	})
	return n, errors.Join(err, werr)
}

func (s *Spawner) encode(r *Request) {
	aff := affinity(r.CPUs)
	h := C.struct_req{_type: C.REQ_START, nargs: C.uint32_t(len(r.Argv)), nfds: C.uint32_t(len(r.FDs)), nrlims: C.uint32_t(len(r.RLimits)),
		naff: C.uint32_t(len(aff)), umask: C.int32_t(r.Umask), nice: C.int32_t(r.Nice), files: C.int32_t(len(r.Files))}
	if r.TTY {
		h.tty = 1
	}
	if r.Self {
		h.self = 1
	}
	b := append(s.buf[:0], unsafe.Slice((*byte)(unsafe.Pointer(&h)), unsafe.Sizeof(h))...)
	for _, f := range r.FDs {
		b = binary.NativeEndian.AppendUint32(b, uint32(int32(f.Target)))
		b = binary.NativeEndian.AppendUint32(b, uint32(int32(f.Source)))
	}
	for _, l := range r.RLimits {
		b = binary.NativeEndian.AppendUint64(b, uint64(l.Resource))
		b = binary.NativeEndian.AppendUint64(b, l.Value)
	}
	b = append(b, aff...)
	b = append(append(b, r.Dir...), 0)
	for _, a := range r.Argv {
		b = append(append(b, a...), 0)
	}
	for _, e := range r.Env {
		b = append(b, e...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	s.buf = b
}

// affinity is the cpu mask as sched_setaffinity takes it.
func affinity(cpus []int) []byte {
	var words []uint64
	for _, c := range cpus {
		for len(words) <= c/64 {
			words = append(words, 0)
		}
		words[c/64] |= 1 << (c % 64)
	}
	var b []byte
	for _, w := range words {
		b = binary.NativeEndian.AppendUint64(b, w)
	}
	return b
}

// Signal sends sig to every process of the task; nothing happens when none runs.
func (s *Spawner) Signal(sig syscall.Signal) error {
	h := C.struct_req{len: C.sizeof_struct_req, _type: C.REQ_SIGNAL, sig: C.int32_t(sig)}
	if _, err := s.ctl.Write(unsafe.Slice((*byte)(unsafe.Pointer(&h)), unsafe.Sizeof(h))); err != nil {
		return fmt.Errorf("signal task: %w", err)
	}
	return nil
}

// SignalMain sends sig to the main process of the task alone.
func (s *Spawner) SignalMain(sig syscall.Signal) error {
	h := C.struct_req{len: C.sizeof_struct_req, _type: C.REQ_SIGNAL, sig: C.int32_t(sig), self: 1}
	if _, err := s.ctl.Write(unsafe.Slice((*byte)(unsafe.Pointer(&h)), unsafe.Sizeof(h))); err != nil {
		return fmt.Errorf("signal task: %w", err)
	}
	return nil
}

// Next waits for a report. io.EOF: the spawner has ended.
func (s *Spawner) Next() (Report, error) {
	for len(s.in) < C.sizeof_struct_rep {
		n, err := s.ctl.Read(s.room[:])
		if err != nil {
			return Report{}, err
		}
		if n == 0 {
			return Report{}, io.EOF
		}
		s.in = append(s.in, s.room[:n]...)
	}
	var c C.struct_rep
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&c)), unsafe.Sizeof(c)), s.in)
	s.in = append(s.in[:0], s.in[C.sizeof_struct_rep:]...)
	return Report{Kind: Kind(c._type), PID: int(c.pid), Status: int(c.status), Err: syscall.Errno(c.err), Step: Step(c.step),
		TmpDirty: c.flags&C.FLAG_TMPDIR_DIRTY != 0, Start: int64(c.start_ns), End: int64(c.end_ns), CPU: float64(c.cpu_us) / 1e6,
		MaxRSS: int64(c.maxrss_kib), Size: [2]int64{int64(c.size[0]), int64(c.size[1])}}, nil
}

// Close ends the spawner and its task at once, and waits until nothing of them is left. Next then fails.
func (s *Spawner) Close() {
	s.once.Do(func() {
		s.ctl.Close()
		s.proc.Wait()
	})
}

// Terminated makes entries for Request.Env of NAME=value strings.
func Terminated(env []string) []byte {
	var b bytes.Buffer
	for _, e := range env {
		b.WriteString(e)
		b.WriteByte(0)
	}
	return b.Bytes()
}
