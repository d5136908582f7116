package jobsvc

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
)

func TestParametersAreUploadedInPartsAndReachTheElements(t *testing.T) {
	r := newRig(t)
	r.sync()
	const token = "1-p"
	spec := strings.Replace(trueSpec, `"true"`, `"echo","{{param.0}}-{{ param.1 }}-{{id}}"`, 1)
	submit := func(n int) uint64 {
		return r.request(api.Submit.Topic, api.SubmitReq{Token: token, Items: []api.SubmitItem{{Spec: []byte(spec), N: n, Urgency: 16, Params: true}}})
	}
	require.Contains(t, r.failure(submit(3)).Text, "not uploaded")
	require.Equal(t, 2, reply[api.ParamsRep](r, r.upload(token, 0, []string{"a", "1"}, []string{"b", "2"})).N)
	require.Contains(t, r.failure(r.upload(token, 3, []string{"d", "4"})).Text, "those of element 2 are next")
	require.Equal(t, 2, reply[api.ParamsRep](r, r.upload(token, 0, []string{"a", "1"})).N, "sent again")
	require.Contains(t, r.failure(submit(3)).Text, "parameters of 2 elements were uploaded, and it has 3")
	r.boot() // what was uploaded is durable
	r.sync()
	require.Equal(t, 3, reply[api.ParamsRep](r, r.upload(token, 2, []string{"c {{id}}", "3"})).N)
	ids := reply[api.SubmitRep](r, submit(3)).IDs
	require.Equal(t, ids, reply[api.SubmitRep](r, submit(3)).IDs)
	items := r.run(ids[0], 1, 3)
	require.Len(t, items, 3)
	require.Equal(t, []string{"a", "1"}, items[0].Params)
	require.Equal(t, []string{"c {{id}}", "3"}, items[2].Params)
	info := func(id jobspec.ID) string {
		return reply[api.InfoRep](r, r.request(api.Info.Topic, api.InfoReq{ID: id, Key: "jobspec"})).Value
	}
	require.Contains(t, info(ids[0]+3), `"c {{id}}-3-{{id}}"`)
	require.Contains(t, info(ids[0]), `{{param.0}}`)
	r.end(items, 0)
	require.Contains(t, info(ids[0]+1), `"a-1-{{id}}"`, "when it has ended")
	_, l := r.store.Open()
	require.Equal(t, uint64(1), l.ParamID)
}

func TestBadParametersAreRefused(t *testing.T) {
	r := newRig(t)
	for want, req := range map[string]api.ParamsReq{
		"need the token": {Params: [][]string{{"a"}}},
		"no parameters":  {Token: "t"},
		"parameters of element 1: parameter 2 holds":   {Token: "t", Params: [][]string{{"a"}, {"b", "c", "d\x00"}}},
		"they have 1048578 bytes; the limit is 104857": {Token: "t", Params: [][]string{{strings.Repeat("x", 1<<20), ""}, {}}},
		"1 to 4194304 elements":                        {Token: "t", First: 4194304, Params: [][]string{{"a"}}},
		"those of element 0 are next, not of 5":        {Token: "t", First: 5, Params: [][]string{{"a"}}},
	} {
		require.Contains(t, r.failure(r.request(api.Params.Topic, req)).Text, want)
	}
	r.fail = errors.New("disk full")
	require.Contains(t, r.failure(r.upload("t", 0, []string{"a"})).Text, "disk full")
	r.fail = nil
	r.now = r.now.Add(2 * time.Second)
	r.in(reactor.Wake{})
	require.Equal(t, 1, reply[api.ParamsRep](r, r.upload("t", 0, []string{"a"})).N, "it is as if nothing had been sent")
}

func TestManyLargeParametersDoNotFillAFrame(t *testing.T) {
	r := newRig(t)
	r.sync()
	for i := range 12 {
		reply[api.ParamsRep](r, r.upload("t", i, []string{strings.Repeat("x", 1<<20-1)}))
	}
	id := reply[api.SubmitRep](r, r.request(api.Submit.Topic, api.SubmitReq{Token: "t",
		Items: []api.SubmitItem{{Spec: []byte(trueSpec), N: 12, Urgency: 16, Params: true}}})).IDs[0]
	r.calls = nil
	var in api.SchedAllocs
	for i := range 12 {
		in.Allocs = append(in.Allocs, api.SchedAlloc{ID: uint64(i + 1), Group: api.GroupID(id),
			Alloc: &resource.Alloc{Nodes: []resource.NodeAlloc{{Node: 0, Cores: resource.MaskOf(i % 4), Slots: 1}}}})
	}
	r.in(in)
	n := 0
	for _, c := range r.calls {
		size := 0
		for _, it := range c.Body.(api.ExecStartReq).Starts {
			require.Equal(t, id+1+jobspec.ID(n), it.Ref.Job)
			size += len(it.Params[0])
			n++
		}
		require.LessOrEqual(t, size, maxStartBytes)
	}
	require.Equal(t, 12, n)
}

