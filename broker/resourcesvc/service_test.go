package resourcesvc

import (
	"math"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

type rig struct {
	t *testing.T
	s *Service
}

func newRig(t *testing.T) *rig { return &rig{t, New(Config{})} }

func (r *rig) in(in any) []any {
	var out reactor.Out
	r.s.Handle(time.Unix(1000, 0), in, &out)
	return out.Items
}

// change is the notice that followed, which must have gone to "sched" and then to "job"; the zero value if there was none.
func (r *rig) change(items []any) api.NodesChanged {
	if len(items) == 0 {
		return api.NodesChanged{}
	}
	sched, job := items[0].(reactor.Notify), items[1].(reactor.Notify)
	require.Equal(r.t, []string{"sched", "job"}, []string{sched.To, job.To})
	require.Equal(r.t, sched.Notice, job.Notice)
	return sched.Notice.(api.NodesChanged)
}

func (r *rig) member(rank int32, state, uuid string, nodes ...resource.Node) api.NodesChanged {
	m := api.Membership{Rank: rank, State: state, UUID: uuid}
	if len(nodes) > 0 {
		b, err := msgpack.Marshal(nodes)
		require.NoError(r.t, err)
		m.Resources = b
	}
	return r.change(r.in(m))
}

func offer(index int, name string, cores int) resource.Node {
	return resource.Node{Index: index, Name: name, Cores: resource.MaskRange(0, cores-1)}
}

func indexes(nodes []resource.Node) []int {
	var is []int
	for _, n := range nodes {
		is = append(is, n.Index)
	}
	return is
}

func (r *rig) call(topic string, body any) (api.NodesChanged, *wire.Error) {
	items := r.in(&rpc.Request{Topic: topic, Body: rpc.Payload{Value: body}})
	a := items[len(items)-1].(reactor.Answer)
	return r.change(items[:len(items)-1]), a.Err
}

func (r *rig) status(used ...resource.NodeAlloc) []api.NodeStatus {
	items := r.in(&rpc.Request{Topic: "resource.status", Tag: 7})
	c := items[0].(reactor.Call)
	require.Equal(r.t, "sched.usage", c.Topic)
	items = r.in(&rpc.Response{Key: c.Key, Body: rpc.Payload{Value: api.SchedUsageRep{Used: used}}})
	a := items[0].(reactor.Answer)
	require.Equal(r.t, uint64(7), a.Req.Tag)
	return a.Body.(api.ResourceStatusRep).Nodes
}

func TestTheNodesOfABrokerLiveAndDieWithIt(t *testing.T) {
	r := newRig(t)
	ch := r.member(3, "online", "u1", offer(1, "n1", 2))
	require.Equal(t, []int{1}, ch.Up)
	require.Equal(t, int32(3), ch.Add[0].Broker, "the broker's rank is what counts, not what the node says")
	require.Equal(t, 2, ch.Add[0].Cores.Count())

	require.Equal(t, api.NodesChanged{Down: []int{1}}, r.member(3, "lost", "u1"))
	require.Equal(t, api.NodesChanged{}, r.member(3, "dead", "u1"), "it was down already")
	require.Equal(t, api.NodesChanged{Up: []int{1}}, r.member(3, "online", "u2", offer(1, "n1", 2)), "another process with the same nodes")
	require.Equal(t, api.NodesChanged{Down: []int{1}, Remove: []int{1}}, r.member(3, "left", "u2"))
	require.Empty(t, r.status())
	require.Equal(t, api.NodesChanged{}, r.member(3, "left", "u2"))
	require.Equal(t, api.NodesChanged{}, r.member(3, "lost", "u2"))
	ch = r.member(3, "online", "u3", offer(-1, "n1", 2))
	require.Equal(t, []int{1}, indexes(ch.Add), "it gets its index again")
}

func TestIndexesAreGivenOnce(t *testing.T) {
	r := newRig(t)
	require.Equal(t, []int{0, 1}, indexes(r.member(0, "online", "a", offer(0, "n0", 1), offer(1, "n1", 1)).Add))
	require.Equal(t, []int{2, 3}, indexes(r.member(1, "online", "b", offer(-1, "x", 1), offer(-1, "y", 1)).Add), "-1 gets the broker's rank, or the next free one")
	require.Equal(t, []int{4}, indexes(r.member(2, "online", "c", offer(1, "z", 1)).Add), "one that another broker has is not given")
	require.Equal(t, api.NodesChanged{Down: []int{4}}, r.member(2, "lost", "c"))
	require.Equal(t, api.NodesChanged{Up: []int{4}}, r.member(2, "online", "c", offer(1, "z", 1)), "the index given is kept")
}

func TestABrokerThatComesBackWithOtherNodesReplacesThem(t *testing.T) {
	r := newRig(t)
	r.member(0, "online", "a", offer(0, "n0", 1), offer(1, "n1", 1))
	r.member(0, "lost", "a")
	ch := r.member(0, "online", "b", offer(0, "n0", 8))
	require.Equal(t, []int{0}, indexes(ch.Add))
	require.Equal(t, 8, ch.Add[0].Cores.Count())
	require.Equal(t, []int{0}, ch.Up)
	require.Equal(t, []int{1}, ch.Remove)
}

func TestUnreadableResourcesAreLoggedAndHarmNothing(t *testing.T) {
	r := newRig(t)
	items := r.in(api.Membership{Rank: 1, State: "online", Resources: []byte{0x93, 1}})
	require.Equal(t, "error", items[0].(reactor.Log).Level)
	require.Len(t, items, 1)
	require.Equal(t, []int{2}, indexes(r.member(2, "online", "b", offer(-1, "n", 1)).Add))
}

func TestDrain(t *testing.T) {
	rows := []struct {
		name, targets string
		down          []int
		err           string
	}{
		{"one node by index", "1", []int{1}, ""},
		{"nodes by an idset", "0,2", []int{0, 2}, ""},
		{"an idset in brackets", "[1-2]", []int{1, 2}, ""},
		{"one node by name", "n1", []int{1}, ""},
		{"nodes by a hostlist", "n[0-1]", []int{0, 1}, ""},
		{"a name that two nodes have means both", "twin", []int{3, 4}, ""},
		{"an unknown index is named", "0-9", nil, "there is no node 5"},
		{"a huge range is refused at once", "0-999999999999", nil, "there is no node 5"},
		{"an unknown name is named", "n[0-3]", nil, `there is no node "n3"`},
		{"nothing", " ", nil, "no nodes are named: give indexes (0-3) or names (node[1-3])"},
		{"a malformed idset", "3-1", nil, "idset"},
		{"a malformed hostlist", "n[1", nil, "hostlist"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t)
			r.member(0, "online", "a", offer(0, "n0", 1), offer(1, "n1", 1), offer(2, "n2", 1), offer(3, "twin", 1), offer(4, "twin", 1))
			ch, err := r.call("resource.drain", api.DrainReq{Targets: row.targets, Reason: "bad disk"})
			require.Equal(t, row.down, ch.Down)
			if row.err != "" {
				require.ErrorContains(t, err, row.err)
				require.Empty(t, ch.Drained)
				return
			}
			require.Nil(t, err)
			for _, i := range row.down {
				require.Equal(t, "bad disk", ch.Drained[i])
			}
		})
	}
}

