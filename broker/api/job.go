// Package api declares every method and message between services, brokers and clients, each once, with its contract.
package api

import (
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
)

// Submit submits jobs and arrays; answered when all of them are durable, or with an error and none of them accepted.
// Token makes it safe to send again after Lost: the store answers with the same ids. Errors: Invalid (names the item),
// Unsatisfiable, TooLarge, Unavailable; with Once Exists and NotFound.
var Submit = rpc.Method[SubmitReq, SubmitRep]{Topic: "job.submit", Idempotent: true}

type (
	// SubmitItem is one submission: a job, or an array of N > 1 elements.
	SubmitItem struct {
		Spec    []byte `msgpack:"spec"`              // jobspec V1 as JSON; environment may be in Env instead
		Env     int    `msgpack:"env,omitempty"`     // 1-based index into SubmitReq.Envs; 0 = none beside the jobspec's own
		N       int    `msgpack:"n,omitempty"`       // elements; 0 and 1 = a single job
		CC      string `msgpack:"cc,omitempty"`      // idset of N values, in order the elements' cc; empty = none
		BCC     bool   `msgpack:"bcc,omitempty"`     // cc by --bcc
		Urgency int    `msgpack:"urgency"`           // 0..31
		Flags   int    `msgpack:"flags,omitempty"`   // Flux's submit flags (2 debug, 4 waitable, 8 novalidate)
		Watched bool   `msgpack:"watched,omitempty"` // the submitter attaches: stream output promptly
		Params  bool   `msgpack:"params,omitempty"`  // its elements have parameters, all uploaded under Token (job.params)
		Follow  string `msgpack:"follow,omitempty"`  // key of an open job.follow that is told of it …
		Tag     int    `msgpack:"tag,omitempty"`     // … under this tag
		Digest  string `msgpack:"digest,omitempty"`  // with Once: equal for equal content
		Name    string `msgpack:"name,omitempty"`    // with Once: the job's, for messages
	}
	// SubmitReq is a batch.
	SubmitReq struct {
		Token string       `msgpack:"token"`
		Items []SubmitItem `msgpack:"items"`
		Envs  [][]byte     `msgpack:"envs,omitempty"` // NAME=value, each ended by NUL
		// Once is the key of a submission that is made once however often it is sent, for ever: Token is made of it. If it was sent before
		// with the same Digests its ids are the answer; with others the error is Exists. Probe: NotFound if it was not sent before.
		Once    string `msgpack:"once,omitempty"`
		Probe   bool   `msgpack:"probe,omitempty"`
		Uploads string `msgpack:"uploads,omitempty"` // the token under which parameters were uploaded, if it is not Token
	}
	// SubmitRep has the id of each item: the job's, or the array's (element i has id array+1+i).
	SubmitRep struct {
		IDs []jobspec.ID `msgpack:"ids"`
	}
)

// Params uploads parameters of the elements of a submission to come: for each element a list of strings, {{param.0}} and so on in its
// command and file names; the command ["{{argv}}"] is replaced by the list. A submission's parameters come in order, one call after
// the other, under the token of its SubmitReq; answered when durable. Parts that have come already are not stored again. An upload that is
// not followed by its submission within a day may be forgotten. Errors: Invalid, TooLarge, Unavailable.
var Params = rpc.Method[ParamsReq, ParamsRep]{Topic: "job.params", Idempotent: true}

// MaxParams is the largest size of an element's parameters: bytes, and one more for each.
const MaxParams = 1 << 20

type (
	// ParamsReq has the parameters of elements First, First+1, …
	ParamsReq struct {
		Token  string     `msgpack:"token"`
		Item   int        `msgpack:"item,omitempty"` // in SubmitReq.Items, from 0
		First  int        `msgpack:"first,omitempty"`
		Params [][]string `msgpack:"params"`
	}
	// ParamsRep tells how many elements have theirs: the next call goes on there.
	ParamsRep struct {
		N int `msgpack:"n"`
	}
)

