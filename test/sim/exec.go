package sim

import (
	"github.com/frond-hpc/frond/broker/execsvc"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/exec"
	execsim "github.com/frond-hpc/frond/exec/sim"
)

func (w *world) execConfig(n *node) execsvc.Config {
	return execsvc.Config{UUID: n.uuid, Exec: exec.Config{MockInDriver: true}}
}

// execDriver plays a broker's tasks and tells the world of each.
func (w *world) execDriver(n *node) reactor.Driver {
	return execsim.New(execsim.Config{Seed: w.cfg.Seed, Now: w.Now, After: w.After, Observe: func(o execsim.Observation) {
		switch {
		case !n.alive:
		case o.Begins:
			w.started(n, o.Ref.Job, o.Ref.Attempt)
		default:
			w.ended(n, o.Ref.Job)
		}
	}})
}
