package kvssvc

import (
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/kvs"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
)

// entry is an entry for an answer; values over limit bytes are left out.
func entry(e kvs.Entry, seq uint64, limit int) api.KVSEntry {
	a := api.KVSEntry{Seq: seq, Kind: uint8(e.Kind), Data: e.Data, Entries: e.Entries, Name: e.Name}
	if e.Kind == kvs.Value {
		a.Size = len(e.Data)
		if len(e.Data) > limit {
			a.Data, a.Big = nil, true
		}
	}
	return a
}

func (s *Service) get(r *rpc.Request, req api.KVSGetReq) error {
	e, seq, err := s.m.Get(space(req.Namespace), req.Key, !req.NoFollow)
	if err != nil {
		return err
	}
	s.out.Reply(r, entry(e, seq, api.KVSInline))
	return nil
}

func (s *Service) read(r *rpc.Request, req api.KVSReadReq) error {
	e, seq, err := s.m.Get(space(req.Namespace), req.Key, true)
	switch {
	case err != nil:
		return err
	case e.Kind != kvs.Value:
		return wire.Errorf(wire.Invalid, "%s is a directory", req.Key)
	case req.Offset < 0 || req.Offset > len(e.Data) || req.Limit < 0:
		return wire.Errorf(wire.Invalid, "%s has %d bytes: %d from %d on cannot be read", req.Key, len(e.Data), req.Limit, req.Offset)
	}
	a := entry(e, seq, kvs.MaxValue)
	a.From, a.Data = req.Offset, e.Data[req.Offset:]
	if req.Limit > 0 {
		a.Data = a.Data[:min(req.Limit, len(a.Data))]
	}
	s.out.Reply(r, a)
	return nil
}

// partSize bounds a part of a listing.
const partSize = 1 << 20

func (s *Service) list(r *rpc.Request, req api.KVSListReq) error {
	limit := min(max(req.Data, 0), api.KVSInline)
	var rep api.KVSListRep
	size := 0
	seq, err := s.m.List(space(req.Namespace), req.Key, req.After, func(e kvs.Entry) bool {
		if size > partSize {
			rep.More = true
			return false
		}
		a := entry(e, 0, limit)
		if a.Big {
			a.Data = e.Data[:limit]
		}
		size += 64 + len(a.Name) + len(a.Data)
		rep.Entries = append(rep.Entries, a)
		return true
	})
	if err != nil {
		return err
	}
	rep.Seq = seq
	s.out.Reply(r, rep)
	return nil
}

func root(r kvs.Root) api.KVSRoot {
	return api.KVSRoot{Namespace: r.Name, Owner: r.Owner, Seq: r.Seq, Entries: r.Entries, Bytes: r.Bytes}
}

func (s *Service) root(r *rpc.Request, req api.KVSSpaceReq) error {
	sp, err := s.m.Root(space(req.Namespace))
	if err != nil {
		return err
	}
	s.out.Reply(r, root(sp))
	return nil
}

func (s *Service) spaces(r *rpc.Request, _ api.Empty) error {
	var rep api.KVSSpacesRep
	for _, sp := range s.m.Spaces() {
		rep.Namespaces = append(rep.Namespaces, root(sp))
	}
	s.out.Reply(r, rep)
	return nil
}

func (s *Service) wait(r *rpc.Request, req api.KVSWaitReq) error {
	sp, err := s.m.Root(space(req.Namespace))
	if err != nil {
		return err
	}
	if sp.Seq >= req.Seq {
		s.out.Reply(r, root(sp))
		return nil
	}
	s.nwait++
	s.waits[r.Key()] = &wait{n: s.nwait, req: r, sp: sp.Name, seq: req.Seq}
	return nil
}

func (s *Service) watch(r *rpc.Request, req api.KVSWatchReq) error {
	s.nextID++
	mode := kvs.WatchMode{WaitCreate: req.WaitCreate, Uniq: req.Uniq, Append: req.Append, Tree: req.Tree}
	told, err := s.watches.Add(s.nextID, space(req.Namespace), req.Key, mode, r)
	if err != nil {
		return err
	}
	s.streams[r.Key()] = s.nextID
	for _, t := range told {
		s.pass(t)
	}
	return nil
}

// pass gives one watch its news.
func (s *Service) pass(t kvs.Told) {
	r := t.Watch.Data.(*rpc.Request)
	if t.Err != nil {
		delete(s.streams, r.Key())
		s.out.Fail(r, t.Err)
		return
	}
	a := entry(t.Entry, t.Seq, api.KVSInline)
	a.Key, a.From = t.Key, t.From
	if t.Entry.Kind == kvs.Value {
		a.Size = t.Whole
	}
	s.out.Next(r, a)
}

// tell passes on what has become durable.
func (s *Service) tell(changes []kvs.Change) {
	for _, t := range s.watches.Changed(changes) {
		s.pass(t)
	}
	if len(s.waits) == 0 {
		return
	}
	var over []*wait
	for _, w := range s.waits {
		if sp, err := s.m.Root(w.sp); err != nil || sp.Seq >= w.seq {
			over = append(over, w)
		}
	}
	slices.SortFunc(over, func(a, b *wait) int { return int(a.n) - int(b.n) })
	for _, w := range over {
		delete(s.waits, w.req.Key())
		if sp, err := s.m.Root(w.sp); err != nil {
			s.out.Fail(w.req, err)
		} else {
			s.out.Reply(w.req, root(sp))
		}
	}
}
