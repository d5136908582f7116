package jobspec

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const full = `{"version":1,
 "resources":[{"type":"node","count":2,"exclusive":true,"with":[
   {"type":"slot","count":3,"label":"main","with":[
     {"type":"core","count":4},{"type":"gpu","count":1},{"type":"memory","count":2,"unit":"GiB"}]}]}],
 "tasks":[{"command":["/opt/bin/app","-v"],"slot":"main","count":{"total":5}}],
 "attributes":{"user":{"tag":12345678901234567890},"system":{"duration":3600.0,"cwd":"/home/u","environment":{"PATH":"/bin","GONE":null},
   "queue":"debug","rerun":false,
   "shell":{"options":{"rlimit":{"core":0,"nofile":-1},"output":{"mode":"append","stdout":{"type":"file","path":"out.{{id}}","label":true}},
     "input":{"stdin":{"type":"file","path":"in"}},"cpu-affinity":"per-task","gpu-affinity":"off","umask":"027","nice":5,
     "signal":{"signum":12,"timeleft":"1m"},"kill-timeout":"2.5s","exit-timeout":"none","exit-on-error":1,"verbose":2}},
   "exec":{"test":{"run_duration":"0.01s","wait_status":256}},
   "dependencies":[],
   "constraints":{"properties":["ssd","^slow"]}}}}`

func TestParseReadsEveryField(t *testing.T) {
	js, err := Parse([]byte(full))
	require.NoError(t, err)
	require.Equal(t, Request{Nodes: 2, Slots: 3, Cores: 4, GPUs: 1, MemMiB: 2048, Exclusive: true}, js.Request)
	require.Equal(t, []string{"/opt/bin/app", "-v"}, js.Command)
	require.Equal(t, TaskCount{Total: 5}, js.TaskCount)
	require.Equal(t, 3600.0, js.Duration)
	require.Equal(t, "/home/u", js.Cwd)
	require.Equal(t, map[string]string{"PATH": "/bin"}, js.Environment)
	require.Equal(t, []string{"GONE"}, js.EnvUnset)
	require.Equal(t, "app", js.Name)
	require.Equal(t, "debug", js.Queue)
	require.False(t, js.Rerun)
	require.Equal(t, &TestExec{RunDuration: 0.01, WaitStatus: 256}, js.Test)
	require.Equal(t, ShellOptions{
		Stdout: Output{Path: "out.{{id}}", Append: true, Label: true}, Stderr: Output{Path: "out.{{id}}", Append: true, Label: true},
		Stdin: "in", CPUAffinity: "per-task", GPUAffinity: "off", RLimit: map[string]int64{"core": 0, "nofile": -1}, Umask: 0o27, Nice: 5,
		Signal: 12, SignalLeft: 60, KillTimeout: 2.5, ExitTimeout: -1, ExitOnError: true, Label: true, Verbose: 2,
	}, js.Shell)
	require.NotContains(t, js.System, "environment")
	require.Equal(t, json.Number("12345678901234567890"), js.User["tag"], "large integers are not rounded")
}

const small = `{"version":1,"resources":[{"type":"slot","count":1,"label":"task","with":[{"type":"core","count":1}]}],` +
	`"tasks":[{"command":["true"],"slot":"task","count":{"per_slot":1}}],"attributes":{"system":{"duration":0}}}`

func TestParseGivesDefaults(t *testing.T) {
	js, err := Parse([]byte(small))
	require.NoError(t, err)
	require.True(t, js.Rerun)
	require.Equal(t, "true", js.Name)
	require.Nil(t, js.Test)
	require.Nil(t, js.Constraint)
	require.Nil(t, js.Environment)
	require.Equal(t, ShellOptions{CPUAffinity: "on", GPUAffinity: "on", Umask: -1, KillTimeout: 5, ExitTimeout: 30}, js.Shell)
}

// edit returns the small jobspec with one piece of its text replaced.
func edit(t *testing.T, old, new string) []byte {
	t.Helper()
	require.Contains(t, small, old)
	return []byte(strings.Replace(small, old, new, 1))
}

