package jobsvc

import (
	"fmt"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
)

// watchers are the open streams of clients.
type watchers struct {
	waits      map[rpc.RequestKey]*waiter
	byID       map[jobspec.ID]map[*waiter]bool // array or element waited for
	attaches   map[rpc.RequestKey]*attach
	byElem     map[jobspec.ID]map[*attach]bool
	readings   readings
	counts     map[rpc.RequestKey]*rpc.Request
	progressAt time.Time // when counts and progress are to be sent; zero = not asked for, or nothing changed
	lastSent   time.Time
}

// progressEvery is the least time between two messages of progress to one client.
const progressEvery = 200 * time.Millisecond

func (w *watchers) init() {
	w.waits = make(map[rpc.RequestKey]*waiter)
	w.byID = make(map[jobspec.ID]map[*waiter]bool)
	w.attaches = make(map[rpc.RequestKey]*attach)
	w.byElem = make(map[jobspec.ID]map[*attach]bool)
	w.counts = make(map[rpc.RequestKey]*rpc.Request)
}

func (w *watchers) cancel(k rpc.RequestKey) {
	if x := w.waits[k]; x != nil {
		w.dropWait(x)
	}
	if x := w.attaches[k]; x != nil {
		w.dropAttach(x)
	}
	delete(w.counts, k)
}

// waiter is one open job.wait.
type waiter struct {
	req      *rpc.Request
	left     map[jobspec.ID]bool
	lookups  int // queries under way
	progress bool
}

func (w *watchers) dropWait(x *waiter) {
	delete(w.waits, x.req.Key())
	for id := range x.left {
		w.unwait(x, id)
	}
}

func (w *watchers) unwait(x *waiter, id jobspec.ID) {
	delete(x.left, id)
	if set := w.byID[id]; set != nil {
		delete(set, x)
		if len(set) == 0 {
			delete(w.byID, id)
		}
	}
}

func (s *Service) onWait(r *rpc.Request, req api.WaitReq) error {
	ids := req.IDs
	if req.All {
		ids = s.m.Arrays()
	}
	x := &waiter{req: r, left: make(map[jobspec.ID]bool, len(ids)), progress: req.Progress}
	s.watch.waits[r.Key()] = x
	var past []jobspec.ID
	var now job.Awaited
	for _, id := range ids {
		if arr, n, idx, ok := s.m.Lookup(id); ok && s.waitFor(x, id, arr, n, idx) {
			now.List = append(now.List, awaited(arr, n, idx))
			continue
		}
		past = append(past, id)
	}
	if len(past) > 0 {
		s.waitPast(x, past)
	}
	if !req.All { // else nobody waits for one of them before the others
		s.step(now)
	}
	s.closeWait(x)
	return nil
}

// awaited is an array of n, or its element, that somebody waits for.
func awaited(arr jobspec.ID, n, idx int) job.Hastened {
	if n > 1 && idx >= 0 {
		return job.Hastened{Array: arr, Haste: job.HasteEach}
	}
	return job.Hastened{Array: arr, Haste: job.HasteDone}
}

// waitFor has x told of an active job; false = it has ended.
func (s *Service) waitFor(x *waiter, id, arr jobspec.ID, n, idx int) bool {
	if n > 1 && idx >= 0 {
		_, held := s.m.Holder(arr, idx)
		if _, ok := s.m.View(arr, idx); !ok && !held {
			return false
		}
	}
	x.left[id] = true
	if s.watch.byID[id] == nil {
		s.watch.byID[id] = make(map[*waiter]bool)
	}
	s.watch.byID[id][x] = true
	if st, ok := s.m.Array(arr); ok && x.progress && idx < 0 {
		s.out.Next(x.req, arrayRep(st, false))
	}
	return true
}

func arrayRep(st *job.ArrayState, done bool) api.WaitRep {
	return api.WaitRep{ID: st.ID, Done: done, N: st.N, Pending: st.Pending, Running: st.Running, Completed: st.Completed, Failed: st.Failed,
		Canceled: st.Canceled, TimedOut: st.TimedOut, Status: st.MaxStatus, Exception: st.Exception}
}

// waitPast answers for jobs that are not active, from the store.
func (s *Service) waitPast(x *waiter, ids []jobspec.ID) {
	x.lookups++
	s.queryPast(func(rd job.Reader) (any, error) {
		reps := make([]api.WaitRep, len(ids))
		for i, id := range ids {
			rep, err := storedOutcome(rd, id)
			if err != nil {
				return nil, err
			}
			reps[i] = rep
		}
		return reps, nil
	}, func(v any, err error) {
		if s.watch.waits[x.req.Key()] != x {
			return // cancelled meanwhile
		}
		x.lookups--
		if err != nil {
			s.watch.dropWait(x)
			s.out.Fail(x.req, err)
			return
		}
		for _, rep := range v.([]api.WaitRep) {
			s.out.Next(x.req, rep)
		}
		s.closeWait(x)
	})
}

