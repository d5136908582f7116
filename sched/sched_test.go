package sched_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/sched"
	"github.com/frond-hpc/frond/sched/easy"
	"github.com/frond-hpc/frond/sched/fcfs"
	"github.com/stretchr/testify/require"
)

// bed is a machine under test.
type bed struct {
	t   *testing.T
	m   *sched.Machine
	now float64
	ids map[sched.GroupID][]uint64 // allocations made, by group
}

func newBed(t *testing.T, cfg sched.Config, nodes ...resource.Node) *bed {
	if cfg.Policy == nil {
		cfg.Policy = easy.Policy{}
	}
	b := &bed{t: t, m: sched.New(cfg), now: 1000, ids: map[sched.GroupID][]uint64{}}
	b.do(sched.Nodes{Add: nodes})
	return b
}

// nodes makes n nodes with so many cores.
func nodes(n, cores int) []resource.Node { return schednodes(n, cores, 0, 0) }

func schednodes(n, cores, gpus int, mem int64) []resource.Node {
	list := make([]resource.Node, n)
	for i := range list {
		list[i] = resource.Node{Index: i, Name: fmt.Sprintf("n%d", i), Cores: resource.MaskRange(0, cores-1), GPUs: resource.MaskRange(0, gpus-1), MemMiB: mem}
	}
	return list
}

// do gives the machine events, then runs passes for as long as it wants one now. It returns in words what was started.
func (b *bed) do(events ...any) string {
	var said []string
	wake := false
	step := func(ev any) {
		for _, a := range b.m.Step(b.now, ev) {
			switch a := a.(type) {
			case sched.Wake:
				wake = wake || a.At <= b.now
			case sched.Allocs:
				for _, x := range a.Allocs {
					b.ids[x.Group] = append(b.ids[x.Group], x.ID)
					said = append(said, describe(x))
				}
			default:
				said = append(said, fmt.Sprintf("%T", a))
			}
		}
		require.NoError(b.t, b.m.Check())
	}
	for _, ev := range events {
		step(ev)
	}
	for wake {
		wake = false
		step(sched.RunPass{})
	}
	return strings.Join(said, " ")
}

// describe is "group@node:cores[/gpus]+…".
func describe(a sched.Alloc) string {
	var parts []string
	for _, n := range a.Alloc.Nodes {
		p := fmt.Sprintf("%d:%v", n.Node, n.Cores)
		if !n.GPUs.Empty() {
			p += "/" + n.GPUs.String()
		}
		parts = append(parts, p)
	}
	return fmt.Sprintf("%d@%s", a.Group, strings.Join(parts, "+"))
}

func job(id sched.GroupID, r jobspec.Request, seconds float64) sched.GroupSpec {
	return sched.GroupSpec{ID: id, Request: r, Duration: seconds, Priority: 16, Order: uint64(id), Count: 1}
}

func submit(groups ...sched.GroupSpec) sched.Submit { return sched.Submit{Groups: groups} }

func (b *bed) free(id sched.GroupID) sched.Free { return sched.Free{IDs: b.ids[id]} }

func (b *bed) reason(id sched.GroupID) string {
	r := b.m.Reasons(b.now, []sched.GroupID{id}, false)
	require.Len(b.t, r, 1)
	return r[0].Text
}

