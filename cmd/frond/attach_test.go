package main

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

func event(name, context string) api.Event {
	return api.Event{Timestamp: 1000.5, Name: name, Context: context}
}

func out(task int, stream uint8, offset int64, data string) api.Output {
	return api.Output{Task: task, Stream: stream, Offset: offset, Data: []byte(data)}
}

// attached serves a job's events and output.
func attached(f *fakeInstance, reps ...api.AttachRep) *api.AttachReq {
	got := &api.AttachReq{}
	serveStream(f, api.Attach, func(req api.AttachReq, send func(api.AttachRep)) error {
		*got = req
		for _, r := range reps {
			send(r)
		}
		return nil
	})
	return got
}

// finished is the events of a job that ended with a wait status.
func finished(status string) api.AttachRep {
	return api.AttachRep{Events: []api.Event{event("start", ""), event("finish", `{"status":`+status+`}`)}}
}

func TestRunEndsAsTheJob(t *testing.T) {
	cancel := api.AttachRep{Events: []api.Event{event("exception", `{"type":"cancel","severity":0,"note":"why"}`)}}
	remark := api.AttachRep{Events: []api.Event{event("exception", `{"type":"note","severity":7,"note":"x"}`)}}
	for _, c := range []struct {
		name   string
		reps   []api.AttachRep
		code   int
		errout string
	}{
		{"a job that completes", []api.AttachRep{finished("0")}, 0, ""},
		{"an exit code", []api.AttachRep{finished("768")}, 3, ""},
		{"a signal", []api.AttachRep{finished("9")}, 137, ""},
		{"a signal as the shell reports it", []api.AttachRep{finished("36608")}, 143, ""},
		{"a fatal exception without a status", []api.AttachRep{cancel}, 1, "frond run: ƒuZZybuNNy: exception: type=cancel severity=0 why\n"},
		{"a fatal exception after exit code 0", []api.AttachRep{cancel, finished("0")}, 1, "frond run: ƒuZZybuNNy: exception: type=cancel severity=0 why\n"},
		{"a fatal exception and a status", []api.AttachRep{cancel, finished("36608")}, 143, "frond run: ƒuZZybuNNy: exception: type=cancel severity=0 why\n"},
		{"an exception that is no more than a remark", []api.AttachRep{remark, finished("0")}, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeInstance(t)
			req := submitting(f)
			att := attached(f, c.reps...)
			serveCall(f, api.Input, func(api.InputReq) (api.Empty, error) { return api.Empty{}, nil })
			require.Equal(t, result{c.code, "", c.errout}, f.frond("run", "true"))
			require.True(t, req.Items[0].Watched)
			require.Equal(t, api.AttachReq{ID: testID, Events: true, Output: true, Follow: true}, *att)
		})
	}
}

func TestRunRefused(t *testing.T) {
	f := newFakeInstance(t)
	serveCall(f, api.Submit, func(api.SubmitReq) (api.SubmitRep, error) {
		return api.SubmitRep{}, wire.Errorf(wire.Unsatisfiable, "needs 8 gpus; the largest node has 0")
	})
	require.Equal(t, result{1, "", "frond run: needs 8 gpus; the largest node has 0\n"}, f.frond("run", "-g8", "true"))
}

func TestRunOutput(t *testing.T) {
	f := newFakeInstance(t)
	submitting(f)
	serveCall(f, api.Input, func(api.InputReq) (api.Empty, error) { return api.Empty{}, nil })
	attached(f, api.AttachRep{Output: []api.Output{out(0, 1, 0, "a\nb"), out(1, 1, 0, "x\ny\n"), out(0, 2, 0, "err\n"), out(0, 1, 3, "c\n"), out(1, 1, 4, "end")}}, finished("0"))
	require.Equal(t, result{0, "a\nbx\ny\nc\nend", "err\n"}, f.frond("run", "true"))
	require.Equal(t, result{0, "0: a\n1: x\n1: y\n0: bc\n1: end\n", "0: err\n"}, f.frond("run", "-l", "true"), "labels ask for whole lines")
}

