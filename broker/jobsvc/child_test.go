package jobsvc

import (
	"fmt"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
	"github.com/stretchr/testify/require"
)

const instanceSpec = `{"version":1,"resources":[{"type":"node","count":3,"with":[{"type":"slot","count":1,"label":"task","with":[{"type":"core","count":1}]}]}],
"tasks":[{"command":["frond","child"],"slot":"task","count":{"per_slot":1}}],"attributes":{"system":{"duration":0,"instance":{}}}}`

// childRig runs an instance of three brokers, on nodes 0 to 3 of which 2 and 3 belong to one broker.
type childRig struct {
	*rig
	id    jobspec.ID
	items map[int32]api.StartItem
}

func submitChild(t *testing.T) *childRig {
	r := &childRig{rig: newRig(t)}
	r.s.cfg.Version = "1.0"
	var nodes []resource.Node
	for i := range 4 {
		nodes = append(nodes, resource.Node{Index: i, Name: fmt.Sprintf("n%d", i), Broker: int32(min(i, 2)), Cores: resource.MaskRange(0, 3)})
	}
	r.in(api.NodesChanged{Add: nodes, Up: []int{0, 1, 2, 3}})
	for rank := range int32(3) {
		r.in(api.Membership{Rank: rank, State: "online", UUID: fmt.Sprintf("u%d", rank)})
		r.request(api.ExecSync.Topic, api.ExecSyncReq{Rank: rank, UUID: fmt.Sprintf("u%d", rank), Session: 1})
	}
	r.id = reply[api.SubmitRep](r.rig, r.request(api.Submit.Topic, api.SubmitReq{Items: []api.SubmitItem{{Spec: []byte(instanceSpec), N: 1, Urgency: 16}}})).IDs[0]
	return r
}

func newChildRig(t *testing.T) *childRig {
	r := submitChild(t)
	r.start()
	require.Len(t, r.items, 3)
	return r
}

func (r *childRig) start() {
	r.calls, r.items = nil, map[int32]api.StartItem{}
	al := &resource.Alloc{}
	for i := range 4 {
		al.Nodes = append(al.Nodes, resource.NodeAlloc{Node: i, Cores: resource.MaskOf(0), Slots: 1})
	}
	r.in(api.SchedAllocs{Allocs: []api.SchedAlloc{{ID: 7, Group: api.GroupID(r.id), Alloc: al}}})
	for _, c := range r.calls {
		if req, ok := c.Body.(api.ExecStartReq); ok {
			r.items[c.Target] = req.Starts[0]
		}
	}
}

// rendezvous calls as task, with a post if it is the leader.
func (r *childRig) rendezvous(task int, attempt uint32, version string) uint64 {
	req := api.RendezvousReq{ID: r.id, Attempt: attempt, Task: task, Version: version, Host: "h"}
	if task == 0 {
		req.Post = &api.ChildPost{URI: "ssh://h/run/0/local", Boot: []byte("ticket")}
	}
	return r.request(api.Rendezvous.Topic, req)
}

// told are the answers of a stream so far.
func (r *childRig) told(tag uint64) (reps []api.RendezvousRep) {
	for _, a := range r.answers[tag] {
		if a.More {
			reps = append(reps, a.Body.(api.RendezvousRep))
		}
	}
	return reps
}

func (r *childRig) ended(rank int32, status, signal int) {
	now := float64(r.now.Unix())
	reply[api.Empty](r.rig, r.request(api.ExecReport.Topic, api.ExecReportReq{Rank: rank, UUID: fmt.Sprintf("u%d", rank), Session: 1,
		Records: []api.Record{{Kind: api.RecEnded, Ref: r.items[rank].Ref, Status: status, Signal: signal, Start: now, Time: now + 1}}}))
}

// kills are the ranks whose part was told to end since the last start.
func (r *childRig) kills() (ranks []int32) {
	for _, c := range r.calls {
		if k, ok := c.Body.(api.ExecKillReq); ok && k.End {
			ranks = append(ranks, c.Target)
		}
	}
	return ranks
}

func (r *childRig) job() api.JobInfo { return r.list(api.ListReq{IDs: []jobspec.ID{r.id}})[0] }

func TestAnInstanceHasATaskForEachBroker(t *testing.T) {
	r := newChildRig(t)
	for rank, parts := range map[int32][]int{0: {1}, 1: {1}, 2: {1, 0}} {
		it := r.items[rank]
		require.Equal(t, 3, it.NTasks)
		var tasks []int
		for _, p := range it.Parts {
			tasks = append(tasks, p.NTasks)
		}
		require.Equal(t, parts, tasks)
		require.Equal(t, int(rank), it.Parts[0].FirstTask)
	}
}

