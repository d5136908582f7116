// Package local is the broker's unix socket: it admits clients of the right uid, exchanges hellos, turns bytes into messages and
// back, and keeps limits. What messages mean is the broker's business.
package local

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay/usock"
	"github.com/frond-hpc/frond/overlay/wire"
)

// The default limits.
const (
	MaxClients = 16384
	MaxUnread  = 64 << 20
)

const (
	helloLimit = 10 * time.Second
	lastWords  = 2 * time.Second // for a client to take the reason why it is disconnected
)

// Sink takes what clients do. Its methods are called from the clients' goroutines, for one client in order, and must not block.
type Sink interface {
	// ClientUp: c has said hello.
	ClientUp(c *Conn)
	// ClientMessages: c sent messages, of size bytes together; the sink calls c.Handled(size) when it has dealt with them.
	ClientMessages(c *Conn, msgs []*wire.Message, size int)
	// ClientDown: c is gone.
	ClientDown(c *Conn)
}

// Config of a server.
type Config struct {
	Path    string
	Hello   func() api.Hello // ours
	Sink    Sink
	FirstID uint64 // of the first client; ids are not used again
	// AllowUID decides who may connect; nil = this process's uid.
	AllowUID   func(uid uint32) bool
	MaxClients int // 0 = MaxClients
	MaxUnread  int // 0 = MaxUnread
	// Warn reports what the user of the instance should know; it may be nil.
	Warn func(msg string, err error)
}

// Server is a listening socket with its clients.
type Server struct {
	cfg Config
	ln  *net.UnixListener
	wg  sync.WaitGroup

	mu     sync.Mutex
	conns  map[*Conn]bool
	nextID uint64
	closed bool
}

// Listen binds the socket. A socket file that nobody listens on is replaced; the directory, made if need be, must be 0700 and this
// user's.
func Listen(cfg Config) (*Server, error) {
	if cfg.AllowUID == nil {
		own := uint32(os.Getuid())
		cfg.AllowUID = func(uid uint32) bool { return uid == own }
	}
	if cfg.MaxClients == 0 {
		cfg.MaxClients = MaxClients
	}
	if cfg.MaxUnread == 0 {
		cfg.MaxUnread = MaxUnread
	}
	if cfg.Warn == nil {
		cfg.Warn = func(string, error) {}
	}
	ln, err := usock.Listen(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("listen on the local socket: %w", err)
	}
	return &Server{cfg: cfg, ln: ln, conns: map[*Conn]bool{}, nextID: cfg.FirstID}, nil
}

// Serve accepts clients until Close.
func (s *Server) Serve() {
	for {
		nc, err := s.ln.AcceptUnix()
		switch {
		case err == nil:
			s.wg.Go(func() { s.client(nc) })
		case errors.Is(err, net.ErrClosed):
			return
		default: // no file descriptors left, most likely: those who are connected go on
			s.cfg.Warn("client cannot be accepted", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// client is one client's goroutine.
func (s *Server) client(nc *net.UnixConn) {
	c, err := s.admit(nc)
	if err != nil {
		refuse(nc, err)
		return
	}
	c.run()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// admit checks the uid and the number of clients.
func (s *Server) admit(nc *net.UnixConn) (*Conn, error) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("access the connection: %w", err)
	}
	uid, err := usock.PeerUID(raw)
	if err != nil {
		return nil, err
	}
	if !s.cfg.AllowUID(uid) {
		return nil, wire.Errorf(wire.Denied, "this instance belongs to uid %d: uid %d may not use it", os.Getuid(), uid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, wire.Errorf(wire.Unavailable, "the broker is stopping")
	case len(s.conns) >= s.cfg.MaxClients:
		return nil, wire.Errorf(wire.Busy, "this broker has %d clients, which is the limit: close some, or connect to another broker of the instance", len(s.conns))
	}
	c := newConn(s, nc, raw, s.nextID, uid)
	s.nextID++
	s.conns[c] = true
	return c, nil
}

// refuse tells a client why it is not admitted.
func refuse(nc *net.UnixConn, err error) {
	_ = nc.SetWriteDeadline(time.Now().Add(lastWords))
	if b, err := appendMessage(nil, errorMessage(err)); err == nil {
		_, _ = nc.Write(b) // it may be gone
	}
	_ = nc.Close()
}

// errorMessage is the last message of a connection.
func errorMessage(err error) *wire.Message {
	m := &wire.Message{Type: wire.Control, Topic: api.TopicError, Code: wire.Internal, Text: err.Error()}
	var we *wire.Error
	if errors.As(err, &we) {
		m.Code = we.Code
	}
	return m
}

// Close stops accepting, gives every client what is queued for it and then the reason, and returns when all are gone, which takes at
// most a few seconds. The socket file is removed.
func (s *Server) Close(reason *wire.Error) {
	s.mu.Lock()
	s.closed = true
	conns := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	_ = s.ln.Close()
	for _, c := range conns {
		c.Drop(reason)
	}
	s.wg.Wait()
}

// Clients counts the clients.
func (s *Server) Clients() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}
