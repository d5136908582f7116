package kvssvc

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/kvs"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

// rig is a service with what it has put out. Commits of the store wait for commit.
type rig struct {
	t      *testing.T
	s      *Service
	tag    uint64
	writes []*kvs.Commit
	got    map[uint64][]any // answers by tag: bodies, and errors
	rest   []any
}

func newRig(t *testing.T) *rig {
	s, err := New(Config{})
	require.NoError(t, err)
	return &rig{t: t, s: s, got: map[uint64][]any{}}
}

func (r *rig) handle(in any) {
	var out reactor.Out
	r.s.Handle(time.Unix(0, 0), in, &out)
	for _, item := range out.Items {
		switch it := item.(type) {
		case reactor.Answer:
			if it.Err != nil {
				r.got[it.Req.Tag] = append(r.got[it.Req.Tag], it.Err)
			} else {
				r.got[it.Req.Tag] = append(r.got[it.Req.Tag], it.Body)
			}
		case reactor.Do:
			r.writes = append(r.writes, it.Effect.(*kvs.Commit))
		default:
			r.rest = append(r.rest, item)
		}
	}
	require.NoError(r.t, r.s.Check())
}

func ask[Req, Rep any](r *rig, m rpc.Method[Req, Rep], body Req) uint64 {
	r.tag++
	r.handle(&rpc.Request{Topic: m.Topic, Body: rpc.Payload{Value: body}, Peer: "c", Tag: r.tag, Stream: m.Stream})
	return r.tag
}

func (r *rig) put(key, value string) uint64 {
	return ask(r, api.KVSCommit, api.KVSCommitReq{Ops: []api.KVSOp{{Kind: api.KVSPut, Key: key, Data: []byte(value)}}})
}

// commit lets the store answer its one commit.
func (r *rig) commit(err error) {
	require.Len(r.t, r.writes, 1)
	c := r.writes[0]
	r.writes = nil
	r.handle(reactor.Done{Effect: c, Err: err})
}

func (r *rig) value(key string) string {
	got := r.got[ask(r, api.KVSGet, api.KVSGetReq{Key: key})][0]
	if e, ok := got.(error); ok {
		return e.Error()
	}
	return string(got.(api.KVSEntry).Data)
}

func TestACommitIsAnsweredWhenItIsDurableAndWhatComesMeanwhileIsOneGroup(t *testing.T) {
	r := newRig(t)
	first := r.put("a", "1")
	second, third := r.put("a", "2"), r.put("b", "3")
	require.Empty(t, r.got)
	require.Equal(t, "a: there is no such key", r.value("a"))
	r.commit(nil)
	require.Equal(t, []any{api.KVSCommitRep{Seq: 1}}, r.got[first])
	require.Empty(t, r.got[second])
	require.Equal(t, "1", r.value("a"))
	r.commit(nil)
	require.Equal(t, []any{api.KVSCommitRep{Seq: 2}}, r.got[second])
	require.Equal(t, []any{api.KVSCommitRep{Seq: 3}}, r.got[third])
	require.Equal(t, "2", r.value("a"))
	require.Equal(t, []any{api.KVSCommitRep{Seq: 3}}, r.got[ask(r, api.KVSCommit, api.KVSCommitReq{})], "nothing to write: at once")
}

func TestAStoreThatFailsTakesAllWithItThatIsNotDurable(t *testing.T) {
	r := newRig(t)
	r.put("a", "1")
	r.commit(nil)
	x, y := r.put("a", "2"), r.put("a", "3")
	r.commit(errors.New("disk full"))
	for _, tag := range []uint64{x, y} {
		require.ErrorContains(t, r.got[tag][0].(error), "the state directory cannot be written: disk full; nothing was committed")
	}
	require.Empty(t, r.writes)
	require.Equal(t, "1", r.value("a"))
	z := r.put("a", "4")
	r.commit(nil)
	require.Equal(t, []any{api.KVSCommitRep{Seq: 2}}, r.got[z])
}

func TestLargeValuesAreReadSeparately(t *testing.T) {
	r := newRig(t)
	r.put("big", strings.Repeat("x", api.KVSInline+1))
	r.commit(nil)
	e := r.got[ask(r, api.KVSGet, api.KVSGetReq{Key: "big"})][0].(api.KVSEntry)
	require.True(t, e.Big)
	require.Nil(t, e.Data)
	require.Equal(t, api.KVSInline+1, e.Size)
	e = r.got[ask(r, api.KVSRead, api.KVSReadReq{Key: "big", Offset: api.KVSInline, Limit: 100})][0].(api.KVSEntry)
	require.Equal(t, "x", string(e.Data))
	for _, bad := range []api.KVSReadReq{{Key: "big", Offset: -1}, {Key: "big", Offset: 1 << 40}, {Key: "big", Limit: -1}, {Key: "."}} {
		require.ErrorIs(t, r.got[ask(r, api.KVSRead, bad)][0].(error), &wire.Error{Code: wire.Invalid})
	}
	require.True(t, api.Heavy(api.KVSRead.Topic) && api.Heavy(api.KVSList.Topic))
}

