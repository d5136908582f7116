package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/exec/spawner"
	"github.com/frond-hpc/frond/jobspec"
	"golang.org/x/sys/unix"
)

// stdio is what a task's three descriptors become, until it has been started.
type stdio struct {
	t     *task
	fds   []spawner.FD
	files []*os.File // to be sent
	mine  []*os.File // of files, those to be closed when they have been
	input *os.File   // our end of stdin
	tty   bool       // the task has a terminal
}

// openStdio opens what a task needs.
func (d *Driver) openStdio(t *task) (*stdio, error) {
	j, sh := t.job, t.job.shell()
	io := &stdio{t: t, fds: make([]spawner.FD, 3, 4)}
	pty := sh.PTY.Has(t.rank)
	t.spool = len(j.tasks) == 1 && !j.Watched && !sh.Unbuffered && !pty
	var err error
	if pty {
		err = io.openPTY()
	} else {
		err = io.openInput(d)
	}
	for i, out := range []jobspec.Output{sh.Stdout, sh.Stderr} {
		if err == nil && (!pty || out.Path != "") {
			err = io.openOutput(d, i+1, out)
		}
	}
	if err == nil && j.pmi != nil {
		err = io.openPMI()
	}
	if err != nil {
		io.abandon()
		return nil, err
	}
	return io, nil
}

func (io *stdio) send(target int, f *os.File, mine bool) {
	fd := spawner.FD{Target: target, Source: len(io.files)}
	if target < len(io.fds) {
		io.fds[target] = fd
	} else {
		io.fds = append(io.fds, fd)
	}
	io.files = append(io.files, f)
	if mine {
		io.mine = append(io.mine, f)
	}
}

func (io *stdio) openInput(d *Driver) error {
	t := io.t
	switch path := t.job.shell().Stdin; {
	case path != "":
		f, err := os.Open(t.path(d, path))
		if err != nil {
			return naming("input file", err)
		}
		io.send(0, f, true)
	case t.stdin != nil:
		r, w, err := pipe()
		if err != nil {
			return err
		}
		unix.SetNonblock(w, true)
		io.input = os.NewFile(uintptr(w), "stdin")
		io.send(0, os.NewFile(uintptr(r), "stdin"), true)
	default:
		io.fds[0] = spawner.FD{Target: 0, Source: spawner.Null}
	}
	return nil
}

func (io *stdio) openOutput(d *Driver, stream int, out jobspec.Output) error {
	t := io.t
	var file *os.File
	if out.Path != "" {
		f, err := t.job.files.open(d, t, out)
		if err != nil {
			return err
		}
		if !out.Label && !t.job.shell().Label {
			io.send(stream, f, false)
			return nil
		}
		file = f
	} else if t.spool {
		io.fds[stream] = spawner.FD{Target: stream, Source: [...]int{0, spawner.SpoolOut, spawner.SpoolErr}[stream]}
		return nil
	}
	r, w, err := pipe()
	if err != nil {
		return err
	}
	unix.SetNonblock(r, true)
	t.pumps = append(t.pumps, &pump{t: t, stream: stream, r: os.NewFile(uintptr(r), "output"), file: file, done: make(chan struct{})})
	io.send(stream, os.NewFile(uintptr(w), "output"), true)
	return nil
}

// pipe makes a pipe, both ends blocking as programs expect them.
func pipe() (r, w int, err error) {
	var p [2]int
	err = unix.Pipe2(p[:], unix.O_CLOEXEC)
	return p[0], p[1], err
}

// abandon closes everything of a task that will not be started.
func (io *stdio) abandon() {
	if io == nil {
		return
	}
	for _, f := range io.mine {
		f.Close()
	}
	if io.input != nil {
		io.input.Close()
	}
	for _, p := range io.t.pumps {
		p.r.Close()
	}
	io.t.pumps = nil
	if c := io.t.pmi; c != nil {
		c.conn.Close()
		io.t.pmi = nil
	}
}

// handedOver begins reading and feeding: the task has its ends.
func (io *stdio) handedOver(d *Driver) {
	if io == nil {
		return
	}
	for _, f := range io.mine {
		f.Close()
	}
	for _, p := range io.t.pumps {
		d.wg.Add(1)
		go p.run(d)
	}
	if c := io.t.pmi; c != nil {
		d.wg.Add(1)
		go c.serve(d)
	}
	if io.input != nil {
		d.wg.Add(1)
		go io.t.stdin.run(d, io.input)
	}
}

// path expands a template; a relative path is below the job's working directory.
func (t *task) path(d *Driver, template string) string {
	p := d.expand(t, template)
	if !filepath.IsAbs(p) {
		p = filepath.Join(t.dir(d), p)
	}
	return p
}

// files are the output files of a job, each opened once: tasks and streams that name the same file share it.
type files struct{ byPath map[string]*os.File }

