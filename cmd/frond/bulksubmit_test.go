package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBulkTemplates(t *testing.T) {
	in := []string{"/a/b.c.d", "x y"}
	for text, want := range map[string]string{
		"":                        "",
		"plain":                   "plain",
		"{}":                      "/a/b.c.d",
		"{} {}":                   "/a/b.c.d x y",
		"{1}-{0}":                 "x y-/a/b.c.d",
		"{.%}":                    "/a/b.c",
		"{0./}":                   "b.c.d",
		"{0.//}":                  "/a",
		"{0./%}":                  "b.c",
		"{0./.%.%}":               "b",
		"{1.%}{1./}{1.//}":        "x yx y",
		"{seq} {seq1}":            "4 5",
		"{cc} {{id}} {{task.id}}": "{cc} {{id}} {{task.id}}",
		"a}b":                     "a}b",
	} {
		tm, err := parseBulk(text)
		require.NoError(t, err, text)
		got, err := tm.format(in, 4)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"{", "a{b", "{{id}", "{x}", "{-1}", "{0.z}", "{0.}", "{ }", "{0 }", "{99999999999999999999}"} {
		_, err := parseBulk(text)
		require.Error(t, err, text)
	}
	tm, err := parseBulk("{2}")
	require.NoError(t, err)
	_, err = tm.format(in, 0)
	require.ErrorContains(t, err, "there are 2")
	var fields []bulkField
	tm, err = parseBulk("o.{0./}.{{id}}-{seq}")
	require.NoError(t, err)
	require.Equal(t, "o.{{param.0}}.{{id}}-{{param.1}}", tm.withParams(&fields))
	require.Len(t, fields, 2)
}

func TestShellWords(t *testing.T) {
	require.Equal(t, []string{"a", "b c", `d"e`, "f g", `h\`}, shellWords(` a 'b c'  d\"e "f g" h\\`))
	require.Empty(t, shellWords("  "))
}
