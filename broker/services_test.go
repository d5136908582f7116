package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

// call is a client's request with a body.
func (n *node) call(client, tag uint64, topic string, target int32, flags wire.Flags, body any) {
	b, err := msgpack.Marshal(body)
	require.NoError(n.tr.t, err)
	n.do(ClientMsg{client, &wire.Message{Type: wire.Request, Topic: topic, Tag: tag, Target: target, Flags: flags, Body: b}})
}

func decode[T any](t *testing.T, m *wire.Message) T {
	require.Equal(t, wire.OK, m.Code, m.Text)
	v, err := rpc.As[T](rpc.Payload{Raw: m.Body})
	require.NoError(t, err)
	return v
}

func (n *node) publish(topic string, i int) { n.do(reactor.Published{Topic: topic, Body: raw(i)}) }

func raw(i int) rpc.Payload { return rpc.Payload{Raw: []byte(fmt.Sprint(i))} }

// events returns the bodies of what a client's subscription got, and the code that ended it.
func (n *node) events(t *testing.T, client uint64) (bodies []string, end wire.Code) {
	for _, m := range n.answers(client) {
		if m.Code != wire.OK {
			end = m.Code
			continue
		}
		bodies = append(bodies, string(decode[api.EventMsg](t, m).Body))
	}
	return bodies, end
}

func TestEventsReachAllBrokersInOneOrder(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	for _, n := range tr.nodes {
		n.call(c1, 1, "event.subscribe", wire.Any, wire.Stream, api.SubscribeReq{Prefix: "a"})
	}
	tr.nodes[0].publish("a1", 0)
	tr.nodes[6].publish("a2", 1)
	tr.nodes[3].publish("b", 2)
	tr.nodes[1].call(c1, 2, "event.publish", wire.Any, 0, api.EventMsg{Topic: "a3", Body: []byte("3")})
	require.Equal(t, uint64(4), decode[api.EventMsg](t, tr.nodes[1].clients[c1][3]).Seq, "the publisher is told the sequence")
	tr.nodes[1].clients[c1] = tr.nodes[1].clients[c1][:3]
	for _, n := range tr.nodes {
		bodies, _ := n.events(t, c1)
		require.Equal(t, []string{"0", "1", "3"}, bodies, "rank %d", n.rank)
	}
}

func TestASubscriberMissesNothingWhileItsBrokerHeals(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	n := tr.nodes[6]
	n.call(c1, 1, "event.subscribe", wire.Any, wire.Stream, api.SubscribeReq{})
	tr.nodes[0].publish("e", 0)
	tr.cut(2, 0)
	tr.settle()
	for i := range 100 {
		tr.nodes[0].publish("e", i+1)
	}
	tr.pass(10 * time.Second)
	tr.nodes[0].publish("e", 101)
	bodies, end := n.events(t, c1)
	require.Equal(t, wire.OK, end)
	require.Len(t, bodies, 102)
	for i, b := range bodies {
		require.Equal(t, fmt.Sprint(i), b)
	}
}

func TestASubscriberTooFarBehindIsTold(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	n := tr.nodes[6]
	n.call(c1, 1, "event.subscribe", wire.Any, wire.Stream, api.SubscribeReq{})
	n.do(reactor.Subscribed{Service: "exec", Prefix: "e"})
	tr.nodes[0].publish("e", 0)
	tr.cut(2, 0)
	tr.settle()
	for i := range keptEvents + 1 {
		tr.nodes[0].publish("e", i+1)
	}
	n.taken("exec")
	tr.pass(10 * time.Second)
	_, end := n.events(t, c1)
	require.Equal(t, wire.Resync, end)
	require.Contains(t, n.taken("exec"), any(rpc.Resync{Epoch: 1, Seq: keptEvents + 2}))
	n.call(c1, 2, "event.subscribe", wire.Any, wire.Stream, api.SubscribeReq{})
	tr.nodes[0].publish("e", 7)
	bodies, _ := n.events(t, c1)
	require.Equal(t, []string{"7"}, bodies)
}

