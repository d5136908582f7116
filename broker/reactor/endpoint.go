package reactor

import (
	"slices"

	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
)

// maxBody leaves room for the header in a frame.
const maxBody = wire.MaxFrame - 8<<10

// What travels between endpoints of one broker and its router, as values.
type (
	// Sent is a request on its way from a local endpoint.
	Sent struct {
		Req    *rpc.Request
		Target int32
	}
	// Reply is an answer on its way to the endpoint that Route ends at.
	Reply struct {
		Peer  rpc.Peer
		Route []wire.Hop
		Tag   uint64
		Body  rpc.Payload
		Err   *wire.Error
		More  bool
	}
	// Withdrawn says that the local endpoint which sent the request no longer wants its answers.
	Withdrawn struct {
		Key    rpc.RequestKey
		Topic  string
		Target int32
	}
	// Published is an event to be numbered by the leader.
	Published struct {
		Topic string
		Body  rpc.Payload
	}
	// Subscribed asks for events for a service.
	Subscribed struct{ Service, Prefix string }
	// Notice is what a service tells the broker by Notify("broker", …).
	Notice struct {
		From  string
		Value any
	}
)

// Directory numbers the services of one broker, from 1 in the order given. It does not change once made.
type Directory struct {
	names []string
	ids   map[string]uint64
}

// NewDirectory makes one. Names must differ.
func NewDirectory(names ...string) *Directory {
	d := &Directory{names: names, ids: make(map[string]uint64, len(names))}
	for i, n := range names {
		d.ids[n] = uint64(i + 1)
	}
	return d
}

// FirstClient is the first endpoint number that is no service's.
const FirstClient = 1 << 16

// FromClient tells whether a request began at a client of some broker, not at a service.
func FromClient(r *rpc.Request) bool {
	return len(r.Route) > 0 && r.Route[0].Rank == wire.LocalRank && r.Route[0].Inc >= FirstClient
}

// BrokersOnly refuses a client's call of a method by which services keep each other's state.
func BrokersOnly(r *rpc.Request) error {
	if FromClient(r) {
		return wire.Errorf(wire.Denied, "%s is for brokers, not for clients", r.Topic)
	}
	return nil
}

// BrokerOf is the rank of the broker at which a request began, or wire.Any for this one.
func BrokerOf(r *rpc.Request) int32 {
	if len(r.Route) < 2 {
		return wire.Any
	}
	return r.Route[1].Rank
}

// ID is a service's endpoint number; 0 = there is none of this name.
func (d *Directory) ID(name string) uint64 { return d.ids[name] }

// Names lists the services in order.
func (d *Directory) Names() []string { return slices.Clone(d.names) }

// Name is the service with this endpoint number, or "".
func (d *Directory) Name(id uint64) string {
	if id == 0 || id > uint64(len(d.names)) {
		return ""
	}
	return d.names[id-1]
}

// Origin is the local service at which a route begins and ends, or "": a client's, or one that leads over a link.
func (d *Directory) Origin(route []wire.Hop) string {
	if len(route) != 1 || route[0].Rank != wire.LocalRank {
		return ""
	}
	return d.Name(route[0].Inc)
}

// Endpoint is the pure half of a service's runner: it gives tags to the service's calls, finds them again by the answers, and
// says where each output goes. A host owns one for each service and uses it only on the service's turn.
type Endpoint struct {
	name  string
	peer  rpc.Peer
	route []wire.Hop
	dir   *Directory
	tag   uint64
	calls map[uint64]pending
	open  map[any]uint64 // streams by key
}

// pending is a call whose answer is to come.
type pending struct {
	key    any
	to     string // the service it was given to directly; "" = the router
	topic  string
	target int32
	stream bool
}

// NewEndpoint makes the endpoint of a service that dir names.
func NewEndpoint(dir *Directory, name string) *Endpoint {
	return &Endpoint{name: name, peer: rpc.Peer("s:" + name), route: []wire.Hop{{Rank: wire.LocalRank, Inc: dir.ID(name)}}, dir: dir,
		calls: map[uint64]pending{}, open: map[any]uint64{}}
}

// Accept turns what came for the service into its input. False: it is an answer that nobody waits for any more.
func (e *Endpoint) Accept(in any) (any, bool) {
	r, ok := in.(Reply)
	if !ok {
		return in, true
	}
	p, ok := e.calls[r.Tag]
	if !ok {
		return nil, false
	}
	if !r.More {
		e.forget(r.Tag, p)
	}
	return &rpc.Response{Key: p.key, Body: r.Body, Err: r.Err, More: r.More}, true
}

func (e *Endpoint) forget(tag uint64, p pending) {
	delete(e.calls, tag)
	if p.stream && e.open[p.key] == tag {
		delete(e.open, p.key)
	}
}

