package local

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay/usock"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/sys/unix"
)

const (
	readPiece  = 64 << 10
	writePiece = 256 << 10
	readAhead  = 4 << 20 // bytes read from one client and not yet handled by the broker
	perMessage = 128     // what a queued message counts beside its body
)

// buffers are for reading; an idle client has none.
var buffers = sync.Pool{New: func() any { b := make([]byte, readPiece); return &b }}

// Conn is one client. Its reader is the goroutine of run; a writer runs while there is something to write.
type Conn struct {
	ID  uint64
	UID uint32
	srv *Server
	nc  *net.UnixConn
	raw syscall.RawConn

	mu      sync.Mutex
	moved   sync.Cond // held, unhandled or over changed
	queue   []*wire.Message
	rest    []byte // of a message that was written in part; before queue
	unread  int    // bytes that the client has not taken
	writing bool
	over    bool // no more is queued; the writer closes
	held    bool
	unhand  int // bytes that the broker has not dealt with
}

func newConn(s *Server, nc *net.UnixConn, raw syscall.RawConn, id uint64, uid uint32) *Conn {
	c := &Conn{ID: id, UID: uid, srv: s, nc: nc, raw: raw}
	c.moved.L = &c.mu
	return c
}

// run reads until the client is gone.
func (c *Conn) run() {
	_ = c.nc.SetReadDeadline(time.Now().Add(helloLimit))
	in := &intake{c: c}
	err := in.read()
	if in.greeted {
		c.srv.cfg.Sink.ClientDown(c)
	}
	c.Drop(reasonOf(err))
	c.await()
}

// reasonOf is what a client is told; nil = nothing, it has gone by itself.
func reasonOf(err error) *wire.Error {
	var we *wire.Error
	switch {
	case errors.As(err, &we):
		return we
	case errors.Is(err, io.ErrUnexpectedEOF):
		return wire.Errorf(wire.Invalid, "the connection ended inside a frame")
	case errors.Is(err, unix.ETIMEDOUT):
		return wire.Errorf(wire.Timeout, "no hello came within %s", helloLimit)
	}
	return nil
}

// intake is the reader's state.
type intake struct {
	c       *Conn
	split   splitter
	greeted bool
	batch   []*wire.Message
	size    int
}

// read takes pieces from the socket and passes batches of messages on.
func (in *intake) read() error {
	for {
		err := in.c.piece(func(b []byte) error { return in.split.feed(b, in.frame) })
		if len(in.batch) > 0 {
			batch, size := in.batch, in.size
			in.batch, in.size = nil, 0
			in.c.took(size)
			in.c.srv.cfg.Sink.ClientMessages(in.c, batch, size)
		}
		if err == io.EOF && in.split.inside() {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if !in.c.clear() {
			return net.ErrClosed
		}
	}
}

// frame takes one frame.
func (in *intake) frame(b []byte) error {
	m, err := wire.Decode(b)
	if err != nil {
		return err
	}
	if !in.greeted {
		return in.hello(m)
	}
	in.batch = append(in.batch, m)
	in.size += len(b)
	return nil
}

// hello takes the client's first message and answers it.
func (in *intake) hello(m *wire.Message) error {
	if m.Type != wire.Control || m.Topic != api.TopicHello {
		return wire.Errorf(wire.BadProtocol, "a client's first message is a hello, not %q", m.Topic)
	}
	var peer api.Hello
	if err := wire.Unmarshal(m.Body, &peer); err != nil {
		return wire.Errorf(wire.BadProtocol, "malformed hello: %v", err)
	}
	if err := api.CheckProtocol(peer); err != nil {
		return err
	}
	body, err := msgpack.Marshal(in.c.srv.cfg.Hello())
	if err != nil {
		return err
	}
	in.greeted = true
	_ = in.c.nc.SetReadDeadline(time.Time{})
	in.c.Send(&wire.Message{Type: wire.Control, Topic: api.TopicHello, Body: body})
	in.c.srv.cfg.Sink.ClientUp(in.c)
	return nil
}

// piece waits for bytes and hands them to f in a buffer that is only borrowed.
func (c *Conn) piece(f func([]byte) error) error {
	var buf *[]byte
	var n int
	var err error
	rerr := c.raw.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*[]byte)
		n, err = usock.Receive(fd, *buf)
		if err != unix.EAGAIN {
			return true
		}
		buffers.Put(buf)
		buf = nil
		return false
	})
	if buf != nil {
		defer buffers.Put(buf)
	}
	switch {
	case rerr != nil && isTimeout(rerr):
		return unix.ETIMEDOUT
	case rerr != nil:
		return rerr
	case err != nil:
		return err
	case n == 0:
		return io.EOF
	}
	return f((*buf)[:n])
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// took notes bytes that go to the broker.
func (c *Conn) took(n int) {
	c.mu.Lock()
	c.unhand += n
	c.mu.Unlock()
}

// Handled takes them back.
func (c *Conn) Handled(n int) {
	c.mu.Lock()
	c.unhand -= n
	c.mu.Unlock()
	c.moved.Broadcast()
}