// Retry submits elements that have ended without completing again, as new arrays with the same jobspec, environment, parameters and indexes:
// one for each array or job named. With Token it may be sent again. Errors: NotFound, Invalid (nothing to run again), Unavailable.
var Retry = rpc.Method[RetryReq, RetryRep]{Topic: "job.retry", Idempotent: true}

type (
	// RetryReq names arrays, jobs or elements. Results are those to run again, Flux's bit mask, 0 = all that did not complete; with Lost only
	// those that were lost with their node.
	RetryReq struct {
		Token   string       `msgpack:"token"`
		IDs     []jobspec.ID `msgpack:"ids"`
		Results int          `msgpack:"results,omitempty"`
		Lost    bool         `msgpack:"lost,omitempty"`
	}
	// RetryRep has the new arrays, and the array or job of each.
	RetryRep struct {
		Jobs []Retried `msgpack:"jobs"`
	}
	// Retried is one of them. An array of N == 1 is a job.
	Retried struct {
		Old jobspec.ID `msgpack:"old"`
		ID  jobspec.ID `msgpack:"id"`
		N   int        `msgpack:"n"`
	}
)

// Lookup tells what ids name. One that names nothing has N == 0.
var Lookup = rpc.Method[LookupReq, LookupRep]{Topic: "job.lookup", Idempotent: true}

type (
	// LookupReq names jobs, arrays or elements.
	LookupReq struct {
		IDs []jobspec.ID `msgpack:"ids"`
	}
	// LookupRep has them in the same order.
	LookupRep struct {
		Found []Found `msgpack:"found"`
	}
	// Found is the job or array that an id is, or that its element belongs to, and how many elements that has.
	Found struct {
		ID jobspec.ID `msgpack:"id"`
		N  int        `msgpack:"n"`
	}
)

// Wait streams the outcome of jobs: one WaitRep with Done for each id given (for an array one for the whole of it), in order of
// ending; with Progress also counts in between, at most 5 a second. An unknown id gives a WaitRep with Err.
var Wait = rpc.Method[WaitReq, WaitRep]{Topic: "job.wait", Stream: true, Idempotent: true}

type (
	// WaitReq names jobs, arrays or elements; All = all that are active now (and nothing for those that have ended).
	WaitReq struct {
		IDs      []jobspec.ID `msgpack:"ids"`
		All      bool         `msgpack:"all"`
		Progress bool         `msgpack:"progress"`
	}
	// WaitRep is the state of one id.
	WaitRep struct {
		ID        jobspec.ID `msgpack:"id"`
		Done      bool       `msgpack:"done"`
		N         int        `msgpack:"n"`
		Pending   int        `msgpack:"p"`
		Running   int        `msgpack:"r"`
		Completed int        `msgpack:"cd"`
		Failed    int        `msgpack:"f"`
		Canceled  int        `msgpack:"ca"`
		TimedOut  int        `msgpack:"to"`
		Status    int        `msgpack:"s"` // largest wait status
		Exception string     `msgpack:"x"` // "type=… note" of the first failed one
		Err       string     `msgpack:"err"`
	}
)

// List streams pages of job records: active ones from the leader's memory, finished ones from the store.
var List = rpc.Method[ListReq, ListRep]{Topic: "job.list", Stream: true, Idempotent: true}

