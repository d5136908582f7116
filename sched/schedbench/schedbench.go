// Package schedbench makes the loads on which the scheduler's speed is measured, for Go benchmarks and `make bench` alike. It is pure:
// who calls takes the time.
package schedbench

import (
	"fmt"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/sched"
)

// Nodes makes n nodes with so many cores each.
func Nodes(n, cores int) []resource.Node {
	nodes := make([]resource.Node, n)
	for i := range nodes {
		nodes[i] = resource.Node{Index: i, Name: fmt.Sprintf("node%d", i), Broker: int32(i), Cores: resource.MaskRange(0, cores-1)}
	}
	return nodes
}

// Load is a machine on virtual time with its driver.
type Load struct {
	M   *sched.Machine
	Now float64

	id   sched.GroupID
	held []uint64 // allocations that Finish ends
	// oldest is the place in held of the first that Replace has not ended.
	oldest int
}

// New returns a load on that many nodes.
func New(p sched.Policy, nodes, cores int) *Load {
	l := &Load{M: sched.New(sched.Config{Policy: p, MaxAllocs: 1 << 30}), Now: 1e9}
	l.M.Step(l.Now, sched.Nodes{Add: Nodes(nodes, cores)})
	return l
}

// Submit adds a group of n jobs; duration 0 = unlimited.
func (l *Load) Submit(r jobspec.Request, duration float64, n int) {
	l.id++
	l.M.Step(l.Now, sched.Submit{Groups: []sched.GroupSpec{{ID: l.id, Request: r, Duration: duration, Priority: 16, Order: uint64(l.id), Count: n}}})
}

// Pass runs one pass and returns how many jobs started.
func (l *Load) Pass() int {
	n := 0
	for _, a := range l.M.Step(l.Now, sched.RunPass{}) {
		if a, ok := a.(sched.Allocs); ok {
			n += len(a.Allocs)
			for i := range a.Allocs {
				l.held = append(l.held, a.Allocs[i].ID)
			}
		}
	}
	return n
}

// Finish ends all allocations that Pass has made since the last call.
func (l *Load) Finish() {
	l.M.Step(l.Now, sched.Free{IDs: l.held[l.oldest:]})
	l.held, l.oldest = l.held[:0], 0
}

// OneCore makes n one-core allocations and ends them: as one array, or with single as n submissions. It returns how many it made.
func (l *Load) OneCore(n int, single bool) int {
	req := jobspec.Request{Slots: 1, Cores: 1}
	if single {
		for range n {
			l.Submit(req, 0, 1)
		}
	} else {
		l.Submit(req, 0, n)
	}
	started := l.Pass()
	l.Finish()
	return started
}

// Queue prepares full EASY passes: three quarters of each node run jobs of known ends, a job for all nodes waits at the head, and
// behind it wait n jobs (at most nodes × cores/4 that all differ) that have room now but would delay it.
func Queue(p sched.Policy, nodes, cores, n int) *Load {
	l := New(p, nodes, cores)
	for i := range nodes {
		l.Submit(jobspec.Request{Nodes: 1, Slots: 1, Cores: cores * 3 / 4}, float64(1000+i), 1)
	}
	l.Pass()
	l.held = l.held[:0]
	l.Submit(jobspec.Request{Nodes: nodes, Slots: 1, Cores: cores, Exclusive: true}, 3600, 1)
	for i := range n {
		l.Submit(jobspec.Request{Nodes: 1 + i%nodes, Slots: 1 + i/nodes%(cores/4), Cores: 1}, float64(2000+nodes+i), 1)
	}
	return l
}

// FullPass ends and starts one urgent job before the pass, so that nothing known from the pass before holds: the reservation is
// made anew and every job is looked at. It returns how many started: the urgent one.
func (l *Load) FullPass() int {
	l.Finish()
	l.id++
	l.M.Step(l.Now, sched.Submit{Groups: []sched.GroupSpec{{ID: l.id, Request: jobspec.Request{Slots: 1, Cores: 1}, Duration: 1, Priority: 31,
		Order: uint64(l.id), Count: 1}}})
	return l.Pass()
}

// Replace ends the oldest allocation and runs a pass.
func (l *Load) Replace() int {
	l.M.Step(l.Now, sched.Free{IDs: l.held[l.oldest : l.oldest+1]})
	l.oldest++
	return l.Pass()
}
