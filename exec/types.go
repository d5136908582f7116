package exec

import (
	"time"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
)

// Ref names one attempt of a job among those of all leaders (epochs) of an instance.
type Ref struct {
	Job     jobspec.ID
	Attempt uint32
	Epoch   uint64
}

// RunID names a run on this broker for the life of its process; never reused, ascending.
type RunID uint64

// Part is what a run has on one node: tasks FirstTask … FirstTask+NTasks-1 on these cores and gpus.
type Part struct {
	Node      int // resource.Node.Index
	NodeID    int // place of the node in the job, from 0
	Cores     resource.Mask
	GPUs      resource.Mask
	FirstTask int
	NTasks    int
	MemMiB    int64 // memory that its tasks here may use together; 0 = none was asked for
	GPUParts  []int // hundredths taken of each gpu of GPUs, in order of their ids; nil = whole ones
}

// Spec is what runs share. Job and Env are immutable; Env holds NAME=value entries, each ended by NUL.
type Spec struct {
	ID  uint64
	Job *jobspec.Jobspec // nil: Bad says why
	Env []byte
	Bad string
	// Prolog and Epilog are the instance's commands around the tasks of a job, for sh; "" = none.
	Prolog, Epilog string
	// Prepared belongs to the driver: what it made of the spec, once. Only touched in its Do.
	Prepared any
}

// Start is one run to start. The fields are those of broker/api.StartItem.
type Start struct {
	Ref      Ref
	SpecID   uint64
	Array    jobspec.ID // 0 = a single job
	Index    int
	Size     int
	CC       string
	BCC      bool
	Parts    []Part // this broker's only
	NTasks   int    // of the whole job
	NNodes   int
	Nodelist string
	Limit    time.Duration // of run time; 0 = none
	Watched  bool          // someone looks at the output as it comes
	Taskmap  string        // tasks on each node, numbered node by node; "" = the job has one node or one task
	Root     int32         // broker of the job's first node
	Brokers  int           // how many brokers the job has tasks on; 0 and 1 mean this one
	Params   []string
	Vars     []string // NAME=value, more for the environment
}

// Job is a run as the driver gets it. Immutable.
type Job struct {
	ID   RunID
	Spec *Spec
	Start
	Map jobspec.Taskmap // of a job of several tasks: which task is on which node
}

// Tasks are the ranks of a part's tasks, in ascending order.
func (j *Job) Tasks(p *Part) []int {
	if j.Map != nil && !j.Spec.Job.Shell.Numbering.Block() {
		return j.Map.Tasks(p.NodeID)
	}
	ids := make([]int, p.NTasks)
	for i := range ids {
		ids[i] = p.FirstTask + i
	}
	return ids
}

// RunState is a run in a sync.
type RunState struct {
	Ref    Ref
	Parts  []Part
	Start  float64 // epoch seconds; 0 = not yet
	End    float64 // expected by its time limit; 0 = none
	Ended  bool
	NNodes int
}

// Record is one fact for the leader; the fields are those of broker/api.Record.
type Record struct {
	Kind     RecordKind
	Ref      Ref
	Time     float64
	Status   int
	Start    float64
	NTasks   int
	MaxRSS   int64
	CPU      float64
	Task     int
	Stream   uint8
	Offset   int64
	Data     []byte
	EOF      bool
	Type     string
	Severity int
	Note     string
	Signal   int // RecEnded: that one task died of; 0 = none
}

// RecordKind tells which fields of a Record count; the values are those on the wire.
type RecordKind uint8

// The kinds of records.
const (
	RecStarted RecordKind = 1 + iota
	RecOutput
	RecException
	RecEnded
	RecEvent
)

// Events into the machine.
type (
	// Contact: the way to the leader came up, each time with a new incarnation, or broke.
	Contact struct {
		Up          bool
		Rank        int32
		Epoch       uint64
		Incarnation uint64
	}
	// SyncReply answers the CallSync of that session. Failed: it got an error, and the rest does not count.
	SyncReply struct {
		Session      uint64
		Failed       bool
		Kill, Forget []Ref
		Lease        time.Duration
	}
	// ReportReply answers CallReport. Resync: the leader does not know the session.
	ReportReply struct {
		Call           uint64
		Failed, Resync bool
	}
	// RenewReply answers the CallRenew with that number.
	RenewReply struct {
		Call           uint64
		Failed, Resync bool
	}
	// StartRuns starts a batch. What does not belong to the present session is dropped.
	StartRuns struct {
		Session uint64
		Specs   []*Spec
		Drop    []uint64 // specs to forget
		Starts  []Start
	}
	// KillRuns signals runs; with End they are ended: TERM now (Signal is not looked at), KILL after their kill timeout.
	KillRuns struct {
		Session uint64
		Runs    []Ref
		Signal  int
		End     bool
	}
	// SetLimits changes the time limit of runs, counted from their start; 0 = none.
	SetLimits struct {
		Session uint64
		Runs    []Ref
		Limit   time.Duration
	}
	// Input is standard input for a task, -1 = all of the run.
	Input struct {
		Session uint64
		Run     Ref
		Task    int
		Data    []byte
		EOF     bool
		Window
	}
	// FenceReply answers the CallFence with that number. Failed: ask again.
	FenceReply struct {
		Call   uint64
		Failed bool
		Pairs  []string
	}
	// FenceAsked: a broker of a job whose root is here has all its tasks in their Seq-th barrier. Answered by a FenceDone with Key.
	FenceAsked struct {
		Key   any
		Ref   Ref
		Seq   int
		Rank  int32
		Of    int // brokers of the job
		Pairs []string
	}
	// Tasks is what the driver reports.
	Tasks []TaskEvent
	// Tick: the time asked for has come.
	Tick struct{}
	// Stop: end everything, then Stopped. Tasks have Grace between TERM and KILL if their kill timeout is not shorter; 0 = stopGrace.
	Stop struct{ Grace time.Duration }
)

// Actions out of the machine, besides the driver's effects (Launch, Signal, Feed, Flow).
type (
	// CallSync opens a session: answered by SyncReply.
	CallSync struct {
		Session uint64
		Runs    []RunState
	}
	// CallReport delivers records: answered by ReportReply. The slice is immutable.
	CallReport struct {
		Call    uint64
		Session uint64
		Records []Record
	}
	// CallRenew extends the lease: answered by RenewReply.
	CallRenew struct {
		Call    uint64
		Session uint64
	}
	// CallFence asks a job's root for a fence: answered by FenceReply.
	CallFence struct {
		Call  uint64
		Root  int32
		Ref   Ref
		Seq   int
		Rank  int32
		Of    int
		Pairs []string
	}
	// FenceDone answers FenceAsked events. Pairs is immutable.
	FenceDone struct {
		Keys   []any
		Failed bool
		Pairs  []string
	}
	// WakeAt asks for a Tick, in place of the one asked for before.
	WakeAt struct{ T time.Time }
	// Stopped: nothing runs any more, and what could be reported was.
	Stopped struct{}
	// Log is a line for the log.
	Log struct {
		Level, Msg string
		KV         []any
	}
)
