package main

import (
	"encoding/json"
	"math"
	"os/user"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

const testID = jobspec.ID(6731191091817518) // ƒuZZybuNNy

// fixedJobs are one job in each situation.
func fixedJobs() []api.JobInfo {
	uid := uint32(4294967290) // nobody's: shown as a number
	return []api.JobInfo{
		{ID: testID, UserID: uid, Urgency: 16, Priority: 16, TSubmit: 1000, TDepend: 1000.1, State: 8, Name: "wait", NTasks: 4, Reason: "needs 8 cores; 4 are free", Duration: 600},
		{ID: testID + 1, UserID: uid, Urgency: 0, Priority: 0, TSubmit: 1001, State: 8, Name: "held", NTasks: 1},
		{ID: testID + 10, UserID: uid, Urgency: 16, Priority: 16, TSubmit: 1002, State: 8, Name: "sweep", NTasks: 1, Array: testID + 9, NElements: 95, Size: 100, Ended: 4, Incomplete: 1},
		{ID: testID + 200, UserID: uid, Urgency: 16, Priority: 16, TSubmit: 1003, TRun: 1010, State: 16, Name: "simulate-long", NTasks: 8, NNodes: 2, NCores: 8,
			Nodelist: "node[1-2]", Ranks: "1-2", Expiration: math.MaxInt32, Attempt: 1},
		{ID: testID + 201, UserID: uid, Urgency: 16, Priority: 16, TSubmit: 1004, TRun: 1010, TCleanup: 1012.5, TInactive: 1013, State: 64, Result: 1, Success: true,
			Name: "done", NTasks: 1, NNodes: 1, NCores: 1, Nodelist: "node1", Ranks: "1", HasStatus: true, Attempt: 1, MaxRSSKiB: 2048, CPU: 0.25},
		{ID: testID + 202, UserID: uid, Urgency: 16, Priority: 16, TSubmit: 1005, TRun: 1010, TCleanup: 1011, TInactive: 1014, State: 64, Result: 2,
			Name: "broke", NTasks: 1, NNodes: 1, NCores: 1, Nodelist: "node1", Ranks: "1", HasStatus: true, WaitStatus: 3 << 8, Attempt: 2, Array: testID + 201, Index: 0, CC: "7"},
		{ID: testID + 203, UserID: uid, Urgency: 16, Priority: 16, TSubmit: 1006, TInactive: 1015, State: 64, Result: 4, Name: "gone", NTasks: 1,
			ExcOccurred: true, ExcType: "cancel", ExcNote: "wrong input"},
	}
}

func listing(f *fakeInstance, jobs []api.JobInfo) *api.ListReq {
	got := &api.ListReq{}
	serveStream(f, api.List, func(req api.ListReq, send func(api.ListRep)) error {
		*got = req
		send(api.ListRep{Jobs: jobs[:len(jobs)/2]})
		send(api.ListRep{Jobs: jobs[len(jobs)/2:]})
		return nil
	})
	return got
}

func TestJobsTable(t *testing.T) {
	f := newFakeInstance(t)
	req := listing(f, fixedJobs())
	r := f.frond("jobs", "-a")
	require.Equal(t, 0, r.code, r.errout)
	require.Equal(t, strings.TrimPrefix(`
       JOBID USER     NAME       ST NTASKS NNODES     TIME INFO
  ƒuZZybuNNy 42949672 wait        S      4      -      10m needs 8 cores; 4 are free
  ƒuZZybuNP8 42949672 sweep       S      1      -        - 4/100 done (1 failed), 95 pending
  ƒuZZybuNNz 42949672 held        S      1      -        - held
  ƒuZZybuNSR 42949672 simulate-+  R      8      2 RUNTIME node[1-2]
  ƒuZZybuNSU 42949672 gone       CA      1      -        -
  ƒuZZybuNST 42949672 broke       F      1      1   1.000s node1
  ƒuZZybuNSS 42949672 done       CD      1      1   2.500s node1
`, "\n"), runtimeMasked(r.out))
	require.True(t, req.Collapse)
	require.Equal(t, 1000, req.Max)
	require.Zero(t, req.States)
}

// runtimeMasked replaces the run time of the running job, which depends on the clock.
func runtimeMasked(out string) string {
	lines := strings.Split(out, "\n")
	for i, l := range lines {
		if fields := strings.Fields(l); len(fields) == 8 && fields[3] == "R" {
			lines[i] = strings.Replace(l, fields[6], "RUNTIME", 1)
			lines[i] = strings.Replace(lines[i], strings.Repeat(" ", 9-len([]rune(fields[6])))+"RUNTIME", " RUNTIME", 1)
		}
	}
	return strings.Join(lines, "\n")
}

func TestJobsRequest(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want api.ListReq
	}{
		{"active jobs by default", nil, api.ListReq{States: 62, Max: 1000, Collapse: true, Reasons: true}},
		{"a filter of states and results", []string{"-f", "pending,failed", "-c", "5"}, api.ListReq{States: 14, Results: 2, Max: 5, Collapse: true, Reasons: true}},
		{"ids in any state, all of them", []string{"ƒuZZybuNNy", "fuZZybuNNy:0-1"}, api.ListReq{IDs: []jobspec.ID{testID, testID + 1, testID + 2}, Reasons: true}},
		{"--json lists elements", []string{"--json"}, api.ListReq{States: 62, Max: 1000, Reasons: true}},
		{"-o lists elements", []string{"-o", "{id}"}, api.ListReq{States: 62, Max: 1000}},
		{"a name", []string{"-a", "--name", "x", "-c0"}, api.ListReq{Name: "x", Collapse: true, Reasons: true}},
		{"since implies all", []string{"--since", "100"}, api.ListReq{Since: 100, Max: 1000, Collapse: true, Reasons: true}},
		{"a queue is filtered here", []string{"-q", "x,y", "-c5"}, api.ListReq{States: 62, Collapse: true, Reasons: true}},
		{"Nextflow's query", []string{"--suppress-header", "--format={id.f58} {status_abbrev}", "--since=100", "--user=all"}, api.ListReq{Since: 100, Max: 1000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeInstance(t)
			req := listing(f, nil)
			r := f.frond(append([]string{"jobs"}, c.args...)...)
			require.Equal(t, 0, r.code, r.errout)
			require.Equal(t, c.want, *req)
		})
	}
}

