package overlay

import (
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var epoch0 = time.Unix(1_800_000_000, 0)

// rig is one machine, with the test as its only neighbour, on one connection.
type rig struct {
	t       *testing.T
	m       *Machine
	now     time.Time
	conn    ConnID
	seq     uint64 // of the test's last frame
	out     []any  // of the last step
	frames  []string
	payload map[string][]byte // last payload by kind
}

func (r *rig) step(ev any) {
	r.t.Helper()
	r.out = append([]any{}, r.m.Step(r.now, ev)...)
	require.NoError(r.t, r.m.Check())
	r.frames = nil
	for _, a := range r.out {
		if s, ok := a.(Send); ok {
			k, _, payload, err := parseFrame(s.Frame)
			require.NoError(r.t, err)
			r.frames = append(r.frames, k.String())
			r.payload[k.String()] = payload
		}
	}
}

// say sends the next frame on the connection.
func (r *rig) say(k kind, v any) {
	r.t.Helper()
	payload, raw := v.([]byte)
	if !raw && v != nil {
		payload = pack(v)
	}
	r.seq++
	r.step(ConnData{r.conn, buildFrame(k, r.seq, payload)})
}

func find[T any](r *rig) (T, bool) {
	for _, a := range r.out {
		if v, ok := a.(T); ok {
			return v, true
		}
	}
	var zero T
	return zero, false
}

func must[T any](r *rig) T {
	r.t.Helper()
	v, ok := find[T](r)
	require.True(r.t, ok, "%+v", r.out)
	return v
}

const childConn = AcceptedBit | 5

// leaderRig is a leader with a connection on which nothing was said yet.
func leaderRig(t *testing.T, tweak func(*Config)) *rig {
	cfg := Config{Leader: true, Epoch: 3, UUID: "leader", Fanout: 2, Size: 4, Credit: 100, SendLimit: 1000, Info: Info{Hostname: "top", Addr: "mem://top"}}
	if tweak != nil {
		tweak(&cfg)
	}
	r := &rig{t: t, m: New(cfg), now: epoch0, conn: childConn, payload: map[string][]byte{}}
	r.step(Begin{})
	r.step(ConnUp{Conn: r.conn, Accepted: true})
	return r
}

func childHello() hello {
	return hello{Protocol: wire.Protocol, Host: "below", Want: asChild, Rank: 1, Inc: 10, UUID: "child", Credit: 100}
}

// joinedRig is a leader with rank 1 online as its child.
func joinedRig(t *testing.T) *rig {
	r := leaderRig(t, nil)
	r.say(kindHello, childHello())
	r.say(kindJoin, join{UUID: "child", Rank: 1, Inc: 11, Info: Info{Hostname: "below", PID: 7}})
	require.Equal(t, []string{"joined"}, r.frames)
	require.Equal(t, LinkUp{childConn, false, 1, 10}, must[LinkUp](r))
	return r
}

// followerRig is a broker of rank 1 that has dialled its parent and said hello.
func followerRig(t *testing.T, tweak func(*Config)) *rig {
	cfg := Config{Rank: 1, UUID: "child", Fanout: 2, Parent: "mem://top", Credit: 100, Info: Info{Hostname: "below", Addr: "mem://below"}}
	if tweak != nil {
		tweak(&cfg)
	}
	r := &rig{t: t, m: New(cfg), now: epoch0, payload: map[string][]byte{}}
	r.step(Begin{})
	r.conn = must[Dial](r).Conn
	r.step(ConnUp{Conn: r.conn})
	require.Equal(t, []string{"hello"}, r.frames)
	return r
}

func parentHello() hello {
	return hello{Protocol: wire.Protocol, Host: "top", Want: asParent, Epoch: 3, Rank: 0, Inc: 1, UUID: "leader", Credit: 100, Up: true}
}

func TestWhatEndsALink(t *testing.T) {
	frame := func(k kind, seq uint64, payload []byte) any {
		return ConnData{childConn, buildFrame(k, seq, payload)}
	}
	for _, row := range []struct {
		name   string
		ev     any
		reason string
	}{
		{"a gap", frame(kindKeep, 4, nil), "gap: frame 4 came after 2"},
		{"a frame that comes twice", frame(kindKeep, 2, nil), "gap: frame 2 came after 2"},
		{"a second hello", frame(kindHello, 3, pack(childHello())), "frame 3 is a hello"},
		{"a sequence that starts anew", frame(kindHello, 1, pack(childHello())), "gap: frame 1 came after 2"},
		{"a short frame", ConnData{childConn, []byte{1, 2}}, "frame of 2 bytes is too short"},
		{"an empty frame", ConnData{childConn, nil}, "frame of 0 bytes is too short"},
		{"an unknown kind", frame(99, 3, nil), "malformed kind 99: kind 99 does not travel up"},
		{"a kind that only a parent sends", frame(kindJoined, 3, pack(joined{})), "joined does not travel up"},
		{"a control frame that is no msgpack", frame(kindGone, 3, []byte{0xc1}), "malformed gone"},
		{"a malformed credit", frame(kindCredit, 3, []byte{1}), "malformed credit"},
		{"credit for what was never sent", frame(kindCredit, 3, []byte{0, 0, 0, 1}), "1 bytes of credit back for 0"},
		{"more data than there is credit for", frame(kindData, 3, make([]byte, wire.MaxFrame+101)), "more than its credit"},
		{"a join as another rank", frame(kindJoin, 3, pack(join{UUID: "child", Rank: 2, Inc: 12})), "joins as rank 2 but came as 1"},
		{"the peer's word", frame(kindBye, 3, pack(bye{Text: "enough"})), "enough"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := joinedRig(t)
			r.step(row.ev)
			require.Contains(t, must[CloseConn](r).Reason, row.reason)
			down := must[LinkDown](r)
			require.Equal(t, int32(1), down.Rank)
			require.Contains(t, down.Reason, row.reason)
			require.Equal(t, Orphan, must[MemberChange](r).Member.State)
			r.say(kindKeep, nil)
			require.Empty(t, r.out, "what comes later is ignored")
		})
	}
	t.Run("the connection's end", func(t *testing.T) {
		r := joinedRig(t)
		r.step(ConnDown{childConn, "reset"})
		_, closes := find[CloseConn](r)
		require.False(t, closes, "it is over already")
		require.Equal(t, "reset", must[LinkDown](r).Reason)
	})
}

