// Package job is the job machine: arrays first, states, events, exceptions, attempts, leases, and the port to the
// store. It is pure: events go in with the time, actions come out.
package job

import "github.com/frond-hpc/frond/jobspec"

// Txn is one group commit. The store writes all of it or nothing, in one transaction, and answers when it is durable.
// Everything in it is immutable once given away.
type Txn struct {
	Specs   []SpecRow
	Envs    []EnvRow
	Arrays  []ArrayRow   // new submissions
	Ended   []ElementRow // elements that finished
	Ranges  []RangeRow   // runs of elements that ended alike without having run (a cancelled array)
	Starts  []StartRow   // rerun=no starts, durable before the spawn
	Retried []StartRow   // elements that will run again: their next attempt
	Hi      []HiRow      // how far an array's elements have been started
	Output  []OutputRow  // appended to the segment files and indexed
	Params  []ParamsRow  // parameters of elements of submissions to come
	Uploads []UploadRow  // the sets that they begin
	Members []MemberRow  // upserted by Rank
	Queues  []QueueRow   // upserted by Name
	Logs    []LogRow     // logs of arrays that have grown
	Grants  []GrantRow   // elements given to branches
	Over    []uint64     // numbers of grants of which nothing is held any more
	LastID  jobspec.ID   // 0 = unchanged
}

// Empty tells whether there is nothing to write.
func (t *Txn) Empty() bool {
	return len(t.Specs)+len(t.Envs)+len(t.Arrays)+len(t.Ended)+len(t.Ranges)+len(t.Starts)+len(t.Retried)+len(t.Hi)+len(t.Output)+len(t.Members)+
		len(t.Params)+len(t.Uploads)+len(t.Logs)+len(t.Queues)+len(t.Grants)+len(t.Over) == 0 && t.LastID == 0
}

type (
	// SpecRow is an interned jobspec (JSON, without environment).
	SpecRow struct {
		ID   uint64
		JSON []byte
	}
	// EnvRow is an interned environment (NAME=value, each ended by NUL).
	EnvRow struct {
		ID   uint64
		Data []byte
	}
	// ArrayRow is one submission; N == 1 is a single job.
	ArrayRow struct {
		ID      jobspec.ID
		N       int
		Spec    uint64
		Env     uint64 // 0 = none
		Name    string
		CC      string
		BCC     bool
		Urgency int
		Flags   int
		User    uint32
		Token   string // client token and item: "token/3"; empty = none. Unique: for deduplication after recovery
		Submit  float64
		Params  uint64 // set of its elements' parameters, 0 = none: its UploadRow goes away with this row
		Digest  string // of what was submitted under a key for ever
		// Indexes are the places, in the array of Size that this one runs elements of again, of its own elements (idset); empty = it is itself.
		// CC and Params are of that one then.
		Indexes string
		Size    int
		Log     []byte // events of the whole array; nil = none
	}
	// LogRow replaces an array's Log.
	LogRow struct {
		Array jobspec.ID
		Log   []byte
	}
	// ElementRow is one finished element.
	ElementRow struct {
		ID       jobspec.ID // its own id; a single job's is the array's
		Array    jobspec.ID
		Index    int
		Result   uint8 // Flux: 1 completed, 2 failed, 4 cancelled, 8 timeout
		Status   int   // wait status, -1 = none
		Attempt  uint32
		Start    float64 // t_run of the last attempt, 0 = never ran
		End      float64 // t_inactive
		Nodelist string
		Ranks    string
		R        []byte // JSON of the last attempt's R; nil = derivable: one node, see Ranks and Cores in Events
		MaxRSS   int64  // KiB
		CPU      float64
		Events   []byte // encoded eventlog, see EncodeEvents
	}
	// RangeRow is elements Lo … Hi (inclusive) of an array that ended alike: without having run, or in a branch, which has their rows.
	RangeRow struct {
		Array  jobspec.ID
		Lo, Hi int
		Result uint8
		End    float64
		Events []byte
		Status int // wait status, -1 = none
	}
	// GrantRow is elements given to a branch. What of them is given again, by a later grant, belongs to that one.
	GrantRow struct {
		Num    uint64
		Branch int
		Items  []byte // see EncodeShares
	}
	// StartRow is an attempt of an element.
	StartRow struct {
		Array   jobspec.ID
		Index   int
		Attempt uint32
		Node    string
		Failed  int // attempts before it that failed by themselves
	}
	// HiRow: elements 0 … Hi-1 of the array may have been started.
	HiRow struct {
		Array jobspec.ID
		Hi    int
	}
	// OutputRow is a piece of a task's output.
	OutputRow struct {
		ID      jobspec.ID // of the element
		Attempt uint32
		Task    int
		Stream  uint8
		Offset  int64
		Data    []byte
	}
	// ParamsRow is a chunk of a set of parameters: those of elements First … First+N-1.
	ParamsRow struct {
		Set      uint64
		First, N int
		Data     []byte // see EncodeParams
	}
	// UploadRow is a set of parameters whose submission has not come yet.
	UploadRow struct {
		Set   uint64
		Token string // of the submission's item to come; the latest set of a token counts
		Time  float64
	}
	// MemberRow is a broker of this epoch, so that the next leader knows who may still be alive.
	MemberRow struct {
		Rank   int32
		UUID   string
		Host   string
		BootID string
		PID    int
		State  string
	}
)

