package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	countReq struct {
		N    int
		Size int
	}
	countRep struct {
		I    int
		Data []byte
	}
)

var (
	count  = rpc.Method[countReq, countRep]{Topic: "toy.count", Stream: true, Idempotent: true}
	never  = rpc.Method[api.Empty, api.Empty]{Topic: "toy.never"}
	again  = rpc.Method[api.Empty, api.Empty]{Topic: "toy.never", Idempotent: true}
	echo   = rpc.Method[countReq, countReq]{Topic: "toy.echo"}
	absent = rpc.Method[api.Empty, api.Empty]{Topic: "toy.absent"}
)

// toy counts, echoes, and tells of cancels and requests.
type toy struct {
	canceled chan rpc.RequestKey
	asked    chan struct{}
}

func newToy() *toy {
	return &toy{canceled: make(chan rpc.RequestKey, 100), asked: make(chan struct{}, 100)}
}

func (*toy) Name() string { return "toy" }

func (t *toy) Handle(_ time.Time, in any, out *reactor.Out) {
	switch in := in.(type) {
	case rpc.Cancel:
		t.canceled <- in.Key
	case api.Stopping:
		out.Notify("broker", api.Stopped{Name: "toy"})
	case *rpc.Request:
		switch in.Topic {
		case count.Topic:
			req, _ := count.Decode(in)
			for i := range req.N {
				out.Next(in, countRep{i, make([]byte, req.Size)})
			}
			if req.N > 0 {
				out.End(in)
			}
		case echo.Topic:
			req, _ := echo.Decode(in)
			out.Reply(in, req)
		case never.Topic:
			t.asked <- struct{}{}
		default:
			out.Fail(in, wire.Errorf(wire.NoMethod, "no %s", in.Topic))
		}
	}
}

// instance is a leader alone, in this process.
type instance struct {
	t    testing.TB
	dir  string
	toy  *toy
	b    *broker.Broker
	stop context.CancelFunc
	done chan error
}

func (in *instance) uri() string {
	_, uri := broker.SocketPath(in.dir, 0)
	return uri
}

func start(t testing.TB, dir string, change func(*broker.Config)) *instance {
	in := &instance{t: t, dir: dir, toy: newToy(), done: make(chan error, 1)}
	ready := make(chan struct{})
	cfg := broker.Config{Name: "test", Version: "1", RunDir: dir, Overlay: overlay.Config{Leader: true, Size: 1, Fanout: 2, UUID: "u", Epoch: 1},
		Services: []broker.ServiceSpec{{Service: in.toy, Await: true}}, Ready: func(broker.Info) { close(ready) }}
	if change != nil {
		change(&cfg)
	}
	var err error
	in.b, err = broker.New(cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	in.stop = stop
	go func() { in.done <- in.b.Run(ctx) }()
	select {
	case <-ready:
	case err := <-in.done:
		t.Fatalf("broker ended: %v", err)
	}
	t.Cleanup(in.kill)
	return in
}

// kill ends the broker without order.
func (in *instance) kill() {
	in.stop()
	if in.done != nil {
		<-in.done
		in.done = nil
	}
}

func dial(t testing.TB, in *instance, opts ...client.DialOption) *client.Client {
	c, err := client.Dial(t.Context(), in.uri(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func code(c wire.Code) error { return &wire.Error{Code: c} }

func TestACallIsAnswered(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in)
	rep, err := client.Call(t.Context(), c, api.Ping, api.PingReq{Pad: []byte("x")})
	require.NoError(t, err)
	require.Equal(t, api.PingRep{Rank: 0, Pad: []byte("x")}, rep)
	require.Equal(t, int32(0), c.Broker().Rank)
	require.Equal(t, "1", c.Broker().Version)
}

func TestErrorsOfServicesArrive(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in)
	_, err := client.Call(t.Context(), c, absent, api.Empty{})
	require.ErrorIs(t, err, code(wire.NoMethod))
	_, err = client.Call(t.Context(), c, rpc.Method[api.Empty, api.Empty]{Topic: "nobody.here"}, api.Empty{})
	require.ErrorIs(t, err, code(wire.NoService))
	require.ErrorContains(t, err, "nobody")
	_, err = client.Call(t.Context(), c, api.Ping, api.PingReq{}, client.Rank(7))
	require.ErrorIs(t, err, code(wire.NotFound))
	_, err = client.Call(t.Context(), c, api.AttrGet, api.AttrReq{Name: "no.such"})
	require.ErrorIs(t, err, code(wire.NotFound))
	_, err = client.Call(t.Context(), c, echo, countReq{})
	require.NoError(t, err, "the connection is as good as before")
}

func TestAttributesHaveFluxNames(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in)
	rep, err := client.Call(t.Context(), c, api.AttrList, api.Empty{})
	require.NoError(t, err)
	require.Equal(t, "0", rep.Attrs["rank"])
	require.Equal(t, "1", rep.Attrs["size"])
	require.Equal(t, in.uri(), rep.Attrs["local-uri"])
	require.Equal(t, fmt.Sprint(os.Getpid()), rep.Attrs["broker.pid"])
	require.Equal(t, in.dir, rep.Attrs["rundir"])
}

func TestAStreamEndsWithEOF(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in)
	s, err := client.Open(t.Context(), c, count, countReq{N: 1000})
	require.NoError(t, err)
	for i := range 1000 {
		rep, err := s.Next()
		require.NoError(t, err)
		require.Equal(t, i, rep.I)
	}
	_, err = s.Next()
	require.ErrorIs(t, err, io.EOF)
	_, err = s.Next()
	require.ErrorIs(t, err, io.EOF)
}