func TestAnArrayIsOneGroupRunsAndIsListed(t *testing.T) {
	r := newRig(t)
	r.sync()
	id := r.submit(3)
	groups := r.notices[len(r.notices)-1].(api.SchedSubmit).Groups
	require.Len(t, groups, 1)
	require.Equal(t, 3, groups[0].Count)
	wait := r.request(api.Wait.Topic, api.WaitReq{IDs: []jobspec.ID{id, id + 2}})
	items := r.run(id, 1, 3)
	require.Equal(t, id+1, items[0].Ref.Job)
	require.Len(t, r.list(api.ListReq{}), 3)
	r.end(items[:2], 0)
	require.Len(t, r.answers[wait], 1, "only the element has ended")
	r.end(items[2:], 256)
	last := r.answers[wait][1].Body.(api.WaitRep)
	require.True(t, last.Done)
	require.Equal(t, [3]int{2, 1, 256}, [3]int{last.Completed, last.Failed, last.Status})
	require.Equal(t, wire.EndOfStream, r.failure(wait).Code)
	jobs := r.list(api.ListReq{Results: int(jobspec.ResultFailed)})
	require.Len(t, jobs, 1)
	require.Equal(t, "n0", jobs[0].Nodelist)
	require.Equal(t, 256, jobs[0].WaitStatus)
	again := r.request(api.Wait.Topic, api.WaitReq{IDs: []jobspec.ID{id, 5}})
	require.Equal(t, 2, r.answers[again][0].Body.(api.WaitRep).Completed)
	require.Equal(t, "unknown job id", r.answers[again][1].Body.(api.WaitRep).Err)
}

func TestTheEndOfAJobIsNotThatOfTheNext(t *testing.T) {
	r := newRig(t)
	r.sync()
	ids := reply[api.SubmitRep](r, r.request(api.Submit.Topic, api.SubmitReq{Items: []api.SubmitItem{{Spec: []byte(trueSpec), N: 1, Urgency: 16},
		{Spec: []byte(trueSpec), N: 1, Urgency: 16}}})).IDs
	require.Equal(t, ids[0]+1, ids[1], "as if it were an element of the first")
	wait := r.request(api.Wait.Topic, api.WaitReq{IDs: ids[1:]})
	r.request(api.Raise.Topic, api.RaiseReq{IDs: ids[:1], Type: "cancel"})
	require.Len(t, r.list(api.ListReq{Results: int(jobspec.ResultCanceled)}), 1)
	require.Empty(t, r.answers[wait])
	r.end(r.run(ids[1], 1, 1), 0)
	require.Equal(t, 1, r.answers[wait][0].Body.(api.WaitRep).Completed)
}

func TestStoredOutputComesInPiecesAsFastAsItPasses(t *testing.T) {
	r := newRig(t)
	r.sync()
	id := r.submit(1)
	ref := r.run(id, 1, 1)[0].Ref
	const chunk, chunks = 1 << 20, 7
	for i := range chunks {
		r.request(api.ExecReport.Topic, api.ExecReportReq{Rank: 0, UUID: "u0", Session: 1, Records: []api.Record{
			{Kind: api.RecOutput, Ref: ref, Stream: 1, Offset: int64(i) * chunk, Data: bytes.Repeat([]byte{byte(i)}, chunk)}}})
	}
	r.request(api.ExecReport.Topic, api.ExecReportReq{Rank: 0, UUID: "u0", Session: 1, Records: []api.Record{{Kind: api.RecEnded, Ref: ref, Start: 1}}})
	r.calls = nil
	var tags []uint64
	for range maxReadings + 2 {
		tags = append(tags, r.request(api.Attach.Topic, api.AttachReq{ID: id, Output: true, Follow: true}))
	}
	size := func(tag uint64) (n int) {
		for _, a := range r.answers[tag] {
			if a.More {
				for _, o := range a.Body.(api.AttachRep).Output {
					require.Equal(t, byte(n/chunk), o.Data[0], "in order")
					n += len(o.Data)
				}
			}
		}
		return n
	}
	require.Len(t, r.calls, maxReadings)
	require.Equal(t, []int{pieceSize, 0}, []int{size(tags[0]), size(tags[maxReadings])})
	r.in(rpc.Cancel{Key: rpc.RequestKey{Peer: "test", Tag: tags[1]}})
	r.in(rpc.Cancel{Key: rpc.RequestKey{Peer: "test", Tag: tags[maxReadings]}})
	for len(r.calls) > 0 {
		c := r.calls[0]
		r.calls = r.calls[1:]
		require.Equal(t, api.Ping.Topic, c.Topic)
		r.in(&rpc.Response{Key: c.Key})
	}
	for i, tag := range tags {
		switch i {
		case 1:
			require.Equal(t, pieceSize, size(tag), "a watcher that has gone gets no more")
		case maxReadings:
			require.Zero(t, size(tag))
		default:
			require.Equal(t, chunks*chunk, size(tag))
			require.Equal(t, wire.EndOfStream, r.failure(tag).Code)
		}
	}
	require.Zero(t, r.s.watch.readings.n)
}