func storedOutcome(rd job.Reader, id jobspec.ID) (api.WaitRep, error) {
	rep := api.WaitRep{ID: id, Done: true}
	row, ok, err := rd.Find(id)
	if err != nil {
		return rep, err
	}
	if !ok {
		return purgedOutcome(rd, id)
	}
	rep.N = 1
	if id == row.ID && row.N > 1 {
		return storedSummary(rd, row)
	}
	el, ok, err := rd.Element(row.ID, indexOf(row, id))
	if err != nil || !ok {
		rep.Err = "unknown job id"
		return rep, err
	}
	one := job.ArrayState{}
	countInto(&one, jobspec.Result(el.Result))
	rep.Completed, rep.Failed, rep.Canceled, rep.TimedOut = one.Completed, one.Failed, one.Canceled, one.TimedOut
	rep.Status = max(el.Status, 0)
	if st, err := job.Fold(row.Urgency, row.Submit, el.Events); err == nil && st.Exc != nil {
		rep.Exception = "type=" + st.Exc.Type + " " + st.Exc.Note
	}
	return rep, nil
}

// purgedOutcome is that of a purged job or array that had a key, of which the counts are left.
func purgedOutcome(rd job.Reader, id jobspec.ID) (api.WaitRep, error) {
	rep := api.WaitRep{ID: id, Done: true}
	p, ok, err := rd.Purged(id)
	if err != nil || !ok || p.Digest == "" {
		rep.Err = "unknown job id"
		return rep, err
	}
	s := &p.Summary
	rep.N, rep.Completed, rep.Failed, rep.Canceled, rep.TimedOut, rep.Status = p.N, s.Completed, s.Failed, s.Canceled, s.TimedOut, max(s.MaxStatus, 0)
	return rep, nil
}

func storedSummary(rd job.Reader, row job.ArrayRow) (api.WaitRep, error) {
	sum, err := rd.Summary(row.ID)
	rep := api.WaitRep{ID: row.ID, Done: true, N: row.N, Completed: sum.Completed, Failed: sum.Failed, Canceled: sum.Canceled, TimedOut: sum.TimedOut,
		Status: max(sum.MaxStatus, 0)}
	if err == nil && sum.Completed < row.N {
		rep.Exception, err = storedException(rd, row.ID)
	}
	return rep, err
}

// maxLook is how many elements are looked at for an exception.
const maxLook = 1000

// storedException is that of the latest element of an array that has one, among the last maxLook that did not complete.
func storedException(rd job.Reader, array jobspec.ID) (text string, err error) {
	looked := 0
	bad := int(jobspec.ResultFailed | jobspec.ResultCanceled | jobspec.ResultTimeout)
	err = rd.Ended(array, bad, 0, 0, func(el job.ElementRow) bool {
		if st, err := job.Fold(0, 0, el.Events); err == nil && st.Exc != nil {
			text = "type=" + st.Exc.Type + " " + st.Exc.Note
		}
		looked++
		return text == "" && looked < maxLook
	})
	return text, err
}

func countInto(st *job.ArrayState, r jobspec.Result) {
	switch r {
	case jobspec.ResultCompleted:
		st.Completed++
	case jobspec.ResultCanceled:
		st.Canceled++
	case jobspec.ResultTimeout:
		st.TimedOut++
	default:
		st.Failed++
	}
}

func indexOf(row job.ArrayRow, id jobspec.ID) int {
	if row.N == 1 {
		return 0
	}
	return int(id - row.ID - 1)
}

func (s *Service) closeWait(x *waiter) {
	if len(x.left) == 0 && x.lookups == 0 {
		s.watch.dropWait(x)
		s.out.End(x.req)
	}
}

// tell passes on what ended and what watched elements did.
func (s *Service) tell(a *job.Actions) {
	w := &s.watch
	if len(w.byID) > 0 {
		for i := range a.Ended {
			if e := &a.Ended[i]; e.ID != e.Array && w.byID[e.ID] != nil {
				st := job.ArrayState{ID: e.ID, N: 1, MaxStatus: max(e.Status, 0)}
				countInto(&st, e.Result)
				s.tellDone(e.ID, arrayRep(&st, true))
			}
		}
		s.spansToWaits(a.Spans)
		for _, st := range a.Done {
			s.tellDone(st.ID, arrayRep(st, true))
		}
	}
	s.spansToAttaches(a.Spans)
	for _, id := range a.Touched {
		s.touched(id)
	}
	for i := range a.Streamed {
		s.streamed(&a.Streamed[i])
		s.follows.output(s, &a.Streamed[i])
	}
	for i := range a.Finished {
		s.follows.finished(s.out, &a.Finished[i])
	}
	s.follows.spans(s.out, a.Spans)
	s.follows.done(a.Done)
	if len(a.Ended)+len(a.Spans)+len(a.Starts)+len(a.Done)+len(a.IDs) > 0 && (len(w.counts) > 0 || len(w.byID) > 0) && w.progressAt.IsZero() {
		w.progressAt = w.lastSent.Add(progressEvery)
	}
}

