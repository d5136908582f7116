package local

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a sink that answers every request with its body, and knows who is there.
type echo struct {
	mu     sync.Mutex
	here   map[uint64]bool
	mute   bool
	silent bool // does not say Handled
	got    int
}

func (e *echo) ClientUp(c *Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.here[c.ID] = true
}

func (e *echo) ClientDown(c *Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.here, c.ID)
}

func (e *echo) ClientMessages(c *Conn, msgs []*wire.Message, size int) {
	e.mu.Lock()
	e.got += len(msgs)
	mute, silent := e.mute, e.silent
	e.mu.Unlock()
	if !silent {
		defer c.Handled(size)
	}
	if mute {
		return
	}
	for _, m := range msgs {
		c.Send(&wire.Message{Type: wire.Response, Tag: m.Tag, Body: m.Body})
	}
}

func (e *echo) clients() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.here)
}

func serve(t testing.TB, change func(*Config)) (*Server, *echo) {
	e := &echo{here: map[uint64]bool{}}
	cfg := Config{Path: filepath.Join(t.TempDir(), "0", "local"), Sink: e, FirstID: 100,
		Hello: func() api.Hello { return api.Hello{Protocol: wire.Protocol, Version: "v", Host: "h", Rank: 3} }}
	if change != nil {
		change(&cfg)
	}
	s, err := Listen(cfg)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { s.Serve(); close(done) }()
	t.Cleanup(func() { s.Close(nil); <-done })
	return s, e
}

// peer is a client made of bytes.
type peer struct {
	t  testing.TB
	nc net.Conn
	rd *bufio.Reader
}

func connect(t testing.TB, s *Server) *peer {
	nc, err := net.Dial("unix", s.cfg.Path)
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	require.NoError(t, nc.SetDeadline(time.Now().Add(time.Minute)))
	return &peer{t, nc, bufio.NewReader(nc)}
}

func (p *peer) send(m *wire.Message) {
	b, err := appendMessage(nil, m)
	require.NoError(p.t, err)
	_, err = p.nc.Write(b)
	require.NoError(p.t, err)
}

func (p *peer) read() *wire.Message {
	frame, err := wire.ReadFrame(p.rd)
	require.NoError(p.t, err)
	m, err := wire.Decode(frame)
	require.NoError(p.t, err)
	return m
}

// refusal reads the last message and the end of the connection.
func (p *peer) refusal() *wire.Message {
	m := p.read()
	require.Equal(p.t, api.TopicError, m.Topic)
	_, err := p.rd.ReadByte()
	require.Error(p.t, err, "the connection ends")
	return m
}

func (p *peer) hello(protocol int) {
	body, err := msgpack.Marshal(&api.Hello{Protocol: protocol, Version: "old", Host: "theirs"})
	require.NoError(p.t, err)
	p.send(&wire.Message{Type: wire.Control, Topic: api.TopicHello, Body: body})
}

// greeted is a client that has been admitted.
func greeted(t testing.TB, s *Server) *peer {
	p := connect(t, s)
	p.hello(wire.Protocol)
	require.Equal(t, api.TopicHello, p.read().Topic)
	return p
}

func (p *peer) works() {
	p.send(&wire.Message{Type: wire.Request, Topic: "a.b", Tag: 9, Body: []byte("x")})
	require.Equal(p.t, wire.Message{Type: wire.Response, Tag: 9, Body: []byte("x")}, *p.read())
}

func TestAnAdmittedClientIsAnswered(t *testing.T) {
	s, e := serve(t, nil)
	p := greeted(t, s)
	p.works()
	require.Equal(t, 1, e.clients())
	p.nc.Close()
	require.Eventually(t, func() bool { return e.clients() == 0 && s.Clients() == 0 }, time.Minute, time.Millisecond)
}

func TestTheDirectoryIsClosedToOthers(t *testing.T) {
	s, _ := serve(t, nil)
	st, err := os.Stat(filepath.Dir(s.cfg.Path))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), st.Mode().Perm())
}

func TestAnotherUIDIsRefused(t *testing.T) {
	s, e := serve(t, func(c *Config) { c.AllowUID = func(uid uint32) bool { return uid != uint32(os.Getuid()) } })
	m := connect(t, s).refusal()
	require.Equal(t, wire.Denied, m.Code)
	require.Contains(t, m.Text, "belongs to uid")
	require.Zero(t, e.clients())
}

func TestProtocolsMayDifferByOne(t *testing.T) {
	s, _ := serve(t, nil)
	for _, d := range []int{-1, 0, 1} {
		p := connect(t, s)
		p.hello(wire.Protocol + d)
		require.Equal(t, api.TopicHello, p.read().Topic)
		p.works()
	}
	for _, d := range []int{-2, 2, 1000} {
		p := connect(t, s)
		p.hello(wire.Protocol + d)
		m := p.refusal()
		require.Equal(t, wire.BadProtocol, m.Code)
		require.Contains(t, m.Text, fmt.Sprintf("theirs (frond old) speaks protocol %d", wire.Protocol+d))
		require.Contains(t, m.Text, fmt.Sprintf("this side protocol %d", wire.Protocol))
	}
}

