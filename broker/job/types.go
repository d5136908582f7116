package job

import (
	"time"

	"github.com/frond-hpc/frond/broker/branch"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
)

// Spec is an interned jobspec: equal texts share one, so that a million equal submissions hold it once.
type Spec struct {
	ID   uint64
	JSON []byte // without environment
	Job  *jobspec.Jobspec
}

// Env is an interned environment, NAME=value each ended by NUL.
type Env struct {
	ID   uint64
	Data []byte
}

// RunKey names one attempt of one element under one leader.
type RunKey struct {
	Job     jobspec.ID
	Attempt uint32
	Epoch   uint64
}

// Part is what a run has on one node.
type Part struct {
	Node      int // resource.Node.Index
	NodeID    int // place of the node in the job
	Cores     resource.Mask
	GPUs      resource.Mask
	FirstTask int
	NTasks    int
	MemMiB    int64 // 0 = none asked for
	GPUParts  []int // hundredths of each of GPUs; nil = whole ones
}

// Events into the machine, past facts all of them.
type (
	// Submitted: these were accepted by the service (valid, satisfiable). The ids are in Actions.IDs.
	Submitted struct{ Items []Item }
	// Item is one submission.
	Item struct {
		Spec    *Spec
		Env     *Env // nil = none
		NewSpec bool // write the spec's row with it
		NewEnv  bool
		N       int // ≥ 1
		CC      string
		BCC     bool
		Urgency int
		Flags   int
		User    uint32
		Token   string
		Watched bool
		Params  uint64 // set of parameters, 0 = none

		Followed bool // Actions.Finished and Streamed tell of its elements
		Digest   string
		Indexes  string // as in ArrayRow
		Size     int
		Depends  []DependTarget // of those of the spec's dependencies that name jobs, in order
	}
	// Uploaded: chunks of a set of parameters came; New begins the set.
	Uploaded struct {
		New    *UploadRow
		Chunks []ParamsRow
	}
	// ParamsLoaded answers Actions.Params. Chunk nil: they cannot be read, Err says why.
	ParamsLoaded struct {
		Array jobspec.ID
		Index int // that was asked for
		Chunk *ParamChunk
		Err   string
	}
	// Committed: the oldest transaction that was taken is durable.
	Committed struct{}
	// Refused: the oldest transaction that was taken could not be written. Its submissions are forgotten, the rest of it
	// goes into the next transaction.
	Refused struct{}
	// Allocated: the scheduler gave resources to one pending element of Array.
	Allocated struct{ Allocs []Allocation }
	// Allocation is one of them.
	Allocation struct {
		ID    uint64
		Array jobspec.ID
		Alloc *resource.Alloc
		End   float64 // expected end, epoch seconds; 0 = unknown
		// Counters (Adopt) is what the whole job holds of named counters; its first part has it.
		Counters string
	}
	// Denied: the array's request can never be satisfied any more.
	Denied struct {
		Array  jobspec.ID
		Reason string
	}
	// NodesKnown: nodes were added or changed.
	NodesKnown struct{ Nodes []resource.Node }
	// MemberChanged: a broker came (State "online") or its way broke ("lost"), it is dead or has left.
	MemberChanged struct {
		Row    MemberRow
		Reason string
	}
	// Synced: a broker's exec service began a session and says what it has. The answer is in Actions.Kill and Actions.Forget.
	Synced struct {
		Rank    int32
		UUID    string
		Session uint64
		Runs    []SyncRun
	}
	// SyncRun is one run that a broker has.
	SyncRun struct {
		Key    RunKey
		Parts  []Part
		NNodes int // nodes of the whole job
		Start  float64
		End    float64 // expected, by its time limit; 0 = none
		Ended  bool
	}
	// Renewed: a broker asked for its lease to go on. Actions.Stale tells whether it is refused.
	Renewed struct {
		Rank    int32
		UUID    string
		Session uint64
	}
	// Reported: records of a broker's session. Actions.Stale: that session is over, nothing was taken.
	Reported struct {
		Rank    int32
		UUID    string
		Session uint64
		Records []Record
	}
	// Record is one fact in a report. Kind tells which fields count.
	Record struct {
		Kind     RecordKind
		Key      RunKey
		Time     float64
		Status   int // Ended; Exception: of a task that could not be started
		Start    float64
		MaxRSS   int64 // KiB
		CPU      float64
		Task     int // Output
		Stream   uint8
		Offset   int64
		Data     []byte
		Type     string // Exception
		Severity int
		Note     string
		Signal   int // Ended
	}
	// Raised: an exception is posted on elements. Errors by element are in Actions.Errors.
	Raised struct {
		Targets []Target
		States  jobspec.State // only elements in one of these; 0 = any
		Exc     Exception
	}
	// Target is elements Lo … Hi of an array.
	Target struct {
		Array  jobspec.ID
		Lo, Hi int
	}
	// Expires: when the instance ends (epoch seconds, 0 = unknown) has become known or has changed.
	Expires struct{ At float64 }
	// Signalled: send a signal to running elements.
	Signalled struct {
		Targets []Target
		Signal  int
	}
	// Changed: urgency, time limit or memo of whole arrays. Errors by element are in Actions.Errors.
	Changed struct {
		Targets  []Target
		Urgency  *int
		Duration *DurationChange
		Memo     []byte // JSON object; nil = none
		User     uint32
		DryRun   bool
	}
	// DurationChange is a new time limit in seconds, 0 = none; with Sign it is added (1) or taken away (-1).
	DurationChange struct {
		Sign    int
		Seconds float64
	}
	// Tick: the time asked for has come.
	Tick struct{}
)