func TestADrainedNodeStaysSoThroughTheLossOfItsBroker(t *testing.T) {
	r := newRig(t)
	r.member(0, "online", "a", offer(0, "n0", 1))
	r.call("resource.drain", api.DrainReq{Targets: "0", Reason: "fan"})
	require.Equal(t, api.NodesChanged{}, r.member(0, "lost", "a"), "it was down already")
	require.Equal(t, api.NodesChanged{}, r.member(0, "online", "a", offer(0, "n0", 1)))
	ch := r.member(0, "online", "b", offer(0, "n0", 2))
	require.Equal(t, []int{0}, ch.Down, "changed nodes too")
	require.Empty(t, ch.Up)
	ch, err := r.call("resource.undrain", api.DrainReq{Targets: "n0"})
	require.Nil(t, err)
	require.Equal(t, api.NodesChanged{Undrained: []int{0}, Up: []int{0}}, ch)
}

func TestReasonsOfDrainsAreReplacedOnRequestOnly(t *testing.T) {
	r := newRig(t)
	r.member(0, "online", "a", offer(0, "n0", 1))
	reason := func() string { return r.status()[0].Reason }
	r.call("resource.drain", api.DrainReq{Targets: "0"})
	r.call("resource.drain", api.DrainReq{Targets: "0", Reason: "first"})
	require.Equal(t, "first", reason(), "an unset reason is set")
	ch, err := r.call("resource.drain", api.DrainReq{Targets: "0", Reason: "second"})
	require.Nil(t, err)
	require.Equal(t, api.NodesChanged{}, ch)
	require.Equal(t, "first", reason())
	_, err = r.call("resource.drain", api.DrainReq{Targets: "0", Reason: "second", Strict: true})
	require.ErrorContains(t, err, `node n0 (0) is drained already: "first" (-u leaves it so, -f replaces the reason)`)
	_, err = r.call("resource.drain", api.DrainReq{Targets: "0", Reason: "first", Strict: true})
	require.Nil(t, err, "the same once more")
	r.call("resource.drain", api.DrainReq{Targets: "0", Reason: "second", Update: true, Strict: true})
	require.Equal(t, "second", reason())
}

