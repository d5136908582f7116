package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

func init() { time.Local = time.UTC } // dates in expected output

// fakeInstance is a broker's socket with methods that a test gives: what the commands send and how they show the answers is tested
// against it. It ends with the test.
type fakeInstance struct {
	t       *testing.T
	uri     string
	methods map[string]func(body []byte, send func(rep any)) error
	mu      sync.Mutex
	calls   []string // topics in the order of arrival
}

func newFakeInstance(t *testing.T) *fakeInstance {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	f := &fakeInstance{t: t, uri: "local://" + path, methods: map[string]func([]byte, func(any)) error{}}
	serveCall(f, api.Lookup, func(req api.LookupReq) (rep api.LookupRep, err error) { // every id is a large array
		for _, id := range req.IDs {
			rep.Found = append(rep.Found, api.Found{ID: id, N: maxArray})
		}
		return rep, nil
	})
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return f
}

// serveCall serves a method with one answer.
func serveCall[Req, Rep any](f *fakeInstance, m rpc.Method[Req, Rep], h func(Req) (Rep, error)) {
	f.methods[m.Topic] = func(body []byte, send func(any)) error {
		req, err := rpc.As[Req](rpc.Payload{Raw: body})
		if err != nil {
			return err
		}
		rep, err := h(req)
		if err == nil {
			send(rep)
		}
		return err
	}
}

// serveStream serves a method with several answers and a clean end.
func serveStream[Req, Rep any](f *fakeInstance, m rpc.Method[Req, Rep], h func(Req, func(Rep)) error) {
	f.methods[m.Topic] = func(body []byte, send func(any)) error {
		req, err := rpc.As[Req](rpc.Payload{Raw: body})
		if err != nil {
			return err
		}
		if err := h(req, func(rep Rep) { send(rep) }); err != nil {
			return err
		}
		return &wire.Error{Code: wire.EndOfStream}
	}
}

func (f *fakeInstance) called() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

// serve speaks the protocol of the local socket on one connection; each request has a goroutine.
func (f *fakeInstance) serve(c net.Conn) {
	defer c.Close()
	var mu sync.Mutex
	write := func(m *wire.Message) {
		frame, err := wire.Encode(m)
		if err != nil {
			f.t.Errorf("encode answer: %v", err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		_, _ = c.Write(wire.AppendFrame(nil, frame))
	}
	hello, _ := msgpack.Marshal(&api.Hello{Protocol: wire.Protocol, Version: "test"})
	write(&wire.Message{Type: wire.Control, Topic: api.TopicHello, Body: hello})
	rd := bufio.NewReader(c)
	var requests sync.WaitGroup
	defer requests.Wait()
	for {
		frame, err := wire.ReadFrame(rd)
		if err != nil {
			return
		}
		m, err := wire.Decode(frame)
		if err != nil {
			f.t.Errorf("decode request: %v", err)
			return
		}
		if m.Type == wire.Request {
			requests.Go(func() { f.request(m, write) })
		}
	}
}

func (f *fakeInstance) request(m *wire.Message, write func(*wire.Message)) {
	f.mu.Lock()
	f.calls = append(f.calls, m.Topic)
	h := f.methods[m.Topic]
	f.mu.Unlock()
	if h == nil {
		write(&wire.Message{Type: wire.Response, Route: m.Route, Tag: m.Tag, Code: wire.NoService, Text: "no service for " + m.Topic})
		return
	}
	more := m.Flags & wire.Stream
	err := h(m.Body, func(rep any) {
		body, err := msgpack.Marshal(rep)
		if err != nil {
			f.t.Errorf("encode %s: %v", m.Topic, err)
		}
		write(&wire.Message{Type: wire.Response, Flags: more, Route: m.Route, Tag: m.Tag, Body: body})
	})
	var we *wire.Error
	if errors.As(err, &we) {
		write(&wire.Message{Type: wire.Response, Route: m.Route, Tag: m.Tag, Code: we.Code, Text: we.Text})
	} else if err != nil {
		write(&wire.Message{Type: wire.Response, Route: m.Route, Tag: m.Tag, Code: wire.Internal, Text: err.Error()})
	}
}

// result is what a command left.
type result struct {
	code        int
	out, errout string
}

// frond runs a command line against the fake instance, with UTF-8 ids and the variables of vars.
func (f *fakeInstance) frond(args ...string) result { return f.frondWith("", nil, args...) }

func (f *fakeInstance) frondWith(stdin string, vars map[string]string, args ...string) result {
	f.t.Helper()
	var out, errout bytes.Buffer
	e := newEnv()
	e.stdin, e.stdout, e.stderr = strings.NewReader(stdin), &out, &errout
	e.lookup = func(name string) (string, bool) {
		v, ok := map[string]string{"FROND_URI": f.uri, "LANG": "C.UTF-8"}[name]
		if w, set := vars[name]; set {
			v, ok = w, true
		}
		return v, ok
	}
	code := e.run(context.Background(), args)
	return result{code, out.String(), errout.String()}
}
