// Package rexecsvc is the service "rexec" on each broker: processes outside of the queue, for as long as who asked for them is there. Its
// protocol stands in broker/api/rexec.go.
package rexecsvc

import (
	"maps"
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/exec/rexec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// maxRuns is how many processes one broker runs at a time.
const maxRuns = 1024

// Service is the service "rexec". It implements reactor.Service.
type Service struct {
	runs     map[string]*run
	streams  map[rpc.RequestKey]string // ids of runs
	stopping bool
	stopped  bool
}

// run is a process.
type run struct {
	req  *rpc.Request
	gone bool // who asked for it
}

// New makes the service.
func New() *Service {
	return &Service{runs: map[string]*run{}, streams: map[rpc.RequestKey]string{}}
}

// Name implements reactor.Service.
func (*Service) Name() string { return "rexec" }

// Handle implements reactor.Service.
func (s *Service) Handle(_ time.Time, in any, out *reactor.Out) {
	switch in := in.(type) {
	case *rpc.Request:
		if err := s.request(in, out); err != nil {
			out.Fail(in, err)
		}
	case rpc.Cancel:
		if id, ok := s.streams[in.Key]; ok {
			s.runs[id].gone = true
			out.Do(&rexec.Kill{ID: id})
		}
	case reactor.Done:
		s.done(in, out)
	case api.Stopping:
		s.stopping = true
		for _, id := range slices.Sorted(maps.Keys(s.runs)) {
			out.Do(&rexec.Kill{ID: id})
		}
	}
	if s.stopping && !s.stopped && len(s.runs) == 0 {
		s.stopped = true
		out.Notify("broker", api.Stopped{Name: "rexec"})
	}
}

func (s *Service) request(r *rpc.Request, out *reactor.Out) error {
	switch r.Topic {
	case api.RexecRun.Topic:
		return s.start(r, out)
	case api.RexecInput.Topic:
		req, err := s.known(api.RexecInput.Decode(r))
		if err == nil {
			out.Do(&rexec.Write{ID: req.ID, Data: req.Data, EOF: req.EOF, Key: r})
		}
		return err
	case api.RexecAck.Topic:
		req, err := api.RexecAck.Decode(r)
		if err == nil {
			out.Do(&rexec.Ack{ID: req.ID, Bytes: req.Bytes})
			out.Reply(r, api.Empty{})
		}
		return err
	case api.RexecSignal.Topic:
		return s.signal(r, out)
	}
	return wire.Errorf(wire.NoMethod, "service rexec has no method %s", r.Topic)
}

// known refuses input for a process that is not there.
func (s *Service) known(req api.RexecInputReq, err error) (api.RexecInputReq, error) {
	if err == nil && s.runs[req.ID] == nil {
		err = ended(req.ID)
	}
	return req, err
}

func ended(id string) error {
	return wire.Errorf(wire.NotFound, "there is no process %.60q: it has ended", id)
}

func (s *Service) start(r *rpc.Request, out *reactor.Out) error {
	req, err := api.RexecRun.Decode(r)
	switch {
	case err != nil:
		return err
	case !r.Stream:
		return wire.Errorf(wire.Invalid, "%s answers with a stream: the request must ask for one", r.Topic)
	case s.stopping:
		return wire.Errorf(wire.Unavailable, "this broker is stopping: nothing was started")
	case req.ID == "" || len(req.ID) > 256:
		return wire.Errorf(wire.Invalid, "a process needs a name of 1 to 256 bytes")
	case s.runs[req.ID] != nil:
		return wire.Errorf(wire.Exists, "there is a process %q already", req.ID)
	case len(req.Argv) == 0 || req.Argv[0] == "":
		return wire.Errorf(wire.Invalid, "a process needs a command")
	case slices.ContainsFunc(append(req.Argv, req.Dir), func(a string) bool { return slices.Contains([]byte(a), 0) }):
		return wire.Errorf(wire.Invalid, "the command or its directory has a NUL byte")
	case len(s.runs) >= maxRuns:
		return wire.Errorf(wire.Busy, "this broker runs %d processes, which is the limit", len(s.runs))
	}
	s.runs[req.ID] = &run{req: r}
	s.streams[r.Key()] = req.ID
	out.Do(&rexec.Start{ID: req.ID, Argv: req.Argv, Env: req.Env, Dir: req.Dir, Input: req.Input, Window: api.RexecWindow})
	return nil
}

func (s *Service) signal(r *rpc.Request, out *reactor.Out) error {
	req, err := api.RexecSignal.Decode(r)
	switch {
	case err != nil:
		return err
	case req.Signal < 1 || req.Signal > 64:
		return wire.Errorf(wire.Invalid, "there is no signal %d; they go from 1 to 64", req.Signal)
	case s.runs[req.ID] == nil:
		return ended(req.ID)
	}
	out.Do(&rexec.Signal{ID: req.ID, Signal: req.Signal})
	out.Reply(r, api.Empty{})
	return nil
}

func (s *Service) done(d reactor.Done, out *reactor.Out) {
	switch e := d.Effect.(type) {
	case *rexec.Write:
		out.Reply(e.Key.(*rpc.Request), api.Empty{})
	case *rexec.Start:
		s.result(e.ID, d.Result, out)
	}
}

// result passes on what became of a process.
func (s *Service) result(id string, result any, out *reactor.Out) {
	r := s.runs[id]
	ev, last := api.RexecEvent{}, false
	switch res := result.(type) {
	case rexec.Started:
		ev = api.RexecEvent{Kind: api.RexecStarted, PID: res.PID}
	case rexec.Output:
		ev = api.RexecEvent{Kind: api.RexecOutput, Stream: res.Stream, Data: res.Data}
	case rexec.Exited:
		ev, last = api.RexecEvent{Kind: api.RexecExited, Status: res.Status}, true
	case rexec.Failed:
		ev, last = api.RexecEvent{Kind: api.RexecFailed, Text: res.Text, Status: res.Code}, true
	}
	if !r.gone {
		out.Next(r.req, ev)
	}
	if !last {
		return
	}
	delete(s.runs, id)
	delete(s.streams, r.req.Key())
	if !r.gone {
		out.End(r.req)
	}
}