// Dispatch says where an output goes: to a service of this broker by name, or to the router (""), as msg. Outputs that are the
// host's own (WakeAt, Do, Log), or go nowhere, give a nil msg. Direct tells which services take messages without the
// router; own is this broker's rank, or wire.Any while unknown.
func (e *Endpoint) Dispatch(item any, direct func(service string) bool, own int32) (to string, msg any) {
	switch it := item.(type) {
	case Answer:
		return e.answer(it, direct)
	case Call:
		return e.call(it, direct, own)
	case CancelCall:
		return e.cancel(it.Key)
	case Publish:
		return "", Published{it.Topic, encoded(rpc.Payload{Value: it.Body})}
	case Subscribe:
		return "", Subscribed{e.name, it.Prefix}
	case Notify:
		if direct(it.To) {
			return it.To, it.Notice
		}
		return "", Notice{e.name, it.Notice}
	}
	return "", nil
}

// answer goes as a value to a service of this broker, straight to one that takes messages without the router; to everyone else encoded.
func (e *Endpoint) answer(a Answer, direct func(service string) bool) (string, any) {
	if a.Req.NoReply {
		return "", nil
	}
	r := Reply{Peer: a.Req.Peer, Route: a.Req.Route, Tag: a.Req.Tag, Err: a.Err, More: a.More, Body: payload(a.Body)}
	if to := e.dir.Origin(a.Req.Route); to != "" {
		if direct(to) {
			return to, r
		}
		return "", r
	}
	body, err := encode(r.Body)
	if err != nil {
		r.Err, r.More = err, false
	}
	r.Body = body
	return "", r
}

// call gives a request a tag.
func (e *Endpoint) call(c Call, direct func(string) bool, own int32) (string, any) {
	e.tag++
	p := pending{key: c.Key, topic: c.Topic, target: c.Target, stream: c.Stream}
	req := &rpc.Request{Topic: c.Topic, Body: payload(c.Body), Peer: e.peer, Route: e.route, Tag: e.tag, Stream: c.Stream,
		NoReply: c.NoReply, Local: true}
	svc := ServiceOf(c.Topic)
	near := (c.Target == wire.Any || c.Target == own && own >= 0) && direct(svc)
	if near {
		p.to = svc
	}
	if !c.NoReply {
		e.calls[e.tag] = p
		if c.Stream {
			e.open[c.Key] = e.tag
		}
	}
	if near {
		return svc, req
	}
	if c.Target < 0 || c.Target != own {
		body, err := encode(req.Body)
		if err != nil {
			return e.name, Reply{Tag: e.tag, Err: err}
		}
		req.Body = body
	}
	return "", Sent{req, c.Target}
}

// cancel withdraws the calls made with key.
func (e *Endpoint) cancel(key any) (string, any) {
	tag, ok := e.open[key]
	if !ok {
		tag, ok = e.find(key)
	}
	if !ok {
		return "", nil
	}
	p := e.calls[tag]
	e.forget(tag, p)
	k := rpc.RequestKey{Peer: e.peer, Tag: tag}
	if p.to != "" {
		return p.to, rpc.Cancel{Key: k}
	}
	return "", Withdrawn{k, p.topic, p.target}
}

// find looks for the oldest call with key that is no stream.
func (e *Endpoint) find(key any) (tag uint64, ok bool) {
	for t, p := range e.calls {
		if !p.stream && p.key == key && (!ok || t < tag) {
			tag, ok = t, true
		}
	}
	return tag, ok
}

// ServiceOf is a topic's service: what stands before the first dot.
func ServiceOf(topic string) string {
	for i := range len(topic) {
		if topic[i] == '.' {
			return topic[:i]
		}
	}
	return topic
}

// payload is a body, which may be encoded already.
func payload(body any) rpc.Payload {
	if p, ok := body.(rpc.Payload); ok {
		return p
	}
	return rpc.Payload{Value: body}
}

// encode makes a payload fit to leave the broker.
func encode(p rpc.Payload) (rpc.Payload, *wire.Error) {
	b, err := p.Bytes()
	if err != nil {
		return rpc.Payload{}, AsError(err)
	}
	if len(b) > maxBody {
		return rpc.Payload{}, wire.Errorf(wire.TooLarge, "a message body of %d bytes is over the limit of %d", len(b), maxBody)
	}
	return rpc.Payload{Raw: b}, nil
}

// encoded is encode for what cannot be answered: it keeps the value if that fails, and the router reports it.
func encoded(p rpc.Payload) rpc.Payload {
	if b, err := encode(p); err == nil {
		return b
	}
	return p
}