func TestWhoIsRefusedAsAChild(t *testing.T) {
	for _, row := range []struct {
		name  string
		tweak func(*hello)
		why   string
	}{
		{"a much newer protocol, with both versions and hosts", func(h *hello) { h.Protocol += 2 }, "host below speaks protocol 3 and host top speaks protocol 1"},
		{"one without a uuid", func(h *hello) { h.UUID = "" }, "no uuid"},
		{"itself", func(h *hello) { h.UUID = "leader" }, "itself"},
		{"one that wants something else", func(h *hello) { h.Want = asParent }, "wants neither"},
		{"one with this rank", func(h *hello) { h.Rank = 0 }, "rank 0 is held by another process"},
		{"one without a rank", func(h *hello) { h.Rank = -1 }, "needs a rank"},
		{"one that has this broker below it", func(h *hello) { h.Subtree = []int32{0} }, "rank 0 is below rank 1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := leaderRig(t, nil)
			h := childHello()
			row.tweak(&h)
			r.say(kindHello, h)
			require.Equal(t, []string{"bye"}, r.frames)
			b, err := unpack[bye](r.payload["bye"])
			require.NoError(t, err)
			require.Contains(t, b.Text, row.why)
			_, closes := find[CloseConn](r)
			require.False(t, closes, "the peer gets time to read it")
			r.now = r.now.Add(10 * time.Second)
			r.step(Tick{})
			must[CloseConn](r)
		})
	}
}

func TestAProtocolOneApartIsAccepted(t *testing.T) {
	for _, d := range []int{-1, 1} {
		r := leaderRig(t, nil)
		h := childHello()
		h.Protocol += d
		r.say(kindHello, h)
		require.Equal(t, []string{"hello"}, r.frames)
	}
}

func TestAHelloOfAnotherTimeIsRefusedWhateverItLooksLike(t *testing.T) {
	r := leaderRig(t, nil)
	r.say(kindHello, pack([]any{9, "future", map[string]int{"x": 1}}))
	b, err := unpack[bye](r.payload["bye"])
	require.NoError(t, err)
	require.Contains(t, b.Text, "host future speaks protocol 9")
}

