package jobsvc

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// What a client asks of an element that a branch holds, or has run, is passed to that branch: it has the rows, and its nodes the tasks.

// passing is one question to a branch; it is the key of the call.
type passing struct {
	each func(rpc.Payload)
	end  func(error) // nil = a clean end
	open bool        // of a job.follow: it has said so
}

// pass asks a branch.
func (s *Service) pass(to int, topic string, body any, p *passing) {
	raw, err := rpc.Payload{Value: body}.Bytes()
	if err != nil {
		p.end(err)
		return
	}
	s.out.Call(reactor.Call{Key: p, Topic: api.BranchPass.Topic, Target: wire.Any, Stream: true, Body: api.BranchPassReq{Branch: to, Topic: topic, Body: raw}})
}

// passed takes an answer.
func (p *passing) passed(r *rpc.Response) {
	rep, err := api.BranchPass.DecodeReply(r)
	var told *wire.Error
	switch {
	case err == nil:
		p.each(rpc.Payload{Raw: rep.Body})
		if !r.More {
			p.end(nil)
		}
	case errors.As(err, &told) && told.Code == wire.EndOfStream:
		p.end(nil)
	default:
		p.end(err)
	}
}

// passOne passes a request on whose one answer is the client's. Failed is what to do if the branch does not answer, or does not
// have it (yet, or any more); nil = tell the client.
func (s *Service) passOne(r *rpc.Request, to int, topic string, req any, failed func(error)) {
	var answer *rpc.Payload
	s.pass(to, topic, req, &passing{each: func(b rpc.Payload) { answer = &b }, end: func(err error) {
		switch {
		case answer != nil:
			s.out.Reply(r, *answer)
		case failed != nil && away(err):
			failed(err)
		case err != nil:
			s.out.Fail(r, err)
		default:
			s.out.Fail(r, wire.Errorf(wire.Internal, "the branch gave no answer"))
		}
	}})
}

// away tells whether an error means that the branch does not answer, or has it no more.
func away(err error) bool {
	var told *wire.Error
	return errors.As(err, &told) && (told.Code == wire.Unavailable || told.Code == wire.Lost || told.Code == wire.NotFound || told.Code == wire.NoService)
}

// where finds out whether an element is held by a branch, or has ended in one, and calls there with it, else here.
func (s *Service) where(id jobspec.ID, here func(), there func(to int)) {
	if arr, _, idx, ok := s.m.Lookup(id); ok {
		if to, held := s.m.Holder(arr, max(idx, 0)); held && idx >= 0 {
			there(to)
			return
		}
		if _, active := s.m.View(arr, idx); active || idx < 0 {
			here()
			return
		}
	}
	s.queryPast(func(rd job.Reader) (any, error) {
		_, el, err := findElement(rd, id)
		if err != nil {
			return -1, nil // here says so
		}
		return endedIn(&el), nil
	}, func(v any, err error) {
		if to, _ := v.(int); err == nil && to >= 0 {
			there(to)
			return
		}
		here()
	})
}

// queryPast reads of what has ended. What a branch has told of is active no more, and in the store when it is durable.
func (s *Service) queryPast(run func(job.Reader) (any, error), then func(any, error)) {
	if s.fits == nil { // there never were branches
		s.query(run, then)
		return
	}
	s.whenDurable(func(*reactor.Out, error) { s.query(run, then) })
}

// endedIn is the branch that an element has ended in; -1 = here.
func endedIn(el *job.ElementRow) int {
	if el.Attempt > 0 {
		return -1 // its row is its own
	}
	return job.EndedIn(el.Events)
}

// orFail answers with an error.
func (s *Service) orFail(r *rpc.Request, err error) {
	if err != nil {
		s.out.Fail(r, err)
	}
}

// passAttachSent is passAttach behind the grant with which the branch gets the element: before, it does not know it.
func (s *Service) passAttachSent(x *attach, to int) {
	s.whenSent(func() {
		if s.attached(x) {
			s.passAttach(x, to)
		}
	})
}

// passAttach streams what a branch has of an element. When the branch cannot be reached, or has it no more, and the client wants to go on,
// it is looked for again.
func (s *Service) passAttach(x *attach, to int) {
	skip := x.events
	s.watch.attaches[x.req.Key()] = x
	p := &passing{}
	x.pass = p
	p.each = func(b rpc.Payload) {
		rep, err := rpc.As[api.AttachRep](b)
		if err != nil || !s.attached(x) {
			return
		}
		n := min(skip, len(rep.Events))
		skip -= n
		rep.Events = rep.Events[n:]
		x.events += len(rep.Events)
		rep.Output = x.unseen(rep.Output)
		if len(rep.Events)+len(rep.Output) > 0 {
			s.out.Next(x.req, rep)
		}
	}
	p.end = func(err error) {
		if !s.attached(x) {
			return
		}
		x.pass = nil
		switch {
		case err == nil:
			s.endAttach(x)
		case away(err):
			s.attachKept(x, err)
		default:
			s.watch.dropAttach(x)
			s.out.Fail(x.req, err)
		}
	}
	s.pass(to, api.Attach.Topic, x.want, p)
}

