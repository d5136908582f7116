package jobsvc

import (
	"encoding/json"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// limit tells scheduler and brokers of a time limit.
func (s *Service) limit(l *job.Limited) {
	up := api.SchedUpdate{ID: api.GroupID(l.Array), Duration: l.Duration}
	for _, e := range l.Ends {
		up.Ends = append(up.Ends, api.SchedEnd{ID: e.ID, End: e.End})
	}
	s.out.Notify("sched", up)
	for _, r := range l.Runs {
		s.out.Call(reactor.Call{Topic: api.ExecLimit.Topic, Target: r.Rank, NoReply: true,
			Body: api.ExecLimitReq{Session: r.Session, Runs: refs(r.Runs), Limit: l.Duration}})
	}
}

// maxMemo bounds what one memo adds to an eventlog.
const maxMemo = 16 << 10

func (s *Service) onUpdate(r *rpc.Request, req api.UpdateReq) error {
	if reactor.FromClient(r) {
		req.User = r.User
	}
	ev := job.Changed{Urgency: req.Urgency, User: req.User, DryRun: req.DryRun}
	switch {
	case req.Urgency != nil && (*req.Urgency < 0 || *req.Urgency > 31):
		return wire.Errorf(wire.Invalid, "urgency is 0 to 31, not %d", *req.Urgency)
	case len(req.Memo) > maxMemo:
		return wire.Errorf(wire.TooLarge, "the memo has %d bytes; the limit is %d", len(req.Memo), maxMemo)
	}
	if d := req.Duration; d != nil {
		if !(d.Seconds >= 0 && d.Seconds <= jobspec.MaxDuration) || d.Sign < -1 || d.Sign > 1 {
			return wire.Errorf(wire.Invalid, "a time limit is 0 to %.0f seconds", jobspec.MaxDuration)
		}
		ev.Duration = &job.DurationChange{Sign: d.Sign, Seconds: d.Seconds}
	}
	if req.Memo != "" {
		var memo map[string]any
		if err := json.Unmarshal([]byte(req.Memo), &memo); err != nil || len(memo) == 0 {
			return wire.Errorf(wire.Invalid, "a memo is a JSON object")
		}
		ev.Memo, _ = json.Marshal(memo)
	}
	targets, past := s.targets(req.IDs)
	a := s.step(withTargets(ev, targets))
	if ev.Duration != nil {
		s.tellChildEnds()
	}
	s.passUpdate(req, targets, a.Errors)
	s.answerMulti(r, len(req.IDs), a.Errors, past)
	return nil
}

func withTargets(ev job.Changed, targets []job.Target) job.Changed {
	ev.Targets = targets
	return ev
}