func TestPlacement(t *testing.T) {
	gpu := schednodes(3, 4, 2, 100)
	rows := []struct {
		name  string
		nodes []resource.Node
		req   jobspec.Request
		count int
		want  string
	}{
		{"-N4 -n4 on four one-core nodes: one each", nodes(4, 1), jobspec.Request{Nodes: 4, Slots: 1, Cores: 1}, 1, "1@0:0+1:0+2:0+3:0"},
		{"-n4 on four one-core nodes: spread, for want of room", nodes(4, 1), request(0, 4, 1), 1, "1@0:0+1:0+2:0+3:0"},
		{"-n4 where a node has room: packed", nodes(2, 4), request(0, 4, 1), 1, "1@0:0-3"},
		{"elements fill node by node", nodes(2, 2), request(0, 1, 1), 5, "1@0:0 1@0:1 1@1:0 1@1:1"},
		{"two slots of two cores do not fit a node of three, but two nodes", nodes(2, 3), request(0, 2, 2), 1, "1@0:0-1+1:0-1"},
		{"slots per node", nodes(2, 4), jobspec.Request{Nodes: 2, Slots: 2, Cores: 2}, 1, "1@0:0-3+1:0-3"},
		{"gpus come with the slot", gpu, jobspec.Request{Slots: 1, Cores: 1, GPUs: 1}, 3, "1@0:0/0 1@0:1/1 1@1:0/0"},
		{"memory limits what shares a node", gpu, jobspec.Request{Slots: 1, Cores: 1, MemMiB: 60}, 4, "1@0:0 1@1:0 1@2:0"},
		{"a whole node comes with all its cores and gpus", gpu, jobspec.Request{Nodes: 1, Slots: 1, Cores: 1, Exclusive: true}, 2, "1@0:0-3/0-1 1@1:0-3/0-1"},
		{"nodes of more than 64 cores", nodes(2, 100), jobspec.Request{Nodes: 1, Slots: 1, Cores: 70}, 3, "1@0:0-69 1@1:0-69"},
		{"cores beyond the 64th", nodes(1, 70), request(0, 1, 32), 2, "1@0:0-31 1@0:32-63"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			b := newBed(t, sched.Config{}, r.nodes...)
			g := job(1, r.req, 0)
			g.Count = r.count
			require.Equal(t, r.want, b.do(submit(g)))
		})
	}
}

func TestConstraintsChooseNodes(t *testing.T) {
	list := nodes(4, 1)
	list[1].Properties, list[3].Properties = []string{"ssd"}, []string{"ssd"}
	rows := []struct {
		name, op, operand, want string
	}{
		{"a property", "properties", "ssd", "1@1:0"},
		{"the lack of a property", "properties", "^ssd", "1@0:0"},
		{"host names", "hostlist", "n[2-3]", "1@2:0"},
		{"ranks are node indexes", "ranks", "3", "1@3:0"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			b := newBed(t, sched.Config{}, list...)
			g := job(1, request(0, 1, 1), 0)
			g.Constraint = &jobspec.Constraint{Op: r.op, Names: []string{r.operand}}
			require.Equal(t, r.want, b.do(submit(g)))
		})
	}
	t.Run("nodes that come later are looked at too", func(t *testing.T) {
		b := newBed(t, sched.Config{}, list[0])
		g := job(1, request(0, 1, 1), 0)
		g.Constraint = &jobspec.Constraint{Op: "properties", Names: []string{"ssd"}}
		require.Empty(t, b.do(submit(g)))
		require.Equal(t, "no node has property ssd", b.reason(1))
		require.Equal(t, "1@1:0", b.do(sched.Nodes{Add: list[1:2]}))
	})
}

func TestOrderIsByPriorityThenByOrder(t *testing.T) {
	b := newBed(t, sched.Config{}, nodes(1, 1)...)
	one := request(0, 1, 1)
	held, late, early, urgent := job(1, one, 0), job(4, one, 0), job(3, one, 0), job(5, one, 0)
	held.Priority, urgent.Priority = 0, 20
	require.Equal(t, "5@0:0", b.do(submit(held, late, early, urgent)))
	require.Equal(t, "3@0:0", b.do(b.free(5)))
	require.Equal(t, "4@0:0", b.do(b.free(3)))
	require.Equal(t, "", b.do(b.free(4)))
	require.Equal(t, "is held", b.reason(1))
	require.Equal(t, "1@0:0", b.do(sched.SetPriority{ID: 1, Priority: 16}))
}

