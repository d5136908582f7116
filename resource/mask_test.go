package resource

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

func TestParseMask(t *testing.T) {
	rows := []struct{ name, in, want, err string }{
		{"empty text is the empty set", "", "", ""},
		{"one id", "7", "7", ""},
		{"ranges and ids, unsorted and overlapping, come out canonical", "9,0-3,2-4", "0-4,9", ""},
		{"ids beyond one word", "62-66,130", "62-66,130", ""},
		{"brackets are allowed", "[0-1]", "0-1", ""},
		{"the largest id", "65535", "65535", ""},
		{"an id too large is refused", "65536", "", `idset "65536": id 65536 is above 65535`},
		{"a huge range is refused before it is made", "0-4294967295", "", "above 65535"},
		{"a descending range", "5-3", "", `range "5-3" descends`},
		{"letters", "a", "", `"a" is no id`},
		{"a dangling comma", "1,", "", `"" is no id`},
		{"a negative id", "-1", "", `"" is no id`},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			m, err := ParseMask(r.in)
			if r.err != "" {
				require.ErrorContains(t, err, r.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, r.want, m.String())
		})
	}
}

// model is a naive set to compare with.
func genIDs() *rapid.Generator[[]int] {
	return rapid.SliceOfDistinct(rapid.IntRange(0, 200), func(i int) int { return i })
}

func TestMaskAgreesWithASetOfInts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genIDs().Draw(t, "a"), genIDs().Draw(t, "b")
		slices.Sort(a)
		slices.Sort(b)
		ma, mb := MaskOf(a...), MaskOf(b...)
		check := func(what string, got Mask, keep func(id int) bool) {
			var want []int
			for id := range 201 {
				if keep(id) {
					want = append(want, id)
				}
			}
			require.Equal(t, want, got.IDs(), what)
			require.True(t, got.Equal(MaskOf(want...)), "%s has one form", what)
			require.Equal(t, len(want), got.Count(), what)
			require.Equal(t, len(want) == 0, got.Empty(), what)
		}
		in := func(s []int) func(int) bool { return func(id int) bool { return slices.Contains(s, id) } }
		inA, inB := in(a), in(b)
		check("a", ma, inA)
		check("union", ma.Union(mb), func(i int) bool { return inA(i) || inB(i) })
		check("minus", ma.Minus(mb), func(i int) bool { return inA(i) && !inB(i) })
		check("intersect", ma.Intersect(mb), func(i int) bool { return inA(i) && inB(i) })
		n := rapid.IntRange(0, 210).Draw(t, "n")
		check("first", ma.First(n), in(a[:min(n, len(a))]))
		lo, hi := rapid.IntRange(0, 200).Draw(t, "lo"), rapid.IntRange(0, 200).Draw(t, "hi")
		check("range", MaskRange(lo, hi), func(i int) bool { return i >= lo && i <= hi })
		require.Equal(t, !ma.Intersect(mb).Empty(), ma.Overlaps(mb))
		for id := -1; id < 260; id++ {
			require.Equal(t, inA(id), ma.Has(id))
		}
		if len(a) > 0 {
			require.Equal(t, a[0], ma.Lowest())
			require.Equal(t, a[len(a)-1], ma.Highest())
		} else {
			require.Equal(t, -1, ma.Lowest())
			require.Equal(t, -1, ma.Highest())
		}
	})
}

func TestMaskSurvivesEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := MaskOf(genIDs().Draw(t, "ids")...)
		b, err := msgpack.Marshal(struct{ M Mask }{m})
		require.NoError(t, err)
		var got struct{ M Mask }
		require.NoError(t, msgpack.Unmarshal(b, &got))
		require.True(t, m.Equal(got.M))

		b, err = json.Marshal(m)
		require.NoError(t, err)
		var j Mask
		require.NoError(t, json.Unmarshal(b, &j))
		require.True(t, m.Equal(j))

		p, err := ParseMask(m.String())
		require.NoError(t, err)
		require.True(t, m.Equal(p))
	})
}

func TestMaskOfFourCoresIsTwoBytesOrLess(t *testing.T) {
	b, err := msgpack.Marshal(MaskRange(0, 3))
	require.NoError(t, err)
	require.LessOrEqual(t, len(b), 2)
}

func TestDecodingAMaskIsBounded(t *testing.T) {
	words := make([]uint64, 1025)
	b, err := msgpack.Marshal(words)
	require.NoError(t, err)
	var m Mask
	require.ErrorContains(t, msgpack.Unmarshal(b, &m), "at most 65536 ids")
	// A length without its words must neither panic nor allocate for it.
	require.Error(t, msgpack.Unmarshal([]byte{0xdd, 0xff, 0xff, 0xff, 0xff}, &m))
	// Trailing zero words are dropped, so that equal sets stay equal.
	b, err = msgpack.Marshal([]uint64{5, 0, 0})
	require.NoError(t, err)
	require.NoError(t, msgpack.Unmarshal(b, &m))
	require.True(t, m.Equal(MaskOf(0, 2)))
}

func TestSmallMasksDoNotAllocate(t *testing.T) {
	a, b := MaskRange(0, 47), MaskOf(3, 5)
	n := testing.AllocsPerRun(100, func() {
		if a.Minus(b).First(7).Union(b).Intersect(a).Count() != 9 {
			panic("wrong")
		}
	})
	require.Zero(t, n)
}