func TestRunPassesInputOn(t *testing.T) {
	for _, c := range []struct {
		args  []string
		tasks []int
	}{
		{[]string{"run", "cat"}, []int{0}},
		{[]string{"run", "--input=0,2", "cat"}, []int{0, 2}},
		{[]string{"run", "--input=all", "cat"}, []int{-1}},
	} {
		f := newFakeInstance(t)
		submitting(f)
		got, tasks := "", map[int]bool{}
		ended := make(chan struct{})
		serveCall(f, api.Input, func(req api.InputReq) (api.Empty, error) {
			if req.Task < -1 { // the end for the tasks that get no input
				require.True(t, req.EOF)
				require.Equal(t, []int{-2 - req.Task}, c.tasks)
				return api.Empty{}, nil
			}
			got += string(req.Data)
			tasks[req.Task] = true
			if req.EOF && req.Task == c.tasks[len(c.tasks)-1] {
				close(ended)
			}
			return api.Empty{}, nil
		})
		serveStream(f, api.Attach, func(_ api.AttachReq, send func(api.AttachRep)) error {
			<-ended
			send(finished("0"))
			return nil
		})
		require.Equal(t, 0, f.frondWith("hello", nil, c.args...).code)
		require.Len(t, tasks, len(c.tasks))
		require.Len(t, got, 5*len(c.tasks))
	}
}

func TestRunOfAnArrayShowsAll(t *testing.T) {
	f := newFakeInstance(t)
	submitting(f)
	serveStream(f, api.Attach, func(req api.AttachReq, send func(api.AttachRep)) error {
		send(api.AttachRep{Output: []api.Output{out(0, 1, 0, req.ID.F58Plain()+" out\n")}})
		if req.ID == testID+2 {
			send(finished("512"))
		} else {
			send(finished("0"))
		}
		return nil
	})
	r := f.frond("run", "--cc=1-3", "true")
	require.Equal(t, 2, r.code, "the worst of all")
	for _, id := range []jobspec.ID{testID + 1, testID + 2, testID + 3} {
		require.Contains(t, r.out, id.F58Plain()+" out\n")
	}
	require.Contains(t, f.frond("submit", "--watch", "-l", "--quiet", "--cc=1-3", "true").out, "ƒuZZybuNNz: 0: fuZZybuNNz out\n")
}

// of is a piece of standard output of one attempt.
func of(attempt uint32, offset int64, data string) api.Output {
	o := out(0, 1, offset, data)
	o.Attempt = attempt
	return o
}

func TestAttacherDropsWhatComesTwice(t *testing.T) {
	var stdout, events = new(memory), 0
	w := newOutputWriter(stdout, stdout, false)
	for _, o := range []api.Output{of(1, 0, "abc"), of(1, 3, "d"), of(2, 0, "second attempt "),
		of(1, 0, "abcd"), of(2, 0, "second attempt goes on"), of(2, 22, "!"), of(1, 4, "late")} {
		w.write(&o)
	}
	require.Equal(t, "abcdsecond attempt goes on!", stdout.text)
	a := &attacher{env: newEnv(), out: w, events: func(*api.Event) { events++ }, quiet: true}
	log := api.AttachRep{Events: []api.Event{event("submit", "{}"), event("start", "")}}
	require.NoError(t, a.take(&log))
	a.restart()
	log.Events = append(log.Events, event("finish", `{"status":256}`))
	require.NoError(t, a.take(&log))
	require.Equal(t, 3, events)
	require.Equal(t, 1, a.state.code())
}

type memory struct{ text string }

func (m *memory) Write(b []byte) (int, error) { m.text += string(b); return len(b), nil }

func TestOutputOfManyTasksIsNotMixed(t *testing.T) {
	for _, c := range []struct {
		name   string
		setup  func(*outputWriter)
		pieces []api.Output
		want   string
	}{
		{"one task's output goes on at once", func(*outputWriter) {}, []api.Output{out(0, 1, 0, "a"), out(0, 1, 1, "b")}, "ab"},
		{"lines of two tasks stay whole", func(*outputWriter) {}, []api.Output{out(0, 1, 0, "a\n"), out(1, 1, 0, "b"), out(0, 1, 2, "c\n"), out(1, 1, 1, "d\n")}, "a\nc\nbd\n"},
		{"whole lines where others write too", func(w *outputWriter) { w.whole = true }, []api.Output{out(0, 1, 0, "a"), out(0, 1, 1, "b\nc")}, "ab\nc"},
		{"unbuffered labels", func(w *outputWriter) { w.label, w.raw = true, true }, []api.Output{out(3, 1, 0, "a"), out(3, 1, 1, "b\nc\n")}, "3: ab\n3: c\n"},
		{"labels of both streams", func(w *outputWriter) { w.label = true }, []api.Output{out(0, 1, 0, "o\n"), out(0, 2, 0, "e\n")}, "0: o\n0: e\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &memory{}
			w := newOutputWriter(m, m, false)
			c.setup(w)
			for i := range c.pieces {
				w.write(&c.pieces[i])
			}
			require.NoError(t, w.finish())
			require.Equal(t, c.want, m.text)
		})
	}
}

