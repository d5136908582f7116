package jobspec

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestIDEncodingsOfRFC19(t *testing.T) {
	id := ID(6731191091817518)
	for encoding, want := range map[string]string{
		"dec": "6731191091817518", "f58": "ƒuZZybuNNy", "f58plain": "fuZZybuNNy", "hex": "0x17e9fb8df16c2e",
		"dothex": "0017.e9fb.8df1.6c2e", "kvs": "job.0017.e9fb.8df1.6c2e",
	} {
		got, err := id.Encode(encoding)
		require.NoError(t, err)
		require.Equal(t, want, got)
		back, err := ParseID(" " + got + "\n")
		require.NoError(t, err)
		require.Equal(t, id, back)
	}
	_, err := id.Encode("words")
	require.ErrorContains(t, err, "unknown encoding")
}

func TestParseIDVectors(t *testing.T) {
	for text, want := range map[string]ID{
		"ƒZemgA8Bzf": 4181414752813056, "ƒ278oEf7zGf": 8213253243011072, "ƒjpXCZedGfVQ": math.MaxUint64, "ƒ1": 0, "f11": 0, "0": 0,
		"0xedaf97d000000": 4181414752813056, "18446744073709551615": math.MaxUint64, "0.0.0.ff": 255, "job.ƒ2": 1,
	} {
		got, err := ParseID(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	require.Equal(t, "ƒ1", ID(0).String())
}

func TestParseIDRefuses(t *testing.T) {
	for _, text := range []string{"", "f", "ƒ", "ƒ0", "fl", "-1", "+1", "1_0", "0x", "0x_1", "0xg", "1.2.3", "1.2.3.4.5", "1.2.3.fffff", "...",
		"18446744073709551616", "ƒjpXCZedGfVR", "fzzzzzzzzzzz", "f1111111111111", "job.", "1 2", "+1.+1.1.1"} {
		_, err := ParseID(text)
		require.Error(t, err, text)
	}
}

func TestIDIsAnIntegerInJSON(t *testing.T) {
	b, err := json.Marshal(map[string]ID{"id": math.MaxUint64})
	require.NoError(t, err)
	require.Equal(t, `{"id":18446744073709551615}`, string(b))
}

func TestPropEveryEncodingReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := ID(rapid.Uint64().Draw(t, "id"))
		for _, encoding := range []string{"dec", "hex", "dothex", "kvs", "f58", "f58plain"} {
			s, err := id.Encode(encoding)
			require.NoError(t, err)
			back, err := ParseID(s)
			require.NoError(t, err)
			require.Equal(t, id, back, s)
		}
	})
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"ƒuZZybuNNy", "0x17e9fb8df16c2e", "0017.e9fb.8df1.6c2e", "6731191091817518", "job.", "f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := ParseID(text); err == nil {
			back, err := ParseID(id.String())
			require.NoError(t, err)
			require.Equal(t, id, back)
		}
	})
}

func BenchmarkIDString(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = ID(6731191091817518).String()
	}
}
