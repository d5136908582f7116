package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay/wire"
)

// errSessionOver is internal: the session ended before the message was taken.
var errSessionOver = errors.New("session is over")

const (
	redialPause = 50 * time.Millisecond  // grows to redialMost
	redialMost  = 500 * time.Millisecond // between two attempts to connect
	retryPause  = 200 * time.Millisecond // before a call that was lost in the tree is sent again
)

// receiver takes the answers of one call. Its methods are called by one goroutine at a time; fail, or next of a call that is
// no stream, is the last.
type receiver interface {
	next(m *wire.Message)
	fail(err error)
	restart()
}

// call is an outstanding request.
type call struct {
	msg        *wire.Message
	idempotent bool
	to         receiver  // nil: nobody waits
	lost       time.Time // when it was first lost in the tree; zero = not
	parked     bool      // waits to be sent again after that
}

// Client is a connection to a broker. Close it.
type Client struct {
	uri    string
	cfg    dialConfig
	ctx    context.Context // ended by Close
	finish context.CancelFunc
	wg     sync.WaitGroup
	added  chan struct{} // one slot: a call was added

	mu     sync.Mutex
	sess   *session // nil while there is none
	broker api.Hello
	up     chan struct{} // closed when a session is there or the client has ended
	calls  map[uint64]*call
	tag    uint64
	err    error // final
}

func newClient(uri string, cfg dialConfig) *Client {
	c := &Client{uri: uri, cfg: cfg, calls: map[uint64]*call{}, added: make(chan struct{}, 1), up: make(chan struct{})}
	c.ctx, c.finish = context.WithCancel(context.Background())
	return c
}

// Broker is the hello of the broker that this client is, or was last, connected to.
func (c *Client) Broker() api.Hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broker
}

// URI is what was dialled.
func (c *Client) URI() string { return c.uri }

// Close ends the connection; what is outstanding fails with wire.Canceled. It returns when the client's goroutines have ended.
func (c *Client) Close() error {
	c.finish()
	c.mu.Lock()
	s := c.sess
	c.mu.Unlock()
	if s != nil {
		s.end(errSessionOver)
	}
	c.wg.Wait()
	return nil
}

// connect makes one session.
func (c *Client) connect(ctx context.Context) (*session, error) {
	dial, err := c.dialer()
	if err != nil {
		return nil, err
	}
	nc, err := dial(ctx, c.uri)
	if err != nil {
		return nil, err
	}
	s, err := newSession(ctx, nc, c.cfg.version)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.uri, err)
	}
	return s, nil
}

// start runs the client on its first session.
func (c *Client) start(s *session) {
	c.adopt(s)
	c.wg.Go(func() { c.run(s) })
}

// run reads from one session after another until the last is lost or the client is closed.
func (c *Client) run(s *session) {
	for {
		var writer sync.WaitGroup
		writer.Go(s.write)
		err := c.read(s)
		s.end(err)
		writer.Wait()
		c.leave(err)
		if s = c.again(err); s == nil {
			return
		}
		c.adopt(s)
	}
}

// read dispatches messages until the session ends.
func (c *Client) read(s *session) error {
	for {
		m, err := s.read()
		if err != nil {
			return err
		}
		if m.Type == wire.Response {
			c.response(m)
		}
	}
}

// response hands an answer to its call.
func (c *Client) response(m *wire.Message) {
	more := m.Flags&wire.Stream != 0
	c.mu.Lock()
	k := c.calls[m.Tag]
	if k != nil && more && k.msg.Flags&wire.Stream == 0 {
		c.mu.Unlock()
		c.cancel(k, wire.Errorf(wire.Invalid, "%s answers with a stream: it needs Open, not Call", k.msg.Topic))
		return
	}
	if k != nil && !more {
		if m.Code != wire.OK && c.retryLocked(k, m.Code) {
			c.mu.Unlock()
			return
		}
		delete(c.calls, m.Tag)
	}
	c.mu.Unlock()
	switch {
	case k == nil: // it was cancelled
	case m.Code != wire.OK:
		k.to.fail(&wire.Error{Code: m.Code, Text: m.Text})
	default:
		k.to.next(m)
	}
}

// retryLocked arranges that a call which was lost in the tree is sent again, if it may be.
func (c *Client) retryLocked(k *call, code wire.Code) bool {
	if c.cfg.reconnect <= 0 || !(code == wire.Unreachable || code == wire.Lost && k.idempotent) {
		return false
	}
	if k.lost.IsZero() {
		k.lost = time.Now()
	}
	if time.Since(k.lost) > c.cfg.reconnect {
		return false
	}
	k.parked = true
	time.AfterFunc(retryPause, func() { c.resend(k) })
	return true
}

