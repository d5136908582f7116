// Package overlay is the tree of brokers: links, joining, healing, growing, leaving and routing by rank, as one pure state
// machine. A transport (overlay/unix, overlay/zmq, overlay/mem) carries frames for it; the broker's router sits on top.
package overlay

import "time"

// ConnID names one connection of this broker's transport for the life of that connection; never reused in a process.
type ConnID uint64

// AcceptedBit is set in the ids that a transport gives to connections it accepted, and clear in those the machine dials.
const AcceptedBit ConnID = 1 << 63

// Transport is the port that overlay/unix, overlay/zmq and overlay/mem implement. Calls come one at a time, none blocks.
// What happens is reported through the sink given at construction, as ConnUp, ConnData and ConnDown, in order per
// connection. A connection delivers frames in order, or ends: the machine finds gaps by its own sequence numbers and closes.
// There is no automatic reconnect: each Dial is one connection with a routing id of its own.
type Transport interface {
	// Listen binds addr ("unix:///path", "ipc:///path", "tcp://host:*", "mem://name") and returns the address peers dial.
	Listen(addr string) (string, error)
	// Dial starts a connection; ConnUp or ConnDown follows.
	Dial(id ConnID, addr string)
	// Send queues one frame; a failure shows as ConnDown.
	Send(id ConnID, frame []byte)
	// CloseConn ends a connection at once (linger 0) and without a further event for it.
	CloseConn(id ConnID)
	// Close ends everything.
	Close() error
}

// Events into the machine.
type (
	// ConnUp: a dialled connection stands, or a peer's connection was accepted (Accepted; the transport chose ID).
	ConnUp struct {
		Conn     ConnID
		Accepted bool
	}
	// ConnData: one frame came.
	ConnData struct {
		Conn  ConnID
		Frame []byte
	}
	// ConnDown: the connection ended (or never came to be). Reason is for people.
	ConnDown struct {
		Conn   ConnID
		Reason string
	}
	// Begin is the first event: the machine dials its parent, or as leader is at once online.
	Begin struct{}
	// Tick: the time asked for by WakeAt has come.
	Tick struct{}
	// Submit asks to send Payload (an encoded wire frame) over Link.
	Submit struct {
		Link    ConnID
		Payload []byte
	}
	// Consumed gives credit back: the router has dealt with n bytes that came over Link.
	Consumed struct {
		Link  ConnID
		Bytes int
	}
	// Dead: someone who knows (supervisor, launcher) says that this process is dead. On the leader only.
	Dead struct {
		Rank int32
		PID  int // 0 = whatever process has that rank now
	}
	// Leave: this broker wants to go (the leader marks it left, its children heal).
	Leave struct{}
)

// Actions out of the machine.
type (
	Dial struct { // Transport.Dial
		Conn ConnID
		Addr string
	}
	Send struct { // Transport.Send
		Conn  ConnID
		Frame []byte
	}
	CloseConn struct { // Transport.CloseConn
		Conn   ConnID
		Reason string
	}
	WakeAt struct{ T time.Time }
	// Deliver: an application payload came over a live link.
	Deliver struct {
		Link    ConnID
		Payload []byte
	}
	// LinkUp: a link to a tree neighbour is usable.
	LinkUp struct {
		Link   ConnID
		Parent bool // it is the uplink
		Rank   int32
		Inc    uint64
	}
	// LinkDown: that link is over; what was outstanding on it is lost.
	LinkDown struct {
		Link   ConnID
		Parent bool
		Rank   int32
		Reason string
	}
	// Joined: the leader has confirmed this broker as online; again after each break of its way to the leader, wherever it was.
	Joined struct {
		Rank  int32
		Epoch uint64
		Path  uint64 // 1, 2, …: grows with each Joined of this process
		Inc   uint64 // incarnation, the same as in the leader's Member
	}
	// PathDown: the way to the leader broke, here or further up (then the uplink itself stands). Joined follows when it is
	// whole again. Sent once per break, and only after a Joined.
	PathDown struct{ Reason string }
	// Departed: the leaving that Leave asked for is done; all links are over and the process may exit.
	Departed struct{}
	// MemberChange, on the leader only: the state of one member changed.
	MemberChange struct{ Member Member }
	// Failed: this broker cannot be a member (refused, wrong protocol, no contact at start). It must exit with this error.
	Failed struct{ Err error }
	// Report is a line for the log.
	Report struct {
		Level, Msg string
		KV         []any
	}
)

// MemberState is the leader's view of one broker.
type MemberState uint8

// The member states.
const (
	Online MemberState = iota + 1 // joined and reachable through the tree
	Orphan                        // its way to the leader broke; it may be back
	Gone                          // its process is known to be dead
	Left                          // it left in order
)

// String names the state as `overlay status` shows it.
func (s MemberState) String() string {
	if s < Online || s > Left {
		return "unknown"
	}
	return [...]string{"online", "lost", "dead", "left"}[s-Online]
}

// Member is what the leader knows of one broker.
type Member struct {
	Rank        int32
	UUID        string // of the process
	Incarnation uint64 // of its present link; grows with each
	State       MemberState
	Parent      int32 // -1 for the leader
	Since       time.Time
	Reason      string // why it is not online
	Info        Info
}

// Info is what a broker says of itself when it joins.
type Info struct {
	Hostname  string `msgpack:"h"`
	BootID    string `msgpack:"b"` // of the host: with PID tells whether the process is alive
	PID       int    `msgpack:"p"`
	Addr      string `msgpack:"a"` // where children dial it
	Version   string `msgpack:"v"`
	Resources []byte `msgpack:"r"` // msgpack of its []resource.Node, opaque here
}

// Config of a machine.
type Config struct {
	Rank      int32 // wanted rank; -1 = any free one (growing)
	Size      int   // expected number of brokers at start (0 = unknown); ranks below it are reserved for them
	Leader    bool
	Epoch     uint64 // leader only: from the store
	UUID      string
	Fanout    int      // K, at least 1
	Parent    string   // address to dial first (not for the leader); any broker of the instance serves
	Fallback  []string // further addresses to try, the leader's among them
	Info      Info
	Rand      uint64        // seed for jitter and incarnations
	Keepalive time.Duration // default 2 s; a link without a frame for 3 of them is over
	JoinLimit time.Duration // give up (Failed) when not joined for so long; 0 = never
	Credit    int           // bytes in flight per link and direction; default 8 MiB
	SendLimit int           // bytes waiting on one link before it is ended with a reason; default 256 MiB
	Known     []Member      // leader: members of the epoch before, from the store (for ranks, uuids)
}
