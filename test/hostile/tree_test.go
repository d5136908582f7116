package hostile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/unix"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/overlay/zmq"
	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

// Parts of ZeroMQ's protocol (its RFC 23): a greeting of 64 bytes, then commands and messages.
func greeting(mechanism string) []byte {
	b := make([]byte, 64)
	b[0], b[9], b[10] = 0xff, 0x7f, 3
	copy(b[12:32], mechanism)
	return b
}

const (
	zmqReady   = "\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x01x"
	zmqMessage = "\x00\x05hello"
)

func badBytesOnThePorts(t *testing.T, in *instance) {
	noise := make([]byte, 100_000)
	src := rand.NewChaCha8([32]byte{2})
	_, _ = src.Read(noise)
	for name, bytes := range map[string][]byte{
		"nothing":                               nil,
		"an http request":                       []byte("GET / HTTP/1.0\r\n\r\n"),
		"noise":                                 noise,
		"zeros":                                 make([]byte, 100_000),
		"the first bytes of a proof":            []byte("frond\x00u"),
		"a nonce without a proof":               append([]byte("frond\x00u1"), noise[:32]...),
		"a proof that is noise":                 append([]byte("frond\x00u1"), noise[:64]...),
		"a proof that is noise, and more":       append([]byte("frond\x00u1"), noise...),
		"a greeting that ends early":            greeting("CURVE")[:20],
		"a greeting and noise":                  append(greeting("CURVE"), noise...),
		"a greeting of an unknown mechanism":    append(greeting("TRUSTME"), zmqReady...),
		"a peer without CURVE":                  append(append(greeting("NULL"), zmqReady...), zmqMessage...),
		"a CURVE hello of the wrong size":       append(greeting("CURVE"), "\x04\x06\x05HELLO"...),
		"a CURVE hello with the wrong contents": append(append(greeting("CURVE"), "\x04\xc8\x05HELLO\x01\x00"...), make([]byte, 192)...),
		"a frame that says it has 2^63 bytes":   append(greeting("NULL"), "\x02\x7f\xff\xff\xff\xff\xff\xff\xffhello"...),
	} {
		t.Run(name, func(t *testing.T) {
			for rank := range brokers {
				nc, err := net.Dial("unix", in.port(rank))
				require.NoError(t, err)
				_, _ = nc.Write(bytes)
				_ = nc.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
				_, _ = io.Copy(io.Discard, nc)
				nc.Close()
			}
			in.serves(t)
		})
	}
	t.Run("200 connections that say nothing", func(t *testing.T) {
		for range 200 {
			nc, err := net.Dial("unix", in.port(0))
			require.NoError(t, err)
			defer nc.Close()
		}
		in.serves(t)
	})
}

// peer is a broker's transport as a client of a broker's port.
type peer struct {
	t   *testing.T
	tr  overlay.Transport
	evs chan any
}

func dialPort(t *testing.T, in *instance, cert zmq.Cert, rank int) *peer {
	t.Helper()
	p := &peer{t: t, evs: make(chan any, 1000)}
	var err error
	if in.transport == boot.ZeroMQ {
		p.tr, err = zmq.New(zmq.Config{Cert: cert, Sink: p.take})
	} else {
		p.tr, err = unix.New(unix.Config{Secret: cert.Secret, Sink: p.take})
	}
	require.NoError(t, err)
	t.Cleanup(func() { p.tr.Close() })
	p.tr.Dial(1, in.treeAddr(rank))
	return p
}

func (p *peer) take(evs []any) {
	for _, ev := range evs {
		p.evs <- ev
	}
}

// next is the next event.
func (p *peer) next() any {
	p.t.Helper()
	select {
	case ev := <-p.evs:
		return ev
	case <-time.After(patience):
		require.FailNow(p.t, "nothing comes")
		return nil
	}
}

