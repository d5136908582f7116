package client_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const manyURI = "FROND_TEST_MANY_URI" // makes this program the process of the clients

// TestTenThousandClients opens them from another process, because both ends in one would need twice the file descriptors.
func TestTenThousandClients(t *testing.T) {
	if uri := os.Getenv(manyURI); uri != "" {
		holdMany(t, uri)
		return
	}
	if testing.Short() {
		t.Skip("SKIP: -short")
	}
	const many = 10000
	var lim unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim))
	if lim.Max < many+100 {
		t.Skipf("SKIP: the limit of open files here is %d, %d clients need more", lim.Max, many)
	}
	in := start(t, t.TempDir(), func(c *broker.Config) { c.MaxClients = many + 1 })
	c := dial(t, in)
	before := stats(t, c)
	cmd := exec.Command(os.Args[0], "-test.run=^TestTenThousandClients$")
	cmd.Env = append(os.Environ(), manyURI+"="+in.uri(), "FROND_TEST_MANY="+strconv.Itoa(many))
	stop, err := cmd.StdinPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return stats(t, c).Clients == many+1 }, 60*time.Second, 50*time.Millisecond)
	_, err = client.Dial(t.Context(), in.uri())
	require.ErrorIs(t, err, code(wire.Busy))
	require.ErrorContains(t, err, "10001 clients, which is the limit")
	t0 := time.Now()
	_, err = client.Call(t.Context(), c, api.Ping, api.PingReq{})
	require.NoError(t, err)
	after := stats(t, c)
	t.Logf("ping with %d clients: %v; memory %d → %d KiB, %d goroutines", many, time.Since(t0), before.RSSKiB, after.RSSKiB, runtime.NumGoroutine())
	require.NoError(t, stop.Close())
	require.NoError(t, cmd.Wait())
	require.Eventually(t, func() bool { return stats(t, c).Clients == 1 }, time.Minute, 50*time.Millisecond)
}

func stats(t *testing.T, c *client.Client) api.StatsRep {
	rep, err := client.Call(t.Context(), c, api.Stats, api.Empty{})
	require.NoError(t, err)
	return rep
}

// holdMany opens connections, uses each once and holds them until standard input ends.
func holdMany(t *testing.T, uri string) {
	n, err := strconv.Atoi(os.Getenv("FROND_TEST_MANY"))
	require.NoError(t, err)
	clients := make([]*client.Client, n)
	for i := range clients {
		clients[i], err = client.Dial(context.Background(), uri)
		require.NoError(t, err, "client %d", i)
		_, err = client.Call(context.Background(), clients[i], api.Ping, api.PingReq{})
		require.NoError(t, err)
	}
	_, _ = fmt.Fscanln(os.Stdin)
	for _, c := range clients {
		c.Close()
	}
}

func TestACallOfAStreamingMethodIsAnErrorAndNoMore(t *testing.T) {
	in := start(t, t.TempDir(), nil)
	c := dial(t, in)
	_, err := client.Call(t.Context(), c, count, countReq{N: 3})
	require.ErrorIs(t, err, code(wire.Invalid))
	require.ErrorContains(t, err, "count answers with a stream")
	_, err = client.Call(t.Context(), c, echo, countReq{})
	require.NoError(t, err, "the connection is as good as before")
}
