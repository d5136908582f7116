package zmq

import (
	"crypto/rand"
	"errors"
	"fmt"
	"syscall"

	"github.com/frond-hpc/frond/overlay"
	"github.com/pebbe/zmq4"
)

// dealer is one dialled connection.
type dealer struct {
	o       *sockets
	id      overlay.ConnID
	src     *source
	monitor *source
	up      bool
}

// dial makes the socket and connects it. Any failure becomes ConnDown.
func (o *sockets) dial(id overlay.ConnID, addr string) {
	if o.dealers[id] != nil {
		return
	}
	d := &dealer{o: o, id: id}
	o.dealers[id] = d
	if err := d.connect(addr); err != nil {
		d.down(fmt.Sprintf("dial %s: %v", addr, err))
	}
}

func (d *dealer) connect(addr string) error {
	sock, err := d.o.open(zmq4.DEALER)
	if err != nil {
		return err
	}
	if d.src, err = d.o.register(sock, d.drain); err != nil {
		_ = sock.Close()
		return err
	}
	var id [17]byte // random, so no two connections have the same; ids that start with 0 are ZeroMQ's own
	_, _ = rand.Read(id[1:])
	id[0] = 'f'
	cert := d.o.cfg.Cert
	err = errors.Join(sock.SetIdentity(string(id[:])), sock.SetCurveServerkey(cert.Public), sock.SetCurvePublickey(cert.Public), sock.SetCurveSecretkey(cert.Secret))
	if err != nil {
		return err
	}
	if d.monitor, err = d.o.watch(sock, d.event); err != nil {
		return err
	}
	return sock.Connect(addr)
}

// event is one of the monitor's.
func (d *dealer) event(ev zmq4.Event, value int) {
	switch ev {
	case zmq4.EVENT_HANDSHAKE_SUCCEEDED:
		d.stands()
	case zmq4.EVENT_HANDSHAKE_FAILED_AUTH:
		d.down(fmt.Sprintf("the peer refuses this broker's certificate (%d)", value))
	case zmq4.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq4.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
		d.down(notOurs)
	case zmq4.EVENT_CLOSED:
		d.down("cannot connect: nobody listens there")
	case zmq4.EVENT_DISCONNECTED:
		d.drain() // what came before
		d.lost()
	}
}

// notOurs is what a failed handshake means, as far as the dialling side can know.
const notOurs = "the handshake failed: no broker of this instance answers there, or it has another certificate"

// lost tells of the end of the connection, with the likely reason.
func (d *dealer) lost() {
	if d.up {
		d.down("the connection ended")
		return
	}
	d.down(notOurs)
}

func (d *dealer) stands() {
	if !d.up {
		d.up = true
		d.o.emit(overlay.ConnUp{Conn: d.id})
	}
}

func (d *dealer) drain() {
	for !d.src.closed {
		b, ctl, err := receive(d.src.sock)
		switch {
		case err != nil:
			return
		case ctl && len(b) == 1 && b[0] == ctlClose[0]:
			d.down("closed by the peer")
		case !ctl:
			d.stands() // the monitor's event may come behind the first frame
			d.o.emit(overlay.ConnData{Conn: d.id, Frame: b})
		}
	}
}

func (d *dealer) send(frame []byte) {
	d.o.touch(d.src)
	if _, err := d.src.sock.SendBytes(frame, zmq4.DONTWAIT); err != nil {
		if isErrno(err, syscall.EAGAIN) { // no peer any more
			d.drain()
			d.down("the connection ended")
			return
		}
		d.down(fmt.Sprintf("cannot send: %v", err))
	}
}

// down closes the connection and tells of it, once.
func (d *dealer) down(reason string) {
	if d.o.dealers[d.id] == d {
		d.close()
		d.o.emit(overlay.ConnDown{Conn: d.id, Reason: reason})
	}
}

func (d *dealer) close() {
	delete(d.o.dealers, d.id)
	d.o.closeWatched(d.src, d.monitor)
}