// refused waits until the peer is told this, or with nothing to be told for the connection's end.
func (p *peer) refused(says string) {
	p.t.Helper()
	for {
		switch ev := p.next().(type) {
		case overlay.ConnDown:
			require.Empty(p.t, says, "it is not told why")
			return
		case overlay.ConnData:
			if ev.Frame[0] == kindBye {
				require.Contains(p.t, string(ev.Frame[9:]), says)
				return
			}
		}
	}
}

func strangers(t *testing.T, in *instance) {
	for rank := range brokers {
		other, err := zmq.NewCert()
		require.NoError(t, err)
		down, ok := dialPort(t, in, other, rank).next().(overlay.ConnDown)
		require.True(t, ok, "a peer with the certificate of another instance was let in")
		require.Contains(t, down.Reason, "another certificate")
		in.serves(t)
	}
	require.True(t, harness.Until(patience, func() bool { return strings.Contains(in.log(t, 3), "without this instance's certificate") }))
	fi, err := os.Stat(filepath.Join(in.rundir(), "cert"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), fi.Mode())
}

func (in *instance) cert(t *testing.T) zmq.Cert {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(in.rundir(), "cert"))
	require.NoError(t, err)
	cert, err := zmq.ParseCert(text)
	require.NoError(t, err)
	return cert
}

// Kinds of link frames (overlay/frame.go).
const (
	kindHello, kindBye, kindKeep, kindCredit, kindData, kindJoined, kindPlace, kindGone = 1, 2, 3, 4, 5, 9, 11, 13
	kindJoin                                                                            = 8
	wantChild, wantGuest                                                                = 1, 2
)

// linkFrame makes a link frame; parts become a msgpack array.
func linkFrame(kind byte, seq uint64, parts ...any) []byte {
	var payload []byte
	if len(parts) > 0 {
		payload, _ = msgpack.Marshal(parts)
	}
	return rawFrame(kind, seq, payload)
}

func rawFrame(kind byte, seq uint64, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{kind}, seq), payload...)
}

func helloFrame(protocol int, want, rank int, uuid string) []byte {
	return linkFrame(kindHello, 1, protocol, "attacker", want, 0, rank, 1, uuid, []int32{}, 1<<20, false)
}

