package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/curve"
	"github.com/frond-hpc/frond/overlay/meet"
	"github.com/frond-hpc/frond/overlay/outer"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

// noWay starts nothing: tests report in themselves.
type noWay struct{}

func (noWay) commands(string) ([]launched, error) { return nil, nil }
func (noWay) words() []string                     { return nil }
func (noWay) label() string                       { return "none" }
func (noWay) close()                              {}

// testFleet is a fleet that waits for the nodes, and a function that reports in as a broker and returns the first order.
func testFleet(t *testing.T, nodes ...string) (*fleet, func(meet.Report) (*meet.Conn, meet.Order)) {
	info := &boot.Info{Name: "t", ID: "run", RunDir: t.TempDir(), Interface: "lo"}
	require.NoError(t, makeCert(info))
	var slots []*slot
	for i, n := range nodes {
		slots = append(slots, &slot{place: meet.Place{Rank: i + 1, Index: i, Node: n}})
	}
	events := make(chan any, 16)
	f, err := newFleet(info, noWay{}, 1, slots, events)
	require.NoError(t, err)
	require.NoError(t, f.launch())
	t.Cleanup(f.close)
	keys, err := curve.LoadKeys(info.CertFile())
	require.NoError(t, err)
	tk, err := boot.ParseTicket(f.ticket)
	require.NoError(t, err)
	return f, func(r meet.Report) (*meet.Conn, meet.Order) {
		if r.Protocol == 0 {
			r.Protocol = wire.Protocol
		}
		if r.ID == "" {
			r.ID = "run"
		}
		c, err := meet.Dial(t.Context(), tk.Meet, keys, r)
		require.NoError(t, err)
		t.Cleanup(c.Close)
		for in := range events {
			if ev, ok := in.(meet.Reported); ok {
				f.report(ev)
				break
			}
		}
		o, err := c.Next()
		require.NoError(t, err)
		return c, o
	}
}

func TestBrokersGetThePlaceOfTheirNode(t *testing.T) {
	f, report := testFleet(t, "n1", "n2", "n3")
	_, o := report(meet.Report{UUID: "a", Host: "h", Node: "n3", Rank: 0})
	require.Equal(t, 3, o.Place.Rank)
	_, o = report(meet.Report{UUID: "b", Host: "h", Rank: 1})
	require.Equal(t, 2, o.Place.Rank, "by its number in the launch")
	_, o = report(meet.Report{UUID: "c", Host: "h", Rank: -1})
	require.Equal(t, 1, o.Place.Rank, "what is free")
	_, o = report(meet.Report{UUID: "d", Host: "h9", Rank: -1})
	require.Contains(t, o.Refused, "no broker is awaited from host h9 any more")
	_, o = report(meet.Report{UUID: "a", Host: "h", Node: "n3"})
	require.Equal(t, 3, o.Place.Rank, "it comes again")
	require.Nil(t, f.byPeer(nil))
}

func TestNodesWithoutANameAreToldApart(t *testing.T) {
	_, report := testFleet(t, "", "", "")
	var names []string
	for _, uuid := range []string{"a", "b", "c"} {
		_, o := report(meet.Report{UUID: uuid, Host: "h", Rank: -1})
		names = append(names, o.Place.Node)
	}
	require.Equal(t, []string{"h", "h.1", "h.2"}, names)
}

func TestAnOldFrondIsRefusedByTheNameOfItsHost(t *testing.T) {
	f, report := testFleet(t, "n1")
	_, o := report(meet.Report{UUID: "a", Host: "oldhost", Node: "n1", Version: "0.0.1", Protocol: wire.Protocol + 2})
	require.Contains(t, o.Refused, "frond 0.0.1 on host oldhost speaks protocol")
	n, why := f.failed()
	require.Equal(t, 1, n)
	require.ErrorContains(t, why, "node n1: frond 0.0.1 on host oldhost")
}

func TestABrokerOfAnotherRunIsRefused(t *testing.T) {
	_, report := testFleet(t, "n1")
	_, o := report(meet.Report{ID: "yesterday's", UUID: "a", Node: "n1"})
	require.Contains(t, o.Refused, "another run")
}

func TestABrokerThatComesBackIsNotDead(t *testing.T) {
	f, report := testFleet(t, "n1")
	_, _ = report(meet.Report{UUID: "a", Node: "n1", PID: 7})
	f.hung(meet.Hung{Peer: f.slots[0].peer, Closed: true})
	require.Nil(t, f.slots[0].peer)
	report(meet.Report{UUID: "a", Node: "n1", PID: 7})
	f.grace(evGrace{"a"})
	require.False(t, f.slots[0].over)

	f.hung(meet.Hung{Peer: f.slots[0].peer})
	f.grace(evGrace{"a"})
	require.True(t, f.slots[0].over)
}

