package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

// printed is a command that prints JSON, with the schema of each of its values and command lines that show what it can print.
type printed struct {
	verb, about string
	lines       []string        // for the shell
	free        map[string]bool // objects whose keys are data, as .field[].field; with a * in front, what is any JSON
}

var printers = []printed{
	{"submit", "ids of the jobs that were submitted", []string{"frond submit --json true", "frond submit --json --cc=1-3 true"}, nil},
	{"batch", "id of the job that was submitted", []string{"frond batch --json --output=/dev/null --wrap true"}, nil},
	{"job submit", "id of the job that was submitted", []string{"frond submit --dry-run true | frond job submit --json"}, nil},
	{"cancel", "how many jobs were meant, and errors by id", []string{"frond cancel --json $(frond submit sleep 9)", "frond cancel --json $DONE || true"}, map[string]bool{".errors": true}},
	{"job cancel", "how many jobs were meant, and errors by id", []string{"frond job cancel --json $(frond submit sleep 9)"}, map[string]bool{".errors": true}},
	{"job raise", "how many jobs were meant, and errors by id", []string{"frond job raise --json $(frond submit sleep 9)", "frond job raise --json $DONE || true"}, map[string]bool{".errors": true}},
	{"kill", "how many jobs were meant, and errors by id", []string{"frond kill --json $SLEEP", "frond kill --json $DONE || true"}, map[string]bool{".errors": true}},
	{"job kill", "how many jobs were meant, and errors by id", []string{"frond job kill --json $SLEEP"}, map[string]bool{".errors": true}},
	{"wait", "a line for each job as it ends", []string{"frond wait --json $DONE $FAILED || true"}, nil},
	{"job wait", "a line for each job as it ends", []string{"frond job wait --json $DONE || true"}, nil},
	{"jobs", "jobs; with a single id the bare object of that job", []string{"frond jobs -a --json", "frond jobs --json $DONE $FAILED $SLEEP"}, map[string]bool{".jobs[].annotations.user": true, ".jobs[].errors": true}},
	{"logs", "a line for each piece of output", []string{"frond logs --json $DONE $FAILED", "frond logs --json $LABEL"}, nil},
	{"explain", "a line for each job", []string{"frond explain --json $DONE", "frond explain --json $SLEEP $BLOCKED"}, nil},
	{"report", "arrays, and single jobs by name", []string{"frond report --json"}, nil},
	{"bulksubmit", "ids of the jobs that were submitted", []string{"frond bulksubmit --json true ::: a b"}, nil},
	{"retry", "the jobs that run again: id before, id now, how many", []string{"frond retry --json $FAILED"}, nil},
	{"job killall", "how many jobs were meant, and whether they were signalled", []string{"frond job killall --json"}, nil},
	{"job raiseall", "how many jobs were meant, and whether it was done", []string{"frond job raiseall --json cancel"}, nil},
	{"job purge", "how many jobs were purged, could be, and are left of those that have ended", []string{"frond job purge --json --num-limit=100", "frond job purge --json -f --age-limit=1h"}, nil},
	{"job memo", "how many jobs were meant, and errors by id", []string{"frond job memo --json $BLOCKED k=v"}, map[string]bool{".errors": true}},
	{"job timeleft", "seconds left", []string{"frond job timeleft --json $LIMITED"}, nil},
	{"job urgency", "how many jobs were meant, and errors by id", []string{"frond job urgency --json $BLOCKED 20"}, map[string]bool{".errors": true}},
	{"update", "how many jobs were meant, and errors by id", []string{"frond update --json $BLOCKED duration=10m"}, map[string]bool{".errors": true}},
	{"pkill", "how many jobs were meant, and errors by id", []string{"frond pkill --json named"}, map[string]bool{".errors": true}},
	{"split", "branches, and their numbers by level", []string{"frond split --json"}, nil},
	{"queue list", "queues", []string{"frond queue list --json"}, nil},
	{"queue status", "queues", []string{"frond queue status --json"}, nil},
	{"queue stop", "the queue as it is then", []string{"frond queue stop --json -m why"}, nil},
	{"queue start", "the queue as it is then", []string{"frond queue start --json"}, nil},
	{"queue disable", "the queue as it is then", []string{"frond queue disable --json -m why"}, nil},
	{"queue enable", "the queue as it is then", []string{"frond queue enable --json"}, nil},
	{"pgrep", "jobs", []string{"frond pgrep -a --json ."}, map[string]bool{".jobs[].annotations.user": true, ".jobs[].errors": true}},
	{"job status", "a line for each job", []string{"frond job status --json $DONE", "frond job status --json $FAILED || true"}, nil},
	{"event sub", "a line for each event; payload is what was published, bytes where it is no JSON", []string{untilDone("event sub --json --count=3 my.", "event pub my.t '{\"a\":1}'", "event pub --raw my.t x", "event pub my.t")}, map[string]bool{"*.payload": true}},
	{"kvs dir", "a line for each key; values are base64", []string{"frond kvs put d.a=1 d.b.c=2; frond kvs link d.a d.l; frond kvs dir -R --json"}, nil},
	{"kvs watch", "a line for each change; values are base64", []string{"frond kvs mkdir w; " + untilDone("kvs watch --json --count=2 w", "kvs put w.z=3", "kvs unlink w.z")}, nil},
	{"kvs namespace list", "namespaces", []string{"frond kvs namespace list --json"}, nil},
	{"list", "instances", []string{"frond start --boot=none --detach --name other --listen tcp://127.0.0.1:0 --statedir state >/dev/null; frond list --json; frond shutdown other"}, nil},
	{"config show", "settings by key", []string{"frond config show --json"}, map[string]bool{"": true}},
	{"overlay status", "brokers", []string{"frond overlay status --json"}, nil},
	{"resource list", "nodes by state", []string{"frond resource list --json"}, nil},
	{"resource status", "nodes", []string{"frond resource status --json"}, nil},
	{"resource drain", "drained nodes", []string{"frond resource drain node1 'bad disk' && frond resource drain --json; frond resource undrain node1"}, nil},
	{"resource info", "how many nodes, cores and gpus there are", []string{"frond resource info --json"}, nil},
	{"uptime", "since when the instance runs, and what is amiss", []string{"frond uptime --json"}, nil},
	{"version", "versions, and where the broker is", []string{"frond version --json", "FROND_URI= FROND_HOME=$PWD/none frond version --json"}, nil},
	{"lsattr", "attributes by name", []string{"frond lsattr --json"}, map[string]bool{"": true}},
	{"dmesg", "a line for each entry of the log", []string{"frond dmesg --json"}, map[string]bool{"": true}},
	{"queue idle", "how many jobs there are, by state", []string{"frond cancel --quiet --all; frond queue idle --json"}, nil},
	{"queue drain", "how many jobs there are, by state", []string{"frond queue drain --json"}, nil},
}

