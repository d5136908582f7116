package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

// stopping counts the Stopping that came for a service.
func (n *node) stopping(svc string) (keep []bool) {
	for _, in := range n.taken(svc) {
		if s, ok := in.(api.Stopping); ok {
			keep = append(keep, s.Keep)
		}
	}
	return keep
}

func (n *node) stopped(svc string) { n.do(reactor.Notice{From: svc, Value: api.Stopped{Name: svc}}) }

func TestShutdownStopsJobsThenExecsThenTheTreeFromTheLeaves(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	tr.nodes[5].call(c1, 1, "leader.shutdown", wire.Any, 0, api.ShutdownReq{Keep: true})
	require.Equal(t, wire.OK, tr.nodes[5].reply(c1).Code, "answered when it has begun")
	leader := tr.nodes[0]
	require.Equal(t, []bool{true}, leader.stopping("job"))
	for _, n := range tr.nodes {
		require.Empty(t, n.stopping("exec"), "tasks go on until the jobs have stopped")
	}
	leader.stopped("job")
	for _, n := range tr.nodes {
		require.Equal(t, []bool{true}, n.stopping("exec"), "rank %d", n.rank)
	}
	for _, rank := range []int{0, 1, 2, 3} {
		tr.nodes[rank].stopped("exec")
	}
	require.NotNil(t, tr.nodes[3].exit, "a leaf goes when its tasks have ended")
	require.Nil(t, tr.nodes[1].exit, "not before its children")
	for _, rank := range []int{4, 5, 6} {
		require.Nil(t, leader.exit)
		tr.nodes[rank].stopped("exec")
	}
	for _, n := range tr.nodes {
		require.NotNil(t, n.exit, "rank %d", n.rank)
		require.NoError(t, n.exit.Err)
	}
}

func TestAServiceThatDoesNotStopIsLeftBehindAndNamed(t *testing.T) {
	tr := newJobTree(t, 3, 2)
	leader := tr.nodes[0]
	leader.do(StopRequest{Reason: "test"})
	tr.pass(jobLimit + time.Second)
	tr.nodes[1].stopped("exec")
	tr.nodes[2].stopped("exec")
	tr.pass(serviceLimit + leaveLimit + time.Second)
	require.NotNil(t, leader.exit)
	require.NoError(t, leader.exit.Err)
	var said []any
	for _, l := range leader.logs {
		if l.Level == "error" {
			said = append(said, l.KV[1])
		}
	}
	require.Equal(t, []any{[]string{"job"}, []string{"exec"}}, said)
}

func TestABrokerThatLeavesAloneIsLeftAndItsChildrenHeal(t *testing.T) {
	tr := newJobTree(t, 7, 2)
	n := tr.nodes[2]
	n.do(StopRequest{Keep: false})
	require.Equal(t, []bool{false}, n.stopping("exec"))
	n.stopped("exec")
	tr.pass(10 * time.Second)
	require.NotNil(t, n.exit)
	require.NoError(t, n.exit.Err)
	members := tr.nodes[0].core.leader.status().Members
	require.Equal(t, "left", members[2].State)
	require.Equal(t, "online", members[6].State)
	require.Empty(t, tr.nodes[6].stopping("exec"))
}

func TestABrokerThatCannotBeAMemberEndsItsTasksAndExitsWithTheError(t *testing.T) {
	tr := newJobTree(t, 2, 2)
	n := tr.nodes[1]
	n.core.action(overlay.Failed{Err: errors.New("refused")})
	n.do(LogLine{})
	require.Nil(t, n.exit)
	n.stopped("exec")
	require.EqualError(t, n.exit.Err, "refused")
}

func TestAChildThatComesDuringAShutdownIsToldToo(t *testing.T) {
	tr := newJobTree(t, 3, 2)
	leader := tr.nodes[0]
	leader.do(StopRequest{})
	leader.stopped("job")
	late := tr.add(3, 4, 2, []string{"exec"})
	tr.settle()
	require.Len(t, late.stopping("exec"), 1)
	for _, n := range tr.nodes {
		n.stopped("exec")
	}
	tr.pass(5 * time.Second)
	for _, n := range tr.nodes {
		require.NotNil(t, n.exit, "rank %d", n.rank)
	}
}
