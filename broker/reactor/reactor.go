// Package reactor is how a service runs: a Service is a value that turns one input into outputs; a host calls it. The
// production host gives each service one goroutine with an unbounded inbox; test/sim runs all services of all brokers in one
// loop on virtual time. Services have no goroutines, timers, channels or I/O of their own.
package reactor

import (
	"time"

	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
)

// Service is one service of one broker. Handle is never called concurrently. The input is one of
//
//	Start                first input of all
//	*rpc.Request         a request for this service
//	*rpc.Response        an answer to a Call of this service
//	rpc.Cancel           the sender of an outstanding request is gone
//	rpc.Event            an event it subscribed to (Out.Subscribe)
//	Wake                 the time asked for with Out.Wake has come
//	Done                 an effect given to Out.Do has ended
//	any other value      a notice of this broker (package api: api.Membership, api.Contact, …)
type Service interface {
	Name() string // topics "Name.…" are routed to it
	Handle(now time.Time, in any, out *Out)
}

// Start is a service's first input.
type Start struct{}

// Wake is the timer input.
type Wake struct{}

// Done reports the end (or a progress) of an effect.
type Done struct {
	Effect any // as given to Out.Do
	Result any
	Err    error
}

// Driver carries out the effects of one service: the store, the spawner. Do is called on the service's turn and must not
// block; done may be called any number of times, from any goroutine, and becomes a Done input.
type Driver interface {
	Do(now time.Time, effect any, done func(result any, err error))
}

// Out collects the outputs of one Handle. The host carries them out in order when Handle returns.
type Out struct{ Items []any }

// The items of Out, for hosts.
type (
	// Answer is a response to Req.
	Answer struct {
		Req  *rpc.Request
		Body any
		Err  *wire.Error
		More bool
	}
	// Call is a request to another service. Key comes back in the rpc.Response. Body may be an rpc.Payload that is encoded already.
	Call struct {
		Key     any
		Topic   string
		Target  int32 // wire.Any, wire.Upstream or a rank
		Body    any
		Stream  bool
		NoReply bool
	}
	// CancelCall ends a stream that was opened with Key.
	CancelCall struct{ Key any }
	// Publish is an event for the whole instance.
	Publish struct {
		Topic string
		Body  any
	}
	// Subscribe asks for events whose topic starts with Prefix.
	Subscribe struct{ Prefix string }
	// WakeAt replaces the service's timer; the zero time clears it.
	WakeAt struct{ T time.Time }
	// Do is an effect for the service's driver.
	Do struct{ Effect any }
	// Log is a line for the broker's log.
	Log struct {
		Level string // debug info warn error
		Msg   string // constant
		KV    []any  // alternating key, value
	}
	// Notify passes a notice to another service of this broker (or to the broker itself with To == "broker").
	Notify struct {
		To     string
		Notice any
	}
)

// Reply answers req for good.
func (o *Out) Reply(req *rpc.Request, body any) { o.add(Answer{Req: req, Body: body}) }

// Fail answers req for good with an error; any error that is no *wire.Error gets code Internal.
func (o *Out) Fail(req *rpc.Request, err error) { o.add(Answer{Req: req, Err: AsError(err)}) }

// Next sends one answer of a stream.
func (o *Out) Next(req *rpc.Request, body any) { o.add(Answer{Req: req, Body: body, More: true}) }

// End ends a stream cleanly.
func (o *Out) End(req *rpc.Request) {
	o.add(Answer{Req: req, Err: &wire.Error{Code: wire.EndOfStream}})
}

// Call sends a request.
func (o *Out) Call(c Call) { o.add(c) }

// CancelCall ends a stream that this service opened with key.
func (o *Out) CancelCall(key any) { o.add(CancelCall{key}) }

// Publish sends an event to the whole instance.
func (o *Out) Publish(topic string, body any) { o.add(Publish{topic, body}) }

// Subscribe asks for events by prefix; once at Start.
func (o *Out) Subscribe(prefix string) { o.add(Subscribe{prefix}) }

// Wake sets the service's only timer.
func (o *Out) Wake(t time.Time) { o.add(WakeAt{t}) }

// Do gives an effect to the service's driver.
func (o *Out) Do(effect any) { o.add(Do{effect}) }

// Log writes to the broker's log.
func (o *Out) Log(level, msg string, kv ...any) { o.add(Log{level, msg, kv}) }

// Notify passes a notice to another service of this broker.
func (o *Out) Notify(to string, notice any) { o.add(Notify{to, notice}) }

func (o *Out) add(item any) { o.Items = append(o.Items, item) }

// AsError makes err a *wire.Error.
func AsError(err error) *wire.Error {
	if e, ok := err.(*wire.Error); ok {
		return e
	}
	return &wire.Error{Code: wire.Internal, Text: err.Error()}
}