func TestTheStatusOfACommandThatCannotBeStartedIsTheJobs(t *testing.T) {
	r := newRig(t)
	r.sync()
	id := r.submit(1)
	ref := r.run(id, 1, 1)[0].Ref
	reply[api.Empty](r, r.request(api.ExecReport.Topic, api.ExecReportReq{Rank: 0, UUID: "u0", Session: 1, Records: []api.Record{
		{Kind: api.RecException, Ref: ref, Type: "exec", Status: 127 << 8, Note: "start failed"},
		{Kind: api.RecEnded, Ref: ref, Status: 143 << 8}}}))
	require.Equal(t, 127<<8, r.list(api.ListReq{})[0].WaitStatus)
}

func TestAttachGivesEventsAndOutputOnceWhenStoredAndLive(t *testing.T) {
	r := newRig(t)
	r.sync()
	id := r.submit(1)
	live := r.request(api.Attach.Topic, api.AttachReq{ID: id, Events: true, Output: true, Follow: true})
	r.end(r.run(id, 1, 1), 0)
	stored := r.request(api.Attach.Topic, api.AttachReq{ID: id, Events: true, Output: true, Follow: true})
	for _, tag := range []uint64{live, stored} {
		var names []string
		text := ""
		for _, a := range r.answers[tag] {
			if !a.More {
				require.Equal(t, wire.EndOfStream, a.Err.Code)
				continue
			}
			rep := a.Body.(api.AttachRep)
			for _, e := range rep.Events {
				names = append(names, e.Name)
			}
			for _, o := range rep.Output {
				text += string(o.Data)
			}
		}
		require.Equal(t, []string{"submit", "validate", "depend", "priority", "alloc", "start", "finish", "release", "free", "clean"}, names)
		require.Equal(t, "hello\n", text)
	}
}

// TestAttachEndsWithAJobThatNeverRan: also when nobody waits for jobs in other ways.
func TestAttachEndsWithAJobThatNeverRan(t *testing.T) {
	for name, n := range map[string]int{"a single job": 1, "an element": 3} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.sync()
			id := r.submit(n)
			element := id
			if n > 1 {
				element = id + 2
			}
			tag := r.request(api.Attach.Topic, api.AttachReq{ID: element, Events: true, Output: true, Follow: true})
			r.request(api.Raise.Topic, api.RaiseReq{IDs: []jobspec.ID{id}, Type: "cancel"})
			answers := r.answers[tag]
			last := answers[len(answers)-1]
			require.False(t, last.More, "it ends")
			require.Equal(t, wire.EndOfStream, last.Err.Code)
			events := answers[len(answers)-2].Body.(api.AttachRep).Events
			require.Equal(t, "clean", events[len(events)-1].Name)
		})
	}
}

func TestInfoKnowsJobspecRAndEventlog(t *testing.T) {
	r := newRig(t)
	r.sync()
	id := r.submit(1)
	items := r.run(id, 1, 1)
	info := func(key string) string {
		return reply[api.InfoRep](r, r.request(api.Info.Topic, api.InfoReq{ID: id, Key: key})).Value
	}
	active := info("R")
	r.end(items, 0)
	require.Contains(t, info("jobspec"), `"environment":{"A":"b"}`)
	require.Contains(t, active, `"rank":"0"`)
	require.Contains(t, info("R"), `"core":"0"`)
	require.Contains(t, info("eventlog"), `"name":"finish","context":{"status":0}`)
	require.Equal(t, wire.NotFound, r.failure(r.request(api.Info.Topic, api.InfoReq{ID: 77, Key: "R"})).Code)
}

