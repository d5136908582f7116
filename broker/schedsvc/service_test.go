package schedsvc

import (
	"errors"
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

// rig drives a service and does for it what the host does: a Wake follows the inputs that are there.
type rig struct {
	t    *testing.T
	s    *Service
	now  time.Time
	wake time.Time
}

func newRig(t *testing.T, cfg Config, cores ...int) *rig {
	r := &rig{t: t, s: New(cfg), now: time.Unix(1000, 0)}
	var ch api.NodesChanged
	for i, c := range cores {
		ch.Add = append(ch.Add, resource.Node{Index: i, Name: "n", Cores: resource.MaskRange(0, c-1)})
		ch.Up = append(ch.Up, i)
	}
	require.Empty(t, r.in(ch))
	return r
}

// in handles inputs as one batch, then the Wake if one is due, and returns what else came out.
func (r *rig) in(inputs ...any) []any {
	var items []any
	handle := func(in any) {
		var out reactor.Out
		r.s.Handle(r.now, in, &out)
		require.NoError(r.t, r.s.Machine().Check())
		for _, it := range out.Items {
			if w, ok := it.(reactor.WakeAt); ok {
				r.wake = w.T
				continue
			}
			items = append(items, it)
		}
	}
	for _, in := range inputs {
		handle(in)
	}
	if !r.wake.IsZero() && !r.wake.After(r.now) {
		r.wake = time.Time{}
		handle(reactor.Wake{})
	}
	return items
}

// allocs are the allocations told to "job".
func (r *rig) allocs(items []any) []api.SchedAlloc {
	var all []api.SchedAlloc
	for _, it := range items {
		n, ok := it.(reactor.Notify)
		require.True(r.t, ok, "%T", it)
		require.Equal(r.t, "job", n.To)
		all = append(all, n.Notice.(api.SchedAllocs).Allocs...)
	}
	return all
}

func group(id api.GroupID, req jobspec.Request, count int) api.SchedSubmit {
	return api.SchedSubmit{Groups: []api.SchedGroup{{ID: id, Request: req, Duration: 10, Priority: 16, Order: uint64(id), Count: count}}}
}

func (r *rig) request(topic string, body any) reactor.Answer {
	items := r.in(&rpc.Request{Topic: topic, Body: rpc.Payload{Value: body}})
	require.Len(r.t, items, 1)
	return items[0].(reactor.Answer)
}

func TestABatchOfSubmissionsIsOnePass(t *testing.T) {
	r := newRig(t, Config{}, 4)
	one := jobspec.Request{Slots: 1, Cores: 1}
	items := r.in(group(1, one, 2), group(2, one, 5))
	require.Len(t, items, 1, "one notice for the batch")
	allocs := r.allocs(items)
	require.Len(t, allocs, 4)
	require.Equal(t, []api.GroupID{1, 1, 2, 2}, []api.GroupID{allocs[0].Group, allocs[1].Group, allocs[2].Group, allocs[3].Group})
	require.Equal(t, "3", allocs[3].Alloc.Nodes[0].Cores.String())
	require.Equal(t, 1010.0, allocs[0].End)

	again := r.allocs(r.in(api.SchedFree{IDs: []uint64{allocs[0].ID}}))
	require.Len(t, again, 1)
	require.Equal(t, "0", again[0].Alloc.Nodes[0].Cores.String())
	require.NotEqual(t, allocs[0].ID, again[0].ID)
}

func TestHoldCancelAndPriorityReachTheMachine(t *testing.T) {
	r := newRig(t, Config{}, 1)
	one := jobspec.Request{Slots: 1, Cores: 1}
	require.Empty(t, r.in(api.SchedHold{Hold: true}, group(1, one, 1), group(2, one, 1), group(3, one, 1)))
	require.Empty(t, r.in(api.SchedCancel{ID: 1, Count: 1}, api.SchedPriority{ID: 3, Priority: 20}))
	allocs := r.allocs(r.in(api.SchedHold{Hold: false}))
	require.Len(t, allocs, 1)
	require.Equal(t, api.GroupID(3), allocs[0].Group)
}

func TestAdoptedResourcesAreNotGivenAgain(t *testing.T) {
	r := newRig(t, Config{}, 2)
	run := api.SchedAlloc{ID: 1<<63 | 5, Group: 9, Alloc: &resource.Alloc{Nodes: []resource.NodeAlloc{{Node: 0, Cores: resource.MaskOf(0)}}}}
	require.Empty(t, r.in(api.SchedAdopt{Allocs: []api.SchedAlloc{run}}))
	allocs := r.allocs(r.in(group(1, jobspec.Request{Slots: 1, Cores: 1}, 2)))
	require.Len(t, allocs, 1)
	require.Equal(t, "1", allocs[0].Alloc.Nodes[0].Cores.String())
	require.Len(t, r.allocs(r.in(api.SchedFree{IDs: []uint64{run.ID}})), 1)
}

func TestAConflictInAnAdoptionIsLogged(t *testing.T) {
	r := newRig(t, Config{}, 2)
	part := []resource.NodeAlloc{{Node: 0, Cores: resource.MaskOf(0)}}
	items := r.in(api.SchedAdopt{Allocs: []api.SchedAlloc{{ID: 1 << 63, Alloc: &resource.Alloc{Nodes: part}}, {ID: 1<<63 | 1, Alloc: &resource.Alloc{Nodes: part}}}})
	require.Len(t, items, 1)
	require.Equal(t, "warn", items[0].(reactor.Log).Level)
}

func TestAGroupWhoseNodesAreRemovedIsDenied(t *testing.T) {
	r := newRig(t, Config{}, 1, 8)
	full := r.allocs(r.in(group(1, jobspec.Request{Slots: 1, Cores: 8}, 1)))
	require.Len(t, full, 1)
	require.Empty(t, r.in(group(2, jobspec.Request{Slots: 1, Cores: 8}, 1)))
	require.Equal(t, []any{reactor.Notify{To: "job", Notice: api.SchedDeny{ID: 2, Reason: "needs 8 cores in one slot; the largest node has 1 (see frond start --oversubscribe)"}}},
		r.in(api.NodesChanged{Remove: []int{1}}))
}

func TestReasonsAndUsageAreAnswered(t *testing.T) {
	r := newRig(t, Config{}, 2, 2)
	r.in(group(1, jobspec.Request{Slots: 1, Cores: 2}, 1), group(2, jobspec.Request{Nodes: 2, Slots: 1, Cores: 2}, 1))
	a := r.request("sched.reasons", api.SchedReasonsReq{Groups: []api.GroupID{2, 77}})
	require.Equal(t, api.SchedReasonsRep{Reason: map[api.GroupID]string{2: "waits for 2 nodes with 2 cores: 1 free"}, Estimate: map[api.GroupID]float64{2: 1010}}, a.Body)
	a = r.request("sched.usage", api.Empty{})
	require.Equal(t, api.SchedUsageRep{Used: []resource.NodeAlloc{{Node: 0, Cores: resource.MaskRange(0, 1)}}}, a.Body)
	a = r.request("sched.nonsense", nil)
	require.True(t, errors.Is(a.Err, &wire.Error{Code: wire.NoMethod}))
	items := r.in(&rpc.Request{Topic: "sched.reasons", Body: rpc.Payload{Raw: []byte{0xff, 1, 2}}})
	require.Equal(t, wire.Invalid, items[0].(reactor.Answer).Err.Code)
}

func TestFCFSCanBeChosen(t *testing.T) {
	small := jobspec.Request{Slots: 1, Cores: 1}
	big := jobspec.Request{Slots: 2, Cores: 2}
	for policy, started := range map[string]int{"fcfs": 0, "easy": 1} {
		cfg := Config{Policy: policy}
		require.NoError(t, cfg.Valid())
		r := newRig(t, cfg, 2, 2)
		require.Len(t, r.allocs(r.in(group(1, jobspec.Request{Slots: 1, Cores: 2}, 1))), 1)
		require.Len(t, r.allocs(r.in(group(2, big, 1), group(3, small, 1))), started, policy)
	}
	require.True(t, errors.Is(Config{Policy: "lifo"}.Valid(), &wire.Error{Code: wire.Invalid}))
	require.ErrorContains(t, Config{Policy: "lifo"}.Valid(), "[easy fcfs]")
}

// Found by the simulation: a full seed stood still at one moment of virtual time.
func TestAWakeIsNeverTooEarlyByRounding(t *testing.T) {
	s := New(Config{})
	for i := range 2000 {
		s.now = time.Unix(1_800_000_000, int64(i)*137+1)
		for _, d := range []float64{2.4e-7, 5e-7, 1e-6, 0.1, 1} {
			at := seconds(s.now) + d
			if got := s.timeAt(at); at > seconds(s.now) && (seconds(got) < at || !got.After(s.now)) {
				t.Fatalf("asked for %.9f at %v, got %v", at, s.now, got)
			}
		}
	}
}

func TestTheExpirationReachesTheMachine(t *testing.T) {
	r := newRig(t, Config{Expiration: 1600}, 4)
	r.in(reactor.Start{})
	long := group(1, jobspec.Request{Slots: 1, Cores: 1}, 1)
	long.Groups[0].Duration = 3600
	long.Groups[0].Order = 7
	require.Empty(t, r.allocs(r.in(long)))
	require.Len(t, r.allocs(r.in(api.Expiration{At: 4600})), 1)
}
