package broker

import (
	"os"
	"time"

	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/overlay"
	"go.uber.org/zap"
)

// ServiceSpec is one service of a broker.
type ServiceSpec struct {
	Service reactor.Service
	Driver  reactor.Driver // carries out its effects; nil if it has none
	// Await has an orderly stop wait for the service's Stopped. It is understood for "job" and "exec".
	Await bool
}

// TransportFactory makes the broker's transport. Sink takes overlay.ConnUp, ConnData and ConnDown, those that are there together, from
// any goroutine, and does not block; it deals with them at once if the broker is idle. The slice stays the transport's.
type TransportFactory func(sink func(evs []any)) (overlay.Transport, error)

// Config of a broker. Run needs RunDir, Name and Overlay; an instance of more than one broker needs Transport.
type Config struct {
	Name     string // of the instance
	Version  string // of this program, for hello and the attribute "version"
	Hostname string // "" = os.Hostname
	// RunDir is the instance's run directory: the socket is RunDir/<rank>/local.
	RunDir   string
	StateDir string // "" = none; for the attribute
	// Attrs are further attributes (Flux's names), added to those that the broker knows itself.
	Attrs map[string]string
	// Overlay configures the membership machine. Rank, Size and the leader flag of the broker are those of Overlay.
	Overlay overlay.Config
	// Listen is where children dial ("unix:///…", "ipc:///…", "tcp://host:*"); "" = this broker takes none.
	Listen    string
	Transport TransportFactory
	Services  []ServiceSpec
	Log       *zap.Logger // nil = silent. Everything logged through Broker.Logger is in dmesg too

	// Ready is called once, when the socket takes clients and the broker has joined. It must not block.
	Ready func(Info)
	// StopLimit bounds an orderly stop (default 60 s for "job", else 20 s): what has not stopped by then is left behind and said so.
	StopLimit time.Duration
	// AllowUID decides which uids may connect to the socket; nil = this process's own.
	AllowUID func(uid uint32) bool
	// MaxClients and MaxUnread are limits of the socket; 0 = 16,384 and 64 MiB.
	MaxClients int
	MaxUnread  int
}

// Info is what Ready tells.
type Info struct {
	Rank  int32
	Epoch uint64
	URI   string // local:///… of the socket
	Addr  string // where children dial, "" = none
}

func (c *Config) hostname() string {
	if c.Hostname != "" {
		return c.Hostname
	}
	h, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return h
}
