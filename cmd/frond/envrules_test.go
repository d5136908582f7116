package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEnvRules(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules")
	require.NoError(t, os.WriteFile(file, []byte("# comment\n-*\nOMP*\n\nFOO=bar\nBAR=${FOO}/baz\n"), 0o600))
	process := []string{"PATH=/bin", "HOME=/home/u", "OMP_NUM=4", "OMP_X=", "LANG=C", "=odd", "EQ=a=b"}
	for _, c := range []struct {
		name  string
		rules []string
		want  map[string]string
	}{
		{"without rules everything goes along", nil, map[string]string{"PATH": "/bin", "HOME": "/home/u", "OMP_NUM": "4", "OMP_X": "", "LANG": "C", "EQ": "a=b"}},
		{"minus removes by glob", []string{"-OMP*", "-[HL]*", "-EQ"}, map[string]string{"PATH": "/bin"}},
		{"minus with slash removes by regular expression", []string{"-/^(OMP|EQ|L).*/", "-/HOM"}, map[string]string{"PATH": "/bin"}},
		{"only what is named", []string{"-*", "PATH"}, map[string]string{"PATH": "/bin"}},
		{"a pattern copies what matches", []string{"-*", "/^OMP.*/"}, map[string]string{"OMP_NUM": "4", "OMP_X": ""}},
		{"a pattern does not undo an assignment", []string{"-*", "PATH=/opt", "PATH"}, map[string]string{"PATH": "/opt"}},
		{"values may name variables", []string{"-*", "PATH=$PATH:/usr/bin", "P2=${PATH}!", "D=$$x"}, map[string]string{"PATH": "/bin:/usr/bin", "P2": "/bin:/usr/bin!", "D": "$x"}},
		{"rules from a file", []string{"^" + file}, map[string]string{"OMP_NUM": "4", "OMP_X": "", "FOO": "bar", "BAR": "bar/baz"}},
		{"no match is no error", []string{"-*", "NOSUCH*"}, map[string]string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := applyEnvRules(process, c.rules)
			require.NoError(t, err)
			require.Equal(t, c.want, e.values)
			require.Len(t, e.names, len(e.values))
		})
	}
}

func TestEnvRuleErrors(t *testing.T) {
	loop := filepath.Join(t.TempDir(), "loop")
	require.NoError(t, os.WriteFile(loop, []byte("^"+loop+"\n"), 0o600))
	for rule, want := range map[string]string{
		"A=$NOSUCH":   `variable "NOSUCH" is not set`,
		"A=${x:-foo}": "only $, a name or {name}",
		"A=100$":      "only $, a name or {name}",
		"-/(/":        "missing closing )",
		"-[":          "syntax error in pattern",
		"^/no/such":   "no such file",
		"^" + loop:    "over 16 deep",
		"=x":          "no variable name",
	} {
		_, err := applyEnvRules([]string{"PATH=/bin"}, []string{rule})
		require.ErrorContains(t, err, want, rule)
	}
}

func TestEnvironBytes(t *testing.T) {
	require.Equal(t, "A=1\x00B=\x00", string(newEnviron([]string{"A=1", "B="}).bytes()))
}

func TestLimitRules(t *testing.T) {
	all, err := applyLimitRules(nil)
	require.NoError(t, err)
	require.Contains(t, all, "core")
	require.NotContains(t, all, "memlock", "not passed on unless asked for")
	for _, c := range []struct {
		rules []string
		want  map[string]int64
	}{
		{[]string{"-*"}, map[string]int64{}},
		{[]string{"-*", "nofile=1024", "core=unlimited"}, map[string]int64{"nofile": 1024, "core": -1}},
		{[]string{"-*,NOFILE=7"}, map[string]int64{"nofile": 7}},
	} {
		got, err := applyLimitRules(c.rules)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	for _, bad := range []string{"nosuch", "nosuch=1", "core=x", "-["} {
		_, err := applyLimitRules([]string{bad})
		require.Error(t, err, bad)
	}
}
