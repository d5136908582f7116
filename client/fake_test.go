package client_test

import (
	"bufio"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

// fakeBroker says hello with a protocol and answers each request as a function says.
func fakeBroker(t *testing.T, protocol int, answer func(m *wire.Message) *wire.Message) string {
	path := filepath.Join(t.TempDir(), "local")
	ln, err := net.Listen("unix", path)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		rd := bufio.NewReader(nc)
		for {
			frame, err := wire.ReadFrame(rd)
			if err != nil {
				return
			}
			m, err := wire.Decode(frame)
			if err != nil {
				return
			}
			rep := answer(m)
			if m.Topic == api.TopicHello {
				body, _ := msgpack.Marshal(&api.Hello{Protocol: protocol, Version: "9", Host: "far"})
				rep = &wire.Message{Type: wire.Control, Topic: api.TopicHello, Body: body}
			}
			if rep == nil {
				continue
			}
			rep.Tag = m.Tag
			out, _ := wire.Encode(rep)
			if _, err := nc.Write(wire.AppendFrame(nil, out)); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return "local://" + path
}

// failing answers the first n requests with a code, then well.
func failing(n int, c wire.Code) func(*wire.Message) *wire.Message {
	return func(m *wire.Message) *wire.Message {
		if m.Type == wire.Request && n > 0 {
			n--
			return &wire.Message{Type: wire.Response, Code: c, Text: "said the broker"}
		}
		return &wire.Message{Type: wire.Response}
	}
}

func TestCallsLostInTheTreeAreRepeatedIfThatIsSafe(t *testing.T) {
	idem := rpc.Method[api.Empty, api.Empty]{Topic: "a.b", Idempotent: true}
	once := rpc.Method[api.Empty, api.Empty]{Topic: "a.b"}
	again := client.WithReconnect(10 * time.Second)
	for _, row := range []struct {
		name   string
		method rpc.Method[api.Empty, api.Empty]
		code   wire.Code
		opts   []client.DialOption
		ends   wire.Code
	}{
		{"an idempotent call that was lost", idem, wire.Lost, []client.DialOption{again}, wire.OK},
		{"a call that found nobody was not done", once, wire.Unreachable, []client.DialOption{again}, wire.OK},
		{"a call that may have been done", once, wire.Lost, []client.DialOption{again}, wire.Lost},
		{"without reconnect nothing is repeated", idem, wire.Lost, nil, wire.Lost},
		{"other errors are final", idem, wire.NotFound, []client.DialOption{again}, wire.NotFound},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := client.Dial(t.Context(), fakeBroker(t, wire.Protocol, failing(2, row.code)), row.opts...)
			require.NoError(t, err)
			defer c.Close()
			_, err = client.Call(t.Context(), c, row.method, api.Empty{})
			if row.ends == wire.OK {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, code(row.ends))
			require.EqualError(t, err, "said the broker")
		})
	}
}

func TestRepeatingEndsWithTheTimeGiven(t *testing.T) {
	c, err := client.Dial(t.Context(), fakeBroker(t, wire.Protocol, failing(1000, wire.Unreachable)), client.WithReconnect(500*time.Millisecond))
	require.NoError(t, err)
	defer c.Close()
	_, err = client.Call(t.Context(), c, api.Ping, api.PingReq{})
	require.ErrorIs(t, err, code(wire.Unreachable))
}

func TestABrokerOfAFarVersionIsRefused(t *testing.T) {
	uri := fakeBroker(t, wire.Protocol+2, func(*wire.Message) *wire.Message { return nil })
	_, err := client.Dial(t.Context(), uri)
	require.ErrorIs(t, err, code(wire.BadProtocol))
	require.ErrorContains(t, err, "far (frond 9) speaks protocol 3, this side protocol 1")
}

func TestAnAnswerThatIsNoFrameEndsTheClient(t *testing.T) {
	path := filepath.Join(t.TempDir(), "local")
	ln, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		if nc, err := ln.Accept(); err == nil {
			_, _ = nc.Write([]byte("HTTP/1.0 400 Bad Request\r\n"))
			nc.Close()
		}
	}()
	_, err = client.Dial(t.Context(), "local://"+path)
	require.ErrorIs(t, err, code(wire.TooLarge))
}
