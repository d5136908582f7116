package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// asked is a request of a client, in the model.
type asked struct {
	rank     int
	tag      uint64
	stream   bool
	canceled bool
	seen     int  // next expected answer of a stream
	final    bool // the last answer has come
}

// owed is a request that a service has, in the model.
type owed struct {
	n    *node
	req  *rpc.Request
	sent int
}

// chaos is a tree with clients that ask and services that answer, at random, while links break and brokers die.
type chaos struct {
	*tree
	t     *rapid.T
	asks  map[string]*asked
	owed  []owed
	gone  []owed // cancelled: answers to them go nowhere
	tag   uint64
	alone map[int]bool // ranks whose client is gone
}

func (c *chaos) key(rank int, tag uint64) string { return fmt.Sprint(rank, "/", tag) }

// take moves what came to services into owed.
func (c *chaos) take() {
	for _, n := range c.nodes {
		for _, g := range n.got {
			switch in := g.In.(type) {
			case *rpc.Request:
				c.owed = append(c.owed, owed{n: n, req: in})
			case rpc.Cancel:
				c.cancelled(n, in)
			}
		}
		n.got = nil
	}
}

func (c *chaos) cancelled(n *node, in rpc.Cancel) {
	for i, o := range c.owed {
		if o.n == n && o.req.Key() == in.Key {
			c.gone = append(c.gone, o)
			c.owed = append(c.owed[:i], c.owed[i+1:]...)
			return
		}
	}
}

// collect checks what came to clients.
func (c *chaos) collect() {
	for rank, n := range c.nodes {
		for _, m := range n.answers(c1) {
			a := c.asks[c.key(rank, m.Tag)]
			if a == nil {
				c.t.Fatalf("rank %d got an answer to a request that it did not make: %+v", rank, m)
			}
			if a.final || a.canceled {
				c.t.Fatalf("rank %d got an answer to an ended request: %+v", rank, m)
			}
			if more := m.Flags&wire.Stream != 0; !more {
				a.final = true
			} else if string(m.Body) != fmt.Sprint(a.seen) {
				c.t.Fatalf("stream answer %q came for number %d", m.Body, a.seen)
			}
			a.seen++
		}
	}
}

func (c *chaos) ask() {
	rank := rapid.IntRange(0, len(c.nodes)-1).Draw(c.t, "rank")
	if c.alone[rank] {
		return
	}
	c.tag++
	topic := rapid.SampledFrom([]string{"job.x", "job.list", "exec.x", "none.x"}).Draw(c.t, "topic")
	target := int32(rapid.IntRange(int(wire.Upstream), len(c.nodes)).Draw(c.t, "target"))
	stream := rapid.Bool().Draw(c.t, "stream")
	var flags wire.Flags
	if stream {
		flags = wire.Stream
	}
	c.asks[c.key(rank, c.tag)] = &asked{rank: rank, tag: c.tag, stream: stream}
	c.nodes[rank].ask(c1, c.tag, topic, target, flags)
}

func (c *chaos) reply() {
	list := &c.owed
	if len(c.gone) > 0 && rapid.Bool().Draw(c.t, "late") {
		list = &c.gone
	}
	if len(*list) == 0 {
		return
	}
	i := rapid.IntRange(0, len(*list)-1).Draw(c.t, "which")
	o := &(*list)[i]
	if o.req.Stream && rapid.Bool().Draw(c.t, "more") {
		o.n.answer(o.req, fmt.Sprint(o.sent), true)
		o.sent++
		return
	}
	end := *o
	*list = append((*list)[:i], (*list)[i+1:]...)
	c.finish(end)
}

func (c *chaos) finish(o owed) {
	if o.req.Stream {
		o.n.do(reactor.Reply{Peer: o.req.Peer, Route: o.req.Route, Tag: o.req.Tag, Err: &wire.Error{Code: wire.EndOfStream}})
		return
	}
	o.n.answer(o.req, "0", false)
}

func (c *chaos) cancel() {
	for _, k := range rapid.Permutation(c.keys()).Draw(c.t, "cancel") {
		if a := c.asks[k]; !a.final && !a.canceled {
			a.canceled = true
			c.nodes[a.rank].do(ClientMsg{c1, &wire.Message{Type: wire.Control, Topic: api.TopicCancel, Flags: wire.Cancel, Tag: a.tag}})
			return
		}
	}
}

func (c *chaos) keys() []string {
	out := make([]string, 0, len(c.asks)+1)
	for tag := uint64(1); tag <= c.tag; tag++ {
		for rank := range c.nodes {
			if k := c.key(rank, tag); c.asks[k] != nil {
				out = append(out, k)
			}
		}
	}
	return out
}

func (c *chaos) hangUpClient() {
	rank := rapid.IntRange(0, len(c.nodes)-1).Draw(c.t, "rank")
	for _, a := range c.asks {
		if a.rank == rank {
			a.canceled = true
		}
	}
	c.alone[rank] = true
	c.nodes[rank].do(ClientDown{c1})
}

// restart replaces a broker's process by a new one.
func (c *chaos) restart() {
	rank := rapid.IntRange(1, len(c.nodes)-1).Draw(c.t, "rank")
	c.collect()
	for _, a := range c.asks {
		if a.rank == rank {
			a.canceled = true
		}
	}
	old := c.nodes[rank]
	old.crash()
	c.owed, c.gone = without(c.owed, old), without(c.gone, old)
	n := c.add(int32(rank), len(c.nodes), 2, jobsOnLeader(int32(rank)))
	n.do(ClientUp{ID: c1})
	delete(c.alone, rank)
}

func without(list []owed, n *node) (out []owed) {
	for _, o := range list {
		if o.n != n {
			out = append(out, o)
		}
	}
	return out
}

func TestEveryRequestGetsOneLastAnswerWhateverBreaks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &chaos{tree: newTree(rt, rapid.IntRange(2, 8).Draw(rt, "brokers"), 2, jobsOnLeader), t: rt, asks: map[string]*asked{}, alone: map[int]bool{}}
		for _, n := range c.nodes {
			n.do(ClientUp{ID: c1})
		}
		rt.Repeat(map[string]func(*rapid.T){
			"ask":    func(*rapid.T) { c.ask() },
			"ask 2":  func(*rapid.T) { c.ask() },
			"reply":  func(*rapid.T) { c.reply() },
			"cancel": func(*rapid.T) { c.cancel() },
			"cut": func(rt *rapid.T) {
				a := rapid.IntRange(1, len(c.nodes)-1).Draw(rt, "child")
				c.cut(a, (a-1)/2)
				c.settle()
			},
			"client down": func(*rapid.T) { c.hangUpClient() },
			"restart":     func(*rapid.T) { c.restart() },
			"time":        func(*rapid.T) { c.pass(time.Second) },
			"": func(*rapid.T) {
				c.take()
				c.collect()
			},
		})
		for len(c.owed) > 0 {
			o := c.owed[0]
			c.owed = c.owed[1:]
			c.finish(o)
			c.take()
		}
		c.collect()
		for k, a := range c.asks {
			if !a.final && !a.canceled {
				rt.Fatalf("request %s was never answered", k)
			}
		}
		require.NoError(rt, c.idle())
	})
}
