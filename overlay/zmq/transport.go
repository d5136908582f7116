// Package zmq is the overlay's transport over ZeroMQ: ROUTER for what is accepted, one DEALER per dialled connection, over ipc://
// and tcp://, always with CURVE. It is the only package that knows ZeroMQ.
//
// A lock guards the context and all its sockets: a method of Transport uses them on its caller's goroutine, so that a frame is on its
// way to the network when Send returns, and what comes is read by a goroutine that waits for them, the pump. (ZeroMQ lets a socket pass
// between threads if there is a full fence; the lock is one.) Neither queue nor wake-up lies between the broker and ZeroMQ's own thread.
// The pump sleeps in Go's netpoller on an epoll descriptor that holds the ZMQ_FD of each socket. Such a descriptor tells of a
// change, not of a state, so each socket is read until EAGAIN after its signal and after each use.
//
// A connection exists once: ids on the ROUTER's side are random and new for each dial, a socket that has lost its peer is closed and
// never connects again (RECONNECT_IVL -1), nothing lingers, high-water marks are 0 as the overlay has credits of its own. A ROUTER's
// monitor says that some peer has gone but not which, and a ROUTER cannot end one connection; so two control messages, told from
// frames by having two parts, pass between transports and are invisible above: a probe (sending it fails with EHOSTUNREACH if the
// peer is gone) and a request to close.
package zmq

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/frond-hpc/frond/overlay"
	"go.uber.org/zap"
)

// Config of a transport.
type Config struct {
	Cert Cert
	// Sink takes overlay.ConnUp, ConnData and ConnDown, as many as there are, in order. One call at a time is made, on the transport's
	// goroutine or from within one of its methods. It must not block, nor call Close, nor keep the slice.
	Sink func(evs []any)
	Log  *zap.Logger // nil for none
}

// Transport implements overlay.Transport. Its methods may be called from any goroutine.
type Transport struct {
	poll *poller
	sink func(evs []any)
	done chan struct{} // closed when the pump has ended

	mu         sync.Mutex // guards the sockets and what follows
	sockets    *sockets
	events     []any // for the sink
	spare      []any // memory for events
	delivering bool  // someone is calling the sink
	pumpUntil  time.Time
	closed     bool
}

var _ overlay.Transport = (*Transport)(nil)

var errClosed = errors.New("the transport is closed")

// New starts a transport; Close ends it.
func New(cfg Config) (*Transport, error) {
	if err := cfg.Cert.check(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	poll, err := newPoller()
	if err != nil {
		return nil, fmt.Errorf("make poller: %w", err)
	}
	t := &Transport{poll: poll, sink: cfg.Sink, done: make(chan struct{})}
	if t.sockets, err = newSockets(t, cfg); err != nil {
		poll.close()
		return nil, err
	}
	go t.pump() // Close waits for it
	return t, nil
}

// lock begins a use of the sockets; false after Close.
func (t *Transport) lock() bool {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return false
	}
	return true
}

// unlock ends a use: it reads what was touched and gives the sink what there is, without the lock. If someone is at that already he
// goes on with it: so a sink may call the transport.
func (t *Transport) unlock() {
	t.sockets.drainTouched()
	if at := t.sockets.due(); !at.IsZero() && (t.pumpUntil.IsZero() || at.Before(t.pumpUntil)) {
		t.pumpUntil = at
		t.poll.wake()
	}
	for !t.delivering && !t.closed && len(t.events) > 0 {
		t.delivering = true
		evs := t.events
		t.events = t.spare
		t.mu.Unlock()
		t.sink(evs)
		clear(evs)
		t.mu.Lock()
		t.spare = evs[:0]
		if cap(evs) > keepEvents {
			t.spare = nil
		}
		t.delivering = false
	}
	t.mu.Unlock()
}

// keepEvents bounds the memory that is used again: what a burst needed is given back.
const keepEvents = 4 << 10

// pump is the goroutine that waits for the sockets.
func (t *Transport) pump() {
	defer close(t.done)
	var fds []int32
	for t.lock() {
		t.sockets.read(fds)
		t.pumpUntil = t.sockets.due()
		until := t.pumpUntil
		t.unlock()
		var err error
		if fds, err = t.poll.wait(until, fds[:0]); err != nil {
			t.sockets.log.Error("cannot wait for sockets", zap.Error(err))
			break
		}
	}
	t.mu.Lock()
	t.closed = true
	t.sockets.close()
	t.mu.Unlock()
	t.poll.close()
}

// Listen binds addr: "ipc:///path" or "tcp://host:port", where host may be a name, or * for all interfaces, and port * for any
// free one. It returns the address to dial, for * with this host's name in it.
func (t *Transport) Listen(addr string) (string, error) {
	bind, host, err := bindAddr(addr)
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w", addr, err)
	}
	if !t.lock() {
		return "", fmt.Errorf("listen on %s: %w", addr, errClosed)
	}
	at, err := t.sockets.listen(bind)
	t.unlock()
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w", addr, err)
	}
	if host != "" {
		port := at[strings.LastIndexByte(at, ':')+1:]
		return "tcp://" + net.JoinHostPort(host, port), nil
	}
	return at, nil
}

// maxSocketPath is the longest path of a unix socket.
const maxSocketPath = 107

// bindAddr gives the address in ZeroMQ's form, which has no names, and for tcp the host to be dialled.
func bindAddr(addr string) (bind, host string, err error) {
	if path, ok := strings.CutPrefix(addr, "ipc://"); ok {
		if len(path) > maxSocketPath {
			return "", "", fmt.Errorf("the path has %d bytes, the limit for sockets is %d; choose a shorter run directory", len(path), maxSocketPath)
		}
		return addr, "", nil
	}
	rest, ok := strings.CutPrefix(addr, "tcp://")
	if !ok {
		return "", "", errors.New("neither an ipc:// nor a tcp:// address")
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return "", "", errors.New("no port")
	}
	host, port := rest[:i], rest[i+1:]
	if host == "*" || host == "0.0.0.0" {
		host, err = os.Hostname()
		return "tcp://0.0.0.0:" + port, host, err
	}
	ip, err := net.ResolveTCPAddr("tcp4", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", "", err
	}
	return "tcp://" + ip.IP.String() + ":" + port, host, nil
}

// Dial starts a connection; ConnUp or ConnDown follows.
func (t *Transport) Dial(id overlay.ConnID, addr string) {
	if t.lock() {
		t.sockets.dial(id, addr)
		t.unlock()
	}
}

// Send sends one frame, which belongs to the transport from then on.
func (t *Transport) Send(id overlay.ConnID, frame []byte) {
	if t.lock() {
		t.sockets.send(id, frame)
		t.unlock()
	}
}

// CloseConn ends a connection. Events of it that are on their way to the sink at this moment may still come.
func (t *Transport) CloseConn(id overlay.ConnID) {
	if t.lock() {
		t.sockets.closeConn(id)
		t.unlock()
	}
}

// Close ends all connections and waits for the pump's end. It may be called twice.
func (t *Transport) Close() error {
	if t.lock() {
		t.closed = true
		t.poll.wake() // under the lock: the poller lives until the pump has had it
		t.mu.Unlock()
	}
	<-t.done
	return nil
}
