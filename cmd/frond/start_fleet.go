package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/frond-hpc/frond/overlay/meet"
	"github.com/frond-hpc/frond/resource"
	"github.com/vmihailenco/msgpack/v5"
)

// What the supervisor does with brokers on other hosts.

// onFleet takes the events of the fleet.
func (s *supervisor) onFleet(ev any) {
	if s.fleet == nil {
		return
	}
	switch ev := ev.(type) {
	case meet.Reported:
		s.fleet.report(ev)
		s.showReported()
	case meet.Said:
		s.onSaid(ev)
	case meet.Hung:
		s.fleet.hung(ev)
	case evGrace:
		s.fleet.grace(ev)
	case evLost:
		s.fleet.lost(ev)
		if s.phase == starting {
			s.reconsider()
		}
	case evProcEnd:
		s.fleet.procEnded(ev)
		if s.phase == starting {
			s.reconsider()
		}
	case evLeader:
		s.onLeader()
	}
}

// leaderUp is called when the leader takes clients.
func (s *supervisor) leaderUp() {
	if s.fleet != nil {
		s.events <- evLeader{}
	}
	if s.link != nil {
		s.link.post()
	}
}

// onLeader tells the brokers that have come where the leader is.
func (s *supervisor) onLeader() {
	addr, err := s.info.LoadLeader()
	if err != nil {
		s.fail(err)
		return
	}
	s.fleet.leaderIs(addr)
}

func (s *supervisor) onSaid(ev meet.Said) {
	slot := s.fleet.byPeer(ev.Peer)
	switch w := ev.Word; {
	case slot == nil:
	case w.Failed != nil:
		s.fleet.relaunch(w.Failed.Indexes, true)
	case w.Joined != nil:
		slot.joined = w.Joined
		slot.took = time.Since(s.fleet.began)
		s.checked()
	case w.Ended && !slot.over:
		s.fleet.ended(slot, w.Error == "", w.Error)
	case w.Signal != 0 && s.phase < ending:
		s.say("broker %d on node %s got signal %d: the instance ends", slot.place.Rank, slot.place.Node, w.Signal)
		s.onSignal(syscall.SIGTERM)
	}
}

// showReported shows on a terminal how many brokers have reported in.
func (s *supervisor) showReported() {
	if s.phase != starting || time.Since(s.began) < 300*time.Millisecond || !s.e.isTerminal(s.e.stderr) {
		return
	}
	n := 0
	for _, slot := range s.fleet.slots {
		if slot.report != nil {
			n++
		}
	}
	s.showLine("%d of %d nodes have reported in", n, len(s.fleet.slots))
}

// startFailed: a broker has ended before all were online.
func (s *supervisor) startFailed(ev evExit) {
	if s.fleet != nil && ev.rank >= s.fleet.first {
		s.reconsider()
		return
	}
	if s.link != nil && ev.rank > 0 {
		s.fail(fmt.Errorf("broker %d did not start: %s", ev.rank, ev.how))
		return
	}
	s.fail(fmt.Errorf("broker %d did not start (%s): %s", ev.rank, ev.how, s.local.why(ev.rank)))
}

// reconsider decides whether enough brokers can still come.
func (s *supervisor) reconsider() {
	n, why := s.fleet.failed()
	count := s.info.Size - n
	switch {
	case n == 0 || count == s.await:
	case s.o.minNodes == 0 || count < s.o.minNodes:
		s.fail(why)
	default:
		s.goOn("it", why)
		s.waitFor(count)
	}
}

// goOn says what is missing when enough brokers are there.
func (s *supervisor) goOn(without string, why error) {
	if s.o.checkOnly {
		s.say("%v", why)
		return
	}
	s.say("going on without %s (--min-nodes %d): %v", without, s.o.minNodes, why)
}

// checked shows the table of --check and ends, when all brokers that are online have told of themselves.
func (s *supervisor) checked() {
	if !s.o.checkOnly || s.phase != running {
		return
	}
	if s.fleet != nil && slices.ContainsFunc(s.fleet.slots, func(sl *slot) bool { return sl.report != nil && sl.joined == nil && !sl.over }) {
		return
	}
	s.showFleet()
	if s.await < s.info.Size {
		s.code = 1
	}
	s.stop(false, "checked")
}

// showFleet prints the table of --check.
func (s *supervisor) showFleet() {
	w := tabwriter.NewWriter(s.e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RANK\tNODE\tHOST\tLAUNCHER\tVERSION\tCORES\tGPUS\tCLOCK\tADDRESS\tJOINED")
	host, _ := os.Hostname()
	addr, err := s.info.LoadLeader()
	if err != nil {
		addr = s.info.TreeAddr(0)
	}
	for rank := range s.plan.local {
		var nodes []resource.Node
		data, _ := s.info.LoadResources(rank)
		msgpack.Unmarshal(data, &nodes) // it was encoded here
		name, cores, gpus := "-", 0, 0
		for _, n := range nodes {
			name, cores, gpus = n.Name, cores+n.Cores.Count(), gpus+n.GPUs.Count()
		}
		fmt.Fprintf(w, "%d\t%s\t%s\tlocal\t%s\t%d\t%d\t-\t%s\t-\n", rank, name, host, version, cores, gpus, addr)
	}
	if s.fleet != nil {
		for _, slot := range s.fleet.slots {
			fmt.Fprintln(w, slot.row(s.fleet.way))
		}
	}
	w.Flush()
}

// row is its line in the table of --check.
func (s *slot) row(w way) string {
	if s.report == nil || s.joined == nil {
		return fmt.Sprintf("%d\t%s\t-\t%s\t-\t-\t-\t-\t-\tnot there: %s", s.place.Rank, s.place.Node, w.label(), strings.ReplaceAll(s.err, "\n", " "))
	}
	return fmt.Sprintf("%d\t%s\t%s\t%s\t%s\t%d\t%d\t%+.2f s\t%s\t%.2f s", s.place.Rank, s.place.Node, s.report.Host, w.label(), s.report.Version, s.joined.Cores,
		s.joined.GPUs, s.skew, s.joined.Addr, s.took.Seconds())
}
