package proc

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestARushBeginsAndEndsWithTheRateOfLaunches(t *testing.T) {
	var r rush
	now := time.Unix(1e9, 0)
	look := func(after time.Duration, launches int) bool {
		now = now.Add(after)
		r.launches += launches
		return r.look(now)
	}
	require.False(t, look(time.Second, 0))
	require.False(t, look(100*time.Millisecond, 500), "too soon to tell")
	require.True(t, look(100*time.Millisecond, 0), "2,500 a second")
	require.True(t, r.on)
	require.False(t, look(time.Second, 100), "between the two limits all stays as it is")
	require.True(t, look(time.Second, 10))
	require.False(t, r.on)
	require.False(t, look(time.Second, 100))
	require.False(t, look(10*time.Second, 500), "a burst after a long time without")
}