type (
	// ListReq filters. States and Results are Flux's bit masks; 0 = any.
	ListReq struct {
		IDs      []jobspec.ID `msgpack:"ids"` // elements, jobs or arrays (an array = its elements); unknown ones: error NotFound
		States   int          `msgpack:"states"`
		Results  int          `msgpack:"results"`
		Max      int          `msgpack:"max"` // 0 = all
		Name     string       `msgpack:"name"`
		Since    float64      `msgpack:"since"`
		After    *ListAfter   `msgpack:"after"`    // go on where a listing without IDs stopped (ListRep.Next)
		Collapse bool         `msgpack:"collapse"` // an array's pending elements come as one record (NElements > 1), as in the table
		Reasons  bool         `msgpack:"reasons"`  // Reason and TEstimate of waiting jobs are wanted
	}
	// ListRep is a page. A listing without IDs stops after ListLimit jobs, that neither side must hold more: Next, in its last page, is
	// what the next request goes on from. Nil = that was all.
	ListRep struct {
		Jobs []JobInfo  `msgpack:"jobs"`
		Next *ListAfter `msgpack:"next"`
	}
	// ListAfter is a place in the order of a listing: pending by priority and id, running, ended by end, result and id.
	ListAfter struct {
		Ended    bool       `msgpack:"ended"` // among the ended ones
		Priority uint32     `msgpack:"priority"`
		End      float64    `msgpack:"end"`
		Result   int        `msgpack:"result"`
		ID       jobspec.ID `msgpack:"id"` // 0 with Ended: at their beginning
	}
	// JobInfo is one job or element, with Flux's attribute names (RFC 43) and Frond's additions at the end. Times are epoch
	// seconds, 0 = not yet.
	JobInfo struct {
		ID           jobspec.ID `msgpack:"id" json:"id"`
		UserID       uint32     `msgpack:"userid" json:"userid"`
		Urgency      int        `msgpack:"urgency" json:"urgency"`
		Priority     uint32     `msgpack:"priority" json:"priority"`
		TSubmit      float64    `msgpack:"t_submit" json:"t_submit"`
		TDepend      float64    `msgpack:"t_depend" json:"t_depend,omitempty"`
		TRun         float64    `msgpack:"t_run" json:"t_run,omitempty"`
		TCleanup     float64    `msgpack:"t_cleanup" json:"t_cleanup,omitempty"`
		TInactive    float64    `msgpack:"t_inactive" json:"t_inactive,omitempty"`
		State        int        `msgpack:"state" json:"state"` // bit
		Result       int        `msgpack:"result" json:"result,omitempty"`
		Success      bool       `msgpack:"success" json:"success"`
		Name         string     `msgpack:"name" json:"name"`
		Cwd          string     `msgpack:"cwd" json:"cwd,omitempty"`
		Queue        string     `msgpack:"queue" json:"queue,omitempty"`
		NTasks       int        `msgpack:"ntasks" json:"ntasks"`
		NCores       int        `msgpack:"ncores" json:"ncores,omitempty"`
		NNodes       int        `msgpack:"nnodes" json:"nnodes,omitempty"`
		Ranks        string     `msgpack:"ranks" json:"ranks,omitempty"`
		Nodelist     string     `msgpack:"nodelist" json:"nodelist,omitempty"`
		Duration     float64    `msgpack:"duration" json:"duration,omitempty"`
		Expiration   float64    `msgpack:"expiration" json:"expiration,omitempty"`
		WaitStatus   int        `msgpack:"waitstatus" json:"waitstatus"`
		HasStatus    bool       `msgpack:"hasstatus" json:"-"` // waitstatus is set
		ExcOccurred  bool       `msgpack:"exception_occurred" json:"exception_occurred"`
		ExcType      string     `msgpack:"exception_type" json:"exception_type,omitempty"`
		ExcSeverity  int        `msgpack:"exception_severity" json:"exception_severity,omitempty"`
		ExcNote      string     `msgpack:"exception_note" json:"exception_note,omitempty"`
		Reason       string     `msgpack:"reason" json:"reason,omitempty"` // why it waits
		Array        jobspec.ID `msgpack:"array" json:"array,omitempty"`
		Index        int        `msgpack:"index" json:"index"`
		CC           string     `msgpack:"cc" json:"cc,omitempty"`
		Attempt      int        `msgpack:"attempt" json:"attempt"`
		NElements    int        `msgpack:"nelements" json:"nelements,omitempty"` // a collapsed record
		MaxRSSKiB    int64      `msgpack:"maxrss" json:"maxrss_kib,omitempty"`
		CPU          float64    `msgpack:"cpu" json:"cpu_seconds,omitempty"`
		TEstimate    float64    `msgpack:"t_estimate" json:"t_estimate,omitempty"`               // when it is expected to start
		Dependencies []string   `msgpack:"dependencies,omitempty" json:"dependencies,omitempty"` // those not met
		Memo         string     `msgpack:"memo,omitempty" json:"memo,omitempty"`                 // JSON object; empty = none
		// With NElements: how many elements the array has, how many of them have ended, and how many of those did not complete.
		Size       int `msgpack:"size,omitempty" json:"array_size,omitempty"`
		Ended      int `msgpack:"ended,omitempty" json:"array_ended,omitempty"`
		Incomplete int `msgpack:"incomplete,omitempty" json:"array_incomplete,omitempty"`
		// Branch is the one that it has ended in; empty = here.
		Branch string `msgpack:"branch,omitempty" json:"-"`
	}
)

