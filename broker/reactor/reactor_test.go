package reactor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a service made of a function.
type fake struct {
	name   string
	handle func(now time.Time, in any, out *Out)
}

func (f *fake) Name() string                           { return f.name }
func (f *fake) Handle(now time.Time, in any, out *Out) { f.handle(now, in, out) }

// run starts a host of services and returns it with its router inbox.
func run(t testing.TB, drivers map[string]Driver, services ...*fake) (*Host, *Inbox[any]) {
	var names []string
	for _, s := range services {
		names = append(names, s.name)
	}
	router := NewInbox[any]()
	h := NewHost(HostConfig{Directory: NewDirectory(names...), Router: router})
	for _, s := range services {
		h.Add(s, drivers[s.name])
	}
	h.Start()
	t.Cleanup(h.Stop)
	return h, router
}

func TestAServiceIsStartedFirst(t *testing.T) {
	got := make(chan any, 10)
	h, _ := run(t, nil, &fake{"a", func(_ time.Time, in any, _ *Out) { got <- in }})
	h.Post("a", 5)
	h.Post("nobody", 6)
	require.Equal(t, Start{}, <-got)
	require.Equal(t, 5, <-got)
}

func TestACallBetweenServicesOfOneHostIsAnsweredInMemory(t *testing.T) {
	value := &struct{ X int }{1}
	got := make(chan *rpc.Response, 1)
	_, router := run(t, nil,
		&fake{"a", func(_ time.Time, in any, out *Out) {
			switch in := in.(type) {
			case Start:
				out.Call(Call{Key: "k", Topic: "b.x", Target: wire.Any, Body: value})
			case *rpc.Response:
				got <- in
			}
		}},
		&fake{"b", func(_ time.Time, in any, out *Out) {
			if r, ok := in.(*rpc.Request); ok {
				out.Reply(r, r.Body.Value)
			}
		}})
	require.Equal(t, &rpc.Response{Key: "k", Body: rpc.Payload{Value: value}}, <-got)
	require.Empty(t, router.Take(nil))
}

func TestACallToAServiceElsewhereGoesToTheRouterEncoded(t *testing.T) {
	h, router := run(t, nil, &fake{"a", func(_ time.Time, in any, out *Out) {
		switch in {
		case Start{}:
			out.Call(Call{Key: 1, Topic: "far.x", Target: wire.Any, Body: "body"})
			out.Call(Call{Key: 2, Topic: "a.x", Target: 3, Body: "own rank"})
			out.Call(Call{Key: 3, Topic: "far.x", Target: wire.Any, Body: make([]byte, wire.MaxFrame)})
		}
	}})
	h.SetRank(3)
	<-router.Wake()
	items := router.Take(nil)
	require.Len(t, items, 1)
	s, err := rpc.As[string](rpc.Payload{Raw: items[0].(Sent).Req.Body.Raw})
	require.NoError(t, err)
	require.Equal(t, "body", s)
}

func TestTimersReplaceEachOtherAndOldOnesDoNotFire(t *testing.T) {
	wakes := make(chan time.Time, 10)
	var t0 time.Time
	run(t, nil, &fake{"a", func(now time.Time, in any, out *Out) {
		switch in.(type) {
		case Start:
			t0 = now
			out.Wake(now.Add(time.Millisecond))
			out.Wake(now.Add(30 * time.Millisecond))
		case Wake:
			wakes <- now
		}
	}})
	require.GreaterOrEqual(t, (<-wakes).Sub(t0), 30*time.Millisecond)
	select {
	case <-wakes:
		t.Fatal("woke twice")
	case <-time.After(20 * time.Millisecond):
	}
}

func TestATimerInThePastWakesAtOnceAndDoesNotStarveInputs(t *testing.T) {
	inputs := make(chan int, 1000)
	h, _ := run(t, nil, &fake{"a", func(_ time.Time, in any, out *Out) {
		switch in := in.(type) {
		case Start, Wake:
			out.Wake(time.Unix(1, 0))
		case int:
			inputs <- in
		}
	}})
	for i := range 100 {
		h.Post("a", i)
	}
	for i := range 100 {
		require.Equal(t, i, <-inputs)
	}
}

// echoDriver ends each effect from another goroutine.
type echoDriver struct{ wg sync.WaitGroup }

func (d *echoDriver) Do(_ time.Time, effect any, done func(any, error)) {
	d.wg.Go(func() { done(effect, nil); done("more", fmt.Errorf("failed")) })
}

func TestEffectsComeBackAsDone(t *testing.T) {
	got := make(chan Done, 2)
	d := &echoDriver{}
	run(t, map[string]Driver{"a": d}, &fake{"a", func(_ time.Time, in any, out *Out) {
		switch in := in.(type) {
		case Start:
			out.Do("effect")
		case Done:
			got <- in
		}
	}})
	require.Equal(t, Done{"effect", "effect", nil}, <-got)
	require.Error(t, (<-got).Err)
	d.wg.Wait()
}

