package execsvc

import (
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

// hand drives the service by hand.
type hand struct {
	t   *testing.T
	s   *Service
	now time.Time
	out reactor.Out
}

func newHand(t *testing.T) *hand {
	h := &hand{t: t, s: New(Config{UUID: "u1"}), now: time.Unix(1e9, 0)}
	h.in(reactor.Start{})
	return h
}

func (h *hand) in(in any) []any {
	h.out.Items = nil
	h.now = h.now.Add(time.Millisecond)
	h.s.Handle(h.now, in, &h.out)
	require.NoError(h.t, h.s.Machine().Check())
	return h.out.Items
}

func find[T any](items []any) (found []T) {
	for _, it := range items {
		switch it := it.(type) {
		case T:
			found = append(found, it)
		case reactor.Do:
			if e, ok := it.Effect.(T); ok {
				found = append(found, e)
			}
		}
	}
	return found
}

// connect syncs as rank 2.
func (h *hand) connect() {
	calls := find[reactor.Call](h.in(api.Contact{Up: true, Rank: 2, Epoch: 5, Incarnation: 7}))
	require.Len(h.t, calls, 1)
	require.Equal(h.t, api.ExecSyncReq{Rank: 2, UUID: "u1", Incarnation: 7, Session: 1, Runs: []api.RunState{}}, calls[0].Body)
	h.in(&rpc.Response{Key: calls[0].Key, Body: rpc.Payload{Value: api.ExecSyncRep{Lease: 30}}})
}

func request[Req, Rep any](m rpc.Method[Req, Rep], body Req) *rpc.Request {
	raw, err := msgpack.Marshal(body)
	if err != nil {
		panic(err)
	}
	return &rpc.Request{Topic: m.Topic, Body: rpc.Payload{Raw: raw}, NoReply: true}
}

var specJSON = []byte(`{"version":1,"resources":[{"type":"slot","count":1,"label":"task","with":[{"type":"core","count":1}]}],
 "tasks":[{"command":["true"],"slot":"task","count":{"per_slot":1}}],"attributes":{"system":{"duration":0}}}`)

func start(json []byte) *rpc.Request {
	return request(api.ExecStart, api.ExecStartReq{Session: 1, Specs: []api.Spec{{ID: 9, JSON: json, Env: []byte("A=b\x00")}}, Starts: []api.StartItem{{
		Ref: api.RunRef{Job: 11, Attempt: 2, Epoch: 5}, Spec: 9, Array: 10, Index: 0, Size: 3, CC: "x", NTasks: 2, NNodes: 1, Nodelist: "n[0]", Limit: 1.5,
		Watched: true, Parts: []api.NodePart{{Node: 4, NodeID: 1, Cores: resource.MaskOf(1, 2), FirstTask: 3, NTasks: 2}}}}})
}

func TestAStartOverTheTreeReachesTheDriver(t *testing.T) {
	h := newHand(t)
	h.connect()
	launch := find[exec.Launch](h.in(start(specJSON)))
	require.Len(t, launch, 1)
	job := launch[0].Jobs[0]
	require.Equal(t, exec.Start{Ref: exec.Ref{Job: 11, Attempt: 2, Epoch: 5}, SpecID: 9, Array: 10, Size: 3, CC: "x", NTasks: 2, NNodes: 1,
		Nodelist: "n[0]", Limit: 1500 * time.Millisecond, Watched: true,
		Parts: []exec.Part{{Node: 4, NodeID: 1, Cores: resource.MaskOf(1, 2), FirstTask: 3, NTasks: 2}}}, job.Start)
	require.Equal(t, []string{"true"}, job.Spec.Job.Command)
	require.Equal(t, "A=b\x00", string(job.Spec.Env))

	h.in(reactor.Done{Result: exec.Tasks{{Kind: exec.TaskEnded, Run: job.ID, Task: 3, Start: 1e9, Status: 0}}})
	items := h.in(reactor.Done{Result: exec.Tasks{{Kind: exec.TaskEnded, Run: job.ID, Task: 4, Start: 1e9, Status: 256, MaxRSS: 7, CPU: 2}}})
	req := find[reactor.Call](items)[0].Body.(api.ExecReportReq)
	require.Equal(t, api.ExecReportReq{Rank: 2, UUID: "u1", Session: 1, Records: []api.Record{{Kind: api.RecEnded,
		Ref: api.RunRef{Job: 11, Attempt: 2, Epoch: 5}, Time: req.Records[0].Time, Status: 256, Start: 1e9, NTasks: 2, MaxRSS: 7, CPU: 2}}}, req)
}

func TestAnUnreadableJobspecEndsItsRunsWithTheReason(t *testing.T) {
	h := newHand(t)
	h.connect()
	req := find[reactor.Call](h.in(start([]byte("{"))))[0].Body.(api.ExecReportReq)
	require.Equal(t, api.RecException, req.Records[0].Kind)
	require.Contains(t, req.Records[0].Note, "cannot read this job's jobspec")
	require.Equal(t, api.RecEnded, req.Records[1].Kind)
}

func TestKillAndInputBecomeEffects(t *testing.T) {
	h := newHand(t)
	h.connect()
	h.in(start(specJSON))
	ref := api.RunRef{Job: 11, Attempt: 2, Epoch: 5}
	require.Equal(t, []exec.Signal{{Run: 1, Sig: 10}}, find[exec.Signal](h.in(request(api.ExecKill, api.ExecKillReq{Session: 1, Runs: []api.RunRef{ref}, Signal: 10}))))
	require.Equal(t, []exec.Signal{{Run: 1, Sig: 15}}, find[exec.Signal](h.in(request(api.ExecKill, api.ExecKillReq{Session: 1, Runs: []api.RunRef{ref}, End: true}))))
	require.Equal(t, []exec.Feed{{Run: 1, Task: -1, Data: []byte("hi"), EOF: true}}, find[exec.Feed](h.in(request(api.ExecInput, api.ExecInputReq{Session: 1, Run: ref, Task: -1, Data: []byte("hi"), EOF: true}))))
}

func TestAResyncAnswerOpensASession(t *testing.T) {
	h := newHand(t)
	h.connect()
	h.in(start([]byte("{")))
	items := h.in(&rpc.Response{Key: reportKey(1), Err: &wire.Error{Code: wire.Resync}})
	req := find[reactor.Call](items)[0].Body.(api.ExecSyncReq)
	require.EqualValues(t, 2, req.Session)
	require.True(t, req.Runs[0].Ended)
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	h := newHand(t)
	h.connect()
	bad := &rpc.Request{Topic: api.ExecStart.Topic, Body: rpc.Payload{Raw: []byte{0xc1, 1, 2}}}
	answer := find[reactor.Answer](h.in(bad))
	require.Equal(t, wire.Invalid, answer[0].Err.Code)
	bad.NoReply = true
	require.Len(t, find[reactor.Log](h.in(bad)), 1, "nobody waits: it stands in the log")
	require.Equal(t, wire.NoMethod, find[reactor.Answer](h.in(&rpc.Request{Topic: "exec.nothing"}))[0].Err.Code)
}

func TestStoppingIsAnsweredWhenNothingRuns(t *testing.T) {
	h := newHand(t)
	h.connect()
	h.in(start(specJSON))
	items := h.in(api.Stopping{})
	require.Equal(t, []exec.Signal{{Run: 1, Sig: 15}}, find[exec.Signal](items))
	require.Empty(t, find[reactor.Notify](items))
	var ev exec.Tasks
	for k := range 2 {
		ev = append(ev, exec.TaskEvent{Kind: exec.TaskEnded, Run: 1, Task: 3 + k, Status: 15})
	}
	h.in(reactor.Done{Result: ev})
	h.in(reactor.Wake{})
	require.Empty(t, find[reactor.Notify](h.out.Items), "its end is not durable yet")
	items = h.in(&rpc.Response{Key: reportKey(1), Body: rpc.Payload{Value: api.Empty{}}})
	for i := 2; len(find[reactor.Notify](items)) == 0 && i < 5; i++ {
		items = h.in(&rpc.Response{Key: reportKey(i), Body: rpc.Payload{Value: api.Empty{}}})
	}
	require.Equal(t, []reactor.Notify{{To: "broker", Notice: api.Stopped{Name: "exec"}}}, find[reactor.Notify](items))
}

func FuzzRequests(f *testing.F) {
	for _, req := range []*rpc.Request{start(specJSON), request(api.ExecKill, api.ExecKillReq{Session: 1}), request(api.ExecInput, api.ExecInputReq{Session: 1})} {
		f.Add(req.Topic, req.Body.Raw)
	}
	f.Fuzz(func(t *testing.T, topic string, body []byte) {
		h := newHand(t)
		h.connect()
		h.in(&rpc.Request{Topic: topic, Body: rpc.Payload{Raw: body}})
	})
}
