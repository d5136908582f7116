package hostile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

// refused runs a command that must fail with one line that says why.
func (in *instance) refused(t *testing.T, says string, args ...string) {
	t.Helper()
	out, code := in.try(args...)
	require.Equal(t, 1, code, "frond %.200q:\n%s", args, out)
	require.Contains(t, out, says, "frond %.200q", args)
	require.NotContains(t, out, "\n", "one line, no stack and no usage")
}

func badJobspecs(t *testing.T, in *instance) {
	good := in.frond(t, "submit", "--dry-run", "--env-remove=*", "true")
	with := func(old, new string) string {
		require.Contains(t, good, old)
		return strings.Replace(good, old, new, 1)
	}
	for _, row := range []struct{ name, spec, says string }{
		{"nothing", "", "the jobspec is empty"},
		{"blanks", "  \n ", "not valid JSON"},
		{"text", "true", "must be a JSON object"},
		{"an empty object", "{}", "version: is missing"},
		{"a jobspec cut short", good[:len(good)/2], "not valid JSON: it ends too early"},
		{"two jobspecs", good + good, "unexpected text after the end"},
		{"bytes that are no UTF-8", "{\"\xff\xfe\":1}", "not valid UTF-8"},
		{"one over the limit", strings.Repeat(" ", 1<<20) + good, "larger than the limit of 1048576 bytes"},
		{"one that is all brackets", strings.Repeat("[", 500_000), "nested deeper than 32 levels"},
		{"an attribute 40 deep", with(`"attributes":{`, `"attributes":{"user":`+strings.Repeat(`{"a":`, 40)+"1"+strings.Repeat("}", 40)+","), "nested deeper than 32 levels"},
		{"version 2", with(`"version":1`, `"version":2`), "version 2 is not supported"},
		{"version 10^30", with(`"version":1`, `"version":1e30`), "version: "},
		{"a version that is text", with(`"version":1`, `"version":"1"`), "version: must be the number 1"},
		{"no command", with(`"command":["true"]`, `"command":[]`), "tasks[0].command: must name a program"},
		{"a command of numbers", with(`"command":["true"]`, `"command":[1]`), "tasks[0].command[0]: must be a string"},
		{"a command with a NUL", with(`"command":["true"]`, `"command":["tr\u0000ue"]`), "NUL"},
		{"less than no slots", with(`"count":1`, `"count":-1`), "resources[0].count: must be an integer ≥ 1"},
		{"10^18 slots", with(`"count":1`, `"count":1000000000000000000`), "resources[0].count: must be at most"},
		{"a resource that is not there", with(`"type":"core"`, `"type":"moon"`), `"moon" is not possible in a slot`},
		{"a duration before the start", with(`"duration":0`, `"duration":-1`), "attributes.system.duration"},
		{"more slots than there are", with(`"count":1`, `"count":17`), "unsatisfiable request: needs 17 cores; this instance has 16 (see frond start --oversubscribe)"},
		{"2^31-1 slots", with(`"count":1`, `"count":2147483647`), "unsatisfiable request"},
	} {
		t.Run(row.name, func(t *testing.T) {
			out, code := in.tryInput(row.spec, "job", "submit", "-")
			require.Equal(t, 1, code)
			require.Contains(t, out, row.says)
			require.NotContains(t, out, "\n")
			in.serves(t)
			if len(row.spec) < 1<<20 { // the command looks first: now past it
				require.NotEqual(t, wire.Internal, in.submitRaw(t, api.SubmitItem{Spec: []byte(row.spec), Urgency: 16}).Code)
			}
		})
	}
}

// submitRaw is the error for an item of a submission that no command would make.
func (in *instance) submitRaw(t *testing.T, items ...api.SubmitItem) *wire.Error {
	t.Helper()
	_, err := client.Call(t.Context(), in.dial(t, 3), api.Submit, api.SubmitReq{Items: items, Envs: [][]byte{[]byte("A=b\x00")}})
	var we *wire.Error
	require.True(t, errors.As(err, &we), "%v", err)
	require.NotEmpty(t, we.Text)
	return we
}

