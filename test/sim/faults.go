package sim

import (
	"time"

	memnet "github.com/frond-hpc/frond/overlay/mem"
)

// mishap lets one thing go wrong and arranges the next.
func (w *world) mishap() {
	if w.calm {
		return
	}
	alive := w.alive()
	if len(alive) == 0 {
		return
	}
	n := alive[w.rng.IntN(len(alive))]
	switch w.rng.IntN(20) {
	case 0, 1, 2, 3, 4, 5:
		w.killBroker(n)
	case 6:
		w.killLeader()
	case 7, 8, 9:
		w.partition(alive)
	case 10, 11, 12:
		w.net.Break(n.name, alive[w.rng.IntN(len(alive))].name, w.rng.IntN(2) == 0)
		w.net.Break(n.name, w.leaderName(), w.rng.IntN(2) == 0)
	case 13, 14, 15, 16:
		w.badWeather()
	default:
		w.net.SetFaults(calmNet())
	}
	w.After(time.Duration(w.rng.Int64N(int64(4*time.Second))), w.mishap)
}

func calmNet() memnet.Faults {
	return memnet.Faults{MinLatency: 50 * time.Microsecond, MaxLatency: 400 * time.Microsecond}
}

// killBroker crashes a broker, tells the leader or not, and later starts another process in its place.
func (w *world) killBroker(n *node) {
	w.logf("%s (rank %d) is killed", n.name, n.rank)
	w.crash(n)
	w.net.Crash(n.name, w.rng.IntN(2) == 0)
	if w.rng.IntN(2) == 0 {
		w.user.brokerDead(n)
	}
	w.After(time.Duration(w.rng.Int64N(int64(20*time.Second))), func() { w.boot(n.name, -1, false) })
}

// killLeader crashes the leader; its supervisor starts it again.
func (w *world) killLeader() {
	if w.leader == nil || !w.leader.alive {
		return
	}
	w.logf("the leader is killed")
	name := w.leader.name
	w.crash(w.leader)
	w.net.Crash(name, w.rng.IntN(2) == 0)
	w.After(100*time.Millisecond+time.Duration(w.rng.Int64N(int64(3*time.Second))), w.startLeader)
}

// partition cuts some brokers off for a while, long enough for leases to end at times.
func (w *world) partition(alive []*node) {
	var side []string
	for _, n := range alive {
		if w.rng.IntN(10) == 0 {
			side = append(side, n.name)
		}
	}
	w.logf("%d brokers are cut off", len(side))
	w.net.Partition(side)
	w.After(time.Duration(w.rng.Int64N(int64(45*time.Second))), w.net.Heal)
}

// badWeather lets frames be lost, late or double for a moment.
func (w *world) badWeather() {
	f := calmNet()
	f.Drop, f.Duplicate, f.Delay = w.rng.Float64()*0.002, w.rng.Float64()*0.002, w.rng.Float64()*0.01
	f.DelayBy = time.Duration(w.rng.Int64N(int64(3 * time.Second)))
	w.net.SetFaults(f)
	w.After(2*time.Second, func() { w.net.SetFaults(calmNet()) })
}

// calmDown ends all faults.
func (w *world) calmDown() {
	w.logf("calm")
	w.calm = true
	w.net.SetFaults(calmNet())
	w.net.Heal()
}
