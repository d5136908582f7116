package zmq_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/transporttest"
	"github.com/frond-hpc/frond/overlay/zmq"
	"github.com/pebbe/zmq4"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustCert(t testing.TB) zmq.Cert {
	c, err := zmq.NewCert()
	require.NoError(t, err)
	return c
}

func start(t testing.TB, cert zmq.Cert, sink func(any)) *zmq.Transport {
	tr, err := zmq.New(zmq.Config{Cert: cert, Sink: func(evs []any) {
		for _, ev := range evs {
			sink(ev)
		}
	}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func TestConformance(t *testing.T) {
	cert := mustCert(t)
	kit := transporttest.Kit{New: func(t *testing.T, _ string, sink func(any)) overlay.Transport { return start(t, cert, sink) }}
	t.Run("ipc", func(t *testing.T) {
		dir := t.TempDir()
		kit.Addr = func(name string) string { return "ipc://" + filepath.Join(dir, name) }
		var n atomic.Int32
		kit.Silence = func(t *testing.T, addr string) (string, func()) {
			path := filepath.Join(dir, fmt.Sprintf("via%d", n.Add(1)))
			return "ipc://" + path, transporttest.Proxy(t, "unix", path, strings.TrimPrefix(addr, "ipc://"))
		}
		transporttest.Run(t, kit)
	})
	t.Run("tcp", func(t *testing.T) {
		kit.Addr = func(string) string { return "tcp://127.0.0.1:*" }
		kit.Silence = func(t *testing.T, addr string) (string, func()) {
			port := freePort(t)
			return "tcp://" + port, transporttest.Proxy(t, "tcp", port, strings.TrimPrefix(addr, "tcp://"))
		}
		transporttest.Run(t, kit)
	})
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func TestABrokerOfAnotherInstanceIsRefused(t *testing.T) {
	server, client := make(chan any, 16), make(chan any, 16)
	a := start(t, mustCert(t), func(ev any) { server <- ev })
	addr, err := a.Listen("tcp://127.0.0.1:*")
	require.NoError(t, err)
	b := start(t, mustCert(t), func(ev any) { client <- ev })
	b.Dial(1, addr)
	down, ok := (<-client).(overlay.ConnDown)
	require.True(t, ok)
	require.Contains(t, down.Reason, "another certificate")
	require.Empty(t, server)
}

// Each peer here speaks ZeroMQ and sends a frame at once. The last row shows that the test would see one that is let in.
func TestPeersWithoutTheCertificateAreRefused(t *testing.T) {
	ours, theirs := mustCert(t), mustCert(t)
	for _, row := range []struct {
		name   string
		secure func(s *zmq4.Socket) error
		in     bool
	}{
		{"a peer without any security", func(*zmq4.Socket) error { return nil }, false},
		{"a peer that knows the public key and has keys of its own", func(s *zmq4.Socket) error {
			return s.ClientAuthCurve(ours.Public, theirs.Public, theirs.Secret)
		}, false},
		{"a peer with a user name", func(s *zmq4.Socket) error { return s.ClientAuthPlain("root", "x") }, false},
		{"a peer with the certificate", func(s *zmq4.Socket) error { return s.ClientAuthCurve(ours.Public, ours.Public, ours.Secret) }, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			server := make(chan any, 16)
			addr, err := start(t, ours, func(ev any) { server <- ev }).Listen("ipc://" + filepath.Join(t.TempDir(), "s"))
			require.NoError(t, err)
			ctx, err := zmq4.NewContext()
			require.NoError(t, err)
			s, err := ctx.NewSocket(zmq4.DEALER)
			require.NoError(t, err)
			defer func() { require.NoError(t, errors.Join(s.SetLinger(0), s.Close(), ctx.Term())) }()
			require.NoError(t, errors.Join(row.secure(s), s.Connect(addr)))
			_, err = s.SendBytes([]byte("let me in"), 0)
			require.NoError(t, err)
			if row.in {
				require.IsType(t, overlay.ConnUp{}, <-server)
				return
			}
			time.Sleep(200 * time.Millisecond)
			require.Empty(t, server)
		})
	}
}

func TestMalformedBytesOnThePortDoNoHarm(t *testing.T) {
	cert := mustCert(t)
	server := make(chan any, 100)
	a := start(t, cert, func(ev any) { server <- ev })
	addr, err := a.Listen("tcp://127.0.0.1:*")
	require.NoError(t, err)
	greeting := append([]byte{0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0}, []byte("NULL")...)
	for _, garbage := range [][]byte{
		nil, []byte("GET / HTTP/1.0\r\n\r\n"), make([]byte, 100_000), greeting[:10], append(greeting, make([]byte, 48)...),
		append(append(greeting[:12:12], "CURVE"...), make([]byte, 500)...),
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(addr, "tcp://"))
		require.NoError(t, err)
		_, _ = c.Write(garbage)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}
	client := make(chan any, 16)
	b := start(t, cert, func(ev any) { client <- ev })
	b.Dial(1, addr)
	require.Equal(t, overlay.ConnUp{Conn: 1}, <-client)
	b.Send(1, []byte("x"))
	require.IsType(t, overlay.ConnUp{}, <-server)
	require.IsType(t, overlay.ConnData{}, <-server)
}

func TestListen(t *testing.T) {
	tr := start(t, mustCert(t), func(any) {})
	for _, row := range []struct{ name, addr, err string }{
		{"a socket path over the limit is refused with its length", "ipc:///" + strings.Repeat("x", 120), "the path has 121 bytes, the limit for sockets is 107"},
		{"an unknown scheme is refused", "udp://x:1", "neither an ipc:// nor a tcp:// address"},
		{"a tcp address needs a port", "tcp://localhost", "no port"},
		{"a directory that is not there is an error", "ipc:///proc/0/frond", "listen on ipc:///proc/0/frond"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := tr.Listen(row.addr)
			require.ErrorContains(t, err, row.err)
		})
	}
	addr, err := tr.Listen("tcp://localhost:*")
	require.NoError(t, err)
	require.Regexp(t, `^tcp://localhost:\d+$`, addr)
}

func TestCert(t *testing.T) {
	c := mustCert(t)
	got, err := zmq.ParseCert(c.Marshal())
	require.NoError(t, err)
	require.Equal(t, c, got)
	other := mustCert(t)
	for name, text := range map[string]string{
		"an empty file":       "",
		"a short secret":      "public " + c.Public + "\nsecret abc\n",
		"keys of two pairs":   "public " + c.Public + "\nsecret " + other.Secret + "\n",
		"no public key":       "secret " + c.Secret + "\n",
		"a key not in Z85":    "public " + c.Public + "\nsecret " + strings.Repeat("\"", 40) + "\n",
		"swapped, not a pair": "public " + c.Secret + "\nsecret " + c.Public + "\n",
	} {
		_, err := zmq.ParseCert([]byte(text))
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), c.Secret, name)
		_, err = zmq.New(zmq.Config{Sink: func([]any) {}})
		require.Error(t, err)
	}
}

