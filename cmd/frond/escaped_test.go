package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestEscapedKeepsScriptsAndEscapesControls(t *testing.T) {
	for in, want := range map[string]string{
		"plain name-1":      "plain name-1",
		"Ωmega ελληνικά":    "Ωmega ελληνικά",
		"日本語":               "日本語",
		"é e\u0301":         "é e\u0301",
		"\x1b[31mred\x1b[m": `\x1b[31mred\x1b[m`,
		"a\nb\tc\rd\x00":    `a\nb\tc\rd\x00`,
		"\x7f\u0085\u009b":  `\x7f\x85\x9b`,
		"\u202eabc\u2066":   `\u202eabc\u2066`,
		"\xff\xfeok":        `\xff\xfeok`,
		"\ufffd":            "\ufffd",
		"😀":                 "😀",
	} {
		require.Equal(t, want, escaped(in))
	}
}

func FuzzEscaped(f *testing.F) {
	f.Add("a\x1b[0m")
	f.Fuzz(func(t *testing.T, s string) {
		got := escaped(s)
		require.True(t, utf8.ValidString(got))
		require.False(t, strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || hidden(r) }))
	})
}

func TestColumnsAreAlignedByWhatATerminalShows(t *testing.T) {
	f, err := parseFormat("{name:<6.6+}|{name:>4.4}|", func(string) (string, bool) { return "NAME", true })
	require.NoError(t, err)
	for name, want := range map[string]string{
		"abc":      "abc   | abc|",
		"abcdefgh": "abcde+|abcd|",
		"日本語":      "日本語|日本|",
		"日本語四":     "日本+ |日本|",
		"a\nb":     `a\nb  |a\nb|`,
	} {
		require.Equal(t, want, f.row(func(string) any { return name }), name)
	}
}