func (s *Service) spansToWaits(spans []job.EndedSpan) {
	for _, sp := range spans {
		for id := range s.watch.byID {
			if hasElement(&sp, id) { // that of a job is told by its end
				st := job.ArrayState{ID: id, N: 1, MaxStatus: max(sp.Status, 0)}
				countInto(&st, sp.Result)
				s.tellDone(id, arrayRep(&st, true))
			}
		}
	}
}

// hasElement tells whether id is one of the elements, of an array: behind the id of a single job comes another one's.
func hasElement(sp *job.EndedSpan, id jobspec.ID) bool {
	i := int(int64(id) - int64(sp.Array) - 1)
	return sp.N > 1 && i >= sp.Lo && i <= sp.Hi
}

// spansToAttaches tells those who watch elements that ended before they began.
func (s *Service) spansToAttaches(spans []job.EndedSpan) {
	for _, sp := range spans {
		for id := range s.watch.byElem {
			if id == sp.Array || hasElement(&sp, id) {
				s.touched(id)
			}
		}
	}
}

func (s *Service) tellDone(id jobspec.ID, rep api.WaitRep) {
	for x := range s.watch.byID[id] {
		s.out.Next(x.req, rep)
		s.watch.unwait(x, id)
		s.closeWait(x)
	}
}

func (s *Service) onCounts(r *rpc.Request, req api.CountsReq) error {
	if req.Follow {
		s.watch.counts[r.Key()] = r
	}
	s.askWaiting(func() {
		if req.Follow && s.watch.counts[r.Key()] != r {
			return // it has ended meanwhile
		}
		s.out.Next(r, s.countsRep())
		if !req.Follow || s.m.Active() == 0 {
			delete(s.watch.counts, r.Key())
			s.out.End(r)
		}
	})
	return nil
}

// askWaiting asks branches how much of what they hold has not started, of which they tell little by themselves.
func (s *Service) askWaiting(then func()) {
	holders := s.m.Holders()
	left := len(holders)
	if left == 0 {
		then()
	}
	for _, to := range holders {
		s.pass(to, api.Counts.Topic, api.CountsReq{}, &passing{each: func(b rpc.Payload) {
			if rep, err := rpc.As[api.CountsRep](b); err == nil {
				s.waiting[to] = rep.Pending
			}
		}, end: func(error) {
			if left--; left == 0 {
				then()
			}
		}})
	}
}

func (s *Service) countsRep() api.CountsRep {
	t := s.m.Totals()
	for to, n := range s.waiting { // what branches hold counts as running
		n = min(n, s.m.HeldBy(to))
		t.Pending, t.Running = t.Pending+n, t.Running-n
	}
	return api.CountsRep{Pending: t.Pending, Running: t.Running, Inactive: t.Inactive, Failed: t.Failed, Canceled: t.Canceled, TimedOut: t.TimedOut, Purged: t.Purged}
}

// flushProgress sends counts and progress, not too often; at once when the last job has ended.
func (s *Service) flushProgress() {
	w := &s.watch
	idle := s.m.Active() == 0 && len(w.counts) > 0
	if !idle && (w.progressAt.IsZero() || w.progressAt.After(s.now)) {
		return
	}
	w.progressAt, w.lastSent = time.Time{}, s.now
	for _, r := range sortedRequests(w.counts) {
		s.out.Next(r, s.countsRep())
		if s.m.Active() == 0 {
			s.out.End(r)
			delete(w.counts, r.Key())
		}
	}
	for _, x := range sortedWaits(w.waits) {
		for id := range x.left {
			if st, ok := s.m.Array(id); ok && st.N > 1 && x.progress {
				s.out.Next(x.req, arrayRep(st, false))
			}
		}
	}
}

func sortedRequests(m map[rpc.RequestKey]*rpc.Request) []*rpc.Request {
	return sortedBy(m, func(r *rpc.Request) rpc.RequestKey { return r.Key() })
}

func sortedWaits(m map[rpc.RequestKey]*waiter) []*waiter {
	return sortedBy(m, func(x *waiter) rpc.RequestKey { return x.req.Key() })
}

func unknownJob(id jobspec.ID) string { return fmt.Sprintf("unknown job id %v", id) }
