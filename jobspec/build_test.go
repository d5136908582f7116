package jobspec

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestBuildFollowsFluxForTheShapeOfAJob(t *testing.T) {
	for name, c := range map[string]struct {
		o     Options
		want  Request
		count TaskCount
	}{
		"nothing is one task on one core":          {Options{}, Request{Slots: 1, Cores: 1}, TaskCount{PerSlot: 1}},
		"-n4 -c2 -g1":                              {Options{NTasks: 4, CoresPerTask: 2, GPUsPerTask: 1}, Request{Slots: 4, Cores: 2, GPUs: 1}, TaskCount{PerSlot: 1}},
		"-N2 -n4":                                  {Options{Nodes: 2, NTasks: 4}, Request{Nodes: 2, Slots: 2, Cores: 1}, TaskCount{PerSlot: 1}},
		"-N2 -n5 wastes a slot":                    {Options{Nodes: 2, NTasks: 5}, Request{Nodes: 2, Slots: 3, Cores: 1}, TaskCount{Total: 5}},
		"-N3 alone takes whole nodes":              {Options{Nodes: 3}, Request{Nodes: 3, Slots: 1, Cores: 1, Exclusive: true}, TaskCount{PerSlot: 1}},
		"-N1 -n1 -x":                               {Options{Nodes: 1, NTasks: 1, Exclusive: true}, Request{Nodes: 1, Slots: 1, Cores: 1, Exclusive: true}, TaskCount{PerSlot: 1}},
		"--cores=4":                                {Options{Cores: 4}, Request{Slots: 4, Cores: 1}, TaskCount{PerSlot: 1}},
		"-N2 --cores=4":                            {Options{Nodes: 2, Cores: 4}, Request{Nodes: 2, Slots: 1, Cores: 2}, TaskCount{PerSlot: 1}},
		"-N2 --tasks-per-node=3":                   {Options{Nodes: 2, TasksPerNode: 3}, Request{Nodes: 2, Slots: 1, Cores: 1, Exclusive: true}, TaskCount{PerNode: 3}},
		"-n2 --mem=1.5G is for each slot":          {Options{NTasks: 2, Mem: "1.5G"}, Request{Slots: 2, Cores: 1, MemMiB: 1536}, TaskCount{PerSlot: 1}},
		"-g 0.25":                                  {Options{GPUPart: "0.25"}, Request{Slots: 1, Cores: 1, GPUPart: 25}, TaskCount{PerSlot: 1}},
		"--resource=b=2 --resource=a":              {Options{Counters: []string{"b=2", "a"}}, Request{Slots: 1, Cores: 1, Counters: "a=1,b=2"}, TaskCount{PerSlot: 1}},
		"--cores=4 --tasks-per-core=2":             {Options{Cores: 4, TasksPerCore: 2}, Request{Slots: 4, Cores: 1}, TaskCount{PerCore: 2}},
		"-N2 --gpus-per-node=1 --tasks-per-node=1": {Options{Nodes: 2, GPUsPerNode: 1, TasksPerNode: 1}, Request{Nodes: 2, Slots: 1, Cores: 1, GPUs: 1, Exclusive: true}, TaskCount{PerNode: 1}},
	} {
		c.o.Command = []string{"app"}
		js, err := Build(c.o)
		require.NoError(t, err, name)
		require.Equal(t, c.want, js.Request, name)
		require.Equal(t, c.count, js.TaskCount, name)
	}
}

func TestBuildSaysWhatIsWrong(t *testing.T) {
	for want, o := range map[string]Options{
		"3 nodes are more than the 2 tasks":                                     {Nodes: 3, NTasks: 2},
		"-x/--exclusive needs a number of nodes":                                {Exclusive: true},
		"cannot be combined with --cores":                                       {NTasks: 1, Cores: 2},
		"5 cores cannot be divided evenly over 2":                               {Nodes: 2, Cores: 5},
		"need --cores or -N":                                                    {TasksPerNode: 2},
		"--gpus-per-node needs a number of nodes":                               {Cores: 2, GPUsPerNode: 2},
		"--tasks-per-core cannot be combined":                                   {Nodes: 2, TasksPerNode: 2, TasksPerCore: 2},
		`time limit: "soon" is not a duration`:                                  {TimeLimit: "soon"},
		"--rerun must be yes or no":                                             {Rerun: "perhaps"},
		"--requires: constraint \"(a\"":                                         {Requires: []string{"(a"}},
		"--signal: \"x\" is not a signal":                                       {Signal: "x@1m"},
		"-o/--setopt: \"=1\" must be KEY=VALUE":                                 {Setopt: []string{"=1"}},
		"-S/--setattr duration.x=1: duration is not":                            {Setattr: []string{"duration.x=1"}},
		`--mem: "much" is not an amount of memory`:                              {Mem: "much"},
		"-g 1.5: gpus are given whole":                                          {GPUPart: "1.5"},
		"-g: a part of a gpu has at most two digits":                            {GPUPart: "0.125"},
		"--resource: x: \"0\" is not an integer":                                {Counters: []string{"x=0"}},
		"--resource: \"a b\" must be NAME=N":                                    {Counters: []string{"a b"}},
		"--min-time needs a time limit":                                         {MinTime: "5"},
		"system.min-duration: needs a time limit (duration) that is no shorter": {TimeLimit: "1m", MinTime: "5m"},
		"no such file":                                 {Setattr: []string{"^user.x=f"}, ReadFile: func(string) ([]byte, error) { return nil, errors.New("no such file") }},
		"nested deeper than 32 levels":                 {Requires: []string{strings.Repeat("not ", 20) + "x"}},
		"attributes.system.cwd: must be an absolute":   {Cwd: "here"},
		`"/d\xff" is not valid UTF-8`:                  {Cwd: "/d\xff"},
		"attributes.system.duration: must be a number": {Setattr: []string{"duration=forever"}},
	} {
		o.Command = []string{"app"}
		_, err := Build(o)
		require.ErrorContains(t, err, want)
	}
	_, err := Build(Options{})
	require.ErrorContains(t, err, "a command is missing")
}

