package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/curve"
	"github.com/frond-hpc/frond/overlay/meet"
	"github.com/frond-hpc/frond/overlay/wire"
)

// way is a means to start broker processes on other hosts.
type way interface {
	// commands makes the command lines that start them and stay until they have ended. The ticket goes by environment, standard
	// input or a file, for it is a secret.
	commands(ticket string) ([]launched, error)
	// words says for people what will be run.
	words() []string
	// label is the name of --launcher.
	label() string
	// close removes what commands left for brokers to find.
	close()
}

// launched is one process of a launch.
type launched struct {
	*exec.Cmd
	slots []int                      // brokers that it starts, as indexes in the fleet's slots
	sure  bool                       // it starts the first one, under its number in the launch, and that one the others
	lost  func(line string) []string // the nodes that a line of its error output gives up; nil: that is not read
}

// Events of the fleet, beside those of its server.
type (
	evLeader struct{}              // the leader takes other brokers
	evGrace  struct{ uuid string } // a broker whose connection ended should be back by now
)

// fleet is the launcher of brokers on other hosts. Whatever started them, they report in (overlay/meet), are told their places, and
// their connections tell that they live.
type fleet struct {
	info   *boot.Info
	way    way
	first  int // rank of slots[0]
	slots  []*slot
	events chan<- any
	done   chan struct{} // closed: nobody takes events
	server *meet.Server
	ticket string
	began  time.Time

	procs    map[int]launched // of the launch, that run
	count    int              // of all that were started
	each     bool             // each broker knows its number in the launch
	leader   string           // its address, once known
	stopping bool
}

// slot is one broker that was, or is to be, started.
type slot struct {
	place  meet.Place
	peer   *meet.Peer // nil: not connected
	report *meet.Report
	joined *meet.Joined
	skew   float64       // of its clock, seconds
	took   time.Duration // from the launch until it had joined
	over   bool
	err    string
	charge []int // slots that this one is to start
}