// resend sends a call again if it is still outstanding. Without a session the next one takes it along.
func (c *Client) resend(k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[k.msg.Tag] == k && c.sess != nil && k.parked {
		k.parked = false
		k.to.restart()
		c.sess.put(k.msg)
	}
}

// leave takes note that there is no session, and fails what cannot be sent again.
func (c *Client) leave(err error) {
	c.mu.Lock()
	c.sess = nil
	c.up = make(chan struct{})
	final := c.finalLocked(err)
	var failed []*call
	for tag, k := range c.calls {
		if final != nil || !k.idempotent {
			delete(c.calls, tag)
			failed = append(failed, k)
		}
	}
	if c.err = final; final != nil {
		close(c.up)
	}
	c.mu.Unlock()
	if final == nil {
		final = c.lostError(err)
	}
	for _, k := range failed {
		k.to.fail(final)
	}
}

// finalLocked tells whether the loss of a session is the end of the client, and with which error.
func (c *Client) finalLocked(err error) error {
	switch {
	case c.ctx.Err() != nil:
		return wire.Errorf(wire.Canceled, "the client was closed")
	case isWire(err):
		return err // the broker said why: it refuses us or ends in order
	case c.cfg.reconnect <= 0:
		return c.lostError(err)
	}
	return nil
}

func (c *Client) lostError(err error) error {
	return wire.Errorf(wire.Lost, "the connection to %s was lost (%v): the request may have been done", c.uri, err)
}

// again makes the next session, or ends the client and returns nil.
func (c *Client) again(err error) *session {
	c.mu.Lock()
	over := c.err != nil
	c.mu.Unlock()
	if over {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.reconnect)
	defer cancel()
	for pause := redialPause; ; pause = min(2*pause, redialMost) {
		s, derr := c.connect(ctx)
		if derr == nil {
			return s
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			c.giveUp(fmt.Errorf("%w; connecting again for %s failed: %w", c.lostError(err), c.cfg.reconnect, derr))
			return nil
		}
	}
}

// giveUp ends the client.
func (c *Client) giveUp(err error) {
	if c.ctx.Err() != nil {
		err = wire.Errorf(wire.Canceled, "the client was closed")
	}
	c.mu.Lock()
	c.err = err
	calls := c.calls
	c.calls = map[uint64]*call{}
	close(c.up)
	c.mu.Unlock()
	for _, k := range calls {
		k.to.fail(err)
	}
}

// adopt makes s the client's session and sends again what is outstanding.
func (c *Client) adopt(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sess, c.broker = s, s.broker
	if c.ctx.Err() != nil {
		s.end(errSessionOver) // Close came first
	}
	for _, tag := range slices.Sorted(maps.Keys(c.calls)) {
		k := c.calls[tag]
		k.parked = false
		k.to.restart()
		s.put(k.msg)
	}
	close(c.up)
}

// send gives k a tag and sends it on the present session, or the next. When it returns nil the outcome comes through k.to.
func (c *Client) send(ctx context.Context, k *call, now bool) error {
	for {
		s, up, err := c.add(k)
		if err != nil {
			return err
		}
		if s == nil {
			select {
			case <-up:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err = s.send(ctx, k.msg, now)
		switch {
		case err == nil:
			return nil
		case err == errSessionOver && k.to != nil:
			return nil // leave has failed it, or the next session takes it along
		case err == errSessionOver:
			continue
		case k.to == nil || c.drop(k):
			return err
		}
		return nil
	}
}

// add makes k outstanding on the present session. Without one it returns the channel that is closed when that has changed.
func (c *Client) add(k *call) (*session, chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, nil, c.err
	}
	if c.sess == nil {
		return nil, c.up, nil
	}
	if k.to != nil {
		c.tag++
		k.msg.Tag = c.tag
		c.calls[c.tag] = k
		signal(c.added)
	}
	return c.sess, nil, nil
}

// drop takes k out of the outstanding calls; false means that its outcome is on its way.
func (c *Client) drop(k *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[k.msg.Tag] != k {
		return false
	}
	delete(c.calls, k.msg.Tag)
	return true
}

// cancel ends k with err and tells the broker, unless it has ended.
func (c *Client) cancel(k *call, err error) {
	if !c.drop(k) {
		return
	}
	c.mu.Lock()
	s := c.sess
	c.mu.Unlock()
	if s != nil {
		s.put(&wire.Message{Type: wire.Control, Topic: api.TopicCancel, Flags: wire.Cancel, Tag: k.msg.Tag})
	}
	k.to.fail(err)
}

// others tells whether more than one call is outstanding.
func (c *Client) others() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls) > 1
}

// isWire tells whether err is the broker's word, not the connection's failure.
func isWire(err error) bool {
	var we *wire.Error
	return errors.As(err, &we)
}