func TestUndrainingWhatIsNotDrainedIsAnErrorUnlessForced(t *testing.T) {
	r := newRig(t)
	r.member(0, "online", "a", offer(0, "n0", 1), offer(1, "n1", 1))
	r.call("resource.drain", api.DrainReq{Targets: "0"})
	ch, err := r.call("resource.undrain", api.DrainReq{Targets: "0-1"})
	require.ErrorContains(t, err, "node n1 (1) is not drained")
	require.Equal(t, api.NodesChanged{}, ch)
	ch, err = r.call("resource.undrain", api.DrainReq{Targets: "0-1", Force: true})
	require.Nil(t, err)
	require.Equal(t, []int{0}, ch.Up)
}

func TestStatusHasStateReasonAndWhatIsInUse(t *testing.T) {
	r := newRig(t)
	r.member(0, "online", "a", offer(0, "n0", 4), offer(1, "n1", 4))
	r.call("resource.drain", api.DrainReq{Targets: "1", Reason: "fan"})
	r.member(5, "online", "b", offer(2, "n2", 4))
	r.member(5, "lost", "b")
	nodes := r.status(resource.NodeAlloc{Node: 1, Cores: resource.MaskOf(2)})
	require.Len(t, nodes, 3)
	require.Equal(t, []bool{true, true, false}, []bool{nodes[0].Online, nodes[1].Online, nodes[2].Online})
	require.Equal(t, api.NodeStatus{Node: nodes[1].Node, Online: true, Drained: true, Reason: "fan", Time: 1000,
		Used: resource.NodeAlloc{Node: 1, Cores: resource.MaskOf(2)}}, nodes[1])
	require.Equal(t, 2, nodes[2].Used.Node)
	require.True(t, nodes[2].Used.Cores.Empty())
}

func TestAStatusThatIsCancelledOrFailsEnds(t *testing.T) {
	r := newRig(t)
	req := &rpc.Request{Topic: "resource.status", Tag: 1}
	c := r.in(req)[0].(reactor.Call)
	require.Empty(t, r.in(rpc.Cancel{Key: req.Key()}))
	require.Empty(t, r.in(&rpc.Response{Key: c.Key}))
	c = r.in(req)[0].(reactor.Call)
	items := r.in(&rpc.Response{Key: c.Key, Err: wire.Errorf(wire.NoService, "no sched")})
	require.Equal(t, wire.NoService, items[0].(reactor.Answer).Err.Code)
	require.Empty(t, r.s.asked)
}

func TestOtherMethodsAreRefusedAndTheBarrierAnswered(t *testing.T) {
	r := newRig(t)
	_, err := r.call("resource.nonsense", nil)
	require.Equal(t, wire.NoMethod, err.Code)
	_, err = r.call("resource.barrier", api.Empty{})
	require.Nil(t, err)
}

