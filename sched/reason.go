package sched

import (
	"fmt"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
)

// ReasonLimit is how many groups Reasons tells about when none are named.
const ReasonLimit = 10000

// Reason says in a sentence why a group waits, and when it will start at the latest if all ends as expected.
type Reason struct {
	ID       GroupID
	Text     string
	Estimate float64 // epoch seconds; 0 = unknown
}

// Reasons explains why groups wait: those named that are in the queue, or without names the first ReasonLimit in queue order, then
// held ones. It changes nothing.
func (m *Machine) Reasons(now float64, ids []GroupID) []Reason {
	p := &Pass{m: m, now: now}
	head := m.head(p)
	var out []Reason
	for _, g := range m.asked(p, ids) {
		out = append(out, Reason{ID: g.ID, Text: m.reason(g, head)})
	}
	if head == nil {
		return out
	}
	for i := range out {
		if out[i].ID == head.ID {
			out[i].Estimate = m.estimate(now, head)
		}
	}
	return out
}

// head is the first group of the queue that can run on the nodes that are up.
func (m *Machine) head(p *Pass) *Group {
	q := p.Queue()
	for g := q.Next(); g != nil; g = q.Next() {
		if p.Possible(g) {
			return g
		}
		q.Drop()
	}
	return nil
}

func (m *Machine) asked(p *Pass, ids []GroupID) []*Group {
	var groups []*Group
	for _, id := range ids {
		if g := m.groups[id]; g != nil {
			groups = append(groups, g)
		}
	}
	if len(ids) > 0 {
		return groups
	}
	q := p.Queue()
	for g := q.Next(); g != nil && len(groups) < ReasonLimit; g = q.Next() {
		groups = append(groups, g)
	}
	return groups
}

func (m *Machine) estimate(now float64, head *Group) float64 {
	if t := m.shadow(head.shape); t < unlimited && !m.hold {
		return max(now, t)
	}
	return 0
}

func (m *Machine) reason(g, head *Group) string {
	s := g.shape
	switch {
	case s.invalid:
		return s.need.Valid().Error()
	case g.Priority == 0:
		return "is held"
	case m.hold:
		return "scheduling is stopped"
	}
	if err := m.feasible(s); err != nil {
		return err.Error()
	}
	if !m.possible(s) {
		return s.missing(m.inv.UpTotal()) + " to come up (nodes are offline or drained)"
	}
	if !s.fits(m.inv.Free()) {
		return s.missing(m.inv.Free())
	}
	if g == head {
		return "is about to start"
	}
	return fmt.Sprintf("waits behind %v in the queue", jobspec.ID(head.Order))
}

// missing says how much of what the shape needs is not in x.
func (s *shape) missing(x *resource.Index) string {
	r := s.need.Req
	switch {
	case r.Nodes > 0:
		have := s.nodesThatFit(x, r.Nodes)
		what := "nodes"
		if r.Exclusive {
			what = "whole nodes"
		}
		return fmt.Sprintf("waits for %d of %d %s", r.Nodes-have, r.Nodes, what)
	case s.need.Slot == (resource.Room{Cores: 1}):
		return fmt.Sprintf("waits for %d of %d cores", r.Slots-s.slotsThatFit(x, r.Slots), r.Slots)
	}
	return fmt.Sprintf("waits for %d of %d slots", r.Slots-s.slotsThatFit(x, r.Slots), r.Slots)
}