func TestPortRanges(t *testing.T) {
	for _, bad := range []string{"x", "1-", "-1", "0-5", "5-4", "1-65536"} {
		_, err := parsePorts(bad)
		require.Error(t, err, bad)
	}
	r, err := parsePorts("7000-7002")
	require.NoError(t, err)
	var tried []string
	err = r.listen(func(port string) error { tried = append(tried, port); return net.ErrClosed })
	require.ErrorContains(t, err, "no port of --port-range 7000-7002 is free")
	require.Equal(t, []string{"7000", "7001", "7002"}, tried)
}

func TestInterfaces(t *testing.T) {
	for _, which := range []string{"lo", "127.0.0.0/8", "127.0.0.1"} {
		addrs, err := interfaceAddrs(which)
		require.NoError(t, err, which)
		require.Equal(t, []string{"127.0.0.1"}, addrs)
	}
	_, err := interfaceAddrs("10.255.255.255/32")
	require.ErrorContains(t, err, "there are")
}

func TestRanksAndGrantsOfAnAllocation(t *testing.T) {
	a := &outer.Allocation{Nodes: []string{"a", "b", "c"}, CPUs: []int{8, 4, 1}, MemMiB: []int64{80, 40, 10}, Here: 1}
	p := &launchPlan{alloc: a, local: 1, nodes: a.Nodes, here: 1, threads: map[string]int{"a": 2, "b": 2, "c": 2}}
	slots := p.slots(1, nil)
	require.Equal(t, 3, p.size())
	require.Equal(t, []string{"a", "c"}, p.others())
	require.Equal(t, meet.Place{Rank: 1, Index: 1, Node: "a", Cores: 4, MemMiB: 80, NoGPUs: true, Oversub: 1}, slots[0].place)
	require.Equal(t, meet.Place{Rank: 2, Index: 2, Node: "c", Cores: 1, MemMiB: 10, NoGPUs: true, Oversub: 1}, slots[1].place)

	p.here = -1
	require.Equal(t, 4, p.size(), "the leader stands beside the nodes")
	require.Equal(t, 0, p.slots(1, nil)[0].place.Index)
}

func TestWordsForAShell(t *testing.T) {
	require.Equal(t, `srun -w 'n[1-2]' '' 'it'\''s'`, typedLine([]string{"srun", "-w", "n[1-2]", "", "it's"}))
}

func TestAJoinedBrokerIsKnownAsOne(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "1"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1", "broker"), []byte("read x\n"), 0o600))
	cmd := &exec.Cmd{Path: "/bin/sh", Args: []string{filepath.Join(dir, "frond"), "broker"}, Dir: filepath.Join(dir, "1")} // "sh broker" under that name
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	defer in.Close()
	deadline := time.Now().Add(time.Minute)
	for !isBroker(cmd.Process.Pid, dir) && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	require.True(t, isBroker(cmd.Process.Pid, dir))
	require.False(t, isBroker(cmd.Process.Pid, "/elsewhere"))
	require.False(t, isBroker(os.Getpid(), dir))
}

func TestNodesThatTheLauncherGivesUpAreNotAwaited(t *testing.T) {
	f, report := testFleet(t, "n1", "n2", "n3")
	report(meet.Report{UUID: "a", Host: "h", Node: "n3"})
	e := &ear{f: f, lost: outer.SrunLost}
	for _, text := range []string{"srun: error: n[2", "-3]: tasks 1-2: Exited with exit code 2\nslurmstepd-n2: error: execve(): /frond: No such file or directory\n"} {
		n, err := e.Write([]byte(text))
		require.NoError(t, err)
		require.Equal(t, len(text), n)
	}
	f.lost(evLost{[]string{"n2", "n3"}})
	n, why := f.failed()
	require.Equal(t, 1, n, "n3 has reported in: it tells of its end itself")
	require.ErrorContains(t, why, "node n2: no broker there has reported in; the launcher says:")
	require.ErrorContains(t, why, "execve(): /frond: No such file")
}

func TestABrokerWithTheCertificateOfAnotherInstanceIsTurnedAway(t *testing.T) {
	here, _ := testFleet(t, "n1")
	other, _ := testFleet(t, "n1")
	tk, err := boot.ParseTicket(other.ticket)
	require.NoError(t, err)
	mine, err := boot.ParseTicket(here.ticket)
	require.NoError(t, err)
	tk.Meet = mine.Meet
	e, _, _ := testEnv("SLURMD_NODENAME", "n1")
	m, err := newMembership(e, tk, 0)
	require.NoError(t, err)
	err = m.reportIn(t.Context())
	require.ErrorIs(t, err, curve.ErrDenied)
	require.ErrorContains(t, err, "certificate")
	require.Nil(t, here.slots[0].report)
}

// In the shell of `flux start` there is a URI, and no job.
func TestAnInstanceOfFluxIsNoAllocation(t *testing.T) {
	e, _, _ := testEnv("FLUX_URI", "local:///run/flux/local")
	p, err := (&startOptions{boot: "auto", launcher: "auto", brokers: 1}).makePlan(e)
	require.NoError(t, err)
	require.Contains(t, p.found, "in an instance of Flux (FLUX_URI) and in none of its jobs, and uses this host alone")
	require.Nil(t, p.around())
	require.Equal(t, 1, p.local)
}
