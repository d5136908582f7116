package broker

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/wire"
)

// What each broker keeps for children that join later, and how large one event may be.
const (
	keptEvents = 4096
	keptBytes  = 16 << 20
	maxEvent   = 1 << 20 // bytes of the body
)

// events is the service "event" with the broker's part of the event log. The leader numbers events; they flow down every link,
// and each broker keeps the last ones.
//
//	start     a broker whose uplink comes up tells the parent the last (epoch, sequence) that it has, and gets what it misses, or, if the
//	          parent does not keep that, a reset to where the parent stands.
//	operation events come in sequence; those it has are dropped.
//	reset     every subscriber is told Resync: it has missed some and reads state again. Children get the same reset.
//	failure   a new leader has a higher epoch and begins at sequence 1; a broker that is ahead of its new parent keeps what it has,
//	          and the parent's repetitions are dropped.
type events struct {
	core    *Core
	epoch   uint64
	last    uint64
	ring    []*wire.Message // ascending, without gaps, up to last
	bytes   int             // of their bodies
	streams map[rpc.RequestKey]*subscriber
	local   []reactor.Subscribed
	nsub    int
}

// subscriber is an open event.subscribe.
type subscriber struct {
	n      int
	req    *rpc.Request
	prefix string
}

// Name is "event".
func (*events) Name() string { return "event" }

// Handle serves event.subscribe and event.publish.
func (e *events) Handle(_ time.Time, in any, out *reactor.Out) {
	switch in := in.(type) {
	case reactor.Start:
		e.streams = map[rpc.RequestKey]*subscriber{}
		e.epoch = e.core.epoch
	case *rpc.Request:
		e.request(in, out)
	case *rpc.Response:
		e.published(in, out)
	case rpc.Cancel:
		delete(e.streams, in.Key)
	case reactor.Published:
		e.publish(in, out)
	case happened:
		for _, s := range e.matching(in.msg.Topic) {
			out.Next(s.req, api.EventMsg{Topic: in.msg.Topic, Epoch: in.msg.Epoch, Seq: in.msg.Seq, Body: in.msg.Body})
		}
	case missed:
		e.resync(out)
	}
}

// happened and missed are what the log tells the service.
type (
	happened struct{ msg *wire.Message }
	missed   struct{}
)

func (e *events) request(r *rpc.Request, out *reactor.Out) {
	switch r.Topic {
	case api.Subscribe.Topic:
		req, err := api.Subscribe.Decode(r)
		if err == nil {
			err = wantStream(r)
		}
		if err != nil {
			out.Fail(r, err)
			return
		}
		e.nsub++
		e.streams[r.Key()] = &subscriber{e.nsub, r, req.Prefix}
	case api.PublishEvent.Topic:
		ev, err := api.PublishEvent.Decode(r)
		switch {
		case err != nil:
			out.Fail(r, err)
		case ev.Topic == "":
			out.Fail(r, wire.Errorf(wire.Invalid, "an event needs a topic"))
		case len(ev.Topic) > wire.MaxTopic || len(ev.Body) > maxEvent:
			out.Fail(r, wire.Errorf(wire.TooLarge, "an event has a topic of at most %d bytes and a body of at most %d, not %d and %d",
				wire.MaxTopic, maxEvent, len(ev.Topic), len(ev.Body)))
		case e.core.cfg.Overlay.Leader:
			out.Reply(r, e.number(ev))
		default:
			out.Call(reactor.Call{Key: r, Topic: r.Topic, Target: wire.Upstream, Body: ev})
		}
	default:
		out.Fail(r, noMethod(r))
	}
}

// published passes the leader's answer to a publish on.
func (e *events) published(r *rpc.Response, out *reactor.Out) {
	req, ok := r.Key.(*rpc.Request)
	if !ok {
		return
	}
	rep, err := api.PublishEvent.DecodeReply(r)
	if err != nil {
		out.Fail(req, err)
		return
	}
	out.Reply(req, rep)
}

// publish is for services of this broker, who wait for no answer.
func (e *events) publish(p reactor.Published, out *reactor.Out) {
	if p.Body.Value != nil {
		out.Log("error", "event dropped: its body cannot be sent", "topic", p.Topic)
		return
	}
	ev := api.EventMsg{Topic: p.Topic, Body: p.Body.Raw}
	if e.core.cfg.Overlay.Leader {
		e.number(ev)
		return
	}
	out.Call(reactor.Call{Topic: api.PublishEvent.Topic, Target: wire.Upstream, Body: ev, NoReply: true})
}

// number makes ev the next event of the instance. Leader only.
func (e *events) number(ev api.EventMsg) api.EventMsg {
	ev.Epoch, ev.Seq = e.epoch, e.last+1
	e.append(&wire.Message{Type: wire.Event, Topic: ev.Topic, Epoch: ev.Epoch, Seq: ev.Seq, Body: ev.Body})
	return ev
}

