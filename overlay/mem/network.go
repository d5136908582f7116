// Package mem is the overlay's transport in memory, for tests and the simulation: latency, loss, duplicates, delays, partitions
// and crashes, all from one seed and on the time of a Clock that is given to it. It starts no goroutine; RealClock, which runs a
// Network in real time, has one.
package mem

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/frond-hpc/frond/overlay"
)

// Clock is the time of a Network. After has f called d from now, never from within After, one call at a time. With equal times
// the order is that of the After calls.
type Clock interface {
	Now() time.Time
	After(d time.Duration, f func())
}

// Faults is what goes wrong between any two nodes. Probabilities are per frame, 0 to 1. The zero value is a perfect network
// without latency.
type Faults struct {
	MinLatency, MaxLatency time.Duration // of each frame, drawn between them; frames of a connection keep their order
	Drop                   float64       // a frame vanishes; the connection goes on (and then has a gap)
	Duplicate              float64       // a frame comes twice
	Delay                  float64       // a frame, and so all behind it, is late by up to DelayBy
	DelayBy                time.Duration
}

// Network connects transports by name. Its methods and those of its transports may be called from any goroutine; events are given
// to a sink from the clock's calls alone, without a lock held.
type Network struct {
	clock Clock

	mu     sync.Mutex
	rng    uint64
	faults Faults
	nodes  map[string]*Transport // living ones
	listen map[string]*Transport
	side   map[string]int // partition: names of different sides do not hear each other
	cut    map[[2]string]bool
	frames uint64
}

// NewNetwork makes a network without nodes or faults.
func NewNetwork(clock Clock, seed uint64) *Network {
	return &Network{clock: clock, rng: seed, nodes: map[string]*Transport{}, listen: map[string]*Transport{}}
}

// Transport is one node's end of the network.
type Transport struct {
	net   *Network
	name  string
	sink  func(ev any)
	conns map[overlay.ConnID]*end
	last  overlay.ConnID // accepted
	dead  bool
}

// end is one side of a connection, and the pipe that leads to it.
type end struct {
	owner  *Transport
	id     overlay.ConnID
	peer   *end // nil until connected
	closed bool

	queue []item // on their way to this end, by time
	armed bool
	fire  func()
}

// item is an event or (fn) a step of connecting that reaches an end at a time.
type item struct {
	at time.Time
	ev any
	fn func()
}

// Transport makes the node of that name; after a Crash of the name, its restart. sink must not block.
func (n *Network) Transport(name string, sink func(ev any)) *Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := &Transport{net: n, name: name, sink: sink, conns: map[overlay.ConnID]*end{}}
	n.nodes[name] = t
	return t
}

// SetFaults changes what goes wrong from now on.
func (n *Network) SetFaults(f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
}

// Partition cuts the network into the given sides; names that are in none form one more. What is sent to another side is
// lost without notice, the end of a connection too: both see silence. It replaces an earlier partition.
func (n *Network) Partition(sides ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.side = map[string]int{}
	for i, names := range sides {
		for _, name := range names {
			n.side[name] = i + 1
		}
	}
}

// Cut separates two nodes from each other only, as Partition does. Cuts add up.
func (n *Network) Cut(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut == nil {
		n.cut = map[[2]string]bool{}
	}
	n.cut[[2]string{a, b}], n.cut[[2]string{b, a}] = true, true
}

// Heal ends partition and cuts.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.side, n.cut = nil, nil
}

// Crash ends a node at once. Its peers get ConnDown, or with halfOpen hear nothing at all.
func (n *Network) Crash(name string, halfOpen bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.nodes[name]; t != nil {
		t.end("the peer's process ended", halfOpen)
	}
}

// Break ends all connections between two nodes; with silent they only stop to carry anything.
func (n *Network) Break(a, b string, silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.nodes[a]
	if t == nil {
		return
	}
	for _, e := range t.sorted() {
		if e.peer == nil || e.peer.owner.name != b {
			continue
		}
		if silent {
			e.peer.peer, e.peer = nil, nil
			continue
		}
		e.post(overlay.ConnDown{Conn: e.id, Reason: "connection reset"})
		e.peer.post(overlay.ConnDown{Conn: e.peer.id, Reason: "connection reset"})
	}
}

// Frames is how many frames were sent so far.
func (n *Network) Frames() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.frames
}

// random is splitmix64.
func (n *Network) random() uint64 {
	n.rng += 0x9e3779b97f4a7c15
	z := n.rng
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (n *Network) chance(p float64) bool {
	return p > 0 && float64(n.random()>>11)/(1<<53) < p
}

func (n *Network) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(n.random() % uint64(d+1))
}

func (n *Network) latency() time.Duration {
	f := &n.faults
	d := f.MinLatency + n.upTo(f.MaxLatency-f.MinLatency)
	if n.chance(f.Delay) {
		d += n.upTo(f.DelayBy)
	}
	return d
}

func (n *Network) apart(a, b *Transport) bool {
	return n.side[a.name] != n.side[b.name] || (n.cut != nil && n.cut[[2]string{a.name, b.name}])
}