func badPeers(t *testing.T, in *instance) {
	nest := bytes.Repeat([]byte{0x91}, 15<<20)
	child, guest := helloFrame(wire.Protocol, wantChild, 50, "u"), helloFrame(wire.Protocol, wantGuest, -1, "u")
	for _, row := range []struct {
		name   string
		frames [][]byte
		bye    string // what the peer is told, if it is told anything
	}{
		{"an empty frame", [][]byte{{}}, ""},
		{"a frame that is too short", [][]byte{[]byte("abc")}, ""},
		{"noise", [][]byte{bytes.Repeat([]byte("noise"), 1000)}, ""},
		{"a kind that is unknown", [][]byte{rawFrame(200, 1, nil)}, ""},
		{"data before a hello", [][]byte{rawFrame(kindData, 1, []byte("x"))}, ""},
		{"a sequence with a gap", [][]byte{linkFrame(kindHello, 7)}, ""},
		{"an empty hello", [][]byte{linkFrame(kindHello, 1)}, ""},
		{"a hello of four billion elements", [][]byte{rawFrame(kindHello, 1, []byte("\xdd\xff\xff\xff\xff"))}, ""},
		{"a hello that nests without end", [][]byte{rawFrame(kindHello, 1, nest)}, ""},
		{"a hello of another time", [][]byte{helloFrame(wire.Protocol+5, wantChild, 50, "u")}, "speaks protocol 6"},
		{"a hello without a uuid", [][]byte{helloFrame(wire.Protocol, wantChild, 50, "")}, "no uuid"},
		{"a hello that wants nonsense", [][]byte{helloFrame(wire.Protocol, 77, 50, "u")}, "neither a parent nor a place"},
		{"a child with a negative rank", [][]byte{helloFrame(wire.Protocol, wantChild, -5, "u")}, "needs a rank"},
		{"a child that claims the rank of the broker itself", [][]byte{helloFrame(wire.Protocol, wantChild, 2, "u")}, "held by another process"},
		{"a second hello", [][]byte{child, helloFrame(wire.Protocol, wantChild, 50, "u")}, ""},
		{"data before a join", [][]byte{child, rawFrame(kindData, 2, []byte("x"))}, ""},
		{"credit that was never given", [][]byte{child, rawFrame(kindCredit, 2, []byte{0xff, 0xff, 0xff, 0xff})}, ""},
		{"credit of one byte", [][]byte{child, rawFrame(kindCredit, 2, []byte{1})}, ""},
		{"a join that is noise", [][]byte{child, rawFrame(kindJoin, 2, []byte("noise"))}, ""},
		{"a join that nests without end", [][]byte{child, rawFrame(kindJoin, 2, nest)}, ""},
		{"a join as another rank", [][]byte{child, linkFrame(kindJoin, 2, "u", 51, 1, 0, 0, []any{})}, ""},
		{"gone that is noise", [][]byte{child, rawFrame(kindGone, 2, []byte("\xdd\xff"))}, ""},
		{"a place that is noise", [][]byte{guest, rawFrame(kindPlace, 2, []byte("\xc1"))}, ""},
		{"a joined, which only travels down", [][]byte{child, linkFrame(kindJoined, 2, "u", 1, 1, 1, []string{})}, ""},
		{"a frame over the limit", [][]byte{make([]byte, wire.MaxFrame+1<<20)}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := dialPort(t, in, in.cert(t), 2)
			require.IsType(t, overlay.ConnUp{}, p.next())
			for _, f := range row.frames {
				p.tr.Send(1, bytes.Clone(f))
			}
			p.refused(row.bye)
			in.serves(t)
		})
	}
	t.Run("a child that takes the rank of another", func(t *testing.T) {
		p := dialPort(t, in, in.cert(t), 2)
		require.IsType(t, overlay.ConnUp{}, p.next())
		p.tr.Send(1, helloFrame(wire.Protocol, wantChild, 3, "an impostor"))
		p.tr.Send(1, linkFrame(kindJoin, 2, "an impostor", 3, 1<<62, 2, 1<<62, []any{"h", "b", 1, "a", "v", []byte{}}))
		time.Sleep(100 * time.Millisecond)
		in.serves(t)
		require.Contains(t, in.frond(t, "dmesg"), "ranks are not reused")
	})
	t.Run("frames of noise in their right order", func(t *testing.T) {
		src := rand.New(rand.NewPCG(3, 4))
		for i := range 40 {
			p := dialPort(t, in, in.cert(t), i%brokers)
			require.IsType(t, overlay.ConnUp{}, p.next())
			p.tr.Send(1, helloFrame(wire.Protocol, wantChild+i%2, 50+i, fmt.Sprint("u", i)))
			body := noiseBody(src)
			body[0] = 0x90 | body[0]&0xf
			p.tr.Send(1, rawFrame(byte(2+src.IntN(16)), 2, body))
			p.tr.Send(1, rawFrame(byte(2+src.IntN(16)), 3, noiseBody(src)))
		}
		in.serves(t)
	})
}

