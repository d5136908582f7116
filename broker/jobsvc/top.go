package jobsvc

import (
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
)

// A branch has no queue of its own. What a client submits to it goes to its parent, and so on up to the instance that has the queue.

// forTop tells whether a request in a branch is for the instance that has the queue.
func forTop(r *rpc.Request) bool {
	switch r.Topic {
	case api.Submit.Topic, api.Params.Topic, api.Retry.Topic:
		return reactor.FromClient(r)
	}
	return false
}

// toTop passes a request on.
func (s *Service) toTop(r *rpc.Request) {
	if r.Topic == api.Submit.Topic {
		req, err := api.Submit.Decode(r)
		if err == nil && slices.ContainsFunc(req.Items, func(it api.SubmitItem) bool { return it.Follow != "" }) {
			err = wire.Errorf(wire.Denied, "this instance is a branch, where jobs that run anywhere cannot be followed: do it in its top instance (frond --parent, or FROND_URI of a job)")
		}
		if err != nil {
			s.out.Fail(r, err)
			return
		}
	}
	body, err := r.Body.Bytes()
	if err != nil {
		s.out.Fail(r, err)
		return
	}
	s.out.Call(reactor.Call{Topic: api.BranchTop.Topic, Target: wire.Any, Body: api.BranchTopReq{Topic: r.Topic, Body: body}, Key: func(a *rpc.Response) {
		rep, err := api.BranchTop.DecodeReply(a)
		if err != nil {
			s.out.Fail(r, err)
			return
		}
		s.out.Reply(r, rpc.Payload{Raw: rep.Body})
	}})
}