// attachKept goes on with what a branch that does not answer keeps of an element that has ended there.
func (s *Service) attachKept(x *attach, why error) {
	s.query(func(rd job.Reader) (any, error) {
		kept, _, _, err := findKept(rd, x.want.ID)
		return err == nil && kept != rd, nil
	}, func(v any, err error) {
		kept, _ := v.(bool)
		switch {
		case !s.attached(x):
		case err == nil && kept:
			x.over = true
			s.readAttach(x)
		case x.want.Follow:
			s.later(attachAgain, func() {
				if s.attached(x) {
					s.startAttach(x)
				}
			})
		default:
			s.watch.dropAttach(x)
			s.out.Fail(x.req, why)
		}
	})
}

// unseen is what of output was not sent yet.
func (x *attach) unseen(list []api.Output) []api.Output {
	kept := list[:0]
	for _, o := range list {
		k := streamKey{o.Attempt, o.Task, o.Stream}
		skip := max(x.sent[k]-o.Offset, 0)
		if skip >= int64(len(o.Data)) {
			continue
		}
		o.Offset, o.Data = o.Offset+skip, o.Data[skip:]
		x.sent[k] = o.Offset + int64(len(o.Data))
		kept = append(kept, o)
	}
	return kept
}

// attachAgain is how long after a branch could not be reached it is tried again.
const attachAgain = 300 * time.Millisecond

// passAttached: elements that clients follow went to a branch; so do these.
func (s *Service) passAttached(g *job.Granted) {
	for i := range g.Items {
		it := &g.Items[i]
		for id := range s.watch.byElem {
			idx := int(int64(id) - int64(it.Row.ID) - 1)
			if it.Row.N == 1 {
				idx = 0
			}
			if id < it.Row.ID || it.Row.N == 1 && id != it.Row.ID || !it.Elements.Has(idx) {
				continue
			}
			for x := range s.watch.byElem[id] {
				s.watch.leave(x)
				s.passAttachSent(x, g.Branch)
			}
		}
	}
}

// delayed is something to be done later.
type delayed struct {
	at time.Time
	f  func()
}

// later calls f when d has passed.
func (s *Service) later(d time.Duration, f func()) {
	s.delays = append(s.delays, delayed{s.now.Add(d), f})
}

// runDelayed does what is due and returns when the next is.
func (s *Service) runDelayed() (next time.Time) {
	due := s.delays
	s.delays = nil
	for _, d := range due {
		if d.at.After(s.now) {
			s.delays = append(s.delays, d)
		} else {
			d.f()
		}
	}
	for _, d := range s.delays {
		next = earliest(next, d.at)
	}
	return next
}

// passSignal sends a signal to what branches hold of ids, and calls then with the errors by id.
func (s *Service) passSignal(req api.KillReq, then func(errs map[jobspec.ID]string)) {
	groups := make(map[int][]jobspec.ID)
	for _, id := range req.IDs {
		arr, _, idx, ok := s.m.Lookup(id)
		if !ok {
			continue
		}
		for _, h := range s.m.HoldersOf(arr) {
			if idx < 0 || h.Elements.Has(idx) {
				groups[h.Branch] = append(groups[h.Branch], id)
			}
		}
	}
	errs := make(map[jobspec.ID]string)
	left := len(groups)
	if left == 0 {
		then(errs)
		return
	}
	ask := func(to int, ids []jobspec.ID) {
		s.pass(to, api.Kill.Topic, api.KillReq{IDs: ids, Signal: req.Signal}, &passing{each: func(b rpc.Payload) {
			if rep, err := rpc.As[api.MultiRep](b); err == nil {
				for id, text := range rep.Errors {
					errs[id] = text
				}
			}
		}, end: func(err error) {
			if err != nil {
				for _, id := range ids {
					errs[id] = err.Error()
				}
			}
			if left--; left == 0 {
				then(errs)
			}
		}})
	}
	s.whenSent(func() {
		for _, to := range slices.Sorted(maps.Keys(groups)) {
			ask(to, groups[to])
		}
	})
}

// passUpdate has branches change what they hold of arrays, but those of which errs says that it was refused.
func (s *Service) passUpdate(req api.UpdateReq, targets []job.Target, errs map[jobspec.ID]string) {
	if req.DryRun {
		return
	}
	for _, t := range targets {
		if row, _, _, ok := s.m.Row(t.Array); !ok || errs[t.Array] != "" || t.Lo == t.Hi && row.N > 1 {
			continue
		}
		one := req
		one.IDs = []jobspec.ID{t.Array}
		if req.Duration != nil { // what it comes to here: that may be told twice
			one.Duration = &api.DurationChange{Seconds: s.m.Limit(t.Array)}
		}
		for _, h := range s.m.HoldersOf(t.Array) {
			s.pass(h.Branch, api.Update.Topic, one, &passing{each: func(rpc.Payload) {}, end: func(error) {}})
		}
	}
}
