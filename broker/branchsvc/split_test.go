package branchsvc

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
	"github.com/stretchr/testify/require"
)

// rig plays "job" for the service of an instance of four nodes.
type rig struct {
	t       *testing.T
	s       *Service
	now     time.Time
	tag     uint64
	answers map[uint64]reactor.Answer
	specs   []string // of the jobs that were submitted; the n-th has id n
	waits   map[jobspec.ID]any
	ended   []jobspec.ID // jobs that were cancelled
	notices []any        // to "job"
	wake    time.Time
	pending map[jobspec.ID]bool // jobs that wait for their nodes
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, now: time.Unix(1800000000, 0), answers: map[uint64]reactor.Answer{}, waits: map[jobspec.ID]any{}}
	r.s = New(Config{Version: "1.0", Make: Make{Command: []string{"frond", "child"}, State: "/state/branch", Size: 4}})
	var nodes []resource.Node
	for i := range 4 {
		nodes = append(nodes, resource.Node{Index: i, Cores: resource.MaskRange(0, 3)})
	}
	r.in(reactor.Start{})
	r.in(api.NodesChanged{Add: nodes})
	return r
}

func (r *rig) in(v any) {
	var out reactor.Out
	r.s.Handle(r.now, v, &out)
	require.NoError(r.t, r.s.Check())
	for _, it := range out.Items {
		switch it := it.(type) {
		case reactor.Answer:
			r.answers[it.Req.Tag] = it
		case reactor.WakeAt:
			r.wake = it.T
		case reactor.Notify:
			r.notices = append(r.notices, it.Notice)
		case reactor.Call:
			r.called(it)
		}
	}
}

func (r *rig) called(c reactor.Call) {
	reply := func(body any) { r.in(&rpc.Response{Key: c.Key, Body: rpc.Payload{Value: body}}) }
	switch req := c.Body.(type) {
	case api.SubmitReq:
		r.specs = append(r.specs, string(req.Items[0].Spec))
		reply(api.SubmitRep{IDs: []jobspec.ID{jobspec.ID(len(r.specs))}})
	case api.WaitReq:
		r.waits[req.IDs[0]] = c.Key
	case api.RaiseReq:
		r.ended = append(r.ended, req.IDs...)
		reply(api.Empty{})
	case api.BranchReportReq:
		reply(api.Empty{})
	case api.BranchHeldReq:
		reply(api.BranchHeldRep{})
	default:
		if c.Topic == api.BranchJobs.Topic {
			var rep api.BranchJobsRep
			for id, waiting := range r.pending {
				rep.Jobs = append(rep.Jobs, api.BranchJob{ID: id, Waiting: waiting})
			}
			reply(rep)
		}
	}
}

func (r *rig) request(topic string, body any, stream bool) reactor.Answer {
	r.tag++
	tag := r.tag
	r.in(&rpc.Request{Topic: topic, Body: rpc.Payload{Value: body}, Peer: "test", Tag: tag, Stream: stream})
	return r.answers[tag]
}

func (r *rig) split(req api.BranchSplitReq) *wire.Error {
	return r.request(api.BranchSplit.Topic, req, false).Err
}

func (r *rig) status() api.BranchStatusRep {
	return r.request(api.BranchStatus.Topic, api.Empty{}, false).Body.(api.BranchStatusRep)
}

// end tells that a branch's job has ended.
func (r *rig) end(id jobspec.ID, exception string) {
	r.in(&rpc.Response{Key: r.waits[id], Body: rpc.Payload{Value: api.WaitRep{ID: id, Done: true, Status: 256, Exception: exception}}})
}

// pass lets time go by, timer by timer.
func (r *rig) pass(d time.Duration) {
	for end := r.now.Add(d); ; r.in(reactor.Wake{}) {
		if r.wake.IsZero() || r.wake.After(end) {
			r.now = end
			return
		}
		if r.wake.After(r.now) {
			r.now = r.wake
		}
		r.wake = time.Time{}
	}
}

