package jobsvc

import (
	"testing"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
)

// followed are the messages of a job.follow so far.
func (r *rig) followed(tag uint64) (reps []api.FollowRep) {
	for _, a := range r.answers[tag] {
		require.Nil(r.t, a.Err)
		reps = append(reps, a.Body.(api.FollowRep))
	}
	return reps
}

func (r *rig) submitFollowed(key string, n, tag int) jobspec.ID {
	item := api.SubmitItem{Spec: []byte(trueSpec), N: n, Urgency: 16, Follow: key, Tag: tag}
	return reply[api.SubmitRep](r, r.request(api.Submit.Topic, api.SubmitReq{Items: []api.SubmitItem{item}})).IDs[0]
}

// report tells output and the end of items in one report.
func (r *rig) report(items []api.StartItem, status, signal int, output string) {
	req := api.ExecReportReq{Rank: 0, UUID: "u0", Session: 1}
	for _, it := range items {
		if output != "" {
			req.Records = append(req.Records, api.Record{Kind: api.RecOutput, Ref: it.Ref, Stream: 1, Data: []byte(output)})
		}
		req.Records = append(req.Records, api.Record{Kind: api.RecEnded, Ref: it.Ref, Time: 1800000001, Start: 1800000000.5, Status: status, Signal: signal, NTasks: 1})
	}
	r.request(api.ExecReport.Topic, req)
}

func TestSubmissionsAreFollowedInOneStream(t *testing.T) {
	r := newRig(t)
	r.sync()
	tag := r.request(api.Follow.Topic, api.FollowReq{Key: "k"})
	require.Equal(t, []api.FollowRep{{Open: true}}, r.followed(tag))
	a := r.submitFollowed("k", 3, 7)
	b := r.submitFollowed("k", 1, 8)
	other := r.submit(2)
	items := r.run(a, 1, 2)
	r.report(items, 137<<8, 9, "out")
	reps := r.followed(tag)
	require.Len(t, reps, 2, "one message for a report")
	require.Equal(t, []api.FollowOutput{{Tag: 7, Index: 0, Attempt: 1, Stream: 1, Data: []byte("out")}, {Tag: 7, Index: 1, Attempt: 1, Stream: 1, Data: []byte("out")}},
		reps[1].Output)
	require.Len(t, reps[1].Ended, 2)
	end := reps[1].Ended[1]
	require.Equal(t, api.FollowEnd{Tag: 7, Index: 1, Result: 2, Status: 137 << 8, Start: 1800000000.5, End: end.End, Node: "n0", Attempt: 1, Signal: 9}, end)

	r.report(r.run(other, 10, 2), 0, 0, "x")
	require.Len(t, r.followed(tag), 2, "of what nobody follows nothing is told")

	r.report(r.run(b, 20, 1), 0, 0, "")
	require.Equal(t, []int{8, 1}, []int{r.followed(tag)[2].Ended[0].Tag, r.followed(tag)[2].Ended[0].Result})

	r.request(api.Raise.Topic, api.RaiseReq{IDs: []jobspec.ID{a}, Type: "cancel"})
	reps = r.followed(tag)
	require.Equal(t, []api.FollowEnd{{Tag: 7, Index: 2, Result: 4, Status: -1}}, reps[len(reps)-1].Ended, "cancelled before it ran")
}

func TestAFollowerThatComesAnewNamesWhatItKnows(t *testing.T) {
	r := newRig(t)
	r.sync()
	first := r.request(api.Follow.Topic, api.FollowReq{Key: "k"})
	require.Contains(t, r.failure(r.request(api.Follow.Topic, api.FollowReq{Key: "k"})).Text, "in use")
	require.Contains(t, r.failure(r.request(api.Follow.Topic, api.FollowReq{})).Text, "needs a key")
	a := r.submitFollowed("k", 2, 1)
	r.in(rpc.Cancel{Key: rpc.RequestKey{Peer: "test", Tag: first}})
	r.report(r.run(a, 1, 1), 0, 0, "lost")
	require.Len(t, r.followed(first), 1, "nobody is there")
	second := r.request(api.Follow.Topic, api.FollowReq{Key: "k", Arrays: []api.FollowArray{{ID: a, Tag: 5}, {ID: a + 1, Tag: 6}, {ID: 99, Tag: 7}}})
	r.report(r.run(a, 2, 1), 0, 0, "kept")
	reps := r.followed(second)
	require.Len(t, reps, 2)
	require.Equal(t, []int{5, 1}, []int{reps[1].Ended[0].Tag, reps[1].Ended[0].Index})
	require.Empty(t, r.s.follows.byArray, "an array that has ended is forgotten")
}

func TestAttemptsUnderSeveralLeadersDiffer(t *testing.T) {
	r := newRig(t)
	r.sync()
	id := r.submit(1)
	for attempt := uint32(1); attempt <= 3; attempt++ {
		it := r.run(id, int(attempt), 1)[0]
		require.Equal(t, attempt, it.Ref.Attempt)
		x := r.request(api.Attach.Topic, api.AttachReq{ID: id, Output: true, Follow: true})
		r.request(api.ExecReport.Topic, api.ExecReportReq{Rank: 0, UUID: "u0", Session: 1, Records: []api.Record{
			{Kind: api.RecOutput, Ref: it.Ref, Stream: 1, Data: []byte("out")}}})
		require.Len(t, r.answers[x], 1, "only output of the attempt that runs, not that of one which was lost with its leader")
		require.Equal(t, []api.Output{{Stream: 1, Attempt: attempt, Data: []byte("out")}}, r.answers[x][0].Body.(api.AttachRep).Output)
		r.boot()
		r.sync()
	}
	stored := r.request(api.Attach.Topic, api.AttachReq{ID: id, Output: true})
	require.EqualValues(t, 3, r.answers[stored][0].Body.(api.AttachRep).Output[0].Attempt, "while it waits, the latest")
}

func TestAFollowersOldConnectionEndsAfterItHasComeAnew(t *testing.T) {
	r := newRig(t)
	r.sync()
	first := r.request(api.Follow.Topic, api.FollowReq{Key: "k"})
	a := r.submitFollowed("k", 2, 1)
	second := r.request(api.Follow.Topic, api.FollowReq{Key: "l", Arrays: []api.FollowArray{{ID: a, Tag: 5}}})
	r.in(rpc.Cancel{Key: rpc.RequestKey{Peer: "test", Tag: first}})
	r.report(r.run(a, 1, 1), 0, 0, "kept")
	reps := r.followed(second)
	require.Len(t, reps, 2)
	require.Equal(t, 5, reps[1].Ended[0].Tag)
}

func TestTheEndOfALargeArrayComesInSeveralMessages(t *testing.T) {
	r := newRig(t)
	r.sync()
	tag := r.request(api.Follow.Topic, api.FollowReq{Key: "k"})
	a := r.submitFollowed("k", 50000, 7)
	r.request(api.Raise.Topic, api.RaiseReq{IDs: []jobspec.ID{a}, Type: "cancel"})
	n := 0
	for _, rep := range r.followed(tag) {
		require.LessOrEqual(t, len(rep.Ended), maxEnds)
		n += len(rep.Ended)
	}
	require.Equal(t, 50000, n)
}
