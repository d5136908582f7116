package resource

import (
	"math/rand"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func testNodes(n, cores, gpus int, mem int64) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i] = Node{Index: i, Name: "n" + string(rune('a'+i%26)), Cores: MaskRange(0, cores-1), GPUs: MaskRange(0, gpus-1), MemMiB: mem}
	}
	return nodes
}

func inventoryOf(t require.TestingT, nodes ...Node) *Inventory {
	v := NewInventory()
	for _, n := range nodes {
		require.NoError(t, v.Add(n))
	}
	return v
}

func property(names ...string) *jobspec.Constraint {
	return &jobspec.Constraint{Op: "properties", Names: names}
}

func TestFeasibleSaysWhatIsNeededAndWhatThereIs(t *testing.T) {
	two := testNodes(2, 2, 0, 0)
	big := testNodes(2, 8, 4, 1024)
	big[1].Properties = []string{"ssd"}
	mixed := []Node{testNodes(1, 8, 0, 0)[0], {Index: 1, Name: "gpu", Cores: MaskRange(0, 1), GPUs: MaskRange(0, 3)}}
	rows := []struct {
		name  string
		nodes []Node
		req   jobspec.Request
		c     *jobspec.Constraint
		want  string
	}{
		{"one core fits", two, jobspec.Request{Slots: 1, Cores: 1}, nil, ""},
		{"all cores, spread over nodes, fit", two, jobspec.Request{Slots: 4, Cores: 1}, nil, ""},
		{"both nodes whole fit", two, jobspec.Request{Nodes: 2, Slots: 1, Cores: 2, Exclusive: true}, nil, ""},
		{"gpus that no node has", two, jobspec.Request{Slots: 1, Cores: 1, GPUs: 8}, nil, "needs 8 gpus; the largest node has 0"},
		{"more nodes than there are", two, jobspec.Request{Nodes: 4, Slots: 1, Cores: 1}, nil, "needs 4 nodes; this instance has 2"},
		{"a slot larger than any node", two, jobspec.Request{Slots: 1, Cores: 4}, nil, "needs 4 cores in one slot; the largest node has 2 (see frond start --oversubscribe)"},
		{"too many slots on one node", two, jobspec.Request{Nodes: 1, Slots: 4, Cores: 1}, nil, "needs 4 cores on one node; the largest node has 2 (see frond start --oversubscribe)"},
		{"more cores than all nodes have", two, jobspec.Request{Slots: 100, Cores: 1}, nil, "needs 100 cores; this instance has 4 (see frond start --oversubscribe)"},
		{"more slots than fit", two, jobspec.Request{Slots: 3, Cores: 2}, nil, "needs 3 slots of 2 cores; this instance has room for 2"},
		{"memory of nodes that do not tell", two, jobspec.Request{Slots: 1, Cores: 1, MemMiB: 10}, nil, "needs 10 MiB of memory in one slot; no node says how much it has"},
		{"more memory than a node has", big, jobspec.Request{Slots: 1, Cores: 1, MemMiB: 2048}, nil, "needs 2048 MiB of memory in one slot; the largest node has 1024"},
		{"a property that no node has", big, jobspec.Request{Slots: 1, Cores: 1}, property("nvme"), "no node has property nvme"},
		{"a property that one node has", big, jobspec.Request{Slots: 1, Cores: 8}, property("ssd"), ""},
		{"more nodes than have the property", big, jobspec.Request{Nodes: 2, Slots: 1, Cores: 1}, property("ssd"), "needs 2 nodes; 1 of this instance's satisfy its constraint (has property ssd)"},
		{"more cores than nodes with the property have", big, jobspec.Request{Slots: 9, Cores: 1}, property("ssd"), "needs 9 cores; the nodes allowed by its constraint have 8 (see frond start --oversubscribe)"},
		{"cores on one node, gpus on another", mixed, jobspec.Request{Slots: 1, Cores: 4, GPUs: 1}, nil, "needs 4 cores and 1 gpu in one slot; no node has all of that"},
		{"two such nodes wanted, one there", mixed, jobspec.Request{Nodes: 2, Slots: 1, Cores: 4}, nil, "needs 2 nodes with 4 cores; this instance has 1 such"},
		{"an empty instance", nil, jobspec.Request{Slots: 1, Cores: 1}, nil, "this instance has no nodes"},
		{"no core in a slot", two, jobspec.Request{Slots: 1}, nil, "needs at least one core in a slot, not 0"},
		{"amounts that overflow", two, jobspec.Request{Nodes: 1, Slots: 1 << 30, Cores: 1 << 30}, nil, "needs 2147483647 cores on one node; the largest node has 2 (see frond start --oversubscribe)"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			v := inventoryOf(t, r.nodes...)
			for range 2 { // the second answer is the kept one
				err := v.Feasible(r.req, r.c)
				if r.want == "" {
					require.NoError(t, err)
				} else {
					require.EqualError(t, err, r.want)
				}
			}
		})
	}
}

