// Package rpc declares methods as typed values and carries their bodies: as Go values inside one broker, as msgpack
// between brokers and clients. It has no goroutines and no I/O.
package rpc

import (
	"fmt"

	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/vmihailenco/msgpack/v5"
)

// Method is one declared method: the same value serves and calls. Req and Rep are structs that msgpack encodes by
// field name (use `msgpack:"…,omitempty"` or an as_array struct for bulk data).
type Method[Req, Rep any] struct {
	Topic      string // service.method
	Stream     bool   // answers are a stream of Rep that ends with EndOfStream or an error
	Idempotent bool   // may be sent again after Lost
}

// Payload is a body: a Go value (sent inside a broker; immutable from then on) or its msgpack form.
type Payload struct {
	Value any
	Raw   []byte
}

// Bytes returns the msgpack form, encoding Value if need be. A nil Value without Raw is an empty body.
func (p Payload) Bytes() ([]byte, error) {
	if p.Raw != nil || p.Value == nil {
		return p.Raw, nil
	}
	b, err := msgpack.Marshal(p.Value)
	if err != nil {
		return nil, fmt.Errorf("encode body %T: %w", p.Value, err)
	}
	return b, nil
}

// As returns the body as a T. The error has code Invalid.
func As[T any](p Payload) (T, error) {
	if v, ok := p.Value.(T); ok {
		return v, nil
	}
	var v T
	if p.Value != nil {
		return v, wire.Errorf(wire.Internal, "body is a %T, not a %T", p.Value, v)
	}
	if len(p.Raw) == 0 {
		return v, nil
	}
	if err := wire.Unmarshal(p.Raw, &v); err != nil {
		return v, wire.Errorf(wire.Invalid, "malformed body: %v", err)
	}
	return v, nil
}

// Decode returns the request body of r as this method's Req.
func (m Method[Req, Rep]) Decode(r *Request) (Req, error) { return As[Req](r.Body) }

// DecodeReply returns the response body of r as this method's Rep, or r's error.
func (m Method[Req, Rep]) DecodeReply(r *Response) (Rep, error) {
	if r.Err != nil {
		var zero Rep
		return zero, r.Err
	}
	return As[Rep](r.Body)
}

// Peer names who sent a request, for the life of its connection. Comparable.
type Peer string

// Request is a request as a service gets it. The service keeps it for as long as it owes answers.
type Request struct {
	Topic   string
	Body    Payload
	Peer    Peer       // who asked
	Route   []wire.Hop // opaque: how the answer gets back
	Tag     uint64     // unique per Peer
	Stream  bool
	NoReply bool
	User    uint32
	Local   bool // asked by a service or client of this broker
}

// Key names the request among all outstanding ones.
func (r *Request) Key() RequestKey { return RequestKey{r.Peer, r.Tag} }

// RequestKey names an outstanding request.
type RequestKey struct {
	Peer Peer
	Tag  uint64
}

// Response is an answer as the caller gets it.
type Response struct {
	Key  any     // what the caller gave with the call
	Body Payload // valid if Err == nil
	Err  *wire.Error
	More bool // a stream: further answers follow. A stream's last answer has Err (EndOfStream at a clean end).
}

// Cancel tells a service that the sender of an outstanding request no longer wants its answers (it cancelled, went
// away, or its link ended). The service drops the request; it need not answer.
type Cancel struct{ Key RequestKey }

// Event is a published event, in order of (Epoch, Seq).
type Event struct {
	Topic string
	Epoch uint64
	Seq   uint64
	Body  Payload
}

// Resync tells a subscribed service that events were missed: it reads state again. Events go on after (Epoch, Seq).
type Resync struct{ Epoch, Seq uint64 }