func badSubmissions(t *testing.T, in *instance) {
	item := func(change func(*api.SubmitItem)) api.SubmitItem {
		it := api.SubmitItem{Spec: in.work, Urgency: 16}
		change(&it)
		return it
	}
	for _, row := range []struct {
		name string
		it   api.SubmitItem
		code wire.Code
		says string
	}{
		{"no jobspec", item(func(it *api.SubmitItem) { it.Spec = nil }), wire.Invalid, "jobspec"},
		{"a jobspec over the limit", item(func(it *api.SubmitItem) { it.Spec = make([]byte, 1<<20+1) }), wire.TooLarge, "1048577 bytes; the limit is 1048576"},
		{"less than no elements", item(func(it *api.SubmitItem) { it.N = -1 }), wire.TooLarge, "1 to 4194304 elements"},
		{"too many elements", item(func(it *api.SubmitItem) { it.N = 1 << 40 }), wire.TooLarge, "1 to 4194304 elements"},
		{"an urgency of 32", item(func(it *api.SubmitItem) { it.Urgency = 32 }), wire.Invalid, "urgency is 0 to 31, not 32"},
		{"an urgency of -1", item(func(it *api.SubmitItem) { it.Urgency = -1 }), wire.Invalid, "urgency"},
		{"an environment that was not sent", item(func(it *api.SubmitItem) { it.Env = 2 }), wire.Invalid, "no environment 2"},
		{"a cc of too few", item(func(it *api.SubmitItem) { it.N, it.CC = 3, "1-2" }), wire.Invalid, "has 2 values for 3 elements"},
		{"a cc of too many to hold", item(func(it *api.SubmitItem) { it.N, it.CC = 3, "0-99999999999999999999" }), wire.Invalid, "cc"},
		{"a cc of noise", item(func(it *api.SubmitItem) { it.N, it.CC = 2, "x,y" }), wire.Invalid, "cc"},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := in.submitRaw(t, row.it)
			require.Equal(t, row.code, e.Code, e.Text)
			require.Contains(t, e.Text, row.says)
			e = in.submitRaw(t, api.SubmitItem{Spec: in.work}, row.it)
			require.Contains(t, e.Text, "submission 2 of 2", "and none of them is accepted")
			in.serves(t)
		})
	}
	require.Equal(t, wire.Invalid, in.submitRaw(t).Code, "a submission of nothing")
	_, err := client.Call(t.Context(), in.dial(t, 0), api.Submit, api.SubmitReq{Items: []api.SubmitItem{{Spec: in.work, Env: 1}}, Envs: [][]byte{[]byte("nonsense")}})
	require.ErrorContains(t, err, "environment 1: does not end with NUL")
	_, err = client.Call(t.Context(), in.dial(t, 0), api.Submit, api.SubmitReq{Token: strings.Repeat("t", 1<<20), Items: []api.SubmitItem{{Spec: in.work}}})
	require.ErrorContains(t, err, "the token has 1048576 bytes; the limit is 256")
	in.serves(t)
}

func badOptions(t *testing.T, in *instance) {
	for _, row := range [][]string{ // what is said, options
		{"is not an integer ≥ 1", "-n", "0"}, {"is not an integer ≥ 1", "-n", "99999999999999999999"}, {"is not an integer ≥ 1", "-c", "-3"},
		{"needs 5 cores in one slot; the largest node has 4", "-c", "5"}, {"needs 5 nodes; this instance has 4", "-N", "5"},
		{"needs 1 gpu; the largest node has 0", "-g", "1"}, {"99 nodes are more than the 1 tasks", "-N99", "-n1"},
		{"is not a duration", "-t", "soon"}, {"is not a duration", "-t", "-5"}, {"is not a number", "--cc=x"}, {"must go upwards", "--cc=5-1"},
		{"1 to 4194304 elements", "--cc=1-99999999"}, {"unexpected", "--requires", "and and"}, {"no node is host nowhere", "--requires", "host:nowhere"},
		{"nested deeper than 32", "--requires", strings.Repeat("(", 5000)}, {"from 0 to 31", "--urgency", "32"}, {"from 0 to 31", "--urgency", "-1"},
		{"from 0 to 31", "--urgency", "high"}, {"KEY=VALUE", "--setattr", ""}, {"no such file", "--setattr", "^a=/no/such"},
		{"cpu-affinity", "-o", "cpu-affinity=moon"}, {"must be yes or no", "--rerun", "maybe"}, {"unknown flag", "--flags", "nonsense"},
		{"no variable name", "--env", "=x"}, {"no such file", "--env-file", "/no/such"}, {"there is no limit", "--rlimit", "nonsense"},
		{"is no signal", "--signal", "FOO"}, {"needs a number of nodes", "-x"}, {"unknown flag", "--no-such-option"},
	} {
		in.refused(t, row[0], append(append([]string{"submit"}, row[1:]...), "true")...)
	}
	in.refused(t, "not valid UTF-8", "submit", "echo", "\xff\xfe")
	in.refused(t, "a command to run is missing", "submit")
	in.refused(t, "a command to run is missing", "run", "")
	in.refused(t, "signal", "kill", "-s", "NONSENSE", in.long.String())
	in.refused(t, "there is no rank 77", "ping", "--rank", "77")
	in.refused(t, "there is no attribute", "getattr", "nonsense")
	in.refused(t, "nonsense", "resource", "drain", "nonsense")
	in.refused(t, "99", "resource", "drain", "99")
	in.refused(t, "unknown command", "nonsense")
	in.refused(t, "no such key", "job", "info", in.long.String(), "nonsense")
}

