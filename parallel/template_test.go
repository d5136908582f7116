package parallel

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// lines makes all command lines of words for sources of values, the first joined with the others by all combinations.
func lines(t *testing.T, words []string, y Syntax, quote bool, how Batching, env Env, sources ...[]string) []string {
	t.Helper()
	c, err := ParseCommand(words, quote, &y)
	require.NoError(t, err)
	var groups []Group
	for _, s := range sources {
		groups = append(groups, Group{NewList(s, &Reading{})})
	}
	src, err := Combine(groups)
	require.NoError(t, err)
	b := NewBuilder(src, c, &env, how)
	var out []string
	for {
		j, err := b.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		out = append(out, c.Command(j, &env))
	}
}

// What these rows expect is what GNU parallel 20221122 prints with --dry-run.
func TestCommandLinesAreThoseOfGNUParallel(t *testing.T) {
	for _, row := range []struct {
		words string // separated by |
		args  string // sources separated by ;, values by ,
		want  string // lines
	}{
		{"echo", "a,b c", "echo a\necho 'b c'"},
		{"echo", "d'e,'a,a',',$HOME,,~,é,a=b,+-./_", "echo 'd'\"'\"'e'\necho \"'\"'a'\necho 'a'\"'\"\necho \"'\"\necho '$HOME'\necho ''\necho '~'\necho 'é'\necho 'a=b'\necho +-./_"},
		{"echo|{.}|{/}|{//}|{/.}|{#}", "a/b.c/d.e.f,/x/y/,.hid,a.,//a", "echo a/b.c/d.e d.e.f a/b.c d.e 1\necho /x/y/ '' /x '' 2\necho '' .hid . '' 3\necho a a. . a 4\necho //a a / a 5"},
		{"echo|{1}|{2}|{1.}|{2/}|{-1}|{3}", "a.x;c/d,e/f", "echo a.x c/d a d c/d \necho a.x e/f a f e/f "},
		{"{} x {}", "a b", "a b x a b"},
		{" {} x|{}", "a b", " 'a b' x 'a b'"},
		{"x{} x|{}", "a b", "xa b x a b"},
		{"", "echo a,b", "echo a\nb"},
		{"echo||a  b", "c d", "echo  a  b 'c d'"},
		{"echo|x{}y", "a;1,2", "echo xa 1y\necho xa 2y"},
		{"echo|{a}|{1..2}|{x}", "b", "echo {a} {1..2} {x} b"},
	} {
		var words []string
		if row.words != "" {
			words = strings.Split(row.words, "|")
		}
		var sources [][]string
		for s := range strings.SplitSeq(row.args, ";") {
			sources = append(sources, strings.Split(s, ","))
		}
		require.Equal(t, strings.Split(row.want, "\n"), lines(t, words, Syntax{}, false, Batching{}, Env{Slots: 1}, sources...), row.words)
	}
}

func TestManyValuesInALine(t *testing.T) {
	abc := []string{"a.b", "c.d", "e.f"}
	words := []string{"echo", "x{}y {} z{.} {#}"}
	for _, row := range []struct {
		name    string
		how     Batching
		context bool
		slots   int
		want    []string
	}{
		{"-n2", Batching{Max: 2}, false, 1, []string{"echo xa.b c.dy a.b c.d za c 1", "echo xe.fy e.f ze 2"}},
		{"-N2", Batching{Max: 2}, true, 1, []string{"echo xa.by xc.dy a.b c.d za zc 1", "echo xe.fy e.f ze 2"}},
		{"-m", Batching{Many: true, Spread: true}, false, 1, []string{"echo xa.b c.d e.fy a.b c.d e.f za c e 1"}},
		{"-X -j2", Batching{Many: true, Spread: true}, true, 2, []string{"echo xa.by xc.dy a.b c.d za zc 1", "echo xe.fy e.f ze 2"}},
		{"--xargs -j2", Batching{Many: true}, false, 2, []string{"echo xa.b c.d e.fy a.b c.d e.f za c e 1"}},
		{"-n0", Batching{Max: 1, None: true}, false, 1, []string{"echo xy  z 1", "echo xy  z 2", "echo xy  z 3"}},
	} {
		require.Equal(t, row.want, lines(t, words, Syntax{}, false, row.how, Env{Slots: row.slots, Context: row.context}, abc), row.name)
	}
	long := lines(t, []string{"echo"}, Syntax{}, false, Batching{Many: true, MaxChars: 25}, Env{Slots: 1}, []string{"1111", "2222", "3333", "4444", "55555", "66666"})
	require.Equal(t, []string{"echo 1111 2222 3333 4444", "echo 55555 66666"}, long)
}

