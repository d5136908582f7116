package overlay

import (
	"errors"
	"fmt"
	"slices"
)

// Check tests all invariants of the machine. It is for tests, after each Step.
func (m *Machine) Check() error {
	if m.done {
		return nil
	}
	return errors.Join(m.checkLinks(), m.checkUplink(), m.checkRoutes(), m.checkMembers())
}

func (m *Machine) checkLinks() error {
	if len(m.links) != len(m.byID) {
		return fmt.Errorf("%d links but %d ids", len(m.links), len(m.byID))
	}
	for _, l := range m.links {
		waiting := 0
		for _, q := range l.queue {
			if q.kind == kindData {
				waiting += len(q.payload)
			}
		}
		switch {
		case m.byID[l.id] != l:
			return fmt.Errorf("link %d is not found by its id", l.id)
		case l.up != (l.id&AcceptedBit == 0):
			return fmt.Errorf("link %d: up is %v", l.id, l.up)
		case l.up && l != m.up.link:
			return fmt.Errorf("link %d is a second uplink", l.id)
		case l.waiting != waiting:
			return fmt.Errorf("link %d: %d bytes wait, counted %d", l.id, waiting, l.waiting)
		case len(l.queue) > 0 && (l.inflight < l.window || l.queue[0].kind != kindData):
			return fmt.Errorf("link %d: %d frames wait though there is credit", l.id, len(l.queue))
		case l.inflight < 0 || l.unread < 0 || l.owed < 0:
			return fmt.Errorf("link %d: negative count", l.id)
		case l.confirmed && l.state != live:
			return fmt.Errorf("link %d is confirmed but not live", l.id)
		}
	}
	return nil
}

func (m *Machine) checkUplink() error {
	u := &m.up
	if m.lead != nil {
		if u.link != nil || u.phase != idle {
			return errors.New("the leader has an uplink")
		}
		return nil
	}
	switch {
	case (u.link == nil) != (u.phase == idle):
		return fmt.Errorf("phase %d with link %v", u.phase, u.link)
	case u.phase == idle && u.retryAt.IsZero():
		return errors.New("idle without a time to go on")
	case u.phase != idle && u.phase != online && u.deadline.IsZero():
		return fmt.Errorf("phase %d without a deadline", u.phase)
	case u.phase == online && !u.link.confirmed:
		return errors.New("online over a link that is not confirmed")
	case len(m.pending) > 0 && u.phase != online:
		return errors.New("questions are pending without a way up")
	}
	return nil
}

func (m *Machine) checkRoutes() error {
	for rank, r := range m.routes {
		switch {
		case m.byID[r.link.id] != r.link || r.link.up || !r.link.confirmed:
			return fmt.Errorf("route to %d over link %d, which is no child's", rank, r.link.id)
		case rank == m.rank:
			return errors.New("route to itself")
		}
	}
	for uuid, p := range m.pending {
		if m.byID[p.link.id] != p.link || p.link.up {
			return fmt.Errorf("answer to %s would go over link %d, which is no child's", uuid, p.link.id)
		}
	}
	if n := len(m.Children()); n > m.cfg.Fanout {
		return fmt.Errorf("%d children, fanout is %d", n, m.cfg.Fanout)
	}
	return nil
}

func (m *Machine) checkMembers() error {
	d := m.lead
	if d == nil || d.members[m.rank] == nil {
		return nil
	}
	promised := map[int32]int{}
	for _, p := range d.promises {
		promised[p.parent]++
	}
	over := 0
	for rank, mb := range d.members {
		over += mb.State.over()
		if err := d.checkMember(rank, mb); err != nil {
			return fmt.Errorf("member %d: %w", rank, err)
		}
		if mb.promised != promised[rank] {
			return fmt.Errorf("member %d: %d places promised, counted %d", rank, promised[rank], mb.promised)
		}
	}
	if over != d.over {
		return fmt.Errorf("%d members are dead or have left, counted %d", over, d.over)
	}
	return nil
}

func (d *leadership) checkMember(rank int32, mb *member) error {
	r, routed := d.m.routes[rank]
	isOnline := mb.State == Online
	switch {
	case mb.Rank != rank || rank >= d.next:
		return fmt.Errorf("has rank %d, next is %d", mb.Rank, d.next)
	case mb.UUID != "" && mb.UUID != d.owner[rank]:
		return fmt.Errorf("uuid %s, but the rank was given to %q", mb.UUID, d.owner[rank])
	case mb.UUID != "" && d.byUUID[mb.UUID] != rank:
		return fmt.Errorf("uuid %s has rank %d", mb.UUID, d.byUUID[mb.UUID])
	case rank == d.m.rank:
		return nil
	case isOnline != routed:
		return fmt.Errorf("is %v, has a route: %v", mb.State, routed)
	case isOnline && r.inc != mb.Incarnation:
		return fmt.Errorf("incarnation %d, route has %d", mb.Incarnation, r.inc)
	case !isOnline && len(mb.kids) > 0:
		return fmt.Errorf("is %v but has children %v", mb.State, mb.kids)
	case isOnline && (d.members[mb.Parent] == nil || d.members[mb.Parent].State != Online):
		return fmt.Errorf("is online below %d, which is not", mb.Parent)
	case isOnline && !slices.Contains(d.members[mb.Parent].kids, rank):
		return fmt.Errorf("is no child of its parent %d", mb.Parent)
	}
	return nil
}

// Describe says in one line where this broker is on its way to being a member, for logs and errors.
func (m *Machine) Describe() string {
	if m.lead != nil {
		return fmt.Sprintf("leader, epoch %d", m.epoch)
	}
	what := [...]string{"waiting to try again", "connecting", "asking for a place", "waiting for the parent's way to the leader", "joining", "online"}[m.up.phase]
	if m.up.phase == online {
		return what
	}
	return fmt.Sprintf("%s, tries %d, last failure: %s", what, m.up.tries, m.up.reason)
}
