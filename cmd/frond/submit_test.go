package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

// submitting gives every submission ids from testID on and keeps the last request.
func submitting(f *fakeInstance) *api.SubmitReq {
	got := &api.SubmitReq{}
	serveCall(f, api.Submit, func(req api.SubmitReq) (api.SubmitRep, error) {
		*got = req
		var rep api.SubmitRep
		next := testID
		for _, item := range req.Items {
			rep.IDs = append(rep.IDs, next)
			next++
			if item.N > 1 {
				next += jobspec.ID(item.N)
			}
		}
		return rep, nil
	})
	return got
}

func TestSubmitItem(t *testing.T) {
	attr := filepath.Join(t.TempDir(), "attr.json")
	require.NoError(t, os.WriteFile(attr, []byte(`{"a":[1]}`), 0o600))
	f := newFakeInstance(t)
	req := submitting(f)
	for _, c := range []struct {
		name  string
		args  []string
		check func(t *testing.T, item api.SubmitItem, js *jobspec.Jobspec)
	}{
		{"one task by default", nil, func(t *testing.T, item api.SubmitItem, js *jobspec.Jobspec) {
			require.Equal(t, jobspec.Request{Slots: 1, Cores: 1}, js.Request)
			require.Equal(t, []string{"prog", "-n", "x"}, js.Command, "what follows the command is its own")
			require.Equal(t, api.SubmitItem{Spec: item.Spec, Env: 1, Urgency: 16}, item)
			require.Equal(t, "prog", js.Name)
			dir, _ := os.Getwd()
			require.Equal(t, dir, js.Cwd)
			require.Nil(t, js.Environment, "it travels beside the jobspec")
			require.True(t, js.Rerun)
		}},
		{"tasks, cores, gpus and nodes", []string{"-n4", "-c2", "-g1", "-N2"}, func(t *testing.T, _ api.SubmitItem, js *jobspec.Jobspec) {
			require.Equal(t, jobspec.Request{Nodes: 2, Slots: 2, Cores: 2, GPUs: 1}, js.Request)
		}},
		{"nodes alone are whole nodes", []string{"-N3"}, func(t *testing.T, _ api.SubmitItem, js *jobspec.Jobspec) {
			require.Equal(t, jobspec.Request{Nodes: 3, Slots: 1, Cores: 1, Exclusive: true}, js.Request)
		}},
		{"tasks per node", []string{"--cores=8", "--tasks-per-node=2", "-N2"}, func(t *testing.T, _ api.SubmitItem, js *jobspec.Jobspec) {
			require.Equal(t, jobspec.TaskCount{PerNode: 2}, js.TaskCount)
		}},
		{"a bare time limit is minutes", []string{"-t", "2"}, func(t *testing.T, _ api.SubmitItem, js *jobspec.Jobspec) { require.Equal(t, 120.0, js.Duration) }},
		{"a time limit with a unit", []string{"--time-limit=90s"}, func(t *testing.T, _ api.SubmitItem, js *jobspec.Jobspec) { require.Equal(t, 90.0, js.Duration) }},
		{"files", []string{"--output=o.{{id}}", "--error", "e", "--input=i", "-l", "-u"}, func(t *testing.T, _ api.SubmitItem, js *jobspec.Jobspec) {
			require.Equal(t, jobspec.Output{Path: "o.{{id}}", Label: true}, js.Shell.Stdout)
			require.Equal(t, "e", js.Shell.Stderr.Path)
			require.Equal(t, "i", js.Shell.Stdin)
			require.True(t, js.Shell.Unbuffered)
		}},
		{"urgency by name and flags", []string{"--urgency=hold", "--flags=debug,waitable"}, func(t *testing.T, item api.SubmitItem, _ *jobspec.Jobspec) {
			require.Equal(t, 0, item.Urgency)
			require.Equal(t, 6, item.Flags)
		}},
		{"name, directory and rerun", []string{"--job-name=nn", "--cwd=/tmp", "--rerun=no"}, func(t *testing.T, _ api.SubmitItem, js *jobspec.Jobspec) {
			require.Equal(t, "nn", js.Name)
			require.Equal(t, "/tmp", js.Cwd)
			require.False(t, js.Rerun)
		}},
		{"a relative directory", []string{"--cwd=sub"}, func(t *testing.T, _ api.SubmitItem, js *jobspec.Jobspec) {
			dir, _ := os.Getwd()
			require.Equal(t, dir+"/sub", js.Cwd)
		}},
		{"attributes and shell options", []string{"-S", "exec.test.run_duration=0.01s", "--setattr=user.x=[1]", "-Sflag", "-S", "^system.f=" + attr, "-o", "cpu-affinity=off"}, func(t *testing.T, _ api.SubmitItem, js *jobspec.Jobspec) {
			require.Equal(t, 0.01, js.Test.RunDuration)
			require.Equal(t, map[string]any{"x": []any{1.0}}, js.User)
			require.Equal(t, 1.0, js.System["flag"])
			require.Equal(t, map[string]any{"a": []any{1.0}}, js.System["f"])
			require.Equal(t, "off", js.Shell.CPUAffinity)
		}},
		{"a warning signal by name", []string{"--signal=usr2@2m"}, func(t *testing.T, _ api.SubmitItem, js *jobspec.Jobspec) {
			require.Equal(t, 12, js.Shell.Signal)
			require.Equal(t, 120.0, js.Shell.SignalLeft)
		}},
		{"conditions on nodes", []string{"--requires=ssd", "--requires", "host:n[1-2]"}, func(t *testing.T, _ api.SubmitItem, js *jobspec.Jobspec) {
			require.Equal(t, "and", js.Constraint.Op)
			require.Len(t, js.Constraint.Sub, 2)
		}},
		{"limits", []string{"--rlimit=-*", "--rlimit=core=0"}, func(t *testing.T, _ api.SubmitItem, js *jobspec.Jobspec) {
			require.Equal(t, map[string]int64{"core": 0}, js.Shell.RLimit)
		}},
		{"watched jobs stream", []string{"--watch", "--cc=1"}, func(t *testing.T, item api.SubmitItem, _ *jobspec.Jobspec) { require.True(t, item.Watched) }},
		{"a set of ids is one array", []string{"--cc=0-999"}, func(t *testing.T, item api.SubmitItem, _ *jobspec.Jobspec) {
			require.Equal(t, 1000, item.N)
			require.Equal(t, "0-999", item.CC)
			require.False(t, item.BCC)
		}},
		{"bcc", []string{"--bcc=3,5"}, func(t *testing.T, item api.SubmitItem, _ *jobspec.Jobspec) {
			require.Equal(t, "3,5", item.CC)
			require.True(t, item.BCC)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			serveStream(f, api.Attach, func(api.AttachReq, func(api.AttachRep)) error { return nil })
			*req = api.SubmitReq{}
			r := f.frond(append(append([]string{"submit"}, c.args...), "prog", "-n", "x")...)
			require.Equal(t, 0, r.code, r.errout)
			require.Len(t, req.Items, 1)
			require.NotEmpty(t, req.Token)
			js, err := jobspec.Parse(req.Items[0].Spec)
			require.NoError(t, err)
			c.check(t, req.Items[0], js)
		})
	}
}

