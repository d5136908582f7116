package jobspec

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestLayout(t *testing.T) {
	for name, c := range map[string]struct {
		slots, cores []int
		count        TaskCount
		perSlot      int
		want         []int
	}{
		"a task a slot":                             {[]int{2, 1}, []int{4, 2}, TaskCount{PerSlot: 1}, 2, []int{2, 1}},
		"a total goes round the nodes":              {[]int{3, 3}, []int{12, 12}, TaskCount{Total: 5}, 4, []int{3, 2}},
		"the node with most cores is first":         {[]int{1, 3}, []int{2, 6}, TaskCount{Total: 3}, 2, []int{1, 2}},
		"a full node is passed over":                {[]int{1, 3}, []int{1, 4}, TaskCount{Total: 4}, 1, []int{1, 3}},
		"more tasks than cores start afresh":        {[]int{1, 1}, []int{1, 1}, TaskCount{Total: 5}, 1, []int{3, 2}},
		"tasks per node":                            {[]int{1, 1}, []int{8, 4}, TaskCount{PerNode: 3}, 1, []int{3, 3}},
		"tasks per core":                            {[]int{1, 1}, []int{8, 4}, TaskCount{PerCore: 2}, 1, []int{16, 8}},
		"a slot larger than the smallest node part": {[]int{1, 1}, []int{2, 8}, TaskCount{Total: 2}, 4, []int{1, 1}},
	} {
		got, err := Layout(c.slots, c.cores, c.count, c.perSlot)
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
	for _, c := range []TaskCount{{}, {Total: maxTasks + 1}, {PerNode: maxTasks}} {
		_, err := Layout([]int{1, 1}, []int{1, 1}, c, 1)
		require.Error(t, err)
	}
	_, err := Layout(nil, nil, TaskCount{PerSlot: 1}, 1)
	require.Error(t, err)
}

// expand gives the node of each task, as RFC 34 defines it.
func expand(m Taskmap) []int {
	var nodes []int
	for _, b := range m {
		for range b.Repeat {
			for n := range b.NNodes {
				for range b.PPN {
					nodes = append(nodes, b.NodeID+n)
				}
			}
		}
	}
	return nodes
}

func TestTaskmapVectors(t *testing.T) {
	require.Equal(t, "[[0,2,2,1]]", BlockMap([]int{2, 2}).String())
	require.Equal(t, "[[0,4,2,1],[4,2,4,1]]", BlockMap([]int{2, 2, 2, 2, 4, 4}).String())
	require.Equal(t, "[]", BlockMap(nil).String())
	require.Equal(t, "[[1,1,1,1],[0,1,1,1]]", Taskmap(nil).Append(Block{1, 1, 1, 1}).Append(Block{0, 1, 1, 1}).String())
	require.Equal(t, "[[0,2,1,2]]", Taskmap(nil).Append(Block{0, 2, 1, 1}).Append(Block{0, 2, 1, 1}).String())
	require.Equal(t, "(vector,(0,4,1),(0,4,1),(0,4,1),(0,4,1))", Taskmap{{0, 4, 1, 4}}.PMI())
}

func TestPropBlockMapPlacesEveryTask(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tasks := rapid.SliceOf(rapid.IntRange(0, 4)).Draw(t, "tasks")
		var want []int
		for node, n := range tasks {
			for range n {
				want = append(want, node)
			}
		}
		require.Equal(t, want, expand(BlockMap(tasks)))
	})
}