func TestQuotedCommands(t *testing.T) {
	got := lines(t, []string{"a{}b c", "x y{.}", "it's", "", "{3}"}, Syntax{}, true, Batching{}, Env{Slots: 1}, []string{"p q.r"})
	require.Equal(t, []string{`'ap q.rb c' 'x yp q' 'it'"'"'s' '' ''`}, got)
	got = lines(t, []string{"echo", "x{} y", "{}"}, Syntax{}, true, Batching{Max: 2}, Env{Slots: 1}, []string{"a 1", "b"})
	require.Equal(t, []string{`echo 'xa 1' 'b y' 'a 1' b`}, got)
}

func TestMoreReplacementStrings(t *testing.T) {
	y := Syntax{Plus: true, Columns: map[string]int{"file": 1}}
	got := lines(t, []string{"echo", "{+/} {+.} {..} {...} {/..} {+..} {##} {0#} {0%} {file.} {file/} {slot}"}, y, false, Batching{}, Env{Total: 12, Slots: 10}, []string{"a/b.c.d"})
	require.Equal(t, []string{"echo a d a/b a/b.c.d b c.d 12 01 01 a/b.c b.c.d ${PARALLEL_JOBSLOT}"}, got)
	y = Syntax{Strings: Strings{Arg: "@@", NoExt: ",e"}}
	require.Equal(t, []string{"echo a.b a {} {.} {1}"}, lines(t, []string{"echo @@ ,e {} {.} {1}"}, y, false, Batching{}, Env{}, []string{"a.b"}))
}

func TestBadTemplates(t *testing.T) {
	for text, want := range map[string]string{
		"{= s/a/b/ =}": "Perl expressions are not supported",
		"{= s/a/b/":    "{= is not closed by =}",
		"{%.tar}":      "with a parameter are not supported",
	} {
		_, err := ParseCommand([]string{text}, false, &Syntax{Plus: true})
		require.ErrorContains(t, err, want)
	}
	for _, text := range []string{"{", "{1", "a{b", "}{", "{}{"} {
		_, err := ParseCommand([]string{text}, false, &Syntax{Plus: true})
		require.NoError(t, err, text)
	}
}

func TestSourcesAreCombined(t *testing.T) {
	list := func(v ...string) Source { return NewList(v, &Reading{}) }
	all := func(s Source, err error) (rows []string) {
		require.NoError(t, err)
		for {
			r, err := s.Next()
			if errors.Is(err, io.EOF) {
				return rows
			}
			require.NoError(t, err)
			rows = append(rows, strings.Join(r, "-"))
		}
	}
	require.Equal(t, []string{"a-1", "a-2", "b-1", "b-2"}, all(Combine([]Group{{list("a", "b")}, {list("1", "2")}})))
	require.Equal(t, []string{"a-1-X", "a-1-Y", "b-2-X", "b-2-Y"}, all(Combine([]Group{{list("a", "b", "c"), list("1", "2")}, {list("X", "Y")}})))
	require.Equal(t, []string{"1-a", "2-b", "3-a"}, all(Link([]Source{list("1", "2", "3"), list("a", "b")})))
	require.Empty(t, all(Combine([]Group{{list()}, {list("1")}})))
}

// A first source without end is no problem, and of a billion combinations only those are made that are asked for.
func TestCombinationsStream(t *testing.T) {
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	src, err := Combine([]Group{{NewReader(endless{}, "endless", &Reading{})}, {NewList(many, &Reading{})}, {NewList(many, &Reading{})}})
	require.NoError(t, err)
	for range 2000 {
		_, err := src.Next()
		require.NoError(t, err)
	}
	b := NewBuilder(src, &Template{}, &Env{}, Batching{})
	_, err = b.ReadAhead(5000)
	require.ErrorContains(t, err, "more than 5000 values")
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return copy(b, "y\n"), nil }