func TestOneClientTooManyIsToldTheLimit(t *testing.T) {
	s, _ := serve(t, func(c *Config) { c.MaxClients = 3 })
	var last *peer
	for range 3 {
		last = greeted(t, s)
	}
	m := connect(t, s).refusal()
	require.Equal(t, wire.Busy, m.Code)
	require.Contains(t, m.Text, "3 clients, which is the limit")
	last.nc.Close()
	require.Eventually(t, func() bool { return s.Clients() == 2 }, time.Minute, time.Millisecond)
	greeted(t, s).works()
}

func TestBadBytesGetAnErrorAndOthersAreServed(t *testing.T) {
	s, _ := serve(t, nil)
	other := greeted(t, s)
	frame := func(b string) string { return string(wire.AppendFrame(nil, []byte(b))) }
	good, err := appendMessage(nil, &wire.Message{Type: wire.Request, Topic: "a.b"})
	require.NoError(t, err)
	for _, row := range []struct {
		name, bytes string
		hello       bool
		code        wire.Code
		says        string
	}{
		{"bytes that are no frame", frame("hello"), true, wire.Invalid, "decode frame"},
		{"an empty frame", "\x00\x00\x00\x00", true, wire.Invalid, "0 bytes"},
		{"a frame over the limit", "\x01\x00\x00\x01xx", true, wire.TooLarge, "16777217 bytes"},
		{"an http request", "GET / HTTP/1.0\r\n\r\n", false, wire.TooLarge, "over the limit"},
		{"a request before the hello", string(good), false, wire.BadProtocol, "first message is a hello"},
		{"a frame that ends in its middle", string(good[:len(good)-2]), true, wire.Invalid, "inside a frame"},
		{"a length that ends in its middle", "\x00\x00", true, wire.Invalid, "inside a frame"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := connect(t, s)
			if row.hello {
				p.hello(wire.Protocol)
				p.read()
			}
			_, err := io.WriteString(p.nc, row.bytes)
			require.NoError(t, err)
			require.NoError(t, p.nc.(*net.UnixConn).CloseWrite())
			m := p.refusal()
			require.Equal(t, row.code, m.Code)
			require.Contains(t, m.Text, row.says)
			other.works()
		})
	}
}

func TestFramesMayComeInAnyPieces(t *testing.T) {
	s, _ := serve(t, nil)
	p := greeted(t, s)
	big := bytes.Repeat([]byte("0123456789"), 50_000)
	msg, err := appendMessage(nil, &wire.Message{Type: wire.Request, Topic: "a.b", Tag: 1, Body: big})
	require.NoError(t, err)
	go func() {
		for i := 0; i < len(msg); i += 77_777 {
			_, _ = p.nc.Write(msg[i:min(i+77_777, len(msg))])
		}
	}()
	require.Equal(t, big, p.read().Body)
	small, err := appendMessage(nil, &wire.Message{Type: wire.Request, Topic: "a.b", Tag: 2})
	require.NoError(t, err)
	for _, b := range small {
		_, err := p.nc.Write([]byte{b})
		require.NoError(t, err)
	}
	require.Equal(t, uint64(2), p.read().Tag)
	_, err = p.nc.Write(bytes.Repeat(small, 5000))
	require.NoError(t, err)
	for range 5000 {
		require.Equal(t, uint64(2), p.read().Tag)
	}
}

func TestAClientThatDoesNotReadIsDisconnectedWithTheReason(t *testing.T) {
	s, e := serve(t, func(c *Config) { c.MaxUnread = 1 << 20 })
	p := greeted(t, s)
	req, err := appendMessage(nil, &wire.Message{Type: wire.Request, Topic: "a.b", Body: make([]byte, 100_000)})
	require.NoError(t, err)
	go func() {
		for range 40 {
			if _, err := p.nc.Write(req); err != nil {
				return
			}
		}
	}()
	require.Eventually(t, func() bool { return full(s) }, time.Minute, time.Millisecond)
	var m *wire.Message
	for m = p.read(); m.Type == wire.Response; m = p.read() {
	}
	require.Equal(t, wire.TooLarge, m.Code)
	require.Contains(t, m.Text, "1048576 bytes unread")
	require.Eventually(t, func() bool { return e.clients() == 0 }, time.Minute, time.Millisecond)
}

// full tells whether the only client has been given up.
func full(s *Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.over
	}
	return false
}

func TestAClientThatNeverReadsAtAllIsGoneAfterAMoment(t *testing.T) {
	s, e := serve(t, func(c *Config) { c.MaxUnread = 1 << 20 })
	p := greeted(t, s)
	req, err := appendMessage(nil, &wire.Message{Type: wire.Request, Topic: "a.b", Body: make([]byte, 100_000)})
	require.NoError(t, err)
	for range 40 {
		if _, err := p.nc.Write(req); err != nil {
			break
		}
	}
	require.Eventually(t, func() bool { return e.clients() == 0 && s.Clients() == 0 }, time.Minute, 10*time.Millisecond)
}

