package overlay

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/frond-hpc/frond/overlay/wire"
)

type linkState uint8

const (
	dialing linkState = iota + 1
	greeting
	live    // both hellos have passed
	closing // refused: frames are ignored, the peer is given time to read why
)

// link is one connection. Both ends run the same rules: the first frame is a hello, sequence numbers have no gap, silence
// ends it, and it is never resumed.
type link struct {
	id    ConnID
	addr  string // dialled ones
	state linkState
	since time.Time // of the state, or since the peer was last told that the path is up
	up    bool      // this broker dialled it as a child (or guest)
	want  uint8     // asChild or asGuest
	peer  hello
	// confirmed: the leader has the child online over this link; from then on it carries data and the host knows of it.
	confirmed bool

	sendSeq, recvSeq   uint64
	lastSent, lastRecv time.Time

	window   int // bytes of data the peer is ready to hold
	inflight int // of them sent and not given back
	queue    []queued
	waiting  int // bytes in queue
	unread   int // bytes given to the host and not yet consumed
	owed     int // bytes consumed and not yet given back to the peer
}

// queued is a frame that waits for credit, or behind one that does.
type queued struct {
	kind    kind
	payload []byte
}

func (m *Machine) addLink(id ConnID, state linkState) *link {
	l := &link{id: id, state: state, since: m.now, lastRecv: m.now, lastSent: m.now}
	m.links = append(m.links, l)
	m.byID[id] = l
	if m.nextKeep.IsZero() {
		m.nextKeep = m.now.Add(m.jitter(m.cfg.Keepalive))
	}
	return l
}

// transmit gives a frame to the transport now.
func (m *Machine) transmit(l *link, k kind, payload []byte) {
	l.sendSeq++
	l.lastSent = m.now
	m.emit(Send{l.id, buildFrame(k, l.sendSeq, payload)})
}

// send sends a control frame. It needs no credit but keeps its place behind data that waits: a statement about the path must
// not overtake what was sent on the path before.
func (m *Machine) send(l *link, k kind, payload []byte) {
	if len(l.queue) > 0 {
		l.queue = append(l.queue, queued{k, payload})
		return
	}
	m.transmit(l, k, payload)
}

// onSubmit sends an application payload, or queues it until there is credit. A link that is over is ignored: its LinkDown
// has been or is being read.
func (m *Machine) onSubmit(e Submit) {
	l := m.byID[e.Link]
	if l == nil || !l.confirmed {
		return
	}
	if len(l.queue) == 0 && l.inflight < l.window {
		l.inflight += len(e.Payload)
		m.transmit(l, kindData, e.Payload)
		return
	}
	l.queue = append(l.queue, queued{kindData, e.Payload})
	l.waiting += len(e.Payload)
	if l.waiting > m.cfg.SendLimit {
		m.endLink(l, fmt.Sprintf("%d bytes wait for rank %d, which does not read them; the limit is %d", l.waiting, l.peer.Rank, m.cfg.SendLimit))
	}
}

// flush sends what waits as far as there is credit. A frame may overshoot the window, so that a large one always passes.
func (m *Machine) flush(l *link) {
	n := 0
	for ; n < len(l.queue); n++ {
		q := l.queue[n]
		if q.kind == kindData {
			if l.inflight >= l.window {
				break
			}
			l.inflight += len(q.payload)
			l.waiting -= len(q.payload)
		}
		m.transmit(l, q.kind, q.payload)
		l.queue[n] = queued{}
	}
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil
	}
}

// onConsumed gives credit back to the peer, a quarter of the window at a time.
func (m *Machine) onConsumed(e Consumed) {
	l := m.byID[e.Link]
	if l == nil || !l.confirmed {
		return
	}
	n := min(e.Bytes, l.unread)
	l.unread -= n
	if l.owed += n; l.owed >= max(1, m.cfg.Credit/4) {
		m.transmit(l, kindCredit, binary.BigEndian.AppendUint32(nil, uint32(l.owed)))
		l.owed = 0
	}
}

func (m *Machine) onCredit(l *link, payload []byte) {
	if len(payload) != 4 {
		m.endLink(l, "malformed credit")
		return
	}
	n := int(binary.BigEndian.Uint32(payload))
	if n > l.inflight {
		m.endLink(l, fmt.Sprintf("peer gave %d bytes of credit back for %d", n, l.inflight))
		return
	}
	l.inflight -= n
	m.flush(l)
}

func (m *Machine) onData(l *link, payload []byte) {
	if !l.confirmed {
		m.endLink(l, "data before the join was confirmed")
		return
	}
	if l.unread += len(payload); l.unread > m.cfg.Credit+wire.MaxFrame {
		m.endLink(l, "peer sent more than its credit")
		return
	}
	m.emit(Deliver{l.id, payload})
}

// onFrame takes one frame from the transport.
func (m *Machine) onFrame(e ConnData) {
	l := m.byID[e.Conn]
	if l == nil || l.state == closing {
		return
	}
	k, seq, payload, err := parseFrame(e.Frame)
	switch {
	case err != nil:
		m.endLink(l, err.Error())
	case seq != l.recvSeq+1:
		m.endLink(l, fmt.Sprintf("gap: frame %d came after %d", seq, l.recvSeq))
	case (k == kindHello) != (seq == 1):
		m.endLink(l, fmt.Sprintf("frame %d is a %s", seq, k))
	default:
		l.recvSeq = seq
		l.lastRecv = m.now
		if err := m.dispatch(l, k, payload); err != nil {
			m.endLink(l, fmt.Sprintf("malformed %s: %v", k, err))
		}
	}
}

