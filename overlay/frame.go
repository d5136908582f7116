//lint:file-ignore U1000 the _msgpack fields are read by msgpack

package overlay

import (
	"encoding/binary"
	"fmt"

	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/vmihailenco/msgpack/v5"
)

// MaxLinkFrame is the largest frame that a transport has to carry.
const MaxLinkFrame = wire.MaxFrame + frameHead

// A frame on a link is kind (1 byte), sequence (8 bytes, big-endian, 1 for the hello and then one more each), payload.
// Payloads of all kinds but data and credit are msgpack arrays in the order of the structs below; a reader ignores extra elements.
const frameHead = 9

type kind uint8

const (
	kindHello    kind = 1 + iota // first frame in both directions, once
	kindBye                      // the sender will not have this link; says why
	kindKeep                     // keepalive, empty
	kindCredit                   // u32: bytes of data that were dealt with
	kindData                     // an application payload
	kindPathUp                   // down: the way to the leader is whole; answer with a join. Empty
	kindPathDown                 // down: the way to the leader broke
	kindJoin                     // up: a member announces itself, once per path
	kindJoined                   // down, along the join's way: the leader has it online
	kindRefused                  // down, along the join's or place's way: the leader will not
	kindPlace                    // up: someone without an uplink asks where to connect
	kindPlaced                   // down, along the place's way
	kindGone                     // up: these members are not reachable any more
	kindLeave                    // up: a member leaves in order
	kindLeft                     // down: it may go
	kindDrop                     // down: that member is dead, end its link
)

var kindNames = [...]string{"unknown", "hello", "bye", "keepalive", "credit", "data", "path-up", "path-down", "join", "joined", "refused",
	"place", "placed", "gone", "leave", "left", "drop"}

func (k kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// What the dialling side wants of a connection; the accepting side answers asParent.
const (
	asChild uint8 = 1 + iota
	asGuest       // to ask for a place, then close
	asParent
)

type (
	hello struct {
		_msgpack struct{} `msgpack:",as_array"`
		Protocol int      // always the first element
		Host     string
		Want     uint8
		Epoch    uint64 // highest seen; 0 = none yet
		Rank     int32
		Inc      uint64 // of this connection
		UUID     string
		Subtree  []int32 // ranks that come with a child
		Credit   int     // bytes of data the sender of this hello is ready to hold
		Up       bool    // asParent: its way to the leader is whole
	}
	bye struct {
		_msgpack struct{} `msgpack:",as_array"`
		Code     wire.Code
		Text     string
	}
	pathDown struct {
		_msgpack struct{} `msgpack:",as_array"`
		Reason   string
	}
	join struct {
		_msgpack  struct{} `msgpack:",as_array"`
		UUID      string
		Rank      int32
		Inc       uint64
		Parent    int32  // set by the parent, with
		ParentInc uint64 // its own confirmed incarnation: a join that travelled a stale path is told by it
		Info      Info
	}
	joined struct {
		_msgpack struct{} `msgpack:",as_array"`
		UUID     string
		Rank     int32
		Inc      uint64
		Epoch    uint64
		Others   []string // addresses of other brokers, for healing
	}
	refused struct {
		_msgpack struct{} `msgpack:",as_array"`
		UUID     string
		Inc      uint64
		Code     wire.Code
		Text     string
		Final    bool // asking again is no use
	}
	place struct {
		_msgpack struct{} `msgpack:",as_array"`
		UUID     string
		Rank     int32
		Inc      uint64
		Subtree  []int32
		Avoid    []int32 // parents it could not connect to
	}
	placed struct {
		_msgpack struct{} `msgpack:",as_array"`
		UUID     string
		Inc      uint64
		Rank     int32
		Parent   int32
		Addr     string
	}
	// who names one incarnation of one member.
	who struct {
		_msgpack struct{} `msgpack:",as_array"`
		Rank     int32
		Inc      uint64
	}
	gone struct {
		_msgpack struct{} `msgpack:",as_array"`
		Members  []who
		Reason   string
	}
)

// buildFrame makes a link frame.
func buildFrame(k kind, seq uint64, payload []byte) []byte {
	b := make([]byte, frameHead, frameHead+len(payload))
	b[0] = byte(k)
	binary.BigEndian.PutUint64(b[1:], seq)
	return append(b, payload...)
}

// parseFrame splits a link frame; payload aliases it.
func parseFrame(b []byte) (k kind, seq uint64, payload []byte, err error) {
	if len(b) < frameHead {
		return 0, 0, nil, fmt.Errorf("frame of %d bytes is too short", len(b))
	}
	return kind(b[0]), binary.BigEndian.Uint64(b[1:]), b[frameHead:], nil
}

// pack encodes a control payload. The types above always encode.
func pack(v any) []byte {
	b, err := msgpack.Marshal(v)
	if err != nil {
		panic("overlay: encode control frame: " + err.Error())
	}
	return b
}

// unpack decodes a control payload.
func unpack[T any](payload []byte) (T, error) {
	var v T
	err := wire.Unmarshal(payload, &v)
	return v, err
}

// unpackHello decodes a hello. Its protocol is read first, so that a peer of another time is refused by name whatever
// the rest of its hello looks like: then err is nil and only Protocol and, if possible, Host are set.
func unpackHello(payload []byte) (hello, error) {
	var head []msgpack.RawMessage
	if err := wire.Unmarshal(payload, &head); err != nil {
		return hello{}, err
	}
	var h hello
	if len(head) < 2 {
		return h, fmt.Errorf("hello has %d elements", len(head))
	}
	if err := wire.Unmarshal(head[0], &h.Protocol); err != nil {
		return h, err
	}
	if protocolDistance(h.Protocol) > 1 {
		_ = wire.Unmarshal(head[1], &h.Host) // best effort: only for the message
		return h, nil
	}
	return unpack[hello](payload)
}

// protocolDistance is how far a peer's protocol is from ours.
func protocolDistance(p int) int {
	return max(p-wire.Protocol, wire.Protocol-p)
}