func TestAClientIsNotReadFurtherThanTheBrokerKeepsUp(t *testing.T) {
	s, e := serve(t, nil)
	e.mu.Lock()
	e.mute, e.silent = true, true
	e.mu.Unlock()
	p := greeted(t, s)
	req, err := appendMessage(nil, &wire.Message{Type: wire.Request, Topic: "a.b", Body: make([]byte, 100_000)})
	require.NoError(t, err)
	require.NoError(t, p.nc.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
	for err == nil {
		_, err = p.nc.Write(req)
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Less(t, e.got*100_000, 2*readAhead)
}

func TestAHeldClientIsReadAgainWhenItIsLetGo(t *testing.T) {
	s, e := serve(t, nil)
	p := greeted(t, s)
	p.works()
	s.mu.Lock()
	var c *Conn
	for c = range s.conns {
	}
	s.mu.Unlock()
	c.Hold(true)
	p.works() // the reader was waiting for this already
	p.send(&wire.Message{Type: wire.Request, Topic: "a.b", Tag: 1})
	time.Sleep(50 * time.Millisecond)
	e.mu.Lock()
	require.Equal(t, 2, e.got)
	e.mu.Unlock()
	c.Hold(false)
	require.Equal(t, uint64(1), p.read().Tag)
}

func TestCloseGivesWhatIsQueuedAndTheReason(t *testing.T) {
	e := &echo{here: map[uint64]bool{}}
	s, err := Listen(Config{Path: filepath.Join(t.TempDir(), "local"), Sink: e, Hello: func() api.Hello { return api.Hello{Protocol: wire.Protocol} }})
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { s.Serve(); close(done) }()
	p := greeted(t, s)
	p.works()
	s.Close(wire.Errorf(wire.Unavailable, "over"))
	<-done
	require.Equal(t, "over", p.refusal().Text)
	_, err = os.Stat(s.cfg.Path)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Zero(t, e.clients())
}

func TestListenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, strings.Repeat("x", 120), "local")
	_, err := Listen(Config{Path: long})
	require.ErrorContains(t, err, "a unix socket's may have 107")
	s, _ := serve(t, nil)
	_, err = Listen(Config{Path: s.cfg.Path})
	require.ErrorContains(t, err, "another broker listens")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	_, err = Listen(Config{Path: filepath.Join(dir, "file", "local")})
	require.Error(t, err)
}

func TestTheSocketOfADeadBrokerIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "local")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	ln.SetUnlinkOnClose(false)
	ln.Close()
	s, _ := serve(t, func(c *Config) { c.Path = path })
	greeted(t, s).works()
}

func TestASplitterFindsTheSameFramesInAnyPieces(t *testing.T) {
	var stream []byte
	var want []string
	for i := range 50 {
		f := bytes.Repeat([]byte{byte(i)}, 1+i*i*7)
		want = append(want, string(f))
		stream = wire.AppendFrame(stream, f)
	}
	for _, size := range []int{1, 3, 4, 5, 1000, 1 << 20} {
		var s splitter
		var got []string
		for b := stream; len(b) > 0; {
			n := min(size, len(b))
			require.NoError(t, s.feed(b[:n], func(f []byte) error { got = append(got, string(f)); return nil }))
			b = b[n:]
		}
		require.Equal(t, want, got)
		require.False(t, s.inside())
	}
}

func FuzzSplitter(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01a"), 1)
	f.Add([]byte("\xff\xff\xff\xff"), 2)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		size = 1 + max(0, size)%100
		var s splitter
		var rest []byte
		var err error
		for in := b; len(in) > 0 && err == nil; in = in[min(size, len(in)):] {
			err = s.feed(in[:min(size, len(in))], func(f []byte) error { rest = wire.AppendFrame(rest, f); return nil })
		}
		if !bytes.HasPrefix(b, rest) {
			t.Fatalf("frames %x are not those of %x", rest, b)
		}
		if err == nil && s.inside() {
			rest = append(rest, s.head[:s.nhead]...)
			rest = append(rest, s.frame...)
			if !bytes.Equal(b, rest) {
				t.Fatalf("%x was made of %x", rest, b)
			}
		}
	})
}

// FuzzClient sends any bytes after a hello: the server answers or refuses, and serves the next client.
func FuzzClient(f *testing.F) {
	good, _ := appendMessage(nil, &wire.Message{Type: wire.Request, Topic: "a.b", Tag: 1, Body: []byte("x")})
	f.Add(good)
	f.Add(good[:7])
	f.Add([]byte("\x00\x00\x00\x05hello"))
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<31))
	s, _ := serve(f, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		p := greeted(t, s)
		if _, err := p.nc.Write(b); err != nil && !isGone(err) {
			t.Fatal(err)
		}
		_ = p.nc.(*net.UnixConn).CloseWrite()
		for {
			frame, err := wire.ReadFrame(p.rd)
			if err != nil {
				break
			}
			if _, err := wire.Decode(frame); err != nil {
				t.Fatalf("the server sent a malformed frame: %v", err)
			}
		}
		greeted(t, s).works()
	})
}

func isGone(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}
