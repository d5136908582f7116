// Package wire is the message: one frame format on the tree, the local socket and in memory.
// A frame is a msgpack array, the header in fixed order
//
//	[type, topic, flags, route, target, tag, seq, user, code, text, epoch]
//
// where route is an array of [rank, incarnation] (epoch may be missing and extra trailing elements are ignored) followed at once by the opaque msgpack body. On the unix socket a frame is
// preceded by its length, u32 big-endian. It is pure and imports only msgpack. Decode never panics.
package wire

import "fmt"

// Protocol is the version in every hello. A difference of one is accepted.
const Protocol = 1

// MaxFrame is the largest frame in bytes, header included.
const MaxFrame = 16 << 20

// Type of a message.
type Type uint8

// The message types.
const (
	Request Type = 1 + iota
	Response
	Event
	Control // between neighbours or along a request's way: cancel, disconnect
)

// Flags of a message.
type Flags uint32

// The flags.
const (
	Stream  Flags = 1 << iota // request: wants a streaming answer; response: more follow
	NoReply                   // request: nobody waits for the answer
	Cancel                    // control: end the stream that this route and tag opened
)

// Target ranks that are no rank.
const (
	Any      int32 = -1 // the nearest broker upwards, this one included, that offers the service
	Upstream int32 = -2 // the same, but not the sender's broker
)

// LocalRank is the rank of the first hop of a route: an endpoint (client or service) of the broker it started on.
const LocalRank int32 = -1

// Hop is one entry of a route stack: a broker (rank, incarnation), or with LocalRank an endpoint number.
type Hop struct {
	Rank int32
	Inc  uint64
}

// Message is a decoded frame. Body aliases the frame it was decoded from: the receiver owns both.
type Message struct {
	Type   Type
	Topic  string // service.method
	Flags  Flags
	Route  []Hop  // where a request came from, nearest hop last; a response pops it
	Target int32  // rank, Any or Upstream (requests)
	Tag    uint64 // match tag, unique among the outstanding requests of one endpoint
	Seq    uint64 // events: sequence
	Epoch  uint64 // events: the leader's epoch
	User   uint32
	Code   Code   // responses: OK or the error
	Text   string // responses: the error's text
	Body   []byte
}

// Code is an error code on the wire. The list is closed and never reordered.
type Code uint16

// The error codes.
const (
	OK            Code = iota
	EndOfStream        // a stream's clean end
	Lost               // the way broke: the request may have been done
	NoService          // no broker on the way offers the service
	NoMethod           // the service has no such method
	NotFound           // no such job, attribute, rank …
	Invalid            // the request is malformed or contradicts itself
	Unsatisfiable      // can never be satisfied by this instance
	Denied             // not allowed
	TooLarge           // over a limit
	Busy               // try again later
	Exists             // already there
	Unreachable        // that rank is not online: the request was not done
	Canceled           // the requester cancelled it
	Timeout            // took too long
	BadProtocol        // versions or epochs do not fit
	Resync             // the receiver fell behind: read state again
	Unavailable        // the instance is shutting down or not yet up
	Inactive           // the job has already ended
	Internal           // a bug or a failed disk: the text says more
)

var codeNames = [...]string{"ok", "end of stream", "lost", "no such service", "no such method", "not found", "invalid", "unsatisfiable",
	"denied", "too large", "busy", "exists", "unreachable", "canceled", "timeout", "protocol", "resync", "unavailable", "inactive", "internal"}

// String names the code.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint16(c))
}

// Error is an error that can travel. errors.Is compares codes only: errors.Is(err, &Error{Code: NotFound}).
type Error struct {
	Code Code
	Text string // a whole sentence for the user: what, where, what to do
}

// Error returns the text, or the code's name without one.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Code.String()
	}
	return e.Text
}

// Is makes errors.Is compare codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Errorf makes an Error.
func Errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Text: fmt.Sprintf(format, args...)}
}