func TestParseNamesThePlaceOfAnError(t *testing.T) {
	core, sys := `{"type":"core","count":1}`, `"duration":0`
	for _, c := range []struct{ old, new, want string }{
		{`"version":1`, `"version":2`, "jobspec: version: version 2 is not supported; only version 1 is"},
		{`"version":1,`, ``, "jobspec: version: is missing; it must be 1"},
		{`"version":1`, `"version":"1"`, "jobspec: version: must be the number 1"},
		{`"version":1`, `"version":1,"x":1`, "jobspec: x: is not a known key"},
		{core, `{"type":"core","count":0}`, "jobspec: resources[0].with[0].count: must be an integer ≥ 1"},
		{core, `{"type":"core","count":1.5}`, "resources[0].with[0].count: must be an integer ≥ 1"},
		{core, `{"type":"core","count":{"min":1}}`, "resources[0].with[0].count: must be an integer ≥ 1"},
		{core, `{"type":"core","count":99999999999999999999}`, "resources[0].with[0].count: must be at most 2147483647"},
		{core, `{"type":"core"}`, "resources[0].with[0].count: must be an integer ≥ 1"},
		{core, `{"type":"gpu","count":1}`, "resources[0].with: must have a core"},
		{core, core + "," + core, "resources[0].with[1]: appears twice"},
		{core, core + `,{"type":"disk","count":1}`, `resources[0].with[1].type: "disk" is not possible in a slot`},
		{core, core + `,{"type":"memory","count":1,"unit":"pages"}`, `resources[0].with[1].unit: unknown unit "pages"`},
		{core, core + `,{"type":"memory","count":9000,"unit":"TiB"}`, `resources[0].with[1].unit: 9000 TiB is more`},
		{core, "7", "resources[0].with[0]: must be an object"},
		{`"type":"slot"`, `"type":"rack"`, `resources[0].type: "rack" is not possible here`},
		{`"type":"slot"`, `"type":"node"`, "resources[0].with[0].type: \"core\" is not possible here"},
		{`"label":"task",`, ``, "resources[0].label: is missing"},
		{`"slot":"task"`, `"slot":"other"`, `tasks[0].slot: there is no slot "other"`},
		{`["true"]`, `[]`, "tasks[0].command: must name a program"},
		{`["true"]`, `["a",3]`, "tasks[0].command[1]: must be a string"},
		{`["true"]`, `["a\u0000"]`, "tasks[0].command[0]: must not contain a NUL"},
		{`{"per_slot":1}`, `{"per_slot":1,"total":1}`, "tasks[0].count: must have either"},
		{`{"per_slot":1}`, `{"total":2}`, "tasks[0].count.total: is 2, but must be between the number of nodes, 0, and that of slots, 1"},
		{sys, `"x":0`, "attributes.system.duration: is missing"},
		{sys, `"duration":-1`, "attributes.system.duration: must be a number of seconds from 0"},
		{sys, sys + `,"cwd":"here"`, "attributes.system.cwd: must be an absolute path"},
		{sys, sys + `,"environment":{"A=B":"x"}`, `attributes.system.environment: "A=B" cannot be the name`},
		{sys, sys + `,"environment":{"A":1}`, `attributes.system.environment.A: must be a string`},
		{sys, sys + `,"rerun":"no"`, "attributes.system.rerun: must be true or false"},
		{sys, sys + `,"dependencies":[{"scheme":"afterok"}]`, "attributes.system.dependencies.0: afterok: \"\" is not a job id"},
		{sys, sys + `,"dependencies":[{"scheme":"before","value":"f1"}]`, `attributes.system.dependencies.0: unknown dependency scheme "before"`},
		{sys, sys + `,"dependencies":[{"scheme":"aftercorr","value":"f1:3"}]`, "aftercorr is between whole arrays"},
		{sys, sys + `,"dependencies":[{"scheme":"singleton"}]`, "singleton needs a name"},
		{sys, sys + `,"dependencies":[{"scheme":"begin-time","value":"noon"}]`, "begin-time:noon is not a time"},
		{sys, sys + `,"constraints":{"and":[{"color":["x"]}]}`, `attributes.system.constraints.and[0].color: unknown operator "color"`},
		{sys, sys + `,"constraints":{"ranks":["3-1"]}`, `attributes.system.constraints.ranks: idset "3-1"`},
		{sys, sys + `,"shell":{"options":{"rlimit":{"foo":1}}}`, `attributes.system.shell.options.rlimit: there is no limit "foo"`},
		{sys, sys + `,"shell":{"options":{"cpu-affinity":"maybe"}}`, `attributes.system.shell.options.cpu-affinity: must be on`},
		{sys, sys + `,"shell":{"options":{"per-resource":{"type":"gpu"}}}`, `attributes.system.shell.options.per-resource.type: must be node or core`},
		{sys, sys + `,"shell":{"options":{"output":{"stdout":{"type":"file"}}}}`, `attributes.system.shell.options.output.stdout.path: is missing`},
		{sys, sys + `,"shell":{"options":{"output":{"stdout":{"type":"tape"}}}}`, `output.stdout.type: "tape" is unknown`},
		{sys, sys + `,"exec":{"test":{"run_duration":"soon"}}`, `attributes.system.exec.test.run_duration: "soon" is not a duration`},
	} {
		_, err := Parse(edit(t, c.old, c.new))
		require.ErrorContains(t, err, c.want)
	}
}