// RecordKind tells what a Record says.
type RecordKind uint8

// The kinds of records, numbered as in api.
const (
	Started RecordKind = 1 + iota
	Output
	Excepted
	Ended
	Posted
)

// Actions are the orders that follow from one event. Slices are in the order in which things are to be done.
type Actions struct {
	IDs        []jobspec.ID // of Submitted's items
	Queue      []Queued     // elements join the scheduler's queue
	Dequeue    []Dequeued
	Priorities []Prioritized  // other priorities of what is queued; 0 = hold
	Limits     []Limited      // other time limits
	Adopt      []Allocation   // resources in use by adopted runs
	Free       []uint64       // allocations that ended
	Hold       *bool          // stop or resume the scheduler
	Params     []ParamsWanted // read from the store, then ParamsLoaded
	Starts     []RankStarts
	Kills      []RankKill
	Kill       []RunKey // answer to Synced
	Forget     []RunKey
	Stale      bool
	Ended      []Ending      // elements whose end is durable
	Spans      []EndedSpan   // elements that never ran here and whose end is durable
	Lookups    []Lookup      // to be answered by Looked
	Done       []*ArrayState // arrays all of whose elements have ended, durably
	Suspects   []Suspect     // parts whose prolog failed
	Touched    []jobspec.ID  // watched elements with new events
	Streamed   []OutputRow   // output of watched elements, and of those of followed arrays
	Finished   []Finished    // elements of followed arrays that have ended; it is not durable yet
	Gone       []BrokerGone  // brokers of instances
	Closed     []jobspec.ID  // instances whose attempt is over
	Errors     map[jobspec.ID]string
	Offers     []Offer   // elements that branches may have, instead of Queue
	Granted    []Granted // durable: to be sent
	Settled    []Settled // branches hold these no more
	Casts      []Cast    // exceptions for elements that branches hold
	Began      []Began   // in a branch: elements that have started, of arrays with HasteEach
	Hastened   []Hastened
	Soon       bool // in a branch: the parent is to hear of what began or ended now
	GaveBack   []GaveBack
	Listed     bool // Listed has been dealt with; Missing is the answer
	Missing    []branch.Share
	Late       bool      // some of what is to end may run, and is ended when that is known (Hold false)
	Relist     []int     // branches that are to hear anew what they hold
	Wake       time.Time // zero = no timer needed
}

