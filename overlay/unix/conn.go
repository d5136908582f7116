package unix

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/usock"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// lengthLen: before each frame stands its length, big-endian.
const lengthLen = 4

const (
	readPiece  = 64 << 10
	copyLimit  = 1 << 10 // smaller frames are copied behind their length, to be written at once
	keepEvents = 4 << 10 // a larger batch's memory is given back
)

// buffers are for reading; a connection on which nothing comes has none.
var buffers = sync.Pool{New: func() any { b := make([]byte, readPiece); return &b }}

// conn is one connection. All its events are given to the sink by one goroutine, that of dial or serve.
type conn struct {
	t  *Transport
	id overlay.ConnID

	split  splitter
	events []any // memory for a batch

	mu      sync.Mutex
	idle    sync.Cond // writing has ended
	nc      *net.UnixConn
	raw     syscall.RawConn
	small   [lengthLen + copyLimit]byte
	queue   net.Buffers // not yet written
	writing bool        // a goroutine writes the queue
	up      bool        // the handshake is done
	over    bool        // nothing is sent or reported any more
}

func newConn(t *Transport, id overlay.ConnID) *conn {
	c := &conn{t: t, id: id}
	c.idle.L = &c.mu
	c.split.conn = c
	return c
}

// use gives the connection its socket; false if it has been closed meanwhile.
func (c *conn) use(nc *net.UnixConn) bool {
	raw, err := nc.SyscallConn()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || c.over {
		return false
	}
	c.nc, c.raw = nc, raw
	return true
}

// dial is the goroutine of a dialled connection.
func (c *conn) dial(addr string) {
	err := c.connect(addr)
	if err == nil {
		c.stands(overlay.ConnUp{Conn: c.id})
		err = c.read()
	}
	c.end(err)
}

func (c *conn) connect(addr string) error {
	path, err := pathOf(addr)
	if err != nil {
		return fmt.Errorf("dial %s: %w", addr, err)
	}
	nc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED):
		return errors.New("cannot connect: nobody listens there")
	case err != nil:
		return fmt.Errorf("cannot connect: %w", err)
	}
	if !c.use(nc) {
		_ = nc.Close()
		return errClosed
	}
	return c.t.introduce(nc, c.raw)
}

// serve is the goroutine of an accepted connection.
func (c *conn) serve() {
	err := c.t.welcome(c.nc, c.raw)
	switch {
	case errors.Is(err, errStranger):
		c.t.log.Warn(err.Error())
	case err == nil && c.t.admit(c):
		c.stands(overlay.ConnUp{Conn: c.id, Accepted: true})
		err = c.read()
	}
	c.end(err)
}

// stands: from now on frames may pass.
func (c *conn) stands(ev overlay.ConnUp) {
	c.mu.Lock()
	c.up = true
	c.mu.Unlock()
	c.events = append(c.events, ev)
	c.deliver()
}

// deliver gives the sink what there is, unless the owner has closed the connection.
func (c *conn) deliver() {
	if len(c.events) == 0 {
		return
	}
	if !c.isOver() {
		c.t.cfg.Sink(c.events)
	}
	clear(c.events)
	if c.events = c.events[:0]; cap(c.events) > keepEvents {
		c.events = nil
	}
}

func (c *conn) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// end tells of the end, if anybody wants to know, and waits for the writer.
func (c *conn) end(err error) {
	reason := "the connection ended"
	if err != nil && err != io.EOF {
		reason = err.Error()
	}
	if id := c.id; c.t.forget(c) {
		c.close()
		c.t.cfg.Sink([]any{overlay.ConnDown{Conn: id, Reason: reason}})
	}
	c.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing {
		c.idle.Wait()
	}
}

// close closes the socket. What was sent and is in the kernel still reaches the peer; what is queued does not.
func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over, c.queue = true, nil
	if c.nc != nil {
		_ = c.nc.Close() // twice does no harm
	}
}

