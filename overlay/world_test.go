package overlay_test

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/mem"
	"github.com/stretchr/testify/require"
)

// simClock is virtual time: events by (time, order of creation).
type simClock struct {
	now  time.Time
	seq  uint64
	heap simHeap
}

type simEvent struct {
	at  time.Time
	seq uint64
	f   func()
}

type simHeap []simEvent

func (h simHeap) Len() int { return len(h) }
func (h simHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}
func (h simHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *simHeap) Push(x any)   { *h = append(*h, x.(simEvent)) }
func (h *simHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = simEvent{}
	*h = old[:len(old)-1]
	return x
}

func (c *simClock) Now() time.Time { return c.now }
func (c *simClock) After(d time.Duration, f func()) {
	c.seq++
	heap.Push(&c.heap, simEvent{c.now.Add(d), c.seq, f})
}

// run lets d pass.
func (c *simClock) run(d time.Duration) {
	end := c.now.Add(d)
	for len(c.heap) > 0 && !c.heap[0].at.After(end) {
		e := heap.Pop(&c.heap).(simEvent)
		c.now = e.at
		e.f()
	}
	c.now = end
}

type fataler interface {
	Fatalf(format string, args ...any)
	Helper()
}

// world is an instance of many machines on one network in virtual time. After each step it checks the machine's invariants and
// what a broker may rely on (see onAction and arrive).
type world struct {
	t      fataler
	clock  *simClock
	net    *mem.Network
	fanout int
	epoch  uint64
	known  []overlay.Member // what the leader's store would hold
	nodes  []*node          // by rank at first, growing ones behind
	steps  int
	every  int // Check after each so many steps
	logs   []string
	got    map[string]int // data that arrived: "from>to"
	tweak  func(*overlay.Config)
	slow   int           // node that consumes nothing; -1 = none
	lag    time.Duration // until what came is consumed
}

// node is one process.
type node struct {
	w      *world
	i      int
	name   string
	m      *overlay.Machine
	tr     *mem.Transport
	alive  bool
	failed error
	left   bool
	life   int
	wake   time.Time // latest WakeAt

	whole  bool // between Joined and PathDown
	joined overlay.Joined
	links  map[overlay.ConnID]overlay.LinkUp
	state  map[int32]overlay.Member // leader: by MemberChange
}

func newWorld(t fataler, n, fanout int, seed uint64) *world {
	c := &simClock{now: time.Unix(1_700_000_000, 0)}
	w := &world{t: t, clock: c, net: mem.NewNetwork(c, seed), fanout: fanout, epoch: 0, got: map[string]int{}, slow: -1, every: 1}
	w.net.SetFaults(mem.Faults{MinLatency: 50 * time.Microsecond, MaxLatency: 500 * time.Microsecond})
	for i := range n {
		w.nodes = append(w.nodes, &node{w: w, i: i, name: fmt.Sprintf("n%d", i)})
	}
	return w
}

func (w *world) startAll() {
	for i := range w.nodes {
		w.start(i)
	}
}

// grow adds a broker without a rank, that knows broker via.
func (w *world) grow(via int) *node {
	n := &node{w: w, i: len(w.nodes), name: fmt.Sprintf("n%d", len(w.nodes))}
	w.nodes = append(w.nodes, n)
	w.launch(n, overlay.Config{Rank: -1, Parent: "mem://" + w.nodes[via].name, Fallback: []string{"mem://n0"}})
	return n
}

// start starts (again) the broker of that index, with the rank it had or has from the start.
func (w *world) start(i int) {
	n := w.nodes[i]
	cfg := overlay.Config{Rank: int32(i), Fallback: []string{"mem://n0"}}
	switch {
	case i == 0:
		w.epoch++
		cfg.Leader, cfg.Epoch, cfg.Known = true, w.epoch, w.known
	case n.life > 0:
		cfg.Rank = max(-1, n.joined.Rank)
		if n.joined.Path == 0 {
			cfg.Rank = -1
		}
		cfg.Parent = "mem://n0"
	default:
		cfg.Parent = fmt.Sprintf("mem://n%d", (i-1)/w.fanout)
	}
	w.launch(n, cfg)
}

