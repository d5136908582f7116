package broker

import (
	"testing"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

func TestARequestClimbsToTheServiceAndItsAnswerComesBack(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	leaf := tr.nodes[6]
	leaf.ask(c1, 5, "job.submit", wire.Any, 0)
	r := tr.nodes[0].request("job")
	require.Equal(t, "q", string(r.Body.Raw))
	require.Equal(t, uint32(7), r.User)
	require.False(t, r.Local)
	require.Len(t, r.Route, 3, "the client and two hops")
	tr.nodes[0].answer(r, "a", false)
	m := leaf.reply(c1)
	require.Equal(t, wire.Message{Type: wire.Response, Tag: 5, Body: []byte("a")}, *m)
	require.NoError(t, tr.idle())
}

func TestWhereARequestGoes(t *testing.T) {
	for _, row := range []struct {
		name   string
		from   int
		topic  string
		target int32
		to     int // -1: refused
		code   wire.Code
	}{
		{"any stops at the nearest broker that offers the service", 6, "exec.start", wire.Any, 6, 0},
		{"upstream leaves the sender's broker out", 6, "exec.start", wire.Upstream, 2, 0},
		{"upstream from the leader finds nobody", 0, "exec.start", wire.Upstream, -1, wire.NoService},
		{"a rank may be the sender's own", 3, "exec.start", 3, 3, 0},
		{"a rank may be far below", 0, "exec.start", 5, 5, 0},
		{"a rank may be in another branch", 3, "exec.start", 6, 6, 0},
		{"a rank may be above", 6, "exec.start", 0, 0, 0},
		{"a rank that does not offer the service says so", 0, "job.list", 4, -1, wire.NoService},
		{"a service that nobody offers", 5, "moon.rise", wire.Any, -1, wire.NoService},
		{"a rank that does not exist", 5, "exec.start", 99, -1, wire.NotFound},
		{"a topic without a method is its service's to refuse", 4, "job", wire.Any, 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			tr := newJobTree(t, 7, 2)
			n := tr.nodes[row.from]
			n.ask(c1, 1, row.topic, row.target, 0)
			if row.to < 0 {
				require.Equal(t, row.code, n.reply(c1).Code)
				require.NoError(t, tr.idle())
				return
			}
			svc := reactor.ServiceOf(row.topic)
			at := tr.nodes[row.to]
			at.answer(at.request(svc), "yes", false)
			require.Equal(t, "yes", string(n.reply(c1).Body))
			require.NoError(t, tr.idle())
		})
	}
}

func TestARankThatDiedIsUnreachableAtOnce(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	tr.nodes[6].crash()
	tr.settle()
	tr.nodes[3].ask(c1, 1, "exec.start", 6, 0)
	require.Equal(t, wire.Unreachable, tr.nodes[3].reply(c1).Code)
}

func TestWhenTheUplinkEndsCallsUpwardsAreLostTheChildrensToo(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	tr.nodes[6].ask(c1, 1, "job.a", wire.Any, 0)
	tr.nodes[2].ask(c1, 2, "job.b", wire.Any, wire.Stream)
	leader := tr.nodes[0]
	require.Len(t, leader.taken("job"), 2)
	tr.cut(2, 0)
	tr.settle()
	for _, rank := range []int{6, 2} {
		m := tr.nodes[rank].reply(c1)
		require.Equal(t, wire.Lost, m.Code)
		require.Contains(t, m.Text, "may have been done")
	}
	require.Len(t, cancels(leader.taken("job")), 2, "the service is told that nobody waits")
	require.NoError(t, tr.idle())
}

func cancels(in []any) (out []rpc.Cancel) {
	for _, v := range in {
		if c, ok := v.(rpc.Cancel); ok {
			out = append(out, c)
		}
	}
	return out
}

func TestWhenAChildIsLostCallsToItAreLostAndItsOwnCancelled(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	tr.nodes[0].ask(c1, 1, "exec.run", 6, 0)
	tr.nodes[6].ask(c1, 2, "job.a", wire.Any, 0)
	r := tr.nodes[0].request("job")
	tr.nodes[6].crash()
	tr.settle()
	require.Equal(t, wire.Lost, tr.nodes[0].reply(c1).Code)
	require.Equal(t, []rpc.Cancel{{Key: r.Key()}}, cancels(tr.nodes[0].taken("job")))
	require.NoError(t, tr.idle())
}