// newFleet listens for the brokers of slots.
func newFleet(info *boot.Info, w way, first int, slots []*slot, events chan<- any) (*fleet, error) {
	f := &fleet{info: info, way: w, first: first, slots: slots, events: events, done: make(chan struct{}), procs: map[int]launched{}}
	_, f.each = w.(crewWay)
	cert, err := os.ReadFile(info.CertFile())
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	keys, err := curve.ParseKeys(cert)
	if err != nil {
		return nil, err
	}
	addrs, err := interfaceAddrs(info.Interface)
	if err != nil {
		return nil, err
	}
	ports, err := parsePorts(info.Ports)
	if err != nil {
		return nil, err
	}
	bind := ""
	if info.Interface != "" {
		bind = addrs[0]
	}
	var ln net.Listener
	err = ports.listen(func(port string) (err error) {
		ln, err = net.Listen("tcp4", net.JoinHostPort(bind, port))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen for brokers: %w", err)
	}
	t := boot.Ticket{Info: *info, Cert: string(cert)}
	t.Info.RunDir = "" // each host has its own
	port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	for _, a := range addrs {
		t.Meet = append(t.Meet, net.JoinHostPort(a, port))
	}
	if f.ticket, err = t.Encode(); err != nil {
		ln.Close()
		return nil, err
	}
	f.server = meet.Listen(ln, keys, f.post)
	return f, nil
}

// post gives the supervisor an event, as long as it takes any.
func (f *fleet) post(ev any) {
	select {
	case f.events <- ev:
	case <-f.done:
	}
}

func (f *fleet) logFile() string { return filepath.Join(f.info.RunDir, "launch.log") }

func (f *fleet) launch() error {
	f.began = time.Now()
	cmds, err := f.way.commands(f.ticket)
	if err != nil {
		return err
	}
	return f.start(cmds)
}

// start runs processes of the launch.
func (f *fleet) start(cmds []launched) error {
	log, err := os.OpenFile(f.logFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("launch brokers: %w", err)
	}
	defer log.Close()
	for _, cmd := range cmds {
		cmd.Stdout, cmd.Stderr = log, log
		if cmd.lost != nil {
			cmd.Stderr = &ear{f: f, lost: cmd.lost}
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("launch brokers: %w", err)
		}
		i := f.count
		f.count++
		f.procs[i] = cmd
		if cmd.sure {
			f.each = true
			f.slots[cmd.slots[0]].charge = cmd.slots[1:]
		}
		go func() {
			cmd.Wait()
			f.post(evProcEnd{i, cmd.ProcessState})
		}()
	}
	return nil
}

// relaunch starts anew those that have not come and that nobody starts any more. Direct: without the help of others.
func (f *fleet) relaunch(slots []int, direct bool) {
	slots = slices.DeleteFunc(slices.Clone(slots), func(i int) bool { return i < 0 || i >= len(f.slots) || f.slots[i].report != nil || f.slots[i].over })
	w, ok := f.way.(*recipeWay)
	if !ok || len(slots) == 0 || f.stopping {
		return
	}
	cmds, err := w.more(f.ticket, slots, direct)
	if err == nil {
		err = f.start(cmds)
	}
	if err != nil {
		for _, i := range slots {
			f.slots[i].over, f.slots[i].err = true, err.Error()
		}
	}
}

// evProcEnd: a process of the launch has ended.
type evProcEnd struct {
	i     int
	state *os.ProcessState
}

func (f *fleet) left() bool {
	return len(f.procs) > 0 || slices.ContainsFunc(f.slots, func(s *slot) bool { return s.peer != nil && !s.over })
}

func (f *fleet) signal(sig syscall.Signal) {
	f.stopping = true
	for _, s := range f.slots {
		switch {
		case s.peer == nil:
		case sig == syscall.SIGTERM:
			s.peer.Send(meet.Order{Stop: true})
		default:
			s.peer.Close()
		}
	}
	lost := slices.ContainsFunc(f.slots, func(s *slot) bool { return s.peer == nil && !s.over })
	if sig == syscall.SIGTERM && !lost {
		return // the launch ends with its brokers
	}
	for _, cmd := range f.procs {
		cmd.Process.Signal(sig)
	}
}

func (f *fleet) close() {
	close(f.done)
	for _, cmd := range f.procs {
		cmd.Process.Kill()
	}
	f.server.Close()
	f.way.close()
}

// why says what is known of a broker that is not online.
func (f *fleet) why(rank int) string {
	s := f.slots[rank-f.first]
	node := cmp.Or(s.place.Node, "(unknown)")
	switch {
	case s.err != "":
		return fmt.Sprintf("node %s: %s", node, s.err)
	case s.report != nil:
		return fmt.Sprintf("node %s (host %s): it has reported in, but did not join: can it reach the leader at %s?", node, s.report.Host, f.leader)
	}
	text := fmt.Sprintf("node %s: no broker there has reported in", node)
	if lines := endOfFile(f.logFile(), 5); len(lines) > 0 {
		text += "; the launcher says:\n  " + strings.Join(lines, "\n  ")
	}
	return text
}

// report takes in a broker that has reported, and tells why it is refused.
func (f *fleet) report(ev meet.Reported) {
	s, err := f.find(ev.Report)
	if err != nil {
		ev.Peer.Send(meet.Order{Refused: err.Error()})
		if s != nil {
			s.over, s.err = true, err.Error()
			f.later(evExit{rank: s.place.Rank, pid: ev.Report.PID, where: " on node " + s.place.Node, how: s.err})
		}
		return
	}
	if s.report == nil {
		s.skew = ev.Report.Clock - float64(time.Now().UnixMicro())/1e6
		f.nameNode(s, ev.Report)
	}
	r := ev.Report
	s.peer, s.report, s.err = ev.Peer, &r, ""
	ev.Peer.Send(meet.Order{Place: &s.place, Leader: f.leader, Stop: f.stopping})
}

// later posts an event from the supervisor's own goroutine.
func (f *fleet) later(ev any) { go f.post(ev) }

// find gives a broker its slot. With an error it may be the one that it would have had.
func (f *fleet) find(r meet.Report) (*slot, error) {
	if r.ID != f.info.ID {
		return nil, errors.New("this is another run of the instance")
	}
	for _, s := range f.slots {
		if s.report != nil && s.report.UUID == r.UUID {
			if s.over {
				return nil, errors.New("this broker was declared dead")
			}
			return s, nil
		}
	}
	s := f.free(r)
	if s == nil {
		return nil, fmt.Errorf("no broker is awaited from host %s any more", r.Host)
	}
	if d := r.Protocol - wire.Protocol; d > 1 || d < -1 {
		return s, fmt.Errorf("frond %s on host %s speaks protocol %d, but frond %s here speaks protocol %d: install the same version on both", r.Version, r.Host,
			r.Protocol, version, wire.Protocol)
	}
	return s, nil
}

// free finds the slot of a newcomer: that of its node, else, if it was started by a command of its own, that of its number in the launch, else that of its
// host, else that of its number, else the first that is free.
func (f *fleet) free(r meet.Report) *slot {
	var best *slot
	most := -1
	for i, s := range f.slots {
		value := 0
		switch {
		case s.report != nil || s.over:
			continue
		case r.Node != "" && s.place.Node == r.Node:
			value = 4
		case f.each && i == r.Rank:
			value = 3
		case r.Node == "" && sameHost(s.place.Node, r.Host):
			value = 2
		case i == r.Rank:
			value = 1
		}
		if value > most {
			best, most = s, value
		}
	}
	return best
}

// sameHost compares names of hosts, which may have a domain or not.
func sameHost(a, b string) bool {
	short := func(name string) string { n, _, _ := strings.Cut(name, "."); return n }
	return a == b || a != "" && short(a) == short(b)
}

// nameNode gives a node its name if the scheduler gave none: what it calls itself, unlike all others.
func (f *fleet) nameNode(s *slot, r meet.Report) {
	if s.place.Node != "" {
		return
	}
	base := cmp.Or(r.Node, r.Host)
	name := base
	for k := 1; slices.ContainsFunc(f.slots, func(o *slot) bool { return o.place.Node == name }); k++ {
		name = base + "." + strconv.Itoa(k)
	}
	s.place.Node = name
}

// byPeer finds whose connection it is.
func (f *fleet) byPeer(p *meet.Peer) *slot {
	for _, s := range f.slots {
		if s.peer == p {
			return s
		}
	}
	return nil
}

// leaderIs tells all where the leader is.
func (f *fleet) leaderIs(addr string) {
	f.leader = addr
	for _, s := range f.slots {
		if s.peer != nil {
			s.peer.Send(meet.Order{Leader: addr})
		}
	}
}

// ended notes that a broker has ended, or is dead.
func (f *fleet) ended(s *slot, clean bool, how string) {
	s.over = true
	if !clean {
		s.err = how
		f.relaunch(s.charge, false) // before all are there it may have had some to start
	}
	f.later(evExit{rank: s.place.Rank, pid: s.report.PID, where: " on node " + s.place.Node, clean: clean, how: how})
}

// hungGrace is how long a broker whose connection was closed has to make a new one, before it is taken for dead.
const hungGrace = 2 * time.Second

// hung: a connection is over. Was it closed, then by the end of the process, unless it comes again. If the network has failed nothing is
// known: the lease decides.
func (f *fleet) hung(ev meet.Hung) {
	s := f.byPeer(ev.Peer)
	if s == nil {
		return
	}
	s.peer = nil
	if s.over || !ev.Closed {
		return
	}
	uuid := s.report.UUID
	if f.stopping {
		f.ended(s, true, "")
		return
	}
	time.AfterFunc(hungGrace, func() { f.post(evGrace{uuid}) })
}

// grace: a broker is not back.
func (f *fleet) grace(ev evGrace) {
	for _, s := range f.slots {
		if s.report != nil && s.report.UUID == ev.uuid && s.peer == nil && !s.over {
			f.ended(s, false, "its connection was closed")
		}
	}
}

// procEnded: a process of the launch has ended. What it was to start and has not reported in will not come; those behind the first are started by others.
func (f *fleet) procEnded(ev evProcEnd) {
	l := f.procs[ev.i]
	delete(f.procs, ev.i)
	gone := l.slots
	if l.sure {
		gone = gone[:1]
	}
	first := f.slots[gone[0]].report
	for _, i := range gone {
		s := f.slots[i]
		if s.report == nil && !s.over {
			s.err = strings.TrimPrefix(f.why(s.place.Rank), "node "+s.place.Node+": ") + "\n  the launcher ended: " + died(ev.state)
			s.over = true
		}
	}
	if l.sure && first == nil {
		f.relaunch(l.slots[1:], false)
	}
}

// failed counts the brokers that have ended or cannot come any more, and says why the first of them did not come.
func (f *fleet) failed() (n int, why error) {
	for _, s := range f.slots {
		if !s.over {
			continue
		}
		n++
		if why == nil {
			why = fmt.Errorf("broker %d did not start: %s", s.place.Rank, f.why(s.place.Rank))
		}
	}
	return n, why
}
