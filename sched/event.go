package sched

import (
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
)

// GroupID names a group in the queue; the submitter gives it.
type GroupID uint64

// Events into the machine.
type (
	// Submit adds groups to the queue. Of a group that is there already only Count is taken, and added.
	Submit struct{ Groups []GroupSpec }
	// GroupSpec is Count identical pending jobs.
	GroupSpec struct {
		ID         GroupID
		Request    jobspec.Request
		Constraint *jobspec.Constraint
		Duration   float64 // seconds; 0 = unlimited
		MinLength  float64 // may start with a shorter Duration, but not below this; 0 = not
		Priority   uint32  // higher first; 0 = held
		Order      uint64  // among equal priorities ascending; reasons name a group by it as a job id
		Count      int
	}
	// SetPriority moves a group within the queue. 0 holds it.
	SetPriority struct {
		ID       GroupID
		Priority uint32
	}
	// Cancel takes up to Count pending jobs of a group out of the queue.
	Cancel struct {
		ID    GroupID
		Count int
	}
	// SetDuration changes how long a group's jobs run (0 = unlimited).
	SetDuration struct {
		ID       GroupID
		Duration float64
	}
	// SetEnd changes when allocations are expected to end (0 = unknown).
	SetEnd struct {
		IDs []uint64
		End float64
	}
	// Free ends allocations. Unknown ids are ignored.
	Free struct{ IDs []uint64 }
	// Adopt books allocations that were made elsewhere (before a restart). Their nodes need not be known yet.
	Adopt struct{ Allocs []Alloc }
	// Hold stops (true) or resumes allocating.
	Hold struct{ Hold bool }
	// SetExpiration tells when the instance ends (epoch seconds; 0 = unknown): nothing is started that cannot end by then.
	SetExpiration struct{ At float64 }
	// Nodes changes nodes, in the order of the fields. A new node is up unless it stands in Down.
	Nodes struct {
		Add              []resource.Node // new, or changed in full
		Up, Down, Remove []int           // by Index
	}
	// RunPass has the policy start what may start. It is the answer to a Wake.
	RunPass struct{}
)

// Actions out of the machine.
type (
	// Wake asks for a RunPass at the time At (epoch seconds), at once if it has passed. A later Wake replaces it.
	Wake struct{ At float64 }
	// Allocs are allocations made, in order.
	Allocs struct{ Allocs []Alloc }
	// Alloc is one allocation. Ids from the machine have the top bit clear, those of Adopt have it set.
	Alloc struct {
		ID    uint64
		Group GroupID
		Alloc *resource.Alloc
		End   float64 // expected end, epoch seconds; 0 = unknown
		// Counters (Adopt) is what the job holds of named counters, as a Request has it. Of a job in several pieces one has it.
		Counters string
	}
	// Deny tells that a group could run before and never can now, because its nodes were removed. It has left the queue.
	Deny struct {
		ID     GroupID
		Reason string
	}
	// Conflict tells that a part of an adopted allocation was in use already, or cannot be: that part is not booked.
	Conflict struct {
		ID   uint64
		Text string
	}
)
