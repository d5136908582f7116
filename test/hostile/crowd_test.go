package hostile

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/sys/unix"
)

const (
	crowdURI = "FROND_HOSTILE_CROWD" // makes this program the process of the clients
	many     = 10000
)

// crowd opens many clients, some of which ping, says so, and holds them until its standard input ends.
func crowd(uri string) int {
	clients := make([]*client.Client, 0, many)
	for i := range many {
		c, err := client.Dial(context.Background(), uri)
		if err == nil && i%100 == 0 {
			_, err = client.Call(context.Background(), c, api.Ping, api.PingReq{})
		}
		if err != nil {
			fmt.Printf("client %d: %v\n", i, err)
			return 1
		}
		clients = append(clients, c)
	}
	fmt.Println("all are in")
	_, _ = fmt.Fscanln(os.Stdin)
	for _, c := range clients {
		c.Close()
	}
	return 0
}

// tenThousand clients are open on the leader's socket while others use it.
func tenThousand(t *testing.T, in *instance) {
	var lim unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim))
	if lim.Max < many+200 {
		skip(t, "the limit of open files here is %d, %d clients need more", lim.Max, many)
	}
	before := in.rss(t, 0)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crowdURI+"=local://"+in.socket(0))
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	require.Equal(t, "all are in", strings.TrimSpace(line))
	require.Greater(t, in.clients(t), many)
	for range brokers {
		in.serves(t)
	}
	t.Logf("memory of the leader with %d clients: %d → %d MiB", many, before, in.rss(t, 0))
	require.Less(t, in.rss(t, 0), before+200)
	require.NoError(t, stdin.Close())
	require.NoError(t, cmd.Wait())
	require.True(t, harness.Until(patience, func() bool { return in.clients(t) < 20 }))
}

func (in *instance) clients(t *testing.T) int {
	t.Helper()
	rep, err := client.Call(t.Context(), in.dial(t, 0), api.Stats, api.Empty{})
	require.NoError(t, err)
	return rep.Clients
}

// memoryLimit is what the leader may hold, in MiB, while a client asks and does not read.
const memoryLimit = 500

// neverReads has clients that ask and ask and do not read the answers.
func neverReads(t *testing.T, in *instance) {
	held := api.SubmitItem{Spec: []byte(in.frond(t, "submit", "--dry-run", "--env-remove=*", "true"))} // urgency 0
	submit, err := msgpack.Marshal(&api.SubmitReq{Items: []api.SubmitItem{held}})
	require.NoError(t, err)
	held.N = 5000 // which is 2 MB as a list
	array, err := msgpack.Marshal(&api.SubmitReq{Items: []api.SubmitItem{held}})
	require.NoError(t, err)
	list, err := msgpack.Marshal(&api.ListReq{})
	require.NoError(t, err)
	pad, err := msgpack.Marshal(&api.PingReq{Pad: make([]byte, 1<<20)})
	require.NoError(t, err)
	event, err := msgpack.Marshal(&api.EventMsg{Topic: "e", Body: make([]byte, 1<<20)})
	require.NoError(t, err)
	_, err = client.Call(t.Context(), in.dial(t, 0), api.KVSCommit, api.KVSCommitReq{Ops: []api.KVSOp{
		{Kind: api.KVSPut, Key: "big", Data: make([]byte, 15<<20)}, {Kind: api.KVSPut, Key: "small", Data: make([]byte, api.KVSInline)}}})
	require.NoError(t, err)
	read, err := msgpack.Marshal(&api.KVSReadReq{Key: "big"})
	require.NoError(t, err)
	get, err := msgpack.Marshal(&api.KVSGetReq{Key: "small"})
	require.NoError(t, err)
	big := in.submit(t, in.frond(t, "submit", "--dry-run", "--env-remove=*", "-n1", "/bin/sh", "-c", "head -c 10000000 /dev/zero"))
	waitFor(t.Context(), t, in.dial(t, 0), []jobspec.ID{big})
	attach, err := msgpack.Marshal(&api.AttachReq{ID: big, Output: true, Follow: true})
	require.NoError(t, err)
	for _, row := range []struct {
		name, topic string
		body        []byte
		n           int
	}{
		{"submissions", api.Submit.Topic, submit, 20_000},
		{"pings of 1 MiB", api.Ping.Topic, pad, 300},
		{"events of 1 MiB", api.PublishEvent.Topic, event, 200},
		{"attaches to a job with 10 MB of output", api.Attach.Topic, attach, 100},
		{"lists of 5,000 jobs", api.List.Topic, list, 200},
		{"reads of a value of 15 MiB", api.KVSRead.Topic, read, 200},
		{"reads of a small value", api.KVSGet.Topic, get, 100_000},
	} {
		for _, rank := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s, on rank %d", row.name, rank), func(t *testing.T) {
				if row.topic == api.List.Topic && rank == 0 {
					greeted(t, in.socket(0)).answer(api.Submit.Topic, array)
				}
				greedy := greeted(t, in.socket(rank))
				gone := greedy.pour(row.topic, row.body, row.n)
				most := int64(0)
				for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
					most = max(most, in.rss(t, 0), in.rss(t, rank))
				}
				in.serves(t)
				greedy.nc.Close()
				sent := <-gone
				t.Logf("%d of %d requests were taken; memory at most %d MiB", sent, row.n, most)
				require.Less(t, most, int64(memoryLimit))
				in.serves(t)
			})
		}
	}
	in.frond(t, "cancel", "--all", "--states", "pending")
}

// pour sends a request n times without reading, and says how many were taken.
func (r *raw) pour(topic string, body []byte, n int) <-chan int {
	gone := make(chan int, 1)
	var frames [][]byte
	for i := range n {
		m := request(topic, uint64(i), body)
		m.Flags = wire.Stream
		if topic == api.Submit.Topic {
			m.Flags = 0
		}
		frames = append(frames, framed(r.t, m))
		if len(body) > 1<<16 {
			break
		}
	}
	go func() {
		sent := 0
		for ; sent < n; sent++ {
			if _, err := r.nc.Write(frames[sent%len(frames)]); err != nil {
				break
			}
		}
		gone <- sent
	}()
	return gone
}
