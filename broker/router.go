package broker

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/wire"
)

// The way of a request. Each broker on it pushes the link over which the request came as (rank, incarnation) and keeps a call:
// who asked (an origin: the route so far) and where it went (a service here, or a link). The answer finds the call by route and
// tag, and pops. A call ends with its last answer; with Lost when the link that it went down ends; and with a Cancel, sent after the
// request, when its origin's link or client ends. An answer without its call is dropped: whoever asked has been told.
type router struct {
	links   map[overlay.ConnID]*link
	hops    map[wire.Hop]*link
	origins map[rpc.Peer]*origin
	clients map[uint64]*client
	calls   uint64 // numbers them, for an order that does not depend on maps
	scratch []byte
	spare   []*origin // that are over, with their empty maps: most have one call, and another such comes soon
}

// link is one overlay link that stands.
type link struct {
	id      overlay.ConnID
	hop     wire.Hop
	parent  bool
	origins map[rpc.Peer]*origin // of requests that came over it
	sent    map[*call]bool       // requests that went over it
	synced  bool                 // a child that has told which events it had
}

// origin is an endpoint, here or on another broker, that has requests outstanding through this one.
type origin struct {
	peer   rpc.Peer
	route  []wire.Hop
	from   *link   // nil: an endpoint of this broker
	client *client // nil: not a client of this broker
	calls  map[uint64]*call
}

// call is one outstanding request.
type call struct {
	origin *origin
	seq    uint64
	tag    uint64
	topic  string
	svc    string // the service here that has it
	link   *link  // or the link over which it went
	size   int    // bytes of its body, while it counts against a client
	stream bool
	heavy  bool // of a client, which waits with its next one (clients.go)
}

// client is a connection to the local socket.
type client struct {
	id      uint64
	uid     uint32
	origin  *origin
	bytes   int // of outstanding requests
	streams int
	held    bool
	heavy   bool            // a heavy call is outstanding
	waiting []*wire.Message // the heavy ones that come after it
}

// Limits of what one client can make the broker hold. Over holdCalls or holdBytes the broker reads no more from it until half has been
// answered. Open streams do not end by themselves and have a limit of their own.
const (
	holdCalls  = 16 << 10
	holdBytes  = 64 << 20
	maxStreams = 16 << 10
	maxSpare   = 16
)

func newRouter() router {
	return router{links: map[overlay.ConnID]*link{}, hops: map[wire.Hop]*link{}, origins: map[rpc.Peer]*origin{}, clients: map[uint64]*client{}}
}

// request routes a request that stands on this broker, its route already with the hop it came from.
func (c *Core) request(r *rpc.Request, target int32, from *link) {
	svc := reactor.ServiceOf(r.Topic)
	l, err := c.resolve(svc, target, from)
	switch {
	case err != nil:
		c.refuse(r, from, err)
	case l != nil && l == from: // neighbours disagree about the way for a moment
		c.refuse(r, from, wire.Errorf(wire.Unreachable, "rank %d is not online", target))
	case l != nil:
		c.forward(r, target, from, l)
	default:
		c.deliver(r, svc, from)
	}
}

// resolve says where a request goes: over a link, or (nil, nil) to a service here.
func (c *Core) resolve(svc string, target int32, from *link) (*link, *wire.Error) {
	if target >= 0 {
		return c.resolveRank(svc, target)
	}
	if target != wire.Upstream && c.offers(svc) {
		return nil, nil
	}
	if from != nil && from.parent {
		return nil, wire.Errorf(wire.NoService, "rank %d offers no service %q", c.rank, svc)
	}
	if id, ok := c.cfg.Machine.Uplink(); ok && c.links[id] != nil {
		return c.links[id], nil
	}
	if c.cfg.Overlay.Leader {
		return nil, wire.Errorf(wire.NoService, "no broker of the instance offers a service %q", svc)
	}
	return nil, wire.Errorf(wire.Unreachable, "%s has no connection to its parent at the moment: try again in a few seconds", c.self())
}

// offers tells whether this broker has a service.
func (c *Core) offers(svc string) bool { return c.hosted[svc] || c.builtin[svc] != nil }

