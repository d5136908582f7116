// Package sim runs whole instances of many brokers in one loop on virtual time, with faults, from one seed: the same machines,
// services, router and overlay that production runs, over overlay/mem, broker/store/mem and exec/sim. The same seed gives the same
// log.
package sim

import "time"

// loop is virtual time: what is due next is done next, in order of (time, sequence).
type loop struct {
	now    time.Time
	seq    uint64
	due    dueHeap
	ready  []readyItem // due now, in order
	at     int         // next of ready
	events uint64
}

// readyItem is an input for a broker's core or for one of its services, or a call of f.
type readyItem struct {
	core *node
	svc  *service
	in   any
	f    func()
}

func (it *readyItem) do() {
	switch {
	case it.core == nil && it.svc == nil:
		it.f()
	case it.svc != nil:
		it.svc.handle(it.in)
	case it.core.alive:
		it.core.step(it.in)
	}
}

// dueItem is a call at a later time.
type dueItem struct {
	ns  int64 // time, Unix nanoseconds
	seq uint64
	f   func()
}

// dueHeap is a heap with four children to an entry: cheaper here than container/heap, which a tenth of a run went into.
type dueHeap []dueItem

func (a *dueItem) before(b *dueItem) bool {
	if a.ns != b.ns {
		return a.ns < b.ns
	}
	return a.seq < b.seq
}

func (h *dueHeap) push(it dueItem) {
	*h = append(*h, it)
	s := *h
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 4
		if !s[i].before(&s[up]) {
			return
		}
		s[i], s[up] = s[up], s[i]
		i = up
	}
}

func (h *dueHeap) pop() dueItem {
	s := *h
	first, n := s[0], len(s)-1
	s[0] = s[n]
	s[n] = dueItem{}
	s = s[:n]
	*h = s
	for i := 0; ; {
		least := i
		for c := 4*i + 1; c <= 4*i+4 && c < n; c++ {
			if s[c].before(&s[least]) {
				least = c
			}
		}
		if least == i {
			return first
		}
		s[i], s[least] = s[least], s[i]
		i = least
	}
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
	l.due.push(dueItem{l.now.UnixNano() + int64(d), l.seq, f})
}

// soon calls f at this moment, after what is due already.
func (l *loop) soon(f func()) { l.ready = append(l.ready, readyItem{f: f}) }

// step does the next thing; false = nothing is left, or it is after limit.
func (l *loop) step(limit time.Time) bool {
	if l.at < len(l.ready) {
		it := l.ready[l.at]
		l.ready[l.at] = readyItem{}
		l.at++
		if l.at == len(l.ready) {
			l.ready, l.at = l.ready[:0], 0
		}
		l.events++
		it.do()
		return true
	}
	if len(l.due) == 0 || l.due[0].ns > limit.UnixNano() {
		return false
	}
	it := l.due.pop()
	l.now = time.Unix(0, it.ns)
	l.events++
	it.f()
	return true
}
