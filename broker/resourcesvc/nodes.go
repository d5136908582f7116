package resourcesvc

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
)

// book is the list of nodes and the brokers that offer them.
type book struct {
	nodes   []*node // by Index; nil = never used, or removed
	brokers map[int32]*member
	stored  map[int]resource.Drain // drains of earlier leaders, until their nodes come
}

type node struct {
	resource.Node
	online  bool
	drained bool
	reason  string  // of the drain
	since   float64 // of the drain, epoch seconds
}

// member is what is known of one broker: which nodes it offers. It is kept when the broker leaves, for it to get the same indexes if
// it comes again.
type member struct {
	uuid string
	raw  []byte // its resources as they came
	own  []int  // Index of each node, in the order of its list
	left bool
}

func newBook(drains []resource.Drain) *book {
	b := &book{brokers: make(map[int32]*member), stored: make(map[int]resource.Drain, len(drains))}
	for _, d := range drains {
		b.stored[d.Node] = d
	}
	return b
}

// onlineOf are the nodes of a broker that are online.
func (b *book) onlineOf(rank int32) []*node {
	m := b.brokers[rank]
	if m == nil {
		return nil
	}
	return slices.DeleteFunc(b.named(m.own), func(n *node) bool { return !n.online })
}

// named are the nodes of these indexes that there are.
func (b *book) named(indexes []int) []*node {
	var list []*node
	for _, i := range indexes {
		if n := b.get(i); n != nil {
			list = append(list, n)
		}
	}
	return list
}

// without is a less b, by index.
func without(a, b []*node) []*node {
	in := make(map[int]bool, len(b))
	for _, n := range b {
		in[n.Index] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(n *node) bool { return in[n.Index] })
}

func (n *node) up() bool { return n.online && !n.drained }

// get is the node of that index, or nil.
func (b *book) get(i int) *node {
	if i < 0 || i >= len(b.nodes) {
		return nil
	}
	return b.nodes[i]
}

// online books that a broker is there with its nodes, and returns what has changed. The error tells which of its nodes cannot be used.
func (b *book) online(n api.Membership, ch *api.NodesChanged) error {
	m := b.brokers[n.Rank]
	if m == nil {
		m = &member{}
		b.brokers[n.Rank] = m
	}
	if !m.left && m.own != nil && bytes.Equal(m.raw, n.Resources) {
		m.uuid = n.UUID
		b.setOnline(m, true, ch)
		return nil
	}
	var offered []resource.Node
	if len(n.Resources) > 0 {
		if err := wire.Unmarshal(n.Resources, &offered); err != nil {
			return fmt.Errorf("decode resources of broker %d: %w", n.Rank, err)
		}
	}
	m.uuid, m.raw, m.left = n.UUID, n.Resources, false
	return b.replace(m, n.Rank, offered, ch)
}

// replace makes offered the nodes of a broker. A node keeps the index that the broker's node in the same place had.
func (b *book) replace(m *member, rank int32, offered []resource.Node, ch *api.NodesChanged) error {
	old := m.own
	m.own = make([]int, 0, len(offered))
	var bad error
	for i, n := range offered {
		before := -1
		if i < len(old) {
			before = old[i]
		}
		n.Broker = rank
		n.Index = b.place(n.Index, before, rank)
		if n.Index >= resource.MaxNodes {
			bad = fmt.Errorf("node %q of broker %d: more than %d nodes", n.Name, rank, resource.MaxNodes)
			continue
		}
		b.put(n, ch)
		m.own = append(m.own, n.Index)
	}
	for _, i := range old {
		if !slices.Contains(m.own, i) {
			b.remove(i, ch)
		}
	}
	return bad
}

// place finds an index for a node: the wanted one if it is free or was this broker's, else the one it had before, else the broker's rank, that is
// the same after a leader's restart, as what runs there says where it runs; else a new one.
func (b *book) place(want, before int, rank int32) int {
	for _, i := range []int{want, before, int(rank)} {
		if i >= 0 && i < resource.MaxNodes && (b.get(i) == nil || b.get(i).Broker == rank) {
			return i
		}
	}
	return len(b.nodes)
}

func (b *book) put(n resource.Node, ch *api.NodesChanged) {
	for len(b.nodes) <= n.Index {
		b.nodes = append(b.nodes, nil)
	}
	x := b.nodes[n.Index]
	if x == nil {
		x = &node{}
		if d, was := b.stored[n.Index]; was && d.Name == n.Name {
			x.drained, x.reason, x.since = true, d.Reason, d.Since
		}
		delete(b.stored, n.Index)
		b.nodes[n.Index] = x
	}
	x.Node, x.online = n, true
	ch.Add = append(ch.Add, n)
	if x.drained {
		ch.Down = append(ch.Down, n.Index)
	} else {
		ch.Up = append(ch.Up, n.Index)
	}
}

// setOnline books that a broker came back or was lost.
func (b *book) setOnline(m *member, online bool, ch *api.NodesChanged) {
	for _, i := range m.own {
		n := b.get(i)
		if n == nil {
			continue
		}
		was := n.up()
		n.online = online
		n.tell(was, ch)
	}
}

// tell adds the node to Up or Down if that has changed.
func (n *node) tell(was bool, ch *api.NodesChanged) {
	if n.up() == was {
		return
	}
	if was {
		ch.Down = append(ch.Down, n.Index)
	} else {
		ch.Up = append(ch.Up, n.Index)
	}
}

// lost books that a broker is not reachable, or dead.
func (b *book) lost(rank int32, ch *api.NodesChanged) {
	if m := b.brokers[rank]; m != nil && !m.left {
		b.setOnline(m, false, ch)
	}
}

// leave books that a broker has gone in order: its nodes are no longer part of the instance.
func (b *book) leave(rank int32, ch *api.NodesChanged) {
	m := b.brokers[rank]
	if m == nil || m.left {
		return
	}
	m.left = true
	for _, i := range m.own {
		b.remove(i, ch)
	}
}

func (b *book) remove(i int, ch *api.NodesChanged) {
	n := b.get(i)
	if n == nil {
		return
	}
	if n.up() {
		ch.Down = append(ch.Down, i)
	}
	ch.Remove = append(ch.Remove, i)
	b.nodes[i] = nil
}

// status lists all nodes; used has the parts in use by node.
func (b *book) status(used map[int]resource.NodeAlloc) []api.NodeStatus {
	list := make([]api.NodeStatus, 0, len(b.nodes))
	for i, n := range b.nodes {
		if n == nil {
			continue
		}
		u := used[i]
		u.Node = i
		list = append(list, api.NodeStatus{Node: n.Node, Online: n.online, Drained: n.drained, Reason: n.reason, Time: n.since, Used: u})
	}
	return list
}
