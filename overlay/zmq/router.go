package zmq

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/overlay"
	"github.com/pebbe/zmq4"
	"go.uber.org/zap"
)

// router is the accepting side: one socket for all who dialled.
type router struct {
	o       *sockets
	src     *source
	monitor *source
	peers   map[string]*peer // by routing id
	byConn  map[overlay.ConnID]*peer
	last    overlay.ConnID

	missing   int // connections that ended, and it is not known yet whose they were
	tries     int
	nextProbe time.Time
}

// peer is one accepted connection, known from its first frame on.
type peer struct {
	id     []byte
	conn   overlay.ConnID
	closed bool // by this side; kept until the other has gone, to ignore what it still sends
}

// The socket learns that a connection has ended a little after its monitor.
var probeAfter = [...]time.Duration{time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 250 * time.Millisecond}

func (o *sockets) listen(addr string) (string, error) {
	if o.router == nil {
		r, err := newRouter(o)
		if err != nil {
			return "", err
		}
		o.router = r
	}
	sock := o.router.src.sock
	if err := sock.Bind(addr); err != nil {
		return "", err
	}
	return sock.GetLastEndpoint()
}

func newRouter(o *sockets) (*router, error) {
	sock, err := o.open(zmq4.ROUTER)
	if err != nil {
		return nil, err
	}
	r := &router{o: o, peers: map[string]*peer{}, byConn: map[overlay.ConnID]*peer{}}
	err = errors.Join(sock.SetRouterMandatory(1), sock.SetCurveServer(1), sock.SetCurveSecretkey(o.cfg.Cert.Secret), sock.SetZapDomain(zapDomain),
		sock.SetBacklog(1024))
	if err == nil {
		r.src, err = o.register(sock, r.drain)
	}
	if err != nil {
		_ = sock.Close()
		return nil, err
	}
	if r.monitor, err = o.watch(sock, r.event); err != nil {
		o.closeSource(r.src)
		return nil, err
	}
	return r, nil
}

// event is one of the monitor's.
func (r *router) event(ev zmq4.Event, value int) {
	switch ev {
	case zmq4.EVENT_HANDSHAKE_FAILED_AUTH, zmq4.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq4.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
		r.o.log.Warn("a peer without this instance's certificate was refused", zap.Stringer("event", ev))
	case zmq4.EVENT_ACCEPT_FAILED:
		r.o.log.Warn("cannot accept a connection", zap.Error(syscall.Errno(value)))
	case zmq4.EVENT_DISCONNECTED:
		r.missing++
		r.tries = 0
		r.nextProbe = time.Now()
	}
}

// probe finds out which peers have gone. It is repeated for a while until as many were found as connections have ended.
func (r *router) probe() {
	r.drain() // what they sent before
	var gone []*peer
	for _, p := range r.peers {
		if !r.address(p) {
			gone = append(gone, p)
			continue
		}
		control(r.src.sock, ctlProbe)
	}
	r.o.touch(r.src)
	for _, p := range gone {
		r.down(p, "the connection ended")
	}
	r.nextProbe = time.Time{}
	if r.missing = max(0, r.missing-len(gone)); r.missing > 0 {
		if r.tries < len(probeAfter) {
			r.nextProbe = time.Now().Add(probeAfter[r.tries])
			r.tries++
		} else {
			r.missing = 0 // they never sent anything, or shook no hands
		}
	}
}

// address begins a message to a peer; false if it has gone.
func (r *router) address(p *peer) bool {
	_, err := r.src.sock.SendBytes(p.id, zmq4.SNDMORE|zmq4.DONTWAIT)
	return err == nil
}

func (r *router) drain() {
	for !r.src.closed {
		id, err := r.src.sock.RecvBytes(zmq4.DONTWAIT)
		if err != nil {
			return
		}
		more, err := r.src.sock.GetRcvmore()
		if err != nil || !more {
			continue // no message has the id alone
		}
		b, ctl, err := receive(r.src.sock)
		if err == nil && !ctl {
			r.frame(id, b)
		}
	}
}

func (r *router) frame(id, b []byte) {
	p := r.peers[string(id)]
	if p == nil {
		r.last++
		p = &peer{id: id, conn: overlay.AcceptedBit | r.last}
		r.peers[string(id)] = p
		r.byConn[p.conn] = p
		r.o.emit(overlay.ConnUp{Conn: p.conn, Accepted: true})
	}
	if !p.closed {
		r.o.emit(overlay.ConnData{Conn: p.conn, Frame: b})
	}
}

func (r *router) send(conn overlay.ConnID, frame []byte) {
	p := r.byConn[conn]
	if p == nil || p.closed {
		return
	}
	r.o.touch(r.src)
	if !r.address(p) {
		r.drain()
		r.down(p, "the connection ended")
		return
	}
	if _, err := r.src.sock.SendBytes(frame, zmq4.DONTWAIT); err != nil {
		r.down(p, fmt.Sprintf("cannot send: %v", err))
	}
}

// closeConn asks the peer to close, and ignores it from now on.
func (r *router) closeConn(conn overlay.ConnID) {
	p := r.byConn[conn]
	if p == nil || p.closed {
		return
	}
	p.closed = true
	r.o.touch(r.src)
	if r.address(p) {
		control(r.src.sock, ctlClose)
		return
	}
	r.forget(p)
}

// down forgets a peer that has gone and tells of it, unless this side had closed it.
func (r *router) down(p *peer, reason string) {
	if r.byConn[p.conn] != p {
		return
	}
	r.forget(p)
	if !p.closed {
		r.o.emit(overlay.ConnDown{Conn: p.conn, Reason: reason})
	}
}

func (r *router) forget(p *peer) {
	delete(r.peers, string(p.id))
	delete(r.byConn, p.conn)
}

func (r *router) close() {
	r.o.closeWatched(r.src, r.monitor)
}
