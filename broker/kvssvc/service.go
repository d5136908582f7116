// Package kvssvc is the service "kvs" on the leader: it feeds the key-value store's machine with requests, commits what the machine writes in
// groups, answers when that is durable, and tells those who watch.
package kvssvc

import (
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/kvs"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
)

// Config of the service.
type Config struct {
	Loaded *kvs.Loaded // what the store holds; nil = nothing
	Limits kvs.Limits  // zero = kvs.DefaultLimits
}

// Service is the service "kvs". It implements reactor.Service.
type Service struct {
	m       *kvs.Machine
	watches *kvs.Watches
	streams map[rpc.RequestKey]uint64 // ids of watches
	nextID  uint64
	waits   map[rpc.RequestKey]*wait
	nwait   uint64

	next, flight []pending // who waits for what is to be written next, and for what is being written
	stopping     bool
	stopped      bool
	out          *reactor.Out
}

// pending is a request that is answered when what it did is durable.
type pending struct {
	req   *rpc.Request
	reply any
}

// wait is an open kvs.wait.
type wait struct {
	n   uint64
	req *rpc.Request
	sp  string
	seq uint64
}

// New makes the service. The error names what in the store cannot be read.
func New(cfg Config) (*Service, error) {
	if cfg.Limits == (kvs.Limits{}) {
		cfg.Limits = kvs.DefaultLimits
	}
	m, err := kvs.New(cfg.Loaded, cfg.Limits)
	if err != nil {
		return nil, err
	}
	return &Service{m: m, watches: kvs.NewWatches(m), streams: map[rpc.RequestKey]uint64{}, waits: map[rpc.RequestKey]*wait{}}, nil
}

// Name implements reactor.Service.
func (s *Service) Name() string { return "kvs" }

// Check returns the first broken invariant, for tests.
func (s *Service) Check() error { return s.m.Check() }

// Handle implements reactor.Service.
func (s *Service) Handle(_ time.Time, in any, out *reactor.Out) {
	s.out = out
	switch in := in.(type) {
	case *rpc.Request:
		if err := s.request(in); err != nil {
			out.Fail(in, err)
		}
	case rpc.Cancel:
		s.cancel(in.Key)
	case reactor.Done:
		s.done(in.Err)
	case api.Stopping:
		s.stopping = true
	}
	s.write()
	if s.stopping && !s.stopped && !s.m.Busy() {
		s.stopped = true
		out.Notify("broker", api.Stopped{Name: "kvs"})
	}
	s.out = nil
}

func (s *Service) request(r *rpc.Request) error {
	switch r.Topic {
	case api.KVSGet.Topic:
		return serve(s, r, api.KVSGet, s.get)
	case api.KVSCommit.Topic:
		return serve(s, r, api.KVSCommit, s.commit)
	case api.KVSCommitOnce.Topic:
		return serve(s, r, api.KVSCommitOnce, s.commit)
	case api.KVSRead.Topic:
		return serve(s, r, api.KVSRead, s.read)
	case api.KVSList.Topic:
		return serve(s, r, api.KVSList, s.list)
	case api.KVSWatch.Topic:
		return serve(s, r, api.KVSWatch, s.watch)
	case api.KVSWait.Topic:
		return serve(s, r, api.KVSWait, s.wait)
	case api.KVSGetRoot.Topic:
		return serve(s, r, api.KVSGetRoot, s.root)
	case api.KVSCreate.Topic:
		return serve(s, r, api.KVSCreate, s.create)
	case api.KVSRemove.Topic:
		return serve(s, r, api.KVSRemove, s.remove)
	case api.KVSSpaces.Topic:
		return serve(s, r, api.KVSSpaces, s.spaces)
	}
	return wire.Errorf(wire.NoMethod, "service kvs has no method %s", r.Topic)
}

// serve decodes a request for f, which answers it itself, or returns an error for the answer.
func serve[Req, Rep any](s *Service, r *rpc.Request, m rpc.Method[Req, Rep], f func(*rpc.Request, Req) error) error {
	if m.Stream && !r.Stream {
		return wire.Errorf(wire.Invalid, "%s answers with a stream: the request must ask for one", r.Topic)
	}
	req, err := m.Decode(r)
	if err != nil {
		return err
	}
	return f(r, req)
}

func space(name string) string {
	if name == "" {
		return kvs.Primary
	}
	return name
}

func (s *Service) commit(r *rpc.Request, req api.KVSCommitReq) error {
	if s.stopping {
		return wire.Errorf(wire.Unavailable, "the instance is shutting down: nothing was committed")
	}
	ops := make([]kvs.Op, len(req.Ops))
	for i, o := range req.Ops {
		ops[i] = kvs.Op{Kind: kvs.OpKind(o.Kind), Key: o.Key, Data: o.Data, Target: o.Target, TargetSpace: o.TargetSpace, Recursive: o.Recursive, Must: o.Must}
	}
	var seq uint64
	var err error
	if r.Topic == api.KVSCommitOnce.Topic {
		seq, err = s.m.CommitOnce(req.Token, space(req.Namespace), ops)
	} else {
		seq, err = s.m.Commit(space(req.Namespace), ops)
	}
	if err != nil {
		return err
	}
	s.whenDurable(r, api.KVSCommitRep{Seq: seq})
	return nil
}

func (s *Service) create(r *rpc.Request, req api.KVSSpaceReq) error {
	if req.Owner == 0 {
		req.Owner = r.User
	}
	if err := s.m.CreateSpace(req.Namespace, req.Owner); err != nil {
		return err
	}
	s.whenDurable(r, api.Empty{})
	return nil
}

func (s *Service) remove(r *rpc.Request, req api.KVSSpaceReq) error {
	if err := s.m.RemoveSpace(req.Namespace); err != nil {
		return err
	}
	s.whenDurable(r, api.Empty{})
	return nil
}

// whenDurable answers when all that the machine has written so far is durable.
func (s *Service) whenDurable(r *rpc.Request, reply any) {
	p := pending{r, reply}
	switch {
	case s.m.Dirty():
		s.next = append(s.next, p)
	case s.m.Busy():
		s.flight = append(s.flight, p)
	default:
		s.out.Reply(r, reply)
	}
}

// write begins a commit of the store if there is something to write and none is under way: what comes meanwhile makes the next one.
func (s *Service) write() {
	if s.m.Busy() || !s.m.Dirty() {
		return
	}
	s.flight = append(s.flight, s.next...)
	clear(s.next)
	s.next = s.next[:0]
	s.out.Do(&kvs.Commit{Txn: s.m.Take()})
}

// done is the end of a commit of the store.
func (s *Service) done(err error) {
	if err != nil {
		s.failed(err)
		return
	}
	changes := s.m.Done(true)
	for _, p := range s.flight {
		s.out.Reply(p.req, p.reply)
	}
	clear(s.flight)
	s.flight = s.flight[:0]
	s.tell(changes)
}

// failed: nothing that is not durable remains, and all who waited for it are told.
func (s *Service) failed(err error) {
	s.out.Log("error", "commit of the key-value store failed", "err", err)
	s.m.Done(false)
	e := wire.Errorf(wire.Unavailable, "the state directory cannot be written: %v; nothing was committed", err)
	for _, p := range append(s.flight, s.next...) {
		s.out.Fail(p.req, e)
	}
	s.flight, s.next = nil, nil
}

func (s *Service) cancel(key rpc.RequestKey) {
	delete(s.waits, key)
	if id, ok := s.streams[key]; ok {
		delete(s.streams, key)
		s.watches.Remove(id)
	}
}