// states are those of all branches.
func (r *rig) states() string {
	var list []string
	for _, b := range r.status().Branches {
		list = append(list, b.State)
	}
	return strings.Join(list, " ")
}

// online has a branch come up.
func (r *rig) online(branch int, id jobspec.ID) {
	r.in(api.BranchRisen{Job: id})
	a := r.request(api.BranchHello.Topic, api.BranchHelloReq{Branch: branch, Key: id.String(), Version: "1.0", Nodes: 2, Cores: 8}, true)
	require.Nil(r.t, a.Err)
	session := a.Body.(api.BranchOrder).Session
	require.Nil(r.t, r.request(api.BranchReport.Topic, api.BranchReportReq{Branch: branch, Session: session, First: true}, false).Err)
}

func TestWhatCannotBeSplitIsRefused(t *testing.T) {
	r := newRig(t)
	require.ErrorContains(t, r.split(api.BranchSplitReq{Widths: []int{5}}), "more branches than nodes; there are 4")
	require.ErrorContains(t, r.split(api.BranchSplitReq{Widths: []int{2, 3}}), "more branches than nodes; there are 4")
	require.ErrorContains(t, r.split(api.BranchSplitReq{Widths: []int{2}, Within: -1}), "must be between 0 and 24 hours")
	require.Empty(t, r.specs)
	require.Empty(t, r.states())
	require.Nil(t, r.split(api.BranchSplitReq{Widths: []int{2}}))
	require.ErrorContains(t, r.split(api.BranchSplitReq{Widths: []int{2}}), "there are branches already")
	require.Len(t, r.specs, 2)
}

func TestABranchOfAnotherVersionIsRefused(t *testing.T) {
	r := newRig(t)
	require.Nil(t, r.split(api.BranchSplitReq{Widths: []int{2}}))
	a := r.request(api.BranchHello.Topic, api.BranchHelloReq{Branch: 0, Key: jobspec.ID(1).String(), Version: "0.9", Nodes: 2}, true)
	require.Equal(t, wire.Denied, a.Err.Code)
	require.ErrorContains(t, a.Err, "branch 0 is of version 0.9, and this instance of version 1.0")
	a = r.request(api.BranchHello.Topic, api.BranchHelloReq{Branch: 0, Key: jobspec.ID(2).String(), Version: "1.0", Nodes: 2}, true)
	require.ErrorContains(t, a.Err, "or another one", "with another's key")
	require.Equal(t, "starting starting", r.states())
}

