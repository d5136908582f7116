package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Costs that are easy to divide by: a leader alone gets through 40,000 jobs a second, one that only grants through 400,000.
var (
	flatLevels  = []level{{"top", 1, 25e-6}}
	threeLevels = []level{{"top", 1, 2.5e-6}, {"middle", 4, 5e-6}, {"leaf", 16, 25e-6}}
)

func TestJobRateIsBoundByTheFirstThatHasNoTime(t *testing.T) {
	for _, c := range []struct {
		name   string
		levels []level
		nodes  int
		rate   float64
		bound  string
	}{
		{"few nodes have all they can do", flatLevels, 100, 640, ""},
		{"one leader is too few for many nodes", flatLevels, 100000, 40000, "top"},
		{"levels let more through", threeLevels, 50000, 320000, ""},
		{"until the top has no time", threeLevels, 100000, 400000, "top"},
		{"or the leaves", []level{{"top", 1, 1e-6}, {"leaf", 4, 25e-6}}, 100000, 160000, "leaf"},
		{"no more leaders than nodes", []level{{"top", 1, 1e-6}, {"leaf", 32, 1}}, 2, 2, "leaf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rate, bound := jobRate(c.levels, c.nodes, 6.4)
			require.InDelta(t, c.rate, rate, 1e-6*c.rate)
			require.Equal(t, c.bound, bound)
		})
	}
}

func TestFromTheSaturationOnMoreNodesDoNotHelp(t *testing.T) {
	const perNode = 6.3
	for _, c := range []struct {
		levels []level
		nodes  int
		bound  string
	}{
		{flatLevels, 6350, "top"}, // 40,000 / 6.3 = 6,349.2
		{threeLevels, 63493, "top"},
		{[]level{{"top", 1, 2.5e-6}, {"leaf", 2, 25e-6}}, 12699, "leaf"},
		{[]level{{"top", 1, 1e-6}, {"leaf", 32, 1}}, 33, "leaf"}, // what one node could run is too much for its leader
	} {
		nodes, rate, bound := saturation(c.levels, perNode)
		require.Equal(t, c.nodes, nodes)
		require.Equal(t, c.bound, bound)
		at, by := jobRate(c.levels, nodes, perNode)
		require.InDelta(t, rate, at, 1e-6)
		require.Equal(t, bound, by)
		fewer, _ := jobRate(c.levels, nodes-2, perNode)
		require.Less(t, fewer, rate)
		more, _ := jobRate(c.levels, 10*nodes, perNode)
		require.InDelta(t, rate, more, 1e-6)
	}
}
