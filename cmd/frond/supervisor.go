package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/exec/guard"
	"github.com/frond-hpc/frond/overlay/boot"
)

// phase is where a supervisor stands. It only goes forward.
type phase int

const (
	starting phase = iota // brokers are on their way
	running               // the program runs (or nothing: a detached instance without a command)
	ending                // a signal came: the program is given time to end
	draining              // the program has ended, jobs are active
	stopping              // the instance shuts down
)

// How long a supervisor waits before it becomes harsher.
const (
	startLimit   = 60 * time.Second // for all brokers of one host to be online
	programGrace = 3 * time.Second  // for the program, after a signal was passed on
	leaderLimit  = 60 * time.Second // for the leader to end jobs and exit
	brokerLimit  = 3 * time.Second  // for the others once it has
	maxRestarts  = 3                // of the leader
	sameEnd      = 2 * time.Second  // signals of a system within this time are one
)

// Events of the supervisor's loop, beside evExit and os.Signal.
type (
	evOnline struct { // all brokers that were waited for are online, or why not
		count int
		err   error
	}
	evProgram  struct{ status syscall.WaitStatus }
	evIdle     struct{ err error } // no job is active any more
	evProgress struct{ active int }
	evStarted  struct{ online, size int }
	evKept     struct{ active int } // so many jobs will stay in the state directory
	evShutdown struct{ err error }  // the leader has begun to shut down, or why not
	evTimer    struct{ phase phase }
)

// supervisor has the brokers started, runs the program, and sees to it that nothing is left. All of its state belongs to
// the goroutine of run; others send it events.
type supervisor struct {
	e        *env
	o        *startOptions
	info     *boot.Info
	dir      *boot.RunDir
	reg      boot.Registry
	entry    boot.Entry
	plan     *launchPlan
	local    *localLauncher
	fleet    *fleet          // nil if all brokers are on this host
	link     *parentLink     // to the instance of which this is a child; nil = it is none
	crews    []launcher      // all of them
	listener *clientListener // nil without --listen

	events     chan any
	phase      phase
	await      int // brokers that are waited for at start
	program    *guard.Program
	ended      bool // the program
	code       int
	err        error // why the instance failed
	signals    int
	lastSignal time.Time
	keep       bool // a signal's end keeps jobs
	restarts   int
	online     int       // brokers, as last heard
	limit      time.Time // for the start
	began      time.Time
	clients    context.Context // of the goroutines that talk to the leader
	shown      bool            // a progress line stands on the terminal
	told       bool            // that jobs are active
	end        endWatch
	expires    atomic.Pointer[float64] // what the leader is told, as the last one knows it
}

// run supervises until everything has ended, and returns the command's exit code.
func (s *supervisor) run(ctx context.Context) error {
	defer s.cleanup()
	clients, cancel := context.WithCancel(ctx)
	defer cancel()
	s.clients = clients
	for len(s.events) > 0 { // signals that came while it was prepared
		s.step(<-s.events)
	}
	if s.phase == starting {
		s.watchEnd()
		s.askNoKill()
		s.startAll()
	}
	for !s.done() {
		s.step(<-s.events)
	}
	switch {
	case s.err != nil:
		return s.err
	case s.code != 0:
		return &exitError{Code: s.code}
	}
	return nil
}

func (s *supervisor) done() bool {
	return s.phase == stopping && !slices.ContainsFunc(s.crews, launcher.left) && (s.program == nil || s.ended)
}

func (s *supervisor) step(ev any) {
	switch ev := ev.(type) {
	case evExit:
		s.onExit(ev)
	case os.Signal:
		s.onSignal(ev)
	case evOnline:
		s.onOnline(ev)
	case evProgram:
		s.onProgram(ev)
	case evProgress:
		s.onProgress(ev)
	case evStarted:
		s.onStarted(ev)
	case evKept:
		s.onKept(ev)
	case evIdle:
		s.onIdle(ev)
	case evShutdown:
		s.onShutdown(ev)
	case evTimer:
		s.onTimer(ev)
	case evWarning:
		s.onWarning(ev)
	case evBrokerGone:
		s.onBrokerGone(ev)
	case evRefused:
		s.fail(ev.err)
	case evEnd:
		s.onEnd(ev)
	case evEndUnknown:
		s.say("when the allocation ends is not known (--time-limit says it): %v", ev.err)
	case evTimeUp:
		s.onTimeUp()
	default:
		s.onFleet(ev)
	}
}

