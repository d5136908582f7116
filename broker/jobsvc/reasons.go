package jobsvc

import (
	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// withReasons asks "sched" why those of the jobs wait that do, fills it in and goes on with then. Reasons are a courtesy: without an
// answer the jobs go without.
func (s *Service) withReasons(jobs []api.JobInfo, detail bool, then func(ahead map[api.GroupID]int)) {
	asked := make(map[api.GroupID]bool)
	req := api.SchedReasonsReq{Detail: detail}
	for i := range jobs {
		if g := groupOf(&jobs[i]); waits(&jobs[i]) && !asked[g] {
			asked[g] = true
			req.Groups = append(req.Groups, g)
		}
	}
	if len(req.Groups) == 0 {
		then(nil)
		return
	}
	s.out.Call(reactor.Call{Topic: api.SchedReasons.Topic, Target: wire.Any, Body: req, Key: func(r *rpc.Response) {
		rep, err := api.SchedReasons.DecodeReply(r)
		if err != nil {
			s.out.Log("warn", "no reasons from the scheduler", "err", err)
		}
		for i := range jobs {
			if g := groupOf(&jobs[i]); waits(&jobs[i]) {
				jobs[i].Reason, jobs[i].TEstimate = rep.Reason[g], rep.Estimate[g]
			}
		}
		then(rep.Ahead)
	}})
}

// waits tells whether a job is the scheduler's to start, and nothing else is known to keep it.
func waits(j *api.JobInfo) bool { return j.State == int(jobspec.StateSched) && j.Reason == "" }

// groupOf is the group in which "sched" has a job: its submission.
func groupOf(j *api.JobInfo) api.GroupID {
	if j.Array != 0 {
		return api.GroupID(j.Array)
	}
	return api.GroupID(j.ID)
}

// onExplain tells what is known of one job, element or array.
func (s *Service) onExplain(r *rpc.Request, req api.ExplainReq) error {
	arr, n, idx, active := s.m.Lookup(req.ID)
	rep := api.ExplainRep{}
	var found bool
	switch {
	case active && n > 1 && idx < 0:
		st, _ := s.m.Array(arr)
		whole := arrayRep(st, false)
		rep.Array, found = &whole, true
		s.firstActive(arr, &rep.Job)
		if held := s.m.HoldersOf(arr); rep.Job.ID == 0 && len(held) > 0 {
			s.explainHeld(r, req, held[0].Branch, rep)
			return nil
		}
	case active:
		if to, held := s.m.Holder(arr, idx); held {
			s.passOne(r, to, api.Explain.Topic, req, nil)
			return nil
		}
		var v job.View
		if v, found = s.m.View(arr, idx); found {
			rep.Job = s.active(&v)
		}
	}
	if !found {
		past := func() { s.explainPast(r, req.ID) }
		s.where(req.ID, past, func(to int) { s.passOne(r, to, api.Explain.Topic, req, func(error) { past() }) })
		return nil
	}
	jobs := []api.JobInfo{rep.Job}
	s.withReasons(jobs, true, func(ahead map[api.GroupID]int) {
		rep.Job = jobs[0]
		rep.Ahead = ahead[groupOf(&rep.Job)]
		s.out.Reply(r, rep)
	})
	return nil
}

// explainHeld answers for an array that branches have as a whole, with what one of them says of its part.
func (s *Service) explainHeld(r *rpc.Request, req api.ExplainReq, to int, rep api.ExplainRep) {
	s.pass(to, api.Explain.Topic, req, &passing{each: func(b rpc.Payload) {
		if part, err := rpc.As[api.ExplainRep](b); err == nil {
			rep.Job, rep.Ahead = part.Job, part.Ahead
		}
	}, end: func(err error) {
		if err != nil {
			s.out.Fail(r, err)
			return
		}
		s.out.Reply(r, rep)
	}})
}

// firstActive is the record of an array's pending elements, or else of the first that runs.
func (s *Service) firstActive(arr jobspec.ID, info *api.JobInfo) {
	some := false
	s.m.EachPending(arr, 0, true, func(v job.View) bool {
		*info, some = s.active(&v), true
		return false
	})
	if some {
		return
	}
	s.m.EachRunning(arr, func(v job.View) {
		if !some {
			*info, some = s.active(&v), true
		}
	})
}

func (s *Service) explainPast(r *rpc.Request, id jobspec.ID) {
	s.queryPast(func(rd job.Reader) (any, error) {
		row, ok, err := rd.Find(id)
		if err == nil && !ok {
			err = wire.Errorf(wire.NotFound, "%s", unknownJob(id))
		}
		if err != nil {
			return nil, err
		}
		var rep api.ExplainRep
		if row.N > 1 && id == row.ID {
			whole, err := storedOutcome(rd, id)
			rep.Array = &whole
			rep.Job = submitted(&row, nil)
			return rep, err
		}
		jobs, err := newConverter(rd).byID(id, false)
		if err == nil && len(jobs) == 0 {
			err = wire.Errorf(wire.Unavailable, "job %v is just ending: ask again", id)
		}
		if err == nil {
			rep.Job = jobs[0]
		}
		return rep, err
	}, func(v any, err error) {
		if err != nil {
			s.out.Fail(r, err)
			return
		}
		s.out.Reply(r, v.(api.ExplainRep))
	})
}