// resolveRank says where a request for one rank goes.
func (c *Core) resolveRank(svc string, target int32) (*link, *wire.Error) {
	if target == c.rank {
		if c.offers(svc) {
			return nil, nil
		}
		return nil, wire.Errorf(wire.NoService, "rank %d offers no service %q", c.rank, svc)
	}
	if id, ok := c.cfg.Machine.Route(target); ok && c.links[id] != nil {
		return c.links[id], nil
	}
	if c.cfg.Overlay.Leader && !c.isMember(target) {
		return nil, wire.Errorf(wire.NotFound, "there is no rank %d", target)
	}
	return nil, wire.Errorf(wire.Unreachable, "rank %d is not online", target)
}

// isMember tells, on the leader, whether a rank is or was a member's, or is one's that is to come.
func (c *Core) isMember(rank int32) bool {
	return int(rank) < c.cfg.Overlay.Size || slices.ContainsFunc(c.cfg.Machine.Members(), func(m overlay.Member) bool { return m.Rank == rank })
}

// self names this broker in texts.
func (c *Core) self() string {
	if c.rank < 0 {
		return "this broker"
	}
	return "rank " + strconv.Itoa(int(c.rank))
}

// refuse answers a request that goes nowhere.
func (c *Core) refuse(r *rpc.Request, from *link, err *wire.Error) {
	if !r.NoReply {
		c.send(r.Route, from, r.Tag, reactor.Reply{Tag: r.Tag, Err: err})
	}
}

// deliver gives a request to a service here. Requests between services of this broker leave no call: their endpoints know of
// them, and neither can go away.
func (c *Core) deliver(r *rpc.Request, svc string, from *link) {
	if !r.NoReply && c.dir.Origin(r.Route) == "" && !c.remember(r, from, &call{svc: svc}) {
		return
	}
	c.tell(svc, r)
}

// forward sends a request over l.
func (c *Core) forward(r *rpc.Request, target int32, from, l *link) {
	if target == wire.Upstream {
		target = wire.Any
	}
	body, err := r.Body.Bytes()
	if err != nil {
		c.refuse(r, from, reactor.AsError(err))
		return
	}
	m := &wire.Message{Type: wire.Request, Topic: r.Topic, Route: r.Route, Target: target, Tag: r.Tag, User: r.User, Body: body}
	if r.Stream {
		m.Flags |= wire.Stream
	}
	if r.NoReply {
		m.Flags |= wire.NoReply
	}
	frame, err := wire.Encode(m)
	if err != nil {
		c.refuse(r, from, reactor.AsError(err))
		return
	}
	k := &call{link: l}
	if !r.NoReply {
		if !c.remember(r, from, k) {
			return
		}
		l.sent[k] = true
	}
	c.later(overlay.Submit{Link: l.id, Payload: frame})
}

// remember keeps k as the call of r. It refuses a tag that is in use.
func (c *Core) remember(r *rpc.Request, from *link, k *call) bool {
	o := c.origins[r.Peer]
	if o == nil {
		o = c.newOrigin(r, from)
		c.origins[r.Peer] = o
		if from != nil {
			from.origins[r.Peer] = o
		}
	}
	if o.calls[r.Tag] != nil {
		c.refuse(r, from, wire.Errorf(wire.Invalid, "%s: tag %d is that of another outstanding request", r.Topic, r.Tag))
		return false
	}
	c.calls++
	k.origin, k.seq, k.tag, k.topic, k.stream = o, c.calls, r.Tag, r.Topic, r.Stream
	o.calls[r.Tag] = k
	c.count(k, len(r.Body.Raw))
	return true
}

// newOrigin makes an origin, of one that is over if there is one.
func (c *Core) newOrigin(r *rpc.Request, from *link) *origin {
	n := len(c.spare)
	if n == 0 {
		return &origin{peer: r.Peer, route: r.Route, from: from, calls: map[uint64]*call{}}
	}
	o := c.spare[n-1]
	c.spare = c.spare[:n-1]
	*o = origin{peer: r.Peer, route: r.Route, from: from, calls: o.calls}
	return o
}

// forget ends a call. An origin elsewhere goes with its last call.
func (c *Core) forget(k *call) {
	o := k.origin
	delete(o.calls, k.tag)
	if k.link != nil {
		delete(k.link.sent, k)
	}
	c.uncount(k)
	if len(o.calls) == 0 && o.client == nil {
		delete(c.origins, o.peer)
		if o.from != nil {
			delete(o.from.origins, o.peer)
		}
		if len(c.spare) < maxSpare {
			c.spare = append(c.spare, o)
		}
	}
}