// unknownIDs asks every verb for jobs that are not there: ids that were never given, those of other instances among them.
func unknownIDs(t *testing.T, in *instance) {
	elsewhere := []string{"1", (in.long + 1).String(), (in.long + 1<<40).String(), jobspec.ID(1<<63 - 1).String()}
	verbs := [][]string{{"wait"}, {"cancel"}, {"kill"}, {"logs"}, {"jobs"}, {"job", "attach"}, {"job", "eventlog"}, {"job", "raise"}, {"job", "wait"},
		{"job", "info", "", "jobspec"}, {"job", "info", "", "R"}, {"job", "info", "", "eventlog"}, {"job", "wait-event", "", "start"}}
	for _, verb := range verbs {
		t.Run(strings.Join(verb, " "), func(t *testing.T) {
			call := func(id string) []string {
				if len(verb) > 2 {
					return []string{verb[0], verb[1], id, verb[3]}
				}
				return append(append([]string{}, verb...), id)
			}
			for _, id := range elsewhere {
				in.refused(t, "unknown", call(id)...)
			}
			in.refused(t, "is not a job id", call("xyz")...)
			in.refused(t, "is not a job id", call("99999999999999999999999999")...)
		})
	}
	in.serves(t)
	in.refused(t, "no instance is called nosuch", "--instance", "nosuch", "jobs")
	in.refused(t, "is no URI of an instance", "--instance", "http://localhost/", "jobs")
	in.refused(t, "no instance at", "--instance", "local:///nowhere/0/local", "jobs")
	in.refused(t, "no instance at", "--instance", "local:///"+strings.Repeat("long/", 100), "jobs")
	in.refused(t, "no instance at", "--instance", "local://"+in.dir, "jobs")
}

func badCommands(t *testing.T, in *instance) {
	plain, script := filepath.Join(in.dir, "plain"), filepath.Join(in.dir, "script")
	require.NoError(t, os.WriteFile(plain, []byte("x"), 0o644))
	require.NoError(t, os.WriteFile(script, []byte("#!/no/such/interpreter\n"), 0o755))
	for _, row := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"a path that does not exist", []string{"/no/such"}, 127, "start failed: /no/such: No such file or directory"},
		{"a name that is not in PATH", []string{"no-such-command"}, 127, "start failed: no-such-command: No such file or directory"},
		{"a script without its interpreter", []string{script}, 127, "No such file or directory"},
		{"a file that is not executable", []string{plain}, 126, "start failed: " + plain + ": Permission denied"},
		{"a directory", []string{in.dir}, 126, "Permission denied"},
		{"a path through a file", []string{plain + "/x"}, 126, "Not a directory"},
		{"a directory to work in that does not exist", []string{"--cwd=/no/such", "true"}, 1, "start failed: working directory /no/such: No such file or directory"},
		{"an output file that cannot be made", []string{"--output=/no/such/out", "true"}, 1, "start failed: output file /no/such/out: No such file or directory"},
		{"an input file that does not exist", []string{"--input=/no/such", "true"}, 1, "start failed: input file /no/such: No such file or directory"},
	} {
		for _, width := range []string{"-N1", "-N4"} {
			t.Run(row.name+" "+width, func(t *testing.T) {
				out, code := in.try(append([]string{"run", width, "-n" + width[2:]}, row.args...)...)
				require.Equal(t, row.code, code, out)
				require.Contains(t, out, row.says)
			})
		}
		in.serves(t)
	}
	for _, n := range []int{2, 50} {
		out, code := in.try("submit", "--quiet", "--wait", fmt.Sprintf("--cc=1-%d", n), "/no/such")
		require.Equal(t, 127, code, out)
	}
}
