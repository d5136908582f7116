package overlay

import (
	"fmt"
	"slices"
	"time"

	"github.com/frond-hpc/frond/overlay/wire"
)

// Machine is the overlay of one broker. How it works:
//
// A broker dials its parent; each sends a hello; the parent says whether its own way to the leader is whole (in the hello,
// later by path-up). Then the broker announces itself with a join, which climbs to the leader; the leader's joined comes back the
// same way, and each hop on it learns rank → link. Only then is the broker online, its uplink usable and its own
// children told that the path is up, so that they announce themselves in turn. So a member is online at the leader if
// and only if the leader has confirmed it over a path that has not been seen to break since, and every member knows of
// each break: when a link ends, the side below sends path-down to its children, the side above lets gone{members} climb.
//
// A broker without an uplink asks any broker it knows for a place (a guest connection); the leader answers {rank, parent}.
//
// Step must be called from one goroutine, and its actions be carried out in order before the next Step; in particular a
// Deliver must be dealt with (routed on) before a later LinkDown, PathDown or Joined is.
type Machine struct {
	cfg Config
	rng uint64
	now time.Time
	out []any

	rank    int32
	epoch   uint64
	path    uint64
	inc     uint64 // confirmed by the leader
	lastInc uint64
	others  []string // further addresses, learned from the leader

	links    []*link // in order of their coming
	byID     map[ConnID]*link
	lastConn ConnID
	scratch  []*link

	up      uplink
	routes  map[int32]route    // members below this broker
	pending map[string]pending // joins and places on their way up, by uuid
	lead    *leadership        // on the leader

	nextKeep time.Time
	wake     time.Time // asked for and not yet come
	done     bool      // failed or departed: nothing happens any more
}

// route is the way to one member below.
type route struct {
	link *link
	inc  uint64
}

// pending is a join or place that was forwarded up: its answer goes down link.
type pending struct {
	link *link
	inc  uint64
}