func TestClosingAStreamTellsTheService(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in)
	s, err := client.Open(t.Context(), c, count, countReq{N: 0})
	require.NoError(t, err)
	s.Close()
	<-in.toy.canceled
	_, err = s.Next()
	require.ErrorIs(t, err, code(wire.Canceled))
}

func TestEndingTheContextCancelsTheCall(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-in.toy.asked; cancel() }()
	_, err := client.Call(ctx, c, never, api.Empty{})
	require.ErrorIs(t, err, context.Canceled)
	<-in.toy.canceled
}

func TestAClientThatGoesAwayCancelsWhatItAsked(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in)
	for range 3 {
		client.Go(t.Context(), c, never, api.Empty{})
		<-in.toy.asked
	}
	c.Close()
	for range 3 {
		<-in.toy.canceled
	}
}

func TestAClosedClientFailsWhatIsOutstanding(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in)
	f := client.Go(t.Context(), c, never, api.Empty{})
	<-in.toy.asked
	c.Close()
	_, err := f.Wait(t.Context())
	require.ErrorIs(t, err, code(wire.Canceled))
	_, err = client.Call(t.Context(), c, echo, countReq{})
	require.ErrorIs(t, err, code(wire.Canceled))
}

func TestManyGoroutinesShareAConnection(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			var futures []*client.Future[countReq]
			for i := range 500 {
				futures = append(futures, client.Go(t.Context(), c, echo, countReq{N: g*1000 + i}))
			}
			for i, f := range futures {
				rep, err := f.Wait(t.Context())
				if err != nil || rep.N != g*1000+i {
					t.Errorf("got %v, %v", rep, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestAnUnreadStreamAloneMakesTheSocketWait(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in, client.WithStreamBuffer(64<<10))
	s, err := client.Open(t.Context(), c, count, countReq{N: 2000, Size: 4 << 10})
	require.NoError(t, err)
	time.Sleep(100 * time.Millisecond)
	for i := range 2000 {
		rep, err := s.Next()
		require.NoError(t, err)
		require.Equal(t, i, rep.I)
	}
	_, err = s.Next()
	require.ErrorIs(t, err, io.EOF)
}

func TestAnUnreadStreamDoesNotHoldUpOthers(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in, client.WithStreamBuffer(64<<10))
	s, err := client.Open(t.Context(), c, count, countReq{N: 2000, Size: 4 << 10})
	require.NoError(t, err)
	time.Sleep(50 * time.Millisecond)
	_, err = client.Call(t.Context(), c, echo, countReq{})
	require.NoError(t, err)
	for err == nil {
		_, err = s.Next()
	}
	require.ErrorIs(t, err, code(wire.TooLarge))
}

func TestAClientThatNeverReadsIsDisconnectedWithAReason(t *testing.T) {
	in := start(t, t.TempDir(), func(cfg *broker.Config) { cfg.MaxUnread = 1 << 20 })
	c := dial(t, in, client.WithStreamBuffer(1000))
	s, err := client.Open(t.Context(), c, count, countReq{N: 20000, Size: 1000})
	require.NoError(t, err)
	time.Sleep(200 * time.Millisecond)
	for err == nil {
		_, err = s.Next()
	}
	require.ErrorIs(t, err, code(wire.TooLarge))
	require.ErrorContains(t, err, "unread")
	other := dial(t, in)
	_, err = client.Call(t.Context(), other, echo, countReq{})
	require.NoError(t, err)
}

func TestAnOrderlyStopTellsClients(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in, client.WithReconnect(time.Minute))
	_, err := client.Call(t.Context(), c, api.Shutdown, api.ShutdownReq{})
	require.NoError(t, err)
	require.NoError(t, <-in.done)
	in.done = nil
	_, err = client.Call(t.Context(), c, echo, countReq{})
	require.ErrorIs(t, err, code(wire.Unavailable))
}

func TestWithReconnectIdempotentCallsOutliveTheBroker(t *testing.T) {
	dir := t.TempDir()
	in := start(t, dir, nil)
	c := dial(t, in, client.WithReconnect(30*time.Second))
	fNever := client.Go(t.Context(), c, never, api.Empty{})
	fAgain := client.Go(t.Context(), c, again, api.Empty{})
	s, err := client.Open(t.Context(), c, count, countReq{})
	require.NoError(t, err)
	<-in.toy.asked
	<-in.toy.asked
	in.kill()
	_, err = fNever.Wait(t.Context())
	require.ErrorIs(t, err, code(wire.Lost))
	second := start(t, dir, nil)
	<-second.toy.asked
	select {
	case <-fAgain.Done():
		t.Fatal("answered by nobody")
	default:
	}
	_, err = client.Call(t.Context(), c, echo, countReq{})
	require.NoError(t, err)
	require.Equal(t, 0, s.Restarts(), "nothing came yet")
	s.Close()
}

func TestWithoutReconnectAllIsLost(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in)
	f := client.Go(t.Context(), c, again, api.Empty{})
	<-in.toy.asked
	in.kill()
	_, err := f.Wait(t.Context())
	require.ErrorIs(t, err, code(wire.Lost))
	require.ErrorContains(t, err, "may have been done")
}

func TestDialSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	require.NoError(t, err)
	ln.SetUnlinkOnClose(false)
	ln.Close()
	for _, row := range []struct{ name, uri, says string }{
		{"no socket", "local://" + dir + "/none", "no instance at local://" + dir + "/none: broker socket " + dir + "/none was not found"},
		{"nobody listens", "local://" + dead, "nobody answers"},
		{"no scheme", "/tmp/x", "no URI of an instance"},
		{"relative path", "local://x/y", "no URI of an instance"},
		{"unknown scheme", "ftp://host", "no URI of an instance"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := client.Dial(t.Context(), row.uri)
			require.ErrorContains(t, err, row.says)
		})
	}
	_, err = client.Dial(t.Context(), "local://"+dir+"/none")
	require.ErrorIs(t, err, code(wire.Unavailable))
	require.True(t, errors.Is(err, os.ErrNotExist))
}

func TestEventsReachSubscribersInOrder(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in)
	s, err := client.Open(t.Context(), c, api.Subscribe, api.SubscribeReq{Prefix: "job."})
	require.NoError(t, err)
	for i := range 10 {
		for _, topic := range []string{"job.x", "other"} {
			rep, err := client.Call(t.Context(), c, api.PublishEvent, api.EventMsg{Topic: topic, Body: []byte{byte(i)}})
			require.NoError(t, err)
			require.Equal(t, uint64(1), rep.Epoch)
		}
	}
	for i := range 10 {
		ev, err := s.Next()
		require.NoError(t, err)
		require.Equal(t, api.EventMsg{Topic: "job.x", Epoch: 1, Seq: uint64(2*i + 1), Body: []byte{byte(i)}}, ev)
	}
	s.Close()
}

func TestDmesgFollowsTheLog(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in)
	in.b.Logger().Info("first")
	s, err := client.Open(t.Context(), c, api.Dmesg, api.DmesgReq{Follow: true})
	require.NoError(t, err)
	in.b.Logger().Named("x").Warn("second")
	for _, want := range []string{"first", "x: second"} {
		for {
			l, err := s.Next()
			require.NoError(t, err)
			if l.Text == want {
				break
			}
		}
	}
	s.Close()
}

func BenchmarkPing(b *testing.B) {
	in := start(b, b.TempDir(), nil)
	c, err := client.Dial(b.Context(), in.uri())
	require.NoError(b, err)
	defer c.Close()
	for b.Loop() {
		if _, err := client.Call(b.Context(), c, api.Ping, api.PingReq{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEchoPipelined(b *testing.B) {
	in := start(b, b.TempDir(), nil)
	c, err := client.Dial(b.Context(), in.uri())
	require.NoError(b, err)
	defer c.Close()
	window := make(chan *client.Future[countReq], 4096)
	go func() {
		for b.Loop() {
			window <- client.Go(context.Background(), c, echo, countReq{N: 1})
		}
		close(window)
	}()
	for f := range window {
		if _, err := f.Wait(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