func TestAnAnswerThatComesTooLateIsDropped(t *testing.T) {
	tr := newJobTree(t, 3, 2)
	tr.nodes[2].ask(c1, 1, "job.a", wire.Any, 0)
	r := tr.nodes[0].request("job")
	tr.cut(2, 0)
	tr.settle()
	require.Equal(t, wire.Lost, tr.nodes[2].reply(c1).Code)
	tr.pass(10e9)
	require.Equal(t, 2, tr.nodes[2].joined, "the link is back")
	tr.nodes[2].ask(c1, 1, "job.b", wire.Any, 0) // the same tag
	tr.nodes[0].answer(r, "old", false)
	require.Empty(t, tr.nodes[2].answers(c1))
	tr.nodes[0].answer(tr.nodes[0].request("job"), "new", false)
	require.Equal(t, "new", string(tr.nodes[2].reply(c1).Body))
}

func TestAClientThatGoesAwayCancelsItsCallsWhereverTheyAre(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	n := tr.nodes[6]
	n.ask(c1, 1, "job.a", wire.Any, wire.Stream)
	n.ask(c1, 2, "exec.b", wire.Any, 0)
	n.ask(c1, 3, "exec.c", 3, 0)
	n.do(ClientDown{c1})
	require.Len(t, cancels(tr.nodes[0].taken("job")), 1)
	require.Len(t, cancels(n.taken("exec")), 1)
	require.Len(t, cancels(tr.nodes[3].taken("exec")), 1)
	require.NoError(t, tr.idle())
}

func TestACancelEndsOneCall(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	n := tr.nodes[5]
	n.ask(c1, 1, "job.a", wire.Any, wire.Stream)
	n.ask(c1, 2, "job.b", wire.Any, wire.Stream)
	n.do(ClientMsg{c1, &wire.Message{Type: wire.Control, Topic: api.TopicCancel, Flags: wire.Cancel, Tag: 1}})
	in := tr.nodes[0].taken("job")
	require.Len(t, in, 3)
	first := in[0].(*rpc.Request)
	require.Equal(t, rpc.Cancel{Key: first.Key()}, in[2])
	tr.nodes[0].answer(first, "too late", true)
	require.Empty(t, n.answers(c1))
}

func TestAStreamComesInOrderAndEnds(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	n := tr.nodes[4]
	n.ask(c1, 1, "job.a", wire.Any, wire.Stream)
	r := tr.nodes[0].request("job")
	require.True(t, r.Stream)
	for _, s := range []string{"1", "2", "3"} {
		tr.nodes[0].answer(r, s, true)
	}
	tr.nodes[0].do(reactor.Reply{Peer: r.Peer, Route: r.Route, Tag: r.Tag, Err: &wire.Error{Code: wire.EndOfStream}})
	tr.nodes[0].answer(r, "after the end", true)
	var got string
	out := n.answers(c1)
	for _, m := range out {
		got += string(m.Body)
	}
	require.Equal(t, "123", got)
	require.Equal(t, wire.EndOfStream, out[3].Code)
	require.NoError(t, tr.idle())
}

func TestARequestWithoutReplyLeavesNothingBehind(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	tr.nodes[6].ask(c1, 0, "job.a", wire.Any, wire.NoReply)
	require.True(t, tr.nodes[0].request("job").NoReply)
	require.NoError(t, tr.idle())
	tr.nodes[6].ask(c1, 0, "moon.rise", wire.Any, wire.NoReply)
	require.Empty(t, tr.nodes[6].answers(c1), "not even a refusal")
}

func TestATagInUseIsRefused(t *testing.T) {
	tr := newJobTree(t, 1, 2)
	n := tr.nodes[0]
	n.ask(c1, 1, "job.a", wire.Any, 0)
	n.ask(c1, 1, "job.b", wire.Any, 0)
	require.Equal(t, wire.Invalid, n.reply(c1).Code)
	n.answer(n.request("job"), "first", false)
	require.Equal(t, "first", string(n.reply(c1).Body))
}