type (
	// Queued is Count pending elements of an array.
	Queued struct {
		Array    jobspec.ID
		Spec     *Spec
		Priority uint32
		Count    int
		Duration float64 // time limit in seconds, 0 = none
	}
	// Prioritized is an array's new priority.
	Prioritized struct {
		Array    jobspec.ID
		Priority uint32
	}
	// Limited is an array's new time limit: of what is queued, and of runs on brokers.
	Limited struct {
		Array    jobspec.ID
		Duration float64
		Ends     []AllocEnd
		Runs     []RankRuns
	}
	// Suspect is nodes of a broker on which a job's prolog failed, and what is said of it.
	Suspect struct {
		Nodes []int
		Job   jobspec.ID
		Note  string
	}
	// AllocEnd is when an allocation is expected to end, epoch seconds; 0 = unknown.
	AllocEnd struct {
		ID  uint64
		End float64
	}
	// RankRuns are runs on a broker.
	RankRuns struct {
		Rank    int32
		Session uint64
		Runs    []RunKey
	}
	// Dequeued is Count fewer.
	Dequeued struct {
		Array jobspec.ID
		Count int
	}
	// RankStarts is a batch for one broker.
	RankStarts struct {
		Rank    int32
		Session uint64
		Drop    []uint64  // specs the broker is to forget first
		Specs   []SpecEnv // those the broker does not have yet
		Runs    []Run
	}
	// SpecEnv is a spec with the environment it is run with, under the id that runs name it by.
	SpecEnv struct {
		ID   uint64
		Spec *Spec
		Env  *Env
	}
	// Run is one element to start.
	Run struct {
		Key      RunKey
		SpecID   uint64
		Array    jobspec.ID // 0 = a single job
		Index    int
		Size     int
		CC       string
		BCC      bool
		Parts    []Part
		NTasks   int
		NNodes   int
		Nodelist string
		Limit    float64
		Watched  bool
		Taskmap  string // of several tasks on several nodes: how many each has
		Root     int32  // broker of the first node
		Brokers  int
		Params   []string
		Vars     []string // NAME=value, for its environment
	}
	// RankKill signals runs on one broker.
	RankKill struct {
		Rank    int32
		Session uint64
		Runs    []RunKey
		Signal  int
		End     bool
	}
	// Finished is an ended element with what its row does not tell: when its tasks started, and the signal that one died of.
	Finished struct {
		Row    ElementRow
		Start  float64
		Signal int
	}
	// Ending is one ended element.
	Ending struct {
		ID     jobspec.ID
		Array  jobspec.ID
		Index  int
		Result jobspec.Result
		Status int
		Exc    *Exception // the first fatal one, else the last other; nil = none
		Ran    bool       // it had resources
		Time   float64
	}
	// EndedSpan is elements that ended alike.
	EndedSpan struct {
		Target
		N      int // elements of the array; the only one of one has the array's id
		Result jobspec.Result
		Status int
		Exc    *Exception
		Ran    bool
		Time   float64
	}
	// ArrayState is the count of an array's elements.
	ArrayState struct {
		ID                                    jobspec.ID
		N, Pending, Running                   int
		Completed, Failed, Canceled, TimedOut int
		MaxStatus                             int
		Exception                             string // of the first that failed
	}
)

// Config of a machine.
type Config struct {
	Loaded *Loaded // nil = empty
	Rank   int32   // the leader's own
	Lease  time.Duration
	Now    time.Time
	// Parse reads a stored jobspec.
	Parse func(json []byte) (*jobspec.Jobspec, error)
	// Branch: this is one. Its elements, with their ids, come from its parent, and it holds those alone that it was given.
	Branch bool
	// Expiration is when the instance ends, epoch seconds; 0 = unknown.
	Expiration float64
}

// LeaseMargin is added to the lease before an element of a silent broker is started elsewhere.
const LeaseMargin = 10 * time.Second