func TestNodesThatAreDownAreSkippedAndWhatRunsThereStaysBooked(t *testing.T) {
	b := newBed(t, sched.Config{}, nodes(2, 1)...)
	one := request(0, 1, 1)
	require.Equal(t, "1@0:0", b.do(submit(job(1, one, 0))))
	require.Equal(t, "", b.do(sched.Nodes{Down: []int{0, 1}}, submit(job(2, one, 0))))
	require.Equal(t, "waits for 1 core: 0 on the nodes that are up, others are offline or drained", b.reason(2))
	require.Len(t, b.m.Used(), 1)
	require.Equal(t, "2@1:0", b.do(sched.Nodes{Up: []int{0, 1}}))
	require.Equal(t, "", b.do(submit(job(3, one, 0))))
	require.Equal(t, "3@0:0", b.do(b.free(1)))
}

func TestEasyBackfill(t *testing.T) {
	// Two nodes of four cores; group 1 takes three cores of node 0 until 1100; group 2 waits for two whole nodes.
	start := func(t *testing.T) *bed {
		b := newBed(t, sched.Config{}, nodes(2, 4)...)
		require.Equal(t, "1@0:0-2", b.do(submit(job(1, request(0, 1, 3), 100))))
		require.Equal(t, "", b.do(submit(job(2, jobspec.Request{Nodes: 2, Slots: 1, Cores: 3}, 50))))
		require.Equal(t, 1100.0, b.m.Reasons(b.now, nil, false)[0].Estimate)
		return b
	}
	rows := []struct {
		name string
		g    sched.GroupSpec
		want string
	}{
		{"a job that ends before the shadow time starts", job(3, request(0, 1, 4), 100), "3@1:0-3"},
		{"one that ends a second later does not", job(3, request(0, 1, 4), 101), ""},
		{"a long one starts on extra cores", job(3, request(0, 1, 1), 1e6), "3@0:3"},
		{"so does one without a time limit", job(3, request(0, 1, 1), 0), "3@0:3"},
		{"a long one of two cores would delay", job(3, request(0, 1, 2), 1e6), ""},
		{"a whole node is never extra when the head uses part of it", job(3, jobspec.Request{Nodes: 1, Slots: 1, Cores: 1, Exclusive: true}, 1e6), ""},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			require.Equal(t, r.want, start(t).do(submit(r.g)))
		})
	}
	t.Run("extra cores are given once", func(t *testing.T) {
		g := job(3, request(0, 1, 1), 0)
		g.Count = 5
		require.Equal(t, "3@0:3 3@1:0", start(t).do(submit(g)))
	})
	t.Run("the time that is left shrinks", func(t *testing.T) {
		b := start(t)
		b.now += 10
		require.Equal(t, "", b.do(submit(job(3, request(0, 1, 4), 91))))
		require.Equal(t, "4@1:0-3", b.do(submit(job(4, request(0, 1, 4), 90))))
	})
	t.Run("the head starts as soon as it can", func(t *testing.T) {
		b := start(t)
		require.Equal(t, "2@0:0-2+1:0-2", b.do(b.free(1)))
	})
	t.Run("depth bounds how far behind the head is looked", func(t *testing.T) {
		b := newBed(t, sched.Config{Policy: easy.Policy{Depth: 1}}, nodes(1, 2)...)
		b.do(submit(job(1, request(0, 1, 1), 100), job(2, request(0, 1, 2), 100)))
		require.Equal(t, "", b.do(submit(job(3, request(0, 1, 1), 200), job(4, request(0, 1, 1), 50))))
		require.Equal(t, "4@0:1", b.do(sched.Cancel{ID: 3, Count: 1}))
	})
}

