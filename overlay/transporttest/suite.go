// Package transporttest is the conformance suite of overlay.Transport: overlay/unix, overlay/zmq and overlay/mem pass the same tests, so
// what is simulated over one holds over the others.
package transporttest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/frond-hpc/frond/overlay"
	"github.com/stretchr/testify/require"
)

// Kit makes what the suite tests.
type Kit struct {
	// New makes a transport for a node of that name; the suite closes it.
	New func(t *testing.T, name string, sink func(ev any)) overlay.Transport
	// Addr is where a node of that name can listen, more than once in turn.
	Addr func(name string) string
	// Silence makes nothing pass any more, without an end, on connections dialled to the address it returns for addr.
	Silence func(t *testing.T, addr string) (via string, silence func())
}

// limit is how long anything may take.
const limit = time.Minute

// atOnce is how long it may take until an end is known that the peer's host tells, on a busy machine: less than silence takes to be one.
const atOnce = 5 * time.Second

// node is a transport with what it reported.
type node struct {
	overlay.Transport
	t    *testing.T
	addr string
	next overlay.ConnID

	mu     sync.Mutex
	events []any
	change chan struct{} // one slot
}

func (k Kit) node(t *testing.T, name string) *node {
	n := &node{t: t, change: make(chan struct{}, 1)}
	n.Transport = k.New(t, name, n.sink)
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// listening makes a node that peers can dial at n.addr.
func (k Kit) listening(t *testing.T, name string) *node {
	n := k.node(t, name)
	addr, err := n.Listen(k.Addr(name))
	require.NoError(t, err)
	n.addr = addr
	return n
}

func (n *node) sink(ev any) {
	n.mu.Lock()
	n.events = append(n.events, ev)
	n.mu.Unlock()
	select {
	case n.change <- struct{}{}:
	default:
	}
}

// take waits for the first event that match accepts and removes it.
func (n *node) take(what string, match func(ev any) bool) any {
	n.t.Helper()
	timeout := time.After(limit)
	for {
		if ev := n.find(match); ev != nil {
			return ev
		}
		select {
		case <-n.change:
		case <-timeout:
			n.mu.Lock()
			defer n.mu.Unlock()
			n.t.Fatalf("no %s within %v; %d other events, first %.200v", what, limit, len(n.events), n.events[:min(3, len(n.events))])
		}
	}
}

func (n *node) find(match func(ev any) bool) any {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, ev := range n.events {
		if match(ev) {
			n.events = append(n.events[:i], n.events[i+1:]...)
			return ev
		}
	}
	return nil
}

func (n *node) accepted() overlay.ConnID {
	n.t.Helper()
	return n.take("accepted connection", func(ev any) bool { u, ok := ev.(overlay.ConnUp); return ok && u.Accepted }).(overlay.ConnUp).Conn
}

func (n *node) data(id overlay.ConnID) []byte {
	n.t.Helper()
	return n.take("frame", func(ev any) bool { d, ok := ev.(overlay.ConnData); return ok && d.Conn == id }).(overlay.ConnData).Frame
}

func (n *node) down(id overlay.ConnID) string {
	n.t.Helper()
	return n.take("end of connection", func(ev any) bool { d, ok := ev.(overlay.ConnDown); return ok && d.Conn == id }).(overlay.ConnDown).Reason
}

// dial connects to addr and waits until the connection stands.
func (n *node) dial(addr string) overlay.ConnID {
	n.t.Helper()
	n.next++
	id := n.next
	n.Dial(id, addr)
	n.take("connection", func(ev any) bool { u, ok := ev.(overlay.ConnUp); return ok && u.Conn == id && !u.Accepted })
	return id
}

// pair connects child to parent, with a first frame each way; the accepting side is known from then on.
func pair(parent, child *node, addr string) (down, up overlay.ConnID) {
	child.t.Helper()
	up = child.dial(addr)
	child.Send(up, []byte("hello"))
	down = parent.accepted()
	require.Equal(child.t, "hello", string(parent.data(down)))
	parent.Send(down, []byte("welcome"))
	require.Equal(child.t, "welcome", string(child.data(up)))
	return down, up
}

// Run runs the suite.
func Run(t *testing.T, k Kit) {
	for _, row := range []struct {
		name string
		test func(*testing.T, Kit)
	}{
		{"frames come in order, in both directions at once", order},
		{"frames of any size come whole", sizes},
		{"the parent hears that a child closed", childCloses},
		{"the child hears that its parent closed the connection", parentCloses},
		{"both ends of a process's connections hear that it ended", processEnds},
		{"a dial to nothing ends", dialToNothing},
		{"after a parent's restart a new dial works and the old connection is over", parentRestarts},
		{"a slow child does not block another", slowChild},
		{"two connections of one process are told apart", twoOfOne},
		{"a half-open connection is silent, can be closed and dialled anew", halfOpen},
		{"sending to connections that are over does no harm", sendToNothing},
		{"many children come and go", many},
		{"nothing works after Close", closed},
	} {
		t.Run(row.name, func(t *testing.T) { row.test(t, k) })
	}
}

func order(t *testing.T, k Kit) {
	a, b := k.listening(t, "a"), k.node(t, "b")
	down, up := pair(a, b, a.addr)
	const n = 5000
	for i := range uint32(n) {
		a.Send(down, binary.BigEndian.AppendUint32(nil, i))
		b.Send(up, binary.BigEndian.AppendUint32(nil, i))
	}
	for i := range uint32(n) {
		require.Equal(t, i, binary.BigEndian.Uint32(b.data(up)))
		require.Equal(t, i, binary.BigEndian.Uint32(a.data(down)))
	}
}

func sizes(t *testing.T, k Kit) {
	a, b := k.listening(t, "a"), k.node(t, "b")
	down, up := pair(a, b, a.addr)
	for _, size := range []int{1, 8, 255, 256, 8191, 8192, 65536, 1 << 20, overlay.MaxLinkFrame} {
		frame := bytes.Repeat([]byte{byte(size), 'x'}, size/2+1)[:size]
		b.Send(up, bytes.Clone(frame))
		require.True(t, bytes.Equal(frame, a.data(down)), "%d bytes up", size)
		a.Send(down, bytes.Clone(frame))
		require.True(t, bytes.Equal(frame, b.data(up)), "%d bytes down", size)
	}
}

func childCloses(t *testing.T, k Kit) {
	a, b, c := k.listening(t, "a"), k.node(t, "b"), k.node(t, "c")
	downB, upB := pair(a, b, a.addr)
	downC, upC := pair(a, c, a.addr)
	start := time.Now()
	b.CloseConn(upB)
	a.down(downB)
	require.Less(t, time.Since(start), atOnce)
	a.Send(downC, []byte("still"))
	require.Equal(t, "still", string(c.data(upC)), "the other child is not concerned")
}

func parentCloses(t *testing.T, k Kit) {
	a, b := k.listening(t, "a"), k.node(t, "b")
	down, up := pair(a, b, a.addr)
	a.CloseConn(down)
	b.down(up)
	b.Send(up, []byte("late"))
	pair(a, b, a.addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ev := range a.events {
		d, ok := ev.(overlay.ConnData)
		require.False(t, ok && d.Conn == down, "a frame came over a closed connection")
	}
}

func processEnds(t *testing.T, k Kit) {
	a, b, c := k.listening(t, "a"), k.listening(t, "b"), k.node(t, "c")
	down, _ := pair(a, b, a.addr)
	_, up := pair(b, c, b.addr)
	start := time.Now()
	require.NoError(t, b.Close())
	a.down(down)
	c.down(up)
	require.Less(t, time.Since(start), atOnce)
}

func dialToNothing(t *testing.T, k Kit) {
	a, b := k.listening(t, "a"), k.node(t, "b")
	require.NoError(t, a.Close())
	b.Dial(1, a.addr)
	require.NotEmpty(t, b.down(1))
	b.Dial(2, "bogus://nowhere")
	require.NotEmpty(t, b.down(2))
}

func parentRestarts(t *testing.T, k Kit) {
	a, b := k.listening(t, "a"), k.node(t, "b")
	_, old := pair(a, b, a.addr)
	require.NoError(t, a.Close())
	b.down(old)
	a2 := k.listening(t, "a")
	b.Send(old, []byte("into the void"))
	down, up := pair(a2, b, a2.addr)
	require.NotEqual(t, old, up)
	a2.Send(down, []byte("new"))
	require.Equal(t, "new", string(b.data(up)))
}

func slowChild(t *testing.T, k Kit) {
	a, slow, quick := k.listening(t, "a"), k.node(t, "slow"), k.node(t, "quick")
	downSlow, upSlow := pair(a, slow, a.addr)
	downQuick, upQuick := pair(a, quick, a.addr)
	const n, size = 500, 64 << 10
	for i := range uint32(n) {
		a.Send(downSlow, binary.BigEndian.AppendUint32(make([]byte, 0, size), i)[:size])
	}
	start := time.Now()
	a.Send(downQuick, []byte("quick"))
	require.Equal(t, "quick", string(quick.data(upQuick)))
	require.Less(t, time.Since(start), 20*time.Second)
	for i := range uint32(n) {
		require.Equal(t, i, binary.BigEndian.Uint32(slow.data(upSlow)))
	}
}

func twoOfOne(t *testing.T, k Kit) {
	a, b := k.listening(t, "a"), k.node(t, "b")
	down1, up1 := pair(a, b, a.addr)
	down2, up2 := pair(a, b, a.addr)
	require.NotEqual(t, down1, down2)
	b.Send(up1, []byte("one"))
	b.Send(up2, []byte("two"))
	require.Equal(t, "two", string(a.data(down2)))
	require.Equal(t, "one", string(a.data(down1)))
	b.CloseConn(up1)
	a.down(down1)
	a.Send(down2, []byte("stays"))
	require.Equal(t, "stays", string(b.data(up2)))
}

func halfOpen(t *testing.T, k Kit) {
	a, b := k.listening(t, "a"), k.node(t, "b")
	via, silence := k.Silence(t, a.addr)
	down, up := pair(a, b, via)
	silence()
	b.Send(up, []byte("lost"))
	a.Send(down, []byte("lost"))
	time.Sleep(100 * time.Millisecond)
	require.Nil(t, a.find(func(ev any) bool { d, ok := ev.(overlay.ConnData); return ok && d.Conn == down }))
	require.Nil(t, b.find(func(any) bool { return true }), "neither data nor an end")
	b.CloseConn(up)
	a.CloseConn(down)
	via, _ = k.Silence(t, a.addr)
	pair(a, b, via)
}

func sendToNothing(t *testing.T, k Kit) {
	a, b := k.listening(t, "a"), k.node(t, "b")
	for _, id := range []overlay.ConnID{77, overlay.AcceptedBit | 77} {
		a.Send(id, []byte("x"))
		a.CloseConn(id)
		b.Send(id, []byte("x"))
		b.CloseConn(id)
	}
	down, up := pair(a, b, a.addr)
	b.CloseConn(up)
	b.CloseConn(up)
	b.Send(up, []byte("x"))
	a.Send(down, []byte("x"))
	a.down(down)
	a.CloseConn(down)
	pair(a, b, a.addr)
}

func many(t *testing.T, k Kit) {
	a := k.listening(t, "a")
	type kid struct {
		*node
		down, up overlay.ConnID
	}
	var kids []kid
	for i := range 20 {
		b := k.node(t, fmt.Sprintf("kid%d", i))
		down, up := pair(a, b, a.addr)
		kids = append(kids, kid{b, down, up})
	}
	for _, c := range kids[:10] {
		require.NoError(t, c.Close())
	}
	for _, c := range kids[:10] {
		a.down(c.down)
	}
	for i, c := range kids[10:] {
		a.Send(c.down, []byte{byte(i)})
		require.Equal(t, []byte{byte(i)}, c.data(c.up))
	}
}

func closed(t *testing.T, k Kit) {
	a := k.listening(t, "a")
	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	_, err := a.Listen(k.Addr("a"))
	require.Error(t, err)
	a.Dial(1, a.addr)
	a.Send(1, nil)
	a.CloseConn(1)
}