// dispatch handles one frame in sequence. An error ends the link.
func (m *Machine) dispatch(l *link, k kind, payload []byte) error {
	switch k {
	case kindKeep:
		return nil
	case kindData:
		m.onData(l, payload)
		return nil
	case kindCredit:
		m.onCredit(l, payload)
		return nil
	case kindHello:
		return with(payload, unpackHello, func(h hello) { m.onHello(l, h) })
	case kindBye:
		return with(payload, unpack[bye], func(b bye) { m.onBye(l, b) })
	}
	if l.up {
		return m.fromAbove(l, k, payload)
	}
	return m.fromBelow(l, k, payload)
}

// fromAbove handles the kinds that only travel down.
func (m *Machine) fromAbove(l *link, k kind, payload []byte) error {
	switch k {
	case kindPathUp:
		m.onPathUp(l)
		return nil
	case kindPathDown:
		return with(payload, unpack[pathDown], func(p pathDown) { m.onPathDown(l, p.Reason) })
	case kindJoined:
		return with(payload, unpack[joined], m.onJoined)
	case kindRefused:
		return with(payload, unpack[refused], m.onRefused)
	case kindPlaced:
		return with(payload, unpack[placed], m.onPlaced)
	case kindLeft:
		return with(payload, unpack[who], m.onLeft)
	case kindDrop:
		return with(payload, unpack[who], m.onDrop)
	}
	return fmt.Errorf("%s does not travel down", k)
}

// fromBelow handles the kinds that only travel up.
func (m *Machine) fromBelow(l *link, k kind, payload []byte) error {
	switch k {
	case kindJoin:
		return with(payload, unpack[join], func(j join) { m.onJoin(l, j) })
	case kindPlace:
		return with(payload, unpack[place], func(p place) { m.onPlace(l, p) })
	case kindGone:
		return with(payload, unpack[gone], func(g gone) { m.onGone(l, g) })
	case kindLeave:
		return with(payload, unpack[who], func(w who) { m.onLeave(l, w) })
	}
	return fmt.Errorf("%s does not travel up", k)
}

// with decodes a payload and hands it on.
func with[T any](payload []byte, decode func([]byte) (T, error), then func(T)) error {
	v, err := decode(payload)
	if err == nil {
		then(v)
	}
	return err
}

// refuse tells the peer why it gets no link, and closes when the peer has closed or some time has passed.
func (m *Machine) refuse(l *link, code wire.Code, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	m.transmit(l, kindBye, pack(bye{Code: code, Text: text}))
	l.state, l.since = closing, m.now
	m.report("info", "connection refused", "host", l.peer.Host, "peer", l.peer.Rank, "reason", text)
}

// endLink ends a link from this side.
func (m *Machine) endLink(l *link, reason string) {
	if m.byID[l.id] != l {
		return
	}
	m.emit(CloseConn{l.id, reason})
	m.forget(l, reason)
}

// forget takes a link that is over out of all tables and tells all who depend on it.
func (m *Machine) forget(l *link, reason string) {
	delete(m.byID, l.id)
	for i, o := range m.links {
		if o == l {
			m.links = append(m.links[:i], m.links[i+1:]...)
			break
		}
	}
	if l.confirmed {
		m.emit(LinkDown{l.id, l.up, l.peer.Rank, reason})
		m.report("warn", "link down", "peer", l.peer.Rank, "host", l.peer.Host, "reason", reason)
	}
	switch {
	case l == m.up.link:
		m.uplinkLost(reason)
	case !l.up && l.state == live:
		m.childLost(l, reason)
	}
}

func (m *Machine) onConnDown(e ConnDown) {
	if l := m.byID[e.Conn]; l != nil {
		m.forget(l, e.Reason)
	}
}

// keepalive runs once per period for all links: it ends silent ones and speaks on those that were quiet.
func (m *Machine) keepalive() {
	period := m.cfg.Keepalive
	if m.now.Sub(m.nextKeep) > period { // this process itself stood still: what the peers sent waits to be read
		for _, l := range m.links {
			l.lastRecv = m.now
		}
	}
	m.nextKeep = m.now.Add(period)
	m.scratch = append(m.scratch[:0], m.links...)
	for _, l := range m.scratch {
		if m.byID[l.id] == l {
			m.tend(l)
		}
	}
	if len(m.links) == 0 {
		m.nextKeep = time.Time{}
	}
}

// tend does it for one link.
func (m *Machine) tend(l *link) {
	period, age := m.cfg.Keepalive, m.now.Sub(l.since)
	switch {
	case l.state == closing:
		if age >= period {
			m.endLink(l, "refused")
		}
	case l.state == greeting && !l.up:
		if age >= 2*period {
			m.endLink(l, "no hello came")
		}
	case l.state == live && m.now.Sub(l.lastRecv) >= 3*period:
		m.endLink(l, fmt.Sprintf("nothing heard for %v", m.now.Sub(l.lastRecv).Round(time.Millisecond)))
	case l.state == live && !l.up && !l.confirmed && m.whole() && age >= 3*period:
		m.endLink(l, "no join came")
	case l.state == live && m.now.Sub(l.lastSent) >= period/2:
		m.transmit(l, kindKeep, nil)
	}
}
