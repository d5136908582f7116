package resource

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPropertiesAreForAllNodesRanksOrHosts(t *testing.T) {
	nodes := []Node{{Index: 0, Name: "a0"}, {Index: 1, Name: "a1", Properties: []string{"z"}}, {Index: 2, Name: "7"}}
	list, err := ParseProperties([]string{"m:[0-1]", "all", "h:a[1-2],7", "m:1", "+local:2"})
	require.NoError(t, err)
	require.NoError(t, list[0].Missing(nodes))
	require.EqualError(t, list[2].Missing(nodes), "property h: there is no node a2")
	SetProperties(nodes, list)
	require.Equal(t, []string{"all", "m"}, nodes[0].Properties)
	require.Equal(t, []string{"all", "h", "m", "z"}, nodes[1].Properties)
	require.Equal(t, []string{"+local", "all", "h"}, nodes[2].Properties)
}

func TestParsePropertyRefuses(t *testing.T) {
	for text, want := range map[string]string{"": "invalid property name", "a b!": "invalid property name", "a\tb": "invalid property name", "p:": "names no ranks",
		"p:3-1": "property p: ", "p:a[": "property p: "} {
		_, err := ParseProperty(text)
		require.ErrorContains(t, err, want, text)
	}
}