func TestAHeadThatNeedsNodesThatAreDownHoldsUpNobodyUnderEasy(t *testing.T) {
	for _, p := range []sched.Policy{easy.Policy{}, fcfs.Policy{}} {
		b := newBed(t, sched.Config{Policy: p}, nodes(2, 1)...)
		b.do(sched.Nodes{Down: []int{1}})
		got := b.do(submit(job(1, jobspec.Request{Nodes: 2, Slots: 1, Cores: 1}, 0), job(2, request(0, 1, 1), 0)))
		require.Equal(t, map[string]string{"easy": "2@0:0", "fcfs": ""}[p.Name()], got)
	}
}

func TestAStreamOfUnlimitedJobsDoesNotStarveALargeOne(t *testing.T) {
	// Every core runs a job of unknown end, and one ends each second somewhere; the head wants one whole node, and the jobs of node 0,
	// where its reservation stands at first, never end.
	b := newBed(t, sched.Config{}, nodes(4, 2)...)
	next := sched.GroupID(10)
	one := request(0, 1, 1)
	small := job(next, one, 0)
	small.Count = 8
	b.do(submit(small))
	running := b.ids[next][2:]
	b.do(submit(job(1, jobspec.Request{Nodes: 1, Slots: 1, Cores: 2, Exclusive: true}, 0)))
	for range 300 {
		b.now++
		next++
		b.do(submit(job(next, one, 0)))
		if len(running) > 0 {
			b.do(sched.Free{IDs: running[:1]})
			running = running[1:]
		}
		running = append(running, b.ids[next]...)
		if len(b.ids[1]) > 0 {
			return
		}
	}
	t.Fatal("the large job has not started")
}

func TestManyRunningAllocationsSlowOnlyBackfilling(t *testing.T) {
	b := newBed(t, sched.Config{ExactRunning: 1, PlanEvery: 10}, nodes(4, 40)...)
	small := job(1, request(0, 1, 1), 1000)
	small.Count = 150
	b.do(submit(small))
	b.do(submit(job(2, jobspec.Request{Nodes: 4, Slots: 1, Cores: 40}, 10), job(3, request(0, 1, 1), 1000)))
	require.Len(t, b.ids[3], 1)
	b.now++
	require.Equal(t, "", b.do(sched.Free{IDs: b.ids[1][:1]}, submit(job(4, request(0, 1, 2), 900))), "the reservation is 1 s old")
	require.Len(t, b.m.Step(b.now, sched.SetPriority{ID: 4, Priority: 17}), 1, "an event asks for a pass at once")
	out := b.m.Step(b.now, sched.RunPass{})
	require.NotEmpty(t, out)
}

func TestAPassIsBoundedAndAnotherFollows(t *testing.T) {
	b := newBed(t, sched.Config{MaxAllocs: 2}, nodes(1, 5)...)
	g := job(1, request(0, 1, 1), 0)
	g.Count = 9
	require.Equal(t, []any{sched.Wake{At: 1000}}, b.m.Step(b.now, submit(g)))
	for _, want := range []int{2, 2, 1} {
		out := b.m.Step(b.now, sched.RunPass{})
		require.Len(t, out[0].(sched.Allocs).Allocs, want)
		require.Equal(t, want == 2, len(out) == 2, "more follows while the pass was full")
	}
	require.Empty(t, b.m.Step(b.now, sched.RunPass{}))
}

