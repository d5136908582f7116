package job

import (
	"testing"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParametersAreReadAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lists := rapid.SliceOf(rapid.SliceOfN(rapid.String(), 0, 4)).Draw(t, "lists")
		data := EncodeParams(lists)
		got, err := DecodeParams(data, len(lists))
		require.NoError(t, err)
		require.Len(t, got, len(lists))
		for i := range lists {
			require.Equal(t, append([]string{}, lists[i]...), got[i])
		}
		if len(data) > 0 {
			_, err = DecodeParams(data[:rapid.IntRange(0, len(data)-1).Draw(t, "cut")], len(lists))
			require.Error(t, err)
		}
	})
}

func TestDamagedParametersAreAnErrorNeverAPanic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		_, _ = DecodeParams(data, rapid.IntRange(0, 1000).Draw(t, "n"))
	})
}

// An element whose parameters the store cannot give ends with an exception that says so; the others of its array run.
func TestParametersThatCannotBeReadEndTheirElement(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.paramID = 1
	w.step(Submitted{[]Item{{Spec: w.specs[true], N: 2, Urgency: 16, Params: 1}}})
	w.commitAll()
	w.schedule()
	require.Len(t, w.wanted, 1, "both wait for one read")
	ask := w.wanted[0]
	w.wanted = nil
	w.step(ParamsLoaded{Array: ask.Array, Index: 0, Err: "damaged"})
	w.settle()
	require.Zero(t, w.m.Active())
	require.Equal(t, uint8(2), w.ended[ask.Array][0])
	require.Contains(t, w.ended[ask.Array], 1)
	require.False(t, w.wrote(ask.Array), "no array is left with its parameters")
}

func (w *world) wrote(id jobspec.ID) bool { return w.m.arrays[id] != nil }