func TestABranchThatDoesNotComeUpIsGivenUp(t *testing.T) {
	r := newRig(t)
	require.Nil(t, r.split(api.BranchSplitReq{Widths: []int{2}, Within: 30}))
	var spec struct {
		Attributes struct {
			System struct {
				Instance map[string]any `json:"instance"`
			} `json:"system"`
		} `json:"attributes"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.specs[0]), &spec))
	require.EqualValues(t, 30, spec.Attributes.System.Instance["start-limit"], "the job ends if its leader does not come")
	r.pass(time.Hour)
	require.Empty(t, r.ended, "they wait for their nodes")

	r.online(1, 2)
	r.in(api.BranchRisen{Job: 1}) // and then nothing
	r.pass(29 * time.Second)
	require.Empty(t, r.ended)
	r.pass(2 * time.Second)
	require.Equal(t, []jobspec.ID{1}, r.ended)
	require.Equal(t, "ending online", r.states())
}

func TestALostBranchIsMadeAgainAfterPausesThatGrow(t *testing.T) {
	r := newRig(t)
	require.Nil(t, r.split(api.BranchSplitReq{Widths: []int{2}}))
	r.online(0, 1)
	r.online(1, 2)
	r.end(1, "type=exec it died")
	require.Contains(t, r.notices, api.BranchForfeit{Branch: 0, Reason: "its job ended with status 256, type=exec it died"})
	require.Equal(t, "failed online", r.states())
	require.Contains(t, r.status().Branches[0].Note, "it died")
	require.Equal(t, "2", Widths(r.status().Widths), "the instance is still split")

	r.pass(minPause - time.Second)
	require.Len(t, r.specs, 2)
	r.pass(2 * time.Second)
	require.Len(t, r.specs, 3)
	require.Equal(t, "starting online", r.states())
	require.Contains(t, r.specs[2], "--statedir=/state/branch/0", "with what it had")

	r.end(3, "")
	r.pass(minPause + time.Second)
	require.Len(t, r.specs, 3, "a longer pause")
	r.pass(minPause)
	require.Len(t, r.specs, 4)
	r.online(0, 4)
	require.Equal(t, "online online", r.states())

	r.end(4, "")
	require.Nil(t, r.split(api.BranchSplitReq{}), "taken back while one is lost")
	r.end(2, "")
	r.pass(time.Hour)
	require.Empty(t, r.states())
	require.Len(t, r.specs, 4)
}

func TestWhenAllBranchesAreLostTheInstanceIsNotSplit(t *testing.T) {
	r := newRig(t)
	require.Nil(t, r.split(api.BranchSplitReq{Widths: []int{2}}))
	r.end(1, "")
	r.end(2, "")
	r.pass(time.Hour)
	require.Len(t, r.specs, 2)
	require.Equal(t, "failed failed", r.states(), "which is told until there are others")
	require.Equal(t, api.BranchFits{}, r.notices[len(r.notices)-1])
	require.Empty(t, r.status().Widths)
	require.Nil(t, r.split(api.BranchSplitReq{Widths: []int{2}}))
	require.Equal(t, "starting starting", r.states())
}

func nodesOf(spec string) string {
	_, rest, _ := strings.Cut(spec, `"resources":[{"count":`)
	n, _, _ := strings.Cut(rest, ",")
	return n
}

func TestABranchOfMoreNodesThanThereAreIsMadeAgainSmaller(t *testing.T) {
	r := newRig(t)
	require.Nil(t, r.split(api.BranchSplitReq{Widths: []int{2}}))
	r.online(0, 1)
	r.pending = map[jobspec.ID]bool{1: false, 2: true}
	r.in(api.NodesChanged{Down: []int{3}})
	r.pass(comeUp * time.Second / 2)
	r.in(api.NodesChanged{Up: []int{3}})
	r.pass(comeUp * time.Second)
	require.Empty(t, r.ended, "it came back")
	r.in(api.NodesChanged{Down: []int{3}})
	r.pass((comeUp + 1) * time.Second)
	require.Equal(t, []jobspec.ID{2}, r.ended, "not the one that runs")
	r.end(2, "type=cancel")
	r.pass(minPause + time.Second)
	require.Len(t, r.specs, 3)
	require.Equal(t, "1", nodesOf(r.specs[2]))

	r.end(3, "")
	r.in(api.NodesChanged{Down: []int{2}})
	r.pass(2 * minPause)
	require.Len(t, r.specs, 3, "there is no node for it")
	r.in(api.NodesChanged{Up: []int{2}})
	r.pass(8 * minPause)
	require.Len(t, r.specs, 4)
}

func TestAnInstanceWithTooFewNodesForItsOnlyBranchIsNotSplit(t *testing.T) {
	r := newRig(t)
	r.in(api.NodesChanged{Down: []int{0}})
	require.ErrorContains(t, r.split(api.BranchSplitReq{Widths: []int{4}}), "more branches than nodes; there are 3")
	require.Nil(t, r.split(api.BranchSplitReq{Widths: []int{1}}))
	require.Equal(t, "3", nodesOf(r.specs[0]), "none on what is drained or offline")
	r.pending = map[jobspec.ID]bool{1: true}
	r.in(api.NodesChanged{Remove: []int{1}})
	r.pass((comeUp + 1) * time.Second)
	require.Equal(t, []jobspec.ID{1}, r.ended)
	r.end(1, "type=cancel")
	require.Equal(t, api.BranchFits{}, r.notices[len(r.notices)-1], "the queue goes on without")
}
