package overlay

import (
	"fmt"
	"slices"
	"time"

	"github.com/frond-hpc/frond/overlay/wire"
)

// phase of the way up.
type phase uint8

const (
	idle       phase = iota // waits for retryAt
	connecting              // dials and greets
	asking                  // a guest that waits for its place
	waiting                 // connected to a parent whose own way is not whole
	joining                 // has announced itself
	online                  // confirmed
)

// uplink is what a broker does to get and keep its place in the tree.
type uplink struct {
	link     *link // the only dialled one, nil when idle
	phase    phase
	deadline time.Time // of the phase
	retryAt  time.Time
	lostAt   time.Time // not online since
	leaveAt  time.Time // do not wait for the leave's answer beyond
	tries    int       // since it was last online
	asks     int       // places asked for since then
	ever     bool      // was online once
	target   *placed   // where the leader wants it, and as which rank
	avoid    []int32   // parents that could not be connected to since it was last online
	sent     uint64    // incarnation of the join or place that waits for its answer
	reason   string    // of the last failure
}

const (
	firstRetry = 20 * time.Millisecond
	lastRetry  = 2 * time.Second
	maxAvoid   = 8
)

// patience is how long a path that is broken elsewhere is waited for, and the configured parent at start, in keepalives.
const patience = 5

func (m *Machine) enter(p phase, limit time.Duration) {
	m.up.phase, m.up.deadline = p, time.Time{}
	if limit > 0 {
		m.up.deadline = m.now.Add(limit)
	}
}

// attempt dials the next address.
func (m *Machine) attempt() {
	addr, want := m.nextTarget()
	if addr == "" {
		m.retry("no address of another broker is known")
		return
	}
	m.lastConn++
	l := m.addLink(m.lastConn, dialing)
	l.up, l.addr, l.want = true, addr, want
	m.up.link = l
	m.enter(connecting, 2*m.cfg.Keepalive)
	m.emit(Dial{l.id, addr})
}

// nextTarget is where to dial and what to ask for there: the place that the leader gave; at start the configured parent;
// else a place, from each known broker in turn.
func (m *Machine) nextTarget() (addr string, want uint8) {
	u := &m.up
	if u.target != nil {
		return u.target.Addr, asChild
	}
	if !u.ever && m.cfg.Rank >= 0 && m.cfg.Parent != "" && m.now.Sub(u.lostAt) < patience*m.cfg.Keepalive {
		return m.cfg.Parent, asChild
	}
	known := m.candidates()
	if len(known) == 0 {
		return "", 0
	}
	u.asks++
	return known[(u.asks-1)%len(known)], asGuest
}

// candidates are all addresses to ask for a place at, best first.
func (m *Machine) candidates() []string {
	var c []string
	for _, list := range [][]string{m.cfg.Fallback, m.others, {m.cfg.Parent}} {
		for _, a := range list {
			if a != "" && a != m.cfg.Info.Addr && !slices.Contains(c, a) {
				c = append(c, a)
			}
		}
	}
	return c
}

// retry waits before the next attempt, longer each time.
func (m *Machine) retry(reason string) {
	u := &m.up
	wait := min(lastRetry, firstRetry<<min(u.tries, 10))
	u.tries++
	u.reason = reason
	m.enter(idle, 0)
	u.retryAt = m.now.Add(m.jitter(wait))
}

// greet sends the hello on a connection that now stands.
func (m *Machine) greet(l *link) {
	l.state, l.since, l.lastRecv = greeting, m.now, m.now
	m.up.sent = m.nextInc()
	m.transmit(l, kindHello, pack(m.hello(l.want, m.up.sent)))
}

func (m *Machine) hello(want uint8, inc uint64) hello {
	h := hello{Protocol: wire.Protocol, Host: m.cfg.Info.Hostname, Want: want, Epoch: m.epoch, Rank: m.claimed(), Inc: inc, UUID: m.cfg.UUID, Credit: m.cfg.Credit}
	if want == asParent {
		h.Up = m.whole()
	} else {
		h.Subtree = m.subtree()
	}
	return h
}

// claimed is the rank to join as: its own, or without one that which the leader has offered. An offer is not kept beyond the
// attempt, as a leader that restarts forgets it.
func (m *Machine) claimed() int32 {
	if m.rank < 0 && m.up.target != nil {
		return m.up.target.Rank
	}
	return m.rank
}

