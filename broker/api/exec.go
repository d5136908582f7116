//lint:file-ignore U1000 the _msgpack fields are read by msgpack

package api

import (
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
)

// The protocol between "exec" (one on every broker) and "job" (on the leader). It is what makes a job run once.
//
//	sync      Whenever Contact{Up} comes, exec counts its session up and calls job.exec-sync with what runs and what has
//	          ended without acknowledgement. The leader answers what to kill and what to forget; the rest is adopted. Until
//	          the answer is there, exec sends no report; the leader sends no start to a rank whose session it does not know.
//	start     leader → exec.start (no reply), with the session. exec ignores a start of another session: the next sync
//	          does not list it, so the leader knows that it never ran.
//	report    exec → job.exec-report, records in order, several calls may be outstanding. The reply means: durable. Records are kept
//	          until then, and sent again in the next session if the call failed. The leader drops duplicates: an Ended by
//	          (job, attempt, rank), an Output by its offset.
//	renew     exec → job.exec-renew, lease/4 after the last of these and of the reports that were answered. An OK to any of them
//	          extends the lease to (time the call was SENT) + lease. When the lease ends exec kills all its tasks; for each a
//	          RecException of type "lease" (severity 0) goes before its RecEnded, so that the leader runs it again instead of taking
//	          the kill for its result. Error Resync: sync again.
//	          The leader may start those elements elsewhere at (time it last got a sync, report or renew from there) + lease + 10 s,
//	          or at once when the broker's process is known dead; from then on it answers Resync to the old session.
//	failure   the leader restarts: a new epoch; exec syncs. exec's broker restarts: a new UUID; what ran there is dead.

// The protocol among the brokers of one job, for PMI (exec/pmi). A job's root is the broker of its first node.
//
//	fence     When all tasks of a run on a broker are in a barrier, exec calls exec.fence at the root (its own broker, too) with what
//	          they have put since the one before. The root answers all when the last of the job's brokers has asked: with the puts of
//	          all. Barriers are counted from 1; the root keeps what the last one gave, for a broker whose answer was lost.
//	failure   A call that fails is repeated every 500 ms while the run goes on. The root answers NotFound when its part of the run is
//	          over: the leader then ends the others (exit timeout, exit-on-error, an exception). A root that is lost is a lost part.
//	teardown  With the run. A fence of a run that never comes to the root is given up after ten minutes.

// ExecFence is one barrier of a job. It may be asked for again.
var ExecFence = rpc.Method[ExecFenceReq, ExecFenceRep]{Topic: "exec.fence", Idempotent: true}

// ExecSync is the start of a session.
var ExecSync = rpc.Method[ExecSyncReq, ExecSyncRep]{Topic: "job.exec-sync", Idempotent: true}

// ExecReport delivers records; answered when they are durable.
var ExecReport = rpc.Method[ExecReportReq, Empty]{Topic: "job.exec-report", Idempotent: true}

// ExecRenew extends the lease. Error Resync when the session is not the leader's.
var ExecRenew = rpc.Method[ExecRenewReq, Empty]{Topic: "job.exec-renew", Idempotent: true}

// ExecStart starts jobs on the targeted broker (NoReply).
var ExecStart = rpc.Method[ExecStartReq, Empty]{Topic: "exec.start"}

// ExecLimit changes the time limit of jobs on the targeted broker (NoReply). It is sent again after each sync.
var ExecLimit = rpc.Method[ExecLimitReq, Empty]{Topic: "exec.limit", Idempotent: true}

// ExecKill signals jobs on the targeted broker (NoReply).
var ExecKill = rpc.Method[ExecKillReq, Empty]{Topic: "exec.kill"}

// ExecInput passes standard input to tasks on the targeted broker (NoReply).
var ExecInput = rpc.Method[ExecInputReq, Empty]{Topic: "exec.input"}

