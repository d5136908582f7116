package idset

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseAcceptsTheVectorsOfRFC22(t *testing.T) {
	for text, want := range map[string][]int{
		"": nil, "[]": nil, "2": {2}, "7-9": {7, 8, 9}, "1,7-9,16": {1, 7, 8, 9, 16}, "[2,3,4,5]": {2, 3, 4, 5},
		"1-3,5-6,42": {1, 2, 3, 5, 6, 42}, "0": {0}, "[0]": {0},
	} {
		s, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, slices.Collect(s.All()), text)
	}
}

func TestParseRefusesTheBadVectorsOfRFC22(t *testing.T) {
	for _, text := range []string{"01,2", "00", "3,2", "3-0", "2,2", "3-3", "[0", "0]", "[[0]]", "0-", "-5", "4.2", "1-2x", ",", "1,", ",1",
		" 1", "1 ", "[", "]", "9223372036854775807", "99999999999999999999", "1-2-3", "1-3,2-4"} {
		_, err := Parse(text)
		require.Error(t, err, text)
	}
}

func TestTextForm(t *testing.T) {
	s := Of(42, 6, 5, 3, 2, 1)
	require.Equal(t, "1-3,5-6,42", s.String())
	require.Equal(t, "[1-3,5-6,42]", s.StringBrackets())
	require.Equal(t, "7", Of(7).StringBrackets())
	require.Equal(t, "", Set{}.StringBrackets())
	require.Equal(t, "1-2", MustParse("1,2").String(), "neighbours join")
}

func TestHugeRangesAreCheap(t *testing.T) {
	s := MustParse("0-999999999999,2000000000000-9223372036854775806")
	require.Len(t, slices.Collect(s.Ranges()), 2)
	require.True(t, s.Has(5_000_000_000_000))
	require.False(t, s.Has(1_500_000_000_000))
	id, ok := s.Nth(1_000_000_000_000)
	require.True(t, ok)
	require.Equal(t, 2_000_000_000_000, id)
	require.Equal(t, Max+1, FromRange(0, Max).Len())
}

func TestBoundsOfTheEmptySet(t *testing.T) {
	require.Equal(t, -1, Set{}.Min())
	require.Equal(t, -1, Set{}.Max())
	_, ok := Set{}.Nth(0)
	require.False(t, ok)
	_, ok = Of(1).Nth(-1)
	require.False(t, ok)
}

// model is a set as a map, to compare with.
func model(ids []int) map[int]bool {
	m := map[int]bool{}
	for _, id := range ids {
		m[id] = true
	}
	return m
}

func TestPropOperationsAgreeWithAMap(t *testing.T) {
	ids := rapid.SliceOf(rapid.IntRange(0, 70))
	rapid.Check(t, func(t *rapid.T) {
		x, y := ids.Draw(t, "x"), ids.Draw(t, "y")
		s, u := Of(x...), Of(y...)
		mx, my := model(x), model(y)
		require.Equal(t, len(mx), s.Len())
		union, inter, minus := s.Union(u), s.Intersect(u), s.Minus(u)
		n, index := 0, s.Index()
		for id := range 72 {
			require.Equal(t, mx[id], s.Has(id))
			require.Equal(t, mx[id] || my[id], union.Has(id))
			require.Equal(t, mx[id] && my[id], inter.Has(id))
			require.Equal(t, mx[id] && !my[id], minus.Has(id))
			if mx[id] {
				got, ok := s.Nth(n)
				require.True(t, ok)
				require.Equal(t, id, got)
				got, ok = index.Nth(n)
				require.True(t, ok)
				require.Equal(t, id, got)
				n++
			}
		}
		for _, beyond := range []int{-1, n, n + 70} {
			_, ok := index.Nth(beyond)
			require.False(t, ok)
		}
		for _, set := range []Set{s, union, inter, minus} {
			checkShape(t, set)
			back, err := Parse(set.StringBrackets())
			require.NoError(t, err)
			require.True(t, back.Equal(set))
		}
	})
}

// checkShape is the invariant of Set: ranges ascend and do not touch.
func checkShape(t *rapid.T, s Set) {
	for i, r := range s.r {
		require.LessOrEqual(t, r.Lo, r.Hi)
		if i > 0 {
			require.Greater(t, r.Lo, s.r[i-1].Hi+1)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "[1-3,5]", "0-999999999", "3-3", "[[0]]", "01", "9223372036854775806"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		back, err := Parse(s.String())
		require.NoError(t, err)
		require.True(t, back.Equal(s))
	})
}