func (w *world) launch(n *node, cfg overlay.Config) {
	n.life++
	n.alive, n.left, n.failed, n.whole, n.wake = true, false, nil, false, time.Time{}
	n.links = map[overlay.ConnID]overlay.LinkUp{}
	n.state = map[int32]overlay.Member{}
	life := n.life
	n.tr = w.net.Transport(n.name, func(ev any) {
		if n.life == life {
			n.step(ev)
		}
	})
	addr, err := n.tr.Listen("mem://*")
	if err != nil {
		w.t.Fatalf("listen: %v", err)
	}
	cfg.Size, cfg.UUID, cfg.Fanout, cfg.Rand = 0, "uuid-"+n.name, w.fanout, uint64(n.i)<<32+uint64(life)
	if cfg.Leader {
		cfg.Size = len(w.nodes)
	}
	cfg.Info = overlay.Info{Hostname: n.name, PID: 100*n.i + life, Addr: addr}
	if w.tweak != nil {
		w.tweak(&cfg)
	}
	n.m = overlay.New(cfg)
	n.step(overlay.Begin{})
}

func (w *world) kill(i int, halfOpen bool) {
	n := w.nodes[i]
	if i == 0 && n.alive {
		w.known = n.m.Members()
	}
	n.alive = false
	n.life++
	w.net.Crash(n.name, halfOpen)
}

func (n *node) step(ev any) {
	if !n.alive {
		return
	}
	n.w.steps++
	actions := slices.Clone(n.m.Step(n.w.clock.now, ev))
	if n.w.steps%n.w.every == 0 {
		if err := n.m.Check(); err != nil {
			n.w.t.Fatalf("%s after %T: %v", n.name, ev, err)
		}
	}
	for _, a := range actions {
		n.act(a)
	}
}

func (n *node) act(a any) {
	switch a := a.(type) {
	case overlay.Dial:
		n.tr.Dial(a.Conn, a.Addr)
	case overlay.Send:
		n.tr.Send(a.Conn, a.Frame)
	case overlay.CloseConn:
		n.tr.CloseConn(a.Conn)
	case overlay.WakeAt:
		n.onWakeAt(a.T)
	case overlay.Deliver:
		n.arrive(a.Link, a.Payload)
	case overlay.Failed:
		n.failed, n.alive = a.Err, false
		n.tr.Close()
	case overlay.Departed:
		n.left, n.alive = true, false
		n.tr.Close()
	default:
		n.observe(a)
	}
}

// onWakeAt checks that at most one timer is pending, apart from those that an earlier one replaces.
func (n *node) onWakeAt(t time.Time) {
	now := n.w.clock.now
	if !n.wake.IsZero() && n.wake.After(now) && !t.Before(n.wake) {
		n.w.t.Fatalf("%s asks for %v though a wake-up at %v is pending", n.name, t, n.wake)
	}
	n.wake = t
	life := n.life
	n.w.clock.After(t.Sub(now), func() {
		if n.life == life && n.wake.Equal(t) {
			n.wake = time.Time{}
			n.step(overlay.Tick{})
		}
	})
}

