package meet

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/frond-hpc/frond/overlay/curve"
)

// What happens at a server, for its sink.
type (
	// Reported: a broker has reported in.
	Reported struct {
		Peer   *Peer
		Report Report
	}
	// Said: it has said something.
	Said struct {
		Peer *Peer
		Word Word
	}
	// Hung: its connection is over. Closed: its process closed it, or has died; else the network may have failed.
	Hung struct {
		Peer   *Peer
		Closed bool
		Err    error
	}
)

// Peer is one broker's connection.
type Peer struct{ conn *Conn }

// Send sends an order. That the peer is gone shows as Hung.
func (p *Peer) Send(o Order) {
	if p.conn.send(o) != nil {
		p.conn.Close()
	}
}

// Close ends the connection, by which the broker takes its supervisor to be gone.
func (p *Peer) Close() { p.conn.Close() }

// Addr is the address from which the peer came.
func (p *Peer) Addr() string { return p.conn.Remote() }

// Server takes brokers' reports.
type Server struct {
	ln   *curve.Listener
	sink func(any)
}

// Listen serves ln. The sink takes Reported, Said and Hung, in order for each peer, from many goroutines; Close waits for it.
func Listen(ln net.Listener, keys curve.Keys, sink func(any)) *Server {
	s := &Server{sink: sink}
	s.ln = curve.Listen(ln, keys, s.serve)
	return s
}

// Close ends all connections and returns when nothing is given to the sink any more.
func (s *Server) Close() { s.ln.Close() }

func (s *Server) serve(nc net.Conn) {
	p := &Peer{conn: &Conn{nc: nc}}
	nc.SetReadDeadline(time.Now().Add(firstLimit))
	var r Report
	if p.conn.receive(&r) != nil {
		return
	}
	nc.SetReadDeadline(time.Time{})
	s.sink(Reported{p, r})
	for {
		var w Word
		if err := p.conn.receive(&w); err != nil {
			s.sink(Hung{p, errors.Is(err, io.EOF), err})
			return
		}
		s.sink(Said{p, w})
	}
}