func TestFeasibleCountsNodesThatAreDownOrBusyButNotRemovedOnes(t *testing.T) {
	v := inventoryOf(t, testNodes(2, 2, 0, 0)...)
	req := jobspec.Request{Nodes: 2, Slots: 1, Cores: 2}
	v.SetUp(0, false)
	require.NoError(t, v.Take(NodeAlloc{Node: 1, Cores: MaskOf(0)}))
	require.NoError(t, v.Feasible(req, nil))
	v.Remove(0)
	require.EqualError(t, v.Feasible(req, nil), "needs 2 nodes; this instance has 1")
	require.NoError(t, v.Add(testNodes(1, 2, 0, 0)[0]))
	require.NoError(t, v.Feasible(req, nil))
}

func TestDescribePutsConstraintsIntoWords(t *testing.T) {
	ssd, host := property("ssd", "^old"), &jobspec.Constraint{Op: "hostlist", Names: []string{"n[1-3]"}}
	or := &jobspec.Constraint{Op: "or", Sub: []*jobspec.Constraint{ssd, host}}
	not := &jobspec.Constraint{Op: "not", Sub: []*jobspec.Constraint{{Op: "ranks", Names: []string{"0-3"}}}}
	require.Equal(t, "has property ssd and lacks property old or is host n[1-3]", Describe(or))
	require.Equal(t, "does not match (has rank 0-3)", Describe(not))
}

func TestPartsOfGPUsShareOneAndNeverSpanTwo(t *testing.T) {
	v := inventoryOf(t, testNodes(1, 8, 2, 100)...)
	take := func(part, slots int) NodeAlloc {
		gpus, parts := v.PickParts(0, part, slots)
		a := NodeAlloc{Node: 0, GPUs: gpus, GPUParts: &parts}
		require.NoError(t, v.Take(a))
		require.NoError(t, v.Check())
		return a
	}
	a := take(50, 1)
	require.Equal(t, "0%50", FormatGPUs(a.GPUs, a.GPUParts))
	require.Equal(t, int32(100), v.Free().At(0).GPUs, "a shared gpu is no longer whole")
	require.Equal(t, 3, v.PartSlots(0, 50))
	b := take(30, 2)
	require.Equal(t, "0-1%30,30", FormatGPUs(b.GPUs, b.GPUParts), "the one that has the least left first")
	require.Equal(t, int32(70), v.Free().At(0).GPUs)
	require.Equal(t, "0-1%80,30", FormatGPUs(v.Used(0).GPUs, v.Used(0).GPUParts))
	require.ErrorContains(t, v.Take(NodeAlloc{Node: 0, GPUs: MaskOf(1)}), "gpus 1 of node 0 are in use")
	require.ErrorContains(t, v.Take(NodeAlloc{Node: 0, GPUs: MaskOf(0), GPUParts: &[]int{30}}), "80 % is in use")
	v.Give(a)
	v.Give(b)
	require.Equal(t, NodeAlloc{}, v.Used(0))
	for _, text := range []string{"0%50", "0-1%30,30", "0-3", ""} {
		gpus, parts, err := ParseGPUs(text)
		require.NoError(t, err)
		require.Equal(t, text, FormatGPUs(gpus, parts))
	}
}

func TestTakeRefusesWhatIsInUse(t *testing.T) {
	v := inventoryOf(t, testNodes(1, 4, 2, 100)...)
	require.NoError(t, v.Take(NodeAlloc{Node: 0, Cores: MaskOf(0, 1), GPUs: MaskOf(0), MemMiB: 60}))
	require.ErrorContains(t, v.Take(NodeAlloc{Node: 0, Cores: MaskOf(1, 2)}), "cores 1 of node 0 are in use")
	require.ErrorContains(t, v.Take(NodeAlloc{Node: 0, Cores: MaskOf(2), GPUs: MaskOf(0)}), "gpus 0 of node 0 are in use")
	require.Equal(t, Room{Cores: 2, GPUs: 100, MemMiB: 40}, v.Free().At(0))
	v.Give(NodeAlloc{Node: 0, Cores: MaskOf(0, 1), GPUs: MaskOf(0), MemMiB: 60})
	require.Equal(t, Room{Cores: 4, GPUs: 200, Whole: 4, MemMiB: 100}, v.Free().At(0))
	require.NoError(t, v.Check())
}

func TestWhatIsTakenOfAnUnknownNodeStaysTakenWhenItComes(t *testing.T) {
	v := NewInventory()
	require.NoError(t, v.Take(NodeAlloc{Node: 3, Cores: MaskOf(1)}))
	require.Error(t, v.Take(NodeAlloc{Node: 3, Cores: MaskOf(1)}))
	require.NoError(t, v.Add(testNodes(4, 2, 0, 0)[3]))
	cores, _ := v.FreeMasks(3)
	require.Equal(t, "0", cores.String())
	require.NoError(t, v.Check())
}