func TestInterrupts(t *testing.T) {
	m := &memory{}
	e := newEnv()
	var did []string
	killErr := error(nil)
	i := &interrupts{env: e, show: m, verb: "frond run", id: testID,
		kill: func(sig syscall.Signal) error { did = append(did, "kill "+sig.String()); return killErr },
		end:  func() error { did = append(did, "cancel"); return nil },
		quit: func() { did = append(did, "quit") }}
	at := time.Unix(100, 0)
	i.on(syscall.SIGINT, at)
	i.on(syscall.SIGINT, at.Add(3*time.Second))
	require.Equal(t, []string{"kill interrupt", "kill interrupt"}, did, "after two seconds it counts anew")
	i.on(syscall.SIGINT, at.Add(4*time.Second))
	require.Equal(t, "cancel", did[2])
	require.False(t, i.gaveUp())
	i.on(syscall.SIGINT, at.Add(5*time.Second))
	require.Equal(t, "quit", did[3])
	require.True(t, i.gaveUp())
	killErr = errors.New("job is not running")
	i.on(syscall.SIGTERM, at.Add(time.Minute))
	require.Contains(t, m.text, "job is not running; again within 2 s cancels it")
	i.own, did = true, nil
	i.on(syscall.SIGTERM, at.Add(2*time.Minute))
	require.Equal(t, []string{"kill terminated", "cancel"}, did, "a job that waits, of a command that is told to end")
}

func TestJobAttach(t *testing.T) {
	f := newFakeInstance(t)
	attached(f, api.AttachRep{Events: []api.Event{event("submit", `{"userid":1,"flags":0}`)}, Output: []api.Output{out(1, 1, 0, "x\n")}}, finished("256"))
	require.Equal(t, result{1, "1: x\n", "0.000000 submit userid=1 flags=0\n0.000000 start\n0.000000 finish status=256\n"},
		f.frond("job", "attach", "-E", "-l", "-r", "ƒuZZybuNNy"))
	serveStream(f, api.Attach, func(api.AttachReq, func(api.AttachRep)) error { return wire.Errorf(wire.NotFound, "unknown job id f1") })
	require.Equal(t, result{1, "", "frond job attach: JobID ƒuZZybuNNy unknown\n"}, f.frond("job", "attach", "-r", "fuZZybuNNy"))
}

func TestLogs(t *testing.T) {
	f := newFakeInstance(t)
	listing(f, fixedJobs()[4:6])
	req := attached(f, api.AttachRep{Output: []api.Output{out(0, 1, 0, "1\n2\n3\n"), out(0, 2, 0, "bad\n")}}, finished("256"))
	require.Equal(t, result{0, "1\n2\n3\n1\n2\n3\n", "bad\nbad\n"}, f.frond("logs", "fuZZybuNSR"), "all elements; a failed job's logs are no failure")
	require.False(t, req.Follow)
	require.Equal(t, result{0, "bad\nbad\n", ""}, f.frond("logs", "--err", "fuZZybuNSR"))
	require.Equal(t, result{0, "3\n3\n", ""}, f.frond("logs", "--out", "--tail", "1", "fuZZybuNSR"))
	require.Equal(t, result{0, "", ""}, f.frond("logs", "--out", "--tail", "0", "fuZZybuNSR"))
	require.Contains(t, f.frond("logs", "-l", "fuZZybuNSR").out, "ƒuZZybuNSS: 0: 1\n")
	require.Contains(t, f.frond("logs", "--json", "fuZZybuNSR").out, `{"data":"1\n2\n3\n","id":6731191091817719,"offset":0,"stream":"stdout","task":0}`)
	f.frond("logs", "-f", "fuZZybuNSR")
	require.True(t, req.Follow)
}