// catchSignals turns signals into events, from before the first thing is made that would be left until all has been taken away. SIGHUP stays ignored if it was (nohup); SIGINT does not, which shells without job control
// have ignored by whatever they start in the background.
func (s *supervisor) catchSignals() (stop func()) {
	ch := make(chan os.Signal, 8)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGXCPU)
	if s.o.child != nil {
		signal.Notify(ch, syscall.SIGALRM)
	}
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(ch, syscall.SIGHUP)
	}
	quit := make(chan struct{})
	go func() {
		for {
			select {
			case sig := <-ch:
				select {
				case s.events <- sig:
				case <-quit:
				}
			case <-quit:
				return
			}
		}
	}()
	return func() { signal.Stop(ch); close(quit) }
}

func (s *supervisor) after(d time.Duration) {
	ph := s.phase
	time.AfterFunc(d, func() { s.events <- evTimer{ph} })
}

// startAll starts every broker, the leader first, and waits for them on the side.
func (s *supervisor) startAll() {
	for _, l := range s.crews {
		if err := l.launch(); err != nil {
			s.fail(err)
			return
		}
	}
	s.limit = time.Now().Add(s.o.startLimit())
	s.waitFor(s.info.Size)
}

// waitFor waits for so many brokers to be online.
func (s *supervisor) waitFor(count int) {
	s.await = count
	go func() {
		ctx, cancel := context.WithDeadline(s.clients, s.limit)
		defer cancel()
		err := waitOnline(ctx, s.info, count, s.leaderUp, func(n int) { s.events <- evStarted{n, count} })
		s.firstAnswer(ctx)
		s.events <- evOnline{count, err}
	}()
}

func (s *supervisor) onOnline(ev evOnline) {
	s.clearLine()
	if s.phase != starting || ev.count != s.await {
		return
	}
	if ev.err != nil {
		err := s.whoIsMissing(ev.err)
		if s.o.minNodes == 0 || s.online < s.o.minNodes || s.await == s.online {
			s.fail(err)
			return
		}
		s.goOn("some", err)
		s.limit = time.Now().Add(leaderLimit)
		s.waitFor(s.online)
		return
	}
	s.phase = running
	if s.fleet != nil {
		s.fleet.way.close() // no ticket is needed any more
	}
	s.register()
	if s.o.checkOnly {
		s.checked()
		return
	}
	s.runProgram()
	s.announce()
}

// register makes the instance known by name. Without that it runs all the same.
func (s *supervisor) register() {
	if s.o.unlisted {
		return
	}
	var err error
	if s.reg, err = boot.OpenRegistry(s.e.getenv); err == nil {
		s.neighbours()
		err = s.publish()
	}
	if err != nil {
		s.say("it will not be found by its name %s: %v", s.info.Name, err)
	}
}

// onProgram: the command has ended; its code is the supervisor's.
func (s *supervisor) onProgram(ev evProgram) {
	s.ended = true
	if s.phase != stopping || s.signals == 0 { // else it is the signal that ended it, whatever it took
		s.code = statusCode(ev.status)
	}
	switch s.phase {
	case running:
		s.afterProgram()
	case ending:
		s.interrupted()
	}
}

// afterProgram does what --on-exit says.
func (s *supervisor) afterProgram() {
	switch s.o.onExit {
	case "keep":
		go func() { s.events <- evKept{countActive(s.clients, s.info)} }()
	case "cancel":
		s.stop(false, "the command has ended")
	default:
		s.drain()
	}
}

// onKept: jobs are left where they are.
func (s *supervisor) onKept(ev evKept) {
	if ev.active > 0 {
		s.say("%d active jobs stay in %s: 'frond start --statedir %s' goes on with them", ev.active, s.info.StateDir, s.info.StateDir)
	}
	s.stop(true, "the command has ended")
}

// drain waits until no job is active.
func (s *supervisor) drain() {
	s.phase = draining
	go func() { s.events <- evIdle{watchActive(s.clients, s.info, s.events)} }()
}

func (s *supervisor) onIdle(ev evIdle) {
	s.clearLine()
	if s.phase != draining {
		return
	}
	if ev.err != nil {
		s.say("cannot wait for the active jobs: %v", ev.err)
	}
	s.stop(false, "no job is active")
}

// onSignal passes the first signal on and ends everything; the next one hastens.
func (s *supervisor) onSignal(sig os.Signal) {
	switch sig {
	case syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGXCPU: // the warning before an end, for the program if it wants it: else it would die of it
		if num := sig.(syscall.Signal); s.program != nil && !s.ended && catches(s.program.PID, num) {
			syscall.Kill(s.program.PID, num)
		}
		return
	case syscall.SIGALRM: // its time is up
		sig = syscall.SIGTERM
	}
	num := sig.(syscall.Signal)
	if num != syscall.SIGINT && time.Since(s.lastSignal) < sameEnd {
		return // a scheduler tells an end to all processes, and some of them pass it on
	}
	s.lastSignal = time.Now()
	s.signals++
	if s.signals > 1 && s.phase >= ending && s.phase != draining {
		s.hasten()
		return
	}
	s.endBy(num, programGrace)
}

