package main

import "github.com/frond-hpc/frond/overlay/outer"

// evWarning is something that the user should know, found out on the side.
type evWarning struct{ text string }

// askNoKill finds out whether Slurm would end the whole job when one node fails. Only a site's accounting knows how a job was submitted; where there is
// none nothing is said.
func (s *supervisor) askNoKill() {
	a := s.plan.alloc
	if a == nil || a.Kind != "slurm" || len(s.plan.nodes) < 2 {
		return
	}
	go func() {
		line := output("sacct", "-n", "-X", "-P", "-j", a.ID, "-o", "SubmitLine")
		if outer.LacksNoKill(line, "") && outer.LacksNoKill(line, output("scontrol", "write", "batch_script", a.ID, "-")) {
			select {
			case s.events <- evWarning{"job " + a.ID + " was submitted without --no-kill: Slurm will end all of it when one of its nodes fails. With sbatch --no-kill the instance would go on without the node"}:
			case <-s.clients.Done():
			}
		}
	}()
}

// onWarning says it, unless a program may have the terminal by now.
func (s *supervisor) onWarning(ev evWarning) {
	if s.phase == starting || !s.e.isTerminal(s.e.stderr) {
		s.say("%s", ev.text)
	}
}
