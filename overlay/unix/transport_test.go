package unix

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/transporttest"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// start makes a transport that is closed at the end of the test.
func start(t testing.TB, sink func(any), change ...func(*Config)) *Transport {
	cfg := Config{Secret: "ours", Sink: func(evs []any) {
		for _, ev := range evs {
			sink(ev)
		}
	}}
	for _, f := range change {
		f(&cfg)
	}
	tr, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// own is a directory of this user alone, with a short path.
func own(t testing.TB) string {
	dir, err := os.MkdirTemp("", "fu")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// listening makes a transport with an address.
func listening(t testing.TB, sink func(any), change ...func(*Config)) (tr *Transport, addr string) {
	tr = start(t, sink, change...)
	addr, err := tr.Listen(Scheme + filepath.Join(own(t), "s"))
	require.NoError(t, err)
	return tr, addr
}

func ignore(any) {}

func pathIn(addr string) string { return strings.TrimPrefix(addr, Scheme) }

func TestConformance(t *testing.T) {
	dir := own(t)
	var n atomic.Int32
	transporttest.Run(t, transporttest.Kit{
		New:  func(t *testing.T, _ string, sink func(any)) overlay.Transport { return start(t, sink) },
		Addr: func(name string) string { return Scheme + filepath.Join(dir, name) },
		Silence: func(t *testing.T, addr string) (string, func()) {
			via := filepath.Join(dir, fmt.Sprintf("via%d", n.Add(1)))
			return Scheme + via, transporttest.Proxy(t, "unix", via, pathIn(addr))
		},
	})
}

// next is the next event.
func next(t *testing.T, evs chan any) any {
	t.Helper()
	select {
	case ev := <-evs:
		return ev
	case <-time.After(patience):
		require.FailNow(t, "nothing comes")
		return nil
	}
}

// The last row shows that the test would see a peer that is let in.
func TestPeersThatDoNotBelongHereAreRefused(t *testing.T) {
	nobody := func(c *Config) { c.AllowUID = func(uint32) bool { return false } }
	theirs := func(c *Config) { c.Secret = "theirs" }
	asIs := func(*Config) {}
	for _, row := range []struct {
		name             string
		listener, dialer func(*Config)
		reason, log      string // what the dialling side is told, and what the listening side logs
	}{
		{"a peer with another secret", asIs, theirs, "another certificate", "without this instance's certificate was refused"},
		{"a peer of another uid", nobody, asIs, "another certificate", fmt.Sprintf("it is uid %d's", os.Getuid())},
		{"a listener of another uid", asIs, nobody, fmt.Sprintf("who listens there is uid %d's process", os.Getuid()), ""},
		{"a peer with the secret", asIs, asIs, "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			core, logs := observer.New(zap.WarnLevel)
			server, client := make(chan any, 16), make(chan any, 16)
			srv, addr := listening(t, func(ev any) { server <- ev }, row.listener, func(c *Config) { c.Log = zap.New(core) })
			start(t, func(ev any) { client <- ev }, row.dialer).Dial(1, addr)
			switch ev := next(t, client).(type) {
			case overlay.ConnUp:
				require.Empty(t, row.reason, "it was let in")
				require.IsType(t, overlay.ConnUp{}, next(t, server))
			case overlay.ConnDown:
				require.NotEmpty(t, row.reason)
				require.Contains(t, ev.Reason, row.reason)
				require.NoError(t, srv.Close()) // all that it has to say is said
				require.Empty(t, server)
				if row.log != "" {
					require.Equal(t, 1, logs.Len())
					require.Contains(t, logs.All()[0].Message, row.log)
				}
			}
		})
	}
}

// A listener that does not have the secret learns nothing and gets nothing.
func TestAListenerWithoutTheSecretIsNotBelieved(t *testing.T) {
	for _, row := range []struct {
		name string
		does func(nc net.Conn)
	}{
		{"it hangs up", func(net.Conn) {}},
		{"it speaks another protocol", func(nc net.Conn) { _, _ = nc.Write(bytes.Repeat([]byte("220 hello\r\n"), 20)) }},
		{"it sends the proof back", func(nc net.Conn) {
			_, _ = nc.Write(challenge())
			got := make([]byte, len(magic)+nonceLen+32)
			_, _ = io.ReadFull(nc, got)
			_, _ = nc.Write(got[len(got)-32:])
		}},
		{"it makes a proof up", func(nc net.Conn) {
			_, _ = nc.Write(challenge())
			_, _ = io.ReadFull(nc, make([]byte, len(magic)+nonceLen+32))
			_, _ = nc.Write(make([]byte, 32))
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(own(t), "s")
			ln, err := net.Listen("unix", path)
			require.NoError(t, err)
			defer ln.Close()
			evs := make(chan any, 16)
			start(t, func(ev any) { evs <- ev }).Dial(1, Scheme+path)
			nc, err := ln.Accept()
			require.NoError(t, err)
			row.does(nc)
			nc.Close()
			down, ok := next(t, evs).(overlay.ConnDown)
			require.True(t, ok, "it was believed")
			require.Contains(t, down.Reason, "no broker of this instance answers there")
		})
	}
}

// A proof that was heard on the way serves nobody: the listener's nonce is another each time.
func TestAProofServesOnce(t *testing.T) {
	server := make(chan any, 16)
	tr, addr := listening(t, func(ev any) { server <- ev })
	say := func(answer func(nonce []byte) []byte) (ok bool, said []byte) {
		nc, err := net.Dial("unix", pathIn(addr))
		require.NoError(t, err)
		defer nc.Close()
		nonce, _, err := hear(nc, 0)
		require.NoError(t, err)
		said = answer(nonce)
		_, err = nc.Write(said)
		require.NoError(t, err)
		n, _ := io.ReadFull(nc, make([]byte, 32))
		return n == 32, said
	}
	mine := challenge()
	ok, said := say(func(nonce []byte) []byte {
		return append(bytes.Clone(mine), tr.proof("dialler", nonce, mine[len(magic):])...)
	})
	require.True(t, ok)
	require.IsType(t, overlay.ConnUp{}, next(t, server))
	require.IsType(t, overlay.ConnDown{}, next(t, server))
	ok, _ = say(func([]byte) []byte { return said })
	require.False(t, ok, "the same proof was taken again")
	require.Empty(t, server)
}

func TestBytesThatAreNoHandshakeDoNoHarm(t *testing.T) {
	server := make(chan any, 16)
	_, addr := listening(t, func(ev any) { server <- ev })
	for _, garbage := range [][]byte{
		nil, []byte("GET / HTTP/1.0\r\n\r\n"), make([]byte, 100_000), []byte(magic), []byte(magic[:3]), challenge(), append(challenge(), make([]byte, 31)...),
		append(challenge(), make([]byte, 100_000)...), {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0},
	} {
		nc, err := net.Dial("unix", pathIn(addr))
		require.NoError(t, err)
		_, _ = nc.Write(garbage)
		_ = nc.(*net.UnixConn).CloseWrite()
		_, _ = io.Copy(io.Discard, nc) // the listener hangs up
		nc.Close()
	}
	require.Empty(t, server)
	client := make(chan any, 16)
	start(t, func(ev any) { client <- ev }).Dial(1, addr)
	require.Equal(t, overlay.ConnUp{Conn: 1}, next(t, client))
}

// raw is a peer that has proved itself, made of bytes.
func raw(t *testing.T, tr *Transport, addr string) *net.UnixConn {
	nc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: pathIn(addr), Net: "unix"})
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	rc, err := nc.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, tr.introduce(nc, rc))
	return nc
}

