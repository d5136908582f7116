package client

import (
	"context"

	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
)

// Option changes one call.
type Option func(*wire.Message)

// Rank aims a call at one broker instead of the nearest one upwards that offers the service.
func Rank(n int32) Option { return func(m *wire.Message) { m.Target = n } }

// Call sends a request and waits for its answer. The error is the service's *wire.Error, wire.Lost when the connection ended before
// the answer ("may have been done"), or ctx's; ending ctx also tells the service that nobody waits.
func Call[Req, Rep any](ctx context.Context, c *Client, m rpc.Method[Req, Rep], req Req, opts ...Option) (Rep, error) {
	return begin(ctx, c, m, req, true, opts).Wait(ctx)
}

// Go sends a request without waiting for its answer, so that many can be under way on one connection. It waits only while
// the connection has much unsent; ctx bounds that.
func Go[Req, Rep any](ctx context.Context, c *Client, m rpc.Method[Req, Rep], req Req, opts ...Option) *Future[Rep] {
	return begin(ctx, c, m, req, false, opts)
}

// begin sends a request; now says that its caller waits next.
func begin[Req, Rep any](ctx context.Context, c *Client, m rpc.Method[Req, Rep], req Req, now bool, opts []Option) *Future[Rep] {
	r := &reply{done: make(chan struct{})}
	f := &Future[Rep]{c: c, r: r}
	msg, err := request(m, req, 0, opts)
	if err != nil {
		r.end(nil, err)
		return f
	}
	f.call = &call{msg: msg, idempotent: m.Idempotent, to: r}
	if err := c.send(ctx, f.call, now); err != nil {
		r.end(nil, err)
	}
	return f
}

// Notify sends a request that nobody answers. The error tells only whether it could be sent.
func Notify[Req, Rep any](ctx context.Context, c *Client, m rpc.Method[Req, Rep], req Req, opts ...Option) error {
	msg, err := request(m, req, wire.NoReply, opts)
	if err != nil {
		return err
	}
	return c.send(ctx, &call{msg: msg}, false)
}

// Open starts a streaming call. Ending ctx ends the stream.
func Open[Req, Rep any](ctx context.Context, c *Client, m rpc.Method[Req, Rep], req Req, opts ...Option) (*Stream[Rep], error) {
	msg, err := request(m, req, wire.Stream, opts)
	if err != nil {
		return nil, err
	}
	q := newQueue(c)
	q.call = &call{msg: msg, idempotent: m.Idempotent, to: q}
	if err := c.send(ctx, q.call, true); err != nil {
		return nil, err
	}
	q.watch(ctx)
	return &Stream[Rep]{q: q}, nil
}

// request makes the message of a call.
func request[Req, Rep any](m rpc.Method[Req, Rep], req Req, flags wire.Flags, opts []Option) (*wire.Message, error) {
	body, err := rpc.Payload{Value: req}.Bytes()
	if err != nil {
		return nil, err
	}
	msg := &wire.Message{Type: wire.Request, Topic: m.Topic, Flags: flags, Target: wire.Any, Body: body}
	for _, o := range opts {
		o(msg)
	}
	return msg, nil
}

// Future is the answer to come of Go.
type Future[Rep any] struct {
	c    *Client
	call *call
	r    *reply
}

// Done is closed when the answer is there.
func (f *Future[Rep]) Done() <-chan struct{} { return f.r.done }

// Wait returns the answer. When ctx ends first, the call is cancelled.
func (f *Future[Rep]) Wait(ctx context.Context) (Rep, error) {
	select {
	case <-f.r.done:
	case <-ctx.Done():
		f.c.cancel(f.call, wire.Errorf(wire.Canceled, "the caller gave up: %v", ctx.Err()))
		var zero Rep
		return zero, ctx.Err()
	}
	if f.r.err != nil {
		var zero Rep
		return zero, f.r.err
	}
	return rpc.As[Rep](rpc.Payload{Raw: f.r.msg.Body})
}

// reply receives one answer. msg and err are written before done is closed.
type reply struct {
	done chan struct{}
	msg  *wire.Message
	err  error
}

func (r *reply) end(m *wire.Message, err error) {
	r.msg, r.err = m, err
	close(r.done)
}

func (r *reply) next(m *wire.Message) { r.end(m, nil) }
func (r *reply) fail(err error)       { r.end(nil, err) }
func (r *reply) restart()             {}
