package jobsvc

import (
	"errors"
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

func (s *Service) onRaise(r *rpc.Request, req api.RaiseReq) error {
	exc := job.Exception{Type: req.Type, Severity: req.Severity, Note: req.Note}
	switch {
	case req.Type == "":
		return wire.Errorf(wire.Invalid, "an exception needs a type")
	case req.Severity < 0 || req.Severity > 7:
		return wire.Errorf(wire.Invalid, "severity is 0 to 7, not %d", req.Severity)
	case len(req.Note) > 4096 || len(req.Type) > 64:
		return wire.Errorf(wire.TooLarge, "the note or type of the exception is too long")
	}
	if req.All {
		n, late := s.raiseAll(exc, jobspec.State(req.States))
		s.whenKnown(late, func() {
			s.whenDurable(func(out *reactor.Out, _ error) { out.Reply(r, api.MultiRep{Count: n}) })
		})
		return nil
	}
	targets, past := s.targets(req.IDs)
	a := s.step(job.Raised{Targets: targets, Exc: exc, States: jobspec.State(req.States)})
	errs := a.Errors
	s.whenKnown(a.Late, func() { s.answerMulti(r, len(req.IDs), errs, past) })
	return nil
}

// whenKnown answers at once, or when it is known after a leader's restart what runs.
func (s *Service) whenKnown(late bool, f func()) {
	if !late {
		f()
		return
	}
	s.late = append(s.late, f)
}

// raiseAll posts an exception on all active elements in one of the states and returns how many that are.
func (s *Service) raiseAll(exc job.Exception, states jobspec.State) (count int, late bool) {
	ev := job.Raised{Exc: exc, States: states}
	n := 0
	for _, id := range s.m.Arrays() {
		st, _ := s.m.Array(id)
		ev.Targets = append(ev.Targets, job.Target{Array: id, Lo: 0, Hi: max(st.N-1, 0)})
		if states == 0 || states&jobspec.StatesPending != 0 {
			n += st.Pending
		}
		if states == 0 || states&jobspec.StatesRunning != 0 {
			n += st.Running
		}
	}
	return n, s.step(ev).Late
}

func (s *Service) onKill(r *rpc.Request, req api.KillReq) error {
	if req.Signal < 1 || req.Signal > 64 {
		return wire.Errorf(wire.Invalid, "signal is 1 to 64, not %d", req.Signal)
	}
	s.passSignal(req, func(held map[jobspec.ID]string) {
		own := slices.DeleteFunc(slices.Clone(req.IDs), s.isHeld)
		targets, past := s.targets(own)
		a := s.step(job.Signalled{Targets: targets, Signal: req.Signal})
		errs := a.Errors
		for id, text := range held {
			if slices.Contains(own, id) {
				continue // an array, of which others may run
			}
			if errs == nil {
				errs = make(map[jobspec.ID]string)
			}
			errs[id] = text
		}
		s.answerMulti(r, len(req.IDs), errs, past)
	})
	return nil
}

// isHeld tells whether id is an element that a branch holds.
func (s *Service) isHeld(id jobspec.ID) bool {
	arr, _, idx, ok := s.m.Lookup(id)
	if ok && idx >= 0 {
		_, ok = s.m.Holder(arr, idx)
	}
	return ok && idx >= 0
}

// targets finds what is active among ids; past are the others.
func (s *Service) targets(ids []jobspec.ID) (targets []job.Target, past []jobspec.ID) {
	for _, id := range ids {
		arr, n, idx, ok := s.m.Lookup(id)
		switch {
		case !ok:
			past = append(past, id)
		case idx < 0:
			targets = append(targets, job.Target{Array: arr, Lo: 0, Hi: n - 1})
		default:
			targets = append(targets, job.Target{Array: arr, Lo: idx, Hi: idx})
		}
	}
	return targets, past
}

// answerMulti answers with the errors of the machine, and for ids that are not active with what the store knows of them.
func (s *Service) answerMulti(r *rpc.Request, n int, errs map[jobspec.ID]string, past []jobspec.ID) {
	rep := api.MultiRep{Count: n, Errors: errs}
	if len(past) == 0 {
		s.whenDurable(func(out *reactor.Out, _ error) { out.Reply(r, rep) })
		return
	}
	if rep.Errors == nil {
		rep.Errors = make(map[jobspec.ID]string)
	}
	s.query(func(rd job.Reader) (any, error) {
		texts := make([]string, len(past))
		for i, id := range past {
			_, ok, err := rd.Find(id)
			if err != nil {
				return nil, err
			}
			if texts[i] = "job is inactive"; !ok {
				texts[i] = "unknown job id"
			}
		}
		return texts, nil
	}, func(v any, err error) {
		if err != nil {
			s.out.Fail(r, err)
			return
		}
		for i, text := range v.([]string) {
			rep.Errors[past[i]] = text
		}
		s.out.Reply(r, rep)
	})
}

func (s *Service) onInput(r *rpc.Request, req api.InputReq) error {
	arr, n, idx, ok := s.m.Lookup(req.ID)
	if !ok || n > 1 && idx < 0 {
		return wire.Errorf(wire.NotFound, "%v is not an active job", req.ID)
	}
	if to, held := s.m.Holder(arr, idx); held {
		s.passOne(r, to, api.Input.Topic, req, func(err error) {
			if !errors.Is(err, &wire.Error{Code: wire.Lost}) { // else it may have been done
				err = notYet(req.ID)
			}
			s.out.Fail(r, err)
		})
		return nil
	}
	k, ranks, sessions, ok := s.m.Run(arr, idx)
	if !ok {
		return notYet(req.ID)
	}
	for i, rank := range ranks {
		s.out.Call(reactor.Call{Topic: api.ExecInput.Topic, Target: rank, NoReply: true,
			Body: api.ExecInputReq{Session: sessions[i], Run: ref(k), Task: req.Task, Data: req.Data, EOF: req.EOF,
				Rows: req.Rows, Cols: req.Cols}})
	}
	s.out.Reply(r, api.Empty{})
	return nil
}

func notYet(id jobspec.ID) *wire.Error { return wire.Errorf(wire.Busy, "%v does not run yet", id) }
