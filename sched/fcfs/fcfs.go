// Package fcfs is the policy first come, first served: the first group of the queue that cannot start blocks all behind it, also when
// it waits for a node that is down.
package fcfs

import "github.com/frond-hpc/frond/sched"

// Policy is first come, first served.
type Policy struct{}

// Name is "fcfs".
func (Policy) Name() string { return "fcfs" }

// Pass starts groups in order until one has to wait.
func (Policy) Pass(p *sched.Pass) {
	q := p.Queue()
	for g := q.Next(); g != nil && !p.Full() && p.Start(g); g = q.Next() {
	}
}