func TestLargeEventsAreNotKeptAsLong(t *testing.T) {
	tr := newJobTree(t, 2, 2)
	for i := range 50 {
		tr.nodes[0].call(c1, uint64(i), "event.publish", wire.Any, 0, api.EventMsg{Topic: "e", Body: make([]byte, maxEvent)})
	}
	for _, n := range tr.nodes {
		e := n.core.events
		require.LessOrEqual(t, len(e.ring), 32)
		require.Equal(t, uint64(50), e.last)
		require.Equal(t, e.last, e.ring[len(e.ring)-1].Seq)
		require.Equal(t, len(e.ring)*maxEvent, e.bytes)
	}
	late := tr.add(2, 3, 2, []string{"exec"})
	tr.settle()
	require.Equal(t, uint64(50), late.core.events.last)
}

func TestAServiceThatSubscribedGetsEvents(t *testing.T) {
	tr := newJobTree(t, 3, 2)
	n := tr.nodes[2]
	n.do(reactor.Subscribed{Service: "exec", Prefix: "e."})
	tr.nodes[0].publish("e.x", 5)
	tr.nodes[0].publish("f.x", 6)
	require.Equal(t, []any{rpc.Event{Topic: "e.x", Epoch: 1, Seq: 1, Body: raw(5)}}, n.taken("exec"))
}

func TestACancelledSubscriptionGetsNoMore(t *testing.T) {
	tr := newJobTree(t, 1, 2)
	n := tr.nodes[0]
	n.call(c1, 1, "event.subscribe", wire.Any, wire.Stream, api.SubscribeReq{})
	n.do(ClientDown{c1})
	n.publish("e", 0)
	require.Empty(t, n.core.events.streams)
}

func TestBadRequestsToTheBrokersServicesAreRefused(t *testing.T) {
	for _, row := range []struct {
		name  string
		topic string
		flags wire.Flags
		body  any
		code  wire.Code
	}{
		{"a method that does not exist", "broker.dance", 0, nil, wire.NoMethod},
		{"an event method that does not exist", "event.dance", 0, nil, wire.NoMethod},
		{"a leader method that does not exist", "leader.dance", 0, nil, wire.NoMethod},
		{"a subscription that is no stream", "event.subscribe", 0, api.SubscribeReq{}, wire.Invalid},
		{"a log that is no stream", "broker.dmesg", 0, api.DmesgReq{}, wire.Invalid},
		{"a wait that is no stream", "leader.wait-online", 0, api.WaitOnlineReq{}, wire.Invalid},
		{"a wait for less than none", "leader.wait-online", wire.Stream, api.WaitOnlineReq{Count: -1}, wire.Invalid},
		{"a body of the wrong form", "broker.ping", 0, []int{1}, wire.Invalid},
		{"an event without a topic", "event.publish", 0, api.EventMsg{}, wire.Invalid},
		{"an event with a long topic", "event.publish", 0, api.EventMsg{Topic: strings.Repeat("x", 257)}, wire.TooLarge},
		{"an event with a large body", "event.publish", 0, api.EventMsg{Topic: "x", Body: make([]byte, maxEvent+1)}, wire.TooLarge},
		{"an attribute that is not set", "broker.getattr", 0, api.AttrReq{Name: "jobid"}, wire.NotFound},
	} {
		t.Run(row.name, func(t *testing.T) {
			tr := newJobTree(t, 2, 2)
			n := tr.nodes[1]
			n.call(c1, 1, row.topic, wire.Any, row.flags, row.body)
			require.Equal(t, row.code, n.reply(c1).Code)
			require.NoError(t, tr.idle())
		})
	}
}

func TestAttributesFollowTheTree(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	get := func(rank int32) map[string]string {
		tr.nodes[5].call(c1, 1, "broker.lsattr", rank, 0, api.Empty{})
		return decode[api.AttrListRep](t, tr.nodes[5].reply(c1)).Attrs
	}
	a := get(2)
	require.Equal(t, "2", a["rank"])
	require.Equal(t, "7", a["size"])
	require.Equal(t, "0", a["tbon.parent"])
	require.Equal(t, "5,6", a["tbon.children"])
	require.NotContains(t, get(0), "tbon.parent")
}