func TestBuildSetsAttributesAndOptions(t *testing.T) {
	js, err := Build(Options{
		Command: []string{"/bin/app"}, TimeLimit: "1.5h", JobName: "x", Output: "o.{{id}}", Error: "e", Input: "in", Label: true, Unbuffered: true,
		Cwd: "/tmp", Rerun: "no", Requires: []string{"ssd", "host:n[1-2]"}, Signal: "@10s",
		Setattr: []string{"exec.test.run_duration=0.01s", "user.tag={\"a\":[1]}", "system.project=p", ".bank=b", "attributes.user.k"},
		Setopt:  []string{"exit-on-error", "cpu-affinity=per-task", "verbose=2"}, RLimit: map[string]int64{"nofile": -1},
		Environment: map[string]string{"A": "b"},
	})
	require.NoError(t, err)
	require.Equal(t, 5400.0, js.Duration)
	require.Equal(t, "x", js.Name)
	require.Equal(t, Output{Path: "o.{{id}}", Label: true}, js.Shell.Stdout)
	require.Equal(t, Output{Path: "e", Label: true}, js.Shell.Stderr)
	require.Equal(t, "in", js.Shell.Stdin)
	require.True(t, js.Shell.Unbuffered)
	require.True(t, js.Shell.ExitOnError)
	require.Equal(t, "per-task", js.Shell.CPUAffinity)
	require.Equal(t, map[string]int64{"nofile": -1}, js.Shell.RLimit)
	require.Equal(t, 10, js.Shell.Signal)
	require.Equal(t, 10.0, js.Shell.SignalLeft)
	require.False(t, js.Rerun)
	require.Equal(t, 0.01, js.Test.RunDuration)
	require.Equal(t, map[string]any{"tag": map[string]any{"a": []any{1.0}}, "k": 1.0}, js.User)
	require.Equal(t, "p", js.System["project"])
	require.Equal(t, "b", js.System["bank"])
	require.Equal(t, map[string]string{"A": "b"}, js.Environment)
	require.Equal(t, `and(properties("ssd"),hostlist("n[1-2]"))`, js.Constraint.Key())
}

func TestACommandThatJSONCannotHoldIsRefused(t *testing.T) {
	_, err := Build(Options{Command: []string{"echo", "a", "\xff\xfeb"}})
	require.ErrorContains(t, err, `argument 2 of the command, "\xff\xfeb", is not valid UTF-8`)
}

func TestPropBuiltJobspecsReadBackTheSame(t *testing.T) {
	count := rapid.Map(rapid.IntRange(0, 5), func(n int) Count { return Count(n) })
	text := rapid.SampledFrom([]string{"", "", "a", "x.{{id}}"})
	rapid.Check(t, func(t *rapid.T) {
		o := Options{
			Command: rapid.SliceOfN(rapid.SampledFrom([]string{"app", "é", "<&>", "a b", `"`}), 1, 3).Draw(t, "command"),
			NTasks:  count.Draw(t, "n"), Nodes: count.Draw(t, "N"), CoresPerTask: count.Draw(t, "c"), GPUsPerTask: count.Draw(t, "g"),
			Exclusive: rapid.Bool().Draw(t, "x"), JobName: text.Draw(t, "name"), Output: text.Draw(t, "output"), Error: text.Draw(t, "error"),
			Label: rapid.Bool().Draw(t, "label"), Unbuffered: rapid.Bool().Draw(t, "unbuffered"),
			TimeLimit: rapid.SampledFrom([]string{"", "1", "1ms", "inf"}).Draw(t, "limit"),
			Requires:  rapid.SliceOfN(rapid.SampledFrom([]string{"a,b", "not (a|host:x)", "rank:0-3"}), 0, 2).Draw(t, "requires"),
		}
		js, err := Build(o)
		if err != nil {
			t.Skip()
		}
		b, err := js.JSON()
		require.NoError(t, err)
		back, err := Parse(b)
		require.NoError(t, err)
		same(t, js, back)
	})
}

func TestCountIsAFlagThatRefusesZero(t *testing.T) {
	var c Count
	require.NoError(t, c.Set("3"))
	require.Equal(t, "3", c.String())
	for _, text := range []string{"0", "-1", "x", "", "99999999999"} {
		require.ErrorContains(t, c.Set(text), "is not an integer ≥ 1")
	}
}

func TestParseUrgency(t *testing.T) {
	for text, want := range map[string]int{"hold": 0, "default": 16, "expedite": 31, "7": 7} {
		n, err := ParseUrgency(text)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	for _, text := range []string{"32", "-1", "high"} {
		_, err := ParseUrgency(text)
		require.Error(t, err)
	}
}
