package sched

import "github.com/frond-hpc/frond/jobspec"

// counters are what is in use of the instance's named counters. A job takes all it needs of them when it starts, whatever its nodes.
// Shapes name them by place; one that needs none has no list, and costs nothing.
type counters struct {
	names []string
	total []int64
	used  []int64 // by adopted jobs it may be more than total
}

// countNeed is n of the counter at a place.
type countNeed struct {
	at int
	n  int64
}

// CounterUse is the state of a counter.
type CounterUse struct {
	Name        string
	Total, Used int64
}

// Counters lists the named counters in the order of the configuration; those that only adopted or queued jobs name come last.
func (m *Machine) Counters() []CounterUse {
	var list []CounterUse
	for i, name := range m.counts.names {
		if m.counts.total[i] > 0 || m.counts.used[i] > 0 {
			list = append(list, CounterUse{name, m.counts.total[i], m.counts.used[i]})
		}
	}
	return list
}

func (c *counters) define(list []jobspec.Counter) {
	for _, x := range list {
		c.total[c.place(x.Name)] = x.N
	}
}

// place finds a counter; one that there is not gets a place with a total of 0.
func (c *counters) place(name string) int {
	for i, n := range c.names {
		if n == name {
			return i
		}
	}
	c.names, c.total, c.used = append(c.names, name), append(c.total, 0), append(c.used, 0)
	return len(c.names) - 1
}

func (c *counters) needsOf(req *jobspec.Request) []countNeed {
	var needs []countNeed
	for _, x := range req.CounterList() {
		needs = append(needs, countNeed{c.place(x.Name), x.N})
	}
	return needs
}

func (c *counters) free(at int) int64 { return max(0, c.total[at]-c.used[at]) }

// allow is for how many jobs the counters suffice, at most n.
func (c *counters) allow(needs []countNeed, n int) int {
	for _, x := range needs {
		n = int(min(int64(n), c.free(x.at)/x.n))
	}
	return n
}

// book takes (by = 1) or gives back (-1).
func (c *counters) book(needs []countNeed, by int64) {
	for _, x := range needs {
		c.used[x.at] += by * x.n
	}
}

// ever tells whether the counters would suffice if none were in use.
func (c *counters) ever(needs []countNeed) bool {
	for _, x := range needs {
		if x.n > c.total[x.at] {
			return false
		}
	}
	return true
}

// left are the needs of the shape that holds a reservation, with what will be free beside them instead of what is needed.
type left []countNeed

// allow is for how many jobs that run on into the reservation the counters suffice.
func (l left) allow(needs []countNeed, n int) int {
	for _, x := range needs {
		for _, r := range l {
			if r.at == x.at {
				n = int(min(int64(n), max(0, r.n)/x.n))
			}
		}
	}
	return n
}

func (l left) take(needs []countNeed, jobs int) {
	for _, x := range needs {
		for i := range l {
			if l[i].at == x.at {
				l[i].n -= int64(jobs) * x.n
			}
		}
	}
}

// awaited is what a shape still lacks of its counters, while a reservation is worked out.
type awaited struct {
	needs []countNeed
	free  []int64 // of each of needs
}

func (m *Machine) awaited(s *shape) awaited {
	if len(s.counts) == 0 {
		return awaited{}
	}
	a := awaited{needs: s.counts, free: make([]int64, len(s.counts))}
	for i, x := range a.needs { // not free(): what adopted jobs use beyond the total has to come back first
		a.free[i] = m.counts.total[x.at] - m.counts.used[x.at]
	}
	return a
}

func (a *awaited) enough() bool {
	for i, x := range a.needs {
		if a.free[i] < x.n {
			return false
		}
	}
	return true
}

func (a *awaited) release(r *run) {
	if r.counted == nil {
		return
	}
	for _, x := range r.counted.counts {
		for i := range a.needs {
			if a.needs[i].at == x.at {
				a.free[i] += x.n
			}
		}
	}
}

// beside is what is free of the needed counters when the needs are covered.
func (a *awaited) beside() left {
	var l left
	for i, x := range a.needs {
		l = append(l, countNeed{x.at, max(0, a.free[i]-x.n)})
	}
	return l
}
