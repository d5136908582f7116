package jobsvc

import (
	"cmp"
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// attach is one open job.attach.
type attach struct {
	req      *rpc.Request
	want     api.AttachReq
	arr      jobspec.ID
	idx      int
	events   int                 // sent
	sent     map[streamKey]int64 // output sent: offset after the last byte
	querying bool                // the store is being read, or waited for: live output waits in held
	held     []job.OutputRow
	attempt  uint32        // whose stored output is being read; 0 = the latest
	newest   uint32        // attempt of which output was sent
	pos      job.OutputPos // read so far
	over     bool          // it has durably ended
	clean    bool          // its last event was sent
	pass     *passing      // a branch has it
}

type streamKey struct {
	attempt uint32
	task    int
	stream  uint8
}

func (w *watchers) dropAttach(x *attach) {
	delete(w.attaches, x.req.Key())
	w.leave(x)
}

// leave has x no longer told of its element.
func (w *watchers) leave(x *attach) {
	if set := w.byElem[x.want.ID]; set != nil {
		delete(set, x)
		if len(set) == 0 {
			delete(w.byElem, x.want.ID)
		}
	}
}

func (s *Service) onAttach(r *rpc.Request, req api.AttachReq) error {
	x := &attach{req: r, want: req, sent: make(map[streamKey]int64)}
	s.watch.attaches[r.Key()] = x
	if _, n, idx, ok := s.m.Lookup(req.ID); ok && n > 1 && idx < 0 {
		s.watch.dropAttach(x)
		return wire.Errorf(wire.NotFound, "%v is an array of %d; name one element of it", req.ID, n)
	}
	if !s.cfg.Branch {
		s.startAttach(x)
		return nil
	}
	s.whenDurable(func(*reactor.Out, error) { // what a branch was granted just now nobody finds before
		if s.attached(x) {
			s.startAttach(x)
		}
	})
	return nil
}

// startAttach finds out who has the element.
func (s *Service) startAttach(x *attach) {
	if arr, n, idx, ok := s.m.Lookup(x.want.ID); ok && x.want.Follow {
		s.step(job.Awaited{List: []job.Hastened{awaited(arr, n, idx)}})
	}
	s.where(x.want.ID, func() {
		if s.attached(x) {
			s.attachHere(x)
		}
	}, func(to int) { s.passAttachSent(x, to) })
}

func (s *Service) attachHere(x *attach) {
	arr, _, idx, ok := s.m.Lookup(x.want.ID)
	x.arr, x.idx, x.over = arr, idx, false
	v, active := job.View{}, false
	if ok {
		v, active = s.m.View(arr, idx)
	}
	if !active {
		x.over = true
		s.readAttach(x)
		return
	}
	s.attachLive(x, v)
}

func (s *Service) attachLive(x *attach, v job.View) {
	s.m.Watch(x.arr, x.idx)
	if s.watch.byElem[x.want.ID] == nil {
		s.watch.byElem[x.want.ID] = make(map[*attach]bool)
	}
	s.watch.byElem[x.want.ID][x] = true
	s.sendEvents(x, v.Row, v.Log)
	if !x.want.Output || len(v.Log) == 0 {
		if !x.want.Follow {
			s.endAttach(x)
		}
		return
	}
	// What came so far is in the store when the transaction now being filled is; what comes from now on is held until that was read.
	x.querying = true
	if x.want.Follow { // not one that begins meanwhile, whose output comes behind this one's
		x.attempt = v.Fold.Attempt
	}
	s.whenDurable(func(*reactor.Out, error) { s.readAttach(x) })
}

// attachRead goes on after the store was read.
func (s *Service) attachRead(x *attach, over bool, output []job.OutputRow) {
	x.querying = false
	s.sendOutput(x, output)
	s.sendOutput(x, x.held)
	x.held = nil
	switch {
	case over || !x.want.Follow:
		s.endAttach(x)
	case x.over && x.clean:
		s.endAttach(x)
	case x.over:
		s.readAttach(x) // it ended meanwhile: once more for its last events
	}
}

func (s *Service) endAttach(x *attach) {
	s.watch.dropAttach(x)
	s.out.End(x.req)
}

// sendEvents sends the events of a log that were not sent yet.
func (s *Service) sendEvents(x *attach, row *job.ArrayRow, log []byte) {
	if !x.want.Events {
		return
	}
	events, err := job.Eventlog(row, log)
	if err != nil {
		s.out.Log("error", "unreadable eventlog", "job", x.want.ID, "err", err)
		return
	}
	if len(events) <= x.events {
		return
	}
	rep := api.AttachRep{}
	for _, e := range events[x.events:] {
		rep.Events = append(rep.Events, api.Event{Timestamp: e.Time, Name: e.Name, Context: e.Context})
	}
	x.events = len(events)
	x.clean = events[len(events)-1].Name == "clean"
	s.out.Next(x.req, rep)
}

// maxReply bounds the output in one message.
const maxReply = 1 << 20

func (s *Service) sendOutput(x *attach, rows []job.OutputRow) {
	rep, size := api.AttachRep{}, 0
	for i := range rows {
		o := &rows[i]
		if o.Attempt < x.newest {
			continue
		}
		k := streamKey{o.Attempt, o.Task, o.Stream}
		end := o.Offset + int64(len(o.Data))
		skip := x.sent[k] - o.Offset
		if skip >= int64(len(o.Data)) || len(o.Data) == 0 {
			continue
		}
		skip = max(skip, 0)
		x.sent[k], x.newest = end, o.Attempt
		rep.Output = append(rep.Output, api.Output{Task: o.Task, Stream: o.Stream, Offset: o.Offset + skip, Data: o.Data[skip:], Attempt: o.Attempt})
		if size += len(o.Data); size >= maxReply {
			s.out.Next(x.req, rep)
			rep, size = api.AttachRep{}, 0
		}
	}
	if len(rep.Output) > 0 {
		s.out.Next(x.req, rep)
	}
}

// streamed passes live output to those attached.
func (s *Service) streamed(o *job.OutputRow) {
	for x := range s.watch.byElem[o.ID] {
		switch {
		case !x.want.Output:
		case x.querying:
			x.held = append(x.held, *o)
		default:
			s.sendOutput(x, []job.OutputRow{*o})
		}
	}
}

// touched: a watched element has new events, or has durably ended.
func (s *Service) touched(id jobspec.ID) {
	for x := range s.watch.byElem[id] {
		v, active := s.m.View(x.arr, x.idx)
		if active {
			s.sendEvents(x, v.Row, v.Log)
			continue
		}
		if x.over {
			continue
		}
		x.over = true
		switch {
		case x.querying:
		case x.clean:
			s.endAttach(x)
		default:
			s.readAttach(x)
		}
	}
}

func sortedBy[V any](m map[rpc.RequestKey]V, key func(V) rpc.RequestKey) []V {
	vs := make([]V, 0, len(m))
	for _, v := range m {
		vs = append(vs, v)
	}
	slices.SortFunc(vs, func(a, b V) int {
		x, y := key(a), key(b)
		return cmp.Or(cmp.Compare(x.Peer, y.Peer), cmp.Compare(x.Tag, y.Tag))
	})
	return vs
}
