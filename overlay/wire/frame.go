package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// AppendFrame appends frame as it stands on a byte stream: its length, u32 big-endian, then itself.
func AppendFrame(dst, frame []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(frame))), frame...)
}

// ReadFrame reads one length and frame from r, into a slice of its own, because the message decoded from it aliases it.
// It returns io.EOF where the stream ends between two frames, io.ErrUnexpectedEOF inside one, and an *Error with code TooLarge
// for a length over MaxFrame; after an error the stream cannot be read further. Give it a buffered reader.
func ReadFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, Errorf(TooLarge, "read frame: %d bytes are over the limit of %d", n, MaxFrame)
	}
	frame, err := readGrowing(r, int(n))
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("read frame of %d bytes: %w", n, err)
	}
	return frame, nil
}

// readGrowing reads n bytes. Memory follows what has come, so that a length alone cannot make it allocate.
func readGrowing(r io.Reader, n int) ([]byte, error) {
	const step = 1 << 20
	frame := make([]byte, 0, min(n, step))
	for len(frame) < n {
		from := len(frame)
		to := min(n, from+max(step, from))
		frame = append(frame, make([]byte, to-from)...)
		if _, err := io.ReadFull(r, frame[from:]); err != nil {
			return nil, err
		}
	}
	return frame, nil
}
