package overlay

import (
	"fmt"
	"slices"

	"github.com/frond-hpc/frond/overlay/wire"
)

// onChildHello: a broker below, or a guest, presents itself.
func (m *Machine) onChildHello(l *link) {
	h := l.peer
	l.want = h.Want
	if m.lead != nil && h.Epoch > m.epoch {
		m.refuse(l, wire.Unavailable, "the leader of epoch %d is over, there is one of epoch %d", m.epoch, h.Epoch)
		m.fail(wire.Errorf(wire.BadProtocol, "this leader's epoch is %d, but rank %d follows one of epoch %d", m.epoch, h.Rank, h.Epoch))
		return
	}
	code, why := m.objection(l)
	if why != "" {
		m.refuse(l, code, "%s", why)
		return
	}
	m.endConnections(l, h.UUID, h.Inc) // it made a new connection because that one is over
	l.state, l.since = live, m.now
	m.transmit(l, kindHello, pack(m.hello(asParent, m.inc)))
}

// objection says why a peer cannot be a child or guest here; empty if it can.
func (m *Machine) objection(l *link) (wire.Code, string) {
	h := l.peer
	switch {
	case h.UUID == "":
		return wire.Invalid, "the hello has no uuid"
	case h.UUID == m.cfg.UUID:
		return wire.Invalid, "this is the asking broker itself"
	case h.Want != asChild && h.Want != asGuest:
		return wire.Invalid, fmt.Sprintf("wants neither a parent nor a place but %d", h.Want)
	case h.Want == asGuest && !m.whole(), m.up.ever && !m.whole(), m.rank < 0:
		return wire.Unavailable, fmt.Sprintf("rank %d has no way to the leader itself", m.rank)
	case h.Epoch > m.epoch && m.whole():
		return wire.Unavailable, fmt.Sprintf("rank %d still follows the leader of epoch %d, not %d", m.rank, m.epoch, h.Epoch)
	case h.Want == asGuest:
		return wire.OK, ""
	case h.Rank == m.rank:
		return wire.Exists, fmt.Sprintf("rank %d is held by another process, on host %s", h.Rank, m.cfg.Info.Hostname)
	case h.Rank < 0:
		return wire.Invalid, "a child needs a rank: ask for a place first"
	case slices.Contains(h.Subtree, m.rank):
		return wire.Unavailable, fmt.Sprintf("rank %d is below rank %d", m.rank, h.Rank)
	case m.isFull(h.Rank):
		return wire.Busy, fmt.Sprintf("rank %d has %d children already", m.rank, m.cfg.Fanout)
	}
	return m.outdated(l)
}

// isFull tells whether a child of that rank would be one too many.
func (m *Machine) isFull(rank int32) bool {
	n := 0
	for _, l := range m.links {
		if !l.up && l.state == live && l.want == asChild && l.peer.Rank != rank {
			n++
		}
	}
	return n >= m.cfg.Fanout
}

// outdated refuses a connection that is older than one which the same process has here.
func (m *Machine) outdated(l *link) (wire.Code, string) {
	for _, o := range m.links {
		if o != l && !o.up && o.state == live && o.peer.UUID == l.peer.UUID && o.peer.Inc >= l.peer.Inc {
			return wire.Unavailable, "a newer connection of the same process is there"
		}
	}
	return wire.OK, ""
}

// endConnections ends all links of one process but l that are older than inc.
func (m *Machine) endConnections(l *link, uuid string, inc uint64) {
	for _, o := range slices.Clone(m.links) {
		if o != l && !o.up && o.state == live && o.peer.UUID == uuid && o.peer.Inc < inc {
			m.endLink(o, "the same process connected anew")
		}
	}
}

// onJoin: a member below announces itself. Nothing is passed on without a way up: path-up will have it announced again.
func (m *Machine) onJoin(l *link, j join) {
	if l.want != asChild || !m.whole() {
		return
	}
	if j.UUID == m.cfg.UUID { // its own join came round
		m.endLink(l, "the tree has a cycle")
		return
	}
	if j.UUID == l.peer.UUID {
		if j.Rank != l.peer.Rank {
			m.endLink(l, fmt.Sprintf("joins as rank %d but came as %d", j.Rank, l.peer.Rank))
			return
		}
		j.Parent, j.ParentInc = m.rank, m.inc
	}
	m.endConnections(l, j.UUID, j.Inc)
	if m.lead != nil {
		m.lead.join(l, j)
		return
	}
	m.ask(l, j.UUID, j.Inc, kindJoin, pack(j))
}