func TestThePingGoesToTheRankAndEchoes(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	tr.nodes[3].call(c1, 1, "broker.ping", 6, 0, api.PingReq{Pad: []byte("pad")})
	require.Equal(t, api.PingRep{Rank: 6, Pad: []byte("pad")}, decode[api.PingRep](t, tr.nodes[3].reply(c1)))
}

func TestTheLogRingKeepsTheLastLines(t *testing.T) {
	tr := newJobTree(t, 1, 2)
	n := tr.nodes[0]
	for i := range 5 * keptLines {
		n.do(LogLine{Text: fmt.Sprint(i)})
	}
	n.call(c1, 1, "broker.dmesg", wire.Any, wire.Stream, api.DmesgReq{})
	out := n.answers(c1)
	require.Equal(t, wire.EndOfStream, out[len(out)-1].Code)
	out = out[:len(out)-1]
	require.GreaterOrEqual(t, len(out), keptLines)
	require.Equal(t, fmt.Sprint(5*keptLines-1), decode[api.DmesgLine](t, out[len(out)-1]).Text)
}

func TestOverlayStatusListsMembersWithParentsAndChildren(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	tr.nodes[6].crash()
	tr.settle()
	tr.nodes[3].call(c1, 1, "leader.overlay-status", wire.Any, 0, api.Empty{})
	rep := decode[api.OverlayStatusRep](t, tr.nodes[3].reply(c1))
	require.Equal(t, 7, rep.Size)
	require.Equal(t, 6, rep.Online)
	require.Len(t, rep.Members, 7)
	for i, m := range rep.Members {
		require.Equal(t, int32(i), m.Rank)
		require.Equal(t, fmt.Sprintf("host%d", i), m.Host)
	}
	require.Equal(t, []int32{1, 2}, rep.Members[0].Children)
	require.Equal(t, []int32{5}, rep.Members[2].Children)
	require.Equal(t, "lost", rep.Members[6].State)
}

func TestABrokerSaidToBeDeadIsDead(t *testing.T) {
	tr := newJobTree(t, 3, 2)
	tr.nodes[2].crash()
	tr.settle()
	tr.nodes[1].call(c1, 1, "leader.broker-dead", wire.Any, 0, api.BrokerDeadReq{Rank: 2, PID: 102})
	require.Equal(t, wire.OK, tr.nodes[1].reply(c1).Code)
	require.Equal(t, "dead", tr.nodes[0].core.leader.status().Members[2].State)
}

func TestWaitOnlineEndsWhenTheSchedulerKnowsTheNodes(t *testing.T) {
	tr := newTree(t, 0, 2, nil)
	leader := tr.add(0, 3, 2, []string{"resource"})
	tr.settle()
	leader.do(ClientUp{ID: c1})
	leader.call(c1, 1, "leader.wait-online", wire.Any, wire.Stream, api.WaitOnlineReq{})
	require.Equal(t, api.OnlineCount{Online: 1, Size: 3}, decode[api.OnlineCount](t, leader.reply(c1)))
	tr.add(1, 3, 2, nil)
	tr.add(2, 3, 2, nil)
	tr.settle()
	out := leader.answers(c1)
	require.Equal(t, api.OnlineCount{Online: 3, Size: 3}, decode[api.OnlineCount](t, out[len(out)-1]), "all are online, but not yet known")
	for range 2 { // the barrier of the first member, and one for those that came meanwhile
		var barriers int
		for _, in := range leader.taken("resource") {
			if r, ok := in.(*rpc.Request); ok {
				barriers++
				leader.do(reactor.Reply{Peer: r.Peer, Route: r.Route, Tag: r.Tag, Err: &wire.Error{Code: wire.NoMethod}})
			}
		}
		require.Equal(t, 1, barriers, "one at a time")
	}
	require.Equal(t, wire.EndOfStream, leader.reply(c1).Code)
	require.Empty(t, leader.core.leader.waiters)
}