func TestCancelEndsPendingAtOnceAndSignalsRunning(t *testing.T) {
	r := newRig(t)
	r.sync()
	id := r.submit(1000)
	items := r.run(id, 1, 1)
	r.calls = nil
	raise := func(ids ...jobspec.ID) api.MultiRep {
		return reply[api.MultiRep](r, r.request(api.Raise.Topic, api.RaiseReq{IDs: ids, Type: "cancel"}))
	}
	require.Empty(t, raise(id).Errors)
	require.Len(t, r.calls, 1, "the running one is killed")
	require.True(t, r.calls[0].Body.(api.ExecKillReq).End)
	require.Len(t, r.list(api.ListReq{States: int(jobspec.StatesActive)}), 1)
	r.end(items, 15)
	require.Equal(t, map[jobspec.ID]string{id: "job is inactive", 9: "unknown job id"}, raise(id, 9).Errors)
	require.Len(t, r.list(api.ListReq{Results: int(jobspec.ResultCanceled), IDs: nil}), 1000)
}

func TestATokenSubmitsOnceAlsoAfterARestart(t *testing.T) {
	r := newRig(t)
	req := api.SubmitReq{Token: fmt.Sprintf("%d-x", r.now.UnixMilli()), Items: []api.SubmitItem{{Spec: []byte(trueSpec), Urgency: 16}}}
	first := reply[api.SubmitRep](r, r.request(api.Submit.Topic, req)).IDs
	require.Equal(t, first, reply[api.SubmitRep](r, r.request(api.Submit.Topic, req)).IDs)
	r.boot()
	require.Equal(t, first, reply[api.SubmitRep](r, r.request(api.Submit.Topic, req)).IDs)
	require.Len(t, r.list(api.ListReq{}), 1)
}

func TestAFullDiskRefusesSubmissionsAndLosesNoResult(t *testing.T) {
	r := newRig(t)
	r.sync()
	id := r.submit(1)
	items := r.run(id, 1, 1)
	r.fail = errors.New("disk full")
	tag := r.request(api.Submit.Topic, api.SubmitReq{Items: []api.SubmitItem{{Spec: []byte(trueSpec), Urgency: 16}}})
	require.Contains(t, r.failure(tag).Text, "disk full")
	rec := r.request(api.ExecReport.Topic, api.ExecReportReq{Rank: 0, UUID: "u0", Session: 1,
		Records: []api.Record{{Kind: api.RecEnded, Ref: items[0].Ref, Start: 1, Time: 2}}})
	require.Empty(t, r.answers[rec], "not acknowledged before it is durable")
	require.Len(t, r.list(api.ListReq{IDs: []jobspec.ID{id}}), 1, "still serving")
	r.fail = nil
	r.now = r.now.Add(2 * time.Second)
	r.in(reactor.Wake{})
	reply[api.Empty](r, rec)
	require.Len(t, r.list(api.ListReq{}), 1, "the refused submission is not there")
}

func TestBadSubmissionsAreRefusedWithAReason(t *testing.T) {
	r := newRig(t)
	gpus := `{"version":1,"resources":[{"type":"slot","count":1,"label":"task","with":[{"type":"core","count":1},{"type":"gpu","count":8}]}],
"tasks":[{"command":["true"],"slot":"task","count":{"per_slot":1}}],"attributes":{"system":{"duration":0}}}`
	for want, item := range map[string]api.SubmitItem{
		"needs 8 gpus; the largest node has 0": {Spec: []byte(gpus)},
		"jobspec: ":                            {Spec: []byte(`{"version":9}`)},
		"1 to 4194304 elements":                {Spec: []byte(trueSpec), N: 5000000},
		"urgency is 0 to 31":                   {Spec: []byte(trueSpec), Urgency: 32},
		"3 values for 4 elements":              {Spec: []byte(trueSpec), N: 4, CC: "1-3"},
		"the command {{argv}} stands for":      {Spec: []byte(strings.Replace(trueSpec, `"true"`, `"{{argv}}"`, 1))},
		"no environment 1":                     {Spec: []byte(trueSpec), Env: 1},
	} {
		tag := r.request(api.Submit.Topic, api.SubmitReq{Items: []api.SubmitItem{{Spec: []byte(trueSpec)}, item}})
		require.Contains(t, r.failure(tag).Text, want)
	}
	require.Empty(t, r.list(api.ListReq{}))
}

