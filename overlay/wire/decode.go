package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

var (
	errShort = errors.New("the frame ends inside the header")
	errRange = errors.New("number out of range")
)

// Decode reads a frame. The message's Body aliases frame, everything else is copied. It never panics; an error says
// which field is wrong and why, and has code Invalid or TooLarge.
func Decode(frame []byte) (*Message, error) {
	if len(frame) > MaxFrame {
		return nil, Errorf(TooLarge, "decode frame: %d bytes are over the limit of %d", len(frame), MaxFrame)
	}
	r := reader{b: frame}
	m := &Message{}
	if field, err := r.message(m); err != nil {
		return nil, Errorf(Invalid, "decode frame: %s: %v", field, err)
	}
	m.Body = r.b
	return m, nil
}

// reader takes msgpack values from the front of b.
type reader struct{ b []byte }

// message reads the header; on an error field names the element.
func (r *reader) message(m *Message) (field string, err error) {
	n, err := r.array()
	if err != nil {
		return "header", err
	}
	if n < minFields {
		return "header", fmt.Errorf("has %d elements, needs %d", n, minFields)
	}
	if field, err = r.front(m); err != nil {
		return field, err
	}
	if field, err = r.back(m); err != nil {
		return field, err
	}
	if n >= fields {
		if m.Epoch, err = r.uint(math.MaxUint64); err != nil {
			return "epoch", err
		}
		n -= fields
	} else {
		n = 0
	}
	return "extra elements", r.skip(n)
}

// front reads type to target.
func (r *reader) front(m *Message) (string, error) {
	v, err := r.uint(math.MaxUint8)
	if err != nil {
		return "type", err
	}
	if m.Type = Type(v); m.Type < Request || m.Type > Control {
		return "type", fmt.Errorf("%d is unknown", v)
	}
	if m.Topic, err = r.string(MaxTopic); err != nil {
		return "topic", err
	}
	if v, err = r.uint(math.MaxUint32); err != nil {
		return "flags", err
	}
	m.Flags = Flags(v)
	if m.Route, err = r.route(); err != nil {
		return "route", err
	}
	m.Target, err = r.rank()
	return "target", err
}

// back reads tag to text.
func (r *reader) back(m *Message) (string, error) {
	var err error
	if m.Tag, err = r.uint(math.MaxUint64); err != nil {
		return "tag", err
	}
	if m.Seq, err = r.uint(math.MaxUint64); err != nil {
		return "seq", err
	}
	v, err := r.uint(math.MaxUint32)
	if err != nil {
		return "user", err
	}
	m.User = uint32(v)
	if v, err = r.uint(math.MaxUint16); err != nil {
		return "code", err
	}
	m.Code = Code(v)
	m.Text, err = r.string(MaxFrame)
	return "text", err
}

func (r *reader) route() ([]Hop, error) {
	n, err := r.array()
	if err != nil || n == 0 {
		return nil, err
	}
	if n > MaxRoute {
		return nil, fmt.Errorf("%d hops are over the limit of %d", n, MaxRoute)
	}
	route := make([]Hop, n)
	for i := range route {
		if route[i], err = r.hop(); err != nil {
			return nil, fmt.Errorf("hop %d: %w", i, err)
		}
	}
	return route, nil
}

func (r *reader) hop() (h Hop, err error) {
	n, err := r.array()
	if err != nil {
		return h, err
	}
	if n != 2 {
		return h, fmt.Errorf("has %d elements, needs 2", n)
	}
	if h.Rank, err = r.rank(); err != nil {
		return h, err
	}
	h.Inc, err = r.uint(math.MaxUint64)
	return h, err
}

func (r *reader) rank() (int32, error) {
	v, neg, err := r.int()
	switch {
	case err != nil:
		return 0, err
	case neg && int64(v) >= math.MinInt32:
		return int32(int64(v)), nil
	case !neg && v <= math.MaxInt32:
		return int32(v), nil
	}
	return 0, errRange
}

func (r *reader) uint(limit uint64) (uint64, error) {
	v, neg, err := r.int()
	if err == nil && (neg || v > limit) {
		err = errRange
	}
	return v, err
}

