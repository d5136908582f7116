package broker

import (
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/wire"
)

// linkUp takes note of a neighbour.
func (c *Core) linkUp(up overlay.LinkUp) {
	l := &link{id: up.Link, hop: wire.Hop{Rank: up.Rank, Inc: up.Inc}, parent: up.Parent, origins: map[rpc.Peer]*origin{}, sent: map[*call]bool{}}
	if old := c.hops[l.hop]; old != nil {
		c.endLink(old, "replaced by a new one")
	}
	c.links[l.id], c.hops[l.hop] = l, l
	if l.parent {
		c.events.askParent(l)
	} else {
		c.stop.child(l)
	}
}

// linkDown ends all that went over a link.
func (c *Core) linkDown(down overlay.LinkDown) {
	if l := c.links[down.Link]; l != nil {
		c.endLink(l, down.Reason)
	}
}

// endLink fails what was sent over l with Lost and cancels what came over it. For the uplink the first are this broker's and its
// children's calls; for a child's link the second are those of its subtree.
func (c *Core) endLink(l *link, reason string) {
	delete(c.links, l.id)
	if c.hops[l.hop] == l {
		delete(c.hops, l.hop)
	}
	var sent, came []*call
	for k := range l.sent {
		sent = append(sent, k)
	}
	for _, o := range l.origins {
		for _, k := range o.calls {
			came = append(came, k)
		}
	}
	for _, k := range inOrder(came) {
		c.cancel(k)
	}
	for _, k := range inOrder(sent) {
		if k.origin.calls[k.tag] == k { // not cancelled just now
			c.answer(k, reactor.Reply{Err: wire.Errorf(wire.Lost, "%s: the connection between %s and rank %d ended (%s): the request may have been done",
				k.topic, c.self(), l.hop.Rank, reason)})
		}
	}
}

// linkFrame takes a message of a neighbour. Credit is given back at once: what waits behind is bounded at the edges.
func (c *Core) linkFrame(id overlay.ConnID, frame []byte) {
	l := c.links[id]
	if l == nil {
		return
	}
	c.later(overlay.Consumed{Link: id, Bytes: len(frame)})
	m, err := wire.Decode(frame)
	if err != nil {
		c.logf("error", "malformed message from a neighbour, ending its link", "rank", l.hop.Rank, "err", err)
		c.breakLink(l, "it sent a malformed message: "+err.Error())
		return
	}
	switch m.Type {
	case wire.Request:
		c.linkRequest(l, m)
	case wire.Response:
		c.linkResponse(l, m)
	case wire.Event:
		c.events.fromParent(l, m)
	case wire.Control:
		c.linkControl(l, m)
	}
}

// breakLink closes the connection under a link and has the machine deal with it as with any that ended.
func (c *Core) breakLink(l *link, reason string) {
	c.emit(overlay.CloseConn{Conn: l.id, Reason: reason})
	c.later(overlay.ConnDown{Conn: l.id, Reason: reason})
}

// linkRequest pushes the hop and routes.
func (c *Core) linkRequest(l *link, m *wire.Message) {
	if len(m.Route) == 0 || len(m.Route) >= wire.MaxRoute {
		c.logf("error", "request with an impossible route dropped", "rank", l.hop.Rank, "topic", m.Topic, "hops", len(m.Route))
		return
	}
	r := incoming(m, append(m.Route, l.hop))
	if o := c.origins[rpc.Peer(c.peerOf(r.Route))]; o != nil {
		r.Peer, r.Route = o.peer, o.route
	} else {
		r.Peer = rpc.Peer(c.scratch)
	}
	c.request(r, m.Target, l)
}

// incoming is a message as a request.
func incoming(m *wire.Message, route []wire.Hop) *rpc.Request {
	return &rpc.Request{Topic: m.Topic, Body: rpc.Payload{Raw: m.Body}, Route: route, Tag: m.Tag, User: m.User,
		Stream: m.Flags&wire.Stream != 0, NoReply: m.Flags&wire.NoReply != 0}
}

// linkResponse finds the call and passes the answer on. An answer over another link than the request's is not its answer.
func (c *Core) linkResponse(l *link, m *wire.Message) {
	k := c.find(l, m)
	if k == nil || k.link != l {
		return
	}
	r := reactor.Reply{Peer: k.origin.peer, Route: k.origin.route, Tag: m.Tag, Body: rpc.Payload{Raw: m.Body}, More: m.Flags&wire.Stream != 0}
	if m.Code != wire.OK {
		r.Err = &wire.Error{Code: m.Code, Text: m.Text}
	}
	c.answer(k, r)
}

// find looks a call up by the route that its request had when it left this broker.
func (c *Core) find(l *link, m *wire.Message) *call {
	var o *origin
	switch n := len(m.Route); {
	case n == 0:
		return nil
	case n == 1 && m.Route[0].Rank == wire.LocalRank:
		o = c.localOrigin(m.Route[0].Inc)
	default:
		o = c.origins[rpc.Peer(c.peerOf(m.Route))]
	}
	if o == nil {
		return nil
	}
	return o.calls[m.Tag]
}

// localOrigin is the origin of an endpoint of this broker.
func (c *Core) localOrigin(id uint64) *origin {
	if cl := c.clients[id]; cl != nil {
		return cl.origin
	}
	if svc := c.dir.Name(id); svc != "" {
		return c.origins[servicePeer(svc)]
	}
	return nil
}

// servicePeer is how reactor.Endpoint names a service's requests.
func servicePeer(svc string) rpc.Peer { return rpc.Peer("s:" + svc) }

// linkControl takes what neighbours tell each other.
func (c *Core) linkControl(l *link, m *wire.Message) {
	switch m.Topic {
	case api.TopicCancel:
		if o := c.origins[rpc.Peer(c.peerOf(append(slices.Clip(m.Route), l.hop)))]; o != nil && o.from == l && o.calls[m.Tag] != nil {
			c.cancel(o.calls[m.Tag])
		}
	case api.TopicEventSync:
		if !l.parent {
			c.events.childAt(l, m.Epoch, m.Seq)
		}
	case api.TopicEventReset:
		if l.parent {
			c.events.reset(m.Epoch, m.Seq)
		}
	case api.TopicStop:
		if l.parent {
			c.stop.told(m.Body)
		}
	}
}

// control sends a neighbour a Control.
func (c *Core) control(l *link, m *wire.Message) {
	m.Type = wire.Control
	frame, err := wire.Encode(m)
	if err != nil {
		c.logf("error", "control cannot be encoded", "topic", m.Topic, "err", err)
		return
	}
	c.later(overlay.Submit{Link: l.id, Payload: frame})
}

// children lists the links to children by rank.
func (c *Core) children() []*link {
	var out []*link
	for _, l := range c.links {
		if !l.parent {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b *link) int { return int(a.hop.Rank) - int(b.hop.Rank) })
	return out
}
