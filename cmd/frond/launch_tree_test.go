package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func hostsOf(n int) []treeHost {
	hosts := make([]treeHost, n)
	for i := range hosts {
		hosts[i] = treeHost{i, fmt.Sprintf("n%d", i)}
	}
	return hosts
}

// A thousand hosts: nobody starts more than the fan-out, and each is started once.
func TestATreeReachesEachHostOnce(t *testing.T) {
	for _, row := range []struct{ hosts, fanout, depth int }{{0, 4, 0}, {1, 1, 1}, {5, 1, 5}, {32, 32, 1}, {33, 32, 2}, {1000, 32, 2}, {1057, 32, 3}} {
		seen := map[int]int{}
		depth := 0
		var start func(hosts []treeHost, level int)
		start = func(hosts []treeHost, level int) {
			parts := shares(hosts, row.fanout)
			require.LessOrEqual(t, len(parts), row.fanout)
			for _, g := range parts {
				seen[g[0].Index]++
				depth = max(depth, level)
				start(g[1:], level+1)
			}
		}
		start(hostsOf(row.hosts), 1)
		require.Len(t, seen, row.hosts)
		for i, n := range seen {
			require.Equal(t, 1, n, i)
		}
		require.Equal(t, row.depth, depth, row)
	}
}

func TestTheTicketIsNoArgumentAndTheOthersFollowIt(t *testing.T) {
	order := &treeOrder{SSH: []string{"ssh", "-F", "conf"}, Self: "/opt/frond", Fanout: 2}
	cmd, err := order.command("secret", hostsOf(3))
	require.NoError(t, err)
	require.Equal(t, "ssh -F conf -o BatchMode=yes -o ConnectTimeout=20 n0 exec /opt/frond broker --join --ticket=- --rank=0", strings.Join(cmd.Args, " "))
	in, err := io.ReadAll(cmd.Stdin)
	require.NoError(t, err)
	ticket, more, err := readOrder(strings.NewReader(string(in)))
	require.NoError(t, err)
	require.Equal(t, "secret", ticket)
	require.Equal(t, hostsOf(3)[1:], more.Hosts)
	require.Equal(t, order.SSH, more.SSH)

	ticket, more, err = readOrder(strings.NewReader("secret\n"))
	require.NoError(t, err)
	require.Equal(t, "secret", ticket)
	require.Nil(t, more)
	for _, bad := range []string{"secret\nx", "secret\n{}"} {
		_, _, err = readOrder(strings.NewReader(bad))
		require.ErrorContains(t, err, "malformed")
	}
	text, err := json.Marshal(order)
	require.NoError(t, err)
	require.NotContains(t, string(text), "secret")
}

func TestOnlyTheEndOfWhatIsSaidIsKept(t *testing.T) {
	b := &tailBuffer{limit: 4}
	for _, s := range []string{"abc", "def", "", "g"} {
		n, err := b.Write([]byte(s))
		require.NoError(t, err)
		require.Equal(t, len(s), n)
	}
	require.Equal(t, "defg", string(b.text))
}
