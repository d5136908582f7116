package broker

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

// tree is several Cores with real overlay machines, connected in memory, on virtual time. Services are the test's: what comes for
// them is recorded in got, and the test answers.
type tree struct {
	t     require.TestingT
	now   time.Time
	nodes []*node
	queue []func()
	hook  func(n *node, in ToService) // sees inputs of services as they come
}

type node struct {
	tr      *tree
	rank    int32
	core    *Core
	alive   bool
	nconn   overlay.ConnID
	peers   map[overlay.ConnID]end
	wake    time.Time
	got     []ToService
	clients map[uint64][]*wire.Message
	logs    []Log
	exit    *Exit
	joined  int
}

// end is the other end of a connection.
type end struct {
	n  *node
	id overlay.ConnID
}

// newTree starts n brokers as a k-ary tree; services(rank) are the hosted ones.
func newTree(t require.TestingT, n, fanout int, services func(rank int32) []string) *tree {
	tr := &tree{t: t, now: time.Unix(1_000_000, 0)}
	for rank := range n {
		tr.add(int32(rank), n, fanout, services(int32(rank)))
	}
	tr.settle()
	return tr
}

// add starts a broker, in the place of an earlier one with this rank.
func (tr *tree) add(rank int32, size, fanout int, services []string) *node {
	n := &node{tr: tr, rank: rank, alive: true, peers: map[overlay.ConnID]end{}, clients: map[uint64][]*wire.Message{}}
	cfg := overlay.Config{Rank: rank, Size: size, Leader: rank == 0, Fanout: fanout, UUID: fmt.Sprintf("u%d-%d", rank, len(tr.nodes)), Epoch: 1, Rand: uint64(len(tr.nodes) + 1),
		Info: overlay.Info{Hostname: fmt.Sprintf("host%d", rank), PID: 100 + int(rank), Addr: fmt.Sprint(rank)}}
	if rank > 0 {
		cfg.Parent, cfg.Fallback = fmt.Sprint((int(rank)-1)/fanout), []string{"0"}
	}
	n.core = NewCore(CoreConfig{Machine: overlay.New(cfg), Overlay: cfg, Services: services})
	if int(rank) < len(tr.nodes) {
		tr.nodes[rank] = n
	} else {
		tr.nodes = append(tr.nodes, n)
	}
	n.post(Begin{})
	return n
}

func (n *node) post(in any) { n.tr.queue = append(n.tr.queue, func() { n.step(in) }) }

// do gives a node an input and lets everything follow from it.
func (n *node) do(in any) {
	n.post(in)
	n.tr.settle()
}

func (n *node) step(in any) {
	if !n.alive {
		return
	}
	for _, act := range slices.Clone(n.core.Step(n.tr.now, in)) {
		n.act(act)
	}
	require.NoError(n.tr.t, n.core.check())
}

func (n *node) act(act any) {
	switch a := act.(type) {
	case overlay.Dial:
		n.dial(a)
	case overlay.Send:
		if p, ok := n.peers[a.Conn]; ok {
			frame := slices.Clone(a.Frame)
			n.tr.queue = append(n.tr.queue, func() {
				if p.n.peers[p.id].n == n {
					p.n.step(overlay.ConnData{Conn: p.id, Frame: frame})
				}
			})
		}
	case overlay.CloseConn:
		n.hangUp(a.Conn, a.Reason)
	case overlay.WakeAt:
		n.wake = a.T
	case ToService:
		n.got = append(n.got, a)
		if n.tr.hook != nil {
			n.tr.hook(n, a)
		}
	case ToClient:
		n.clients[a.ID] = append(n.clients[a.ID], a.Msg)
	case Log:
		n.logs = append(n.logs, a)
	case Joined:
		n.joined++
	case Exit:
		n.exit = &a
		n.crash()
	}
}

func (n *node) dial(d overlay.Dial) {
	for _, p := range n.tr.nodes {
		if p.alive && fmt.Sprint(p.rank) == d.Addr {
			p.nconn++
			id := p.nconn | overlay.AcceptedBit
			n.peers[d.Conn], p.peers[id] = end{p, id}, end{n, d.Conn}
			p.post(overlay.ConnUp{Conn: id, Accepted: true})
			n.post(overlay.ConnUp{Conn: d.Conn})
			return
		}
	}
	n.post(overlay.ConnDown{Conn: d.Conn, Reason: "nobody there"})
}

// hangUp ends a connection; the other end hears of it.
func (n *node) hangUp(id overlay.ConnID, reason string) {
	if p, ok := n.peers[id]; ok {
		delete(n.peers, id)
		delete(p.n.peers, p.id)
		p.n.post(overlay.ConnDown{Conn: p.id, Reason: reason})
	}
}

// cut ends the connection between two nodes; both ends hear of it.
func (tr *tree) cut(a, b int) {
	for id, p := range maps.Clone(tr.nodes[a].peers) {
		if p.n == tr.nodes[b] {
			tr.nodes[a].hangUp(id, "cut")
			tr.nodes[a].post(overlay.ConnDown{Conn: id, Reason: "cut"})
		}
	}
}

// crash ends a node's process.
func (n *node) crash() {
	n.alive = false
	for id := range maps.Clone(n.peers) {
		n.hangUp(id, "peer died")
	}
}

