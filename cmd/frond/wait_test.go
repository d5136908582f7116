package main

import (
	"bytes"
	"testing"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
)

func TestWait(t *testing.T) {
	f := newFakeInstance(t)
	var asked api.WaitReq
	reps := []api.WaitRep{
		{ID: testID, N: 1, Completed: 1, Done: true},
		{ID: testID + 1, N: 100, Completed: 97, Failed: 3, Status: 7 << 8, Done: true},
		{ID: testID + 1, N: 100, Completed: 97, Failed: 3, Status: 7 << 8, Done: true}, // again, after a reconnection
		{ID: testID + 200, N: 1, Canceled: 1, Done: true, Exception: "type=cancel"},
		{ID: testID + 201, N: 1, Failed: 1, Status: 139, Done: true},
		{ID: testID + 202, Err: "unknown job id"},
	}
	serveStream(f, api.Wait, func(req api.WaitReq, send func(api.WaitRep)) error {
		asked = req
		for _, r := range reps {
			send(r)
		}
		return nil
	})
	r := f.frond("wait", "-v", "--all")
	require.Equal(t, api.WaitReq{All: true}, asked)
	require.Equal(t, 139, r.code)
	require.Equal(t, "ƒuZZybuNNy: completed\n", r.out)
	require.Equal(t, `frond wait: ƒuZZybuNNz: 3 of 100 failed: exit code 7
frond wait: ƒuZZybuNSR: canceled: exception: type=cancel
frond wait: ƒuZZybuNSS: failed: Segmentation fault
frond wait: ƒuZZybuNST: unknown job id
`, r.errout)
	require.Empty(t, f.frond("wait", "-q", "-a").errout)
	require.Contains(t, f.frond("wait", "--json", "-a").out, `"canceled":0,"completed":97,"failed":3,"id":6731191091817519,"n":100,"returncode":7`)

	reps = reps[:1]
	require.Equal(t, result{0, "", ""}, f.frond("wait", "fuZZybuNNy", "fuZZybuNNy:3"))
	require.Equal(t, []jobspec.ID{testID, testID + 4}, asked.IDs)
	reps = []api.WaitRep{{ID: testID, N: 1, Canceled: 1, Done: true}}
	require.Equal(t, 1, f.frond("wait", "1").code, "canceled before it ran: there is no exit code")
	for _, args := range [][]string{{"wait"}, {"wait", "-a", "1"}} {
		require.Contains(t, f.frond(args...).errout, "either job ids or --all")
	}
}

func TestOutcome(t *testing.T) {
	require.Equal(t, "all 5 completed", outcome(&api.WaitRep{N: 5, Completed: 5}))
	require.Equal(t, "failed: Terminated (exit code 143)", outcome(&api.WaitRep{N: 1, Failed: 1, Status: 143 << 8}))
	require.Equal(t, "1 of 2 failed, 1 of 2 timed out", outcome(&api.WaitRep{N: 2, Failed: 1, TimedOut: 1}))
}

func TestProgressOnANarrowTerminal(t *testing.T) {
	var b bytes.Buffer
	p := progressOn(&b, 20)
	for i := range 3 {
		p.update(&api.WaitRep{ID: testID, N: 3, Pending: 2 - i, Completed: i})
	}
	p.note("remark\n", &b)
	p.stop()
	var none *progress
	none.update(&api.WaitRep{})
	none.note("x", &b)
	none.stop()
	require.Contains(t, b.String(), "x")
	require.Equal(t, "2/3 F:0 ", *p.shown.Load())
	require.Equal(t, "PD:1    R:2    CD:3    F:4   ", tally{10, 1, 2, 3, 4}.String())
}

