package api

import (
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
)

// Purge forgets jobs that have ended, whole arrays only: their records, events and output. Those that unfinished jobs depend on stay. What
// was submitted under a key is not run again by an identical submission. Answered when durable. Errors: Invalid, Unavailable.
var Purge = rpc.Method[PurgeReq, PurgeRep]{Topic: "job.purge", Idempotent: true}

type (
	// PurgeReq names jobs and arrays, or says which: those that ended AgeLimit seconds ago or before, and the oldest until at most NumLimit
	// elements that have ended are left; nil = no such limit, and an error if nothing is said at all. Without Force the elements are counted only.
	PurgeReq struct {
		IDs      []jobspec.ID `msgpack:"ids"`
		AgeLimit *float64     `msgpack:"age_limit"`
		NumLimit *int         `msgpack:"num_limit"`
		Force    bool         `msgpack:"force"`
		Batch    int          `msgpack:"batch"`           // jobs and arrays to purge in one call, 0 = a default
		After    *PurgeAfter  `msgpack:"after,omitempty"` // PurgeRep.Next of the call before
	}
	// PurgeRep has the number of elements purged by this call, and of those ended ones that were there before it. Next is nil when no more are to
	// be purged. Errors, by id, keep all from being purged.
	PurgeRep struct {
		Count    int                   `msgpack:"count"`
		Inactive int                   `msgpack:"inactive"`
		Next     *PurgeAfter           `msgpack:"next,omitempty"`
		Errors   map[jobspec.ID]string `msgpack:"errors,omitempty"`
	}
	// PurgeAfter is a place among the ends of jobs.
	PurgeAfter struct {
		End    float64    `msgpack:"end"`
		Result uint8      `msgpack:"result"`
		ID     jobspec.ID `msgpack:"id"`
	}
)
