package sim

import (
	"time"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/branchsvc"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/vmihailenco/msgpack/v5"
)

// treeClient is a client of a broker, on its host: a user, or a branch. What it sends arrives in order, and so do the answers.
type treeClient struct {
	w     *tree
	n     *node
	id    uint64
	up    time.Time // arrival of what was sent last
	down  time.Time
	over  bool
	tag   uint64
	calls map[uint64]func(*wire.Message, error)
}

var errGone = wire.Errorf(wire.Lost, "the connection broke")

// dial connects a client.
func (w *tree) dial(n *node) *treeClient {
	w.lastID++
	c := &treeClient{w: w, n: n, id: w.lastID, up: w.now, down: w.now, calls: make(map[uint64]func(*wire.Message, error))}
	if !n.alive {
		c.over = true
		return c
	}
	w.clients[c.id] = c
	c.later(&c.up, func() { n.post(broker.ClientUp{ID: c.id}) })
	return c
}

// later delivers after a random delay, in order.
func (c *treeClient) later(at *time.Time, f func()) {
	w := c.w
	t := w.now.Add(w.upTo(5 * time.Millisecond))
	if t.Before(*at) {
		t = *at
	}
	*at = t
	w.After(t.Sub(w.now), func() {
		if !c.over && c.n.alive {
			f()
		}
	})
}

// call sends a request. f gets the answers, of a stream the last one with an error; once the connection has ended, that.
func (c *treeClient) call(topic string, body any, stream bool, f func(*wire.Message, error)) {
	if c == nil || c.over {
		if f != nil {
			f(nil, errGone)
		}
		return
	}
	c.tag++
	tag := c.tag
	raw, err := rpc.Payload{Value: body}.Bytes()
	c.w.must(err)
	m := &wire.Message{Type: wire.Request, Topic: topic, Target: wire.Any, Tag: tag, Body: raw}
	if stream {
		m.Flags = wire.Stream
	}
	if f == nil {
		m.Flags |= wire.NoReply
	} else {
		c.calls[tag] = f
	}
	c.later(&c.up, func() { c.n.post(broker.ClientMsg{ID: c.id, Msg: m}) })
}

// answered: the broker has sent something.
func (c *treeClient) answered(m *wire.Message) {
	c.later(&c.down, func() {
		f := c.calls[m.Tag]
		if f == nil {
			return
		}
		if m.Code != wire.OK || m.Flags&wire.Stream == 0 {
			delete(c.calls, m.Tag)
		}
		if m.Code != wire.OK {
			f(nil, &wire.Error{Code: m.Code, Text: m.Text})
			return
		}
		f(m, nil)
	})
}

// end breaks the connection. Both sides notice.
func (c *treeClient) end() {
	if c == nil || c.over {
		return
	}
	c.over = true
	delete(c.w.clients, c.id)
	n := c.n
	c.w.soon(func() {
		if n.alive {
			n.post(broker.ClientDown{ID: c.id})
		}
	})
	for tag := uint64(1); tag <= c.tag; tag++ {
		if f := c.calls[tag]; f != nil {
			c.w.soon(func() { f(nil, errGone) })
		}
	}
	c.calls = nil
}

// hangUp ends the connections with a broker that is no more.
func (w *tree) hangUp(n *node) {
	for id := uint64(1); id <= w.lastID; id++ {
		if c := w.clients[id]; c != nil && c.n == n {
			c.end()
		}
	}
}

// decode reads a body.
func decode[T any](w *tree, m *wire.Message) (v T) {
	w.must(msgpack.Unmarshal(m.Body, &v))
	return v
}

// treeLink is the driver of the service "branch" of one leader: the connection with its parent.
type treeLink struct {
	in *inst
	n  *node
}

// Do implements reactor.Driver.
func (d *treeLink) Do(_ time.Time, effect any, done func(any, error)) {
	in := d.in
	w := in.w
	switch e := effect.(type) {
	case *branchsvc.Open:
		in.up.end()
		in.linked = time.Time{}
		if in.cutUntil.After(w.now) {
			w.After(50*time.Millisecond, func() { done(nil, errGone) })
			return
		}
		c := w.dial(in.at)
		in.up = c
		c.call(api.BranchHello.Topic, e.Hello, true, func(m *wire.Message, err error) {
			if err != nil {
				if in.up == c {
					in.linked = time.Time{}
				}
				done(nil, err)
				return
			}
			o := decode[api.BranchOrder](w, m)
			if o.Session != 0 {
				in.linked = w.now
			}
			if o.TakeBack > 0 {
				w.res.Recalls++
			}
			done(o, nil)
		})
	case *branchsvc.Send:
		in.up.call(api.BranchReport.Topic, e.Report, false, func(_ *wire.Message, err error) { done(nil, err) })
	case *branchsvc.Answer:
		in.up.call(api.BranchAnswer.Topic, e.Answer, false, nil)
	}
}

// rendezvous has the supervisor of a branch say where its leader is, and hear which brokers are gone.
func (in *inst) rendezvous() {
	w := in.w
	in.meet.end()
	c := w.dial(in.at)
	in.meet = c
	req := api.RendezvousReq{ID: in.ref.Job, Attempt: in.ref.Attempt, Host: in.addrOf(0), Post: &api.ChildPost{URI: in.addrOf(0)}}
	c.call(api.Rendezvous.Topic, req, true, func(m *wire.Message, err error) {
		switch {
		case in.meet != c:
		case err != nil:
			w.After(time.Second, func() {
				if in.meet == c && !in.over && !in.seats[0].gone {
					in.rendezvous()
				}
			})
		default:
			for _, task := range decode[api.RendezvousRep](w, m).Gone {
				in.tellDead(task)
			}
		}
	})
}

// tellDead tells the leader of a branch of a broker that has ended.
func (in *inst) tellDead(task int) {
	s := in.seats[task]
	if in.leader.alive && s != nil && s.node != nil && s.rank > 0 {
		in.w.dial(in.leader).call(api.BrokerDead.Topic, api.BrokerDeadReq{Rank: int32(s.rank)}, false, nil)
	}
}
