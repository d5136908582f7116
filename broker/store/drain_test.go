package store

import (
	"testing"
	"time"

	"github.com/frond-hpc/frond/resource"
	"github.com/stretchr/testify/require"
)

func TestDrainsAreKept(t *testing.T) {
	dir := t.TempDir()
	s, _, err := Open(dir, Options{})
	require.NoError(t, err)
	write := func(c *resource.DrainCommit) {
		done := make(chan error)
		s.Do(time.Time{}, c, func(_ any, err error) { done <- err })
		require.NoError(t, <-done)
	}
	write(&resource.DrainCommit{Set: []resource.Drain{{Node: 1, Name: "a", Reason: "x", Since: 2.5}, {Node: 2, Name: "b"}}})
	write(&resource.DrainCommit{Set: []resource.Drain{{Node: 1, Name: "a", Reason: "y", Since: 3}}, Clear: []int{2}})
	require.NoError(t, s.Close())
	s, _, err = Open(dir, Options{})
	require.NoError(t, err)
	require.Equal(t, []resource.Drain{{Node: 1, Name: "a", Reason: "y", Since: 3}}, s.Drains())
	require.NoError(t, s.Close())
}
