// Package sched decides which waiting jobs get which resources when. It is a pure machine: submissions, ends of
// allocations and changes of nodes go in with the time, allocations come out.
//
// Waiting jobs stand in the queue as groups: jobs that are alike in all that matters here. Groups of one request and
// constraint form a shape; if one of a shape does not fit, none does, so a pass looks at shapes, not at jobs, and freeing one core
// under a queue of a million equal jobs costs a search in a tree. Order is by priority (higher first), then by Order.
//
// What a job gets is first fit by node index, packed: cores of the lowest free ids; a request without a number of nodes goes to
// the first node that can take all of it, or else its slots fill nodes in order. With a number of nodes each gets its slots, on the
// first nodes that have room. Which waiting group may start is up to a Policy (sched/fcfs, sched/easy).
package sched

import (
	"math"
	"slices"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
)

// Policy decides in which order and under which conditions waiting groups start.
type Policy interface {
	Name() string
	// Pass starts what may start now. It is called with a queue that may have changed in any way since the last call.
	Pass(p *Pass)
}

// Config of a Machine.
type Config struct {
	Policy Policy
	// Counters are the named counters and how much there is of each.
	Counters resource.Counters
	// MaxAllocs bounds one pass; what is left starts in the next, which follows at once. Default 16,384.
	MaxAllocs int
	// ExactRunning is the number of running allocations up to which a reservation is made anew whenever something ended. Above it
	// that happens at most every PlanEvery seconds, or when a sixteenth of them has ended: making one costs about 50 ns for each.
	// Only backfilling waits for it, the head of the queue never does. Defaults 16,384 and 0.1.
	ExactRunning int
	PlanEvery    float64
	// Patience: a reservation that hangs on an unknown end covers twice the nodes after each so many seconds of waiting, so that a
	// stream of jobs without time limits cannot keep a large one waiting for ever. Default 60.
	Patience float64
}

// Machine is the scheduler. Not safe for concurrent use.
type Machine struct {
	cfg Config
	inv *resource.Inventory

	groups map[GroupID]*Group
	shapes []*shape // with at least one group that is not held; order is of no importance
	byKey  map[shapeKey]*shape
	conds  map[string]*cond
	counts counters

	runs    []run
	idle    []uint32          // places in runs that are free
	adopted map[uint64]uint32 // id given by others → place in runs
	running int
	ends    endList

	hold         bool
	expiration   float64 // of the instance; +Inf = unknown
	wakeAt       float64 // a Wake for a pass is out; 0 = none
	grown        uint64  // counts changes by which free room may have grown
	topology     uint64  // counts changes of nodes
	plan         planState
	pool         pool
	scratch      []resource.Room
	besideCounts left // of the last shadow
	parts        []part
}

// New returns a machine without nodes and jobs. The config must have a Policy.
func New(cfg Config) *Machine {
	if cfg.MaxAllocs <= 0 {
		cfg.MaxAllocs = 16384
	}
	if cfg.ExactRunning <= 0 {
		cfg.ExactRunning = 16384
	}
	if cfg.PlanEvery <= 0 {
		cfg.PlanEvery = 0.1
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 60
	}
	m := &Machine{cfg: cfg, inv: resource.NewInventory(), groups: make(map[GroupID]*Group), byKey: make(map[shapeKey]*shape),
		conds: make(map[string]*cond), adopted: make(map[uint64]uint32), grown: 1, topology: 1, expiration: unlimited}
	m.counts.define(cfg.Counters)
	return m
}

// Step takes one event at the time now (epoch seconds) and returns what follows, in order: Wake, Allocs, Deny, Conflict. Only the
// event Pass allocates; the others ask for it by a Wake, so that a batch of events costs one pass. Actions may be kept.
func (m *Machine) Step(now float64, event any) []any {
	var out []any
	switch e := event.(type) {
	case Submit:
		for i := range e.Groups {
			m.submit(&e.Groups[i])
		}
	case SetPriority:
		m.setPriority(e)
	case SetDuration:
		m.setDuration(e)
	case SetEnd:
		m.setEnd(e)
	case Cancel:
		m.cancel(e)
	case Free:
		for _, id := range e.IDs {
			m.free(id)
		}
	case Adopt:
		out = m.adopt(e.Allocs)
	case Hold:
		m.hold = e.Hold
	case SetExpiration:
		m.setExpiration(e)
	case Nodes:
		out = m.changeNodes(e)
	case RunPass:
		return m.pass(now)
	default:
		panic("sched: unknown event")
	}
	return m.wake(now, out)
}

// wake asks for a pass if none has been asked for and there may be something to start.
func (m *Machine) wake(now float64, out []any) []any {
	if m.wakeAt != 0 && m.wakeAt <= now || m.hold || len(m.shapes) == 0 {
		return out
	}
	m.wakeAt = now
	return append(out, Wake{At: now})
}

