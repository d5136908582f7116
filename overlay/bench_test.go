package overlay

import (
	"testing"
	"time"
)

// BenchmarkHop measures one payload of 200 bytes down a link, with its credit coming back.
func BenchmarkHop(b *testing.B) {
	m := New(Config{Leader: true, UUID: "leader", Fanout: 2})
	now := epoch0
	m.Step(now, Begin{})
	m.Step(now, ConnUp{Conn: childConn, Accepted: true})
	h := childHello()
	h.Credit = 1 << 40
	m.Step(now, ConnData{childConn, buildFrame(kindHello, 1, pack(h))})
	m.Step(now, ConnData{childConn, buildFrame(kindJoin, 2, pack(join{UUID: "child", Rank: 1, Inc: 11}))})
	payload := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		if id, ok := m.Route(1); ok {
			m.Step(now, Submit{id, payload})
		}
	}
}

// BenchmarkKeepalive measures what a leader with 32 children does per period.
func BenchmarkKeepalive(b *testing.B) {
	m := New(Config{Leader: true, UUID: "leader", Fanout: 32})
	now := epoch0
	m.Step(now, Begin{})
	for i := range 32 {
		h := childHello()
		h.Rank, h.UUID = int32(i+1), string(rune('a'+i))
		conn := AcceptedBit | ConnID(i+1)
		m.Step(now, ConnUp{Conn: conn, Accepted: true})
		m.Step(now, ConnData{conn, buildFrame(kindHello, 1, pack(h))})
		m.Step(now, ConnData{conn, buildFrame(kindJoin, 2, pack(join{UUID: h.UUID, Rank: h.Rank, Inc: 11}))})
	}
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(2 * time.Second)
		for _, l := range m.links {
			l.lastRecv = now
		}
		m.Step(now, Tick{})
	}
}