// untilDone runs a command in the background and others until it has ended; then it prints what it printed.
func untilDone(command string, others ...string) string {
	return "frond " + command + " >out & s=$!; while kill -0 $s; do frond " + strings.Join(others, "; frond ") + "; done; cat out"
}

const prepare = `exec 2>/dev/null
DONE=$(frond submit --wait sh -c 'echo out; echo err >&2'); FAILED=$(frond submit --wait sh -c 'exit 3' || true)
LABEL=$(frond submit --wait -n2 echo two)
frond submit --wait --quiet --cc=1-3 sh -c 'test {cc} != 2'
frond cancel $(frond submit sleep 20)
frond run true
LIMITED=$(frond submit -t 1h --job-name named sleep 20); SLEEP=$(frond submit sleep 20); BLOCKED=$(frond submit -N2 sleep 20)
until [ "$(frond jobs -n -o {state} $SLEEP)" = RUN ]; do sleep 0.02; done
`

// values runs command lines in one instance and returns the JSON values that each printed.
func values(t *testing.T, lines []string) [][]any {
	dir, err := os.MkdirTemp("", "fd")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Cleanup(func() { harness.KillAll(dir) })
	script := prepare
	for _, l := range lines {
		script += "\necho; echo '" + mark + "0'\n" + l + "\n"
	}
	cmd := exec.Command(filepath.Join(harness.BinDir(), "frond"), "start", "--boot=none", "-n2", "--resources", "node[2]/core[2],gpu[1]", "--on-exit=cancel", "--", "bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(harness.Environ(dir), "LC_ALL=C.UTF-8", "SLURM_JOB_ID=7")
	timer := time.AfterFunc(time.Minute, func() { harness.KillAll(dir) })
	defer timer.Stop()
	out, err := cmd.Output()
	require.NoError(t, err, string(out))
	parts := strings.Split(string(out), mark+"0\n")[1:]
	require.Len(t, parts, len(lines))
	all := make([][]any, len(parts))
	for i, p := range parts {
		dec := json.NewDecoder(strings.NewReader(p))
		dec.UseNumber()
		for {
			var v any
			err := dec.Decode(&v)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, "%s prints no JSON:\n%s", lines[i], p)
			all[i] = append(all[i], v)
		}
		require.NotEmpty(t, all[i], "%s prints nothing", lines[i])
	}
	return all
}