// append adds the next event and passes it on.
func (e *events) append(m *wire.Message) {
	e.last = m.Seq
	e.ring = append(e.ring, m)
	if e.bytes += len(m.Body); len(e.ring) > 2*keptEvents || e.bytes > 2*keptBytes {
		e.trim()
	}
	for _, l := range e.core.children() {
		if l.synced {
			e.sendTo(l, m)
		}
	}
	e.core.tell("event", happened{m})
	for _, s := range e.local {
		if strings.HasPrefix(m.Topic, s.Prefix) {
			e.core.tell(s.Service, rpc.Event{Topic: m.Topic, Epoch: m.Epoch, Seq: m.Seq, Body: rpc.Payload{Raw: m.Body}})
		}
	}
}

// trim drops the oldest beyond what is kept.
func (e *events) trim() {
	n := 0
	for len(e.ring)-n > keptEvents || e.bytes > keptBytes {
		e.bytes -= len(e.ring[n].Body)
		n++
	}
	e.ring = slices.Clone(e.ring[n:])
}

func (e *events) sendTo(l *link, m *wire.Message) {
	frame, err := wire.Encode(m)
	if err != nil {
		e.core.logf("error", "event cannot be encoded", "topic", m.Topic, "err", err)
		return
	}
	e.core.later(overlay.Submit{Link: l.id, Payload: frame})
}

// fromParent takes an event that flows down.
func (e *events) fromParent(l *link, m *wire.Message) {
	switch {
	case !l.parent || m.Epoch < e.epoch || m.Epoch == e.epoch && m.Seq <= e.last:
		// had before, or none of a child's business
	case m.Epoch == e.epoch && m.Seq == e.last+1:
		e.append(&wire.Message{Type: wire.Event, Topic: m.Topic, Epoch: m.Epoch, Seq: m.Seq, Body: slices.Clone(m.Body)})
	default:
		e.reset(m.Epoch, m.Seq-1)
		e.fromParent(l, m)
	}
}

// askParent tells a new parent what this broker has.
func (e *events) askParent(l *link) {
	e.core.control(l, &wire.Message{Topic: api.TopicEventSync, Epoch: e.epoch, Seq: e.last})
}

// childAt sends a child what it misses.
func (e *events) childAt(l *link, epoch, seq uint64) {
	l.synced = true
	switch {
	case epoch > e.epoch || epoch == e.epoch && seq >= e.last:
		return // it is ahead; what it has it drops
	case epoch == e.epoch && e.last-seq <= uint64(min(len(e.ring), keptEvents)):
		for _, m := range e.ring[uint64(len(e.ring))-(e.last-seq):] {
			e.sendTo(l, m)
		}
	default:
		e.core.control(l, &wire.Message{Topic: api.TopicEventReset, Epoch: e.epoch, Seq: e.last})
	}
}

// reset goes on from (epoch, seq) although events before it were missed.
func (e *events) reset(epoch, seq uint64) {
	if epoch < e.epoch || epoch == e.epoch && seq <= e.last {
		return
	}
	fresh := e.epoch == 0
	e.epoch, e.last, e.ring, e.bytes = epoch, seq, nil, 0
	for _, l := range e.core.children() {
		if l.synced {
			e.core.control(l, &wire.Message{Topic: api.TopicEventReset, Epoch: epoch, Seq: seq})
		}
	}
	if fresh {
		return // nobody here has seen an event: nothing was missed
	}
	e.core.tell("event", missed{})
	for _, s := range e.local {
		e.core.tell(s.Service, rpc.Resync{Epoch: epoch, Seq: seq})
	}
}

// resync ends all streams: their readers read state again and subscribe anew.
func (e *events) resync(out *reactor.Out) {
	for _, s := range e.matching("") {
		out.Fail(s.req, wire.Errorf(wire.Resync, "events were missed: read state again and subscribe anew"))
	}
	clear(e.streams)
}

// matching lists the streams that want topic ("" = all), oldest first.
func (e *events) matching(topic string) []*subscriber {
	var subs []*subscriber
	for _, s := range e.streams {
		if topic == "" || strings.HasPrefix(topic, s.prefix) {
			subs = append(subs, s)
		}
	}
	slices.SortFunc(subs, func(a, b *subscriber) int { return cmp.Compare(a.n, b.n) })
	return subs
}

// subscribe is for services of this broker.
func (e *events) subscribe(s reactor.Subscribed) { e.local = append(e.local, s) }

// wantStream refuses a streaming method called without a stream.
func wantStream(r *rpc.Request) error {
	if !r.Stream {
		return wire.Errorf(wire.Invalid, "%s answers with a stream: the request must ask for one", r.Topic)
	}
	return nil
}

func noMethod(r *rpc.Request) error {
	return wire.Errorf(wire.NoMethod, "service %q has no method %q", reactor.ServiceOf(r.Topic), r.Topic)
}
