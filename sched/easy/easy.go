// Package easy is EASY backfilling (Lifka, "The ANL/IBM SP scheduling system", 1995; Mu'alem and Feitelson, 2001): the first group
// of the queue that has to wait gets a reservation at the earliest time when, by the expected ends of what runs, there is room for
// it (the shadow time). A later one may start now if it ends by then, or if it uses none of what is reserved.
//
// A job without a time limit counts as never ending: it starts early only beside the reservation. If the reservation itself hangs on
// such a job its time is unknown, and any job with a time limit may go first. A group that cannot run on the nodes that are up now
// (others are down or drained) gets no reservation and blocks nobody.
package easy

import "github.com/frond-hpc/frond/sched"

// Policy is EASY backfilling.
type Policy struct {
	Depth int // how many groups are looked at behind the first that waits; 0 = all
}

// Name is "easy".
func (Policy) Name() string { return "easy" }

// Pass starts groups in order until one has to wait, then backfills.
func (e Policy) Pass(p *sched.Pass) {
	q := p.Queue()
	head := startInOrder(p, q)
	if head == nil {
		return
	}
	q.Prune()
	for n := 0; e.Depth == 0 || n < e.Depth; n++ {
		g := q.Next()
		if g == nil || p.Full() || !backfill(p, q, head, g) {
			return
		}
	}
}

// startInOrder returns the first group that has to wait and can run on the nodes that are up.
func startInOrder(p *sched.Pass, q *sched.Cursor) *sched.Group {
	for g := q.Next(); g != nil && !p.Full(); g = q.Next() {
		if p.Start(g) {
			continue
		}
		if p.Full() {
			return nil
		}
		q.Drop()
		if p.Possible(g) {
			return g
		}
	}
	return nil
}

// backfill starts what it can of g without delaying head. It returns false when there is no reservation to be had now.
func backfill(p *sched.Pass, q *sched.Cursor, head, g *sched.Group) bool {
	if !p.Fits(g) {
		q.Drop()
		return true
	}
	r, ok := p.Reserve(head)
	if !ok {
		return false
	}
	switch {
	case g.Duration <= r.Window():
		if !p.Start(g) {
			q.Drop()
		}
	case p.StartBeside(g, r):
	case g.Least <= r.Window(): // in the hole that there is, with a shorter limit
		if !p.StartShort(g, r.Window()) {
			q.Drop()
		}
	default:
		q.OnlyWithin(r.Window())
	}
	return true
}
