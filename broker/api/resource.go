package api

import (
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
)

// NodesChanged is the notice with which the resource service tells "sched" and "job" of nodes (leader only, as values).
// Add carries new nodes or changed ones in full (a new node is up unless it stands in Down); the sets name nodes by Index and apply
// in the order Add, Up, Down, Remove.
type NodesChanged struct {
	Add       []resource.Node
	Up, Down  []int // schedulable or not: offline and drained both are Down
	Remove    []int // gone for good
	Drained   map[int]string
	Undrained []int
}

// Expiration is the notice with which the resource service tells "sched" and "job" when the instance ends (epoch seconds; 0 = unknown).
type Expiration struct{ At float64 }

// ExpirationUpdate, to "resource": when the instance ends, as its supervisor knows it: nothing is started any more that cannot end by then.
// It ends nothing by itself.
var ExpirationUpdate = rpc.Method[ExpirationReq, Empty]{Topic: "resource.expiration-update", Idempotent: true}

// ExpirationReq is the time, in epoch seconds; 0 = unknown.
type ExpirationReq struct {
	Expiration float64 `msgpack:"expiration"`
}

// The protocol between "job" (caller) and "sched", by notices on the leader, all values immutable:
//
//	job → sched   SchedSubmit   groups of identical requests join the queue (count more of an existing group adds to it)
//	job → sched   SchedPriority another priority for a group; 0 holds it
//	job → sched   SchedUpdate   another time limit for a group, or expected end of allocations
//	job → sched   SchedCancel count fewer pending of a group; what was allocated meanwhile the job service gives back by SchedFree
//	job → sched   SchedAdopt    (after a restart) these resources are in use; not answered. Their nodes may become known later
//	job → sched   SchedFree     allocations end
//	job → sched   SchedHold     stop or resume allocating altogether (recovery, shutdown)
//	sched → job   SchedAllocs   allocations made, in order
//	sched → job   SchedDeny     a group can never be satisfied any more (its nodes were removed); it has left the queue. Not sent on hold
//
// There is no failure between them: they live and die in one process.
type (
	// GroupID names a queue entry: jobs with the same request, priority, duration and constraint from one submission.
	GroupID uint64
	// SchedSubmit adds to the queue.
	SchedSubmit struct{ Groups []SchedGroup }
	// SchedGroup is Count identical pending jobs.
	SchedGroup struct {
		ID         GroupID
		Request    jobspec.Request
		Constraint *jobspec.Constraint
		Duration   float64 // seconds; 0 = unlimited
		Priority   uint32  // higher first; 0 = held
		Order      uint64  // among equal priorities: ascending (the first job's id)
		Count      int
		MinLength  float64 // may start with a shorter Duration, but not below this; 0 = not
	}
	// SchedPriority changes a group's priority.
	SchedPriority struct {
		ID       GroupID
		Priority uint32
	}
	// SchedUpdate changes the time limit of a group (seconds, 0 = none), and when allocations of it are expected to end (epoch seconds, 0 =
	// unknown).
	SchedUpdate struct {
		ID       GroupID
		Duration float64
		Ends     []SchedEnd
	}
	// SchedEnd is the expected end of an allocation.
	SchedEnd struct {
		ID  uint64
		End float64
	}
	// SchedCancel takes pending jobs out.
	SchedCancel struct {
		ID    GroupID
		Count int
	}
	// SchedAdopt marks resources as used by running jobs.
	SchedAdopt struct{ Allocs []SchedAlloc }
	// SchedFree ends allocations by id.
	SchedFree struct{ IDs []uint64 }
	// SchedHold stops (true) or resumes allocation.
	SchedHold struct{ Hold bool }
	// SchedAlloc is one allocation. ID is given by sched, or by the job service (top bit set) in SchedAdopt.
	SchedAlloc struct {
		ID    uint64
		Group GroupID
		Alloc *resource.Alloc
		End   float64 // expected end, epoch seconds; 0 = unknown
		// Counters (SchedAdopt) is what the job holds of named counters (jobspec.Request); of a job in several pieces one has it.
		Counters string
	}
	// SchedAllocs tells of allocations.
	SchedAllocs struct{ Allocs []SchedAlloc }
	// SchedDeny says why a group will never run.
	SchedDeny struct {
		ID     GroupID
		Reason string
	}
)

