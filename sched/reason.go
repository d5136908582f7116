package sched

import (
	"fmt"
	"math"
	"strconv"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
)

// Limits of one call of Reasons.
const (
	ReasonLimit   = 10000 // groups that it tells about when none are named
	forecastSteps = 8192  // starts and ends that estimates look ahead
	detailSteps   = 65536 // with detail
)

// Reason says in a sentence why a group waits, and when its next job is expected to start.
type Reason struct {
	ID       GroupID
	Text     string
	Estimate float64 // epoch seconds; 0 = unknown
	Ahead    int     // jobs that stand before it in the queue; -1 = not counted
}

// Reasons explains why groups wait: those named that are in the queue, or without names the first ReasonLimit in queue order, then
// held ones. With detail it counts what is ahead, and looks further. It changes nothing.
func (m *Machine) Reasons(now float64, ids []GroupID, detail bool) []Reason {
	p := m.newPass(now)
	x := &explainer{m: m, left: p.reach, head: m.head(p), detail: detail, texts: make(map[*shape]string)}
	groups := m.asked(p, ids)
	out := make([]Reason, len(groups))
	steps := forecastSteps
	if detail {
		steps = detailSteps
		x.ahead = m.ahead(p, groups)
	}
	var when map[GroupID]float64
	if len(groups) > 0 && x.head != nil {
		when = m.forecast(p, steps)
	}
	for i, g := range groups {
		out[i] = Reason{ID: g.ID, Text: x.reason(g), Estimate: when[g.ID], Ahead: -1}
		if n, counted := x.ahead[g]; counted {
			out[i].Ahead = n
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
	q := p.queue(unlimited)
	for g := q.Next(); g != nil && len(groups) < ReasonLimit; g = q.Next() {
		groups = append(groups, g)
	}
	return groups
}

// ahead counts the jobs before each of the groups that is in the queue.
func (m *Machine) ahead(p *Pass, groups []*Group) map[*Group]int {
	wanted := make(map[*Group]int, len(groups))
	for _, g := range groups {
		if g.Priority > 0 && !g.shape.invalid {
			wanted[g] = -1
		}
	}
	q, before, open := p.queue(unlimited), 0, len(wanted)
	for g := q.Next(); g != nil && open > 0; g = q.Next() {
		if _, ok := wanted[g]; ok {
			wanted[g] = before
			open--
		}
		before += g.Count
	}
	return wanted
}

// explainer words reasons. What follows from the shape alone is worded once.
type explainer struct {
	m      *Machine
	head   *Group
	left   float64 // seconds until the instance's expiration
	detail bool
	ahead  map[*Group]int
	texts  map[*shape]string // empty: there is room
}

func (x *explainer) reason(g *Group) string {
	s := g.shape
	switch {
	case s.invalid:
		return s.need.Valid().Error()
	case g.Priority == 0:
		return "is held"
	case x.m.hold:
		return "scheduling is stopped"
	case x.left <= 0:
		return "waits for another allocation: this instance is at its end, and starts nothing more"
	case g.Least > x.left && !s.key.endless:
		return fmt.Sprintf("waits for another allocation: it needs %s, and this instance ends in %s", jobspec.FormatFSD(g.Least), leftText(x.left))
	}
	text, known := x.texts[s]
	if !known {
		text = x.lacks(s)
		x.texts[s] = text
	}
	n := x.ahead[g]
	switch {
	case text != "" && n > 0:
		return text + ", behind " + jobs(n)
	case text != "":
		return text
	case g == x.head:
		return "is about to start"
	case n > 0:
		return fmt.Sprintf("waits behind %s in the queue: what is free is kept for %v", jobs(n), jobspec.ID(x.head.Order))
	}
	return fmt.Sprintf("waits behind %v in the queue", jobspec.ID(x.head.Order))
}

func jobs(n int) string {
	if n == 1 {
		return "1 job"
	}
	return fmt.Sprintf("%d jobs", n)
}

// lacks says what there is too little of for one job of the shape; empty if there is room.
func (x *explainer) lacks(s *shape) string {
	m := x.m
	if err := m.feasible(s); err != nil {
		return err.Error()
	}
	for _, n := range s.counts {
		if free := m.counts.free(n.at); free < n.n {
			return fmt.Sprintf("waits for %d of resource %s: %d of %d free", n.n, m.counts.names[n.at], free, m.counts.total[n.at])
		}
	}
	if !m.possible(s) {
		what, have := x.missing(s, m.inv.UpTotal())
		return fmt.Sprintf("waits for %s: %s on the nodes that are up, others are offline or drained", what, have)
	}
	if !s.fits(m.inv.Free()) {
		what, have := x.missing(s, m.inv.Free())
		return fmt.Sprintf("waits for %s: %s free", what, have)
	}
	return ""
}

// missing says what the shape needs, and how much of it is in an index.
func (x *explainer) missing(s *shape, in *resource.Index) (what, have string) {
	r := s.need.Req
	switch {
	case r.Nodes > 0 && r.Exclusive:
		what, have = plural(r.Nodes, "whole node"), strconv.Itoa(s.nodesThatFit(in, r.Nodes))
	case r.Nodes > 0:
		what, have = plural(r.Nodes, "node")+" with "+resource.DescribeRoom(s.need.Node), strconv.Itoa(s.nodesThatFit(in, r.Nodes))
	case s.need.Slot == (resource.Room{Cores: 1}):
		what, have = plural(r.Slots, "core"), strconv.Itoa(s.slotsThatFit(in, r.Slots))
	case r.Slots == 1:
		what, have = resource.DescribeRoom(s.need.Slot)+" on one node", "none"
	default:
		what, have = plural(r.Slots, "slot")+" of "+resource.DescribeRoom(s.need.Slot), strconv.Itoa(s.slotsThatFit(in, r.Slots))
	}
	if x.detail && s.constraint != nil {
		what += " where a node " + resource.Describe(s.constraint)
	}
	return what, have
}

// leftText is a time that is left, rounded down.
func leftText(s float64) string {
	unit := 60.0
	if s < 2*unit {
		unit = 1
	}
	return jobspec.FormatFSD(math.Floor(s/unit) * unit)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
