package main

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTildeDotAtTheBeginningOfALineLeaves(t *testing.T) {
	for _, c := range []struct {
		typed, passed string
		left          bool
	}{
		{"ls\r~.", "ls\r", true},
		{"~.", "", true},
		{"a~.\r", "a~.\r", false},
		{"~~.\r", "~.\r", false},
		{"~ls\r", "~ls\r", false},
		{"cat ~/x\r~.more", "cat ~/x\r", true},
	} {
		left := false
		e := &escape{in: iotest{strings.NewReader(c.typed)}, fresh: true, leave: func() { left = true }}
		var got strings.Builder
		buf := make([]byte, 4)
		for {
			n, err := e.Read(buf)
			got.Write(buf[:n])
			if err != nil {
				break
			}
		}
		require.Equal(t, c.passed, got.String(), c.typed)
		require.Equal(t, c.left, left, c.typed)
	}
}

// iotest reads one byte at a time.
type iotest struct{ r io.Reader }

func (i iotest) Read(b []byte) (int, error) { return i.r.Read(b[:1]) }
