package parallel

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What these rows expect is what GNU parallel 20221122 does with -j1.
func TestHalt(t *testing.T) {
	for _, row := range []struct {
		halt  string
		exits []int
		done  int // jobs that ran
		code  int
		told  string // one letter a job: f s d, - nothing
	}{
		{"never", []int{0, 3, 0, 4, 5}, 5, 3, "-----"},
		{"", []int{0, 0}, 2, 0, "--"},
		{"now,fail=1", []int{0, 3, 0}, 2, 3, "-f"},
		{"soon,fail=1", []int{0, 3, 0}, 2, 3, "-f"},
		{"1", []int{0, 3, 0}, 2, 3, "-f"},
		{"2", []int{137, 3}, 1, 137, "f"},
		{"now,fail=2", []int{0, 3, 0, 4, 5}, 4, 2, "-f-f"},
		{"soon,fail=3", []int{1, 5, 6, 7}, 3, 3, "fff"},
		{"now,success=1", []int{0, 3}, 1, 0, "s"},
		{"-1", []int{2, 0, 3}, 2, 0, "-s"},
		{"soon,success=3", []int{1, 0, 6, 0, 8, 0, 1}, 6, 0, "-s-s-s"},
		{"soon,success=3", []int{1, 0, 6, 2, 8, 4, 1, 3}, 8, 7, "-s------"},
		{"now,done=1", []int{0, 3}, 1, 0, "d"},
		{"soon,done=2", []int{0, 3, 0}, 2, 1, "dd"},
		{"soon,fail=50%", []int{0, 3, 0, 4, 5}, 5, 60, "-f-ff"},
		{"soon,fail=30%", []int{1, 0, 0, 0, 0, 1, 1, 1, 0, 0}, 7, 30, "f----ff"},
		{"soon,success=50%", []int{0, 3, 0, 4, 5}, 5, 60, "s-s--"},
		{"soon,done=50%", []int{0, 3, 0, 4, 5}, 3, 20, "ddd"},
		{"now,done=100%", []int{1, 2, 3}, 3, 100, "ddd"},
		{"20%", []int{0, 3, 0, 4, 5}, 2, 3, "-f"},
		{"40%", []int{5, 1, 2, 3, 0, 0, 0, 0, 0, 0}, 4, 40, "ffff"},
		{"20%", []int{5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 12, 9, "f-----------"},
	} {
		h, err := ParseHalt(row.halt)
		require.NoError(t, err, row.halt)
		tally := Tally{Halt: h, Total: len(row.exits)}
		told := ""
		for _, x := range row.exits {
			o := Outcome{Exit: x}
			if x > 128 {
				o = Outcome{Signal: x - 128}
			}
			told += map[string]string{"": "-", Failed: "f", Succeeded: "s", Finished: "d"}[tally.Add(o)]
			if tally.Halted {
				break
			}
		}
		require.Equal(t, row.told, told, row.halt)
		require.Equal(t, []int{row.done, row.code}, []int{tally.Done, tally.ExitCode()}, row.halt)
	}
	many := Tally{}
	for range 200 {
		many.Add(Outcome{Exit: 1})
	}
	require.Equal(t, 101, many.ExitCode())
	for text, want := range map[string]string{
		"bogus":        "must have 'never', 'soon', or 'now'",
		"now":          "--halt now must be followed by ,success or ,fail",
		"now,fail=x":   "--halt now,fail must be followed by ,number or ,percent%",
		"now,fail=-1":  "must be followed by",
		"now,fail=10x": "must be followed by",
	} {
		_, err := ParseHalt(text)
		require.ErrorContains(t, err, want)
	}
}

func TestJobLog(t *testing.T) {
	e := LogEntry{Seq: 2, Host: ":", Start: 1795641225.363, Runtime: 0.009, Receive: 4, Outcome: Outcome{Exit: 1}, Command: "echo 'a\nb\tc'"}
	require.Equal(t, "2\t:\t1795641225.363\t     0.009\t0\t4\t1\t0\techo 'a\x00b\tc'\n", e.Line())
	var d Done
	var seqs []int
	read := func(text string, failed bool) error {
		return ReadLog(strings.NewReader(text), func(e *LogEntry) { seqs = append(seqs, e.Seq); d.Note(e, failed) })
	}
	require.NoError(t, read(LogHeader+e.Line()+"3\t:\t1.0\t1", true), "a line that was not finished")
	require.Equal(t, []int{2}, seqs)
	ok, err := d.Has(2, "echo 'a\nb\tc'")
	require.NoError(t, err)
	require.False(t, ok, "it failed")
	require.NoError(t, read(e.Line(), false))
	ok, err = d.Has(2, "echo 'a\nb\tc'")
	require.NoError(t, err)
	require.True(t, ok)
	_, err = d.Has(2, "echo x")
	require.ErrorContains(t, err, `job 2 was another command in it than "echo x"`)
	require.ErrorContains(t, read(LogHeader+"garbage\n", false), `line 2 is not one of a job log: "garbage\n"`)
}

func TestResults(t *testing.T) {
	files := func(value string, names []string, args ...string) string {
		tm, err := Parse(value, &Syntax{})
		require.NoError(t, err)
		r := Results(tm, &Job{Seq: 1, Args: args}, &Env{}, names)
		return r.Stdout + " " + r.Stderr + " " + r.Seq
	}
	require.Equal(t, `r/1/a/2/b\_c/stdout r/1/a/2/b\_c/stderr r/1/a/2/b\_c/seq`, files("r", nil, "a", "b/c"))
	require.Equal(t, `r/x/a\\t\tb/stdout r/x/a\\t\tb/stderr r/x/a\\t\tb/seq`, files("r", []string{"x"}, "a\\t\tb"))
	require.Equal(t, `r/a_1 r/a_1.err r/a_1.seq`, files("r/{1}_{#}", nil, "a"))
	require.Equal(t, `r/a/b/stdout r/a/b/stderr r/a/b/seq`, files("r/{}/", nil, "a/b"))
	e := LogEntry{Seq: 1, Host: ":", Start: 1, Command: "echo a"}
	require.Equal(t, "Seq,Host,Starttime,JobRuntime,Send,Receive,Exitval,Signal,Command,V1,Stdout,Stderr\n", TableHeader(",", nil, 1))
	require.Equal(t, "1,:,1.000,0.000,0,0,0,0,\"echo a\",\"c,d\",\"a\n\",\n", e.Row(",", []string{"c,d"}, [2]string{"a\n", ""}))
	require.Equal(t, `{ "Seq": 1, "Host": ":", "Starttime": 1.000, "JobRuntime": 0.000, "Send": 0, "Receive": 0, "Exitval": 0, "Signal": 0, "Command": "echo a", "V": [ "a\"" ], "Stdout": "a\u000a", "Stderr": "" }`+"\n",
		e.JSON([]string{`a"`}, [2]string{"a\n", ""}))
}
