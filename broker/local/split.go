package local

import (
	"encoding/binary"

	"github.com/frond-hpc/frond/overlay/wire"
)

// firstPiece bounds what a length alone makes a splitter allocate.
const firstPiece = 64 << 10

// splitter cuts a byte stream into frames, each in memory of its own.
type splitter struct {
	head  [4]byte
	nhead int
	frame []byte
	want  int
}

// feed takes the next bytes, of which it keeps none, and gives the frames that are complete to emit. After an error the stream cannot be
// read further.
func (s *splitter) feed(b []byte, emit func(frame []byte) error) error {
	for len(b) > 0 {
		if s.nhead < 4 {
			n := copy(s.head[s.nhead:], b)
			s.nhead += n
			b = b[n:]
			if s.nhead < 4 {
				return nil
			}
			if err := s.begin(len(b)); err != nil {
				return err
			}
		}
		n := min(s.want-len(s.frame), len(b))
		s.frame = append(s.frame, b[:n]...)
		b = b[n:]
		if len(s.frame) < s.want {
			return nil
		}
		frame := s.frame
		s.frame, s.nhead = nil, 0
		if err := emit(frame); err != nil {
			return err
		}
	}
	return nil
}

// begin makes room for a frame of which have bytes are there.
func (s *splitter) begin(have int) error {
	n := binary.BigEndian.Uint32(s.head[:])
	switch {
	case n > wire.MaxFrame:
		return wire.Errorf(wire.TooLarge, "a frame of %d bytes is over the limit of %d", n, wire.MaxFrame)
	case n == 0:
		return wire.Errorf(wire.Invalid, "a frame of 0 bytes is malformed")
	}
	s.want = int(n)
	s.frame = make([]byte, 0, min(s.want, max(have, firstPiece)))
	return nil
}

// inside tells whether a frame has begun and is not complete.
func (s *splitter) inside() bool { return s.nhead > 0 }