func TestALeaderOfAnOldEpochGivesUp(t *testing.T) {
	r := leaderRig(t, nil)
	h := childHello()
	h.Epoch = 4
	r.say(kindHello, h)
	require.Equal(t, []string{"bye"}, r.frames)
	require.ErrorIs(t, must[Failed](r).Err, &wire.Error{Code: wire.BadProtocol})
	r.step(Tick{})
	require.Empty(t, r.out, "nothing happens any more")
}

func TestTheDiallingSide(t *testing.T) {
	t.Run("joins, and again when the path above was broken", func(t *testing.T) {
		r := followerRig(t, nil)
		r.say(kindHello, parentHello())
		require.Equal(t, []string{"join"}, r.frames)
		first, err := unpack[join](r.payload["join"])
		require.NoError(t, err)
		r.say(kindJoined, joined{UUID: "child", Rank: 1, Inc: first.Inc, Epoch: 3})
		require.Equal(t, Joined{1, 3, 1, first.Inc}, must[Joined](r))
		require.Equal(t, LinkUp{r.conn, true, 0, 1}, must[LinkUp](r))
		r.say(kindPathDown, pathDown{Reason: "broken above"})
		require.Equal(t, PathDown{"broken above"}, must[PathDown](r))
		_, has := r.m.Uplink()
		require.False(t, has)
		r.say(kindPathUp, nil)
		second, err := unpack[join](r.payload["join"])
		require.NoError(t, err)
		require.Greater(t, second.Inc, first.Inc)
		r.say(kindJoined, joined{UUID: "child", Rank: 1, Inc: first.Inc, Epoch: 3})
		_, early := find[Joined](r)
		require.False(t, early, "a late answer to the first join")
		r.say(kindJoined, joined{UUID: "child", Rank: 1, Inc: second.Inc, Epoch: 4})
		require.Equal(t, Joined{1, 4, 2, second.Inc}, must[Joined](r))
		_, again := find[LinkUp](r)
		require.False(t, again, "the link itself stood all the time")
	})
	t.Run("gives up on a protocol too far away", func(t *testing.T) {
		r := followerRig(t, nil)
		h := parentHello()
		h.Protocol = 5
		r.say(kindHello, h)
		require.Equal(t, "host top speaks protocol 5 and host below speaks protocol 1; install the same version of frond on both", must[Failed](r).Err.Error())
	})
	t.Run("gives up when its rank is taken", func(t *testing.T) {
		r := followerRig(t, nil)
		r.say(kindHello, parentHello())
		r.say(kindRefused, refused{UUID: "child", Inc: r.m.up.sent, Code: wire.Exists, Text: "taken", Final: true})
		require.Equal(t, "taken", must[Failed](r).Err.Error())
	})
	t.Run("tries again when it is refused for now", func(t *testing.T) {
		r := followerRig(t, nil)
		r.say(kindBye, nil) // no hello first
		require.Contains(t, must[CloseConn](r).Reason, "frame 1 is a bye")
		wake := must[WakeAt](r).T
		require.Less(t, wake.Sub(r.now), 100*time.Millisecond)
		r.now = wake
		r.step(Tick{})
		require.Equal(t, "mem://top", must[Dial](r).Addr)
	})
	t.Run("does not talk to itself", func(t *testing.T) {
		r := followerRig(t, nil)
		h := parentHello()
		h.UUID = "child"
		r.say(kindHello, h)
		require.Contains(t, must[CloseConn](r).Reason, "no other broker")
	})
	t.Run("does not follow a leader of an older epoch", func(t *testing.T) {
		r := followerRig(t, nil)
		r.m.epoch = 9
		r.say(kindHello, parentHello())
		require.Contains(t, must[CloseConn](r).Reason, "epoch 3, ours is 9")
	})
	t.Run("does not wait for ever", func(t *testing.T) {
		for _, said := range []int{0, 1} { // hellos
			r := followerRig(t, nil)
			if said > 0 {
				r.say(kindHello, parentHello())
			}
			r.now = r.now.Add(6 * time.Second)
			r.step(Tick{})
			require.Contains(t, must[CloseConn](r).Reason, "in time")
		}
	})
}

func TestRetriesComeMoreSeldomAndNotAllAtOnce(t *testing.T) {
	var waits [2][]time.Duration
	for seed := range waits {
		r := followerRig(t, func(c *Config) { c.Rand = uint64(seed); c.JoinLimit = time.Hour })
		for range 12 {
			r.step(ConnDown{r.conn, "nobody there"})
			wait := r.m.up.retryAt.Sub(r.now)
			require.GreaterOrEqual(t, wait, firstRetry/2)
			require.LessOrEqual(t, wait, lastRetry*3/2)
			waits[seed] = append(waits[seed], wait)
			r.now = r.m.up.retryAt
			r.step(Tick{})
			r.conn = must[Dial](r).Conn
		}
		require.Greater(t, waits[seed][11], 10*waits[seed][0])
	}
	require.NotEqual(t, waits[0], waits[1])
}

