package main

import (
	"errors"
	"fmt"
	"strings"
)

// leaderDied brings the leader back, if its state is not lost with it.
func (s *supervisor) leaderDied(ev evExit) {
	how := fmt.Sprintf("the leader (broker 0, pid %d) died: %s", ev.pid, s.how(ev))
	switch {
	case s.info.TempState:
		s.fail(errors.New(how + "; its jobs are lost. With --statedir it would have been restarted"))
		return
	case s.restarts >= maxRestarts:
		s.fail(fmt.Errorf("%s; it has been restarted %d times already. The state is in %s", how, s.restarts, s.info.StateDir))
		return
	}
	s.restarts++
	s.say("%s; restarting it from %s (%d of %d)", how, s.info.StateDir, s.restarts, maxRestarts)
	if err := s.local.start(0, true); err != nil {
		s.fail(err)
	}
}

// brokerDied tells the leader at once, which need not wait for leases then.
func (s *supervisor) brokerDied(ev evExit) {
	s.say("broker %d (pid %d%s) died: %s; jobs that ran there run again elsewhere", ev.rank, ev.pid, ev.where, s.how(ev))
	go tellDead(s.clients, s.info, ev.rank, ev.pid)
}

// how says how a broker ended and, if it did so by itself and on this host, what its log says of that: the log goes with the run directory.
func (s *supervisor) how(ev evExit) string {
	if ev.where != "" || !strings.HasPrefix(ev.how, "exit code") {
		return ev.how
	}
	return ev.how + ", " + whyFailed(s.info, ev.rank)
}

// onBrokerGone: the parent says that the task of a broker has ended.
func (s *supervisor) onBrokerGone(ev evBrokerGone) {
	switch {
	case s.phase == stopping:
	case s.phase == starting:
		s.fail(fmt.Errorf("broker %d did not start: %s", ev.rank, s.link.why(ev.rank)))
	default:
		s.say("broker %d, task %d of job %s, has ended or is lost; jobs that ran there run again elsewhere", ev.rank, ev.rank, s.o.child.Job)
		go tellDead(s.clients, s.info, ev.rank, 0)
	}
}