// observe checks the order of what a host is told.
func (n *node) observe(a any) {
	fatal := n.w.t.Fatalf
	switch a := a.(type) {
	case overlay.Joined:
		if n.whole || a.Path != n.m.Path() || a.Inc <= n.joined.Inc {
			fatal("%s: joined %+v after %+v, whole %v", n.name, a, n.joined, n.whole)
		}
		n.whole, n.joined = true, a
	case overlay.PathDown:
		if !n.whole {
			fatal("%s: path down without a joined", n.name)
		}
		n.whole = false
	case overlay.LinkUp:
		if _, ok := n.links[a.Link]; ok {
			fatal("%s: link %d is up twice", n.name, a.Link)
		}
		n.links[a.Link] = a
	case overlay.LinkDown:
		if _, ok := n.links[a.Link]; !ok {
			fatal("%s: link %d is down but was not up", n.name, a.Link)
		}
		delete(n.links, a.Link)
	case overlay.MemberChange:
		n.onMember(a.Member)
	case overlay.Report:
		if n.w.logs != nil {
			n.w.logs = append(n.w.logs, fmt.Sprintf("%v %s: %s %v", n.w.clock.now.Sub(time.Unix(1_700_000_000, 0)), n.name, a.Msg, a.KV))
		}
	}
}

// onMember: between two Online of one rank there is another state, and the incarnation has grown.
func (n *node) onMember(mb overlay.Member) {
	old, had := n.state[mb.Rank]
	if had && mb.State == overlay.Online && (old.State == overlay.Online || mb.Incarnation <= old.Incarnation) {
		n.w.t.Fatalf("member %d is online with %d after %v with %d", mb.Rank, mb.Incarnation, old.State, old.Incarnation)
	}
	n.state[mb.Rank] = mb
	if n.w.logs != nil {
		n.w.logs = append(n.w.logs, fmt.Sprintf("%v member %d %v below %d inc %d: %s", n.w.clock.now.Sub(time.Unix(1_700_000_000, 0)), mb.Rank, mb.State, mb.Parent, mb.Incarnation, mb.Reason))
	}
}

// A test message is [from, to, stamp]: stamp is the incarnation of to as the leader knew it when it sent, 0 from others.
func message(from, to int32, stamp uint64) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(from))
	b = binary.BigEndian.AppendUint32(b, uint32(to))
	return binary.BigEndian.AppendUint64(b, stamp)
}

// sendTo sends a test message from this node; false if it has no way.
func (n *node) sendTo(to int32) bool {
	link, ok := n.m.Route(to)
	if !ok {
		return false
	}
	n.step(overlay.Submit{Link: link, Payload: message(n.m.Rank(), to, n.state[to].Incarnation)})
	return true
}

// arrive takes a test message, or sends it on. What the leader sent to one incarnation must never reach a later one.
func (n *node) arrive(link overlay.ConnID, b []byte) {
	if _, ok := n.links[link]; !ok {
		n.w.t.Fatalf("%s: data over link %d, which is not up", n.name, link)
	}
	n.consume(link, len(b))
	from, to, stamp := int32(binary.BigEndian.Uint32(b)), int32(binary.BigEndian.Uint32(b[4:])), binary.BigEndian.Uint64(b[8:])
	if to != n.m.Rank() {
		if next, ok := n.m.RouteFrom(link, to); ok {
			n.step(overlay.Submit{Link: next, Payload: b})
		}
		return
	}
	if stamp != 0 && stamp != n.joined.Inc {
		n.w.t.Fatalf("rank %d, incarnation %d, gets what was sent to incarnation %d", to, n.joined.Inc, stamp)
	}
	n.w.got[fmt.Sprintf("%d>%d", from, to)]++
}

// consume gives credit back, late if the world is so, and never on the slow node.
func (n *node) consume(link overlay.ConnID, bytes int) {
	switch life := n.life; {
	case n.i == n.w.slow:
	case n.w.lag == 0:
		n.step(overlay.Consumed{Link: link, Bytes: bytes})
	default:
		n.w.clock.After(n.w.lag, func() {
			if n.life == life {
				n.step(overlay.Consumed{Link: link, Bytes: bytes})
			}
		})
	}
}

func (w *world) leader() *overlay.Machine { return w.nodes[0].m }

