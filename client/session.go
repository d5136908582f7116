package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/sys/unix"
)

const (
	unsentLimit = 4 << 20 // bytes: a caller waits while more are unsent
	atOnce      = 4 << 10 // bytes that a caller may write itself
	readBuffer  = 64 << 10
	helloLimit  = 10 * time.Second
)

// session is one connection. Its writer goroutine sends what callers append to out; its reader is the client's.
type session struct {
	nc     net.Conn
	rd     *bufio.Reader
	broker api.Hello
	dead   chan struct{} // closed by end
	wake   chan struct{} // one slot: out has something

	raw syscall.RawConn // nil: the connection has none

	mu      sync.Mutex
	out     []byte
	writing bool          // the writer has taken something and not written all of it
	room    chan struct{} // closed when out has been taken
	err     error         // why it ended
}

// newSession exchanges hellos on nc. On an error nc is closed.
func newSession(ctx context.Context, nc net.Conn, version string) (*session, error) {
	s := &session{nc: nc, rd: bufio.NewReaderSize(nc, readBuffer), dead: make(chan struct{}), wake: make(chan struct{}, 1), room: make(chan struct{})}
	if sc, ok := nc.(syscall.Conn); ok {
		s.raw, _ = sc.SyscallConn()
	}
	deadline := time.Now().Add(helloLimit)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = nc.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	err := s.hello(version)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	_ = nc.SetDeadline(time.Time{})
	return s, nil
}

// hello sends ours and reads the broker's.
func (s *session) hello(version string) error {
	host, _ := os.Hostname()
	body, err := msgpack.Marshal(&api.Hello{Protocol: wire.Protocol, Version: version, Host: host, PID: os.Getpid(), Rank: wire.Any})
	if err != nil {
		return fmt.Errorf("encode hello: %w", err)
	}
	s.put(&wire.Message{Type: wire.Control, Topic: api.TopicHello, Body: body})
	if _, err := s.nc.Write(s.takeOut()); err != nil {
		// The broker may have refused us before we wrote: its reason is still readable.
		if _, rerr := s.read(); rerr != nil && isWire(rerr) {
			return rerr
		}
		return fmt.Errorf("send hello: %w", err)
	}
	m, err := s.read()
	if err != nil {
		return fmt.Errorf("read the broker's hello: %w", err)
	}
	if m.Type != wire.Control || m.Topic != api.TopicHello {
		return wire.Errorf(wire.BadProtocol, "the other end is no broker: it began with %q", m.Topic)
	}
	if err := wire.Unmarshal(m.Body, &s.broker); err != nil {
		return wire.Errorf(wire.BadProtocol, "malformed hello of the broker: %v", err)
	}
	return api.CheckProtocol(s.broker)
}

// read returns the next message; the broker's last word comes as its error.
func (s *session) read() (*wire.Message, error) {
	frame, err := wire.ReadFrame(s.rd)
	if err != nil {
		return nil, err
	}
	m, err := wire.Decode(frame)
	if err != nil {
		return nil, err
	}
	if m.Type == wire.Control && m.Topic == api.TopicError {
		return nil, &wire.Error{Code: m.Code, Text: m.Text}
	}
	return m, nil
}

// send appends m, waiting while much is unsent. Now says that the caller waits for the answer next: then a small message is written here
// if nothing is in front of it and the socket has room, which saves the way over the writer.
func (s *session) send(ctx context.Context, m *wire.Message, now bool) error {
	if now && len(m.Body) < atOnce && s.writeNow(m) {
		return nil
	}
	for {
		room, err := s.tryPut(m)
		if err != nil || room == nil {
			return err
		}
		select {
		case <-room:
		case <-s.dead:
			return errSessionOver
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// writeNow writes m if that can be done at once.
func (s *session) writeNow(m *wire.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.raw == nil || s.err != nil || s.writing || len(s.out) > 0 || s.appendLocked(m) != nil {
		return false
	}
	n := 0
	_ = s.raw.Write(func(fd uintptr) bool {
		n, _ = unix.Write(int(fd), s.out) // an error shows again when the writer tries
		return true
	})
	if n == len(s.out) {
		s.out = s.out[:0]
		return true
	}
	s.out = s.out[max(0, n):]
	signal(s.wake)
	return true
}

// tryPut appends m, or returns the channel that is closed when there is room.
func (s *session) tryPut(m *wire.Message) (chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, errSessionOver
	}
	if len(s.out) > unsentLimit {
		return s.room, nil
	}
	err := s.appendLocked(m)
	signal(s.wake)
	return nil, err
}

// put appends m without a limit: for small controls and for what is sent again.
func (s *session) put(m *wire.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		_ = s.appendLocked(m) // m was encoded before, or is small
		signal(s.wake)
	}
}

// appendLocked encodes m behind its length; an error leaves out as it was.
func (s *session) appendLocked(m *wire.Message) error {
	at := len(s.out)
	out, err := wire.AppendEncode(append(s.out, 0, 0, 0, 0), m)
	if err != nil {
		s.out = out[:at]
		return err
	}
	binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4))
	s.out = out
	return nil
}

// takeOut takes all that is unsent; what it took before has been written.
func (s *session) takeOut() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.out
	s.out, s.writing = nil, len(out) > 0
	close(s.room)
	s.room = make(chan struct{})
	return out
}

// write is the writer goroutine.
func (s *session) write() {
	for {
		select {
		case <-s.wake:
		case <-s.dead:
			return
		}
		for out := s.takeOut(); len(out) > 0; out = s.takeOut() {
			if _, err := s.nc.Write(out); err != nil {
				// The reader finds the reason, which may be a last frame of the broker.
				_ = s.nc.SetReadDeadline(time.Now().Add(time.Second))
				return
			}
		}
	}
}

// end closes the connection. The first reason stays.
func (s *session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	close(s.dead)
	_ = s.nc.Close()
}