func TestCancel(t *testing.T) {
	f := newFakeInstance(t)
	var asked api.RaiseReq
	rep := api.MultiRep{Count: 1}
	serveCall(f, api.Raise, func(req api.RaiseReq) (api.MultiRep, error) { asked = req; return rep, nil })
	require.Equal(t, result{0, "", ""}, f.frond("cancel", "-m", "no more", "fuZZybuNNy:1"))
	require.Equal(t, api.RaiseReq{IDs: []jobspec.ID{testID + 2}, Type: "cancel", Note: "no more"}, asked)

	rep = api.MultiRep{Count: 2, Errors: map[jobspec.ID]string{testID: "job is inactive", testID + 1: "unknown job id"}}
	require.Equal(t, result{1, "", "frond cancel: ERROR: ƒuZZybuNNy: job is inactive\nfrond cancel: ERROR: ƒuZZybuNNz: unknown job id\n"}, f.frond("cancel", "1", "2"))
	require.Equal(t, result{1, "{\"count\":2,\"errors\":{\"6731191091817518\":\"job is inactive\",\"6731191091817519\":\"unknown job id\"}}\n", ""}, f.frond("job", "cancel", "--json", "1", "2"))

	rep = api.MultiRep{Count: 7}
	require.Equal(t, result{0, "", ""}, f.frond("cancel", "--all", "-S", "pending"), "remarks are for terminals")
	require.Equal(t, api.RaiseReq{All: true, States: 14, Type: "cancel"}, asked)
	require.Equal(t, result{0, "", ""}, f.frond("cancel", "--all", "-q"))

	listing(f, fixedJobs()[:4])
	asked = api.RaiseReq{}
	require.Equal(t, result{0, "", "frond cancel: Would cancel 4 jobs\n"}, f.frond("cancel", "--all", "-n"))
	require.Zero(t, asked)
	for _, args := range [][]string{{"cancel"}, {"cancel", "--all", "1"}, {"cancel", "-S", "run", "1"}, {"cancel", "--all", "-S", "failed"}, {"cancel", "x"}} {
		require.Equal(t, 1, f.frond(args...).code, args)
	}
}

func TestKillAndRaise(t *testing.T) {
	f := newFakeInstance(t)
	var asked api.KillReq
	rep := api.MultiRep{Count: 1}
	serveCall(f, api.Kill, func(req api.KillReq) (api.MultiRep, error) { asked = req; return rep, nil })
	for name, want := range map[string]int{"TERM": 15, "SIGUSR1": 10, "usr2": 12, "9": 9} {
		require.Equal(t, 0, f.frond("kill", "-s", name, "1").code)
		require.Equal(t, want, asked.Signal)
	}
	require.Equal(t, 0, f.frond("kill", "1").code)
	require.Equal(t, 15, asked.Signal)
	for _, bad := range []string{"0", "65", "NOPE", "-1"} {
		require.Equal(t, 1, f.frond("kill", "-s", bad, "1").code)
	}
	rep = api.MultiRep{Errors: map[jobspec.ID]string{testID: "job is not running"}}
	require.Equal(t, result{1, "", "frond kill: ERROR: ƒuZZybuNNy: job is not running\n"}, f.frond("kill", "1"))

	var raised api.RaiseReq
	serveCall(f, api.Raise, func(req api.RaiseReq) (api.MultiRep, error) { raised = req; return api.MultiRep{Count: 1}, nil })
	require.Equal(t, 0, f.frond("job", "raise", "-s", "3", "-t", "oops", "-m", "n", "1").code)
	require.Equal(t, api.RaiseReq{IDs: []jobspec.ID{1}, Type: "oops", Severity: 3, Note: "n"}, raised)
	require.Equal(t, 1, f.frond("job", "raise", "-s", "8", "1").code)
}

func TestVerbsHaveHelpWithAnExample(t *testing.T) {
	for _, cmd := range jobVerbs(newEnv()) {
		all := append(cmd.Commands(), cmd)
		for _, c := range all {
			require.NotEmpty(t, c.Short, c.CommandPath())
			require.NotEmpty(t, c.Example, c.CommandPath())
			if c.RunE != nil && len(c.Commands()) == 0 {
				require.Contains(t, c.Long, "Exit codes: ", c.CommandPath())
			}
		}
	}
}
