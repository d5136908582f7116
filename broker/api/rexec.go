package api

import "github.com/frond-hpc/frond/broker/rpc"

// Processes outside of the queue (frond exec), run by the service "rexec" of the targeted broker. They live as long as the stream that
// started them: when the client goes away, or the way to it breaks, they are killed with all that they have started.
//
//	start     rexec.run with a name of the client's choice. Started, or Failed and the end.
//	output    pieces in order, at most RexecWindow bytes beyond what rexec.ack has acknowledged: a process that writes faster waits.
//	input     rexec.input, answered when the process has taken it: one call under way at a time.
//	end       when the process has ended, and nothing of it is left, and its output has been sent: Exited, and the end of the stream.

// RexecWindow is how many bytes of output may be unacknowledged.
const RexecWindow = 1 << 20

var (
	// RexecRun starts a process and streams what becomes of it. Exists: the name is in use. Busy: too many run.
	RexecRun = rpc.Method[RexecRunReq, RexecEvent]{Topic: "rexec.run", Stream: true}
	// RexecInput passes standard input on. NotFound if the process has ended.
	RexecInput = rpc.Method[RexecInputReq, Empty]{Topic: "rexec.input"}
	// RexecAck says that output was taken.
	RexecAck = rpc.Method[RexecAckReq, Empty]{Topic: "rexec.ack"}
	// RexecSignal signals the process and all it has started. NotFound if it has ended.
	RexecSignal = rpc.Method[RexecSignalReq, Empty]{Topic: "rexec.signal"}
)

// What a RexecEvent tells.
const (
	RexecStarted uint8 = 1 + iota // PID
	RexecOutput                   // Stream, Data
	RexecExited                   // Status
	RexecFailed                   // Text: it could not be started; Status is the exit code that a shell would give
)

type (
	// RexecRunReq is a process.
	RexecRunReq struct {
		ID    string   `msgpack:"id"`
		Argv  []string `msgpack:"argv"`
		Env   []byte   `msgpack:"env"` // NAME=value, each ended by NUL; FROND_URI is the broker's own
		Dir   string   `msgpack:"dir"`
		Input bool     `msgpack:"input"` // standard input comes by rexec.input; else it is empty
	}
	// RexecEvent is one thing that happened.
	RexecEvent struct {
		Kind   uint8  `msgpack:"k"`
		PID    int    `msgpack:"pid,omitempty"`
		Stream uint8  `msgpack:"s,omitempty"` // 1 stdout, 2 stderr
		Data   []byte `msgpack:"d,omitempty"`
		Status int    `msgpack:"status,omitempty"` // of wait(2)
		Text   string `msgpack:"text,omitempty"`
	}
	// RexecInputReq is a piece of standard input.
	RexecInputReq struct {
		ID   string `msgpack:"id"`
		Data []byte `msgpack:"d"`
		EOF  bool   `msgpack:"eof,omitempty"`
	}
	// RexecAckReq acknowledges output.
	RexecAckReq struct {
		ID    string `msgpack:"id"`
		Bytes int    `msgpack:"n"`
	}
	// RexecSignalReq names a signal.
	RexecSignalReq struct {
		ID     string `msgpack:"id"`
		Signal int    `msgpack:"sig"`
	}
)