// Loaded is what a store holds at start.
type Loaded struct {
	Epoch   uint64 // already raised for this leader
	LastID  jobspec.ID
	SpecID  uint64 // largest in use
	EnvID   uint64
	ParamID uint64        // set of parameters
	Arrays  []LoadedArray // those with unfinished elements
	Members []MemberRow
	Queues  []QueueRow
	Grants  []GrantRow                                          // by number; what has finished of them may still be in them
	Counts  struct{ Completed, Failed, Canceled, TimedOut int } // of elements ended in the past, without those purged
	Purged  int                                                 // elements that were purged
}

// LoadedArray is an unfinished array.
type LoadedArray struct {
	ArrayRow
	JSON     []byte // of its Spec
	EnvData  []byte
	Finished []Span // ascending, disjoint
	Results  struct{ Completed, Failed, Canceled, TimedOut int }
	Hi       int        // HiRow
	Starts   []StartRow // Starts and Retried of unfinished elements, the latest each
}

// Span is indexes Lo … Hi inclusive.
type Span struct{ Lo, Hi int }

// Commit is the effect that writes a Txn; its Done has the same *Commit as Effect. Commits are carried out in order.
type Commit struct{ Txn *Txn }

// Query is the effect that reads; its Done has Run's results. Queries see all commits that were Done before.
// Run is called on another goroutine and touches nothing but r.
type Query struct {
	Key any // for the caller
	Run func(r Reader) (any, error)
}

// Purge is the effect that forgets arrays whose elements have all ended, with their output and parameters; others are left as they are. Its Done has
// a Purged. What is forgotten is gone for every Query at once and durably, but the room it takes may be given back in several effects: while
// Purged.More a Purge without Arrays goes on. The tokens of submissions stay known: those of keys (Digest) for ever, others at least until TokensUntil.
type Purge struct {
	Arrays      []jobspec.ID
	TokensUntil float64 // tokens, without Digest, of submissions before it may be forgotten too
}

// Purged counts the elements that a Purge forgot.
type Purged struct {
	Completed, Failed, Canceled, TimedOut int
	More                                  bool
}

// Elements is how many they are.
func (p *Purged) Elements() int { return p.Completed + p.Failed + p.Canceled + p.TimedOut }

// PurgedRow is what is left of a purged submission that had a token.
type PurgedRow struct {
	ID      jobspec.ID
	N       int
	Name    string
	Token   string
	Digest  string
	Submit  float64
	Summary Summary
}

// EndedArray is an array whose elements have all ended.
type EndedArray struct {
	ID  jobspec.ID
	N   int
	End float64 // of the last of them
}

// EndPos is a place among ends, the beginning if zero.
type EndPos struct {
	End    float64
	Result uint8
	ID     jobspec.ID
}

// HistoryPart is the effect that keeps a piece of a file of an instance's state directory, in that of its parent. Its Done has Key.
type HistoryPart struct {
	Key    any // for the caller
	Dir    string
	Name   string // path in Dir
	Offset int64
	Data   []byte
}

// Reader reads the store, and is only valid during Query.Run.
type Reader interface {
	// Array returns a submission; ok is false if there is none of this id.
	Array(id jobspec.ID) (row ArrayRow, ok bool, err error)
	// Find returns the array that holds element (or is) id.
	Find(id jobspec.ID) (row ArrayRow, ok bool, err error)
	// Token returns the array submitted with this token; it may be a purged one.
	Token(token string) (id jobspec.ID, ok bool, err error)
	// Purged returns what is left of a purged array.
	Purged(id jobspec.ID) (row PurgedRow, ok bool, err error)
	// Oldest calls f for arrays whose elements have all ended, the one whose end is longest ago first, with the place behind each, until f
	// returns false. It goes on behind from.
	Oldest(from EndPos, f func(EndedArray, EndPos) bool) error
	// Params returns the chunk of a set that holds the parameters of element index; ok is false if there is none.
	Params(set uint64, index int) (row ParamsRow, ok bool, err error)
	// Upload returns the set that is being uploaded under a token, with how many elements have theirs.
	Upload(token string) (set uint64, n int, ok bool, err error)
	// Named returns the array submitted last with this name.
	Named(name string) (row ArrayRow, ok bool, err error)
	// Spec and Env return interned texts.
	Spec(id uint64) ([]byte, error)
	Env(id uint64) ([]byte, error)
	// Element returns a finished element's row (made up from a RangeRow where it is in one); ok is false if it has not finished.
	Element(array jobspec.ID, index int) (row ElementRow, ok bool, err error)
	// Summary counts an array's finished elements by result, with the largest status and the first failed index (-1: none).
	Summary(array jobspec.ID) (s Summary, err error)
	// Ended calls f for finished elements, newest end first, until f returns false. Array 0 = all. Results is a bit mask, 0 = any;
	// Since and Until are bounds of End, inclusive; Until 0 = none.
	Ended(array jobspec.ID, results int, since, until float64, f func(ElementRow) bool) error
	// Output calls f for an element's output in the order it was written, from the given attempt (0 = the latest).
	Output(id jobspec.ID, attempt uint32, f func(OutputRow) bool) error
	// OutputFrom is Output from a place on, with the place behind each row. A row may repeat bytes of one before the place.
	OutputFrom(id jobspec.ID, attempt uint32, from OutputPos, f func(OutputRow, OutputPos) bool) error
	// Below returns a reader of what a branch of this instance keeps; ok is false if that does not lie here.
	Below(branch int) (r Reader, ok bool, err error)
}

// OutputPos is a place in the output of one attempt of an element, its beginning if zero.
type OutputPos struct{ Seg, Pos int64 }

// Summary of an array's finished elements.
type Summary struct {
	Completed, Failed, Canceled, TimedOut int
	MaxStatus                             int
	FirstFailed                           int
}