func TestSubmitErrors(t *testing.T) {
	f := newFakeInstance(t)
	for args, want := range map[string]string{
		"":                         "a command to run is missing",
		"-n0 a":                    "-n/--ntasks",
		"-n x a":                   "-n/--ntasks",
		"-N5 -n2 a":                "5 nodes are more than the 2 tasks",
		"-x a":                     "-N",
		"--urgency=32 a":           "--urgency",
		"--flags=nope a":           `unknown flag "nope"`,
		"--signal=nope a":          "is no signal",
		"--cc=1 --bcc=2 a":         "cannot be combined",
		"--cc=3-1 a":               "--cc",
		"--env=A=$NOSUCHVAR a":     "NOSUCHVAR",
		"--requires=( a":           "--requires",
		"-t xyz a":                 "duration",
		"--rerun=perhaps a":        "--rerun",
		"--nosuch a":               "unknown flag",
		"-S ^x=/no/such/file.js a": "no such file",
		"--rlimit=nope=1 a":        "no limit",
	} {
		r := f.frond(append([]string{"submit"}, strings.Fields(args)...)...)
		require.Equal(t, 1, r.code, args)
		require.Contains(t, r.errout, want, args)
		require.True(t, strings.HasPrefix(r.errout, "frond submit: "), r.errout)
		require.Empty(t, r.out)
	}
	serveCall(f, api.Submit, func(api.SubmitReq) (api.SubmitRep, error) {
		return api.SubmitRep{}, wire.Errorf(wire.Unsatisfiable, "no node has 8 gpus: largest has 4")
	})
	require.Equal(t, result{1, "", "frond submit: no node has 8 gpus: largest has 4\n"}, f.frond("submit", "-g8", "a"))
}

func TestSubmitPrintsIDs(t *testing.T) {
	f := newFakeInstance(t)
	submitting(f)
	require.Equal(t, result{0, "ƒuZZybuNNy\n", ""}, f.frond("submit", "true"))
	require.Equal(t, result{0, "ƒuZZybuNNz\nƒuZZybuNP1\n", ""}, f.frond("submit", "--cc=4,9", "true"), "elements, not the array")
	require.Equal(t, result{0, "ƒuZZybuNNy\n", ""}, f.frond("submit", "--cc=4", "true"), "one id is a single job")
	require.Equal(t, result{0, "", ""}, f.frond("submit", "--quiet", "--cc=1-3", "true"))
	require.Equal(t, "fuZZybuNNy\n", f.frondWith("", map[string]string{"LC_ALL": "C"}, "submit", "true").out)
	require.Equal(t, "{\"ids\":[6731191091817519,6731191091817520]}\n", f.frond("submit", "--json", "--cc=1-2", "true").out)
}