func TestListingsComeInParts(t *testing.T) {
	r := newRig(t)
	var ops []api.KVSOp
	for i := range 30000 {
		ops = append(ops, api.KVSOp{Kind: api.KVSPut, Key: fmt.Sprintf("d.k%05d", i), Data: []byte("v")})
	}
	ask(r, api.KVSCommit, api.KVSCommitReq{Ops: ops})
	r.commit(nil)
	after, n := "", 0
	for more := true; more; {
		rep := r.got[ask(r, api.KVSList, api.KVSListReq{Key: "d", After: after, Data: 10})][0].(api.KVSListRep)
		for _, e := range rep.Entries {
			require.Equal(t, fmt.Sprintf("k%05d", n), e.Name)
			n++
			after = e.Name
		}
		more = rep.More
		require.LessOrEqual(t, len(rep.Entries), 16384)
	}
	require.Equal(t, 30000, n)
}

func TestTenThousandWatchersAreToldOnceEach(t *testing.T) {
	r := newRig(t)
	r.put("k", "0")
	r.commit(nil)
	var tags []uint64
	for range 10000 {
		r.tag++
		req := &rpc.Request{Topic: api.KVSWatch.Topic, Body: rpc.Payload{Value: api.KVSWatchReq{Key: "k"}}, Peer: "c", Tag: r.tag, Stream: true}
		var out reactor.Out
		r.s.Handle(time.Unix(0, 0), req, &out)
		tags = append(tags, r.tag)
	}
	r.handle(rpc.Cancel{Key: rpc.RequestKey{Peer: "c", Tag: tags[0]}})
	r.put("k", "1")
	r.put("k", "2")
	r.commit(nil)
	r.commit(nil)
	require.Empty(t, r.got[tags[0]])
	for _, tag := range tags[1:] {
		require.Len(t, r.got[tag], 2)
	}
	for _, tag := range tags {
		r.handleOnly(rpc.Cancel{Key: rpc.RequestKey{Peer: "c", Tag: tag}})
	}
	require.Zero(t, r.s.watches.Len())
	require.Empty(t, r.s.streams)
}

func (r *rig) handleOnly(in any) {
	var out reactor.Out
	r.s.Handle(time.Unix(0, 0), in, &out)
	require.Empty(r.t, out.Items)
}

func TestWaitsEndWhenTheNumberIsReached(t *testing.T) {
	r := newRig(t)
	w := ask(r, api.KVSWait, api.KVSWaitReq{Seq: 2})
	r.put("a", "1")
	r.commit(nil)
	require.Empty(t, r.got[w])
	r.put("a", "1")
	r.commit(nil)
	require.Equal(t, uint64(2), r.got[w][0].(api.KVSRoot).Seq)
	ask(r, api.KVSCreate, api.KVSSpaceReq{Namespace: "s"})
	r.commit(nil)
	w = ask(r, api.KVSWait, api.KVSWaitReq{Namespace: "s", Seq: 5})
	ask(r, api.KVSRemove, api.KVSSpaceReq{Namespace: "s"})
	r.commit(nil)
	require.ErrorIs(t, r.got[w][0].(error), &wire.Error{Code: wire.NotFound})
	require.Empty(t, r.s.waits)
}

func TestAStopWaitsForWhatIsBeingWritten(t *testing.T) {
	r := newRig(t)
	tag := r.put("a", "1")
	r.handle(api.Stopping{})
	require.Empty(t, r.rest)
	require.ErrorIs(t, r.got[r.put("b", "1")][0].(error), &wire.Error{Code: wire.Unavailable})
	r.commit(nil)
	require.Equal(t, []any{api.KVSCommitRep{Seq: 1}}, r.got[tag])
	require.Equal(t, []any{reactor.Notify{To: "broker", Notice: api.Stopped{Name: "kvs"}}}, r.rest)
}

func TestMalformedRequestsGetAnAnswer(t *testing.T) {
	r := newRig(t)
	for _, topic := range []string{api.KVSCommit.Topic, api.KVSGet.Topic, api.KVSRead.Topic, api.KVSList.Topic, api.KVSWatch.Topic, api.KVSWait.Topic,
		api.KVSGetRoot.Topic, api.KVSCreate.Topic, api.KVSRemove.Topic, "kvs.nothing"} {
		for _, stream := range []bool{false, true} {
			r.tag++
			r.handle(&rpc.Request{Topic: topic, Body: rpc.Payload{Raw: []byte{0xc1}}, Peer: "c", Tag: r.tag, Stream: stream})
			require.Len(t, r.got[r.tag], 1, topic)
			require.Error(t, r.got[r.tag][0].(error), topic)
		}
	}
}