// SchedReasons, to "sched": why groups wait, for annotations.
var SchedReasons = rpc.Method[SchedReasonsReq, SchedReasonsRep]{Topic: "sched.reasons", Idempotent: true}

type (
	// SchedReasonsReq names groups; empty = all. Detail counts the jobs ahead and looks further for estimates.
	SchedReasonsReq struct {
		Groups []GroupID `msgpack:"g"`
		Detail bool      `msgpack:"d,omitempty"`
	}
	// SchedReasonsRep has a sentence and an estimate for each that waits.
	SchedReasonsRep struct {
		Reason   map[GroupID]string  `msgpack:"r"`
		Estimate map[GroupID]float64 `msgpack:"t"`           // epoch seconds; absent = unknown
		Ahead    map[GroupID]int     `msgpack:"a,omitempty"` // with Detail: jobs that stand before it
	}
)

// SchedUsage, to "sched": what is allocated, as sets (for resource list).
var SchedUsage = rpc.Method[Empty, SchedUsageRep]{Topic: "sched.usage", Idempotent: true}

// SchedUsageRep is the answer: parts of nodes in use, and the named counters.
type SchedUsageRep struct {
	Used     []resource.NodeAlloc `msgpack:"used"`
	Counters []CounterUse         `msgpack:"counters,omitempty"`
}

// CounterUse is the state of a named counter.
type CounterUse struct {
	Name  string `msgpack:"name" json:"name"`
	Total int64  `msgpack:"total" json:"total"`
	Used  int64  `msgpack:"used" json:"used"`
}

// ResourceStatus, to "resource": every node with its state and reason.
var ResourceStatus = rpc.Method[Empty, ResourceStatusRep]{Topic: "resource.status", Idempotent: true}

type (
	// ResourceStatusRep lists nodes by index.
	ResourceStatusRep struct {
		Nodes    []NodeStatus `msgpack:"nodes"`
		Counters []CounterUse `msgpack:"counters,omitempty"`
		// Expiration is when the instance ends, epoch seconds; 0 = unknown.
		Expiration float64 `msgpack:"expiration,omitempty"`
	}
	// NodeStatus is one node.
	NodeStatus struct {
		Node    resource.Node      `msgpack:"node" json:"-"`
		Online  bool               `msgpack:"online"`
		Drained bool               `msgpack:"drained"`
		Reason  string             `msgpack:"reason,omitempty"` // of the drain
		Time    float64            `msgpack:"time,omitempty"`   // of the drain, epoch seconds
		Used    resource.NodeAlloc `msgpack:"used"`             // allocated part
	}
)

// ResourceEvents streams what happened to nodes since this leader began: online, offline, drain, undrain, each with idset, nodelist and, of a
// drain, reason; and resource-update with expiration, when the instance's end has become known or has changed. With Follow an empty list marks the end of what was, and more comes as it happens.
var ResourceEvents = rpc.Method[ResourceEventsReq, ResourceEventsRep]{Topic: "resource.eventlog", Stream: true, Idempotent: true}

type (
	// ResourceEventsReq asks.
	ResourceEventsReq struct {
		Follow bool `msgpack:"follow"`
	}
	// ResourceEventsRep is a part of the log.
	ResourceEventsRep struct {
		Events []Event `msgpack:"events"`
	}
)

// ResourceDrain stops new work on nodes; running jobs go on. Answered when it is durable: it outlives the leader. Targets: idset of node indexes or a hostlist.
var ResourceDrain = rpc.Method[DrainReq, Empty]{Topic: "resource.drain", Idempotent: true}

// ResourceUndrain takes it back.
var ResourceUndrain = rpc.Method[DrainReq, Empty]{Topic: "resource.undrain", Idempotent: true}

// DrainReq names nodes.
type DrainReq struct {
	Targets string `msgpack:"targets"`
	Reason  string `msgpack:"reason,omitempty"`
	Force   bool   `msgpack:"force,omitempty"`  // undrain: no error for nodes that are not drained
	Update  bool   `msgpack:"update,omitempty"` // drain: replace the reason of drained ones; with Force their time too
	Strict  bool   `msgpack:"strict,omitempty"` // drain: an error, and no change, if one is drained already for another reason
}