func TestSubmitEnvironmentTravelsOnce(t *testing.T) {
	f := newFakeInstance(t)
	req := submitting(f)
	f.frond("submit", "--env-remove=*", "--env=A=1", "--env=B=$A$A", "--cc=1-100", "true")
	require.Equal(t, []string{"A=1\x00B=11\x00"}, strs(req.Envs))
	require.NotContains(t, string(req.Items[0].Spec), "environment")
	f.frond("submit", "--env-remove=*", "--cc=1-3", "-n{cc}", "true")
	require.Equal(t, []string{""}, strs(req.Envs))
	f.frond("submit", "--env-remove=*", "--env=X={cc}", "--cc=1-2", "true")
	require.Equal(t, []string{"X=1\x00", "X=2\x00"}, strs(req.Envs), "it differs between the jobs")
	require.Equal(t, 2, req.Items[1].Env)
}

func strs(list [][]byte) []string {
	var out []string
	for _, b := range list {
		out = append(out, string(b))
	}
	return out
}

func TestSubmitReplacementInOptionsMakesJobsOfTheirOwn(t *testing.T) {
	f := newFakeInstance(t)
	req := submitting(f)
	r := f.frond("submit", "--cc=2,4", "-n{cc}", "--job-name=j{cc}", "--output=o.{cc}", "prog", "{cc}")
	require.Equal(t, 0, r.code, r.errout)
	require.Len(t, req.Items, 2)
	js, err := jobspec.Parse(req.Items[1].Spec)
	require.NoError(t, err)
	require.Equal(t, 4, js.Request.Slots)
	require.Equal(t, []string{"prog", "4"}, js.Command)
	require.Equal(t, "j4", js.Name)
	require.Equal(t, "o.4", js.Shell.Stdout.Path)
	require.Equal(t, "4", req.Items[1].CC)

	f.frond("submit", "--cc=2,4", "--output=o.{cc}", "prog", "{cc}")
	require.Len(t, req.Items, 1, "in the command and file names the instance replaces it")
}

func TestSubmitManyDifferentGoesInSeveralRequests(t *testing.T) {
	f := newFakeInstance(t)
	submitting(f)
	r := f.frond("submit", "--cc=1-5000", "--job-name=j{cc}", "true")
	require.Equal(t, 0, r.code, r.errout)
	require.Equal(t, 5000, strings.Count(r.out, "\n"))
	require.Equal(t, []string{"job.submit", "job.submit"}, f.called())
}

func TestSubmitDryRun(t *testing.T) {
	f := newFakeInstance(t)
	r := f.frond("submit", "--dry-run", "--env-remove=*", "--env=A=1", "--cc=1-2", "echo", "{cc}")
	require.Equal(t, 0, r.code, r.errout)
	require.Empty(t, f.called())
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	require.Len(t, lines, 2)
	var spec map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &spec))
	system := spec["attributes"].(map[string]any)["system"].(map[string]any)
	require.Equal(t, map[string]any{"A": "1", "FROND_JOB_CC": "2"}, system["environment"])
	js, err := jobspec.Parse([]byte(lines[1]))
	require.NoError(t, err)
	require.Equal(t, []string{"echo", "2"}, js.Command)
}

func TestSubmitWait(t *testing.T) {
	f := newFakeInstance(t)
	submitting(f)
	var asked api.WaitReq
	serveStream(f, api.Wait, func(req api.WaitReq, send func(api.WaitRep)) error {
		asked = req
		send(api.WaitRep{ID: testID, N: 3, Running: 3})
		send(api.WaitRep{ID: testID, N: 3, Completed: 1, Failed: 1, TimedOut: 1, Status: 5 << 8, Done: true, Exception: "type=timeout resource allocation expired"})
		return nil
	})
	r := f.frond("submit", "--wait", "--quiet", "--progress", "--cc=1-3", "true")
	require.Equal(t, result{5, "", "frond submit: ƒuZZybuNNy: 1 of 3 failed, 1 of 3 timed out: exit code 5: exception: type=timeout resource allocation expired\n"}, r)
	require.Equal(t, []jobspec.ID{testID}, asked.IDs, "the array, not its elements")
}

func TestJobSubmit(t *testing.T) {
	f := newFakeInstance(t)
	req := submitting(f)
	spec := f.frond("submit", "--dry-run", "true").out
	require.Equal(t, result{0, "ƒuZZybuNNy\n", ""}, f.frondWith(spec, nil, "job", "submit", "-u", "20"))
	require.Equal(t, 20, req.Items[0].Urgency)
	require.JSONEq(t, spec, string(req.Items[0].Spec))
	for in, want := range map[string]string{
		"":                                "is empty",
		"{":                               "not valid JSON",
		strings.Repeat("[", 100):          "nested deeper",
		`{"version":2}`:                   "version",
		strings.Repeat(" ", 1<<20) + "{}": "larger than the limit",
	} {
		r := f.frondWith(in, nil, "job", "submit", "-")
		require.Equal(t, 1, r.code)
		require.Contains(t, r.errout, want)
	}
	require.Contains(t, f.frond("job", "submit", "/no/such/file").errout, "no such file")
}
