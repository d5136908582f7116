package jobspec

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDirectives(t *testing.T) {
	for name, row := range map[string]struct {
		script string
		want   []string
	}{
		"none":                         {"#!/bin/sh\necho hi\n", nil},
		"of Flux":                      {"#!/bin/sh\n#FLUX: -N4 -n 8   # comment\n# plain\n#flux", []string{"-N4", "-n", "8"}},
		"in lower case":                {"#!/bin/sh\n# flux: -N4\n\n# flux: -t 1h\ntrue", []string{"-N4", "-t", "1h"}},
		"of Frond":                     {"#!/bin/sh\n#FROND: --job-name='a b'\n", []string{"--job-name=a b"}},
		"with another comment sign":    {"-- frond: -n2\n-- more\n-- frond: -c 3\nx", []string{"-n2", "-c", "3"}},
		"quotes":                       {`#frond: -S 'a="b c"' --x="1 # \" 2" y\ z` + "\n", []string{"-S", `a="b c"`, `--x=1 # " 2`, "y z"}},
		"three quotes on a line":       {`#frond: --x="""a "b" 'c'""" -q z`, []string{`--x=a "b" 'c'`, "-q", "z"}},
		"a text of several lines":      {"#FLUX: --conf=\"\"\"\n#FLUX: [resource]\n#FLUX:   exclude = \"0\"\n#FLUX: \"\"\"\ntrue", []string{"--conf=[resource]\n  exclude = \"0\"\n"}},
		"a text after a quoted word":   {"#FLUX: --y=\"\"\"a b\"\"\" --x=\"\"\"\n#FLUX: c\n#FLUX: \"\"\"\n", []string{"--y=a b", "--x=c\n"}},
		"nothing in it":                {"#frond:   # only a comment\n#frond:\n", nil},
		"lines of Windows":             {"#!/bin/sh\r\n#frond: -n3\r\n", []string{"-n3"}},
		"a word of it far below":       {"#!/bin/sh\n#frond: -n3\necho\n# see frond: it is\n", []string{"-n3"}},
		"the other tag below the code": {"#!/bin/sh\n#frond: -n3\necho\n#flux: -n4\n", []string{"-n3"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Directives(row.script)
			require.NoError(t, err)
			var args []string
			for _, d := range got {
				args = append(args, d.Args...)
			}
			require.Equal(t, row.want, args)
		})
	}
}

func TestAMistakenDirectiveNamesItsLine(t *testing.T) {
	for name, row := range map[string]struct {
		script, want string
		line         int
	}{
		"after the code":       {"#!/bin/sh\n#frond: -n1\ntrue\n#frond: -n2\n", "after the first line of the script itself, line 3", 4},
		"begun differently":    {"#frond: -n1\n# frond: -n2\n", "all must begin alike", 2},
		"two tags":             {"#frond: -n1\n#flux: -n2\n", "all must begin alike", 2},
		"no option":            {"#!/bin/sh\n#frond: n2\n", `"n2" is no option`, 2},
		"a quote without end":  {"\n#frond: -x 'a\n", "a ' without an end", 2},
		"three of them":        {"#frond: -x \"\"\"a\n", `""" without an end`, 1},
		"a text without end":   {"#frond: -x=\"\"\"\n#frond: a", "has no end", 1},
		"a text left open":     {"#frond: -x=\"\"\"\n#frond: a\ntrue\n", "all its lines must begin with", 3},
		"a text of no option":  {"#frond: \"\"\"\n#frond: a\n#frond: \"\"\"\n", "without an option", 1},
		"an end with a prefix": {"#frond: -x=\"\"\"\n#frond: a \"\"\"\n", "a line of its own", 2},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Directives(row.script)
			var de *DirectiveError
			require.True(t, errors.As(err, &de), "%v", err)
			require.Equal(t, row.line, de.Line)
			require.Contains(t, de.Msg, row.want)
		})
	}
}

func FuzzDirectives(f *testing.F) {
	f.Add("#!/bin/sh\n#FLUX: -N4 --x=\"\"\"\n#FLUX: a\n#FLUX: \"\"\"\n")
	f.Add("#frond: 'a' \\ # b\n")
	f.Fuzz(func(t *testing.T, script string) { Directives(script) })
}
