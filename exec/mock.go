package exec

// Mock execution (jobspec attribute system.exec.test, as in Flux): the run takes its time and ends with the status asked for, and no
// process is there.

func (m *Machine) startMock(r *run) {
	r.mock = true
	test := r.job.Spec.Job.Test
	if test.MockException == "init" {
		m.exception(r, typeExec, 0, "mock init exception generated")
		m.finish(r, m.wall)
		return
	}
	r.started = r.ntasks
	r.firstStart, r.lastStart = m.wall, m.wall
	r.mockAt = m.now + max(nanos(test.RunDuration), 1)
	m.setLimits(r)
	m.reschedule(r)
	m.holdStarted(r)
	if test.MockException == "run" {
		m.exception(r, typeExec, 0, "mock run exception generated")
		m.end(r, sigTERM, 0)
	}
}

func (m *Machine) endMock(r *run) {
	r.status = r.job.Spec.Job.Test.WaitStatus
	m.finish(r, m.wall)
}