func TestAdoption(t *testing.T) {
	taken := func(id uint64, parts ...resource.NodeAlloc) sched.Adopt {
		return sched.Adopt{Allocs: []sched.Alloc{{ID: 1<<63 | id, Group: 1, Alloc: &resource.Alloc{Nodes: parts}}}}
	}
	t.Run("of nodes that are not known yet", func(t *testing.T) {
		b := newBed(t, sched.Config{})
		require.Equal(t, "", b.do(taken(1, resource.NodeAlloc{Node: 1, Cores: resource.MaskOf(0)}), submit(job(2, request(0, 2, 1), 0))))
		require.Equal(t, "this instance has no nodes", b.reason(2))
		require.Equal(t, "2@0:0+1:1", b.do(sched.Nodes{Add: []resource.Node{nodes(2, 1)[0], nodes(2, 2)[1]}}))
	})
	t.Run("twice is once", func(t *testing.T) {
		b := newBed(t, sched.Config{}, nodes(1, 2)...)
		a := taken(1, resource.NodeAlloc{Node: 0, Cores: resource.MaskOf(0)})
		require.Equal(t, "", b.do(a, a))
		require.Equal(t, 1, b.m.Running())
		b.do(sched.Free{IDs: []uint64{1<<63 | 1, 1<<63 | 1}})
		require.Empty(t, b.m.Used())
	})
	t.Run("of what is in use is a conflict and leaves it to its owner", func(t *testing.T) {
		b := newBed(t, sched.Config{}, nodes(2, 1)...)
		part := resource.NodeAlloc{Node: 0, Cores: resource.MaskOf(0)}
		require.Equal(t, "sched.Conflict", b.do(taken(1, part), taken(2, part, resource.NodeAlloc{Node: 1, Cores: resource.MaskOf(0)})))
		b.do(sched.Free{IDs: []uint64{1<<63 | 2}})
		require.Len(t, b.m.Used(), 1)
	})
	t.Run("infers memory from the rest of the group", func(t *testing.T) {
		b := newBed(t, sched.Config{}, schednodes(1, 4, 0, 100)...)
		g := job(1, jobspec.Request{Slots: 1, Cores: 1, MemMiB: 60}, 0)
		require.Equal(t, "", b.do(sched.Hold{Hold: true}, submit(g), taken(1, resource.NodeAlloc{Node: 0, Cores: resource.MaskOf(3)}), sched.Hold{Hold: false}))
		require.Equal(t, "1@0:0", b.do(sched.Free{IDs: []uint64{1<<63 | 1}}))
	})
}

func TestReasons(t *testing.T) {
	b := newBed(t, sched.Config{}, nodes(2, 2)...)
	b.do(submit(job(1, request(0, 3, 1), 60)))
	b.do(submit(job(2, jobspec.Request{Nodes: 2, Slots: 1, Cores: 2, Exclusive: true}, 60), job(3, request(0, 1, 1), 0), job(4, request(0, 2, 2), 60),
		job(5, request(0, 3, 1), 0), job(6, request(0, 1, 8), 0), job(7, jobspec.Request{Slots: 1}, 0)))
	require.Equal(t, "waits for 2 whole nodes: 0 free", b.reason(2))
	require.Equal(t, "waits behind "+jobspec.ID(2).String()+" in the queue", b.reason(3))
	require.Equal(t, "waits for 2 slots of 2 cores: 0 free", b.reason(4))
	require.Equal(t, "waits for 3 cores: 1 free", b.reason(5))
	require.Equal(t, "needs 8 cores in one slot; the largest node has 2 (see frond start --oversubscribe)", b.reason(6))
	require.Equal(t, "needs at least one core in a slot, not 0", b.reason(7))
	require.Len(t, b.m.Reasons(b.now, nil, false), 5, "all that are queued")
	require.Empty(t, b.m.Reasons(b.now, []sched.GroupID{1, 99}, true), "what runs or is unknown does not wait")
	full := b.m.Reasons(b.now, []sched.GroupID{3, 5}, true)
	require.Equal(t, "waits behind 1 job in the queue: what is free is kept for "+jobspec.ID(2).String(), full[0].Text)
	require.Equal(t, "waits for 3 cores: 1 free, behind 3 jobs", full[1].Text)
	b.do(sched.Hold{Hold: true})
	require.Equal(t, "scheduling is stopped", b.reason(2))
}