func (m *Machine) pass(now float64) []any {
	m.wakeAt = 0
	if m.hold || now >= m.expiration || len(m.shapes) == 0 || m.inv.Free().Cores() == 0 {
		return nil
	}
	p := m.newPass(now)
	m.cfg.Policy.Pass(p)
	var out []any
	if len(p.allocs) > 0 {
		out = append(out, Allocs{p.allocs})
	}
	if p.Full() {
		p.retry = now
	}
	if p.retry > 0 {
		m.wakeAt = p.retry
		out = append(out, Wake{At: p.retry})
	}
	return out
}

// changeNodes brings nodes in and out; groups that could run before and never can now are denied, unless scheduling is on hold
// (an instance that ends loses its nodes one by one; its jobs stay).
func (m *Machine) changeNodes(e Nodes) []any {
	could := m.denialCandidates(e)
	for _, n := range e.Add {
		if m.inv.Add(n) == nil {
			m.matchConds(n.Index)
		}
	}
	for _, i := range e.Up {
		m.inv.SetUp(i, true)
	}
	for _, i := range e.Down {
		m.inv.SetUp(i, false)
	}
	for _, i := range e.Remove {
		m.inv.Remove(i)
	}
	m.grown++
	m.topology++
	if len(could) == 0 {
		return nil
	}
	return m.deny(could)
}

func (m *Machine) denialCandidates(e Nodes) map[shapeKey]bool {
	if len(e.Remove) == 0 || m.hold {
		return nil
	}
	could := make(map[shapeKey]bool)
	for _, g := range m.groups {
		if _, seen := could[g.shape.key]; !seen {
			could[g.shape.key] = m.feasible(g.shape) == nil
		}
	}
	return could
}

func (m *Machine) deny(could map[shapeKey]bool) []any {
	var lost []*Group
	for _, g := range m.groups {
		if could[g.shape.key] && m.feasible(g.shape) != nil {
			lost = append(lost, g)
		}
	}
	slices.SortFunc(lost, compare)
	var out []any
	for _, g := range lost {
		out = append(out, Deny{ID: g.ID, Reason: m.feasible(g.shape).Error()})
		m.drop(g)
	}
	return out
}

func (m *Machine) feasible(s *shape) error {
	if err := m.cfg.Counters.Feasible(&s.need.Req); err != nil {
		return err
	}
	return m.inv.Feasible(s.need.Req, s.constraint)
}

// Inventory is what the machine knows of nodes. It must not be changed.
func (m *Machine) Inventory() *resource.Inventory { return m.inv }

// Used lists the parts of nodes that are in use, by node index.
func (m *Machine) Used() []resource.NodeAlloc {
	var used []resource.NodeAlloc
	for i := range m.inv.Len() {
		if u := m.inv.Used(i); !u.Cores.Empty() || !u.GPUs.Empty() || u.MemMiB > 0 {
			used = append(used, u)
		}
	}
	return used
}

// Pending is the number of jobs in the queue, held ones too; Running that of allocations.
func (m *Machine) Pending() int {
	n := 0
	for _, g := range m.groups {
		n += g.Count
	}
	return n
}

// Running is the number of allocations that have not ended.
func (m *Machine) Running() int { return m.running }

// Held tells whether scheduling is stopped (Hold).
func (m *Machine) Held() bool { return m.hold }

// cond is a constraint in use, with the nodes that satisfy it.
type cond struct {
	c    *jobspec.Constraint
	key  string
	refs int // shapes
	bits []uint64
}

func (m *Machine) useCond(c *jobspec.Constraint, key string) *cond {
	if c == nil {
		return nil
	}
	k := m.conds[key]
	if k == nil {
		k = &cond{c: c, key: key}
		m.conds[key] = k
		for i := range m.inv.Len() {
			if m.inv.Node(i) != nil {
				k.set(i, m.inv.Matches(i, c))
			}
		}
	}
	k.refs++
	return k
}

func (m *Machine) dropCond(k *cond) {
	if k == nil {
		return
	}
	if k.refs--; k.refs == 0 {
		delete(m.conds, k.key)
	}
}

// matchConds looks whether a node that is new or has changed satisfies the constraints in use.
func (m *Machine) matchConds(node int) {
	for _, k := range m.conds {
		k.set(node, m.inv.Matches(node, k.c))
	}
}

func (k *cond) set(node int, on bool) {
	for len(k.bits) <= node/64 {
		k.bits = append(k.bits, 0)
	}
	if on {
		k.bits[node/64] |= 1 << (node % 64)
	} else {
		k.bits[node/64] &^= 1 << (node % 64)
	}
}

func (k *cond) has(node int) bool {
	return k == nil || node/64 < len(k.bits) && k.bits[node/64]>>(node%64)&1 == 1
}

// unlimited stands for an unknown duration or end.
var unlimited = math.Inf(1)