func TestServicesOfOneBrokerExchangeValues(t *testing.T) {
	tr := newJobTree(t, 2, 2)
	n := tr.nodes[0]
	value := &struct{ X int }{3}
	job := reactor.NewEndpoint(n.core.Directory(), "job")
	to, msg := job.Dispatch(reactor.Call{Key: "k", Topic: "exec.start", Target: 0, Body: value}, func(string) bool { return false }, 0)
	require.Empty(t, to)
	n.do(msg)
	r := n.request("exec")
	require.Same(t, value, r.Body.Value)
	require.True(t, r.Local)
	to, reply := reactor.NewEndpoint(n.core.Directory(), "exec").Dispatch(reactor.Answer{Req: r, Body: value}, func(string) bool { return true }, 0)
	require.Equal(t, "job", to)
	in, ok := job.Accept(reply)
	require.True(t, ok)
	require.Equal(t, &rpc.Response{Key: "k", Body: rpc.Payload{Value: value}}, in)
	require.NoError(t, tr.idle(), "the router keeps nothing of it")
}

func TestAServiceOnAnotherBrokerAnswersAService(t *testing.T) {
	tr := newJobTree(t, 3, 2)
	n := tr.nodes[2]
	exec := reactor.NewEndpoint(n.core.Directory(), "exec")
	_, msg := exec.Dispatch(reactor.Call{Key: 1, Topic: "job.sync", Target: wire.Any, Body: "hello", Stream: true}, func(string) bool { return false }, 2)
	n.do(msg)
	r := tr.nodes[0].request("job")
	s, err := rpc.As[string](r.Body)
	require.NoError(t, err)
	require.Equal(t, "hello", s)
	tr.nodes[0].answer(r, "", true)
	in := n.taken("exec")
	require.Len(t, in, 1)
	resp, ok := exec.Accept(in[0])
	require.True(t, ok)
	require.Equal(t, 1, resp.(*rpc.Response).Key)
	_, msg = exec.Dispatch(reactor.CancelCall{Key: 1}, func(string) bool { return false }, 2)
	n.do(msg)
	require.Len(t, cancels(tr.nodes[0].taken("job")), 1)
	require.NoError(t, tr.idle())
}

func TestAMalformedMessageEndsTheLink(t *testing.T) {
	tr := newJobTree(t, 3, 2)
	leader := tr.nodes[0]
	for _, l := range leader.core.children() {
		if l.hop.Rank == 2 {
			leader.core.linkFrame(l.id, []byte("\xc1 no frame"))
		}
	}
	leader.do(LogLine{}) // carries out what was left
	tr.settle()
	require.Len(t, leader.core.children(), 1)
	tr.pass(10e9)
	require.Equal(t, 2, tr.nodes[2].joined, "it comes back with a new link")
	require.Len(t, leader.core.children(), 2)
}

func TestAClientThatSendsAnythingButRequestsIsDropped(t *testing.T) {
	tr := newJobTree(t, 1, 2)
	n := tr.nodes[0]
	var dropped []any
	n.ask(c1, 1, "job.a", wire.Any, 0)
	for _, act := range n.core.Step(tr.now, ClientMsg{c1, &wire.Message{Type: wire.Event, Topic: "x"}}) {
		if d, ok := act.(DropClient); ok {
			dropped = append(dropped, d.ID)
		}
	}
	require.Equal(t, []any{uint64(c1)}, dropped)
	require.NoError(t, tr.idle())
}

func TestHeavyCallsOfAClientComeOneAfterTheOther(t *testing.T) {
	tr := newJobTree(t, 3, 2)
	leaf, leader := tr.nodes[2], tr.nodes[0]
	leaf.do(ClientUp{ID: c2, UID: 7})
	for tag := range uint64(4) {
		leaf.ask(c1, tag, "job.list", wire.Any, wire.Stream)
	}
	leaf.ask(c1, 9, "job.submit", wire.Any, 0)
	leaf.ask(c2, 1, "job.list", wire.Any, wire.Stream)
	got := leader.taken("job")
	require.Len(t, got, 3, "the first list of each client, and what is not heavy")
	first := got[0].(*rpc.Request)
	leader.answer(first, "page", true)
	require.Empty(t, leader.taken("job"))
	leaf.do(ClientMsg{c1, &wire.Message{Type: wire.Control, Topic: "cancel", Flags: wire.Cancel, Tag: 1}})
	leader.answer(first, "end", false)
	second := leader.request("job")
	require.Equal(t, uint64(2), second.Tag, "the one after that which was cancelled while it waited")
	leaf.do(ClientMsg{c1, &wire.Message{Type: wire.Control, Topic: "cancel", Flags: wire.Cancel, Tag: 2}})
	got = leader.taken("job")
	require.IsType(t, rpc.Cancel{}, got[0])
	require.Equal(t, uint64(3), got[1].(*rpc.Request).Tag)
	leaf.do(ClientDown{c1})
	require.Len(t, leader.taken("job"), 2, "cancels of a list and a submission; nothing waits for a client that is gone")
	leaf.ask(c2, 2, "job.list", wire.Any, wire.NoReply)
	require.Empty(t, leader.taken("job"))
}