func TestParseRefusesTextThatIsNoJobspec(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "jobspec is not valid JSON: it ends too early",
		"[]":                     "jobspec: must be a JSON object",
		"{":                      "it ends too early",
		`{"a":1}}`:               "unexpected text after the end",
		`{"a" 1}`:                "a colon is missing at line 1",
		"{\"a\":\x01}":           "a value is missing",
		"\"\xff\"":               "is not valid UTF-8",
		`{"a":01}`:               "malformed number",
		`{"a":1e999}`:            "too large",
		strings.Repeat("[", 100): "is nested deeper than 32 levels",
		`"` + strings.Repeat("x", MaxBytes) + `"`: "the limit is 1048576",
	} {
		_, err := Parse([]byte(text))
		require.ErrorContains(t, err, want, clip(text))
	}
}

func TestEveryRequiredKeyIsMissed(t *testing.T) {
	for _, key := range []string{"version", "resources", "tasks", "attributes", "type", "count", "label", "with", "command", "slot", "system", "duration"} {
		data := strings.Replace(small, `"`+key+`":`, `"zz`+key+`":`, 1)
		_, err := Parse([]byte(data))
		require.Error(t, err, key)
	}
}

// same compares two jobspecs by their canonical forms and by the fields made from them.
func same(t require.TestingT, a, b *Jobspec) {
	ja, err := a.JSON()
	require.NoError(t, err)
	jb, err := b.JSON()
	require.NoError(t, err)
	require.JSONEq(t, string(ja), string(jb))
	require.Equal(t, a, b)
}

func TestJSONReadsBackTheSame(t *testing.T) {
	emptyEnv := string(edit(t, `"duration":0`, `"duration":0,"environment":{},"job":{},"constraints":{}`))
	for _, text := range []string{full, small, emptyEnv} {
		js, err := Parse([]byte(text))
		require.NoError(t, err)
		b, err := js.JSON()
		require.NoError(t, err)
		back, err := Parse(b)
		require.NoError(t, err)
		same(t, js, back)
		require.NoError(t, js.Validate())
	}
}

func TestPropJSONReaderAgreesWithTheStandardOne(t *testing.T) {
	leaf := rapid.OneOf(rapid.Just("null"), rapid.Just("true"), rapid.Just("-0.5e3"), rapid.Just("123456789012"),
		rapid.Map(rapid.String(), func(s string) string { b, _ := json.Marshal(s); return string(b) }),
		rapid.SampledFrom([]string{`"\ud83d\ude00"`, `"\ud83d"`, `"\u00e9\/\b"`, `""`, `"\ud83dx"`, `"\ud83d\u0041"`}))
	var value func(depth int) *rapid.Generator[string]
	value = func(depth int) *rapid.Generator[string] {
		if depth == 0 {
			return leaf
		}
		return rapid.Custom(func(t *rapid.T) string {
			items := rapid.SliceOfN(value(depth-1), 0, 4).Draw(t, "items")
			if rapid.Bool().Draw(t, "array") {
				return "[" + strings.Join(items, " ,\n") + "]"
			}
			for i := range items {
				items[i] = fmt.Sprintf(`"k%d" : %s`, i%3, items[i])
			}
			return "{" + strings.Join(items, ",") + "}"
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		text := value(3).Draw(t, "text")
		var want any
		require.NoError(t, json.Unmarshal([]byte(text), &want))
		got, err := decodeJSON([]byte(text))
		require.NoError(t, err)
		require.Equal(t, want, toMaps(got))
	})
}

func TestARepeatedKeyCountsOnceAndTheLastOneWins(t *testing.T) {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, `,"k%d":%d`, i%40, i)
	}
	got, err := decodeJSON([]byte("{" + b.String()[1:] + "}"))
	require.NoError(t, err)
	require.Len(t, got, 40)
	require.Equal(t, 99.0, got.(object).get("k19"))
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{full, small, "", "{}", "[[", `{"version":1e0}`, `{"a":"\ud800"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := decodeJSON(data)
		var std any
		if err == nil {
			require.NoError(t, json.Unmarshal(data, &std), "accepts what encoding/json does not: %v", v)
		}
		js, err := Parse(data)
		if err != nil {
			return
		}
		b, err := js.JSON()
		require.NoError(t, err)
		back, err := Parse(b)
		require.NoError(t, err)
		same(t, js, back)
	})
}

func BenchmarkParseSmall(b *testing.B) {
	data := []byte(small)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseFull(b *testing.B) {
	data := []byte(full)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func TestMemoryIsReadAsPeopleWriteIt(t *testing.T) {
	for text, want := range map[string]int64{"500": 500, "500M": 500, "500m": 500, "2G": 2048, "1.5g": 1536, "1T": 1 << 20, "1GB": 954, "1GiB": 1024,
		"1K": 1, "1B": 1, "1e3": 1000} {
		mib, err := ParseMemory(text)
		require.NoError(t, err, text)
		require.Equal(t, want, mib, text)
	}
	for _, text := range []string{"", "0", "-1G", "G", "1X", "1mib", "NaN", "inf", "0x10", "1_0", "1e30", "1GG", "4096T"} {
		_, err := ParseMemory(text)
		require.Error(t, err, text)
	}
}