func TestJobsFormats(t *testing.T) {
	f := newFakeInstance(t)
	listing(f, fixedJobs())
	for _, c := range []struct{ format, want string }{
		{"{id} {id.dec} {id.hex} {id.dothex}", "ƒuZZybuNNy 6731191091817518 0x17e9fb8df16c2e 0017.e9fb.8df1.6c2e"},
		{"{state} {state_single} {status} {result} {returncode}", "SCHED S SCHED"},
		{"{annotations.sched.reason_pending}", "needs 8 cores; 4 are free"},
		{"{userid} {urgency} {priority} {name} {ntasks} {nnodes:h} {t_submit} {t_run!D:h} {duration!F}", "4294967290 16 16 wait 4 - 1000.0 - 10m"},
	} {
		r := f.frond("jobs", "-n", "-c1", "-o", c.format)
		require.Equal(t, c.want+"\n", r.out, r.errout)
	}
	r := f.frond("jobs", "-n", "-o", "{name} {inactive_reason} {returncode} {exception.type} {waitstatus} {attempt} {cc}", "--sort", "-name")
	require.Contains(t, r.out, "broke Exit 3 3  768 2 7\n")
	require.Contains(t, r.out, "gone Canceled: wrong input -128 cancel  0\n")
	require.True(t, strings.HasPrefix(r.out, "wait "), "sorted by name, reversed: %s", r.out)
	require.Equal(t, result{0, "", ""}, f.frond("jobs", "-n", "--queue=nope"))
	require.Equal(t, 7, strings.Count(f.frond("jobs", "-n", "--queue=").out, "\n"))
	for name := range jobFormats {
		require.Equal(t, 0, f.frond("jobs", "-a", "-o", name).code, name)
	}
	require.Contains(t, f.frond("jobs", "-o", "help").out, "contextual_info")
	require.Equal(t, result{1, "", "frond jobs: unknown format field: nope\n"}, f.frond("jobs", "-o", "{nope}"))
}

func TestEveryFieldHasAValueForSomeJob(t *testing.T) {
	jobs := fixedJobs()
	jobs[0].Queue, jobs[0].Cwd, jobs[0].TCleanup, jobs[0].TEstimate, jobs[0].Memo = "q", "/c", 1, 3000, `{"uri":"ssh://h/x"}`
	for name := range jobHeaders {
		found := name == "dependencies" // Frond has none yet
		for i := range jobs {
			v := jobView{JobInfo: &jobs[i], now: 2000}.field(name)
			found = found || text(v) != ""
		}
		require.True(t, found, "field %s is always empty", name)
	}
}

func TestJobsJSON(t *testing.T) {
	f := newFakeInstance(t)
	listing(f, fixedJobs())
	var got struct{ Jobs []map[string]any }
	d := json.NewDecoder(strings.NewReader(f.frond("jobs", "-a", "--json").out))
	d.UseNumber()
	require.NoError(t, d.Decode(&got))
	require.Len(t, got.Jobs, 7)
	done, gone, pending := got.Jobs[4], got.Jobs[6], got.Jobs[0]
	require.Equal(t, json.Number("6731191091817719"), done["id"], "an integer, exact")
	require.Equal(t, "INACTIVE", done["state"])
	require.Equal(t, "COMPLETED", done["result"])
	require.Equal(t, "CD", done["status_abbrev"])
	require.Equal(t, true, done["success"])
	require.Equal(t, json.Number("0"), done["returncode"])
	require.Equal(t, json.Number("2.5"), done["runtime"])
	require.Equal(t, map[string]any{"occurred": false}, done["exception"])
	require.Equal(t, "cancel", gone["exception"].(map[string]any)["type"])
	for _, key := range []string{"runtime", "waitstatus", "result", "t_run", "returncode"} {
		require.NotContains(t, pending, key, "what is not known yet is left out")
	}
}