// A sink that answers from within is called again only when it has returned, and gets every frame once and in order, whichever goroutine
// reads them: here ones that send at the same time.
func TestASinkMaySendAndIsNotCalledTwiceAtOnce(t *testing.T) {
	const senders, each = 4, 500
	cert := mustCert(t)
	var server *zmq.Transport
	var inside atomic.Bool
	made := make(chan struct{})
	server = start(t, cert, func(ev any) {
		<-made
		if d, ok := ev.(overlay.ConnData); ok {
			require.False(t, inside.Swap(true))
			server.Send(d.Conn, d.Frame)
			inside.Store(false)
		}
	})
	close(made)
	addr, err := server.Listen("ipc://" + filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	got := make(chan any, senders*each+1)
	client := start(t, cert, func(ev any) { got <- ev })
	client.Dial(1, addr)
	require.Equal(t, overlay.ConnUp{Conn: 1}, <-got)
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				client.Send(1, []byte{byte(s), byte(i >> 8), byte(i)})
			}
		})
	}
	wg.Wait()
	var next [senders]int
	for range senders * each {
		f := (<-got).(overlay.ConnData).Frame
		require.Equal(t, next[f[0]], int(f[1])<<8|int(f[2]))
		next[f[0]]++
	}
}

// BenchmarkRoundTrip measures 200 bytes there and back between two transports over ipc with CURVE.
func BenchmarkRoundTrip(b *testing.B) {
	cert := mustCert(b)
	var server *zmq.Transport
	var mu sync.Mutex
	server = start(b, cert, func(ev any) {
		if d, ok := ev.(overlay.ConnData); ok {
			mu.Lock()
			defer mu.Unlock()
			server.Send(d.Conn, d.Frame)
		}
	})
	mu.Lock()
	addr, err := server.Listen("ipc://" + filepath.Join(b.TempDir(), "s"))
	mu.Unlock()
	require.NoError(b, err)
	got := make(chan any, 1000)
	client := start(b, cert, func(ev any) { got <- ev })
	client.Dial(1, addr)
	<-got
	start := cpu(b)
	for b.Loop() {
		client.Send(1, make([]byte, 200))
		<-got
	}
	b.ReportMetric(float64((cpu(b)-start).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkStream measures 64 KiB frames in one direction.
func BenchmarkStream(b *testing.B) {
	cert := mustCert(b)
	seen := make(chan struct{}, 1<<20)
	server := start(b, cert, func(ev any) {
		if _, ok := ev.(overlay.ConnData); ok {
			seen <- struct{}{}
		}
	})
	addr, err := server.Listen("ipc://" + filepath.Join(b.TempDir(), "s"))
	require.NoError(b, err)
	up := make(chan any, 10)
	client := start(b, cert, func(ev any) { up <- ev })
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
