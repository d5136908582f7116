package overlay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

// stand makes a tree that stands.
func stand(t *testing.T, n, fanout int) *world {
	w := newWorld(t, n, fanout, 1)
	w.logs = []string{}
	w.startAll()
	w.clock.run(500 * time.Millisecond)
	w.checkWhole()
	return w
}

func (w *world) member(rank int32) overlay.Member {
	for _, m := range w.leader().Members() {
		if m.Rank == rank {
			return m
		}
	}
	return overlay.Member{}
}

// within lets time pass until cond holds and returns how long that took.
func (w *world) within(limit time.Duration, what string, cond func() bool) time.Duration {
	w.t.Helper()
	start := w.clock.now
	for !cond() {
		if w.clock.now.Sub(start) > limit {
			w.t.Fatalf("%s not within %v\n%s", what, limit, strings.Join(w.logs[max(0, len(w.logs)-30):], "\n"))
		}
		w.clock.run(time.Millisecond)
	}
	return w.clock.now.Sub(start)
}

func (w *world) state(rank int32, s overlay.MemberState) func() bool {
	return func() bool { return w.member(rank).State == s }
}

func TestALeafThatIsKilledIsLostAtOnceAndThenKnownDead(t *testing.T) {
	w := stand(t, 7, 2)
	w.kill(5, false)
	w.within(10*time.Millisecond, "loss", w.state(5, overlay.Orphan))
	w.nodes[0].step(overlay.Dead{Rank: 5, PID: 12345})
	require.Equal(t, overlay.Orphan, w.member(5).State, "another process")
	w.nodes[0].step(overlay.Dead{Rank: 5, PID: 501})
	require.Equal(t, overlay.Gone, w.member(5).State)
	w.clock.run(10 * time.Second)
	w.checkWhole()
}

func TestASilentLeafIsLostAfterThreeKeepalives(t *testing.T) {
	w := stand(t, 7, 2)
	w.kill(5, true)
	took := w.within(9*time.Second, "loss", w.state(5, overlay.Orphan))
	require.Greater(t, took, 4*time.Second)
	require.Contains(t, w.member(5).Reason, "nothing heard for")
}

func TestChildrenOfAKilledInteriorBrokerAreAdopted(t *testing.T) {
	w := stand(t, 7, 2)
	path3, path5 := w.nodes[3].joined.Path, w.nodes[5].joined.Path
	w.kill(1, false)
	w.within(20*time.Millisecond, "loss of the subtree", func() bool { return w.state(3, overlay.Orphan)() && w.state(4, overlay.Orphan)() })
	require.Equal(t, overlay.Orphan, w.member(1).State)
	w.within(300*time.Millisecond, "adoption", func() bool { return w.state(3, overlay.Online)() && w.state(4, overlay.Online)() })
	w.clock.run(10 * time.Millisecond)
	w.checkWhole()
	require.Greater(t, w.nodes[3].joined.Path, path3)
	require.Equal(t, path5, w.nodes[5].joined.Path, "the other half noticed nothing")
}

func TestABreakHighUpIsSeenBelowAndAtTheLeader(t *testing.T) {
	w := stand(t, 15, 2) // 0; 1 2; 3 4 5 6; 7…14
	before := map[int]overlay.Joined{}
	for _, i := range []int{1, 3, 4, 7, 8} {
		before[i] = w.nodes[i].joined
	}
	w.net.Break("n0", "n1", false)
	w.within(10*time.Millisecond, "path down at the leaves", func() bool { return !w.nodes[7].whole && !w.nodes[8].whole })
	w.within(10*time.Millisecond, "loss at the leader", func() bool { return w.state(7, overlay.Orphan)() && w.state(10, overlay.Orphan)() })
	require.Len(t, w.nodes[3].links, 3, "inside the subtree all links stand")
	w.within(200*time.Millisecond, "healing", func() bool { return w.state(7, overlay.Online)() && w.state(10, overlay.Online)() })
	w.clock.run(10 * time.Millisecond)
	w.checkWhole()
	for i, b := range before {
		require.Equal(t, b.Path+1, w.nodes[i].joined.Path, "n%d", i)
		require.Greater(t, w.nodes[i].joined.Inc, b.Inc)
	}
	require.Equal(t, int32(3), w.nodes[7].m.Parent(), "the subtree came along")
}

func TestAHalfOpenBreakHighUpIsSeenBelowAndAtTheLeader(t *testing.T) {
	w := stand(t, 15, 2)
	path := w.nodes[7].joined.Path
	w.net.Break("n0", "n1", true)
	w.within(9*time.Second, "path down at a leaf", func() bool { return !w.nodes[7].whole })
	w.clock.run(9 * time.Second)
	w.checkWhole()
	require.Greater(t, w.nodes[7].joined.Path, path)
}