func TestJobsJSONOfOneID(t *testing.T) {
	f := newFakeInstance(t)
	listing(f, fixedJobs()[4:5])
	var got map[string]any
	require.NoError(t, json.Unmarshal([]byte(f.frond("jobs", "--json", "ƒuZZybuNSS").out), &got))
	require.Equal(t, "done", got["name"])
}

func TestJobsUnknownID(t *testing.T) {
	f := newFakeInstance(t)
	serveStream(f, api.List, func(api.ListReq, func(api.ListRep)) error { return wire.Errorf(wire.NotFound, "no such job") })
	for _, args := range [][]string{{"jobs", "-n", "f123"}, {"jobs", "--json", "f123"}} {
		require.Equal(t, result{1, "", "frond jobs: JobID f123 unknown\n"}, f.frond(args...))
	}
	require.Equal(t, "frond logs: JobID fuZZybuNNy unknown\n", f.frond("logs", "fuZZybuNNy").errout)
}

func TestPlainIDsWithoutUTF8(t *testing.T) {
	f := newFakeInstance(t)
	listing(f, fixedJobs()[:2])
	for _, vars := range []map[string]string{{"LANG": "C"}, {"LANG": "de_DE.UTF-8", "LC_ALL": "POSIX"}, {"FROND_F58_FORCE_ASCII": "1"}} {
		require.Contains(t, f.frondWith("", vars, "jobs", "-no", "{id}").out, "fuZZybuNNy\n", vars)
	}
	require.Contains(t, f.frondWith("", map[string]string{"LC_CTYPE": "en_US.utf8"}, "jobs", "-no", "{id}").out, "ƒuZZybuNNy\n")
}

func TestJobsOfAnotherUserAreNone(t *testing.T) {
	f := newFakeInstance(t)
	listing(f, fixedJobs())
	require.Equal(t, result{0, "", ""}, f.frond("jobs", "-n", "-u", "no-such-user"))
	me, err := user.Current()
	require.NoError(t, err)
	require.NotEmpty(t, f.frond("jobs", "-n", "-u", me.Username).out)
}

func TestJobsStats(t *testing.T) {
	f := newFakeInstance(t)
	counts := api.CountsRep{Pending: 3, Running: 2, Inactive: 10, Failed: 4}
	serveStream(f, api.Counts, func(_ api.CountsReq, send func(api.CountsRep)) error { send(counts); return nil })
	require.Equal(t, result{0, "2 running, 6 completed, 4 failed, 3 pending\n", ""}, f.frond("jobs", "--stats-only"))
	counts.Pending, counts.Running = 0, 0
	require.Equal(t, 1, f.frond("jobs", "--stats-only").code, "no job is active")
	require.Equal(t, 1, f.frond("jobs", "--stats", "--json").code)
}

func TestJobsColor(t *testing.T) {
	f := newFakeInstance(t)
	listing(f, fixedJobs())
	require.NotContains(t, f.frond("jobs", "-a").out, "\x1b", "not on a terminal: no colors")
	colored := f.frond("jobs", "-a", "--color=always").out
	require.Contains(t, colored, colorRed)
	require.Equal(t, strings.Count(colored, colorOff)*2, strings.Count(colored, "\x1b"), "each color is ended")
}

func TestParseSince(t *testing.T) {
	now := time.Unix(10_000, 0)
	for s, want := range map[string]float64{"-15m": 9100, "5000.5": 5000.5, "-1d": 1e-9} {
		got, err := parseSince(s, now)
		require.NoError(t, err)
		require.Equal(t, want, got, s)
	}
	_, err := parseSince("1970-01-01 00:00", time.Now())
	require.NoError(t, err)
	for _, bad := range []string{"-x", "yesterdayish", "20000", "-inf"} {
		_, err := parseSince(bad, now)
		require.Error(t, err, bad)
	}
}

func TestParseIDs(t *testing.T) {
	e := &env{}
	ids, err := e.parseIDs([]string{"ƒuZZybuNNy", "0x17e9fb8df16c2e", "0017.e9fb.8df1.6c2e", "6731191091817518:17", "fuZZybuNNy:0-2,5"})
	require.NoError(t, err)
	require.Equal(t, []jobspec.ID{testID, testID, testID, testID + 18, testID + 1, testID + 2, testID + 3, testID + 6}, ids)
	for _, bad := range []string{"", "xyz", "f123:", "f123:3-1", "f123:a", "f123:0-99999999", "f123:0-100000"} {
		_, err := e.parseIDs([]string{bad})
		require.Error(t, err, bad)
	}
}
