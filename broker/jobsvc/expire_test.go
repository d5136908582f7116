package jobsvc

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
)

// submitWarned submits a job with --signal=USR1@60s and a time limit, and reports it started.
func (r *rig) submitWarned(limit string) jobspec.ID {
	spec := strings.Replace(trueSpec, `"duration":0`, `"duration":`+limit+`,"shell":{"options":{"signal":{"signum":10,"timeleft":60}}}`, 1)
	id := reply[api.SubmitRep](r, r.request(api.Submit.Topic, api.SubmitReq{Items: []api.SubmitItem{{Spec: []byte(spec), N: 1, Urgency: 16}}})).IDs[0]
	it := r.run(id, int(r.tag), 1)[0]
	reply[api.Empty](r, r.request(api.ExecReport.Topic, api.ExecReportReq{Rank: 0, UUID: "u0", Session: 1,
		Records: []api.Record{{Kind: api.RecStarted, Ref: it.Ref, Time: float64(r.now.Unix())}}}))
	r.calls = nil
	return id
}

// warned lets time pass and tells which jobs got a signal meanwhile.
func (r *rig) warned(d time.Duration) (ids []jobspec.ID) {
	r.calls = nil
	for end := r.now.Add(d); r.now.Before(end); {
		r.now = end
		if !r.wake.IsZero() && r.wake.Before(end) {
			r.now = r.wake
		}
		r.settle()
	}
	for _, c := range r.calls {
		k := c.Body.(api.ExecKillReq)
		require.Equal(r.t, int(syscall.SIGUSR1), k.Signal)
		require.False(r.t, k.End)
		for _, ref := range k.Runs {
			ids = append(ids, ref.Job)
		}
	}
	return ids
}

func TestJobsAreWarnedOfTheInstancesEnd(t *testing.T) {
	r := newRig(t)
	r.sync()
	long, short := r.submitWarned("0"), r.submitWarned("100")
	plain := r.submit(1)
	r.run(plain, 9, 1)
	start := r.now
	r.in(api.Expiration{At: float64(start.Unix()) + 300})
	by := map[jobspec.ID]float64{}
	for _, j := range r.list(api.ListReq{States: int(jobspec.StatesRunning)}) {
		by[j.ID] = j.Expiration - float64(start.Unix())
	}
	require.InDelta(t, 300, by[long], 1, "until the instance's expiration")
	require.InDelta(t, 100, by[short], 1, "until its own")
	require.InDelta(t, 300, by[plain], 1)
	require.Empty(t, r.warned(230*time.Second))
	r.in(api.Expiration{At: float64(start.Unix()) + 600})
	require.Empty(t, r.warned(100*time.Second), "the end was put off")
	require.Equal(t, []jobspec.ID{long}, r.warned(250*time.Second), "the other one is warned of its own limit, by its broker")
	require.Empty(t, r.warned(15*time.Second), "once")
}