// endBy begins the end by a signal: the program gets it, and some time.
func (s *supervisor) endBy(num syscall.Signal, grace time.Duration) {
	s.code = 128 + int(num)
	s.keep = s.keepsOn(num)
	if s.phase != running || s.program == nil {
		s.interrupted()
		return
	}
	s.phase = ending
	s.program.Signal(num)
	s.after(grace)
}

// keepsOn tells whether jobs are kept when the instance ends by a signal. A user who interrupts wants an end; TERM and HUP
// come from a system, as at the end of an allocation, and then a state directory is there to go on from.
func (s *supervisor) keepsOn(sig syscall.Signal) bool {
	return !s.info.TempState && (s.o.onExit == "keep" || s.o.onExit == "wait" && sig != syscall.SIGINT)
}

// interrupted shuts down because of a signal.
func (s *supervisor) interrupted() {
	if s.phase == stopping {
		return
	}
	if s.keep && s.phase != starting {
		s.say("jobs that have not ended stay in %s: 'frond start --statedir %s' goes on with them", s.info.StateDir, s.info.StateDir)
	}
	s.stop(s.keep, "interrupted")
}

// hasten kills what would not end in time.
func (s *supervisor) hasten() {
	if s.phase == ending {
		s.interrupted()
	}
	s.signalBrokers(syscall.SIGKILL)
}

// onExit: a broker has ended.
func (s *supervisor) onExit(ev evExit) {
	delete(s.local.procs, ev.rank)
	switch {
	case s.phase == stopping:
		if ev.rank == 0 {
			s.signalBrokers(syscall.SIGTERM)
			s.after(brokerLimit)
		}
	case s.phase == starting:
		s.startFailed(ev)
	case ev.clean: // told to by someone: 'frond shutdown'
		if ev.rank == 0 {
			s.stopped()
		}
	case ev.rank == 0:
		s.leaderDied(ev)
	default:
		s.brokerDied(ev)
	}
}

// fail ends everything because of err.
func (s *supervisor) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.stop(true, "failed")
}

// stop shuts the instance down: the program first, then jobs and brokers.
func (s *supervisor) stop(keep bool, reason string) {
	if s.phase == stopping {
		return
	}
	s.phase = stopping
	program, req := s.program, api.ShutdownReq{Keep: keep, Reason: reason, Grace: s.end.grace.Seconds()}
	_, leader := s.local.procs[0]
	go func() {
		if program != nil {
			program.Close()
		}
		err := errNoLeader
		if leader {
			err = shutdownInstance(s.clients, s.info, req)
		}
		s.events <- evShutdown{err}
	}()
	s.after(leaderLimit)
}

var errNoLeader = errors.New("there is no leader")

// stopped: the instance was shut down by someone else; what is left is the program.
func (s *supervisor) stopped() {
	if s.program == nil {
		s.code = 0
	} else {
		s.say("the instance was shut down")
	}
	s.stop(true, "")
}

func (s *supervisor) onShutdown(ev evShutdown) {
	if ev.err != nil {
		s.signalBrokers(syscall.SIGTERM)
		s.after(brokerLimit)
	}
}

func (s *supervisor) onTimer(ev evTimer) {
	switch {
	case ev.phase != s.phase:
	case s.phase == ending:
		s.interrupted()
	case s.phase == stopping:
		s.signalBrokers(syscall.SIGKILL)
	}
}

func (s *supervisor) signalBrokers(sig syscall.Signal) {
	for _, l := range s.crews {
		l.signal(sig)
	}
}

// cleanup takes away all that would be left: program, registry entry, run directory.
func (s *supervisor) cleanup() {
	if s.program != nil {
		s.program.Close()
	}
	if s.reg.Dir != "" {
		s.reg.Remove(s.entry)
	}
	if s.listener != nil {
		s.listener.close()
	}
	for _, l := range s.crews {
		l.close()
	}
	if s.dir != nil {
		s.dump()
		s.keepHistory()
		s.dir.Remove()
		if s.o.child == nil { // child instances whose leaders were killed have left theirs
			boot.Sweep(filepath.Dir(s.dir.Path))
		}
	}
}

// say prints a line for the user.
func (s *supervisor) say(format string, args ...any) {
	s.clearLine()
	verb := "frond start"
	if s.o.child != nil {
		verb = "frond"
	}
	fmt.Fprintf(s.e.stderr, verb+": "+format+"\n", args...)
}

func (s *supervisor) clearLine() {
	if s.shown {
		io.WriteString(s.e.stderr, "\r\x1b[K")
		s.shown = false
	}
}

// statusCode is the exit code for a wait status: 128 + the signal's number for a death by one.
func statusCode(st syscall.WaitStatus) int {
	if st.Signaled() {
		return 128 + int(st.Signal())
	}
	return st.ExitStatus()
}
