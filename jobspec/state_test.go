package jobspec

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStatusNames(t *testing.T) {
	require.Equal(t, "DEPEND PRIORITY SCHED RUN CLEANUP INACTIVE", StateDepend.String()+" "+StatePriority.String()+" "+StateSched.String()+" "+
		StateRun.String()+" "+StateCleanup.String()+" "+StateInactive.String())
	require.Equal(t, State(14), StatesPending)
	require.Equal(t, State(48), StatesRunning)
	require.Equal(t, State(62), StatesActive)
	require.Equal(t, "CD", StatusAbbrev(StateInactive, ResultCompleted))
	require.Equal(t, "TO", StatusAbbrev(StateInactive, ResultTimeout))
	require.Equal(t, "CANCELED", Status(StateInactive, ResultCanceled))
	require.Equal(t, "R", StatusAbbrev(StateRun, 0))
	require.Equal(t, "", State(3).String())
}

func TestParseFilter(t *testing.T) {
	f, err := ParseFilter("running,Failed, cancelled")
	require.NoError(t, err)
	require.Equal(t, Filter{StatesRunning, ResultFailed | ResultCanceled}, f)
	require.True(t, f.Match(StateRun, 0))
	require.True(t, f.Match(StateInactive, ResultFailed))
	require.False(t, f.Match(StateInactive, ResultCompleted))
	require.False(t, f.Match(StateSched, 0))
	require.True(t, Filter{}.Match(StateInactive, ResultTimeout))
	for _, text := range []string{"", "flying", "pending,,running"} {
		_, err := ParseFilter(text)
		require.ErrorContains(t, err, "unknown state or result")
	}
}

func TestExitCodes(t *testing.T) {
	require.Equal(t, 3, ExitCode(3<<8))
	require.Equal(t, 143, ExitCode(15))
	require.Equal(t, 143, ExitCode(15|0x80), "with a core dump")
	require.Equal(t, 36608, TaskStatus(15))
	require.Equal(t, 127<<8, ExitStatus(127))
	require.Equal(t, 9, WaitSignal(9))
	require.Zero(t, WaitSignal(9<<8))
}

func TestReturnCode(t *testing.T) {
	require.Equal(t, -15, ReturnCode(15, true, ResultFailed))
	require.Equal(t, 3, ReturnCode(3<<8, true, ResultFailed))
	require.Equal(t, -128, ReturnCode(0, false, ResultCanceled))
	require.Equal(t, 1, ReturnCode(0, false, ResultFailed))
	require.Equal(t, 0, ReturnCode(0, true, ResultCompleted))
}

func TestExpand(t *testing.T) {
	lookup := func(name string) (string, bool) {
		v, ok := map[string]string{"id": "ƒ1", "cc": "7", "loop": "{{id}}"}[name]
		return v, ok
	}
	for text, want := range map[string]string{
		"":                  "",
		"plain":             "plain",
		"out.{{id}}":        "out.ƒ1",
		"{{ id }}-{cc}":     "ƒ1-7",
		"{{cc}}":            "7",
		"{{unknown}} {x}":   "{{unknown}} {x}",
		"{{id":              "{{id",
		"{{{id}}}":          "{ƒ1}",
		"a{b}{cc}{":         "a{b}7{",
		"{{loop}}":          "{{id}}",
		`{"k":"{{id}}"}`:    `{"k":"ƒ1"}`,
		"{{ {{id}}":         "{{ ƒ1",
		"awk '{print $1}' ": "awk '{print $1}' ",
	} {
		require.Equal(t, want, Expand(text, lookup), text)
	}
	require.True(t, HasTag("x{cc}"))
	require.False(t, HasTag("x{y}"))
}