// subtree are the ranks below this broker, ascending.
func (m *Machine) subtree() []int32 {
	ranks := make([]int32, 0, len(m.routes))
	for r := range m.routes {
		ranks = append(ranks, r)
	}
	slices.Sort(ranks)
	return ranks
}

func (m *Machine) onHello(l *link, h hello) {
	l.peer, l.window = h, max(1, h.Credit)
	if protocolDistance(h.Protocol) > 1 {
		m.refuseProtocol(l)
		return
	}
	if l.up {
		m.onParentHello(l)
		return
	}
	m.onChildHello(l)
}

func (m *Machine) refuseProtocol(l *link) {
	err := wire.Errorf(wire.BadProtocol, "host %s speaks protocol %d and host %s speaks protocol %d; install the same version of frond on both",
		l.peer.Host, l.peer.Protocol, m.cfg.Info.Hostname, wire.Protocol)
	m.refuse(l, err.Code, "%s", err.Text)
	if l.up {
		m.fail(err)
	}
}

// onParentHello: the dialled side accepts us.
func (m *Machine) onParentHello(l *link) {
	l.state, l.since = live, m.now
	h := l.peer
	switch {
	case h.Want != asParent || h.UUID == m.cfg.UUID:
		m.endLink(l, "the address leads to no other broker")
	case h.Up && h.Epoch < m.epoch:
		m.endLink(l, fmt.Sprintf("rank %d still follows the leader of epoch %d, ours is %d", h.Rank, h.Epoch, m.epoch))
	case l.want == asChild && h.Up:
		m.announce()
	case l.want == asChild:
		m.enter(waiting, m.jitter(patience*m.cfg.Keepalive))
	case h.Up:
		m.enter(asking, 3*m.cfg.Keepalive)
		m.send(l, kindPlace, pack(place{UUID: m.cfg.UUID, Rank: m.rank, Inc: m.up.sent, Subtree: m.subtree(), Avoid: m.up.avoid}))
	default:
		m.endLink(l, fmt.Sprintf("rank %d has no way to the leader itself", h.Rank))
	}
}

// announce sends the join, with a new incarnation for the new path.
func (m *Machine) announce() {
	m.up.sent = m.nextInc()
	m.enter(joining, 3*m.cfg.Keepalive)
	m.send(m.up.link, kindJoin, pack(join{UUID: m.cfg.UUID, Rank: m.claimed(), Inc: m.up.sent, Info: m.cfg.Info}))
}

func (m *Machine) onPathUp(l *link) {
	if l.want != asChild || l.state != live {
		return
	}
	if m.up.phase == online {
		m.pathLost("the way above the parent was made anew")
	}
	m.announce()
}

func (m *Machine) onPathDown(l *link, reason string) {
	if l.want != asChild || m.up.phase == waiting {
		return
	}
	if m.up.phase == online {
		m.pathLost(reason)
	}
	m.enter(waiting, m.jitter(patience*m.cfg.Keepalive))
}

// pathLost tells the host and all children that the leader cannot be reached.
func (m *Machine) pathLost(reason string) {
	m.up.lostAt = m.now
	clear(m.pending)
	m.emit(PathDown{reason})
	for _, l := range slices.Clone(m.links) {
		switch {
		case l.up || l.state != live:
		case l.want == asGuest:
			m.endLink(l, "the way to the leader broke")
		default:
			m.send(l, kindPathDown, pack(pathDown{Reason: reason}))
		}
	}
}

// uplinkLost: the dialled link is over, whatever it was for.
func (m *Machine) uplinkLost(reason string) {
	u := &m.up
	u.link = nil
	if u.phase == online {
		m.enter(idle, 0)
		m.pathLost(reason)
	} else if u.target != nil && !slices.Contains(u.avoid, u.target.Parent) {
		u.avoid = append(u.avoid[max(0, len(u.avoid)-maxAvoid+1):], u.target.Parent)
	}
	u.target = nil
	if m.done {
		return
	}
	if !u.leaveAt.IsZero() {
		m.depart()
		return
	}
	m.retry(reason)
}

func (m *Machine) onBye(l *link, b bye) {
	if l.up && (b.Code == wire.BadProtocol || (b.Code == wire.Exists && m.rank >= 0)) {
		m.fail(&wire.Error{Code: b.Code, Text: b.Text})
		return
	}
	m.endLink(l, b.Text)
}