func TestAStopDoesNotWaitForAFullDiskForEver(t *testing.T) {
	r := newRig(t)
	r.sync()
	items := r.run(r.submit(1), 1, 1)
	r.fail = errors.New("disk full")
	r.in(api.Stopping{})
	r.request(api.ExecReport.Topic, api.ExecReportReq{Rank: 0, UUID: "u0", Session: 1, Records: []api.Record{{Kind: api.RecEnded, Ref: items[0].Ref, Status: 15}}})
	for range lastTries - 1 {
		require.False(t, r.stopped)
		r.now = r.now.Add(2 * commitRetry)
		r.in(reactor.Wake{})
	}
	require.True(t, r.stopped)
}

func TestStoppingCancelsAllAndThenIsStopped(t *testing.T) {
	r := newRig(t)
	r.sync()
	id := r.submit(10)
	items := r.run(id, 1, 2)
	r.in(api.Stopping{})
	require.False(t, r.stopped)
	require.Equal(t, wire.Unavailable, r.failure(r.request(api.Submit.Topic, api.SubmitReq{})).Code)
	r.end(items, 15)
	require.True(t, r.stopped)
}

func TestALongListingComesInSeveralRequestsAndMissesNothing(t *testing.T) {
	r := newRig(t)
	r.sync()
	gone := r.submit(25000)
	r.request(api.Raise.Topic, api.RaiseReq{IDs: []jobspec.ID{gone}, Type: "cancel"})
	r.submit(1)
	id := r.submit(40000)
	r.end(r.run(id, 1, 4), 0)
	r.run(id, 10, 3)
	jobs, requests := r.listAll(api.ListReq{})
	require.Equal(t, 4, requests)
	seen := map[jobspec.ID]int{}
	for _, j := range jobs {
		seen[j.ID]++
	}
	require.Len(t, seen, 65001)
	require.Len(t, jobs, 65001)
}

func TestALongListingOfSingleJobsIsInTheOrderOfTheQueue(t *testing.T) {
	r := newRig(t)
	r.sync()
	var items []api.SubmitItem
	for i := range 45000 {
		items = append(items, api.SubmitItem{Spec: []byte(trueSpec), Urgency: []int{16, 16, 16, 5, 31, 0}[i%6]})
	}
	ids := reply[api.SubmitRep](r, r.request(api.Submit.Topic, api.SubmitReq{Items: items})).IDs
	require.Empty(t, reply[api.MultiRep](r, r.request(api.Update.Topic, api.UpdateReq{IDs: ids[:1], Urgency: new(7)})).Errors)
	jobs, requests := r.listAll(api.ListReq{})
	require.Equal(t, 3, requests)
	require.Len(t, jobs, 45000)
	require.True(t, slices.IsSortedFunc(jobs, func(a, b api.JobInfo) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.ID, b.ID))
	}))
	at := slices.IndexFunc(jobs, func(j api.JobInfo) bool { return j.ID == ids[0] })
	require.Equal(t, 30000-1, at, "the one that was changed stands behind those of urgency 31 and 16")
}

func TestEndsWithinAnArrayShareACommitAndItsLastEndDoesNotWait(t *testing.T) {
	r := newRig(t)
	r.sync()
	items := r.run(r.submit(2), 1, 2)
	end := func(it api.StartItem) time.Duration {
		r.now = r.now.Add(time.Second)
		r.handle(&rpc.Request{Topic: api.ExecReport.Topic, Tag: 99, Peer: "test", Body: rpc.Payload{Value: api.ExecReportReq{Rank: 0, UUID: "u0", Session: 1,
			Records: []api.Record{{Kind: api.RecOutput, Ref: it.Ref, Stream: 1, Offset: r.now.UnixNano(), Data: []byte("x")}}}}})
		r.handle(r.pending[0]) // the last commit is long ago: this one went at once
		r.pending = nil
		r.handle(&rpc.Request{Topic: api.ExecReport.Topic, Tag: 99, Peer: "test", Body: rpc.Payload{Value: api.ExecReportReq{Rank: 0, UUID: "u0", Session: 1,
			Records: []api.Record{{Kind: api.RecEnded, Ref: it.Ref, Start: 1, Time: 2}}}}})
		wait := r.wake.Sub(r.now)
		r.settle()
		return wait
	}
	require.Equal(t, 16*time.Millisecond, end(items[0]))
	require.Equal(t, 2*time.Millisecond, end(items[1]))
}
