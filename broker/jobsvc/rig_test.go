package jobsvc

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/broker/store/mem"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
)

// rig drives the service by hand: a store in memory, no scheduler and no nodes but what the test plays.
type rig struct {
	t       *testing.T
	s       *Service
	now     time.Time
	store   *mem.Store
	leader  *mem.Leader
	fail    error // the next commits fail with it
	tag     uint64
	answers map[uint64][]reactor.Answer
	calls   []reactor.Call
	notices []any // to sched and branch
	branchy []any // to branch, and calls for it, in their order
	stopped bool
	branch  bool
	wake    time.Time
	pending []reactor.Done
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, now: time.Unix(1800000000, 0), store: mem.New(mem.Options{}), answers: map[uint64][]reactor.Answer{}}
	r.boot()
	return r
}

func (r *rig) boot() {
	var l *job.Loaded
	r.leader, l = r.store.Open()
	s, err := New(Config{Loaded: l, Size: 1, Now: r.now, Branch: r.branch})
	require.NoError(r.t, err)
	r.s = s
	r.in(reactor.Start{})
	r.in(api.NodesChanged{Add: []resource.Node{{Index: 0, Name: "n0", Cores: resource.MaskRange(0, 3)}}, Up: []int{0}})
	r.in(api.Membership{Rank: 0, State: "online", UUID: "u0"})
}

func (r *rig) in(v any) {
	r.handle(v)
	r.settle()
}

// settle lets the store answer and the timer run until nothing is left to do at this moment.
func (r *rig) settle() {
	for i := 0; i < 100; i++ {
		switch {
		case len(r.pending) > 0:
			d := r.pending[0]
			r.pending = r.pending[1:]
			r.handle(d)
		case !r.wake.IsZero() && r.wake.Sub(r.now) < 100*time.Millisecond:
			r.now = later(r.now, r.wake)
			r.wake = time.Time{}
			r.handle(reactor.Wake{})
		default:
			return
		}
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (r *rig) handle(v any) {
	var out reactor.Out
	r.s.Handle(r.now, v, &out)
	for _, it := range out.Items {
		switch it := it.(type) {
		case reactor.Answer:
			r.answers[it.Req.Tag] = append(r.answers[it.Req.Tag], it)
		case reactor.Call:
			r.calls = append(r.calls, it)
			if it.Topic == api.BranchPass.Topic {
				r.branchy = append(r.branchy, it.Body)
			}
		case reactor.Notify:
			if it.To == "branch" {
				r.branchy = append(r.branchy, it.Notice)
			}
			if it.To != "broker" {
				r.notices = append(r.notices, it.Notice)
			} else {
				r.stopped = true
			}
		case reactor.WakeAt:
			r.wake = it.T
		case reactor.Do:
			r.do(it.Effect)
		}
	}
	require.NoError(r.t, r.s.Check())
}

func (r *rig) do(effect any) {
	if _, ok := effect.(*job.Commit); ok && r.fail != nil {
		r.pending = append(r.pending, reactor.Done{Effect: effect, Err: r.fail})
		return
	}
	r.leader.Do(r.now, effect, func(res any, err error) {
		r.pending = append(r.pending, reactor.Done{Effect: effect, Result: res, Err: err})
	})
}

func (r *rig) request(topic string, body any) uint64 {
	r.tag++
	r.in(r.asRequest(topic, body))
	return r.tag
}

func (r *rig) asRequest(topic string, body any) *rpc.Request {
	return &rpc.Request{Topic: topic, Body: rpc.Payload{Value: body}, Peer: "test", Tag: r.tag}
}

// reply is the only answer to a request.
func reply[T any](r *rig, tag uint64) T {
	r.t.Helper()
	require.Len(r.t, r.answers[tag], 1)
	a := r.answers[tag][0]
	require.Nil(r.t, a.Err)
	return a.Body.(T)
}

func (r *rig) failure(tag uint64) *wire.Error {
	r.t.Helper()
	as := r.answers[tag]
	require.NotEmpty(r.t, as)
	require.NotNil(r.t, as[len(as)-1].Err)
	return as[len(as)-1].Err
}

const trueSpec = `{"version":1,"resources":[{"type":"slot","count":1,"label":"task","with":[{"type":"core","count":1}]}],
"tasks":[{"command":["true"],"slot":"task","count":{"per_slot":1}}],"attributes":{"system":{"duration":0,"environment":{"A":"b"}}}}`

func (r *rig) submit(n int) jobspec.ID {
	return reply[api.SubmitRep](r, r.request(api.Submit.Topic, api.SubmitReq{Items: []api.SubmitItem{{Spec: []byte(trueSpec), N: n, Urgency: 16}}})).IDs[0]
}

func (r *rig) sync() {
	r.request(api.ExecSync.Topic, api.ExecSyncReq{Rank: 0, UUID: "u0", Session: 1})
}

// run gives n elements of a group resources and returns what was started.
func (r *rig) run(group jobspec.ID, first, n int) []api.StartItem {
	r.calls = nil
	var in api.SchedAllocs
	for i := range n {
		in.Allocs = append(in.Allocs, api.SchedAlloc{ID: uint64(first + i), Group: api.GroupID(group),
			Alloc: &resource.Alloc{Nodes: []resource.NodeAlloc{{Node: 0, Cores: resource.MaskOf(i % 4), Slots: 1}}}})
	}
	r.in(in)
	require.NotEmpty(r.t, r.calls)
	var items []api.StartItem
	for _, c := range r.calls {
		items = append(items, c.Body.(api.ExecStartReq).Starts...)
	}
	return items
}

func (r *rig) end(items []api.StartItem, status int) {
	req := api.ExecReportReq{Rank: 0, UUID: "u0", Session: 1}
	for _, it := range items {
		now := float64(r.now.Unix())
		req.Records = append(req.Records, api.Record{Kind: api.RecOutput, Ref: it.Ref, Stream: 1, Data: []byte("hello\n")},
			api.Record{Kind: api.RecEnded, Ref: it.Ref, Status: status, Start: now, Time: now + 1})
	}
	reply[api.Empty](r, r.request(api.ExecReport.Topic, req))
}

func (r *rig) list(req api.ListReq) []api.JobInfo {
	var jobs []api.JobInfo
	tag := r.request(api.List.Topic, req)
	for _, a := range r.answers[tag] {
		if a.More {
			jobs = append(jobs, a.Body.(api.ListRep).Jobs...)
		} else {
			require.Equal(r.t, wire.EndOfStream, a.Err.Code, a.Err.Text)
		}
	}
	return jobs
}

// upload sends parameters of elements first, first+1 … and returns the answer's tag.
func (r *rig) upload(token string, first int, lists ...[]string) uint64 {
	return r.request(api.Params.Topic, api.ParamsReq{Token: token, First: first, Params: lists})
}

// listAll follows a listing through its pages.
func (r *rig) listAll(req api.ListReq) (jobs []api.JobInfo, requests int) {
	for {
		requests++
		var next *api.ListAfter
		for _, a := range r.answers[r.request(api.List.Topic, req)] {
			if a.More {
				rep := a.Body.(api.ListRep)
				jobs = append(jobs, rep.Jobs...)
				next = rep.Next
			}
		}
		if next == nil {
			return jobs, requests
		}
		req.After = next
	}
}