func TestCredit(t *testing.T) {
	data := func(n int) Submit { return Submit{childConn, make([]byte, n)} }
	t.Run("what is above the credit waits, and goes when credit comes back", func(t *testing.T) {
		r := joinedRig(t)
		r.step(data(60))
		require.Equal(t, []string{"data"}, r.frames)
		r.step(data(60))
		require.Equal(t, []string{"data"}, r.frames, "the last one may overshoot")
		r.step(data(1))
		require.Empty(t, r.frames)
		r.say(kindCredit, []byte{0, 0, 0, 60})
		require.Equal(t, []string{"data"}, r.frames)
	})
	t.Run("a frame larger than the whole window passes", func(t *testing.T) {
		r := joinedRig(t)
		r.step(data(500))
		require.Equal(t, []string{"data"}, r.frames)
	})
	t.Run("control frames keep their place, keepalives and credit do not wait", func(t *testing.T) {
		r := joinedRig(t)
		r.step(data(200))
		r.step(data(1))
		r.m.out = nil
		l := r.m.byID[childConn]
		r.m.send(l, kindPathDown, nil)
		require.Empty(t, r.m.out)
		r.say(kindData, make([]byte, 50))
		r.step(Consumed{childConn, 50})
		require.Equal(t, []string{"credit"}, r.frames)
		r.say(kindCredit, []byte{0, 0, 0, 200})
		require.Equal(t, []string{"data", "path-down"}, r.frames)
	})
	t.Run("credit goes back in quarters of the window", func(t *testing.T) {
		r := joinedRig(t)
		r.say(kindData, make([]byte, 30))
		require.Equal(t, Deliver{childConn, make([]byte, 30)}, must[Deliver](r))
		r.step(Consumed{childConn, 24})
		require.Empty(t, r.frames)
		r.step(Consumed{childConn, 6})
		require.Equal(t, []byte{0, 0, 0, 30}, r.payload["credit"])
		r.step(Consumed{childConn, 1000})
		require.Empty(t, r.frames, "what never came gives no credit")
	})
	t.Run("a link with too much waiting is ended", func(t *testing.T) {
		r := joinedRig(t)
		r.step(data(100))
		r.step(data(1000))
		_, ends := find[LinkDown](r)
		require.False(t, ends)
		r.step(data(1))
		require.Equal(t, "1001 bytes wait for rank 1, which does not read them; the limit is 1000", must[LinkDown](r).Reason)
	})
	t.Run("no data passes before the join is confirmed", func(t *testing.T) {
		r := leaderRig(t, nil)
		r.say(kindHello, childHello())
		r.step(data(1))
		require.Empty(t, r.frames)
		r.say(kindData, []byte{1})
		require.Contains(t, must[CloseConn](r).Reason, "before the join was confirmed")
	})
}

func TestKeepalives(t *testing.T) {
	r := joinedRig(t)
	sent := 0
	for range 40 { // 20 s in which the peer speaks each second
		r.now = r.now.Add(500 * time.Millisecond)
		r.say(kindKeep, nil)
		r.step(Tick{})
		sent += strings.Count(strings.Join(r.frames, " "), "keepalive")
	}
	require.InDelta(t, 10, sent, 1, "one per period")
	silent := r.now
	for range 40 {
		r.now = r.now.Add(500 * time.Millisecond)
		if r.step(Tick{}); len(r.m.links) == 0 {
			break
		}
	}
	require.GreaterOrEqual(t, r.now.Sub(silent), 6*time.Second)
	require.LessOrEqual(t, r.now.Sub(silent), 8*time.Second)
}

