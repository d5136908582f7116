package sim

import "time"

// mishap is the next thing that goes wrong.
func (w *tree) mishap() {
	if w.calm {
		return
	}
	w.After(200*time.Millisecond+w.upTo(3*time.Second), w.mishap)
	in := w.all[w.rng.IntN(len(w.all))]
	s := in.seats[w.rng.IntN(len(in.seats))]
	if s == nil || s.gone || s.node == nil || !s.node.alive {
		return
	}
	switch w.rng.IntN(16) {
	case 0, 1, 2: // the link with the parent breaks
		if in.up != nil {
			w.res.Breaks++
			in.up.end()
		}
	case 3, 4: // for a while
		if in.up != nil {
			w.res.Breaks++
			in.cutUntil = w.now.Add(w.upTo(10 * time.Second))
			in.up.end()
		}
	case 5, 6, 7: // a leader's process dies
		w.logf("the leader of %s is killed", in)
		in.kill(in.seats[0])
	case 8, 9: // a broker's
		w.logf("broker %d of %s is killed", s.rank, in)
		in.kill(s)
	case 10, 11: // a branch's first task, with all that is its
		if in.parent != nil {
			w.logf("%s is killed", in)
			in.exit(in.seats[0])
		}
	case 12: // with its state
		if in.parent != nil && w.cfg.Wipe {
			w.logf("%s is killed, and its state lost", in)
			w.wipe(in)
		}
	case 13, 14: // brokers are cut off, at times until their leases end
		var side []string
		for i := 1; i < len(in.seats); i++ {
			if w.rng.IntN(3) == 0 {
				side = append(side, in.addrOf(i))
			}
		}
		in.net.Partition(side)
		w.logf("%d brokers of %s are cut off", len(side), in)
		w.After(w.upTo(45*time.Second), in.net.Heal)
	default:
		f := calmNet()
		f.Drop, f.Duplicate, f.Delay, f.DelayBy = w.rng.Float64()*0.01, w.rng.Float64()*0.01, w.rng.Float64()*0.05, w.upTo(3*time.Second)
		in.net.SetFaults(f)
		w.After(2*time.Second, func() { in.net.SetFaults(calmNet()) })
	}
}

// wipe ends a branch and loses its state directory, and with that those of its own branches.
func (w *tree) wipe(in *inst) {
	w.res.Wipes++
	in.exit(in.seats[0])
	path := in.path
	w.soon(func() {
		w.spoil(path)
		for p := range w.states {
			if p == path || len(p) > len(path) && p[:len(path)+1] == path+"/" {
				delete(w.states, p)
			}
		}
	})
}