type (
	// RunRef names one attempt of a job.
	RunRef struct {
		_msgpack struct{} `msgpack:",as_array"`
		Job      jobspec.ID
		Attempt  uint32
		Epoch    uint64 // of the leader that started it: makes attempts of different leaders differ
	}
	// RunState is a RunRef in a sync, with enough to adopt it.
	RunState struct {
		_msgpack struct{} `msgpack:",as_array"`
		Ref      RunRef
		Parts    []NodePart
		Start    float64 // epoch seconds when its tasks started; 0 = not yet
		End      float64 // expected end by its time limit; 0 = none
		Ended    bool    // its Ended record is among the unacknowledged ones
		NNodes   int     // of the whole job, as in StartItem
	}
	// ExecSyncReq tells what is there.
	ExecSyncReq struct {
		Rank        int32      `msgpack:"rank"`
		UUID        string     `msgpack:"uuid"` // of the broker process
		Incarnation uint64     `msgpack:"inc"`  // of Contact
		Session     uint64     `msgpack:"session"`
		Runs        []RunState `msgpack:"runs"`
	}
	// ExecSyncRep says what to do: Kill runs (their Ended records are not wanted: forget them once dead), Forget ended ones (they
	// are durable already or meaningless). What is in neither goes on, its records are reported.
	ExecSyncRep struct {
		Kill   []RunRef `msgpack:"kill"`
		Forget []RunRef `msgpack:"forget"`
		Lease  float64  `msgpack:"lease"` // seconds
	}
	// ExecRenewReq extends.
	ExecRenewReq struct {
		Rank    int32  `msgpack:"rank"`
		UUID    string `msgpack:"uuid"`
		Session uint64 `msgpack:"session"`
	}

	// Spec is a jobspec as it goes to a node, once per session; starts name it by ID. Inside the leader's own broker Parsed is
	// set and JSON and Env are not.
	Spec struct {
		ID     uint64           `msgpack:"id"`
		JSON   []byte           `msgpack:"json"`             // jobspec V1 without environment
		Env    []byte           `msgpack:"env"`              // NAME=value, each ended by NUL
		Parsed *jobspec.Jobspec `msgpack:"-"`                // with Environment nil; Env is still beside it
		Prolog string           `msgpack:"prolog,omitempty"` // the instance's, for sh; each node runs it before the tasks of a job
		Epilog string           `msgpack:"epilog,omitempty"` // after them
	}
	// NodePart is a job's part on one node.
	NodePart struct {
		_msgpack  struct{} `msgpack:",as_array"`
		Node      int      // resource.Node.Index
		NodeID    int      // place of the node in the job, from 0
		Cores     resource.Mask
		GPUs      resource.Mask
		FirstTask int // task ranks FirstTask … FirstTask+NTasks-1
		NTasks    int
		MemMiB    int64 // memory that all slots of the job here may use together; 0 = none was asked for
		GPUParts  []int // hundredths taken of each gpu of GPUs, in order of their ids; nil = they are taken whole
	}
	// StartItem is one job to start on this broker.
	StartItem struct {
		_msgpack struct{} `msgpack:",as_array"`
		Ref      RunRef
		Spec     uint64
		Array    jobspec.ID // 0 = a single job
		Index    int        // in the array
		Size     int        // of the array
		CC       string     // FROND_JOB_CC and {cc}
		BCC      bool       // {cc} only, no FROND_JOB_CC
		Parts    []NodePart // this broker's parts only
		NTasks   int        // of the whole job
		NNodes   int
		Nodelist string  // hostlist of the whole job's nodes
		Limit    float64 // seconds of run time; 0 = none
		Watched  bool    // someone is attached: stream output promptly through pipes
		Taskmap  string  // of a job of several tasks on several nodes: how many tasks each has (RFC 34), numbered node by node
		Root     int32   // broker of the job's first node
		Brokers  int     // how many brokers have parts
		Params   []string
		Vars     []string // NAME=value, more for its environment
	}
	// ExecStartReq starts a batch. Drop names specs that the node may forget.
	ExecStartReq struct {
		Session uint64      `msgpack:"session"`
		Specs   []Spec      `msgpack:"specs,omitempty"`
		Drop    []uint64    `msgpack:"drop,omitempty"`
		Starts  []StartItem `msgpack:"starts"`
	}
	// ExecKillReq signals all processes of the runs' tasks. With End they get TERM now and, after their kill timeout,
	// KILL until they are gone.
	ExecKillReq struct {
		Session uint64   `msgpack:"session"`
		Runs    []RunRef `msgpack:"runs"`
		Signal  int      `msgpack:"signal"`
		End     bool     `msgpack:"end"`
	}
	// ExecLimitReq sets a limit in seconds of run time; 0 = none.
	ExecLimitReq struct {
		Session uint64   `msgpack:"session"`
		Runs    []RunRef `msgpack:"runs"`
		Limit   float64  `msgpack:"limit"`
	}
	// ExecInputReq is standard input.
	ExecInputReq struct {
		Session uint64 `msgpack:"session"`
		Run     RunRef `msgpack:"run"`
		Task    int    `msgpack:"task"` // -1 = all tasks; -2-r = all but r
		Data    []byte `msgpack:"data"`
		EOF     bool   `msgpack:"eof"`
		Rows    int    `msgpack:"rows,omitempty"` // the size of the terminals of the tasks named has changed
		Cols    int    `msgpack:"cols,omitempty"`
	}

	// ExecFenceReq is what a broker's tasks have put before their Seq-th barrier: key, value, key, value, …
	ExecFenceReq struct {
		Run   RunRef   `msgpack:"run"`
		Seq   int      `msgpack:"seq"`
		Rank  int32    `msgpack:"rank"`
		Of    int      `msgpack:"of"` // brokers of the job
		Pairs []string `msgpack:"pairs,omitempty"`
	}
	// ExecFenceRep is what all tasks of the job have put.
	ExecFenceRep struct {
		Pairs []string `msgpack:"pairs,omitempty"`
	}

	// Record is one fact in a node's report. Kind tells which fields count.
	Record struct {
		_msgpack struct{} `msgpack:",as_array"`
		Kind     RecordKind
		Ref      RunRef
		Time     float64 // epoch seconds
		// RecEnded, once per run and broker, after everything of the run on this broker is dead and reaped
		Status int     // largest wait(2) status of its tasks here
		Start  float64 // when the first task started (0: none did)
		NTasks int     // tasks of this run on this broker
		MaxRSS int64   // KiB, largest task
		CPU    float64 // seconds, all tasks
		// RecOutput
		Task   int
		Stream uint8 // 1 stdout, 2 stderr
		Offset int64 // of Data in this task's stream
		Data   []byte
		EOF    bool
		// RecException: Type and Severity as in Flux (timeout, exec, …); Status, if a task could not be started, is then the job's whatever
		// the tasks end with that are ended because of it. RecEnded follows later
		Type     string
		Severity int
		Note     string
		// RecEnded
		Signal int // largest that a task here died of (Status has it as exit code 128 + signal)
	}
	// RecordKind tells what a Record says.
	RecordKind uint8
	// ExecReportReq is a batch of records.
	ExecReportReq struct {
		Rank    int32    `msgpack:"rank"`
		UUID    string   `msgpack:"uuid"`
		Session uint64   `msgpack:"session"`
		Records []Record `msgpack:"records"`
	}
)

// The kinds of records.
const (
	RecStarted RecordKind = 1 + iota // all tasks of the run on this broker have been started (left out if RecEnded is in the same batch)
	RecOutput
	RecException
	RecEnded
	RecEvent // Type is the name of an event (prolog-start, prolog-finish, epilog-start, epilog-finish), Note its description, Status its status
)