// open opens the file that out names for t, in append mode so that writers do not overwrite each other. A file that tasks on several
// nodes write to is truncated by the first node only.
func (fs *files) open(d *Driver, t *task, out jobspec.Output) (*os.File, error) {
	path := t.path(d, out.Path)
	if f := fs.byPath[path]; f != nil {
		return f, nil
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if !out.Append && (t.job.Parts[0].NodeID == 0 || ownFile(out.Path)) {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o666)
	if err != nil {
		return nil, naming("output file", err)
	}
	if fs.byPath == nil {
		fs.byPath = map[string]*os.File{}
	}
	fs.byPath[path] = f
	return f, nil
}

// naming says what the path in err is.
func naming(what string, err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return &os.PathError{Op: pe.Op, Path: what + " " + pe.Path, Err: pe.Err}
	}
	return err
}

// ownFile tells whether a template gives each node or task a file of its own.
func ownFile(template string) bool {
	own := false
	jobspec.Expand(template, func(name string) (string, bool) {
		own = own || strings.HasPrefix(name, "task") || strings.HasPrefix(name, "node.")
		return "", false
	})
	return own
}

func (fs *files) close() {
	for _, f := range fs.byPath {
		f.Close()
	}
}

// pump reads a pipe to its end: to the service, or with labels to a file.
type pump struct {
	t      *task
	stream int
	r      *os.File
	file   *os.File
	part   []byte // of a line, for labels
	done   chan struct{}
}

// lateOutput is how long a pipe is read on after the task and all its descendants are dead: someone who is none may hold it.
const lateOutput = time.Second

func (p *pump) run(d *Driver) {
	defer d.wg.Done()
	defer close(p.done)
	defer p.r.Close()
	buf := make([]byte, 64<<10)
	for d.pass() {
		n, err := p.r.Read(buf)
		if n > 0 {
			p.take(d, bytes.Clone(buf[:n]))
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.rest(d)
		}
		if err != nil {
			break
		}
	}
	p.finish(d)
}

// rest takes what is in the pipe, without waiting for more.
func (p *pump) rest(d *Driver) {
	p.r.SetReadDeadline(time.Time{})
	raw, err := p.r.SyscallConn()
	buf := make([]byte, 64<<10)
	for err == nil && d.pass() {
		n := 0
		err = raw.Read(func(fd uintptr) bool {
			n, _ = unix.Read(int(fd), buf)
			return true
		})
		if n <= 0 {
			return
		}
		p.take(d, bytes.Clone(buf[:n]))
	}
}

func (p *pump) take(d *Driver, data []byte) {
	if p.file == nil {
		d.tell(exec.TaskEvent{Kind: exec.TaskOutput, Run: p.t.job.ID, Task: p.t.rank, Time: now(), Stream: uint8(p.stream), Data: data})
		return
	}
	p.part = append(p.part, data...)
	if end := bytes.LastIndexByte(p.part, '\n') + 1; end > 0 {
		p.file.Write(label(p.t.rank, p.part[:end]))
		p.part = append(p.part[:0], p.part[end:]...)
	}
}

func (p *pump) finish(d *Driver) {
	if p.file == nil {
		d.tell(exec.TaskEvent{Kind: exec.TaskOutput, Run: p.t.job.ID, Task: p.t.rank, Time: now(), Stream: uint8(p.stream), EOF: true})
	} else if len(p.part) > 0 {
		p.file.Write(label(p.t.rank, append(p.part, '\n')))
	}
}

// label puts "RANK: " before each line.
func label(rank int, lines []byte) []byte {
	prefix := fmt.Sprintf("%d: ", rank)
	var out []byte
	for line := range bytes.Lines(lines) {
		out = append(append(out, prefix...), line...)
	}
	return out
}

// wait waits for the pump's end when the task is dead.
func (p *pump) wait() {
	p.r.SetReadDeadline(time.Now().Add(lateOutput))
	<-p.done
}

// feeder writes standard input into a task's pipe. A nil feeder takes nothing.
type feeder struct {
	mu     sync.Mutex
	more   *sync.Cond
	queue  [][]byte
	eof    bool
	closed bool
	file   *os.File

	terminal bool // the end of input is a character
	last     byte // written
}

func newFeeder() *feeder {
	f := &feeder{}
	f.more = sync.NewCond(&f.mu)
	return f
}

func (f *feeder) add(data []byte, eof bool) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.eof || f.closed {
		return
	}
	if len(data) > 0 {
		f.queue = append(f.queue, data)
	}
	f.eof = eof
	f.more.Signal()
}

// close ends the feeding: the task is dead.
func (f *feeder) close() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed, f.queue = true, nil
	if f.file != nil {
		f.file.SetWriteDeadline(time.Now())
	}
	f.more.Signal()
}

func (f *feeder) run(d *Driver, w *os.File) {
	defer d.wg.Done()
	defer w.Close()
	f.mu.Lock()
	f.file = w
	f.mu.Unlock()
	for {
		data := f.next()
		if data == nil {
			break
		}
		if _, err := w.Write(data); err != nil {
			f.close()
			return
		}
		if f.terminal {
			f.last = data[len(data)-1]
		}
	}
	if f.terminal {
		_, _ = w.Write(endOfInput(f.last)) // a task that is dead does not care
	}
}

// next waits for data; nil = the end.
func (f *feeder) next() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queue) == 0 && !f.eof && !f.closed {
		f.more.Wait()
	}
	if f.closed || len(f.queue) == 0 {
		return nil
	}
	data := f.queue[0]
	f.queue = f.queue[1:]
	return data
}