// Explain tells what is known of one job, element or array. Errors: NotFound.
var Explain = rpc.Method[ExplainReq, ExplainRep]{Topic: "job.explain", Idempotent: true}

type (
	// ExplainReq names it.
	ExplainReq struct {
		ID jobspec.ID `msgpack:"id"`
	}
	// ExplainRep is the answer. Of an array, Array has the counts and Job its pending elements as one, else the first that runs; once all
	// have ended, its submission alone.
	ExplainRep struct {
		Job   JobInfo  `msgpack:"job"`
		Array *WaitRep `msgpack:"array,omitempty"`
		Ahead int      `msgpack:"ahead,omitempty"` // jobs that stand before it in the queue
	}
)

// ListLimit is how many jobs one request of a listing gives at most, beside the running ones.
const ListLimit = 20000

// Info returns a job's jobspec, R or eventlog as text.
var Info = rpc.Method[InfoReq, InfoRep]{Topic: "job.info", Idempotent: true}

type (
	// InfoReq names a job and a key: "jobspec", "R", "eventlog", "environment".
	InfoReq struct {
		ID   jobspec.ID `msgpack:"id"`
		Key  string     `msgpack:"key"`
		Base bool       `msgpack:"base,omitempty"` // the jobspec without updates
	}
	// InfoRep has the value.
	InfoRep struct {
		Value string `msgpack:"value"`
	}
)

// Attach streams a job's events and output, from the beginning; with Follow until the job is inactive, else what there is. Of the output
// of several attempts it begins with the one that runs, else with the latest; that of attempts before it never follows.
var Attach = rpc.Method[AttachReq, AttachRep]{Topic: "job.attach", Stream: true, Idempotent: true}

type (
	// AttachReq names a job or element (an array: NotFound says so).
	AttachReq struct {
		ID     jobspec.ID `msgpack:"id"`
		Events bool       `msgpack:"events"`
		Output bool       `msgpack:"output"`
		Follow bool       `msgpack:"follow"`
	}
	// AttachRep carries events, then output, in the order in which they came.
	AttachRep struct {
		Events []Event  `msgpack:"events,omitempty"`
		Output []Output `msgpack:"output,omitempty"`
	}
	// Event is one entry of an eventlog (Flux RFC 18/21). Context is JSON text or empty.
	Event struct {
		Timestamp float64 `msgpack:"t"`
		Name      string  `msgpack:"n"`
		Context   string  `msgpack:"c"`
	}
	// Output is a piece of one task's output.
	Output struct {
		Task   int    `msgpack:"k"`
		Stream uint8  `msgpack:"s"` // 1 stdout, 2 stderr
		Offset int64  `msgpack:"o"`
		Data   []byte `msgpack:"d"`
		// Attempt is the run of the job that wrote it: a job that was lost, or failed and is tried again, writes from offset 0 anew. From 1.
		Attempt uint32 `msgpack:"a,omitempty"`
	}
)

