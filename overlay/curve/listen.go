package curve

import (
	"errors"
	"net"
	"sync"
	"time"
)

// The limits of a listener.
const (
	maxStrangers = 64              // connections in the handshake; the oldest gives way
	strangerTime = 5 * time.Second // for a handshake
	maxPeers     = 4096            // connections that have passed it
)

// Listener admits those who have the certificate.
type Listener struct {
	ln     net.Listener
	cert   Keys
	handle func(net.Conn)
	wg     sync.WaitGroup

	mu        sync.Mutex
	strangers []net.Conn // oldest first
	peers     map[net.Conn]bool
	closed    bool
}

// Listen serves ln: handle is called for each client that has proved to have the certificate, on a goroutine of its own, and closes the
// connection. Close ends it.
func Listen(ln net.Listener, cert Keys, handle func(net.Conn)) *Listener {
	l := &Listener{ln: ln, cert: cert, handle: handle, peers: map[net.Conn]bool{}}
	l.wg.Go(l.serve)
	return l
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Close ends all connections and returns when their handlers have.
func (l *Listener) Close() {
	l.mu.Lock()
	l.closed = true
	for _, c := range l.strangers {
		c.Close()
	}
	for c := range l.peers {
		c.Close()
	}
	l.mu.Unlock()
	l.ln.Close()
	l.wg.Wait()
}

func (l *Listener) serve() {
	for {
		nc, err := l.ln.Accept()
		switch {
		case err == nil:
			if l.enter(nc) {
				l.wg.Go(func() { l.client(nc) })
			}
		case errors.Is(err, net.ErrClosed):
			return
		default: // no file descriptors left, most likely: those who are connected go on
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// enter notes a stranger. Where there are too many the one that has taken longest is turned out: a crowd that only holds
// connections open cannot keep others from a handshake that they finish at once.
func (l *Listener) enter(nc net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.peers) >= maxPeers {
		nc.Close()
		return false
	}
	if len(l.strangers) >= maxStrangers {
		l.strangers[0].Close()
		l.strangers = l.strangers[1:]
	}
	l.strangers = append(l.strangers, nc)
	return true
}

// client runs one connection.
func (l *Listener) client(nc net.Conn) {
	nc.SetDeadline(time.Now().Add(strangerTime))
	c, err := Server(nc, l.cert)
	if !l.pass(nc, err == nil) {
		nc.Close()
		return
	}
	nc.SetDeadline(time.Time{})
	l.handle(c)
	nc.Close()
	l.mu.Lock()
	delete(l.peers, nc)
	l.mu.Unlock()
}

// pass takes a connection from the strangers and, if it is admitted, notes it as a peer. It tells whether the connection lives on.
func (l *Listener) pass(nc net.Conn, admitted bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := false
	for i, c := range l.strangers {
		if c == nc {
			l.strangers = append(l.strangers[:i:i], l.strangers[i+1:]...)
			known = true
			break
		}
	}
	if !admitted || !known || l.closed || len(l.peers) >= maxPeers {
		return false
	}
	l.peers[nc] = true
	return true
}

// Strangers counts the connections that have not proved anything yet.
func (l *Listener) Strangers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.strangers)
}