func TestIndexesOutOfRangeAreRefused(t *testing.T) {
	v := NewInventory()
	require.Error(t, v.Add(Node{Index: -1}))
	require.Error(t, v.Add(Node{Index: MaxNodes}))
	require.Error(t, v.Take(NodeAlloc{Node: MaxNodes}))
	require.Nil(t, v.Node(-1))
	require.Nil(t, v.Node(7))
	v.Remove(7)
	v.SetUp(7, true)
	require.Zero(t, v.Known())
}

func TestTheIndexFindsWhatALookAtEveryNodeFinds(t *testing.T) {
	room := rapid.Custom(func(t *rapid.T) Room {
		r := Room{Cores: rapid.Int32Range(0, 4).Draw(t, "cores"), GPUs: rapid.Int32Range(0, 2).Draw(t, "gpus"), MemMiB: rapid.Int32Range(0, 3).Draw(t, "mem")}
		if rapid.Bool().Draw(t, "idle") {
			r.Whole = r.Cores
		}
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		rooms := make([]Room, rapid.IntRange(1, 40).Draw(t, "n"))
		x := NewIndex(rapid.IntRange(1, len(rooms)).Draw(t, "start"))
		x.Grow(len(rooms))
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			i := rapid.IntRange(0, len(rooms)-1).Draw(t, "node")
			rooms[i] = room.Draw(t, "room")
			x.Set(i, rooms[i])
			need, from := room.Draw(t, "need"), rapid.IntRange(0, len(rooms)-1).Draw(t, "from")
			need.Cores = max(need.Cores, 1)
			want, with, slots, cores := -1, 0, 0, int64(0)
			for k, r := range rooms {
				if want < 0 && k >= from && r.Covers(need) {
					want = k
				}
				if r.Cores >= need.Cores {
					with++
				}
				slots += int(r.Cores / need.Cores)
				cores += int64(r.Cores)
			}
			require.Equal(t, want, x.Next(from, need))
			require.Equal(t, with, x.NodesWith(need.Cores))
			require.Equal(t, slots, x.SlotsOf(need.Cores))
			require.Equal(t, cores, x.Cores())
		}
	})
}

// TestInventoryAgreesWithItself drives random changes and takes; nothing may be booked twice and all must come back.
func TestInventoryAgreesWithItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := NewInventory()
		var held []NodeAlloc
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			i := rapid.IntRange(0, 5).Draw(t, "node")
			switch rapid.IntRange(0, 4).Draw(t, "op") {
			case 0:
				require.NoError(t, v.Add(Node{Index: i, Name: "n", Cores: MaskRange(0, rapid.IntRange(0, 90).Draw(t, "cores")), MemMiB: 100}))
			case 1:
				v.Remove(i)
			case 2:
				v.SetUp(i, rapid.Bool().Draw(t, "up"))
			case 3:
				a := NodeAlloc{Node: i, Cores: MaskOf(rapid.IntRange(0, 90).Draw(t, "a"), rapid.IntRange(0, 90).Draw(t, "b")), MemMiB: 7}
				clash := false
				for _, h := range held {
					clash = clash || h.Node == i && h.Cores.Overlaps(a.Cores)
				}
				require.Equal(t, clash, v.Take(a) != nil)
				if !clash {
					held = append(held, a)
				}
			case 4:
				if n := len(held); n > 0 {
					v.Give(held[n-1])
					held = held[:n-1]
				}
			}
			require.NoError(t, v.Check())
		}
		for _, h := range held {
			v.Give(h)
		}
		require.NoError(t, v.Check())
		for i := range v.Len() {
			u := v.Used(i)
			require.True(t, u.Cores.Empty() && u.MemMiB == 0)
		}
	})
}

// cpuTime is what this process has used. Unlike the time of day it does not depend on what else the machine does.
func cpuTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestMemoryAndLoadOf16384Nodes holds the aims with room for a slow machine: 50 MB, 0.2 s.
func TestMemoryAndLoadOf16384Nodes(t *testing.T) {
	nodes := testNodes(16384, 48, 0, 1<<18)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := cpuTime(t)
	v := NewInventory()
	for _, n := range nodes {
		require.NoError(t, v.Add(n))
	}
	took := cpuTime(t) - start
	runtime.GC()
	runtime.ReadMemStats(&after)
	mb := float64(after.HeapAlloc-before.HeapAlloc) / 1e6
	t.Logf("%.1f MB, %v", mb, took)
	require.Less(t, mb, 50.0)
	require.Less(t, took, time.Second)
	require.Equal(t, 16384, v.Known())
}

func BenchmarkIndexTakeAndGiveOneCore(b *testing.B) {
	for _, n := range []int{100, 1000, 100000} {
		b.Run(plural(n, "node"), func(b *testing.B) {
			v := inventoryOf(b, testNodes(n, 64, 0, 0)...)
			rnd := rand.New(rand.NewSource(1))
			for b.Loop() {
				i := rnd.Intn(n)
				a := NodeAlloc{Node: i, Cores: MaskOf(5)}
				if v.Take(a) != nil {
					b.Fatal("in use")
				}
				v.Give(a)
			}
		})
	}
}