// checkWhole asserts that everyone alive is online, that the leader and all members agree, the tree has no cycle and no broker too
// many children, and that messages reach everybody from everybody asked.
func (w *world) checkWhole() {
	w.t.Helper()
	members := map[int32]overlay.Member{}
	for _, mb := range w.leader().Members() {
		members[mb.Rank] = mb
	}
	for _, n := range w.nodes {
		if !n.alive {
			continue
		}
		mb := members[n.m.Rank()]
		switch {
		case n.m.Rank() < 0 || !n.whole || !n.m.Whole():
			w.t.Fatalf("%s (rank %d) is not online: %s", n.name, n.m.Rank(), n.m.Describe())
		case mb.UUID != "uuid-"+n.name || mb.State != overlay.Online:
			w.t.Fatalf("the leader has rank %d as %+v, want %s online", n.m.Rank(), mb, n.name)
		case mb.Incarnation != n.joined.Inc || n.joined.Epoch != w.leader().Epoch():
			w.t.Fatalf("rank %d: the leader has incarnation %d epoch %d, itself %+v", mb.Rank, mb.Incarnation, w.leader().Epoch(), n.joined)
		case mb.Parent != n.m.Parent():
			w.t.Fatalf("rank %d: parent %d, the leader has %d", mb.Rank, n.m.Parent(), mb.Parent)
		case len(n.m.Children()) > w.fanout:
			w.t.Fatalf("rank %d has children %v", mb.Rank, n.m.Children())
		}
	}
	w.checkTree(members)
	w.checkRoutes()
}

func (w *world) checkTree(members map[int32]overlay.Member) {
	alive := map[string]bool{}
	for _, n := range w.nodes {
		alive["uuid-"+n.name] = n.alive
	}
	for _, mb := range members {
		if (mb.State == overlay.Online) != alive[mb.UUID] {
			w.t.Fatalf("member %+v, alive: %v", mb, alive[mb.UUID])
		}
		if mb.State != overlay.Online {
			continue
		}
		up := mb
		for depth := 0; up.Parent >= 0; depth++ {
			if depth > len(members) {
				w.t.Fatalf("a cycle above rank %d", mb.Rank)
			}
			up = members[up.Parent]
		}
	}
}

func (w *world) checkRoutes() {
	w.got = map[string]int{}
	want := map[string]int{}
	send := func(from, to *node) {
		if from == to || !from.alive || !to.alive {
			return
		}
		if !from.sendTo(to.m.Rank()) {
			w.t.Fatalf("rank %d has no route to %d", from.m.Rank(), to.m.Rank())
		}
		want[fmt.Sprintf("%d>%d", from.m.Rank(), to.m.Rank())]++
	}
	for i, n := range w.nodes {
		send(w.nodes[0], n)
		send(n, w.nodes[0])
		send(n, w.nodes[(i*7+3)%len(w.nodes)])
	}
	w.clock.run(300 * time.Millisecond)
	for k, v := range want {
		if w.got[k] != v {
			w.t.Fatalf("messages %s: %d of %d arrived", k, w.got[k], v)
		}
	}
}

func TestATreeOfSevenStands(t *testing.T) {
	w := newWorld(t, 7, 2, 1)
	w.startAll()
	w.clock.run(200 * time.Millisecond)
	w.checkWhole()
	require.Equal(t, []int32{1, 2}, w.nodes[0].m.Children())
	require.Equal(t, []int32{5, 6}, w.nodes[2].m.Children())
}

func TestAThousandBrokersStand(t *testing.T) {
	w := newWorld(t, 1000, 32, 1)
	w.every = 97
	w.startAll()
	w.clock.run(time.Second)
	start := w.steps
	w.checkWhole()
	w.clock.run(20 * time.Second)
	require.Equal(t, 1000, len(w.leader().Members()))
	t.Logf("%d steps to stand and route, %d in 20 s of quiet", start, w.steps-start)
}

func (n *node) leave() { n.step(overlay.Leave{}) }