func TestADrainIsAnsweredWhenItIsDurableAndOutlivesTheLeader(t *testing.T) {
	r := &rig{t, New(Config{Durable: true})}
	r.member(1, "online", "u1", offer(1, "n1", 2))
	items := r.in(&rpc.Request{Topic: "resource.drain", Body: rpc.Payload{Value: api.DrainReq{Targets: "1", Reason: "bad disk"}}})
	written := items[len(items)-1].(reactor.Do).Effect.(*resource.DrainCommit)
	require.Equal(t, &resource.DrainCommit{Set: []resource.Drain{{Node: 1, Name: "n1", Reason: "bad disk", Since: 1000}}}, written)
	require.Nil(t, r.in(reactor.Done{Effect: written})[0].(reactor.Answer).Err)

	r = &rig{t, New(Config{Durable: true, Drains: append(written.Set, resource.Drain{Node: 2, Name: "n2"})})}
	ch := r.member(1, "online", "u2", offer(1, "n1", 2), offer(2, "other", 2))
	require.Equal(t, []int{1}, ch.Down)
	require.Equal(t, []int{2}, ch.Up, "another node in the place of a drained one")
	items = r.in(&rpc.Request{Topic: "resource.undrain", Body: rpc.Payload{Value: api.DrainReq{Targets: "1"}}})
	require.Equal(t, &resource.DrainCommit{Clear: []int{1}}, items[len(items)-1].(reactor.Do).Effect)
}

func TestEventsOfNodesAreTold(t *testing.T) {
	r := newRig(t)
	r.in(&rpc.Request{Topic: "resource.eventlog", Tag: 9, Stream: true, Body: rpc.Payload{Value: api.ResourceEventsReq{Follow: true}}})
	r.in(api.Membership{Rank: 1, State: "dead"})
	var names []string
	tell := func(items []any) {
		for _, x := range items {
			if a, ok := x.(reactor.Answer); ok && a.Req.Tag == 9 {
				for _, ev := range a.Body.(api.ResourceEventsRep).Events {
					names = append(names, ev.Name+" "+ev.Context)
				}
			}
		}
	}
	b, err := msgpack.Marshal([]resource.Node{offer(1, "n1", 2), offer(2, "n2", 2)})
	require.NoError(t, err)
	tell(r.in(api.Membership{Rank: 1, State: "online", UUID: "u", Resources: b}))
	tell(r.in(&rpc.Request{Topic: "resource.drain", Body: rpc.Payload{Value: api.DrainReq{Targets: "n[1-2]", Reason: "x"}}}))
	tell(r.in(api.Membership{Rank: 1, State: "lost", UUID: "u"}))
	tell(r.in(api.Membership{Rank: 1, State: "left", UUID: "u"}))
	require.Equal(t, []string{`online {"idset":"1-2","nodelist":"n[1-2]"}`, `drain {"idset":"1-2","nodelist":"n[1-2]","reason":"x"}`,
		`offline {"idset":"1-2","nodelist":"n[1-2]"}`}, names)
}

func TestTheExpirationIsToldOnceAndShown(t *testing.T) {
	r := newRig(t)
	update := func(at float64) []any {
		return r.in(&rpc.Request{Topic: api.ExpirationUpdate.Topic, Tag: 5, Body: rpc.Payload{Value: api.ExpirationReq{Expiration: at}}})
	}
	items := update(1234)
	require.Contains(t, items, reactor.Notify{To: "sched", Notice: api.Expiration{At: 1234}})
	require.Contains(t, items, reactor.Notify{To: "job", Notice: api.Expiration{At: 1234}})
	require.Len(t, update(1234), 1, "only the answer")
	require.NotNil(t, update(math.Inf(1))[0].(reactor.Answer).Err)
	require.NotNil(t, update(-1)[0].(reactor.Answer).Err)
	require.Equal(t, `{"expiration":1234.000000}`, r.s.log.events[0].Context)
}
