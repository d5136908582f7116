// Package rexec is the port between the service "rexec" and the driver that runs its processes: effects, and what they result in.
package rexec

// Effects. Their owner gives each process a name that is in use once.
type (
	// Start runs a process. Its Done comes several times: Started, Output …, and at last Exited; or Failed alone.
	Start struct {
		ID     string
		Argv   []string
		Env    []byte // NAME=value, each ended by NUL
		Dir    string
		Input  bool
		Window int // bytes of output that may be sent without an Ack
	}
	// Write passes standard input on. Its Done comes when that is in the pipe, or can never be.
	Write struct {
		ID   string
		Data []byte
		EOF  bool
		Key  any // for the caller
	}
	// Ack lets so many more bytes of output be sent. It has no Done, nor have those below.
	Ack struct {
		ID    string
		Bytes int
	}
	// Signal signals all processes of ID.
	Signal struct {
		ID     string
		Signal int
	}
	// Kill ends them at once. Exited follows; output that was not sent is lost.
	Kill struct{ ID string }
)

// Results of a Start.
type (
	// Started: it runs.
	Started struct{ PID int }
	// Output is a piece of output.
	Output struct {
		Stream uint8 // 1 stdout, 2 stderr
		Data   []byte
	}
	// Exited: it has ended, and nothing of it is left.
	Exited struct{ Status int }
	// Failed: it could not be started. Code is the exit code that a shell would give.
	Failed struct {
		Text string
		Code int
	}
)
