package broker

import (
	"slices"
	"strconv"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
)

// clientUp takes note of a client.
func (c *Core) clientUp(up ClientUp) {
	cl := &client{id: up.ID, uid: up.UID}
	cl.origin = &origin{peer: rpc.Peer("c:" + strconv.FormatUint(up.ID, 36)), route: []wire.Hop{{Rank: wire.LocalRank, Inc: up.ID}}, client: cl,
		calls: map[uint64]*call{}}
	c.clients[up.ID] = cl
	c.origins[cl.origin.peer] = cl.origin
}

// clientDown cancels all that a client had outstanding, wherever it is.
func (c *Core) clientDown(id uint64) {
	cl := c.clients[id]
	if cl == nil {
		return
	}
	delete(c.clients, id)
	delete(c.origins, cl.origin.peer)
	var calls []*call
	for _, k := range cl.origin.calls {
		calls = append(calls, k)
	}
	for _, k := range inOrder(calls) {
		c.cancel(k)
	}
}

// clientMsg takes a client's request or cancel. Anything else is against the protocol and ends the connection.
func (c *Core) clientMsg(in ClientMsg) {
	cl := c.clients[in.ID]
	if cl == nil {
		return
	}
	switch m := in.Msg; {
	case m.Type == wire.Request:
		c.clientRequest(cl, m)
	case m.Type == wire.Control && m.Topic == api.TopicCancel:
		c.clientCancel(cl, m.Tag)
	default:
		c.emit(DropClient{cl.id, wire.Errorf(wire.Invalid, "a client sends requests and cancels, not %q of type %d", m.Topic, m.Type)})
		c.clientDown(cl.id)
	}
}

func (c *Core) clientCancel(cl *client, tag uint64) {
	if k := cl.origin.calls[tag]; k != nil {
		c.cancel(k)
		return
	}
	for i, m := range cl.waiting {
		if m.Tag == tag {
			cl.waiting = slices.Delete(cl.waiting, i, i+1)
			cl.bytes -= len(m.Body)
			return
		}
	}
}

// clientRequest passes a request on. Heavy ones, small questions with large answers, are dealt with one after the other: of a client
// that asks much and reads nothing the broker holds one answer beyond what it may leave unread.
func (c *Core) clientRequest(cl *client, m *wire.Message) {
	if api.Heavy(m.Topic) {
		switch {
		case m.Flags&wire.NoReply != 0: // a question without an answer
			return
		case cl.heavy:
			cl.waiting = append(cl.waiting, m)
			cl.bytes += len(m.Body)
			c.holdIfMuch(cl)
			return
		}
	}
	c.routeRequest(cl, m)
}

// nextHeavy: the heavy call of a client has ended.
func (c *Core) nextHeavy(id uint64) {
	cl := c.clients[id]
	for cl != nil && !cl.heavy && len(cl.waiting) > 0 {
		m := cl.waiting[0]
		cl.waiting[0] = nil
		cl.waiting = cl.waiting[1:]
		cl.bytes -= len(m.Body)
		c.routeRequest(cl, m)
		c.letGoIfLittle(cl)
	}
}

func (c *Core) routeRequest(cl *client, m *wire.Message) {
	r := incoming(m, cl.origin.route)
	r.Peer, r.User, r.Local = cl.origin.peer, cl.uid, true
	if r.Stream && cl.streams >= maxStreams {
		c.refuse(r, nil, wire.Errorf(wire.Busy, "%s: this client has %d streams open, which is the limit", m.Topic, cl.streams))
		return
	}
	c.request(r, m.Target, nil)
}

// heavyEnded: a client's next heavy call may begin.
type heavyEnded struct{ client uint64 }

// count notes an outstanding call of a client, and holds a client that has much.
func (c *Core) count(k *call, size int) {
	cl := k.origin.client
	switch {
	case cl == nil:
		return
	case api.Heavy(k.topic):
		k.heavy, cl.heavy = true, true
	}
	if k.stream {
		cl.streams++
		return
	}
	k.size = size
	cl.bytes += size
	c.holdIfMuch(cl)
}

// holdIfMuch stops reading from a client that has much outstanding.
func (c *Core) holdIfMuch(cl *client) {
	if !cl.held && (cl.pending() > holdCalls || cl.bytes > holdBytes) {
		cl.held = true
		c.emit(HoldClient{cl.id, true})
	}
}

// uncount takes it back.
func (c *Core) uncount(k *call) {
	cl := k.origin.client
	switch {
	case cl == nil:
		return
	case k.heavy:
		cl.heavy = false
		if len(cl.waiting) > 0 {
			c.inLoop = append(c.inLoop, inner{in: heavyEnded{cl.id}})
		}
	}
	if k.stream {
		cl.streams--
		return
	}
	cl.bytes -= k.size
	c.letGoIfLittle(cl)
}

// letGoIfLittle reads on from a client that was held.
func (c *Core) letGoIfLittle(cl *client) {
	if cl.held && cl.pending() <= holdCalls/2 && cl.bytes <= holdBytes/2 {
		cl.held = false
		c.emit(HoldClient{cl.id, false})
	}
}

// pending counts the calls that will end by themselves.
func (cl *client) pending() int { return len(cl.origin.calls) - cl.streams + len(cl.waiting) }
