// Package sim runs whole instances of many brokers in one loop on virtual time, with faults, from one seed: the same machines,
// services, router and overlay that production runs, over overlay/mem, broker/store/mem and exec/sim. The same seed gives the same
// log.
package sim

import (
	"container/heap"
	"time"
)

// loop is virtual time: what is due next is done next, in order of (time, sequence).
type loop struct {
	now    time.Time
	seq    uint64
	due    dueHeap
	ready  []func() // due now, in order
	at     int      // next of ready
	events uint64
}

type dueItem struct {
	at  time.Time
	seq uint64
	f   func()
}

type dueHeap []dueItem

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) { *h = append(*h, x.(dueItem)) }

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = dueItem{}
	*h = old[:len(old)-1]
	return it
}

// Now is the virtual time (overlay/mem's and exec/sim's clock).
func (l *loop) Now() time.Time { return l.now }

// After calls f when d has passed.
func (l *loop) After(d time.Duration, f func()) {
	if d <= 0 {
		l.soon(f)
		return
	}
	l.seq++
	heap.Push(&l.due, dueItem{l.now.Add(d), l.seq, f})
}

// soon calls f at this moment, after what is due already.
func (l *loop) soon(f func()) { l.ready = append(l.ready, f) }

// step does the next thing; false = nothing is left, or it is after limit.
func (l *loop) step(limit time.Time) bool {
	if l.at < len(l.ready) {
		f := l.ready[l.at]
		l.ready[l.at] = nil
		l.at++
		if l.at == len(l.ready) {
			l.ready, l.at = l.ready[:0], 0
		}
		l.events++
		f()
		return true
	}
	if len(l.due) == 0 || l.due[0].at.After(limit) {
		return false
	}
	it := heap.Pop(&l.due).(dueItem)
	l.now = it.at
	l.events++
	it.f()
	return true
}
