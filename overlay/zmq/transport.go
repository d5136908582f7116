// Package zmq is the overlay's transport over ZeroMQ: ROUTER for what is accepted, one DEALER per dialled connection, over ipc://
// and tcp://, always with CURVE. It is the only package that knows ZeroMQ.
//
// One goroutine owns the context and all its sockets; the methods of Transport put commands into its queue. It sleeps in Go's
// netpoller on an epoll descriptor that holds the ZMQ_FD of each socket. Such a descriptor tells of a change, not of a state, so
// each socket is read until EAGAIN after its signal and after each use.
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

	"github.com/frond-hpc/frond/overlay"
	"go.uber.org/zap"
)

// Config of a transport.
type Config struct {
	Cert Cert
	// Sink takes overlay.ConnUp, ConnData and ConnDown, on the transport's goroutine. It must not block, nor call Close.
	Sink func(ev any)
	Log  *zap.Logger // nil for none
}

// Transport implements overlay.Transport. Its methods may be called from any goroutine.
type Transport struct {
	poll *poller
	done chan struct{} // closed when the owner has ended

	mu     sync.Mutex
	queue  []any // commands for the owner
	asleep bool  // the owner waits and must be woken
	closed bool
}

var _ overlay.Transport = (*Transport)(nil)

// Commands to the owner.
type (
	cmdListen struct {
		addr  string
		reply chan<- listenResult
	}
	cmdDial struct {
		id   overlay.ConnID
		addr string
	}
	cmdSend struct {
		id    overlay.ConnID
		frame []byte
	}
	cmdCloseConn struct{ id overlay.ConnID }
	cmdStop      struct{}

	listenResult struct {
		addr string
		err  error
	}
)

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
	t := &Transport{poll: poll, done: make(chan struct{})}
	o, err := newOwner(t, cfg)
	if err != nil {
		poll.close()
		return nil, err
	}
	go o.run()
	return t, nil
}

// push gives the owner a command; false after Close.
func (t *Transport) push(cmd any) bool {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return false
	}
	t.queue = append(t.queue, cmd)
	if t.asleep {
		t.asleep = false
		t.poll.wake() // under the lock: the poller lives until closed is set
	}
	t.mu.Unlock()
	return true
}

// take gives the owner all commands. With none, the next push will wake it.
func (t *Transport) take(spare []any) []any {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.queue
	t.queue = spare[:0]
	t.asleep = len(q) == 0
	return q
}

// Listen binds addr: "ipc:///path" or "tcp://host:port", where host may be a name, or * for all interfaces, and port * for any
// free one. It returns the address to dial, for * with this host's name in it.
func (t *Transport) Listen(addr string) (string, error) {
	bind, host, err := bindAddr(addr)
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w", addr, err)
	}
	reply := make(chan listenResult, 1)
	if !t.push(cmdListen{bind, reply}) {
		return "", fmt.Errorf("listen on %s: %w", addr, errClosed)
	}
	var r listenResult
	select {
	case r = <-reply:
	case <-t.done:
		r.err = errClosed
	}
	if r.err != nil {
		return "", fmt.Errorf("listen on %s: %w", addr, r.err)
	}
	if host != "" {
		port := r.addr[strings.LastIndexByte(r.addr, ':')+1:]
		return "tcp://" + net.JoinHostPort(host, port), nil
	}
	return r.addr, nil
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
func (t *Transport) Dial(id overlay.ConnID, addr string) { t.push(cmdDial{id, addr}) }

// Send sends one frame, which belongs to the transport from then on.
func (t *Transport) Send(id overlay.ConnID, frame []byte) { t.push(cmdSend{id, frame}) }

// CloseConn ends a connection. Events of it that are on their way to the sink at this moment may still come.
func (t *Transport) CloseConn(id overlay.ConnID) { t.push(cmdCloseConn{id}) }

// Close ends all connections and waits for the owner's end. It may be called twice.
func (t *Transport) Close() error {
	t.push(cmdStop{})
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	<-t.done
	return nil
}
