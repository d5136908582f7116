package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/frond-hpc/frond/overlay/boot"
)

// brokerProc is one broker process of the supervisor.
type brokerProc struct {
	rank int
	pid  int
	cmd  *exec.Cmd
	stop func(syscall.Signal) // of the leader that runs inside of this process; nil = cmd
}

func (b *brokerProc) signal(sig syscall.Signal) {
	if b.stop != nil {
		b.stop(sig)
		return
	}
	b.cmd.Process.Signal(sig)
}

// liveness is a pipe of which every broker has the reading end and the supervisor alone the writing end: it ends with the
// supervisor, however that dies.
type liveness struct{ r, w *os.File }

func newLiveness() (*liveness, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make liveness pipe: %w", err)
	}
	return &liveness{r, w}, nil
}

// brokerLiveFD is the liveness pipe in a broker.
const brokerLiveFD = 3

// startBroker starts the broker process of a rank; its end is reported to events. It has a session of its own, out of reach of
// the terminal's signals. Should it be stopped when the supervisor dies, the parent-death signal continues it, so that it
// sees the end of the liveness pipe. With again it takes the place of one that died.
func startBroker(info *boot.Info, rank int, again bool, environ []string, live *liveness, events chan<- any) (*brokerProc, error) {
	log, err := os.OpenFile(info.LogFile(rank), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start broker %d: %w", rank, err)
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{"frond", "broker", "--rank", strconv.Itoa(rank), fmt.Sprintf("--again=%t", again), "--rundir", info.RunDir},
		Env:         environ,
		Dir:         info.BrokerDir(rank),
		Stdout:      log,
		Stderr:      log,
		ExtraFiles:  []*os.File{live.r},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGCONT},
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start broker %d: %w", rank, err)
	}
	b := &brokerProc{rank: rank, pid: cmd.Process.Pid, cmd: cmd}
	go func() {
		cmd.Wait()
		events <- evExit{rank: rank, pid: b.pid, clean: cmd.ProcessState.Success(), how: died(cmd.ProcessState)}
	}()
	return b, nil
}

// localLauncher runs brokers as child processes: ranks 0 to size-1.
type localLauncher struct {
	info    *boot.Info
	size    int
	environ []string
	live    *liveness
	events  chan<- any
	procs   map[int]*brokerProc // those that live
	inside  *env                // not nil: the leader, the only broker, runs in this process
}

func (l *localLauncher) launch() error {
	for rank := range l.size {
		if err := l.start(rank, false); err != nil {
			return err
		}
	}
	return nil
}

// start starts one broker; again: in place of one that died.
func (l *localLauncher) start(rank int, again bool) error {
	var b *brokerProc
	var err error
	if l.inside != nil {
		b, err = startInside(l.inside, l.info, l.events)
	} else {
		b, err = startBroker(l.info, rank, again, l.environ, l.live, l.events)
	}
	if err == nil {
		l.procs[rank] = b
	}
	return err
}

func (l *localLauncher) signal(sig syscall.Signal) {
	for _, b := range l.procs {
		b.signal(sig)
	}
}

func (l *localLauncher) left() bool { return len(l.procs) > 0 }

func (l *localLauncher) why(rank int) string { return whyFailed(l.info, rank) }

func (l *localLauncher) close() {
	l.live.w.Close()
	l.live.r.Close()
}

// died says how a process ended.
func died(st *os.ProcessState) string {
	ws, ok := st.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return "killed by signal " + strconv.Itoa(int(ws.Signal())) + " (" + ws.Signal().String() + ")"
	}
	return "exit code " + strconv.Itoa(st.ExitCode())
}

// whyFailed is the sentence a broker left when it could not go on, or the last lines of its log.
func whyFailed(info *boot.Info, rank int) string {
	if data, err := os.ReadFile(failureFile(info, rank)); err == nil && len(data) > 0 {
		return strings.TrimSpace(string(data))
	}
	lines := endOfFile(info.LogFile(rank), 5)
	if len(lines) == 0 {
		return "its log is empty"
	}
	return "its log ends with:\n  " + strings.Join(lines, "\n  ")
}

// failureFile is where a broker leaves the error with which it exits.
func failureFile(info *boot.Info, rank int) string { return info.BrokerDir(rank) + "/failure" }

// endOfFile returns at most n lines from the last MiB of a file: those at its end, or from where a Go program says that it crashed.
func endOfFile(path string, n int) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	const tail = 1 << 20
	if fi, err := f.Stat(); err == nil && fi.Size() > tail {
		f.Seek(-tail, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(f, tail))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if lines[0] == "" {
		return nil
	}
	for i, l := range lines {
		if strings.HasPrefix(l, "panic: ") || strings.HasPrefix(l, "fatal error: ") {
			return lines[i:min(len(lines), i+6*n)]
		}
	}
	return lines[max(0, len(lines)-n):]
}
