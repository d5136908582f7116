package jobsvc

import (
	"testing"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

func TestAKeySubmitsOnceForEver(t *testing.T) {
	r := newRig(t)
	r.sync()
	req := func(digest string) api.SubmitReq {
		return api.SubmitReq{Token: "once:0:k", Once: "k", Items: []api.SubmitItem{{Spec: []byte(trueSpec), Urgency: 16, Digest: digest, Name: "that"}}}
	}
	probe := req("d")
	probe.Probe = true
	require.Equal(t, wire.NotFound, r.failure(r.request(api.Submit.Topic, probe)).Code)
	first := reply[api.SubmitRep](r, r.request(api.Submit.Topic, req("d"))).IDs
	same := func(why string) {
		t.Helper()
		require.Equal(t, first, reply[api.SubmitRep](r, r.request(api.Submit.Topic, req("d"))).IDs, why)
		require.Equal(t, first, reply[api.SubmitRep](r, r.request(api.Submit.Topic, probe)).IDs, why)
		other := r.failure(r.request(api.Submit.Topic, req("e")))
		require.Equal(t, wire.Exists, other.Code)
		require.Contains(t, other.Text, `belongs to another submission: job `+first[0].String()+` ("true")`)
		require.Contains(t, other.Text, `another content: "that"`)
	}
	same("while it waits")
	r.end(r.run(first[0], 1, 1), 0)
	same("when it has ended")
	r.boot()
	same("after a restart")
	require.Len(t, r.list(api.ListReq{}), 1)
}

// Two that come at once are one, also while the first is not durable.
func TestAKeySentTwiceAtOnceSubmitsOnce(t *testing.T) {
	r := newRig(t)
	req := api.SubmitReq{Token: "once:0:k", Once: "k", Items: []api.SubmitItem{{Spec: []byte(trueSpec), Urgency: 16, Digest: "d"}}}
	for range 3 {
		r.tag++
		r.handle(r.asRequest(api.Submit.Topic, req))
	}
	r.settle()
	ids := reply[api.SubmitRep](r, 1).IDs
	require.Equal(t, ids, reply[api.SubmitRep](r, 2).IDs)
	require.Equal(t, ids, reply[api.SubmitRep](r, 3).IDs)
	require.Len(t, r.list(api.ListReq{}), 1)
}
