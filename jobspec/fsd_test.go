package jobspec

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseFSD(t *testing.T) {
	for text, want := range map[string]float64{
		"2ms": 0.002, "0.1s": 0.1, "30": 30, "1.2h": 4320, "5m": 300, "0s": 0, "5d": 432000, "INF": math.Inf(1), "infinity": math.Inf(1),
		"1h": 3600, "90m": 5400, "1.5d": 129600, "100ms": 0.1, "1e3": 1000, ".5": 0.5, "0x10": 16, "5.": 5, "1e-3s": 0.001, "0": 0,
		"0x1p4": 16,
	} {
		got, err := ParseFSD(text)
		require.NoError(t, err, text)
		require.InDelta(t, want, got, math.Abs(want)*1e-12, text)
	}
	for _, text := range []string{"", "1h30m", "-1", "nan", "NaN", "infs", "1 s", " 1", "1S", "s", "1e", "1_0", "1e999", "0x", ".", "1x", "+1", "1e300d1"} {
		_, err := ParseFSD(text)
		require.Error(t, err, text)
	}
}

func TestParseTimeLimitTakesABareNumberAsMinutes(t *testing.T) {
	for text, want := range map[string]float64{"5": 300, "5s": 5, "1.5h": 5400, "0": 0, "inf": 0, "0.5": 30} {
		got, err := ParseTimeLimit(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	_, err := ParseTimeLimit("soon")
	require.ErrorContains(t, err, `time limit: "soon" is not a duration`)
}

func TestFormatFSD(t *testing.T) {
	for want, secs := range map[string]float64{
		"0s": 0, "2ms": 0.002, "0.1s": 0.1, "59s": 59, "1m": 60, "1.5m": 90, "1h": 3600, "1d": 86400, "infinity": math.Inf(1),
		"1.23457s": 1.23456789, "100000d": 8640000000,
	} {
		require.Equal(t, want, FormatFSD(secs))
	}
}
