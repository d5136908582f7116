// Package execsvc is the service "exec", one on every broker: it translates messages and notices into events of package exec's
// machine, and its actions into calls, notices and effects of the driver (exec/proc or exec/sim). The protocol with the
// leader's "job" service stands in broker/api/exec.go.
package execsvc

import (
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// Config of the service.
type Config struct {
	UUID string // of the broker process, as in its hello
	Exec exec.Config
}

// Service is the service "exec". It keeps itself by its machine alone.
type Service struct {
	cfg     Config
	machine *exec.Machine
	contact exec.Contact
	stopped bool
}

// New makes the service.
func New(cfg Config) *Service { return &Service{cfg: cfg, machine: exec.New(cfg.Exec)} }

// Name implements reactor.Service.
func (s *Service) Name() string { return "exec" }

// Machine is for tests that look at its invariants.
func (s *Service) Machine() *exec.Machine { return s.machine }

// Keys of calls: they come back with the answers.
type (
	syncKey   uint64 // session
	reportKey uint64 // call
	renewKey  uint64 // call
	fenceKey  uint64 // call
)

// Handle implements reactor.Service.
func (s *Service) Handle(now time.Time, in any, out *reactor.Out) {
	switch in := in.(type) {
	case reactor.Start:
		out.Do(exec.Open{})
	case reactor.Wake:
		s.step(now, exec.Tick{}, out)
	case reactor.Done:
		s.done(now, in, out)
	case api.Contact:
		s.contact = exec.Contact(in)
		s.step(now, s.contact, out)
	case api.Stopping:
		s.step(now, exec.Stop{Grace: time.Duration(in.Grace * float64(time.Second))}, out)
		if s.stopped { // again
			out.Notify("broker", api.Stopped{Name: s.Name()})
		}
	case *rpc.Request:
		s.request(now, in, out)
	case *rpc.Response:
		s.response(now, in, out)
	}
}

func (s *Service) done(now time.Time, in reactor.Done, out *reactor.Out) {
	if in.Err != nil {
		out.Log("error", "driver failed", "err", in.Err)
		return
	}
	if ev, ok := in.Result.(exec.Tasks); ok {
		s.step(now, ev, out)
	}
}

func (s *Service) request(now time.Time, req *rpc.Request, out *reactor.Out) {
	var ev any
	var err error
	switch req.Topic {
	case api.ExecStart.Topic:
		ev, err = decode(api.ExecStart, req, startRuns)
	case api.ExecKill.Topic:
		ev, err = decode(api.ExecKill, req, killRuns)
	case api.ExecLimit.Topic:
		ev, err = decode(api.ExecLimit, req, setLimits)
	case api.ExecInput.Topic:
		ev, err = decode(api.ExecInput, req, input)
	case api.ExecFence.Topic:
		if ev, err = decode(api.ExecFence, req, fenceAsked(req)); err == nil {
			s.step(now, ev, out) // answered when all have asked
			return
		}
	default:
		err = wire.Errorf(wire.NoMethod, "service exec has no method %q", req.Topic)
	}
	if err == nil {
		s.step(now, ev, out)
	}
	switch {
	case req.NoReply && err != nil:
		out.Log("warn", "request refused", "topic", req.Topic, "err", err)
	case req.NoReply:
	case err != nil:
		out.Fail(req, err)
	default:
		out.Reply(req, api.Empty{})
	}
}

func decode[Req, Rep any](m rpc.Method[Req, Rep], r *rpc.Request, convert func(*Req) (any, error)) (any, error) {
	if err := reactor.BrokersOnly(r); err != nil {
		return nil, err
	}
	req, err := m.Decode(r)
	if err != nil {
		return nil, err
	}
	return convert(&req)
}

func (s *Service) response(now time.Time, res *rpc.Response, out *reactor.Out) {
	resync := res.Err != nil && res.Err.Code == wire.Resync
	switch key := res.Key.(type) {
	case syncKey:
		s.step(now, syncReply(uint64(key), res), out)
	case reportKey:
		s.step(now, exec.ReportReply{Call: uint64(key), Failed: res.Err != nil, Resync: resync}, out)
	case fenceKey:
		s.step(now, fenceReply(uint64(key), res), out)
	case renewKey:
		s.step(now, exec.RenewReply{Call: uint64(key), Failed: res.Err != nil, Resync: resync}, out)
	}
}

// step runs the machine and carries out its actions.
func (s *Service) step(now time.Time, event any, out *reactor.Out) {
	for _, action := range s.machine.Step(now, event) {
		switch a := action.(type) {
		case exec.CallSync:
			out.Call(reactor.Call{Key: syncKey(a.Session), Topic: api.ExecSync.Topic, Target: wire.Any, Body: s.syncReq(a)})
		case exec.CallReport:
			out.Call(reactor.Call{Key: reportKey(a.Call), Topic: api.ExecReport.Topic, Target: wire.Any, Body: s.reportReq(a)})
		case exec.CallRenew:
			out.Call(reactor.Call{Key: renewKey(a.Call), Topic: api.ExecRenew.Topic, Target: wire.Any,
				Body: api.ExecRenewReq{Rank: s.contact.Rank, UUID: s.cfg.UUID, Session: a.Session}})
		case exec.CallFence:
			out.Call(reactor.Call{Key: fenceKey(a.Call), Topic: api.ExecFence.Topic, Target: a.Root,
				Body: api.ExecFenceReq{Run: refTo(a.Ref), Seq: a.Seq, Rank: a.Rank, Of: a.Of, Pairs: a.Pairs}})
		case exec.FenceDone:
			fenceDone(a, out)
		case exec.WakeAt:
			out.Wake(a.T)
		case exec.Stopped:
			s.stopped = true
			out.Notify("broker", api.Stopped{Name: s.Name()})
		case exec.Log:
			out.Log(a.Level, a.Msg, a.KV...)
		default:
			out.Do(a) // an effect
		}
	}
}

func fenceDone(a exec.FenceDone, out *reactor.Out) {
	for _, key := range a.Keys {
		if req := key.(*rpc.Request); a.Failed {
			out.Fail(req, wire.Errorf(wire.NotFound, "that run is over"))
		} else {
			out.Reply(req, api.ExecFenceRep{Pairs: a.Pairs})
		}
	}
}