// Hold stops reading from the client, or goes on.
func (c *Conn) Hold(hold bool) {
	c.mu.Lock()
	c.held = hold
	c.mu.Unlock()
	c.moved.Broadcast()
}

// clear waits until the client may send more; false: the connection is over.
func (c *Conn) clear() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for (c.held || c.unhand > readAhead) && !c.over {
		c.moved.Wait()
	}
	return !c.over
}

// await waits for the writer.
func (c *Conn) await() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing {
		c.moved.Wait()
	}
}

// Send queues messages for the client. One that has too much unread is disconnected.
func (c *Conn) Send(msgs ...*wire.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.queue = append(c.queue, msgs...)
	for _, m := range msgs {
		c.unread += len(m.Body) + perMessage
	}
	if limit := c.srv.cfg.MaxUnread; c.unread > limit {
		c.queue = nil
		c.dropLocked(wire.Errorf(wire.TooLarge, "this client has left more than %d bytes unread, which is the limit", limit))
		return
	}
	c.startLocked()
}

// atOnce bounds what SendNow writes itself: the kernel takes so little whole or not at all.
const atOnce = 4 << 10

// SendNow is Send for a single message. A small one is written here if nothing is in front of it and the socket has room: that
// saves the writer's start, which is most of what an idle broker's answer costs.
func (c *Conn) SendNow(m *wire.Message) {
	if len(m.Body)+len(m.Text) > atOnce-512 || !c.writeNow(m) {
		c.Send(m)
	}
}

// writeNow tries it.
func (c *Conn) writeNow(m *wire.Message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.writing {
		return false
	}
	b, err := appendMessage(make([]byte, 0, 256), m)
	if err != nil {
		return false
	}
	n := 0
	err = c.raw.Write(func(fd uintptr) bool {
		n, err = usock.Send(fd, b)
		return true
	})
	if err != nil || n <= 0 {
		return false
	}
	if n < len(b) {
		c.rest = b[n:]
		c.startLocked()
	}
	return true
}

// Drop ends the connection: what is queued is still sent, then err if it is not nil. The client has a moment to take it.
func (c *Conn) Drop(err *wire.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(err)
}

func (c *Conn) dropLocked(err *wire.Error) {
	if c.over {
		return
	}
	c.over = true
	if err != nil {
		c.queue = append(c.queue, errorMessage(err))
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(lastWords))
	c.startLocked()
	c.moved.Broadcast()
}

func (c *Conn) startLocked() {
	if !c.writing {
		c.writing = true
		go c.write() // run, which Server.Close waits for, waits for it
	}
}

// write sends what is queued, then ends; over, it closes the connection.
func (c *Conn) write() {
	var buf []byte
	for {
		rest, queue, more := c.takeQueue()
		if !more {
			return
		}
		var err error
		if len(rest) > 0 {
			if _, err = c.nc.Write(rest); err != nil {
				c.fail()
				continue
			}
		}
		if buf, err = c.writeAll(buf, queue); err != nil {
			c.fail()
		}
	}
}

// takeQueue takes what is queued. If that is nothing the writer must end: a Send from then on starts a new one.
func (c *Conn) takeQueue() (rest []byte, queue []*wire.Message, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue)+len(c.rest) > 0 {
		rest, c.rest = c.rest, nil
		queue, c.queue = c.queue, nil
		return rest, queue, true
	}
	if c.over {
		_ = c.nc.Close()
	}
	c.writing = false
	c.moved.Broadcast()
	return nil, nil, false
}

// fail: the client does not take what is written.
func (c *Conn) fail() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over, c.queue, c.rest = true, nil, nil
	_ = c.nc.Close() // the reader ends by it
	c.moved.Broadcast()
}

// writeAll sends messages in pieces.
func (c *Conn) writeAll(buf []byte, queue []*wire.Message) ([]byte, error) {
	sent := 0
	for i, m := range queue {
		buf = appendAnswer(buf, m)
		sent += len(m.Body) + perMessage
		queue[i] = nil
		if len(buf) < writePiece && i < len(queue)-1 {
			continue
		}
		if _, err := c.nc.Write(buf); err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.unread -= sent
		c.mu.Unlock()
		buf, sent = buf[:0], 0
	}
	return buf, nil
}

// appendAnswer appends m, or what cannot fail in its place: an error that says why.
func appendAnswer(dst []byte, m *wire.Message) []byte {
	b, err := appendMessage(dst, m)
	if err == nil {
		return b
	}
	e := errorMessage(err)
	e.Type, e.Tag, e.Topic = m.Type, m.Tag, m.Topic
	if len(e.Text) > 1000 {
		e.Text = e.Text[:1000]
	}
	b, _ = appendMessage(dst, e)
	return b
}

// appendMessage appends m's length and frame.
func appendMessage(dst []byte, m *wire.Message) ([]byte, error) {
	at := len(dst)
	b, err := wire.AppendEncode(append(dst, 0, 0, 0, 0), m)
	if err != nil {
		return dst, err
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b, nil
}