// Listen makes the node reachable at addr; "mem://*" becomes "mem://" and the node's name.
func (t *Transport) Listen(addr string) (string, error) {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	if addr == "mem://*" {
		addr = "mem://" + t.name
	}
	switch {
	case !strings.HasPrefix(addr, "mem://"):
		return "", fmt.Errorf("listen on %s: not a mem:// address", addr)
	case t.dead:
		return "", errors.New("listen: the transport is closed")
	case t.net.listen[addr] != nil:
		return "", fmt.Errorf("listen on %s: address in use", addr)
	}
	t.net.listen[addr] = t
	return addr, nil
}

// Dial starts a connection; without a listener at addr it ends with ConnDown, across a partition nothing happens.
func (t *Transport) Dial(id overlay.ConnID, addr string) {
	n := t.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if t.dead || t.conns[id] != nil {
		return
	}
	e := t.newEnd(id)
	e.put(item{fn: func() { n.connect(e, addr) }})
}

// connect runs when the dial has reached the other side.
func (n *Network) connect(e *end, addr string) {
	to := n.listen[addr]
	switch {
	case e.closed:
	case to == nil:
		e.post(overlay.ConnDown{Conn: e.id, Reason: "nobody listens at " + addr})
	case n.apart(e.owner, to):
	default:
		to.last++
		o := to.newEnd(overlay.AcceptedBit | to.last)
		e.peer, o.peer = o, e
		o.post(overlay.ConnUp{Conn: o.id, Accepted: true})
		e.post(overlay.ConnUp{Conn: e.id})
	}
}

func (t *Transport) newEnd(id overlay.ConnID) *end {
	e := &end{owner: t, id: id}
	e.fire = e.deliver
	t.conns[id] = e
	return e
}

// Send sends one frame; the network keeps it.
func (t *Transport) Send(id overlay.ConnID, frame []byte) {
	n := t.net
	n.mu.Lock()
	defer n.mu.Unlock()
	e := t.conns[id]
	if e == nil || e.peer == nil {
		return
	}
	n.frames++
	if n.apart(t, e.peer.owner) || n.chance(n.faults.Drop) {
		return
	}
	e.peer.post(overlay.ConnData{Conn: e.peer.id, Frame: frame})
	if n.chance(n.faults.Duplicate) {
		e.peer.post(overlay.ConnData{Conn: e.peer.id, Frame: slices.Clone(frame)})
	}
}

// CloseConn ends a connection; the peer gets ConnDown.
func (t *Transport) CloseConn(id overlay.ConnID) {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	if e := t.conns[id]; e != nil {
		e.close("closed by the peer", false)
	}
}

// Close ends the node; it may be called twice.
func (t *Transport) Close() error {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	t.end("closed by the peer", false)
	return nil
}

// end takes the node off the network.
func (t *Transport) end(reason string, silent bool) {
	if t.dead {
		return
	}
	t.dead = true
	for _, e := range t.sorted() {
		e.close(reason, silent)
	}
	for addr, o := range t.net.listen {
		if o == t {
			delete(t.net.listen, addr)
		}
	}
	if t.net.nodes[t.name] == t {
		delete(t.net.nodes, t.name)
	}
}

// sorted are the connections in a fixed order, so that a seed gives one run.
func (t *Transport) sorted() []*end {
	all := make([]*end, 0, len(t.conns))
	for _, e := range t.conns {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *end) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return all
}

// close ends this end and, unless silent, lets the peer know.
func (e *end) close(reason string, silent bool) {
	e.closed = true
	e.queue = nil
	delete(e.owner.conns, e.id)
	p := e.peer
	if p == nil {
		return
	}
	e.peer, p.peer = nil, nil
	if !silent && !e.owner.net.apart(e.owner, p.owner) {
		p.post(overlay.ConnDown{Conn: p.id, Reason: reason})
	}
}

// post has an event reach this end after the latency of the moment.
func (e *end) post(ev any) { e.put(item{ev: ev}) }

func (e *end) put(it item) {
	if e.closed {
		return
	}
	n := e.owner.net
	now := n.clock.Now()
	it.at = now.Add(n.latency())
	if k := len(e.queue); k > 0 && it.at.Before(e.queue[k-1].at) {
		it.at = e.queue[k-1].at
	}
	e.queue = append(e.queue, it)
	if !e.armed {
		e.armed = true
		n.clock.After(it.at.Sub(now), e.fire)
	}
}

// deliver hands over what is due. It is called by the clock, so only one runs at a time.
func (e *end) deliver() {
	n := e.owner.net
	for {
		n.mu.Lock()
		it, ok := e.next()
		if ok && it.fn != nil {
			it.fn()
		}
		n.mu.Unlock()
		if !ok {
			return
		}
		if it.ev != nil {
			e.owner.sink(it.ev)
		}
	}
}

// next takes the first item that is due, or arms the clock for the one that comes next.
func (e *end) next() (item, bool) {
	e.armed = false
	if e.closed || len(e.queue) == 0 {
		return item{}, false
	}
	it := e.queue[0]
	now := e.owner.net.clock.Now()
	e.armed = true
	if it.at.After(now) {
		e.owner.net.clock.After(it.at.Sub(now), e.fire)
		return item{}, false
	}
	e.queue[0] = item{}
	if e.queue = e.queue[1:]; len(e.queue) == 0 {
		e.queue = nil
	}
	if _, down := it.ev.(overlay.ConnDown); down {
		e.close("", true)
	}
	return it, true
}
