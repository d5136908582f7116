package main

import "math"

// The model of an instance that is larger than this machine: what is measured here is what leaders cost, and what is computed is when
// they have no time left. In the steady state, each leader with a core to itself and all of a level with the same load,
//
//	jobs/s = min(nodes × jobs/s of a node, min over all levels of leaders / CPU per job)
//
// as each job passes one leader of each level. A level has no more leaders than there are nodes. Left out: waiting within a level (queues
// between leaders hold a second of work), what a leader costs while nothing happens, and that a leader may use more than one core.

// level is the leaders that are equally far from the top.
type level struct {
	name    string
	leaders int
	cost    float64 // seconds of CPU for a job that passes, of one leader
}

// jobRate is the jobs a second that nodes with so much work get through, and what bounds them: a level's name, or "" if it is the nodes.
func jobRate(levels []level, nodes int, perNode float64) (rate float64, bound string) {
	rate = float64(nodes) * perNode
	for _, l := range levels {
		if most := float64(min(l.leaders, nodes)) / l.cost; most < rate {
			rate, bound = most, l.name
		}
	}
	return rate, bound
}

// saturation is the number of nodes from which on more of them do not help, the rate there, and the level whose time is up.
func saturation(levels []level, perNode float64) (nodes int, rate float64, bound string) {
	rate = math.Inf(1)
	share := 1 / perNode // of a second of a node, or of a leader on a node of its own, for a job
	for _, l := range levels {
		share = max(share, l.cost)
		if most := float64(l.leaders) / l.cost; most < rate {
			rate, bound = most, l.name
		}
	}
	return int(rate*share) + 1, rate, bound
}
