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

const (
	handshakeLimit = 5 * time.Second // of ZeroMQ's and CURVE's handshake
	connectLimit   = 5 * time.Second // of tcp's connect
)

// curveOverhead is more than what CURVE adds to a frame, which counts against ZeroMQ's limit.
const curveOverhead = 256

// The parts of a control message between transports: a kind and an empty part.
var (
	ctlProbe = []byte("p")
	ctlClose = []byte("c")
	ctlEnd   = []byte{}
)

// sockets are all sockets of a transport. Whoever uses them holds the transport's lock.
type sockets struct {
	t    *Transport
	cfg  Config
	log  *zap.Logger
	ctx  *zmq4.Context
	zap  *zapHandler
	next uint64 // number of the next monitor's address

	sources map[int32]*source // by ZMQ_FD
	dealers map[overlay.ConnID]*dealer
	router  *router // nil until Listen

	touched []*source // used since they were last drained
}

// source is one socket whose descriptor is polled.
type source struct {
	sock    *zmq4.Socket
	fd      int32
	drain   func() // reads until EAGAIN
	touched bool
	closed  bool
}

func newSockets(t *Transport, cfg Config) (*sockets, error) {
	ctx, err := zmq4.NewContext()
	if err != nil {
		return nil, fmt.Errorf("make ZeroMQ context: %w", err)
	}
	o := &sockets{t: t, cfg: cfg, log: cfg.Log, ctx: ctx, sources: map[int32]*source{}, dealers: map[overlay.ConnID]*dealer{}}
	if o.zap, err = newZAP(o); err != nil {
		_ = ctx.Term()
		return nil, fmt.Errorf("make ZAP responder: %w", err)
	}
	return o, nil
}

// read drains those that can be read, and does what is due.
func (o *sockets) read(fds []int32) {
	for _, fd := range fds {
		if s := o.sources[fd]; s != nil {
			s.drain()
		}
	}
	if at := o.due(); !at.IsZero() && !time.Now().Before(at) {
		o.router.probe()
	}
}

// due is when there is something to do without a signal; zero = never.
func (o *sockets) due() time.Time {
	if o.router == nil {
		return time.Time{}
	}
	return o.router.nextProbe
}

func (o *sockets) touch(s *source) {
	if !s.touched {
		s.touched = true
		o.touched = append(o.touched, s)
	}
}

// drainTouched reads the sockets that were written to: writing may have taken a signal for reading.
func (o *sockets) drainTouched() {
	for i := 0; i < len(o.touched); i++ {
		s := o.touched[i]
		s.touched = false
		if !s.closed {
			s.drain()
		}
	}
	clear(o.touched)
	o.touched = o.touched[:0]
}

func (o *sockets) send(id overlay.ConnID, frame []byte) {
	if id&overlay.AcceptedBit != 0 {
		if o.router != nil {
			o.router.send(id, frame)
		}
		return
	}
	if d := o.dealers[id]; d != nil {
		d.send(frame)
	}
}

func (o *sockets) closeConn(id overlay.ConnID) {
	if id&overlay.AcceptedBit != 0 {
		if o.router != nil {
			o.router.closeConn(id)
		}
		return
	}
	if d := o.dealers[id]; d != nil {
		d.close()
	}
}

// open makes a socket of this instance: no lingering, no limit of messages, no reconnecting.
func (o *sockets) open(kind zmq4.Type) (*zmq4.Socket, error) {
	s, err := o.ctx.NewSocket(kind)
	if err != nil {
		return nil, err
	}
	err = errors.Join(s.SetLinger(0), s.SetSndhwm(0), s.SetRcvhwm(0), s.SetReconnectIvl(-1), s.SetMaxmsgsize(overlay.MaxLinkFrame+curveOverhead),
		s.SetHandshakeIvl(handshakeLimit), s.SetConnectTimeout(connectLimit), s.SetTcpKeepalive(1), s.SetTcpKeepaliveIdle(30))
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// register polls a socket from now on.
func (o *sockets) register(sock *zmq4.Socket, drain func()) (*source, error) {
	fd, err := sock.GetFd()
	if err != nil {
		return nil, err
	}
	if err := o.t.poll.add(fd); err != nil {
		return nil, err
	}
	s := &source{sock: sock, fd: int32(fd), drain: drain}
	o.sources[s.fd] = s
	o.touch(s) // what came before is not signalled again
	return s, nil
}

// closeSource closes a socket. nil is allowed.
func (o *sockets) closeSource(s *source) {
	if s == nil || s.closed {
		return
	}
	s.closed = true
	o.t.poll.remove(int(s.fd))
	delete(o.sources, s.fd)
	_ = s.sock.Close() // fails only for what is no socket
}

// watch makes handle see the events of a socket's connections, in a socket of its own.
func (o *sockets) watch(sock *zmq4.Socket, handle func(ev zmq4.Event, value int)) (*source, error) {
	o.next++
	addr := fmt.Sprintf("inproc://monitor-%d", o.next)
	if err := sock.Monitor(addr, zmq4.EVENT_ALL); err != nil {
		return nil, err
	}
	pair, err := o.ctx.NewSocket(zmq4.PAIR)
	if err != nil {
		return nil, err
	}
	var s *source
	if err = errors.Join(pair.SetLinger(0), pair.SetRcvhwm(0), pair.Connect(addr)); err == nil {
		s, err = o.register(pair, func() {
			for !s.closed {
				ev, _, value, err := pair.RecvEvent(zmq4.DONTWAIT)
				if err != nil {
					return
				}
				handle(ev, value)
			}
		})
	}
	if err != nil {
		_ = pair.Close()
		return nil, err
	}
	return s, nil
}

// closeWatched closes a socket and the one that watches it. The socket is told first: an event without a reader would block
// ZeroMQ's own thread.
func (o *sockets) closeWatched(s, monitor *source) {
	if s != nil && !s.closed && monitor != nil {
		_ = s.sock.Monitor("", 0) // fails only for what is no socket
	}
	o.closeSource(monitor)
	o.closeSource(s)
}

// control sends a control message; before it, on a ROUTER, the peer's id was sent.
func control(sock *zmq4.Socket, kind []byte) {
	if _, err := sock.SendBytes(kind, zmq4.SNDMORE|zmq4.DONTWAIT); err == nil {
		_, _ = sock.SendBytes(ctlEnd, zmq4.DONTWAIT) // the peer may go at any moment
	}
}

// receive reads a message, or the rest of one. ctl tells that it was a control message, and b which.
func receive(sock *zmq4.Socket) (b []byte, ctl bool, err error) {
	if b, err = sock.RecvBytes(zmq4.DONTWAIT); err != nil {
		return nil, false, err
	}
	for {
		more, err := sock.GetRcvmore()
		if err != nil || !more {
			return b, ctl, err
		}
		ctl = true
		if _, err = sock.RecvBytes(zmq4.DONTWAIT); err != nil {
			return nil, false, err
		}
	}
}

func isErrno(err error, errno syscall.Errno) bool { return zmq4.AsErrno(err) == zmq4.Errno(errno) }

func (o *sockets) emit(ev any) { o.t.events = append(o.t.events, ev) }

// close closes everything.
func (o *sockets) close() {
	for _, d := range o.dealers {
		d.close()
	}
	if o.router != nil {
		o.router.close()
	}
	o.closeSource(o.zap.src)
	if err := o.ctx.Term(); err != nil {
		o.log.Warn("cannot end ZeroMQ context", zap.Error(err))
	}
}