func TestChildrenOfAnOrphanThatCannotHealLeaveIt(t *testing.T) {
	w := stand(t, 7, 2)
	w.net.Cut("n0", "n1")
	w.net.Cut("n2", "n1")
	w.net.Cut("n5", "n1")
	w.net.Cut("n6", "n1")
	w.within(9*time.Second, "loss", func() bool { return w.state(3, overlay.Orphan)() && w.state(4, overlay.Orphan)() })
	took := w.within(30*time.Second, "adoption of 3 and 4", func() bool { return w.state(3, overlay.Online)() && w.state(4, overlay.Online)() })
	require.Greater(t, took, 3*time.Second, "they waited for it")
	w.net.Heal()
	w.clock.run(10 * time.Second)
	w.checkWhole()
}

func TestAllJoinARestartedLeader(t *testing.T) {
	w := stand(t, 15, 2)
	path := w.nodes[14].joined.Path
	w.kill(0, false)
	w.clock.run(300 * time.Millisecond)
	w.start(0)
	for _, m := range w.leader().Members()[1:] {
		require.Equal(t, overlay.Orphan, m.State)
		require.Equal(t, "the leader was restarted", m.Reason)
	}
	w.clock.run(3 * time.Second)
	w.checkWhole()
	require.Equal(t, uint64(2), w.nodes[14].joined.Epoch)
	require.Greater(t, w.nodes[14].joined.Path, path)
}

// levels counts the online members by their distance from the leader.
func (w *world) levels() []int {
	members := map[int32]overlay.Member{}
	for _, mb := range w.leader().Members() {
		members[mb.Rank] = mb
	}
	var count []int
	for _, mb := range members {
		if mb.State != overlay.Online {
			continue
		}
		depth := 0
		for up := mb; up.Parent >= 0; depth++ {
			up = members[up.Parent]
		}
		count = append(count, make([]int, max(0, depth+1-len(count)))...)
		count[depth]++
	}
	return count
}

func TestALevelWithRoomForAllIsFilledFirst(t *testing.T) {
	w := stand(t, 1, 4)
	for range 4 {
		w.grow(0)
		w.clock.run(time.Second)
	}
	require.Equal(t, []int{1, 4}, w.levels())
	for range 16 {
		w.grow(0)
		w.clock.run(time.Second)
	}
	require.Equal(t, []int{1, 4, 16}, w.levels())
}

func TestALargeTreeStaysFlatAfterTheLeaderWasRestarted(t *testing.T) {
	w := newWorld(t, 1000, 32, 1)
	w.every = 997
	w.startAll()
	w.clock.run(time.Second)
	for i := 1; i < 1000; i += 10 { // each tenth is another process in its place, as new brokers are
		w.kill(i, i%20 == 1)
	}
	w.kill(0, false)
	w.clock.run(2 * time.Second)
	w.start(0)
	for range 100 {
		w.grow(0)
	}
	w.clock.run(30 * time.Second)
	count := w.levels()
	t.Logf("members by level: %v", count)
	require.Len(t, count, 4)
	require.Less(t, count[3], 100)
}

func TestASecondProcessOfARankIsRefused(t *testing.T) {
	for _, row := range []struct {
		name  string
		first func(w *world)
		uuid  string
		err   string
	}{
		{"while the first is online", func(*world) {}, "impostor", "rank 5 belongs to process 501 on host n5, which is online"},
		{"while the first is lost", func(w *world) { w.kill(5, false) }, "impostor", "rank 5 belongs to process 501 on host n5, which is lost"},
		{"when the first is dead", func(w *world) { w.kill(5, false); w.nodes[0].step(overlay.Dead{Rank: 5}) }, "impostor", "which is dead"},
		{"when the first has left", func(w *world) { w.nodes[5].leave() }, "impostor", "which is left"},
		{"but not the same broker, started anew", func(w *world) { w.kill(5, false) }, "uuid-n5", ""},
		{"nor if its old process is known to be dead", func(w *world) { w.kill(5, false); w.nodes[0].step(overlay.Dead{Rank: 5}) }, "uuid-n5", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := stand(t, 7, 2)
			row.first(w)
			w.clock.run(500 * time.Millisecond)
			n := &node{w: w, i: len(w.nodes), name: "second"}
			w.tweak = func(c *overlay.Config) { c.UUID, c.Info.PID = row.uuid, 999 }
			w.launch(n, overlay.Config{Rank: 5, Parent: "mem://n2", Fallback: []string{"mem://n0"}})
			w.clock.run(time.Second)
			if row.err == "" {
				require.NoError(t, n.failed)
				require.True(t, n.whole)
				return
			}
			require.ErrorContains(t, n.failed, row.err)
			require.ErrorIs(t, n.failed, &wire.Error{Code: wire.Exists})
			for _, o := range w.nodes[:5] {
				require.True(t, o.whole, "%s is not concerned", o.name)
			}
		})
	}
}

func TestAProcessThatWasDeclaredDeadStaysDead(t *testing.T) {
	w := stand(t, 7, 2)
	w.nodes[0].step(overlay.Dead{Rank: 3, PID: 301})
	require.Equal(t, overlay.Gone, w.member(3).State)
	w.clock.run(2 * time.Second)
	require.ErrorIs(t, w.nodes[3].failed, &wire.Error{Code: wire.Denied})
	require.ErrorContains(t, w.nodes[3].failed, "was declared dead")
	require.NotContains(t, w.nodes[1].m.Children(), int32(3), "its parent was told to end the link")
}

