package api

import (
	"github.com/frond-hpc/frond/broker/rpc"
)

// Member is one row of `overlay status`.
type Member struct {
	Rank     int32   `msgpack:"rank" json:"rank"`
	Name     string  `msgpack:"name" json:"name"`
	Host     string  `msgpack:"host" json:"host"`
	PID      int     `msgpack:"pid" json:"pid"`
	State    string  `msgpack:"state" json:"state"` // online, lost, dead, left
	Parent   int32   `msgpack:"parent" json:"parent"`
	Children []int32 `msgpack:"children" json:"children"`
	Reason   string  `msgpack:"reason,omitempty" json:"reason,omitempty"`
	Since    float64 `msgpack:"since" json:"since"` // epoch seconds
}

// Empty is a body without fields.
type Empty struct{}

// Ping measures a round trip to the broker it is targeted at; Pad is echoed.
var Ping = rpc.Method[PingReq, PingRep]{Topic: "broker.ping", Idempotent: true}

type (
	// PingReq asks for an echo.
	PingReq struct {
		Pad []byte `msgpack:"pad,omitempty"`
	}
	// PingRep answers it.
	PingRep struct {
		Rank int32  `msgpack:"rank"`
		Pad  []byte `msgpack:"pad,omitempty"`
	}
)

// AttrGet reads one attribute of the targeted broker. NotFound if there is none of that name.
var AttrGet = rpc.Method[AttrReq, AttrRep]{Topic: "broker.getattr", Idempotent: true}

// AttrList reads all attributes of the targeted broker.
var AttrList = rpc.Method[Empty, AttrListRep]{Topic: "broker.lsattr", Idempotent: true}

type (
	// AttrReq names an attribute.
	AttrReq struct {
		Name string `msgpack:"name"`
	}
	// AttrRep is its value.
	AttrRep struct {
		Value string `msgpack:"value"`
	}
	// AttrListRep has all of them.
	AttrListRep struct {
		Attrs map[string]string `msgpack:"attrs"`
	}
)

// AttrSet sets an attribute of the targeted broker that nobody but users reads. Denied for those of the broker itself; NotFound for one
// that is not there, unless Create.
var AttrSet = rpc.Method[AttrSetReq, Empty]{Topic: "broker.setattr", Idempotent: true}

// AttrSetReq names an attribute and its value.
type AttrSetReq struct {
	Name   string `msgpack:"name"`
	Value  string `msgpack:"value"`
	Create bool   `msgpack:"create,omitempty"`
}

// LogAppend writes a line into the targeted broker's log.
var LogAppend = rpc.Method[LogAppendReq, Empty]{Topic: "broker.log"}

// LogAppendReq is a line: Level is debug, info, warn or error.
type LogAppendReq struct {
	Level string `msgpack:"l"`
	App   string `msgpack:"app,omitempty"` // who writes
	Text  string `msgpack:"m"`
}

// Dmesg streams the log ring of the targeted broker: what there is, then, with Follow, what comes.
var Dmesg = rpc.Method[DmesgReq, DmesgLine]{Topic: "broker.dmesg", Stream: true, Idempotent: true}

type (
	// DmesgReq asks for the log.
	DmesgReq struct {
		Follow bool `msgpack:"follow"`
		New    bool `msgpack:"new,omitempty"`   // without what there is
		Clear  bool `msgpack:"clear,omitempty"` // forget what there is
	}
	// DmesgLine is one entry.
	DmesgLine struct {
		Time  float64 `msgpack:"t" json:"timestamp"`
		Rank  int32   `msgpack:"r" json:"rank"`
		Level string  `msgpack:"l" json:"level"`
		Text  string  `msgpack:"m" json:"message"`
	}
)

// OverlayStatus, answered by the leader: all members, lost ones included, by rank.
var OverlayStatus = rpc.Method[Empty, OverlayStatusRep]{Topic: "leader.overlay-status", Idempotent: true}

// OverlayStatusRep is the answer.
type OverlayStatusRep struct {
	Size    int      `msgpack:"size"` // expected brokers
	Online  int      `msgpack:"online"`
	Members []Member `msgpack:"members"`
}

// BrokerDead, to the leader, from one who knows (the supervisor): that broker's process is dead.
var BrokerDead = rpc.Method[BrokerDeadReq, Empty]{Topic: "leader.broker-dead", Idempotent: true}

