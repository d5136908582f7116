package api

import (
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
)

// Follow streams output and ends of all elements of many submissions in one stream, as they come: for programs that run thousands of
// short jobs. The first answer has Open. From then on submissions with this stream's Key in SubmitItem.Follow are followed; those in
// Arrays, too, but of their past nothing is sent: who opens the stream anew after a loss finds it with job.list and job.attach. The ends
// come before they are durable. The stream ends when the client closes it. Errors: Invalid (the key is in use), Lost (something of it is in a branch
// whose connection was lost: the client is to open the stream anew).
var Follow = rpc.Method[FollowReq, FollowRep]{Topic: "job.follow", Stream: true}

type (
	// FollowReq opens a stream under a key, any text that nobody else uses.
	FollowReq struct {
		Key    string        `msgpack:"key"`
		Arrays []FollowArray `msgpack:"arrays,omitempty"`
	}
	// FollowArray is a submission and the tag by which answers name it.
	FollowArray struct {
		ID  jobspec.ID `msgpack:"id"`
		Tag int        `msgpack:"tag"`
	}
	// FollowRep has what came of several elements: first their output, then their ends, each in order.
	FollowRep struct {
		Open   bool           `msgpack:"open,omitempty"`
		Output []FollowOutput `msgpack:"output,omitempty"`
		Ended  []FollowEnd    `msgpack:"ended,omitempty"`
	}
	// FollowOutput is a piece of one element's output. An attempt above the last one seen makes what came before void.
	FollowOutput struct {
		Tag     int    `msgpack:"g"`
		Index   int    `msgpack:"i"`
		Attempt uint32 `msgpack:"a"`
		Task    int    `msgpack:"k"`
		Stream  uint8  `msgpack:"s"` // 1 stdout, 2 stderr
		Offset  int64  `msgpack:"o"`
		Data    []byte `msgpack:"d"`
	}
	// FollowEnd is the end of one element.
	FollowEnd struct {
		Tag     int     `msgpack:"g"`
		Index   int     `msgpack:"i"`
		Result  int     `msgpack:"r"`           // Flux: 1 completed, 2 failed, 4 cancelled, 8 timeout
		Status  int     `msgpack:"s"`           // wait status, -1 = none
		Start   float64 `msgpack:"b,omitempty"` // of its tasks; 0 = never ran
		End     float64 `msgpack:"e,omitempty"`
		Node    string  `msgpack:"n,omitempty"` // hostlist
		Attempt uint32  `msgpack:"a,omitempty"`
		Note    string  `msgpack:"x,omitempty"` // of the exception that ended it
		Signal  int     `msgpack:"z,omitempty"` // that a task died of; Status has it as exit code 128 + signal
	}
)