func TestOutputsArriveInTheOrderTheyWereGiven(t *testing.T) {
	const n = 1000
	var mu sync.Mutex
	var order []int
	done := make(chan struct{})
	note := func(_ time.Time, in any, _ *Out) {
		if i, ok := in.(int); ok {
			mu.Lock()
			defer mu.Unlock()
			if order = append(order, i); len(order) == 2*n {
				close(done)
			}
		}
	}
	_, router := run(t, nil,
		&fake{"a", func(_ time.Time, in any, out *Out) {
			if in == (Start{}) {
				for i := range n {
					out.Notify("b", i)
					out.Notify("broker", i)
					out.Notify("b", -i)
				}
			}
		}}, &fake{"b", note})
	<-done
	for i := range n {
		require.Equal(t, []int{i, -i}, order[2*i:2*i+2])
	}
	for i, in := range router.Take(nil) {
		require.Equal(t, Notice{"a", i}, in)
	}
}

func TestACancelledCallGetsNoAnswer(t *testing.T) {
	dir := NewDirectory("a", "b")
	e := NewEndpoint(dir, "a")
	direct := func(s string) bool { return s == "b" }
	_, msg := e.Dispatch(Call{Key: "s", Topic: "b.x", Target: wire.Any, Stream: true}, direct, 0)
	r := msg.(*rpc.Request)
	to, c := e.Dispatch(CancelCall{"s"}, direct, 0)
	require.Equal(t, "b", to)
	require.Equal(t, rpc.Cancel{Key: r.Key()}, c)
	_, ok := e.Accept(Reply{Tag: r.Tag})
	require.False(t, ok)
	require.Empty(t, e.calls)
	require.Empty(t, e.open)
}

func TestAnAnswerThatCannotBeEncodedBecomesAnError(t *testing.T) {
	e := NewEndpoint(NewDirectory("a"), "a")
	remote := &rpc.Request{Route: []wire.Hop{{Rank: wire.LocalRank, Inc: FirstClient}}}
	_, msg := e.Dispatch(Answer{Req: remote, Body: make(chan int), More: true}, nil, 0)
	require.Equal(t, wire.Internal, msg.(Reply).Err.Code)
	require.False(t, msg.(Reply).More)
	_, msg = e.Dispatch(Answer{Req: remote, Body: make([]byte, wire.MaxFrame)}, nil, 0)
	require.Equal(t, wire.TooLarge, msg.(Reply).Err.Code)
}

func TestMethodsForBrokersRefuseClientsWhereverTheyAre(t *testing.T) {
	hop := func(rank int32, inc uint64) wire.Hop { return wire.Hop{Rank: rank, Inc: inc} }
	for _, row := range []struct {
		name   string
		route  []wire.Hop
		client bool
		rank   int32
	}{
		{"a service of this broker", []wire.Hop{hop(wire.LocalRank, 3)}, false, wire.Any},
		{"a service of another broker", []wire.Hop{hop(wire.LocalRank, 3), hop(2, 99999)}, false, 2},
		{"a client of this broker", []wire.Hop{hop(wire.LocalRank, FirstClient)}, true, wire.Any},
		{"a client of another broker", []wire.Hop{hop(wire.LocalRank, FirstClient+7), hop(2, 1), hop(1, 5)}, true, 2},
	} {
		err := BrokersOnly(&rpc.Request{Topic: "a.b", Route: row.route})
		require.Equal(t, row.client, errors.Is(err, &wire.Error{Code: wire.Denied}), row.name)
		require.Equal(t, row.rank, BrokerOf(&rpc.Request{Route: row.route}), row.name)
	}
}

func TestARequestWithoutReplyIsNotAnswered(t *testing.T) {
	e := NewEndpoint(NewDirectory("a"), "a")
	_, msg := e.Dispatch(Answer{Req: &rpc.Request{NoReply: true}}, nil, 0)
	require.Nil(t, msg)
}

func TestAPanicNamesTheService(t *testing.T) {
	if os.Getenv("FROND_TEST_PANIC") != "" {
		run(t, nil, &fake{"fragile", func(time.Time, any, *Out) { panic("broken invariant") }})
		time.Sleep(time.Minute)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestAPanicNamesTheService$")
	cmd.Env = append(os.Environ(), "FROND_TEST_PANIC=1")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "service fragile: broken invariant")
}

func TestServiceOfATopic(t *testing.T) {
	require.Equal(t, "job", ServiceOf("job.submit"))
	require.Equal(t, "job", ServiceOf("job.a.b"))
	require.Equal(t, "job", ServiceOf("job"))
	require.Equal(t, "", ServiceOf(".x"))
}

func BenchmarkCallBetweenServices(b *testing.B) {
	done := make(chan struct{})
	left := 0
	h, _ := run(b, nil,
		&fake{"a", func(_ time.Time, in any, out *Out) {
			switch in := in.(type) {
			case int:
				for range in {
					out.Call(Call{Topic: "b.x", Target: wire.Any})
				}
				left += in
			case *rpc.Response:
				if left--; left == 0 {
					done <- struct{}{}
				}
			}
		}},
		&fake{"b", func(_ time.Time, in any, out *Out) {
			if r, ok := in.(*rpc.Request); ok {
				out.Reply(r, nil)
			}
		}})
	const batch = 1000
	b.ReportAllocs()
	for i := 0; i < b.N; i += batch {
		h.Post("a", batch)
		<-done
	}
}
