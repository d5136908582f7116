package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTopicsAreWantedByPrefixOrPattern(t *testing.T) {
	for _, row := range []struct {
		topics []string
		topic  string
		want   bool
	}{
		{nil, "any", true},
		{[]string{"run"}, "run.done", true},
		{[]string{"run"}, "ru", false},
		{[]string{"run.*.done"}, "run.7.done", true},
		{[]string{"run.*.done"}, "run.7.done.x", false},
		{[]string{"x", "r?n"}, "run", true},
		{[]string{"x", "r[a-c]n"}, "run", false},
	} {
		require.Equal(t, row.want, wants(row.topics, row.topic), "%v %s", row.topics, row.topic)
	}
}

func TestASubscriptionIsAsNarrowAsItsTopicsAllow(t *testing.T) {
	require.Equal(t, "", commonPrefix(nil))
	require.Equal(t, "run.", commonPrefix([]string{"run.*"}))
	require.Equal(t, "run.", commonPrefix([]string{"run.1", "run.2", "run.[ab]"}))
	require.Equal(t, "", commonPrefix([]string{"run", "*"}))
}

func TestValuesArePrintedOnOneLine(t *testing.T) {
	require.Equal(t, `a\nb\x1b[0m\x9b ü`, printable([]byte("a\nb\x1b[0m\u009b ü")))
	require.Equal(t, "\uFFFD", printable([]byte{0xff}))
}

func TestColumnsGoDownFirst(t *testing.T) {
	for width, want := range map[int]string{0: "a   bbb c   dd\n", 9: "a    c\nbbb  dd\n", 3: "a\nbbb\nc\ndd\n"} {
		if width == 0 {
			want = "a    bbb  c    dd\n"
		}
		var b stringsWriter
		writeColumns(&b, []string{"a", "bbb", "c", "dd"}, width)
		require.Equal(t, want, string(b), width)
	}
}

type stringsWriter string

func (s *stringsWriter) WriteString(t string) (int, error) {
	*s += stringsWriter(t)
	return len(t), nil
}