// BrokerDeadReq names it.
type BrokerDeadReq struct {
	Rank int32 `msgpack:"rank"`
	PID  int   `msgpack:"pid"`
}

// WaitOnline streams the number of online brokers, at once and at each change, and ends when it has reached Count
// and their resources are known to the scheduler.
var WaitOnline = rpc.Method[WaitOnlineReq, OnlineCount]{Topic: "leader.wait-online", Stream: true, Idempotent: true}

type (
	// WaitOnlineReq asks for Count brokers; 0 = the expected size.
	WaitOnlineReq struct {
		Count int `msgpack:"count"`
	}
	// OnlineCount is progress.
	OnlineCount struct {
		Online int `msgpack:"online"`
		Size   int `msgpack:"size"`
	}
)

// ResourceBarrier, to "resource": answered when all that follows from the notices before it has been sent on to "sched" and "job".
var ResourceBarrier = rpc.Method[Empty, Empty]{Topic: "resource.barrier", Idempotent: true}

// Shutdown, to the leader: no more submissions, cancel what is active (unless Keep), tell all brokers to exit (leaves
// first), exit. With a state directory and Keep the pending jobs stay in the store. Answered when it has begun.
var Shutdown = rpc.Method[ShutdownReq, Empty]{Topic: "leader.shutdown"}

// ShutdownReq says how.
type ShutdownReq struct {
	Keep   bool   `msgpack:"keep"`
	Reason string `msgpack:"reason,omitempty"`
	// Grace is how many seconds tasks that are ended have between TERM and KILL, if their own kill timeout is not shorter; 0 = a short time. At most MaxGrace.
	Grace float64 `msgpack:"grace,omitempty"`
}

// MaxGrace bounds ShutdownReq.Grace, in seconds.
const MaxGrace = 15

// Stats of the targeted broker's process.
var Stats = rpc.Method[Empty, StatsRep]{Topic: "broker.stats", Idempotent: true}

// StatsRep is the answer.
type StatsRep struct {
	Rank      int32   `msgpack:"rank" json:"rank"`
	PID       int     `msgpack:"pid" json:"pid"`
	RSSKiB    int64   `msgpack:"rss" json:"rss_kib"`
	MaxRSSKiB int64   `msgpack:"maxrss" json:"maxrss_kib"`
	CPU       float64 `msgpack:"cpu" json:"cpu_seconds"` // user+system of the process
	ChildCPU  float64 `msgpack:"ccpu" json:"child_cpu_seconds"`
	Clients   int     `msgpack:"clients" json:"clients"`
	Start     float64 `msgpack:"start" json:"start"`
}

// Subscribe streams published events whose topic starts with Prefix; a subscriber that falls behind gets Resync.
var Subscribe = rpc.Method[SubscribeReq, EventMsg]{Topic: "event.subscribe", Stream: true, Idempotent: true}

// PublishEvent has the leader publish an event to the instance.
var PublishEvent = rpc.Method[EventMsg, EventMsg]{Topic: "event.publish"}

type (
	// SubscribeReq names the events.
	SubscribeReq struct {
		Prefix string `msgpack:"prefix"`
	}
	// EventMsg is one event; Epoch and Seq are set by the leader.
	EventMsg struct {
		Topic string `msgpack:"topic" json:"topic"`
		Epoch uint64 `msgpack:"epoch" json:"epoch"`
		Seq   uint64 `msgpack:"seq" json:"seq"`
		Body  []byte `msgpack:"body" json:"body"`
	}
)

// Notices inside one broker, given by the broker to its services.
type (
	// Membership, on the leader, to service "job" and "resource": the state of one broker changed.
	Membership struct {
		Rank        int32
		State       string // online, lost, dead, left
		UUID        string
		Incarnation uint64
		Host        string
		BootID      string
		PID         int
		Reason      string
		Resources   []byte // msgpack of []resource.Node, as in overlay.Info
	}
	// Contact, on every broker, to service "exec": the way to the leader came up (Up, with a new Incarnation each time) or broke.
	Contact struct {
		Up          bool
		Rank        int32
		Epoch       uint64
		Incarnation uint64
	}
	// Stopping, to every service: the broker is about to exit; end tasks, flush. The service answers with
	// Notify("broker", Stopped{Name}).
	Stopping struct {
		Keep  bool
		Grace float64 // as in ShutdownReq
	}
	// Stopped answers it.
	Stopped struct{ Name string }
)