// New makes a machine; its first event must be Begin.
func New(cfg Config) *Machine {
	cfg.Fanout = max(1, cfg.Fanout)
	cfg.Keepalive = orDefault(cfg.Keepalive, 2*time.Second)
	cfg.Credit = orDefault(cfg.Credit, 8<<20)
	cfg.SendLimit = orDefault(cfg.SendLimit, 256<<20)
	m := &Machine{cfg: cfg, rng: cfg.Rand, rank: cfg.Rank, byID: map[ConnID]*link{}, routes: map[int32]route{}, pending: map[string]pending{}}
	if cfg.Leader {
		m.rank = max(0, cfg.Rank)
		m.lead = newLeadership(m)
	}
	return m
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Step takes one event that happened at now and returns what is to be done, in order. The slice is valid until the next Step.
func (m *Machine) Step(now time.Time, ev any) []any {
	clear(m.out)
	m.out = m.out[:0]
	if m.done {
		return nil
	}
	m.now = now
	if !m.wake.IsZero() && !now.Before(m.wake) {
		m.wake = time.Time{}
	}
	m.handle(ev)
	m.arm()
	return m.out
}

func (m *Machine) handle(ev any) {
	switch e := ev.(type) {
	case Begin:
		m.onBegin()
	case Tick:
		m.onTick()
	case ConnUp:
		m.onConnUp(e)
	case ConnData:
		m.onFrame(e)
	case ConnDown:
		m.onConnDown(e)
	case Submit:
		m.onSubmit(e)
	case Consumed:
		m.onConsumed(e)
	case Dead:
		m.onDead(e)
	case Leave:
		m.onLeaveWish()
	default:
		panic(fmt.Sprintf("overlay: event %T is unknown", ev))
	}
}

func (m *Machine) onBegin() {
	if m.lead != nil {
		m.lead.begin()
		return
	}
	m.up.lostAt = m.now
	m.attempt()
}

func (m *Machine) onConnUp(e ConnUp) {
	if e.Accepted {
		m.addLink(e.Conn, greeting)
		return
	}
	if l := m.byID[e.Conn]; l != nil && l.state == dialing {
		m.greet(l)
	}
}

// onTick does what has become due.
func (m *Machine) onTick() {
	if due(m.now, m.nextKeep) {
		m.keepalive()
	}
	if m.lead == nil {
		m.uplinkTick()
	}
}

// arm asks for the next wake-up if none, or only a later one, is asked for.
func (m *Machine) arm() {
	if m.done {
		return
	}
	t := earliest(m.nextKeep, m.uplinkDeadline())
	if !t.IsZero() && (m.wake.IsZero() || t.Before(m.wake)) {
		m.wake = t
		m.emit(WakeAt{t})
	}
}

func (m *Machine) emit(a any) { m.out = append(m.out, a) }

func (m *Machine) report(level, msg string, kv ...any) { m.emit(Report{level, msg, kv}) }

// fail ends the machine for good.
func (m *Machine) fail(err *wire.Error) {
	m.shut(err.Error())
	m.emit(Failed{err})
}

// shut ends all links and the machine.
func (m *Machine) shut(reason string) {
	m.done = true
	for _, l := range m.links {
		m.emit(CloseConn{l.id, reason})
		if l.confirmed {
			m.emit(LinkDown{l.id, l.up, l.peer.Rank, reason})
		}
	}
	m.links, m.byID, m.routes, m.pending, m.up = nil, map[ConnID]*link{}, map[int32]route{}, map[string]pending{}, uplink{}
}

// nextInc gives a new incarnation: higher than all before, also than those of earlier processes of this rank if clocks are sane.
func (m *Machine) nextInc() uint64 {
	m.lastInc = max(m.lastInc+1, uint64(m.now.UnixNano()))
	return m.lastInc
}

// random is splitmix64.
func (m *Machine) random() uint64 {
	m.rng += 0x9e3779b97f4a7c15
	z := m.rng
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// jitter is a time between half of d and one and a half.
func (m *Machine) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(m.random()%uint64(d))
}

// whole tells whether the way to the leader is, as far as this broker knows.
func (m *Machine) whole() bool { return m.lead != nil || m.up.phase == online }

// Rank is this broker's rank; -1 until the leader gave one.
func (m *Machine) Rank() int32 { return m.rank }

// Epoch is the leader's epoch; 0 before the first Joined.
func (m *Machine) Epoch() uint64 { return m.epoch }

// Path is the generation of the way to the leader, as in the last Joined.
func (m *Machine) Path() uint64 { return m.path }

// Whole tells whether this broker is confirmed by the leader over a path that is not known to be broken. On the leader always true.
func (m *Machine) Whole() bool { return m.whole() }

// Uplink is the link towards the leader. It is usable only while the whole path is: false between PathDown and Joined.
func (m *Machine) Uplink() (ConnID, bool) {
	if m.lead != nil || m.up.phase != online {
		return 0, false
	}
	return m.up.link.id, true
}

// Route is the next hop towards rank: a child link, or else the uplink. False for this broker itself, for a rank the leader
// cannot reach, and while there is no way up.
func (m *Machine) Route(rank int32) (ConnID, bool) {
	if rank == m.rank {
		return 0, false
	}
	if r, ok := m.routes[rank]; ok {
		return r.link.id, true
	}
	return m.Uplink()
}

// RouteFrom is Route for what came over the link from: never back over it. What came down and finds no child link is for a member
// that is not here any more, and must be answered as Unreachable: sent up again it could reach that member on its new
// path, after its Joined, as a message of the old one.
func (m *Machine) RouteFrom(from ConnID, rank int32) (ConnID, bool) {
	id, ok := m.Route(rank)
	if id == from {
		return 0, false
	}
	return id, ok
}

// Children are the ranks of the direct children that are online, ascending.
func (m *Machine) Children() []int32 {
	var ranks []int32
	for _, l := range m.links {
		if !l.up && l.confirmed {
			ranks = append(ranks, l.peer.Rank)
		}
	}
	slices.Sort(ranks)
	return ranks
}

// Parent is the rank of the parent, -1 without one (on the leader, or while there is no uplink).
func (m *Machine) Parent() int32 {
	if m.up.link == nil || !m.up.link.confirmed {
		return -1
	}
	return m.up.link.peer.Rank
}

// Members is all the leader knows, by rank; the leader itself and lost members included. nil on other brokers.
func (m *Machine) Members() []Member {
	if m.lead == nil {
		return nil
	}
	return m.lead.list()
}

func due(now, t time.Time) bool { return !t.IsZero() && !now.Before(t) }

// earliest is the earlier of two times, of which zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