func TestEstimatesPlayTheQueueForward(t *testing.T) {
	b := newBed(t, sched.Config{Counters: resource.Counters{{Name: "licence", N: 1}}}, nodes(1, 2)...)
	one, both := request(0, 1, 1), request(0, 1, 2)
	licence := one
	licence.Counters = "licence=1"
	array := job(5, one, 10)
	array.Count = 5
	start := b.now
	b.do(submit(job(1, both, 100)))
	b.do(submit(job(2, both, 50), job(3, licence, 30), job(4, licence, 30), array, job(6, both, 0), job(7, one, 0)))
	var got []float64
	for _, r := range b.m.Reasons(b.now, nil, false) {
		got = append(got, r.Estimate-start)
	}
	// 4 waits for 3's licence while a core is free; 5 stands behind it and then fills the other core.
	require.Equal(t, []float64{100, 150, 180, 180, 220, -start}, got, "behind a job without a limit nothing is known")
}

func TestWhatCanNeverStartIsDeniedOnlyWhenItsNodesAreRemoved(t *testing.T) {
	b := newBed(t, sched.Config{}, nodes(2, 2)...)
	both := jobspec.Request{Nodes: 2, Slots: 1, Cores: 2}
	b.do(submit(job(1, request(0, 1, 1), 0), job(2, both, 0), job(3, request(0, 1, 99), 0)))
	require.Equal(t, "", b.do(sched.Nodes{Down: []int{1}}), "a node that is down may come back")
	require.Equal(t, "sched.Deny", b.do(sched.Nodes{Remove: []int{1}}))
	require.Equal(t, 1, b.m.Pending(), "what could not run before waits on")
	b.do(sched.Nodes{Add: nodes(2, 2)[1:]}, submit(job(4, both, 0)), sched.Hold{Hold: true})
	require.Equal(t, "", b.do(sched.Nodes{Remove: []int{1}}), "not on hold: the instance may be ending")
}

func TestIdsOfEndedAllocationsEndNothing(t *testing.T) {
	b := newBed(t, sched.Config{}, nodes(1, 1)...)
	b.do(submit(job(1, request(0, 1, 1), 0)))
	old := b.free(1)
	b.do(old)
	b.do(submit(job(2, request(0, 1, 1), 0)))
	b.do(old, sched.Free{IDs: []uint64{0, 1 << 63, 77, 1<<32 | 99}})
	require.Equal(t, 1, b.m.Running())
	require.NotEqual(t, b.ids[1], b.ids[2])
}

func TestNothingStartsThatCannotEndBeforeTheInstance(t *testing.T) {
	core := request(0, 1, 1)
	for _, p := range []sched.Policy{easy.Policy{}, fcfs.Policy{}} {
		b := newBed(t, sched.Config{Policy: p}, nodes(1, 8)...)
		short := job(6, core, 7200)
		short.MinLength = 500
		require.Empty(t, b.do(sched.SetExpiration{At: b.now + 1200}))
		require.Equal(t, "2@0:0 3@0:1 4@0:2 6@0:3", b.do(submit(job(1, core, 3600), job(2, core, 1200), job(3, core, 60), job(4, core, 0), job(5, core, 1201), short)),
			"%s: what has no limit may start, what is too long blocks nobody", p.Name())
		require.Equal(t, "waits for another allocation: it needs 1h, and this instance ends in 20m", b.reason(1))
		b.now += 1000
		require.Equal(t, "8@0:4", b.do(submit(job(7, core, 300), job(8, core, 200))))
		require.Equal(t, "waits for another allocation: it needs 5m, and this instance ends in 3m", b.reason(7))
		require.Equal(t, "7@0:5", b.do(sched.SetExpiration{At: b.now + 400}), "the end was put off")
		require.Equal(t, "5@0:6", b.do(sched.SetDuration{ID: 5, Duration: 0}))
		b.now += 400
		require.Empty(t, b.do(submit(job(9, core, 0), job(10, core, 1))))
		require.Contains(t, b.reason(9), "this instance is at its end")
		require.Equal(t, "1@0:7", b.do(sched.SetExpiration{}))
	}
}