func TestFramesComeInAnyPieces(t *testing.T) {
	server := make(chan any, 10_000)
	tr, addr := listening(t, func(ev any) { server <- ev })
	nc := raw(t, tr, addr)
	require.IsType(t, overlay.ConnUp{}, next(t, server))
	var all []byte
	var want [][]byte
	for _, size := range []int{0, 1, 3, 4, 5, 70_000, 0, 1024, 0} {
		frame := bytes.Repeat([]byte{byte(size)}, size)
		all = append(binary.BigEndian.AppendUint32(all, uint32(size)), frame...)
		want = append(want, frame)
	}
	for _, piece := range []int{1, 3, 77, 4096, len(all)} {
		for i := 0; i < len(all); i += piece {
			_, err := nc.Write(all[i:min(i+piece, len(all))])
			require.NoError(t, err)
		}
		for i, f := range want {
			require.True(t, bytes.Equal(f, next(t, server).(overlay.ConnData).Frame), "frame %d in pieces of %d", i, piece)
		}
	}
}

func TestBadFramesEndTheirConnectionAlone(t *testing.T) {
	server := make(chan any, 100)
	tr, addr := listening(t, func(ev any) { server <- ev })
	other := raw(t, tr, addr)
	require.IsType(t, overlay.ConnUp{}, next(t, server))
	for _, row := range []struct{ name, bytes, reason string }{
		{"a frame over the limit", "\x01\x00\x00\x40xx", "a frame of 16777280 bytes, the limit is"},
		{"a frame of four gigabytes", "\xff\xff\xff\xff", "a frame of 4294967295 bytes"},
		{"a frame that ends in its middle", "\x00\x00\x00\x05abc", "ended"},
		{"a length that ends in its middle", "\x00\x00", "ended"},
		{"an http request", "GET / HTTP/1.0\r\n\r\n", "bytes, the limit is"},
	} {
		t.Run(row.name, func(t *testing.T) {
			nc := raw(t, tr, addr)
			up := next(t, server).(overlay.ConnUp)
			_, err := io.WriteString(nc, row.bytes)
			require.NoError(t, err)
			require.NoError(t, nc.CloseWrite())
			down := next(t, server).(overlay.ConnDown)
			require.Equal(t, up.Conn, down.Conn)
			require.Contains(t, down.Reason, row.reason)
			_, err = io.WriteString(other, "\x00\x00\x00\x02ok")
			require.NoError(t, err)
			require.Equal(t, "ok", string(next(t, server).(overlay.ConnData).Frame))
		})
	}
}