func TestRecords(t *testing.T) {
	for _, row := range []struct {
		name, in string
		how      Reading
		want     []string
	}{
		{"lines, the last without end", "a\nb\n\nc", Reading{}, []string{"a", "b", "", "c"}},
		{"nothing", "", Reading{}, nil},
		{"NUL", "a\nb\x00c\x00", Reading{Delim: "\x00"}, []string{"a\nb", "c"}},
		{"a word", "xabyabz\n", Reading{Delim: "ab"}, []string{"x", "y", "z\n"}},
		{"an end", "a\nSTOP\nb\n", Reading{EOF: "STOP"}, []string{"a"}},
		{"no empty ones", "a\n \n\nb\n", Reading{NoEmpty: true}, []string{"a", "b"}},
		{"columns", "a , b\nc\n", Reading{Columns: regexp.MustCompile(",")}, []string{"a|b", "c"}},
		{"columns as they are", "a , b\n", Reading{Columns: regexp.MustCompile(","), Trim: "n"}, []string{"a | b"}},
		{"trimmed", " a \n", Reading{Trim: "r"}, []string{" a"}},
		{"-L: a blank at the end goes on", "a \nb\n\nc\n", Reading{Lines: 1}, []string{"a b", "", "c"}},
		{"NUL in a line", "a\x00b\n", Reading{}, []string{`a\0b`}},
	} {
		var got []string
		r := NewReader(strings.NewReader(row.in), "test", &row.how)
		for {
			v, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, row.name)
			got = append(got, strings.Join(v, "|"))
		}
		require.Equal(t, row.want, got, row.name)
	}
	_, err := NewReader(io.LimitReader(zeros{}, MaxRecord+10), "big", &Reading{}).Next()
	require.ErrorContains(t, err, "big: a record is longer than 16 MiB")
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestLinesThatAreTooLong(t *testing.T) {
	c, err := ParseCommand([]string{"echo"}, false, &Syntax{})
	require.NoError(t, err)
	b := NewBuilder(NewList([]string{"1111", "3333333333333333"}, &Reading{}), c, &Env{}, Batching{MaxChars: 10})
	_, err = b.Next()
	require.NoError(t, err)
	_, err = b.Next()
	require.EqualError(t, err, "Command line too long (21 >= 10) at input 0: 3333333333333333")
}

func TestWhatNeedsNoShell(t *testing.T) {
	for line, want := range map[string]string{
		"true":                  "true",
		"true a":                "true|a",
		"echo 'a b' c":          "echo|a b|c",
		"gzip -9  'x'y.log":     "gzip|-9|xy.log",
		`cc "a b" -o=1,2:3@4%5`: "cc|a b|-o=1,2:3@4%5",
		"/usr/bin/env":          "/usr/bin/env",
		"echo -n":               "",
		`echo 'a\n'`:            "",
		"A=1 cmd":               "",
		"cd /":                  "",
		"if":                    "",
		"cmd $X":                "",
		"cmd *":                 "",
		"cmd >f":                "",
		"cmd a;b":               "",
		"cmd ~":                 "",
		"cmd #":                 "",
		"cmd {a,b}":             "",
		"cmd 'a":                "",
		"cmd \"$x\"":            "",
		"cmd a\nb":              "",
		"cmd \\a":               "",
		"":                      "",
		"   ":                   "",
		"'' a":                  "",
		"cmd !x":                "",
		"printf a":              "",
		"env":                   "",
		"sleep 1":               "sleep|1",
		"'echo' a":              "echo|a",
		"cmd ''":                "cmd|",
		"cmd é":                 "",
		"cmd 'é'":               "cmd|é",
		"%1":                    "",
		"cmd `x`":               "",
		"cmd (x)":               "",
		"cmd <f":                "",
		"cmd a&":                "",
		"cmd a|b":               "",
		"cmd ?":                 "",
		"cmd [a]":               "",
		"cmd ^a":                "",
	} {
		argv, ok := Direct(line)
		require.Equal(t, want != "", ok, line)
		if ok {
			require.Equal(t, want, strings.Join(argv, "|"), line)
		}
	}
}