// onJoined: the leader confirms this broker, or one below.
func (m *Machine) onJoined(j joined) {
	if j.UUID != m.cfg.UUID {
		m.passJoined(j)
		return
	}
	u := &m.up
	if u.phase != joining || j.Inc != u.sent {
		return
	}
	l := u.link
	if j.Epoch < m.epoch {
		m.endLink(l, fmt.Sprintf("the leader's epoch is %d, but %d was seen before", j.Epoch, m.epoch))
		return
	}
	m.rank, m.epoch, m.inc, m.others = j.Rank, j.Epoch, j.Inc, j.Others
	m.path++
	u.ever, u.tries, u.asks, u.avoid, u.target = true, 0, 0, nil, nil
	m.enter(online, 0)
	m.confirmLink(l)
	m.emit(Joined{m.rank, m.epoch, m.path, m.inc})
	m.report("info", "joined", "rank", m.rank, "parent", l.peer.Rank, "epoch", m.epoch, "path", m.path)
	m.tellPathUp()
}

// confirmLink makes a link usable for the host.
func (m *Machine) confirmLink(l *link) {
	if !l.confirmed {
		l.confirmed = true
		m.emit(LinkUp{l.id, l.up, l.peer.Rank, l.peer.Inc})
	}
}

// tellPathUp has all children announce themselves.
func (m *Machine) tellPathUp() {
	for _, l := range m.links {
		if !l.up && l.state == live && l.want == asChild {
			l.since = m.now
			m.send(l, kindPathUp, nil)
		}
	}
}

// onRefused: the leader refuses this broker, or one below.
func (m *Machine) onRefused(r refused) {
	if r.UUID != m.cfg.UUID {
		m.passRefused(r)
		return
	}
	if r.Inc != m.up.sent || (m.up.phase != joining && m.up.phase != asking) {
		return
	}
	if r.Final && (m.rank >= 0 || r.Code != wire.Exists) { // an offered rank may have gone to another: ask again
		m.fail(&wire.Error{Code: r.Code, Text: r.Text})
		return
	}
	m.endLink(m.up.link, r.Text)
}

// onPlaced: the leader says where to connect.
func (m *Machine) onPlaced(p placed) {
	if p.UUID != m.cfg.UUID {
		m.passPlaced(p)
		return
	}
	u := &m.up
	if u.phase != asking || p.Inc != u.sent {
		return
	}
	l := u.link
	u.link, u.target = nil, &p
	m.endLink(l, "a place was given")
	m.attempt()
}

// onLeaveWish starts an orderly leaving.
func (m *Machine) onLeaveWish() {
	if m.lead != nil || m.up.phase != online {
		m.depart()
		return
	}
	m.up.leaveAt = m.now.Add(m.cfg.Keepalive)
	m.send(m.up.link, kindLeave, pack(who{Rank: m.rank, Inc: m.inc}))
}

func (m *Machine) depart() {
	m.shut("left")
	m.emit(Departed{})
}

// uplinkTick does what the passing of time asks of a broker that is no leader.
func (m *Machine) uplinkTick() {
	u := &m.up
	switch {
	case due(m.now, u.leaveAt):
		m.depart()
	case due(m.now, m.joinDeadline()):
		m.fail(wire.Errorf(wire.Timeout, "could not join the instance within %v: %s", m.cfg.JoinLimit, u.reason))
	case u.phase == idle && due(m.now, u.retryAt):
		m.attempt()
	case u.phase != idle && due(m.now, u.deadline):
		m.endLink(u.link, u.overdue())
	}
}

func (u *uplink) overdue() string {
	switch u.phase {
	case connecting:
		return "no connection to " + u.link.addr + " in time"
	case asking:
		return "no place was given in time"
	case waiting:
		return fmt.Sprintf("the parent, rank %d, had no way to the leader for long", u.link.peer.Rank)
	}
	return "the join was not answered in time"
}

func (m *Machine) joinDeadline() time.Time {
	if m.cfg.JoinLimit <= 0 || m.up.phase == online || m.up.lostAt.IsZero() {
		return time.Time{}
	}
	return m.up.lostAt.Add(m.cfg.JoinLimit)
}

// uplinkDeadline is when uplinkTick has something to do next.
func (m *Machine) uplinkDeadline() time.Time {
	if m.lead != nil {
		return time.Time{}
	}
	t := m.up.deadline
	if m.up.phase == idle {
		t = m.up.retryAt
	}
	return earliest(earliest(t, m.up.leaveAt), m.joinDeadline())
}
