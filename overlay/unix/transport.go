// Package unix is the overlay's transport between brokers of one host: a stream socket per connection, unix:///path, without a thread,
// a queue or encryption in between. A round trip costs two wake-ups, where one over ZeroMQ costs six.
//
// Who may connect is decided twice, on both sides: the kernel says the peer's uid, and the peer proves that it has the instance's
// certificate (handshake.go) before a frame of it is looked at. What then passes is the kernel's to protect.
//
// Each connection is read by a goroutine of its own, which gives the sink what it reads: so a frame passes through an idle broker
// without a change of goroutine. Send writes on its caller's goroutine, as far as the socket takes it; a goroutine writes the rest.
package unix

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/usock"
	"go.uber.org/zap"
)

// Scheme is what this transport's addresses begin with.
const Scheme = "unix://"

// Config of a transport.
type Config struct {
	// Secret of the instance's certificate. It never travels.
	Secret string
	// Sink takes overlay.ConnUp, ConnData and ConnDown. For one connection they come in order, one call at a time; for several
	// at once. It must not block, nor call Close, nor keep the slice.
	Sink func(evs []any)
	// AllowUID decides whose processes may be peers; nil = this process's uid.
	AllowUID func(uid uint32) bool
	Log      *zap.Logger // nil for none
}

// Transport implements overlay.Transport. Its methods may be called from any goroutine.
type Transport struct {
	cfg Config
	log *zap.Logger
	wg  sync.WaitGroup // all goroutines

	mu       sync.Mutex
	conns    map[overlay.ConnID]*conn
	admitted overlay.ConnID // the last accepted one, without its bit
	waiting  map[*conn]bool // accepted, and have not proved themselves
	lns      []*net.UnixListener
	closed   bool
}

var _ overlay.Transport = (*Transport)(nil)

var errClosed = errors.New("the transport is closed")

// New makes a transport; Close ends it.
func New(cfg Config) (*Transport, error) {
	if cfg.Secret == "" {
		return nil, errors.New("make transport: there is no secret")
	}
	if cfg.AllowUID == nil {
		own := uint32(os.Getuid())
		cfg.AllowUID = func(uid uint32) bool { return uid == own }
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Transport{cfg: cfg, log: cfg.Log, conns: map[overlay.ConnID]*conn{}, waiting: map[*conn]bool{}}, nil
}

// Listen binds addr, unix:///path, in a directory that is then closed to other users. A socket that nobody listens on is replaced.
func (t *Transport) Listen(addr string) (string, error) {
	var ln *net.UnixListener
	path, err := pathOf(addr)
	if err == nil {
		ln, err = usock.Listen(path)
	}
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w", addr, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = ln.Close()
		return "", fmt.Errorf("listen on %s: %w", addr, errClosed)
	}
	t.lns = append(t.lns, ln)
	t.wg.Go(func() { t.accept(ln) }) // Close waits for it
	return addr, nil
}

// pathOf is the path in an address.
func pathOf(addr string) (string, error) {
	path, ok := strings.CutPrefix(addr, Scheme)
	if !ok || !filepath.IsAbs(path) {
		return "", fmt.Errorf("not a %s/… address", Scheme)
	}
	return path, usock.CheckPath(path)
}

// accept takes connections until Close.
func (t *Transport) accept(ln *net.UnixListener) {
	for {
		nc, err := ln.AcceptUnix()
		switch {
		case err == nil:
			t.accepted(nc)
		case errors.Is(err, net.ErrClosed):
			return
		default: // no file descriptors left, most likely: those who are connected go on
			t.log.Warn("cannot accept a connection", zap.Error(err))
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// accepted begins a connection that has to prove itself. It has no id until then.
func (t *Transport) accepted(nc *net.UnixConn) {
	c := newConn(t, 0)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || !c.use(nc) {
		_ = nc.Close()
		return
	}
	t.waiting[c] = true
	t.wg.Go(c.serve) // Close waits for it
}

// admit gives a connection that has proved itself an id; false after Close.
func (t *Transport) admit(c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.waiting[c] || t.closed {
		return false
	}
	delete(t.waiting, c)
	t.admitted++
	c.id = overlay.AcceptedBit | t.admitted
	t.conns[c.id] = c
	return true
}

// forget takes a connection out of the tables; false if its owner has closed it.
func (t *Transport) forget(c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.waiting, c)
	if t.conns[c.id] != c {
		return false
	}
	delete(t.conns, c.id)
	return true
}

// Dial starts a connection; ConnUp or ConnDown follows.
func (t *Transport) Dial(id overlay.ConnID, addr string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.conns[id] != nil {
		return
	}
	c := newConn(t, id)
	t.conns[id] = c
	t.wg.Go(func() { c.dial(addr) }) // Close waits for it
}

func (t *Transport) conn(id overlay.ConnID) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conns[id]
}

// Send sends one frame, which belongs to the transport from then on. Before ConnUp it does nothing.
func (t *Transport) Send(id overlay.ConnID, frame []byte) {
	if c := t.conn(id); c != nil {
		c.send(frame)
	}
}

// CloseConn ends a connection. Events of it that are on their way to the sink at this moment may still come.
func (t *Transport) CloseConn(id overlay.ConnID) {
	if c := t.conn(id); c != nil && t.forget(c) {
		c.close()
	}
}

// Close ends all connections and waits for the goroutines' end. It may be called twice.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.closed = true
	all, lns := t.waiting, t.lns
	for _, c := range t.conns {
		all[c] = true
	}
	t.conns, t.waiting, t.lns = map[overlay.ConnID]*conn{}, map[*conn]bool{}, nil
	t.mu.Unlock()
	for _, ln := range lns {
		_ = ln.Close() // and removes the socket
	}
	for c := range all {
		c.close()
	}
	t.wg.Wait()
	return nil
}
