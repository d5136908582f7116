package jobsvc

import (
	"maps"
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource/idset"
)

// follows are the open job.follow streams. What one turn of the service has for a stream goes in one message.
type follows struct {
	byKey   map[string]*follow
	byReq   map[rpc.RequestKey]*follow
	byArray map[jobspec.ID]*followed
	dirty   []*follow
}

// follow is one stream.
type follow struct {
	key    string
	req    *rpc.Request
	arrays map[jobspec.ID]bool
	rep    api.FollowRep
	size   int // bytes of output in rep
	queued bool
	below  map[int]*passing  // what branches tell of it (passfollow.go)
	opened bool              // all that hold something of it do
	last   int               // number of the latest array
	byNum  map[int]*followed // by which branches name arrays
}

// maxEnds is how many ends go in one message: an array of a million elements may be cancelled at once, and a frame is 16 MiB.
const maxEnds = 20000

// followed is an array of a stream.
type followed struct {
	f    *follow
	id   jobspec.ID
	tag  int
	n    int
	num  int
	told idset.Set // elements whose end a branch has told, before it is known here
}

func (fs *follows) init() {
	fs.byKey, fs.byReq, fs.byArray = make(map[string]*follow), make(map[rpc.RequestKey]*follow), make(map[jobspec.ID]*followed)
}

func (s *Service) onFollow(r *rpc.Request, req api.FollowReq) error {
	fs := &s.follows
	switch {
	case req.Key == "":
		return wire.Errorf(wire.Invalid, "a stream needs a key")
	case fs.byKey[req.Key] != nil:
		return wire.Errorf(wire.Invalid, "the key of the stream is in use")
	}
	f := &follow{key: req.Key, req: r, arrays: make(map[jobspec.ID]bool), below: make(map[int]*passing), byNum: make(map[int]*followed)}
	fs.byKey[f.key], fs.byReq[r.Key()] = f, f
	for _, a := range req.Arrays {
		if arr, n, idx, ok := s.m.Lookup(a.ID); ok && (n == 1 || idx < 0) {
			fs.join(f, arr, a.Tag, n)
			s.m.Follow(arr, true)
			s.step(job.Awaited{List: []job.Hastened{{Array: arr, Haste: job.HasteEach}}})
		}
	}
	s.openFollow(f)
	return nil
}

func (fs *follows) join(f *follow, arr jobspec.ID, tag, n int) {
	switch before := fs.byArray[arr]; {
	case before == nil:
	case before.f == f: // a branch is granted more of it
		before.tag = tag
		return
	default: // its client has come back before this end of the old connection was noticed
		fs.leave(before)
	}
	f.arrays[arr] = true
	f.last++
	a := &followed{f: f, id: arr, tag: tag, n: n, num: f.last}
	f.byNum[a.num], fs.byArray[arr] = a, a
}

func (fs *follows) leave(a *followed) {
	delete(a.f.arrays, a.id)
	delete(a.f.byNum, a.num)
	delete(fs.byArray, a.id)
}

// add follows the items of a submission that ask for it.
func (fs *follows) add(items []api.SubmitItem, ids []jobspec.ID) {
	for i := range items {
		if f := fs.byKey[items[i].Follow]; f != nil && i < len(ids) {
			fs.join(f, ids[i], items[i].Tag, max(items[i].N, 1))
		}
	}
}

// dropFollow ends a stream whose client has gone.
func (s *Service) dropFollow(k rpc.RequestKey) {
	f := s.follows.byReq[k]
	if f == nil {
		return
	}
	delete(s.follows.byReq, k)
	delete(s.follows.byKey, f.key)
	for arr := range f.arrays {
		delete(s.follows.byArray, arr)
		s.m.Follow(arr, false)
	}
	for _, to := range slices.Sorted(maps.Keys(f.below)) {
		s.out.CancelCall(f.below[to])
	}
	f.req = nil
}

func (fs *follows) touch(f *follow) {
	if !f.queued {
		f.queued = true
		fs.dirty = append(fs.dirty, f)
	}
}

// output takes a piece of an element's output.
func (fs *follows) output(s *Service, o *job.OutputRow) {
	if len(fs.byArray) == 0 {
		return
	}
	arr, _, idx, ok := s.m.Lookup(o.ID)
	a := fs.byArray[arr]
	if !ok || a == nil || len(o.Data) == 0 {
		return
	}
	fs.piece(s.out, a.f, api.FollowOutput{Tag: a.tag, Index: max(idx, 0), Attempt: o.Attempt, Task: o.Task, Stream: o.Stream, Offset: o.Offset, Data: o.Data})
}

// piece adds a piece of output to a stream.
func (fs *follows) piece(out *reactor.Out, f *follow, o api.FollowOutput) {
	f.rep.Output = append(f.rep.Output, o)
	fs.touch(f)
	if f.size += len(o.Data); f.size >= maxReply {
		f.send(out)
	}
}

// end adds an end.
func (fs *follows) end(out *reactor.Out, f *follow, e api.FollowEnd) {
	f.rep.Ended = append(f.rep.Ended, e)
	fs.touch(f)
	if len(f.rep.Ended) >= maxEnds {
		f.send(out)
	}
}

// finished takes the end of an element.
func (fs *follows) finished(out *reactor.Out, el *job.Finished) {
	row := &el.Row
	a := fs.byArray[row.Array]
	if a == nil {
		return
	}
	end := api.FollowEnd{Tag: a.tag, Index: row.Index, Result: int(row.Result), Status: row.Status, Start: el.Start, End: row.End, Node: row.Nodelist,
		Attempt: row.Attempt, Signal: el.Signal}
	if jobspec.Result(row.Result) != jobspec.ResultCompleted {
		if st, err := job.Fold(0, 0, row.Events); err == nil && st.Exc != nil {
			end.Note = st.Exc.Note
		}
	}
	fs.end(out, a.f, end)
}

// spans takes elements that were cancelled before they ran, or ended in a branch. Most of the latter the branch has told of.
func (fs *follows) spans(out *reactor.Out, spans []job.EndedSpan) {
	for _, sp := range spans {
		a := fs.byArray[sp.Array]
		if a == nil {
			continue
		}
		for i := sp.Lo; i <= sp.Hi; i++ {
			if !a.told.Has(i) {
				fs.end(out, a.f, api.FollowEnd{Tag: a.tag, Index: i, Result: int(sp.Result), Status: sp.Status})
			}
		}
		a.told.RemoveRange(sp.Lo, sp.Hi)
	}
}

// done forgets arrays all of whose elements have ended.
func (fs *follows) done(arrays []*job.ArrayState) {
	for _, st := range arrays {
		if a := fs.byArray[st.ID]; a != nil {
			fs.leave(a)
		}
	}
}

// flush sends what has gathered.
func (fs *follows) flush(out *reactor.Out) {
	for i, f := range fs.dirty {
		f.send(out)
		f.queued = false
		fs.dirty[i] = nil
	}
	fs.dirty = fs.dirty[:0]
}

func (f *follow) send(out *reactor.Out) {
	if f.req != nil && len(f.rep.Output)+len(f.rep.Ended) > 0 {
		out.Next(f.req, f.rep)
	}
	f.rep, f.size = api.FollowRep{}, 0
}