func TestListen(t *testing.T) {
	tr := start(t, ignore)
	_, used := listening(t, ignore)
	for _, row := range []struct{ name, addr, err string }{
		{"a socket path over the limit is refused with its length", Scheme + "/" + strings.Repeat("x", 120), "the path has 121 bytes, a unix socket's may have 107"},
		{"another scheme is refused", "ipc:///x", "not a unix:///… address"},
		{"a relative path is refused", "unix://x", "not a unix:///… address"},
		{"a directory that cannot be made is an error", "unix:///dev/null/frond", "listen on unix:///dev/null/frond: make the socket's directory"},
		{"an address in use is refused", used, "another broker listens on it"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := tr.Listen(row.addr)
			require.ErrorContains(t, err, row.err)
		})
	}
	_, err := New(Config{Sink: func([]any) {}})
	require.ErrorContains(t, err, "no secret")
}

// Frames that are sent at once by many, and from within the sink, arrive whole and in each sender's order, also where the socket's
// buffer is full in between.
func TestManySendersAtOnce(t *testing.T) {
	const senders, each = 4, 500
	var server *Transport
	made := make(chan struct{})
	server, addr := listening(t, func(ev any) {
		<-made
		if d, ok := ev.(overlay.ConnData); ok {
			server.Send(d.Conn, d.Frame)
		}
	})
	close(made)
	got := make(chan any, senders*each+1)
	client := start(t, func(ev any) { got <- ev })
	client.Dial(1, addr)
	require.Equal(t, overlay.ConnUp{Conn: 1}, next(t, got))
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				frame := make([]byte, 3+i*7)
				frame[0], frame[1], frame[2] = byte(s), byte(i>>8), byte(i)
				client.Send(1, frame)
			}
		})
	}
	wg.Wait()
	var want [senders]int
	for range senders * each {
		f := next(t, got).(overlay.ConnData).Frame
		require.Equal(t, want[f[0]], int(f[1])<<8|int(f[2]))
		require.Len(t, f, 3+want[f[0]]*7)
		want[f[0]]++
	}
}

// BenchmarkRoundTrip measures 200 bytes there and back between two transports.
func BenchmarkRoundTrip(b *testing.B) {
	var server *Transport
	made := make(chan struct{})
	server, addr := listening(b, func(ev any) {
		<-made
		if d, ok := ev.(overlay.ConnData); ok {
			server.Send(d.Conn, d.Frame)
		}
	})
	close(made)
	got := make(chan any, 1000)
	client := start(b, func(ev any) { got <- ev })
	client.Dial(1, addr)
	<-got
	for b.Loop() {
		client.Send(1, make([]byte, 200))
		<-got
	}
}

// BenchmarkStream measures 64 KiB frames in one direction.
func BenchmarkStream(b *testing.B) {
	seen := make(chan struct{}, 1<<20)
	_, addr := listening(b, func(ev any) {
		if _, ok := ev.(overlay.ConnData); ok {
			seen <- struct{}{}
		}
	})
	up := make(chan any, 10)
	client := start(b, func(ev any) { up <- ev })
	client.Dial(1, addr)
	<-up
	frame := make([]byte, 64<<10)
	b.SetBytes(int64(len(frame)))
	for i := 0; b.Loop(); i++ {
		client.Send(1, frame)
		if i >= 64 {
			<-seen
		}
	}
}
