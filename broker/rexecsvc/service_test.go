package rexecsvc

import (
	"fmt"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/exec/rexec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
)

func handle(s *Service, in any) []any {
	var out reactor.Out
	s.Handle(time.Time{}, in, &out)
	return out.Items
}

func request[Req, Rep any](m rpc.Method[Req, Rep], tag uint64, body Req) *rpc.Request {
	return &rpc.Request{Topic: m.Topic, Body: rpc.Payload{Value: body}, Peer: "c", Tag: tag, Stream: m.Stream}
}

func newRun(id string, tag uint64) *rpc.Request {
	return request(api.RexecRun, tag, api.RexecRunReq{ID: id, Argv: []string{"true"}})
}

func TestAProcessLivesAsLongAsItsStream(t *testing.T) {
	s := New()
	r := newRun("a", 1)
	start := handle(s, r)[0].(reactor.Do).Effect.(*rexec.Start)
	require.Equal(t, api.RexecWindow, start.Window)
	tell := func(res any) []any { return handle(s, reactor.Done{Effect: start, Result: res}) }
	require.Equal(t, []any{reactor.Answer{Req: r, Body: api.RexecEvent{Kind: api.RexecStarted, PID: 5}, More: true}}, tell(rexec.Started{PID: 5}))
	require.Equal(t, []any{reactor.Do{Effect: &rexec.Kill{ID: "a"}}}, handle(s, rpc.Cancel{Key: r.Key()}))
	require.Empty(t, tell(rexec.Output{Stream: 1, Data: []byte("x")}), "nobody wants it")
	require.Empty(t, tell(rexec.Exited{Status: 9}))
	require.Empty(t, s.runs)
	require.Empty(t, s.streams)
	require.Empty(t, handle(s, rpc.Cancel{Key: r.Key()}))
}

func TestInputIsAnsweredWhenItIsTaken(t *testing.T) {
	s := New()
	handle(s, newRun("a", 1))
	in := request(api.RexecInput, 2, api.RexecInputReq{ID: "a", Data: []byte("x"), EOF: true})
	write := handle(s, in)[0].(reactor.Do).Effect.(*rexec.Write)
	require.True(t, write.EOF)
	require.Equal(t, []any{reactor.Answer{Req: in, Body: api.Empty{}}}, handle(s, reactor.Done{Effect: write}))
}

func TestWrongRequestsAreRefused(t *testing.T) {
	s := New()
	handle(s, newRun("a", 1))
	for text, r := range map[string]*rpc.Request{
		`there is a process "a" already`:        newRun("a", 2),
		"needs a name":                          newRun("", 3),
		"needs a command":                       request(api.RexecRun, 4, api.RexecRunReq{ID: "b"}),
		"NUL":                                   request(api.RexecRun, 5, api.RexecRunReq{ID: "b", Argv: []string{"a\x00b"}}),
		`there is no process "x": it has ended`: request(api.RexecInput, 6, api.RexecInputReq{ID: "x"}),
		"there is no signal 0":                  request(api.RexecSignal, 7, api.RexecSignalReq{ID: "a"}),
		"malformed body":                        {Topic: api.RexecRun.Topic, Body: rpc.Payload{Raw: []byte{0xc1}}, Stream: true},
		"must ask for one":                      {Topic: api.RexecRun.Topic},
		"no method":                             {Topic: "rexec.nothing"},
	} {
		require.ErrorContains(t, handle(s, r)[0].(reactor.Answer).Err, text)
	}
	require.Len(t, s.runs, 1)
}

func TestABrokerRunsSoManyAndNoMore(t *testing.T) {
	s := New()
	for i := range maxRuns {
		require.IsType(t, reactor.Do{}, handle(s, newRun(fmt.Sprint(i), uint64(i)))[0])
	}
	require.ErrorIs(t, handle(s, newRun("more", 9999))[0].(reactor.Answer).Err, &wire.Error{Code: wire.Busy})
}

func TestAStopKillsAllAndWaitsForThem(t *testing.T) {
	s := New()
	require.Equal(t, []any{reactor.Notify{To: "broker", Notice: api.Stopped{Name: "rexec"}}}, handle(New(), api.Stopping{}))
	r := newRun("a", 1)
	start := handle(s, r)[0].(reactor.Do).Effect
	require.Equal(t, []any{reactor.Do{Effect: &rexec.Kill{ID: "a"}}}, handle(s, api.Stopping{}))
	require.ErrorIs(t, handle(s, newRun("b", 2))[0].(reactor.Answer).Err, &wire.Error{Code: wire.Unavailable})
	got := handle(s, reactor.Done{Effect: start, Result: rexec.Exited{Status: 9}})
	require.Equal(t, reactor.Notify{To: "broker", Notice: api.Stopped{Name: "rexec"}}, got[len(got)-1])
}