func schemaFile(verb string) string {
	return filepath.Join("../../docs/schema", strings.ReplaceAll(verb, " ", "-")+".json")
}

// TestSchemas: what commands print is as docs/schema says. UPDATE=1 rewrites the schemas from what is printed.
func TestSchemas(t *testing.T) {
	var lines []string
	for _, p := range printers {
		lines = append(lines, p.lines...)
	}
	got := values(t, lines)
	for _, p := range printers {
		var seen []any
		for range p.lines {
			seen, got = append(seen, got[0]...), got[1:]
		}
		if os.Getenv("UPDATE") != "" {
			update(t, p, seen)
		}
		data, err := os.ReadFile(schemaFile(p.verb))
		require.NoError(t, err)
		s := new(schema)
		require.NoError(t, json.Unmarshal(data, s))
		for _, v := range seen {
			require.NoError(t, s.check("", v), "frond %s --json", p.verb)
		}
	}
	files, err := filepath.Glob("../../docs/schema/*.json")
	require.NoError(t, err)
	require.Len(t, files, len(printers), "a schema belongs to no command")
}

func update(t *testing.T, p printed, seen []any) {
	s := infer("", seen, p.free)
	s.Schema, s.Title, s.Description = "https://json-schema.org/draft/2020-12/schema", "frond "+p.verb+" --json", p.about
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	require.NoError(t, enc.Encode(s))
	require.NoError(t, os.MkdirAll("../../docs/schema", 0o755))
	require.NoError(t, os.WriteFile(schemaFile(p.verb), b.Bytes(), 0o644))
}

var commandRE = regexp.MustCompile(`(?m)^  ([a-zA-Z][a-zA-Z-]*) {2,}\S`)

// printing lists the commands below verb whose help has --json.
func printing(t *testing.T, verb []string) []string {
	out, err := exec.Command(filepath.Join(harness.BinDir(), "frond"), append(slices.Clone(verb), "--help")...).Output()
	require.NoError(t, err)
	head, flags, _ := strings.Cut(string(out), "\nFlags:\n")
	var list []string
	if regexp.MustCompile(`(?m)^ +(-\w, )?--json`).MatchString(flags) {
		list = append(list, strings.Join(verb, " "))
	}
	if _, examples, ok := strings.Cut(head, "\nExamples:\n"); ok {
		_, head, _ = strings.Cut(examples, "\n\n")
	}
	for _, m := range commandRE.FindAllStringSubmatch(head, -1) {
		if m[1] != "help" && len(verb) < 3 {
			list = append(list, printing(t, append(slices.Clone(verb), m[1]))...)
		}
	}
	return list
}

func TestEveryCommandThatPrintsJSONHasASchema(t *testing.T) {
	var have []string
	for _, p := range printers {
		have = append(have, p.verb)
	}
	list := printing(t, nil)
	require.Contains(t, list, "jobs")
	require.Contains(t, list, "resource list")
	for _, verb := range list {
		if !slices.Contains(have, verb) {
			t.Errorf("frond %s has --json but no schema in docs/schema: add it to test/docs/schema_test.go and run it with UPDATE=1", verb)
		}
	}
	no := any(false)
	s := schema{Type: "object", Properties: map[string]*schema{"a": {Type: "integer"}}, Required: []string{"a"}, Additional: &no}
	require.NoError(t, s.check("", map[string]any{"a": json.Number("1")}))
	require.Error(t, s.check("", map[string]any{"a": "1"}))
	require.Error(t, s.check("", map[string]any{}))
	require.Error(t, s.check("", map[string]any{"a": json.Number("1"), "b": nil}))
}
