package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseBeginTime(t *testing.T) {
	now := time.Date(2026, 11, 25, 14, 30, 0, 0, time.UTC) // a Wednesday
	for text, want := range map[string]string{
		"+90s":             "2026-11-25T14:31:30Z",
		"+1.5h":            "2026-11-25T16:00:00Z",
		"18:00":            "2026-11-25T18:00:00Z",
		"6:15pm":           "2026-11-25T18:15:00Z",
		"9:00":             "2026-11-26T09:00:00Z",
		"noon":             "2026-11-26T12:00:00Z",
		"now":              "2026-11-25T14:30:00Z",
		"tomorrow":         "2026-11-26T14:30:00Z",
		"Tomorrow 8:00":    "2026-11-26T08:00:00Z",
		"mon 7am":          "2026-11-30T07:00:00Z",
		"wednesday":        "2026-12-02T14:30:00Z",
		"2026-12-24":       "2026-12-24T00:00:00Z",
		"2026-12-24 18:30": "2026-12-24T18:30:00Z",
		"2026-12-24T18:30": "2026-12-24T18:30:00Z",
	} {
		got, err := parseBeginTime(text, now)
		require.NoError(t, err, text)
		require.Equal(t, want, got.Format(time.RFC3339), text)
	}
	for _, text := range []string{"", "+", "+x", "+inf", "-1h", "25:00", "today 9:00", "yesterday", "2026-01-01", "tomorrow soon", "christmas"} {
		_, err := parseBeginTime(text, now)
		require.Error(t, err, text)
	}
}
