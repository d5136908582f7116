package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Limits of a header, checked on both sides. They bound what one frame can make a broker hold.
const (
	MaxTopic = 256 // bytes
	MaxRoute = 64  // hops
)

// fields of the header that Encode writes; Decode asks for minFields and ignores what comes after them.
const (
	fields    = 11
	minFields = 10
)

// Encode returns m as a frame of its own.
func Encode(m *Message) ([]byte, error) {
	return AppendEncode(make([]byte, 0, 64+len(m.Topic)+len(m.Text)+12*len(m.Route)+len(m.Body)), m)
}

// AppendEncode appends m's frame to dst. On an error (a limit: topic, route, frame) dst is returned as it was.
func AppendEncode(dst []byte, m *Message) ([]byte, error) {
	if err := checkLimits(m); err != nil {
		return dst, err
	}
	start := len(dst)
	b := append(dst, 0x90|fields)
	b = appendUint(b, uint64(m.Type))
	b = appendString(b, m.Topic)
	b = appendUint(b, uint64(m.Flags))
	b = appendRoute(b, m.Route)
	b = appendInt(b, int64(m.Target))
	b = appendUint(b, m.Tag)
	b = appendUint(b, m.Seq)
	b = appendUint(b, uint64(m.User))
	b = appendUint(b, uint64(m.Code))
	b = appendString(b, m.Text)
	b = appendUint(b, m.Epoch)
	b = append(b, m.Body...)
	if n := len(b) - start; n > MaxFrame {
		return dst, Errorf(TooLarge, "encode %s: frame of %d bytes is over the limit of %d", m.Topic, n, MaxFrame)
	}
	return b, nil
}

func checkLimits(m *Message) error {
	switch {
	case m.Type < Request || m.Type > Control:
		return fmt.Errorf("encode message: type %d is unknown", m.Type)
	case len(m.Topic) > MaxTopic:
		return Errorf(TooLarge, "encode message: topic of %d bytes is over the limit of %d", len(m.Topic), MaxTopic)
	case len(m.Route) > MaxRoute:
		return Errorf(TooLarge, "encode %s: route of %d hops is over the limit of %d", m.Topic, len(m.Route), MaxRoute)
	case len(m.Body) > MaxFrame:
		return Errorf(TooLarge, "encode %s: body of %d bytes is over the limit of %d", m.Topic, len(m.Body), MaxFrame)
	}
	return nil
}

func appendRoute(b []byte, route []Hop) []byte {
	if len(route) < 16 {
		b = append(b, 0x90|byte(len(route)))
	} else {
		b = append(b, 0xdc, 0, byte(len(route))) // MaxRoute fits a byte
	}
	for _, h := range route {
		b = append(b, 0x92)
		b = appendInt(b, int64(h.Rank))
		b = appendUint(b, h.Inc)
	}
	return b
}

// appendUint writes the shortest form of v.
func appendUint(b []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(b, byte(v))
	case v <= math.MaxUint8:
		return append(b, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return append(b, 0xcd, byte(v>>8), byte(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	default:
		return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
	}
}

// appendInt writes the shortest form of v.
func appendInt(b []byte, v int64) []byte {
	switch {
	case v >= 0:
		return appendUint(b, uint64(v))
	case v >= -32:
		return append(b, byte(v))
	case v >= math.MinInt8:
		return append(b, 0xd0, byte(v))
	case v >= math.MinInt16:
		return append(b, 0xd1, byte(v>>8), byte(v))
	default:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(v)) // ranks are int32
	}
}

func appendString(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n <= math.MaxUint8:
		b = append(b, 0xd9, byte(n))
	case n <= math.MaxUint16:
		b = append(b, 0xda, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}