func TestAJoinOverAStalePathIsIgnored(t *testing.T) {
	r := joinedRig(t)
	below := join{UUID: "deep", Rank: 2, Inc: 20, Parent: 1, ParentInc: 10}
	r.say(kindJoin, below)
	_, online := find[MemberChange](r)
	require.False(t, online, "rank 1 has been confirmed as 11 since")
	below.ParentInc = 11
	r.say(kindJoin, below)
	require.Equal(t, Online, must[MemberChange](r).Member.State)
	r.say(kindJoin, below)
	_, online = find[MemberChange](r)
	require.False(t, online, "the same join again")
	r.say(kindGone, gone{Members: []who{{Rank: 2, Inc: 19}}})
	_, lost := find[MemberChange](r)
	require.False(t, lost, "of an earlier incarnation")
	r.say(kindGone, gone{Members: []who{{Rank: 2, Inc: 20}}, Reason: "why"})
	require.Equal(t, "why", must[MemberChange](r).Member.Reason)
}

func TestPlaces(t *testing.T) {
	ask := func(r *rig, conn ConnID, p place) placed {
		r.conn, r.seq = conn, 0
		r.step(ConnUp{Conn: conn, Accepted: true})
		r.say(kindHello, hello{Protocol: wire.Protocol, Want: asGuest, Rank: p.Rank, Inc: p.Inc, UUID: p.UUID, Credit: 1})
		r.say(kindPlace, p)
		got, err := unpack[placed](r.payload["placed"])
		require.NoError(r.t, err)
		r.step(ConnDown{conn, "done"})
		return got
	}
	r := joinedRig(t)
	first := ask(r, AcceptedBit|6, place{UUID: "a", Rank: -1, Inc: 5, Subtree: []int32{9}})
	require.Equal(t, int32(4), first.Rank, "ranks below the size are reserved")
	require.Equal(t, "mem://top", first.Addr)
	second := ask(r, AcceptedBit|7, place{UUID: "b", Rank: -1, Inc: 5})
	require.Equal(t, int32(5), second.Rank)
	require.Equal(t, int32(1), second.Parent, "the leader's second place is promised")
	again := ask(r, AcceptedBit|8, place{UUID: "a", Rank: -1, Inc: 6, Avoid: []int32{0}})
	require.Equal(t, int32(4), again.Rank, "the same broker")
	require.Equal(t, int32(1), again.Parent, "not where it failed")
	r.now = r.now.Add(time.Minute)
	third := ask(r, AcceptedBit|9, place{UUID: "c", Rank: -1, Inc: 7})
	require.Equal(t, int32(1), third.Parent, "it has no children, and the leader has one place")
	fourth := ask(r, AcceptedBit|10, place{UUID: "d", Rank: -1, Inc: 7, Subtree: []int32{9}})
	require.Equal(t, int32(0), fourth.Parent, "a promise ends")
}

// Nothing that a peer sends makes a machine panic or breaks an invariant.
func TestFramesFromAnywhere(t *testing.T) {
	payloads := map[kind]any{kindHello: childHello(), kindBye: bye{}, kindPathDown: pathDown{}, kindJoin: join{UUID: "child", Rank: 1, Inc: 12},
		kindJoined: joined{UUID: "x", Rank: 3, Inc: 1}, kindRefused: refused{}, kindPlace: place{UUID: "g", Rank: -1, Inc: 3}, kindPlaced: placed{UUID: "y"},
		kindGone: gone{Members: []who{{Rank: 1, Inc: 11}}}, kindLeave: who{Rank: 1, Inc: 11}, kindLeft: who{}, kindDrop: who{}, kindCredit: []byte{0, 0, 0, 1}}
	rapid.Check(t, func(rt *rapid.T) {
		r := joinedRig(t)
		if rapid.Bool().Draw(rt, "follower") {
			r = followerRig(t, nil)
			r.say(kindHello, parentHello())
		}
		for range rapid.IntRange(1, 8).Draw(rt, "frames") {
			k := kind(rapid.IntRange(0, 18).Draw(rt, "kind"))
			v := payloads[k]
			if _, ok := v.([]byte); !ok && v != nil {
				b := pack(v)
				for range rapid.IntRange(0, 3).Draw(rt, "flips") {
					b[rapid.IntRange(0, len(b)-1).Draw(rt, "at")] = rapid.Byte().Draw(rt, "byte")
				}
				v = b[:rapid.IntRange(0, len(b)).Draw(rt, "cut")]
			}
			r.say(k, v)
		}
	})
}

func TestKindsHaveNames(t *testing.T) {
	require.Len(t, kindNames, int(kindDrop)+1)
	require.Equal(t, "kind 200", kind(200).String())
	for state, name := range []string{"unknown", "online", "lost", "dead", "left", "unknown"} {
		require.Equal(t, name, MemberState(state).String())
	}
}
