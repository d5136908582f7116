package wire

import (
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// Limits of a body, checked before it is decoded.
const (
	MaxDepth = 64      // containers within each other
	MaxHeads = 1 << 20 // containers and nils: one byte of each can become a whole struct in memory
)

// Unmarshal decodes a body into v (a pointer), as msgpack.Unmarshal does, but from bytes that anybody may have made. That one recurses,
// and a stack that overflows ends the process; and it believes lengths that the bytes do not have. What follows the first value
// is ignored.
func Unmarshal(b []byte, v any) error {
	if err := checkBody(b); err != nil {
		return err
	}
	return msgpack.Unmarshal(b, v)
}

// checkBody passes over the first value in b.
func checkBody(b []byte) error {
	var left [MaxDepth]uint64 // values to come, by depth
	left[0] = 1
	r := reader{b}
	for depth, heads := 0, 0; depth >= 0; {
		if left[depth] == 0 {
			depth--
			continue
		}
		left[depth]--
		if len(r.b) > 0 && isHead(r.b[0]) {
			heads++
		}
		inner, err := r.skipOne()
		switch {
		case err == errShort:
			return errors.New("it ends inside a value")
		case err != nil:
			return err
		case heads > MaxHeads:
			return fmt.Errorf("more than %d arrays, maps and nils", MaxHeads)
		case inner > 0 && depth+1 == MaxDepth:
			return fmt.Errorf("nested more than %d deep", MaxDepth)
		case inner > 0:
			depth++
			left[depth] = inner
		}
	}
	return nil
}

// isHead tells whether a value that begins with c is an array, a map or nil.
func isHead(c byte) bool { return c >= 0x80 && c < 0xa0 || c >= 0xdc && c <= 0xdf || c == 0xc0 }