func TestEventlog(t *testing.T) {
	f := newFakeInstance(t)
	first := event("submit", `{"userid":1,"note":"a b","list":[1, 2]}`)
	second := api.Event{Timestamp: 1001.75, Name: "start"}
	attached(f, api.AttachRep{Events: []api.Event{first, second}})
	for args, want := range map[string]string{
		"":         "1000.500000 submit userid=1 note=\"a b\" list=[1,2]\n1001.750000 start\n",
		"-fjson":   `{"timestamp":1000.5,"name":"submit","context":{"userid":1,"note":"a b","list":[1, 2]}}` + "\n" + `{"timestamp":1001.75,"name":"start"}` + "\n",
		"-Tiso":    "1970-01-01T00:16:40.500000Z submit userid=1 note=\"a b\" list=[1,2]\n1970-01-01T00:16:41.750000Z start\n",
		"-Toffset": "0.000000 submit userid=1 note=\"a b\" list=[1,2]\n1.250000 start\n",
	} {
		cmd := []string{"job", "eventlog", "f123"}
		if args != "" {
			cmd = append(cmd, args)
		}
		require.Equal(t, result{0, want, ""}, f.frond(cmd...))
	}
	require.Contains(t, f.frond("job", "eventlog", "-H", "f123").out, "[  +1.250000] start\n")
	require.Equal(t, 1, f.frond("job", "eventlog", "-f", "xml", "f123").code)
	require.Equal(t, 1, f.frond("job", "eventlog", "-T", "xml", "f123").code)
}

func TestWaitEvent(t *testing.T) {
	f := newFakeInstance(t)
	hang := make(chan struct{})
	serveStream(f, api.Attach, func(_ api.AttachReq, send func(api.AttachRep)) error {
		send(api.AttachRep{Events: []api.Event{event("submit", "{}"), event("exception", `{"type":"note","severity":7}`), event("exception", `{"type":"cancel","severity":0}`)}})
		<-hang
		return nil
	})
	require.Equal(t, result{0, "1000.500000 exception type=\"cancel\" severity=0\n", ""}, f.frond("job", "wait-event", "-m", "type=cancel", "f123", "exception"))
	require.Equal(t, result{0, "1000.500000 exception type=\"cancel\" severity=0\n", ""}, f.frond("job", "wait-event", "-c2", "f123", "exception"))
	require.Equal(t, result{0, "1000.500000 exception type=\"note\" severity=7\n", ""}, f.frond("job", "wait-event", "-m", "severity=7", "f123", "exception"))
	require.Equal(t, result{0, "1000.500000 submit\n", ""}, f.frond("job", "wait-event", "f123", "submit"))
	require.Equal(t, result{0, "", ""}, f.frond("job", "wait-event", "-q", "f123", "submit"))
	require.Equal(t, result{1, "", "frond job wait-event: timeout: event \"start\" did not come within 0.05s\n"}, f.frond("job", "wait-event", "-t", "0.05s", "f123", "start"))
	close(hang)
	require.Equal(t, result{1, "", "frond job wait-event: event \"start\" never received: the job has ended\n"}, f.frond("job", "wait-event", "f123", "start"))
	require.Equal(t, 1, f.frond("job", "wait-event", "-m", "x", "f123", "start").code)
	require.Equal(t, 1, f.frond("job", "wait-event", "-t", "x", "f123", "start").code)
}

func TestJobInfoAndID(t *testing.T) {
	f := newFakeInstance(t)
	serveCall(f, api.Info, func(req api.InfoReq) (api.InfoRep, error) {
		switch req.Key {
		case "R":
			return api.InfoRep{Value: `{"version":1}`}, nil
		case "eventlog":
			return api.InfoRep{Value: "{}\n{}\n"}, nil
		}
		return api.InfoRep{}, wire.Errorf(wire.NotFound, "no key %q", req.Key)
	})
	require.Equal(t, result{0, "{\"version\":1}\n", ""}, f.frond("job", "info", "f123", "R"))
	require.Equal(t, result{0, "{}\n{}\n", ""}, f.frond("job", "info", "f123", "eventlog"))
	require.Equal(t, result{1, "", "frond job info: ƒuZZybuNNy: no key \"J\"\n"}, f.frond("job", "info", "fuZZybuNNy", "J"))

	require.Equal(t, result{0, "6731191091817518\n", ""}, f.frond("job", "id", "fuZZybuNNy"))
	require.Equal(t, result{0, "job.0017.e9fb.8df1.6c2e\njob.0017.e9fb.8df1.6c2f\n", ""}, f.frondWith("fuZZybuNNy\n 6731191091817519", nil, "job", "id", "--to=kvs"))
	require.Equal(t, "ƒuZZybuNNy\n", f.frond("job", "id", "--to=f58", "0x17e9fb8df16c2e").out)
	require.Equal(t, 1, f.frond("job", "id", "--to=nope", "1").code)
	require.Equal(t, 1, f.frond("job", "id", "f0").code)
}