func TestAHeavyCallThatGoesNowhereDoesNotHoldUpTheNext(t *testing.T) {
	tr := newJobTree(t, 2, 2)
	n := tr.nodes[1]
	n.ask(c1, 1, "job.list", wire.Any, wire.Stream)
	for tag := uint64(2); tag < 6; tag++ {
		n.ask(c1, tag, "job.list", 77, wire.Stream)
	}
	n.ask(c1, 6, "job.list", wire.Any, wire.Stream)
	tr.nodes[0].answer(tr.nodes[0].request("job"), "end", false)
	require.Len(t, n.answers(c1), 5, "the end of the first, four refusals")
	require.Equal(t, uint64(6), tr.nodes[0].request("job").Tag)
}

func TestAClientWithMuchWaitingIsHeld(t *testing.T) {
	tr := newJobTree(t, 1, 2)
	n := tr.nodes[0]
	for tag := range uint64(holdCalls + 10) {
		n.post(ClientMsg{c1, &wire.Message{Type: wire.Request, Topic: "job.list", Tag: tag, Target: wire.Any, Flags: wire.Stream}})
	}
	tr.settle()
	require.True(t, n.core.clients[c1].held)
	for n.core.clients[c1].held {
		n.answer(n.request("job"), "", false)
	}
	require.Len(t, n.core.clients[c1].waiting, holdCalls/2)
}

func TestAClientWithMuchOutstandingIsHeldUntilHalfIsAnswered(t *testing.T) {
	tr := newJobTree(t, 1, 2)
	n := tr.nodes[0]
	var holds []bool
	step := func(in any) {
		for _, act := range n.core.Step(tr.now, in) {
			if h, ok := act.(HoldClient); ok {
				holds = append(holds, h.Hold)
			}
			if s, ok := act.(ToService); ok {
				n.got = append(n.got, s)
			}
		}
	}
	for tag := range uint64(holdCalls + 10) {
		step(ClientMsg{c1, &wire.Message{Type: wire.Request, Topic: "job.a", Tag: tag + 1, Target: wire.Any}})
	}
	require.Equal(t, []bool{true}, holds)
	for _, in := range n.taken("job") {
		r := in.(*rpc.Request)
		step(reactor.Reply{Peer: r.Peer, Route: r.Route, Tag: r.Tag})
	}
	require.Equal(t, []bool{true, false}, holds)
	require.NoError(t, n.core.check())
}

func TestExecIsToldOfContactAndItsLoss(t *testing.T) {
	tr := newTree(t, 7, 2, jobsOnLeader)
	for _, n := range tr.nodes {
		require.Contains(t, n.taken("exec"), any(api.Contact{Up: true, Rank: n.rank, Epoch: 1, Incarnation: 1}))
	}
	tr.cut(2, 0)
	tr.settle()
	for _, rank := range []int{2, 6} {
		in := tr.nodes[rank].taken("exec")
		require.Contains(t, in, any(api.Contact{Up: false, Rank: int32(rank), Epoch: 1}))
	}
	tr.pass(10e9)
	for _, rank := range []int{2, 6} {
		require.Contains(t, tr.nodes[rank].taken("exec"), any(api.Contact{Up: true, Rank: int32(rank), Epoch: 1, Incarnation: 2}))
	}
	require.Empty(t, tr.nodes[1].taken("exec"), "the other branch noticed nothing")
}

func TestMembershipIsToldToTheLeadersServices(t *testing.T) {
	tr := newTree(t, 3, 2, jobsOnLeader)
	var ranks []int32
	for _, in := range tr.nodes[0].taken("job") {
		if m, ok := in.(api.Membership); ok {
			require.Equal(t, overlay.Online.String(), m.State)
			ranks = append(ranks, m.Rank)
		}
	}
	require.ElementsMatch(t, []int32{0, 1, 2}, ranks)
}
