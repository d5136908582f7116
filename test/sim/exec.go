package sim

import (
	"time"

	"github.com/frond-hpc/frond/broker/execsvc"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/exec"
	execsim "github.com/frond-hpc/frond/exec/sim"
)

// execConfig has seven brokers in eight report less often, and that a task runs only when it runs for long: what a simulation takes is
// mostly messages. The eighth reports as in production.
func (w *world) execConfig(n *node) execsvc.Config {
	cfg := exec.Config{MockInDriver: true}
	if w.processes%8 != 0 {
		cfg.StartedDelay, cfg.ReportGap, cfg.MaxCalls = 4*time.Second, 2*time.Second, 7 // so few that the gap always holds
	}
	return execsvc.Config{UUID: n.uuid, Exec: cfg}
}

// execDriver plays a broker's tasks and tells the world of each.
func (w *world) execDriver(n *node) reactor.Driver {
	return execsim.New(execsim.Config{Seed: w.cfg.Seed, Now: w.Now, After: w.After, Observe: func(o execsim.Observation) {
		switch {
		case !n.alive:
		case o.Begins:
			w.user.checkParams(n, &o.Start)
			w.started(n, o.Ref.Job, o.Ref.Attempt)
		default:
			w.ended(n, o.Ref.Job)
		}
	}})
}