func TestDeadOfARankThatNeverCame(t *testing.T) {
	w := newWorld(t, 3, 2, 1)
	w.start(0)
	w.nodes[0].step(overlay.Dead{Rank: 2})
	require.Equal(t, overlay.Gone, w.member(2).State)
	w.nodes[0].step(overlay.Dead{Rank: 77})
	w.nodes[0].step(overlay.Dead{Rank: -3})
	w.nodes[0].step(overlay.Dead{Rank: 0})
	require.Len(t, w.leader().Members(), 2)
	w.start(2)
	w.clock.run(time.Second)
	require.Equal(t, overlay.Online, w.member(2).State, "it comes after all")
}

func TestLeaving(t *testing.T) {
	w := stand(t, 7, 2)
	w.nodes[1].leave()
	w.clock.run(10 * time.Millisecond)
	require.True(t, w.nodes[1].left)
	require.Equal(t, overlay.Left, w.member(1).State)
	w.clock.run(2 * time.Second)
	w.checkWhole()
	w.nodes[0].leave()
	require.True(t, w.nodes[0].left, "the leader just goes")
	w.nodes[3].leave()
	w.clock.run(3 * time.Second)
	require.True(t, w.nodes[3].left, "nobody answers, it goes")
}

func TestGrowing(t *testing.T) {
	w := stand(t, 3, 2)
	var grown []*node
	for i := range 10 {
		grown = append(grown, w.grow(i%3))
	}
	w.clock.run(2 * time.Second)
	w.checkWhole()
	seen := map[int32]bool{}
	for _, n := range grown {
		require.GreaterOrEqual(t, n.m.Rank(), int32(3))
		require.False(t, seen[n.m.Rank()])
		seen[n.m.Rank()] = true
	}
	w.kill(3, false)
	w.clock.run(time.Second)
	n := w.grow(1)
	w.clock.run(time.Second)
	require.Equal(t, int32(13), n.m.Rank(), "ranks are not reused")
	w.checkWhole()
}

func TestAParentThatComesLateIsWaitedFor(t *testing.T) {
	w := newWorld(t, 7, 2, 1)
	for _, i := range []int{6, 5, 4, 3, 2, 1} {
		w.start(i)
		w.clock.run(200 * time.Millisecond)
	}
	w.start(0)
	w.clock.run(4 * time.Second)
	w.checkWhole()
	require.Equal(t, []int32{5, 6}, w.nodes[2].m.Children(), "the tree is as it was meant")
}

func TestAParentThatNeverComesIsReplaced(t *testing.T) {
	w := newWorld(t, 7, 2, 1)
	for _, i := range []int{0, 2, 3, 4, 5, 6} {
		w.start(i)
	}
	w.clock.run(20 * time.Second)
	w.nodes[1].life = 0
	for _, i := range []int32{3, 4} {
		require.Equal(t, overlay.Online, w.member(i).State)
	}
}

func TestJoinLimit(t *testing.T) {
	w := newWorld(t, 2, 2, 1)
	w.tweak = func(c *overlay.Config) { c.JoinLimit = 5 * time.Second }
	w.start(1)
	w.clock.run(4900 * time.Millisecond)
	require.NoError(t, w.nodes[1].failed)
	w.clock.run(200 * time.Millisecond)
	require.ErrorIs(t, w.nodes[1].failed, &wire.Error{Code: wire.Timeout})
	require.ErrorContains(t, w.nodes[1].failed, "within 5s: nobody listens at mem://n0")
}

func TestAnAddressThatLeadsNowhereUsefulIsNotTheOnlyOneTried(t *testing.T) {
	w := stand(t, 7, 2)
	n := &node{w: w, i: len(w.nodes), name: "grown"}
	w.nodes = append(w.nodes, n)
	w.launch(n, overlay.Config{Rank: -1, Parent: "mem://nowhere", Fallback: []string{"mem://nobody", "mem://n4"}})
	w.clock.run(2 * time.Second)
	w.checkWhole()
}

func TestTheSameSeedGivesTheSameLog(t *testing.T) {
	run := func() []string {
		w := newWorld(t, 40, 3, 9)
		w.logs = []string{}
		w.startAll()
		w.clock.run(time.Second)
		w.kill(1, false)
		w.kill(2, true)
		w.clock.run(10 * time.Second)
		w.kill(0, false)
		w.clock.run(time.Second)
		w.start(0)
		w.clock.run(20 * time.Second)
		return append(w.logs, fmt.Sprint(w.leader().Members()))
	}
	require.Equal(t, run(), run())
}

func TestABrokerThatStoodStillKeepsItsLinks(t *testing.T) {
	w := stand(t, 3, 2)
	n := w.nodes[1]
	path := n.joined.Path
	w.clock.now = w.clock.now.Add(time.Minute) // everyone stood still: the ticks are late for all
	w.clock.run(10 * time.Second)
	require.Equal(t, path, n.joined.Path)
	w.checkWhole()
}
