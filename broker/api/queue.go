package api

import "github.com/frond-hpc/frond/broker/rpc"

// Queues lists the queues of the instance; one without named queues has one, with the name "".
var Queues = rpc.Method[Empty, QueuesRep]{Topic: "job.queues", Idempotent: true}

// QueueSet enables, disables, starts or stops queues; answered when that is durable. Errors: Invalid.
var QueueSet = rpc.Method[QueueSetReq, Empty]{Topic: "job.queue-set", Idempotent: true}

type (
	// QueuesRep has them in the order in which they were configured.
	QueuesRep struct {
		Queues []QueueInfo `msgpack:"queues"`
	}
	// QueueInfo is one. Durations are seconds, 0 = none; sizes 0 = no bound.
	QueueInfo struct {
		Name            string    `msgpack:"name" json:"name"`
		Default         bool      `msgpack:"default" json:"default"`
		Enabled         bool      `msgpack:"enabled" json:"enabled"`
		Started         bool      `msgpack:"started" json:"started"`
		DisableReason   string    `msgpack:"disable_reason" json:"disable_reason,omitempty"`
		StopReason      string    `msgpack:"stop_reason" json:"stop_reason,omitempty"`
		Requires        []string  `msgpack:"requires" json:"requires,omitempty"`
		Limit           float64   `msgpack:"limit" json:"limit_duration,omitempty"`
		DefaultDuration float64   `msgpack:"default_duration" json:"default_duration,omitempty"`
		Min             QueueSize `msgpack:"min" json:"min"`
		Max             QueueSize `msgpack:"max" json:"max"`
		Pending         int       `msgpack:"pending" json:"pending"` // jobs
		Running         int       `msgpack:"running" json:"running"`
	}
	// QueueSize is a bound of a job's size.
	QueueSize struct {
		Nodes int `msgpack:"nodes" json:"nnodes,omitempty"`
		Cores int `msgpack:"cores" json:"ncores,omitempty"`
		GPUs  int `msgpack:"gpus" json:"ngpus,omitempty"`
	}
	// QueueSetReq names queues and what to do with them. NoCheckpoint: only until the leader is started again.
	QueueSetReq struct {
		Names        []string `msgpack:"names"`
		All          bool     `msgpack:"all"`
		Enable       *bool    `msgpack:"enable,omitempty"`
		Start        *bool    `msgpack:"start,omitempty"`
		Reason       string   `msgpack:"reason,omitempty"`
		NoCheckpoint bool     `msgpack:"nocheckpoint,omitempty"`
	}
)
