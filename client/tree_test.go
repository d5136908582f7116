package client_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/overlay/zmq"
	"github.com/stretchr/testify/require"
)

// startTree starts n brokers that speak ZeroMQ, a chain with fanout 1, and returns them when all are online.
func startTree(t testing.TB, n, fanout int) []*instance {
	dir := t.TempDir()
	cert, err := zmq.NewCert()
	require.NoError(t, err)
	addr := func(rank int) string { return fmt.Sprintf("ipc://%s/t%d", dir, rank) }
	var all []*instance
	for rank := range n {
		all = append(all, start(t, dir, func(c *broker.Config) {
			c.Overlay = overlay.Config{Rank: int32(rank), Leader: rank == 0, Size: n, Fanout: fanout, UUID: fmt.Sprint("u", rank), Epoch: 1, Rand: uint64(rank + 1),
				JoinLimit: 20 * time.Second}
			if rank > 0 {
				c.Overlay.Parent, c.Overlay.Fallback, c.Services = addr((rank-1)/fanout), []string{addr(0)}, nil
			}
			c.Listen = addr(rank)
			c.Transport = func(sink func([]any)) (overlay.Transport, error) { return zmq.New(zmq.Config{Cert: cert, Sink: sink}) }
		}))
	}
	return all
}

// at connects to the broker of a rank.
func at(t testing.TB, all []*instance, rank int32) *client.Client {
	_, uri := broker.SocketPath(all[0].dir, rank)
	c, err := client.Dial(t.Context(), uri)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestATreeOfBrokersServesAndStopsInOrder(t *testing.T) {
	all := startTree(t, 4, 1)
	leaf, leader := at(t, all, 3), at(t, all, 0)
	s, err := client.Open(t.Context(), leaf, api.WaitOnline, api.WaitOnlineReq{})
	require.NoError(t, err)
	for err == nil {
		_, err = s.Next()
	}
	rep, err := client.Call(t.Context(), leaf, echo, countReq{N: 5})
	require.NoError(t, err, "up three hops")
	require.Equal(t, 5, rep.N)
	ping, err := client.Call(t.Context(), leader, api.Ping, api.PingReq{Pad: make([]byte, 1<<20)}, client.Rank(3))
	require.NoError(t, err, "down three hops")
	require.Equal(t, int32(3), ping.Rank)
	_, err = client.Call(t.Context(), leaf, api.Ping, api.PingReq{}, client.Rank(9))
	require.ErrorIs(t, err, code(wire.NotFound))
	stream, err := client.Open(t.Context(), leaf, count, countReq{N: 1000, Size: 1000})
	require.NoError(t, err)
	for i := range 1000 {
		rep, err := stream.Next()
		require.NoError(t, err)
		require.Equal(t, i, rep.I)
	}
	_, err = client.Call(t.Context(), leaf, api.Shutdown, api.ShutdownReq{})
	require.NoError(t, err)
	for _, in := range all {
		require.NoError(t, <-in.done)
		in.done = nil
	}
}

func TestAnInteriorBrokerThatDiesLosesCallsAndTheTreeHeals(t *testing.T) {
	all := startTree(t, 4, 1)
	leaf := at(t, all, 3)
	f := client.Go(t.Context(), leaf, never, api.Empty{})
	<-all[0].toy.asked
	all[1].kill()
	_, err := f.Wait(t.Context())
	require.ErrorIs(t, err, code(wire.Lost))
	<-all[0].toy.canceled
	require.Eventually(t, func() bool {
		_, err := client.Call(t.Context(), leaf, echo, countReq{})
		return err == nil
	}, time.Minute, 50*time.Millisecond)
}

func BenchmarkHop(b *testing.B) {
	all := startTree(b, 3, 1)
	for rank := range int32(3) {
		b.Run(fmt.Sprintf("to a broker %d hops away", rank), func(b *testing.B) {
			c := at(b, all, 0)
			for b.Loop() {
				if _, err := client.Call(context.Background(), c, api.Ping, api.PingReq{}, client.Rank(rank)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
