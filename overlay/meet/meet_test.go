package meet

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/frond-hpc/frond/overlay/curve"
	"github.com/stretchr/testify/require"
)

// Two certificates, made by overlay/zmq.
const (
	certA = "public :RgIq*bwZ)}1E6g-Cbgz2+7J2Ib4YcjiLO-nsTVm\nsecret QeVpYOO>UWzZb2iXOP2h%d%rzjO=H/+Qt(nl}m$?\n"
	certB = "public 2dL$wuNLH*of(?7kFKt{=PooGi8fJhulDdQ}Wi-L\nsecret =*?:tV{.H/(+^>4-T4^{({j)?3vh&R6#?TRsZr1R\n"
)

func keys(t *testing.T, text string) curve.Keys {
	k, err := curve.ParseKeys([]byte(text))
	require.NoError(t, err)
	return k
}

func serve(t *testing.T) (addr string, events chan any) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	events = make(chan any, 16)
	s := Listen(ln, keys(t, certA), func(ev any) { events <- ev })
	t.Cleanup(s.Close)
	return ln.Addr().String(), events
}

func next[T any](t *testing.T, events chan any) T {
	select {
	case ev := <-events:
		got, ok := ev.(T)
		require.True(t, ok, "%T %+v", ev, ev)
		return got
	case <-time.After(time.Minute):
		require.Fail(t, "nothing happened")
	}
	panic("unreachable")
}

func TestABrokerReportsInAndIsToldItsPlace(t *testing.T) {
	addr, events := serve(t)
	c, err := Dial(t.Context(), []string{"127.0.0.1:1", addr}, keys(t, certA), Report{Host: "h", Rank: 3})
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, "127.0.0.1", c.Local())
	in := next[Reported](t, events)
	require.Equal(t, Report{Host: "h", Rank: 3}, in.Report)

	in.Peer.Send(Order{Place: &Place{Rank: 3, Node: "n3"}})
	in.Peer.Send(Order{Leader: "tcp://x:1"})
	o, err := c.Next()
	require.NoError(t, err)
	require.Equal(t, "n3", o.Place.Node)
	o, err = c.Next()
	require.NoError(t, err)
	require.Equal(t, "tcp://x:1", o.Leader)

	require.NoError(t, c.Say(Word{Ended: true, Error: "why"}))
	require.Equal(t, "why", next[Said](t, events).Word.Error)
	c.Close()
	require.True(t, next[Hung](t, events).Closed)
}

func TestTheEndOfTheSupervisorIsSeen(t *testing.T) {
	addr, events := serve(t)
	c, err := Dial(t.Context(), []string{addr}, keys(t, certA), Report{})
	require.NoError(t, err)
	defer c.Close()
	next[Reported](t, events).Peer.Close()
	_, err = c.Next()
	require.Error(t, err)
}

func TestAnotherCertificateIsRefused(t *testing.T) {
	addr, events := serve(t)
	_, err := Dial(t.Context(), []string{addr}, keys(t, certB), Report{})
	require.ErrorIs(t, err, curve.ErrDenied)
	require.Empty(t, events)
}

func TestDialEndsWithItsContext(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	require.NoError(t, err)
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = Dial(ctx, []string{ln.Addr().String()}, keys(t, certA), Report{})
	require.Error(t, err)
}
