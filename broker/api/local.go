package api

import "github.com/frond-hpc/frond/overlay/wire"

// The local socket: u32 big-endian length, then a frame of overlay/wire, both ways.
//
//	hello     The client's first frame is a Control of topic TopicHello whose body is a Hello; the broker answers with its own. Whoever
//	          finds a protocol more than one away from its own refuses with TopicError and closes.
//	work      Requests of the client with tags of its choice, unique among its outstanding ones; responses of the broker. A Control of
//	          topic TopicCancel and flag Cancel with a request's tag says that its answers are no longer wanted.
//	error     A Control of topic TopicError with code and text is the last frame of a connection that the broker ends.
//
// On the tree TopicCancel travels along a request's way with its route; TopicStop, TopicEventSync and TopicEventReset go between
// neighbours.
const (
	TopicHello      = "hello"
	TopicError      = "error"
	TopicCancel     = "cancel"
	TopicStop       = "stop"        // to a child: the instance shuts down. Body StopMsg
	TopicEventSync  = "event-sync"  // to the parent: the last event had is (Epoch, Seq)
	TopicEventReset = "event-reset" // to a child: the parent stands at (Epoch, Seq) and cannot send what was missed
)

type (
	// Hello opens a local connection.
	Hello struct {
		Protocol int    `msgpack:"protocol"`
		Version  string `msgpack:"version"`
		Host     string `msgpack:"host"`
		PID      int    `msgpack:"pid"`
		Rank     int32  `msgpack:"rank"` // the broker's; -1 from a client
	}
	// StopMsg tells a broker to stop its services, wait for its children, leave and exit.
	StopMsg struct {
		Keep   bool    `msgpack:"keep"`
		Reason string  `msgpack:"reason,omitempty"`
		Grace  float64 `msgpack:"grace,omitempty"` // as in ShutdownReq
	}
)

// CheckProtocol refuses a peer whose protocol is more than one away from ours.
func CheckProtocol(peer Hello) error {
	if d := peer.Protocol - wire.Protocol; d >= -1 && d <= 1 {
		return nil
	}
	return wire.Errorf(wire.BadProtocol, "%s (frond %s) speaks protocol %d, this side protocol %d: they must not differ by more than one; use the same version of frond on both",
		peer.Host, peer.Version, peer.Protocol, wire.Protocol)
}

// Heavy tells whether small requests of this topic can have large answers. A broker passes on one at a time for each client; the
// others wait for its end.
func Heavy(topic string) bool {
	switch topic {
	case List.Topic, Info.Topic, OverlayStatus.Topic, AttrList.Topic, ResourceStatus.Topic, SchedUsage.Topic, SchedReasons.Topic,
		KVSRead.Topic, KVSList.Topic, KVSSpaces.Topic:
		return true
	}
	return false
}