func TestBrokersOfAChildFindTheirLeader(t *testing.T) {
	r := newChildRig(t)
	early := r.rendezvous(1, 1, "1.0")
	require.Empty(t, r.answers[early])
	gone := r.rendezvous(2, 1, "1.0")
	r.in(rpc.Cancel{Key: rpc.RequestKey{Peer: "test", Tag: gone}})
	leader := r.rendezvous(0, 1, "1.0")
	require.Equal(t, []api.RendezvousRep{{Boot: []byte("ticket")}}, r.told(early))
	require.Empty(t, r.answers[gone])
	require.Equal(t, []api.RendezvousRep{{}}, r.told(leader))
	require.JSONEq(t, `{"uri":"ssh://h/run/0/local"}`, r.job().Memo)
	late := r.rendezvous(2, 1, "1.0")
	require.Equal(t, []api.RendezvousRep{{Boot: []byte("ticket")}}, r.told(late))
	require.Equal(t, wire.EndOfStream, r.failure(late).Code)

	require.Contains(t, r.failure(r.rendezvous(1, 1, "0.9")).Text, "is frond 0.9, the instance around it frond 1.0")
	require.Equal(t, wire.NotFound, r.failure(r.rendezvous(1, 2, "1.0")).Code)
	r.id++
	require.Equal(t, wire.NotFound, r.failure(r.rendezvous(1, 1, "1.0")).Code)
}

func TestTheLossOfABrokerIsToldToTheChildAndNoMore(t *testing.T) {
	r := newChildRig(t)
	r.ended(1, 9, 9) // before there is a leader
	leader := r.rendezvous(0, 1, "1.0")
	r.calls = nil
	r.in(api.Membership{Rank: 2, State: "dead", UUID: "u2"})
	require.Equal(t, []api.RendezvousRep{{Gone: []int{1}}, {Gone: []int{2}}}, r.told(leader))
	require.Empty(t, r.kills())
	require.Equal(t, int(jobspec.StateRun), r.job().State)
	r.ended(0, 3<<8, 0)
	job := r.job()
	require.Equal(t, int(jobspec.StateInactive), job.State)
	require.Equal(t, 3<<8, job.WaitStatus)
	require.Equal(t, wire.EndOfStream, r.failure(leader).Code)
}

func TestWithItsLeaderAChildEnds(t *testing.T) {
	r := newChildRig(t)
	r.rendezvous(0, 1, "1.0")
	r.ended(0, 0, 0)
	require.ElementsMatch(t, []int32{1, 2}, r.kills())
	r.ended(1, 15, 15)
	r.ended(2, 1<<8, 0)
	require.True(t, r.job().Success, "what the others end with does not count")
}

func TestACancelledChildIsEndedByItsLeader(t *testing.T) {
	r := newChildRig(t)
	r.rendezvous(0, 1, "1.0")
	r.calls = nil
	r.request(api.Raise.Topic, api.RaiseReq{IDs: []jobspec.ID{r.id}, Type: "cancel"})
	require.Equal(t, []int32{0}, r.kills())
	r.ended(0, 143<<8, 0)
	require.ElementsMatch(t, []int32{0, 1, 2}, r.kills())
	r.ended(1, 0, 0)
	r.ended(2, 0, 0)
	require.Equal(t, int(jobspec.ResultCanceled), r.job().Result)
}

func TestAChildWhoseLeaderDiesRunsAgain(t *testing.T) {
	r := newChildRig(t)
	for attempt := uint32(1); attempt <= 3; attempt++ {
		r.rendezvous(0, attempt, "1.0")
		r.ended(0, 9, 9)
		r.ended(1, 9, 9)
		r.ended(2, 9, 9)
		require.Equal(t, int(attempt)+1, r.job().Attempt)
		r.start()
	}
	r.ended(0, 9, 9)
	r.ended(1, 9, 9)
	r.ended(2, 9, 9)
	require.Equal(t, int(jobspec.StateInactive), r.job().State, "but not for ever")
}

func TestAChildThatDoesNotComeUpIsEnded(t *testing.T) {
	r := newChildRig(t)
	r.calls = nil
	r.now = r.now.Add(299 * time.Second)
	r.in(api.Membership{Rank: 0, State: "online", UUID: "u0"})
	require.Empty(t, r.kills())
	r.now = r.now.Add(2 * time.Second)
	r.in(api.Membership{Rank: 0, State: "online", UUID: "u0"})
	require.Equal(t, []int32{0}, r.kills())
	require.Contains(t, r.job().ExcNote, "did not come up within 5m")

	r = newChildRig(t)
	r.rendezvous(0, 1, "1.0")
	r.calls = nil
	r.now = r.now.Add(time.Hour)
	r.in(api.Membership{Rank: 0, State: "online", UUID: "u0"})
	require.Empty(t, r.kills())
}

func TestAChildEndsThoughABrokerNeverHeardOfIt(t *testing.T) {
	r := submitChild(t)
	r.in(api.Membership{Rank: 1, State: "lost", UUID: "u1"})
	r.start()
	require.NotContains(t, r.items, int32(1))
	r.ended(2, 0, 0)
	r.ended(0, 1<<8, 0)
	require.Equal(t, int(jobspec.StateInactive), r.job().State)
	require.Equal(t, 1<<8, r.job().WaitStatus)
}
