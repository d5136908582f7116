package jobsvc

import (
	"slices"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

// passed is the latest question to a branch.
func (r *rig) passed() (reactor.Call, api.BranchPassReq) {
	for _, c := range slices.Backward(r.calls) {
		if req, ok := c.Body.(api.BranchPassReq); ok {
			return c, req
		}
	}
	r.t.Fatal("no branch was asked")
	return reactor.Call{}, api.BranchPassReq{}
}

// tells has a branch answer.
func (r *rig) tells(c reactor.Call, rep api.FollowRep) {
	body, err := rpc.Payload{Value: rep}.Bytes()
	require.NoError(r.t, err)
	r.in(&rpc.Response{Key: c.Key, Body: rpc.Payload{Value: api.BranchPassRep{Body: body}}, More: true})
}

func TestWhatABranchTellsOfIsPutInBetween(t *testing.T) {
	r := newRig(t)
	r.sync()
	r.in(api.BranchFits{Sizes: []api.BranchSize{{Nodes: 1, CoresOfNode: 4}}})
	tag := r.request(api.Follow.Topic, api.FollowReq{Key: "k"})
	require.Equal(t, []api.FollowRep{{Open: true}}, r.followed(tag), "there is nothing to ask branches for")
	arr := r.submitFollowed("k", 4, 7)
	r.in(api.BranchTake{Branch: 0, Items: []api.BranchTakeItem{{Array: arr, N: 3}}})
	c, req := r.passed()
	require.Equal(t, api.Follow.Topic, req.Topic)
	grant := r.notices[len(r.notices)-1].(api.BranchGrant)
	require.Equal(t, "k", grant.Items[0].Follow)
	num := grant.Items[0].Tag
	r.tells(c, api.FollowRep{Open: true})
	out := api.FollowOutput{Tag: num, Index: 1, Attempt: 1, Stream: 1, Data: []byte("x")}
	r.tells(c, api.FollowRep{Output: []api.FollowOutput{out}, Ended: []api.FollowEnd{{Tag: num, Index: 1, Result: 1, Node: "n0"}}})
	out.Tag = 7
	reps := r.followed(tag)
	require.Equal(t, api.FollowRep{Output: []api.FollowOutput{out}, Ended: []api.FollowEnd{{Tag: 7, Index: 1, Result: 1, Node: "n0"}}}, reps[len(reps)-1])

	r.request(api.BranchTold.Topic, api.BranchReportReq{Branch: 0, Ends: []api.BranchEnd{{Share: api.BranchShare{Array: arr, Elements: "0-1"}, Result: 1, Ran: true}}})
	reps = r.followed(tag)
	require.Equal(t, []api.FollowEnd{{Tag: 7, Index: 0, Result: 1}}, reps[len(reps)-1].Ended, "an end is told once")

	r.in(&rpc.Response{Key: c.Key, Err: wire.Errorf(wire.Lost, "gone")})
	last := r.answers[tag][len(r.answers[tag])-1]
	require.Equal(t, wire.Lost, last.Err.Code, "its client is to look up what it missed")

	tag = r.request(api.Follow.Topic, api.FollowReq{Key: "k2", Arrays: []api.FollowArray{{ID: arr, Tag: 5}}})
	c, _ = r.passed()
	r.in(&rpc.Response{Key: c.Key, Err: wire.Errorf(wire.Unavailable, "not yet")})
	require.Empty(t, r.followed(tag))
	r.now = r.now.Add(time.Second)
	r.in(reactor.Wake{})
	again, _ := r.passed()
	require.NotEqual(t, c.Key, again.Key)
	r.tells(again, api.FollowRep{Open: true})
	require.Equal(t, []api.FollowRep{{Open: true}}, r.followed(tag))
}
