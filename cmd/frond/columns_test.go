package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLinesAreCutByWhatIsSeen(t *testing.T) {
	for _, row := range []struct {
		line  string
		width int
		want  string
	}{{"abcdef", 3, "abc"}, {"abc", 3, "abc"}, {"abc", 0, "abc"}, {"abc", -1, "abc"}, {"ƒ3LT", 2, "ƒ3"}, {"名前x", 3, "名"}, {"名前x", 4, "名前"}, {"", 1, ""}} {
		require.Equal(t, row.want, cutColumns(row.line, row.width), row.line)
	}
}