// int reads any integer form: its bits, and whether they are those of a negative int64.
func (r *reader) int() (v uint64, neg bool, err error) {
	c, err := r.byte()
	switch {
	case err != nil:
		return 0, false, err
	case c < 0x80:
		return uint64(c), false, nil
	case c >= 0xe0:
		return uint64(int64(int8(c))), true, nil
	case c >= 0xcc && c <= 0xcf:
		v, err = r.be(1 << (c - 0xcc))
		return v, false, err
	case c >= 0xd0 && c <= 0xd3:
		n := 1 << (c - 0xd0)
		v, err = r.be(n)
		shift := 64 - 8*n
		s := int64(v<<shift) >> shift
		return uint64(s), s < 0, err
	}
	return 0, false, fmt.Errorf("byte 0x%02x is no integer", c)
}

func (r *reader) string(limit int) (string, error) {
	c, err := r.byte()
	if err != nil {
		return "", err
	}
	var n uint64
	switch {
	case c&0xe0 == 0xa0:
		n = uint64(c & 0x1f)
	case c >= 0xd9 && c <= 0xdb:
		n, err = r.be(1 << (c - 0xd9))
	default:
		err = fmt.Errorf("byte 0x%02x is no string", c)
	}
	if err != nil {
		return "", err
	}
	if n > uint64(limit) {
		return "", fmt.Errorf("%d bytes are over the limit of %d", n, limit)
	}
	b, err := r.take(n)
	return string(b), err
}

func (r *reader) array() (uint64, error) {
	c, err := r.byte()
	switch {
	case err != nil:
		return 0, err
	case c&0xf0 == 0x90:
		return uint64(c & 0x0f), nil
	case c == 0xdc:
		return r.be(2)
	case c == 0xdd:
		return r.be(4)
	}
	return 0, fmt.Errorf("byte 0x%02x is no array", c)
}

// skip passes over n values with all that is nested in them. It takes no more steps than there are bytes.
func (r *reader) skip(n uint64) error {
	for ; n > 0; n-- {
		inner, err := r.skipOne()
		if err != nil {
			return err
		}
		if n += inner; n > MaxFrame {
			return errShort // more values than a frame can have bytes
		}
	}
	return nil
}

// skipOne passes over one scalar, or over the head of a container, of which it returns the number of values inside.
func (r *reader) skipOne() (inner uint64, err error) {
	c, err := r.byte()
	if err != nil {
		return 0, err
	}
	switch {
	case c < 0x80 || c >= 0xe0 || c == 0xc0 || c == 0xc2 || c == 0xc3: // small integer, nil, bool
		return 0, nil
	case c < 0x90:
		return 2 * uint64(c&0x0f), nil // map
	case c < 0xa0:
		return uint64(c & 0x0f), nil // array
	case c < 0xc0:
		_, err = r.take(uint64(c & 0x1f)) // string
		return 0, err
	}
	return r.skipSized(c)
}

// skipSized does it for the forms whose size follows the first byte c.
func (r *reader) skipSized(c byte) (inner uint64, err error) {
	switch {
	case c >= 0xdc: // array, map
		n, err := r.be(2 << (c & 1))
		if c >= 0xde {
			n *= 2
		}
		return n, err
	case c >= 0xd9: // string
		return 0, r.skipCounted(1<<(c-0xd9), 0)
	case c >= 0xd4: // fixext
		_, err = r.take(1 + 1<<(c-0xd4))
	case c >= 0xcc: // integer
		_, err = r.take(1 << (c & 3))
	case c >= 0xca: // float
		_, err = r.take(4 << (c & 1))
	case c >= 0xc7: // ext
		return 0, r.skipCounted(1<<(c-0xc7), 1)
	case c >= 0xc4: // bin
		return 0, r.skipCounted(1<<(c-0xc4), 0)
	default:
		err = fmt.Errorf("byte 0x%02x is no msgpack", c)
	}
	return 0, err
}

// skipCounted passes over a length of size bytes, that many bytes and extra ones.
func (r *reader) skipCounted(size int, extra uint64) error {
	n, err := r.be(size)
	if err != nil {
		return err
	}
	_, err = r.take(n + extra)
	return err
}

func (r *reader) byte() (byte, error) {
	if len(r.b) == 0 {
		return 0, errShort
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c, nil
}

// be reads a big-endian number of n bytes (1, 2, 4 or 8).
func (r *reader) be(n int) (uint64, error) {
	b, err := r.take(uint64(n))
	if err != nil {
		return 0, err
	}
	switch n {
	case 1:
		return uint64(b[0]), nil
	case 2:
		return uint64(binary.BigEndian.Uint16(b)), nil
	case 4:
		return uint64(binary.BigEndian.Uint32(b)), nil
	}
	return binary.BigEndian.Uint64(b), nil
}

func (r *reader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.b)) {
		return nil, errShort
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b, nil
}