// read gives the sink what comes, until the end.
func (c *conn) read() error {
	for {
		err := c.piece()
		c.deliver()
		if err != nil {
			return err
		}
	}
}

// piece waits for bytes and takes the frames out of them.
func (c *conn) piece() error {
	var buf *[]byte
	var n int
	var err error
	rerr := c.raw.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*[]byte)
		if n, err = usock.Receive(fd, *buf); err != unix.EAGAIN {
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
	case rerr != nil:
		return rerr
	case err == unix.ECONNRESET || err == nil && n == 0:
		return io.EOF
	case err != nil:
		return fmt.Errorf("cannot read: %w", err)
	}
	return c.split.feed((*buf)[:n])
}

// splitter puts frames together from pieces.
type splitter struct {
	conn  *conn
	head  [lengthLen]byte
	nhead int
	frame []byte // the one that is coming, once its length is known
	have  int    // of it
}

func (s *splitter) feed(b []byte) error {
	for len(b) > 0 {
		if s.frame == nil {
			n := copy(s.head[s.nhead:], b)
			b = b[n:]
			if s.nhead += n; s.nhead < lengthLen {
				return nil
			}
			size := binary.BigEndian.Uint32(s.head[:])
			if size > overlay.MaxLinkFrame {
				s.conn.t.log.Warn("a peer sent a frame over the limit", zap.Uint32("bytes", size))
				return fmt.Errorf("the peer sent a frame of %d bytes, the limit is %d", size, overlay.MaxLinkFrame)
			}
			s.nhead, s.frame, s.have = 0, make([]byte, size), 0
		}
		n := copy(s.frame[s.have:], b)
		b = b[n:]
		if s.have += n; s.have == len(s.frame) {
			s.conn.events = append(s.conn.events, overlay.ConnData{Conn: s.conn.id, Frame: s.frame})
			s.frame = nil
		}
	}
	return nil
}

// send writes a frame as far as the socket takes it, and queues the rest.
func (c *conn) send(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || !c.up {
		return
	}
	head := binary.BigEndian.AppendUint32(c.small[:0], uint32(len(frame)))
	if c.writing {
		c.queue = append(c.queue, append([]byte(nil), head...), frame)
		return
	}
	n, size := 0, lengthLen+len(frame)
	if size <= len(c.small) {
		n = c.writeNow(append(head, frame...), nil)
	} else {
		n = c.writeNow(head, frame)
	}
	switch {
	case n == size || n < 0:
		return
	case n < lengthLen:
		c.queue = append(c.queue, append([]byte(nil), head[n:]...), frame)
	default:
		c.queue = append(c.queue, frame[n-lengthLen:])
	}
	c.writing = true
	go c.write() // the connection's goroutine waits for it
}

// writeNow writes as much as the socket takes. -1: nothing can be written any more, which the reader will find as well.
func (c *conn) writeNow(head, frame []byte) (n int) {
	var err error
	rerr := c.raw.Write(func(fd uintptr) bool {
		if frame == nil {
			n, err = usock.Send(fd, head)
		} else {
			n, err = unix.SendmsgBuffers(int(fd), [][]byte{head, frame}, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}
		return true
	})
	switch {
	case rerr != nil:
		return -1
	case err == unix.EAGAIN || err == unix.EINTR:
		return 0
	case err != nil:
		c.broken()
		return -1
	}
	return n
}

// broken makes the reader find the end, once it has read what came before.
func (c *conn) broken() {
	_ = c.raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
}

// write writes the queue, then ends.
func (c *conn) write() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 {
		queue, nc := c.queue, c.nc
		c.queue = nil
		c.mu.Unlock()
		_, err := queue.WriteTo(nc)
		c.mu.Lock()
		if err != nil {
			c.broken()
			c.queue = nil
			break
		}
	}
	c.writing = false
	c.idle.Broadcast()
}
