package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestArraySpecIsReadAsSlurmReadsIt(t *testing.T) {
	for text, want := range map[string][2]string{
		"1-10": {"1-10", ""}, "0-15:4": {"0,4,8,12", ""}, "1-1000%50": {"1-1000", "50"}, "7,3,5-6%1": {"3,5-7", "1"},
		"1-9:100": {"1", ""}, "5": {"5", ""}, "9223372036854775804-9223372036854775806:2": {"9223372036854775804,9223372036854775806", ""},
	} {
		values, atOnce, err := arraySpec(text)
		require.NoError(t, err, text)
		require.Equal(t, want, [2]string{values, atOnce}, text)
	}
	for text, want := range map[string]string{
		"": "not a number", "10-1": "10-1", "1-3%": "how many", "1-3%0": "how many", "1-3%x": "how many", "1-3:0": "step", "1-3:-1": "step",
		"a": "not a number", "1,,2": "not a number", "0-99999999999:2": "more than 4194304 jobs", "-1": "not a number", "1-3%5%6": "how many",
	} {
		_, _, err := arraySpec(text)
		require.ErrorContains(t, err, want, text)
	}
}
