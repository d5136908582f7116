package jobsvc

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/broker/store/mem"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource/idset"
)

// Elements on their way to a branch are in the list of whoever asks meanwhile: the branch is asked behind the grant.
func TestABranchIsAskedBehindWhatItIsGranted(t *testing.T) {
	for name, ask := range map[string]func(id jobspec.ID) (topic string, body any){
		"a list":        func(jobspec.ID) (string, any) { return api.List.Topic, api.ListReq{} },
		"a list of ids": func(id jobspec.ID) (string, any) { return api.List.Topic, api.ListReq{IDs: []jobspec.ID{id}} },
		"a signal to all": func(id jobspec.ID) (string, any) {
			return api.Kill.Topic, api.KillReq{IDs: []jobspec.ID{id}, Signal: 10}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.in(api.BranchFits{Sizes: []api.BranchSize{{Nodes: 1, CoresOfNode: 4}}})
			id := r.submit(3)
			r.handle(api.BranchTake{Branch: 0, Items: []api.BranchTakeItem{{Array: id, N: 3}}})
			require.True(t, r.s.isHeld(id+1), "what follows is about elements that a branch holds")
			r.tag++
			topic, body := ask(id)
			r.handle(r.asRequest(topic, body))
			r.settle()
			grant := slices.IndexFunc(r.branchy, func(v any) bool { _, ok := v.(api.BranchGrant); return ok })
			pass := slices.IndexFunc(r.branchy, func(v any) bool { _, ok := v.(api.BranchPassReq); return ok })
			require.GreaterOrEqual(t, grant, 0)
			require.Greater(t, pass, grant, "%T", r.branchy)
		})
	}
}

// In a branch a list waits until what was granted is durable: before that it is in none.
func TestABranchListsWhatItWasGrantedJustNow(t *testing.T) {
	r, _ := newBranchRig(t, 3)
	require.Len(t, r.list(api.ListReq{}), 3)
}

// What a branch gives back while it is asked is in neither's list: they are asked again.
func TestAListHasWhatComesBackMeanwhile(t *testing.T) {
	for name, ask := range map[string]func(id jobspec.ID) api.ListReq{
		"of all": func(jobspec.ID) api.ListReq { return api.ListReq{} },
		"of ids": func(id jobspec.ID) api.ListReq { return api.ListReq{IDs: []jobspec.ID{id}} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.sync()
			r.in(api.BranchFits{Sizes: []api.BranchSize{{Nodes: 1, CoresOfNode: 4}}})
			id := r.submit(3)
			r.in(api.BranchTake{Branch: 0, Items: []api.BranchTakeItem{{Array: id, N: 3}}})
			tag := r.request(api.List.Topic, ask(id))
			c, _ := r.passed()
			r.request(api.BranchTold.Topic, api.BranchReportReq{Branch: 0,
				Backs: []api.BranchBack{{Share: api.BranchShare{Array: id, Elements: "0-2"}}}})
			r.in(&rpc.Response{Key: c.Key, Err: wire.Errorf(wire.EndOfStream, "")})
			var ids []jobspec.ID
			for _, a := range r.answers[tag] {
				if a.More {
					for _, j := range a.Body.(api.ListRep).Jobs {
						ids = append(ids, j.ID)
					}
				}
			}
			require.Equal(t, []jobspec.ID{id + 1, id + 2, id + 3}, ids)
		})
	}
}

// In a branch whoever asks for what was granted just now waits until it is there, and is not told that it is unknown.
func TestABranchAttachesToWhatItWasGrantedJustNow(t *testing.T) {
	r, id := newBranchRig(t, 1)
	r.tag++
	r.handle(r.asRequest(api.Attach.Topic, api.AttachReq{ID: id, Follow: true, Events: true}))
	require.Empty(t, r.answers[r.tag])
	r.settle()
	require.NotEmpty(t, r.answers[r.tag])
	require.Nil(t, r.answers[r.tag][0].Err)
	require.NotEmpty(t, r.answers[r.tag][0].Body.(api.AttachRep).Events)
}

// newBranchRig is a branch to which its parent has just granted an array of n, which is not durable yet.
func newBranchRig(t *testing.T, n int) (*rig, jobspec.ID) {
	r := &rig{t: t, now: time.Unix(1800000000, 0), store: mem.New(mem.Options{}), answers: map[uint64][]reactor.Answer{}}
	r.branch = true
	r.boot()
	id := jobspec.ID(1 << 20)
	r.in(api.BranchOrder{Session: 1, Path: "0"})
	r.handle(api.BranchOrder{Grant: &api.BranchGrant{Num: 1, Specs: []api.BranchText{{ID: 1, Data: []byte(trueSpec)}},
		Items: []api.BranchItem{{Array: id, N: n, Spec: 1, Elements: idset.FromRange(0, n-1).String(), Urgency: 16, Given: 16}}}})
	return r, id
}