// badMember joins as a broker of its own and then sends what no broker would.
func badMember(t *testing.T, in *instance) {
	good := request(api.Ping.Topic, 1, nil)
	good.Route = []wire.Hop{{Rank: wire.LocalRank, Inc: 1 << 20}}
	long := request(api.Ping.Topic, 1, nil)
	long.Route = make([]wire.Hop, wire.MaxRoute)
	deep := request(api.ExecSync.Topic, 1, append([]byte("\x81\xa1x"), bytes.Repeat([]byte{0x91}, 4<<20)...))
	deep.Route = []wire.Hop{{Rank: wire.LocalRank, Inc: 1}}
	encode := func(m *wire.Message) []byte {
		b, err := wire.Encode(m)
		require.NoError(t, err)
		return b
	}
	for _, row := range []struct {
		name string
		sent []byte
		ends bool // the link
	}{
		{"noise", []byte("noise"), true},
		{"half a message", encode(good)[:9], true},
		{"nothing", nil, true},
		{"a request without a route", encode(request(api.Ping.Topic, 1, nil)), false},
		{"a request with the longest route", encode(long), false},
		{"a request with a body that nests without end", encode(deep), false},
		{"an answer that nobody asked for", encode(&wire.Message{Type: wire.Response, Tag: 5, Route: good.Route}), false},
		{"an event from below", encode(&wire.Message{Type: wire.Event, Topic: "x", Epoch: 99, Seq: 1 << 60}), false},
		{"the order to stop from below", encode(&wire.Message{Type: wire.Control, Topic: api.TopicStop}), false},
		{"events asked for from the end of time", encode(&wire.Message{Type: wire.Control, Topic: api.TopicEventSync, Epoch: 1 << 60, Seq: 1 << 60}), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := join(t, in)
			m.submit(row.sent)
			if row.ends {
				m.until(func(ev any) bool { _, down := ev.(overlay.LinkDown); return down })
			} else {
				m.submit(encode(good))
				m.until(func(ev any) bool {
					d, ok := ev.(overlay.Deliver)
					return ok && bytes.Contains(d.Payload, []byte("rank"))
				})
			}
			m.leave()
			require.True(t, harness.Until(patience, func() bool { return len(in.members(t)[1].Children) == 1 }))
			in.serves(t)
		})
	}
}

// member is a broker made of the overlay's machine alone, without a single service.
type member struct {
	t    *testing.T
	m    *overlay.Machine
	p    *peer
	link overlay.ConnID
	wake time.Time
	acts []any // not yet looked at by until
}

// join makes a member that offers nonsense as its resources.
func join(t *testing.T, in *instance) *member {
	t.Helper()
	m := &member{t: t, p: dialPort(t, in, in.cert(t), 1)}
	m.p.tr.CloseConn(1)
	m.m = overlay.New(overlay.Config{Rank: -1, UUID: fmt.Sprint(t.Name(), time.Now()), Fanout: 2, Fallback: []string{in.treeAddr(0)}, Rand: uint64(time.Now().UnixNano()),
		Info: overlay.Info{Hostname: strings.Repeat("h", 300), PID: -1, Addr: "ipc:///nowhere", Resources: []byte("\x91\x91\xc1 nonsense")}})
	m.step(overlay.Begin{})
	m.until(func(ev any) bool { _, ok := ev.(overlay.Joined); return ok })
	require.NotZero(t, m.link)
	return m
}

func (m *member) step(ev any) {
	for _, act := range m.m.Step(time.Now(), ev) {
		switch a := act.(type) {
		case overlay.Dial:
			m.p.tr.Dial(a.Conn+1, a.Addr) // 1 was dialPort's
		case overlay.Send:
			m.p.tr.Send(a.Conn+1, bytes.Clone(a.Frame))
		case overlay.CloseConn:
			m.p.tr.CloseConn(a.Conn + 1)
		case overlay.WakeAt:
			m.wake = a.T
		case overlay.LinkUp:
			m.link = a.Link
		}
		m.acts = append(m.acts, act)
	}
}

// until runs the machine until it does something.
func (m *member) until(found func(act any) bool) {
	m.t.Helper()
	for end := time.After(patience); ; {
		for len(m.acts) > 0 {
			act := m.acts[0]
			if m.acts = m.acts[1:]; found(act) {
				return
			}
		}
		select {
		case ev := <-m.p.evs:
			m.event(ev)
		case <-time.After(time.Until(m.wake)):
			m.step(overlay.Tick{})
		case <-end:
			require.FailNow(m.t, "the member waits in vain")
		}
	}
}

func (m *member) event(ev any) {
	switch e := ev.(type) {
	case overlay.ConnUp:
		e.Conn--
		m.step(e)
	case overlay.ConnData:
		e.Conn--
		m.step(e)
	case overlay.ConnDown:
		e.Conn--
		m.step(e)
	}
}

func (m *member) submit(payload []byte) { m.step(overlay.Submit{Link: m.link, Payload: payload}) }

// leave ends the member without a word.
func (m *member) leave() { m.p.tr.Close() }