// settle runs what is queued, at the present time.
func (tr *tree) settle() {
	for i := 0; len(tr.queue) > 0; i++ {
		f := tr.queue[0]
		tr.queue = tr.queue[1:]
		f()
		if i > 1_000_000 {
			panic("the tree does not come to rest")
		}
	}
}

// pass lets time go by.
func (tr *tree) pass(d time.Duration) {
	for end := tr.now.Add(d); ; {
		var next *node
		for _, n := range tr.nodes {
			if n.alive && !n.wake.IsZero() && !n.wake.After(end) && (next == nil || n.wake.Before(next.wake)) {
				next = n
			}
		}
		if next == nil {
			tr.now = end
			return
		}
		if next.wake.After(tr.now) {
			tr.now = next.wake
		}
		next.wake = time.Time{}
		next.do(overlay.Tick{})
	}
}

// taken returns what came for a service since the last time.
func (n *node) taken(svc string) []any {
	var out []any
	var rest []ToService
	for _, g := range n.got {
		if g.Name == svc {
			out = append(out, g.In)
		} else {
			rest = append(rest, g)
		}
	}
	n.got = rest
	return out
}

// request returns the only request that came for a service.
func (n *node) request(svc string) *rpc.Request {
	var out []*rpc.Request
	for _, in := range n.taken(svc) {
		if r, ok := in.(*rpc.Request); ok {
			out = append(out, r)
		}
	}
	require.Len(n.tr.t, out, 1, "requests for %s at rank %d", svc, n.rank)
	return out[0]
}

// answer is a service's reply to r.
func (n *node) answer(r *rpc.Request, body string, more bool) {
	n.do(reactor.Reply{Peer: r.Peer, Route: r.Route, Tag: r.Tag, Body: rpc.Payload{Raw: []byte(body)}, More: more})
}

// ask is a client's request.
func (n *node) ask(client, tag uint64, topic string, target int32, flags wire.Flags) {
	n.do(ClientMsg{client, &wire.Message{Type: wire.Request, Topic: topic, Tag: tag, Target: target, Flags: flags, Body: []byte("q")}})
}

// answers returns what a client got since the last time.
func (n *node) answers(client uint64) []*wire.Message {
	out := n.clients[client]
	delete(n.clients, client)
	return out
}

// reply returns the only answer that a client got.
func (n *node) reply(client uint64) *wire.Message {
	out := n.answers(client)
	require.Len(n.tr.t, out, 1)
	return out[0]
}

// check tells what is wrong with the tables.
func (c *Core) check() error {
	for peer, o := range c.origins {
		if o.peer != peer || len(o.calls) == 0 && o.client == nil {
			return fmt.Errorf("origin %q is idle or under a wrong name", peer)
		}
		if o.from != nil && (c.links[o.from.id] != o.from || o.from.origins[peer] != o) {
			return fmt.Errorf("origin %q came over a link that is over", peer)
		}
		for tag, k := range o.calls {
			if k.origin != o || k.tag != tag || (k.link == nil) == (k.svc == "") {
				return fmt.Errorf("call %q %d is damaged", peer, tag)
			}
			if k.link != nil && (c.links[k.link.id] != k.link || !k.link.sent[k]) {
				return fmt.Errorf("call %q %d went over a link that is over", peer, tag)
			}
		}
	}
	for _, l := range c.links {
		for k := range l.sent {
			if k.origin.calls[k.tag] != k {
				return fmt.Errorf("link %v holds an ended call", l.hop)
			}
		}
		for peer := range l.origins {
			if c.origins[peer] == nil {
				return fmt.Errorf("link %v holds an ended origin", l.hop)
			}
		}
	}
	for id, cl := range c.clients {
		streams, bytes, heavy := 0, 0, 0
		for _, k := range cl.origin.calls {
			bytes += k.size
			if k.heavy {
				heavy++
			}
			if k.stream {
				streams++
			}
		}
		for _, m := range cl.waiting {
			bytes += len(m.Body)
		}
		if heavy > 1 || cl.heavy != (heavy == 1) || !cl.heavy && len(cl.waiting) > 0 {
			return fmt.Errorf("client %d: %d heavy calls, %d wait, counted %v", id, heavy, len(cl.waiting), cl.heavy)
		}
		if streams != cl.streams || bytes != cl.bytes {
			return fmt.Errorf("client %d: %d streams and %d bytes, counted %d and %d", id, streams, bytes, cl.streams, cl.bytes)
		}
	}
	return nil
}

// idle tells whether no broker has anything outstanding.
func (tr *tree) idle() error {
	for _, n := range tr.nodes {
		for peer, o := range n.core.origins {
			if n.alive && len(o.calls) > 0 {
				return fmt.Errorf("rank %d still has %d calls of %q", n.rank, len(o.calls), peer)
			}
		}
	}
	return nil
}

const c1, c2 = reactor.FirstClient, reactor.FirstClient + 1

// jobsOnLeader is the usual set of services: "job" on the leader, "exec" everywhere.
func jobsOnLeader(rank int32) []string {
	if rank == 0 {
		return []string{"job", "exec"}
	}
	return []string{"exec"}
}

func newJobTree(t *testing.T, n, fanout int) *tree {
	tr := newTree(t, n, fanout, jobsOnLeader)
	for _, n := range tr.nodes {
		require.Equal(t, 1, n.joined, "rank %d", n.rank)
		n.got = nil
		n.do(ClientUp{ID: c1, UID: 7})
	}
	return tr
}
