package client

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
)

// Stream is an open streaming call. Next and Close may be called from different goroutines.
type Stream[Rep any] struct{ q *queue }

// Next waits for the next answer. It returns io.EOF at the clean end, else the service's error, wire.Lost, wire.TooLarge
// if this stream was not read while others waited, or the error of Open's ctx. After an error it returns the same again.
func (s *Stream[Rep]) Next() (Rep, error) {
	m, err := s.q.take()
	if err != nil {
		var zero Rep
		return zero, err
	}
	return rpc.As[Rep](rpc.Payload{Raw: m.Body})
}

// Restarts counts how often the stream was opened again after a lost connection, as of the last Next: it then began anew, so that
// answers may come a second time.
func (s *Stream[Rep]) Restarts() int {
	s.q.mu.Lock()
	defer s.q.mu.Unlock()
	return s.q.seen
}

// Close ends the stream; the service is told. Next then returns what had come, and wire.Canceled.
func (s *Stream[Rep]) Close() {
	s.q.c.cancel(s.q.call, &wire.Error{Code: wire.Canceled, Text: "the stream was closed"})
}

// item is one answer in a queue.
type item struct {
	msg      *wire.Message
	restarts int
}

// queue holds a stream's unread answers.
type queue struct {
	c    *Client
	call *call
	stop func() bool // of ctx

	mu       sync.Mutex
	items    []item
	bytes    int
	err      error
	restarts int
	seen     int
	wake     chan struct{} // one slot: something to read
	room     chan struct{} // one slot: something was read
}

func newQueue(c *Client) *queue {
	return &queue{c: c, wake: make(chan struct{}, 1), room: make(chan struct{}, 1), stop: func() bool { return true }}
}

// watch ends the stream with ctx.
func (q *queue) watch(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { q.c.cancel(q.call, ctx.Err()) })
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stop = stop
	if q.err != nil {
		stop()
	}
}

// take waits for an answer or the end.
func (q *queue) take() (*wire.Message, error) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			it := q.items[0]
			q.items[0] = item{}
			q.items = q.items[1:]
			q.bytes -= cost(it.msg)
			q.seen = it.restarts
			q.mu.Unlock()
			signal(q.room)
			return it.msg, nil
		}
		err := q.err
		q.mu.Unlock()
		if err != nil {
			signal(q.wake) // for another reader
			return nil, err
		}
		<-q.wake
	}
}

// cost is what an answer counts against the buffer.
func cost(m *wire.Message) int { return len(m.Body) + 128 }

// next is called by the client's reader. It waits while the buffer is full and nothing else is outstanding, and
// gives the stream up when something is.
func (q *queue) next(m *wire.Message) {
	for !q.put(m) {
		if q.c.others() {
			q.c.cancel(q.call, wire.Errorf(wire.TooLarge, "a stream's unread answers passed %d bytes while other calls waited", q.c.cfg.buffer))
			return
		}
		select {
		case <-q.room:
		case <-q.c.added:
		case <-q.c.ctx.Done():
			return
		}
	}
}

// put adds m unless the buffer is full. An ended stream swallows it.
func (q *queue) put(m *wire.Message) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return true
	}
	if q.bytes > q.c.cfg.buffer {
		return false
	}
	q.items = append(q.items, item{m, q.restarts})
	q.bytes += cost(m)
	signal(q.wake)
	return true
}

// fail ends the stream after what is in the buffer.
func (q *queue) fail(err error) {
	var we *wire.Error
	if errors.As(err, &we) && we.Code == wire.EndOfStream {
		err = io.EOF
	}
	q.mu.Lock()
	if q.err == nil {
		q.err = err
	}
	stop := q.stop
	q.mu.Unlock()
	stop()
	signal(q.wake)
	signal(q.room)
}

// restart notes that answers begin anew.
func (q *queue) restart() {
	q.mu.Lock()
	q.restarts++
	q.mu.Unlock()
}

// signal fills a one-slot channel.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
