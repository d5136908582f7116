package api

import (
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
)

// The protocol between an instance and the child instances that are jobs of it (jobspec.Instance). A child's brokers are the tasks of its
// job; task 0 is its leader.
//
//	start     The leader calls Rendezvous with a Post and keeps the stream. Its URI becomes a memo of the job ({"uri": …}). Another broker
//	          calls it without one, and is answered with the leader's Boot once that has posted. It is the same at start and later.
//	operation The leader is told when its job ends, as soon as that is known and whenever it changes (Ends): it starts nothing that cannot finish before.
//	          When a broker of the child has ended, or its node is lost, the leader is told its task (Gone), and need not wait for a lease.
//	failure   A call that is Lost is made again; so does the leader when the parent has been restarted. Error NotFound: no such attempt of a
//	          job runs (any more). Error Invalid: the child runs another version of frond.
//	teardown  With the attempt: the stream ends. The parent ends a child as any job, by TERM to its leader.

// Rendezvous is called by the brokers of a child.
var Rendezvous = rpc.Method[RendezvousReq, RendezvousRep]{Topic: "job.rendezvous", Stream: true, Idempotent: true}

// History takes a piece of a file of a child's state directory, at its end and when that lies on another host than the leader's: what ran in it
// stays to be seen. Pieces come in order, store.db last. Errors: NotFound (no such attempt runs), Invalid, Unavailable.
var History = rpc.Method[HistoryReq, Empty]{Topic: "job.history", Idempotent: true}

// HistoryReq has bytes of a file, named by its path in the state directory.
type HistoryReq struct {
	ID      jobspec.ID `msgpack:"id"`
	Attempt uint32     `msgpack:"attempt"`
	Name    string     `msgpack:"name"`
	Offset  int64      `msgpack:"offset"`
	Data    []byte     `msgpack:"data"`
}

type (
	// RendezvousReq tells who calls.
	RendezvousReq struct {
		ID      jobspec.ID `msgpack:"id"`
		Attempt uint32     `msgpack:"attempt"`
		Task    int        `msgpack:"task"`
		Version string     `msgpack:"version"`
		Host    string     `msgpack:"host"`
		Post    *ChildPost `msgpack:"post,omitempty"`
	}
	// ChildPost is what a leader has to say. Boot is what its other brokers need to join, a secret.
	ChildPost struct {
		URI  string `msgpack:"uri"`
		Boot []byte `msgpack:"boot,omitempty"`
	}
	// RendezvousRep is the answer to a broker, or news for the leader: an empty one says that the post was taken.
	RendezvousRep struct {
		Boot []byte `msgpack:"boot,omitempty"`
		Gone []int  `msgpack:"gone,omitempty"`
		// Ends is when the parent ends the child's job, epoch seconds, if that is known or has changed; 0 = no news, below 0 = it is not known any more.
		Ends float64 `msgpack:"ends,omitempty"`
	}
)