// reply takes an answer of a service here.
func (c *Core) reply(r reactor.Reply) {
	if svc := c.dir.Origin(r.Route); svc != "" {
		c.tell(svc, r)
		return
	}
	if o := c.origins[r.Peer]; o != nil {
		if k := o.calls[r.Tag]; k != nil && k.link == nil {
			c.answer(k, r)
		}
	}
}

// answer passes an answer on to who asked.
func (c *Core) answer(k *call, r reactor.Reply) {
	if !r.More {
		c.forget(k)
	}
	r.Tag = k.tag
	c.send(k.origin.route, k.origin.from, k.tag, r)
}

// send sends an answer one hop back along route.
func (c *Core) send(route []wire.Hop, from *link, tag uint64, r reactor.Reply) {
	if from == nil {
		c.sendLocal(route, tag, r)
		return
	}
	m := response(tag, r)
	m.Route = route[:len(route)-1]
	frame, err := wire.Encode(m)
	if err != nil {
		m.Body, m.Flags, m.Code, m.Text = nil, 0, reactor.AsError(err).Code, err.Error()
		if frame, err = wire.Encode(m); err != nil {
			c.logf("error", "answer cannot be encoded", "err", err)
			return
		}
	}
	c.later(overlay.Submit{Link: from.id, Payload: frame})
}

// sendLocal gives an answer to an endpoint of this broker.
func (c *Core) sendLocal(route []wire.Hop, tag uint64, r reactor.Reply) {
	if svc := c.dir.Origin(route); svc != "" {
		c.tell(svc, r)
		return
	}
	if len(route) == 1 && c.clients[route[0].Inc] != nil {
		c.emit(ToClient{route[0].Inc, response(tag, r)})
	}
}

// response is an answer as a message.
func response(tag uint64, r reactor.Reply) *wire.Message {
	m := &wire.Message{Type: wire.Response, Tag: tag}
	if r.More {
		m.Flags = wire.Stream
	}
	if r.Err != nil {
		m.Code, m.Text = r.Err.Code, r.Err.Text
		return m
	}
	body, err := r.Body.Bytes()
	if err != nil {
		m.Code, m.Text, m.Flags = wire.Internal, err.Error(), 0
	}
	m.Body = body
	return m
}

// cancel ends a call because nobody waits for it any more, and tells whoever has it.
func (c *Core) cancel(k *call) {
	c.forget(k)
	if k.link == nil {
		c.tell(k.svc, rpc.Cancel{Key: keyOf(k.origin.peer, k.tag)})
		return
	}
	frame, err := wire.Encode(&wire.Message{Type: wire.Control, Topic: api.TopicCancel, Flags: wire.Cancel, Route: k.origin.route, Tag: k.tag})
	if err != nil {
		c.logf("error", "cancel cannot be encoded", "err", err)
		return
	}
	c.later(overlay.Submit{Link: k.link.id, Payload: frame})
}

// withdraw is a cancel by a service here.
func (c *Core) withdraw(w reactor.Withdrawn) {
	if o := c.origins[w.Key.Peer]; o != nil && o.calls[w.Key.Tag] != nil {
		c.cancel(o.calls[w.Key.Tag])
		return
	}
	svc := reactor.ServiceOf(w.Topic)
	if l, err := c.resolve(svc, w.Target, nil); l == nil && err == nil {
		c.tell(svc, rpc.Cancel{Key: w.Key})
	}
}

// inOrder lists calls by age.
func inOrder(calls []*call) []*call {
	slices.SortFunc(calls, func(a, b *call) int { return cmp.Compare(a.seq, b.seq) })
	return calls
}

// peerOf names the endpoint that a route from another broker begins at, for as long as the links on it last.
func (c *Core) peerOf(route []wire.Hop) []byte {
	b := append(c.scratch[:0], 'r')
	for _, h := range route {
		b = append(b, ':')
		b = strconv.AppendInt(b, int64(h.Rank), 36)
		b = append(b, '.')
		b = strconv.AppendUint(b, h.Inc, 36)
	}
	c.scratch = b
	return b
}
