package wire

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

type sample struct {
	A int      `msgpack:"a"`
	B []string `msgpack:"b"`
}

func TestUnmarshalDecodesWhatMsgpackEncodes(t *testing.T) {
	b, err := msgpack.Marshal(map[string]any{"a": 7, "b": []string{"x", "y"}, "new": map[string]any{"f": 1.5, "n": nil, "t": true, "raw": []byte("z")}})
	require.NoError(t, err)
	var s sample
	require.NoError(t, Unmarshal(append(b, "what follows"...), &s))
	require.Equal(t, sample{7, []string{"x", "y"}}, s)
}

func TestUnmarshalRefusesWhatWouldHarm(t *testing.T) {
	for _, row := range []struct{ name, body, says string }{
		{"nothing", "", "ends inside"},
		{"a map that ends early", "\x81", "ends inside"},
		{"an array of four billion values", "\xdd\xff\xff\xff\xff", "ends inside"},
		{"a field with bytes that are not there", "\x81\xa1a\xc6\x7f\xff\xff\xff", "ends inside"},
		{"a byte that msgpack has no use for", "\xc1", "no msgpack"},
		{"a value of the wrong type", "\x81\xa1a\xa1x", "invalid code"},
		{"one level too much", "\x81\xa1x" + strings.Repeat("\x91", MaxDepth) + "\x01", "nested more than 64 deep"},
		{"more levels than a stack holds", "\x81\xa1x" + strings.Repeat("\x91", 15<<20), "nested more than 64 deep"},
		{"nils that become structs", "\x81\xa1b\xdd\x00\xf0\x00\x00" + strings.Repeat("\xc0", 15<<20), "more than 1048576"},
	} {
		t.Run(row.name, func(t *testing.T) {
			require.ErrorContains(t, Unmarshal([]byte(row.body), new(sample)), row.says)
		})
	}
	deep := "\x81\xa1x" + strings.Repeat("\x91", MaxDepth-2) + "\x01"
	require.NoError(t, Unmarshal([]byte(deep), new(sample)))
}

// FuzzUnmarshal: what passes the check is decoded without a panic, and what msgpack itself encodes passes.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte("\x81\xa1a\x05"))
	f.Add(bytes.Repeat([]byte{0x91}, 80))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v any
		if Unmarshal(b, &v) != nil {
			return
		}
		again, err := msgpack.Marshal(v)
		require.NoError(t, err)
		require.NoError(t, checkBody(again))
	})
}