// onPlace: someone asks for a place.
func (m *Machine) onPlace(l *link, p place) {
	switch {
	case !m.whole() || p.UUID == m.cfg.UUID:
		return
	case p.UUID != l.peer.UUID: // else l itself is its newest connection
		m.endConnections(l, p.UUID, p.Inc)
	}
	if m.lead != nil {
		m.lead.place(l, p)
		return
	}
	m.ask(l, p.UUID, p.Inc, kindPlace, pack(p))
}

// ask forwards a question to the leader and remembers where its answer goes. Of one asker only the newest question counts.
func (m *Machine) ask(l *link, uuid string, inc uint64, k kind, payload []byte) {
	if m.pending[uuid].inc >= inc {
		return
	}
	m.pending[uuid] = pending{l, inc}
	m.send(m.up.link, k, payload)
}

// take finds where an answer goes, once.
func (m *Machine) take(uuid string, inc uint64) *link {
	p, ok := m.pending[uuid]
	if !ok || p.inc != inc {
		return nil
	}
	delete(m.pending, uuid)
	return p.link
}

// passJoined learns the route to a member below and passes its confirmation on. If the link below has ended meanwhile, the
// leader is told that the member is not reachable after all.
func (m *Machine) passJoined(j joined) {
	l := m.take(j.UUID, j.Inc)
	if l == nil {
		m.sayGone([]who{{Rank: j.Rank, Inc: j.Inc}}, "its link ended while it joined")
		return
	}
	m.confirm(l, j)
}

// confirm gives a member below its confirmation, and makes the link usable if it is a direct child.
func (m *Machine) confirm(l *link, j joined) {
	m.routes[j.Rank] = route{l, j.Inc}
	if j.UUID == l.peer.UUID {
		m.confirmLink(l)
	}
	m.send(l, kindJoined, pack(j))
}

func (m *Machine) passRefused(r refused) {
	if l := m.take(r.UUID, r.Inc); l != nil {
		m.send(l, kindRefused, pack(r))
	}
}

func (m *Machine) passPlaced(p placed) {
	if l := m.take(p.UUID, p.Inc); l != nil {
		m.send(l, kindPlaced, pack(p))
	}
}

// childLost: the link to a child or guest is over.
func (m *Machine) childLost(l *link, reason string) {
	for uuid, p := range m.pending {
		if p.link == l {
			delete(m.pending, uuid)
		}
	}
	var lost []who
	for rank, r := range m.routes {
		if r.link == l {
			lost = append(lost, who{Rank: rank, Inc: r.inc})
			delete(m.routes, rank)
		}
	}
	slices.SortFunc(lost, func(a, b who) int { return int(a.Rank) - int(b.Rank) })
	m.sayGone(lost, fmt.Sprintf("link of rank %d to rank %d ended: %s", l.peer.Rank, m.rank, reason))
}

// sayGone lets those above know of members that are not reachable any more this way: also while the path above is not whole, as
// their routes would stay wrong. Without a parent it need not: those above have lost, or will lose, this broker and all below it.
func (m *Machine) sayGone(lost []who, reason string) {
	switch {
	case len(lost) == 0:
	case m.lead != nil:
		m.lead.gone(lost, reason)
	case m.up.link != nil && m.up.link.state == live && m.up.link.want == asChild:
		m.send(m.up.link, kindGone, pack(gone{Members: lost, Reason: reason}))
	}
}

// onGone: members below a child are not reachable any more. Those known over another link, or by a newer incarnation, are.
func (m *Machine) onGone(l *link, g gone) {
	lost := g.Members[:0]
	for _, w := range g.Members {
		if r := m.routes[w.Rank]; r.link == l && r.inc == w.Inc {
			delete(m.routes, w.Rank)
			lost = append(lost, w)
		}
	}
	m.sayGone(lost, g.Reason)
}

// onLeave: a member below wants to leave.
func (m *Machine) onLeave(l *link, w who) {
	if r := m.routes[w.Rank]; r.link != l || r.inc != w.Inc || !m.whole() {
		return
	}
	if m.lead != nil {
		m.lead.leave(l, w)
		return
	}
	m.send(m.up.link, kindLeave, pack(w))
}

// onLeft: the leader lets a member go, this one or one below.
func (m *Machine) onLeft(w who) {
	if w.Rank == m.rank && w.Inc == m.inc {
		m.depart()
		return
	}
	if r := m.routes[w.Rank]; r.link != nil && r.inc == w.Inc {
		m.send(r.link, kindLeft, pack(w))
	}
}

// onDrop: a member below is dead; its parent ends the link without waiting for its silence.
func (m *Machine) onDrop(w who) {
	r := m.routes[w.Rank]
	switch {
	case r.link == nil || r.inc != w.Inc:
	case r.link.peer.Rank == w.Rank:
		m.endLink(r.link, "its process is dead")
	default:
		m.send(r.link, kindDrop, pack(w))
	}
}