// Input sends standard input to a job's tasks.
var Input = rpc.Method[InputReq, Empty]{Topic: "job.input"}

// InputReq is a piece of standard input.
type InputReq struct {
	ID   jobspec.ID `msgpack:"id"`
	Task int        `msgpack:"task"` // -1 = all; -2-r = all but r
	Data []byte     `msgpack:"data"`
	EOF  bool       `msgpack:"eof"`
	Rows int        `msgpack:"rows,omitempty"` // of the terminal, if it has changed
	Cols int        `msgpack:"cols,omitempty"`
}

// Raise posts an exception on jobs (cancel: Type "cancel", Severity 0). Kill signals their tasks.
var (
	Raise = rpc.Method[RaiseReq, MultiRep]{Topic: "job.raise", Idempotent: true}
	Kill  = rpc.Method[KillReq, MultiRep]{Topic: "job.kill"}
)

type (
	// RaiseReq names jobs, arrays, elements, or with All every active job whose state is in States (0 = any).
	RaiseReq struct {
		IDs      []jobspec.ID `msgpack:"ids"`
		All      bool         `msgpack:"all"`
		States   int          `msgpack:"states"`
		Type     string       `msgpack:"type"`
		Severity int          `msgpack:"severity"`
		Note     string       `msgpack:"note"`
	}
	// KillReq names running jobs.
	KillReq struct {
		IDs    []jobspec.ID `msgpack:"ids"`
		Signal int          `msgpack:"signal"`
	}
	// MultiRep tells how many jobs were meant, and the errors by id: "job is inactive", "unknown job id", "job is not running".
	MultiRep struct {
		Count  int                   `msgpack:"count"`
		Errors map[jobspec.ID]string `msgpack:"errors,omitempty"`
	}
)

// Update changes jobs and whole arrays that have not ended: urgency while some of it waits, time limit also while it runs, memos.
var Update = rpc.Method[UpdateReq, MultiRep]{Topic: "job.update"}

type (
	// UpdateReq says what to change. DryRun only tells whether it could be.
	UpdateReq struct {
		IDs      []jobspec.ID    `msgpack:"ids"`
		Urgency  *int            `msgpack:"urgency,omitempty"`
		Duration *DurationChange `msgpack:"duration,omitempty"`
		Memo     string          `msgpack:"memo,omitempty"` // JSON object; a null takes a key out
		DryRun   bool            `msgpack:"dryrun,omitempty"`
		User     uint32          `msgpack:"user,omitempty"` // who asked, where a parent tells its branch of it
	}
	// DurationChange is a new time limit in seconds, 0 = none; with Sign it is added (1) or taken away (-1).
	DurationChange struct {
		Sign    int     `msgpack:"sign"`
		Seconds float64 `msgpack:"seconds"`
	}
)

// Counts streams the numbers of jobs: once, or with Follow at changes (at most 5 a second) until no job is active.
var Counts = rpc.Method[CountsReq, CountsRep]{Topic: "job.counts", Stream: true, Idempotent: true}

type (
	// CountsReq asks.
	CountsReq struct {
		Follow bool `msgpack:"follow"`
	}
	// CountsRep has elements by state and result. Failed has all that did not complete.
	CountsRep struct {
		Pending  int `msgpack:"pending" json:"pending"`
		Running  int `msgpack:"running" json:"running"`
		Inactive int `msgpack:"inactive" json:"inactive"`
		Failed   int `msgpack:"failed" json:"failed"`
		Canceled int `msgpack:"canceled" json:"canceled"` // of Failed
		TimedOut int `msgpack:"timedout" json:"timeout"`
		Purged   int `msgpack:"purged,omitempty" json:"inactive_purged"` // not among the others
	}
)
