package hostile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

// raw is a client made of bytes.
type raw struct {
	t  *testing.T
	nc *net.UnixConn
	rd *bufio.Reader
}

func connect(t *testing.T, path string) *raw {
	t.Helper()
	nc, err := net.Dial("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	require.NoError(t, nc.SetDeadline(time.Now().Add(patience)))
	return &raw{t, nc.(*net.UnixConn), bufio.NewReader(nc)}
}

// greeted is a client that has been admitted.
func greeted(t *testing.T, path string) *raw {
	t.Helper()
	r := connect(t, path)
	r.send(hello(wire.Protocol))
	require.Equal(t, api.TopicHello, r.read().Topic)
	return r
}

func hello(protocol int) *wire.Message {
	body, _ := msgpack.Marshal(&api.Hello{Protocol: protocol, Version: "hostile", Host: "here"})
	return &wire.Message{Type: wire.Control, Topic: api.TopicHello, Body: body}
}

// framed is messages as bytes.
func framed(t *testing.T, msgs ...*wire.Message) []byte {
	t.Helper()
	var b []byte
	for _, m := range msgs {
		frame, err := wire.Encode(m)
		require.NoError(t, err)
		b = wire.AppendFrame(b, frame)
	}
	return b
}

func (r *raw) send(msgs ...*wire.Message) {
	r.t.Helper()
	_, err := r.nc.Write(framed(r.t, msgs...))
	require.NoError(r.t, err)
}

func (r *raw) read() *wire.Message {
	r.t.Helper()
	frame, err := wire.ReadFrame(r.rd)
	require.NoError(r.t, err)
	m, err := wire.Decode(frame)
	require.NoError(r.t, err)
	return m
}

// refusal reads what comes up to the last message, which says why, and the end of the connection.
func (r *raw) refusal() *wire.Message {
	r.t.Helper()
	m := r.read()
	for m.Topic != api.TopicError {
		m = r.read()
	}
	_, err := r.rd.ReadByte()
	require.Error(r.t, err, "the connection ends")
	return m
}

func request(topic string, tag uint64, body []byte) *wire.Message {
	return &wire.Message{Type: wire.Request, Topic: topic, Target: wire.Any, Tag: tag, Body: body}
}

func badFrames(t *testing.T, in *instance) {
	good := framed(t, request(api.Ping.Topic, 1, nil))
	frame := func(b string) string { return string(wire.AppendFrame(nil, []byte(b))) }
	noise := make([]byte, 100_000)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(noise)
	noise[0] = 0xff
	for _, row := range []struct {
		name, bytes string
		hello       bool
		code        wire.Code
		says        string
	}{
		{"noise", string(noise), false, wire.TooLarge, "over the limit"},
		{"noise after a hello", string(noise), true, wire.TooLarge, "over the limit"},
		{"an http request", "GET / HTTP/1.0\r\n\r\n", false, wire.TooLarge, "over the limit"},
		{"a length of four GiB", "\xff\xff\xff\xff", true, wire.TooLarge, "4294967295 bytes"},
		{"a length one over the limit", "\x01\x00\x00\x01", true, wire.TooLarge, "16777217 bytes"},
		{"an empty frame", "\x00\x00\x00\x00", true, wire.Invalid, "0 bytes"},
		{"a frame that is text", frame("hello"), true, wire.Invalid, "decode frame: header"},
		{"a header that is too short", frame("\x93\x01\xa1x\x00"), true, wire.Invalid, "has 3 elements"},
		{"a topic of 60,000 bytes", frame("\x9b\x01\xda\xea\x60" + strings.Repeat("x", 60000)), true, wire.Invalid, "topic"},
		{"a route of four billion hops", frame("\x9b\x01\xa1x\x00\xdd\xff\xff\xff\xff"), true, wire.Invalid, "route"},
		{"a header with a million arrays in each other behind it", frame("\x9c\x01\xa1x\x00\x90\xff\x01\x00\x00\x00\xa0\x00" + strings.Repeat("\x91", 1<<20)),
			true, wire.Invalid, "extra elements"},
		{"a truncated frame", string(good[:len(good)-2]), true, wire.Invalid, "inside a frame"},
		{"a truncated length", string(good[:2]), true, wire.Invalid, "inside a frame"},
		{"a truncated frame of 16 MiB", "\x01\x00\x00\x00" + strings.Repeat("x", 1<<20), true, wire.Invalid, "inside a frame"},
		{"a request without a hello", string(good), false, wire.BadProtocol, "first message is a hello"},
		{"a hello whose body is no map", string(framed(t, &wire.Message{Type: wire.Control, Topic: api.TopicHello, Body: []byte("\xa5hello")})), false,
			wire.BadProtocol, "malformed hello"},
		{"a hello with a body that nests without end", string(framed(t, &wire.Message{Type: wire.Control, Topic: api.TopicHello,
			Body: []byte("\x81\xa1x" + strings.Repeat("\x91", 15<<20))})), false, wire.BadProtocol, "nested"},
		{"a hello of another time", string(framed(t, hello(wire.Protocol+2))), false, wire.BadProtocol, "here (frond hostile) speaks protocol 3"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := connect(t, in.socket(1))
			if row.hello {
				r = greeted(t, in.socket(1))
			}
			_, _ = r.nc.Write([]byte(row.bytes)) // the broker may end it before it has all
			_ = r.nc.CloseWrite()
			m := r.refusal()
			require.Equal(t, row.code, m.Code, m.Text)
			require.Contains(t, m.Text, row.says)
			in.serves(t)
		})
	}
	t.Run("a client that is silent, and one that goes at once", func(t *testing.T) {
		connect(t, in.socket(1))
		connect(t, in.socket(1)).nc.Close()
		in.serves(t)
	})
}

func badMessages(t *testing.T, in *instance) {
	ping := api.Ping.Topic
	for _, row := range []struct {
		name string
		msg  wire.Message
		code wire.Code
		says string
	}{
		{"an unknown service", wire.Message{Type: wire.Request, Topic: "nonsense.x", Target: wire.Any}, wire.NoService, `"nonsense"`},
		{"an unknown method of each kind of service", wire.Message{Type: wire.Request, Topic: "job.x", Target: wire.Any}, wire.NoMethod, "job.x"},
		{"an unknown method of the broker", wire.Message{Type: wire.Request, Topic: "broker.x", Target: wire.Any}, wire.NoMethod, "broker.x"},
		{"an empty topic", wire.Message{Type: wire.Request, Target: wire.Any}, wire.NoService, `""`},
		{"a topic of NULs and invalid UTF-8", wire.Message{Type: wire.Request, Topic: "\x00\xff.\xfe", Target: wire.Any}, wire.NoService, "service"},
		{"a rank that is not there", wire.Message{Type: wire.Request, Topic: ping, Target: 99}, wire.NotFound, "there is no rank 99"},
		{"the largest rank", wire.Message{Type: wire.Request, Topic: ping, Target: 1<<31 - 1}, wire.NotFound, "there is no rank"},
		{"a route of its own making", wire.Message{Type: wire.Request, Topic: "job.exec-renew", Target: wire.Any, Route: []wire.Hop{{Rank: wire.LocalRank, Inc: 1}}},
			wire.Denied, "not for clients"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := greeted(t, in.socket(1))
			row.msg.Tag = 7
			r.send(&row.msg)
			m := r.read()
			require.Equal(t, []any{wire.Response, uint64(7), row.code}, []any{m.Type, m.Tag, m.Code}, m.Text)
			require.Contains(t, m.Text, row.says)
			r.send(request(ping, 8, nil))
			require.Equal(t, uint64(8), r.read().Tag, "the same connection goes on")
			in.serves(t)
		})
	}
	t.Run("messages that clients do not send", func(t *testing.T) {
		for _, m := range []*wire.Message{
			{Type: wire.Response, Tag: 1}, {Type: wire.Event, Topic: "x", Epoch: 1, Seq: 1 << 60},
			{Type: wire.Control, Topic: api.TopicStop}, {Type: wire.Control, Topic: api.TopicEventReset, Seq: 1 << 60}, hello(1),
		} {
			r := greeted(t, in.socket(1))
			r.send(m)
			last := r.refusal()
			require.Equal(t, wire.Invalid, last.Code)
			require.Contains(t, last.Text, "a client sends requests and cancels")
		}
		in.serves(t)
	})
	t.Run("a tag that is in use, cancels of what is not there", func(t *testing.T) {
		r := greeted(t, in.socket(1))
		follow, _ := msgpack.Marshal(&api.SubscribeReq{Prefix: "none"})
		open := request(api.Subscribe.Topic, 5, follow)
		open.Flags = wire.Stream
		cancel := &wire.Message{Type: wire.Control, Topic: api.TopicCancel, Flags: wire.Cancel, Tag: 77}
		r.send(open, open, cancel)
		m := r.read()
		require.Equal(t, wire.Invalid, m.Code)
		require.Contains(t, m.Text, "tag 5 is that of another")
		cancel.Tag = 5
		r.send(cancel, cancel, request(ping, 9, nil))
		require.Equal(t, uint64(9), r.read().Tag)
		in.serves(t)
	})
}

// methods lists the topics of all methods, from their declarations.
func methods(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../broker/api/*.go")
	require.NoError(t, err)
	var topics []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`Topic: "([a-z.-]+)"`).FindAllSubmatch(text, -1) {
			topics = append(topics, string(m[1]))
		}
	}
	require.Contains(t, topics, api.Submit.Topic)
	require.Greater(t, len(topics), 30)
	return topics
}

// deaf are the methods whose request has no fields: they do not look at it.
var deaf = []string{api.AttrList.Topic, api.BranchStatus.Topic, api.Stats.Topic, api.OverlayStatus.Topic, api.ResourceBarrier.Topic, api.ResourceStatus.Topic, api.SchedUsage.Topic}

func badRequests(t *testing.T, in *instance) {
	garbage := map[string]string{
		"a byte that msgpack does not have":  "\xc1",
		"text":                               "hello",
		"a string in place of a map":         "\xa5hello",
		"a truncated map":                    "\x82\xa3ids\x90",
		"a map of four billion entries":      "\xdf\xff\xff\xff\xff",
		"an array of four billion":           "\xdd\xff\xff\xff\xff",
		"a field of two GiB":                 "\x81\xa3pad\xc6\x7f\xff\xff\xff",
		"arrays in each other":               "\x81\xa1x" + strings.Repeat("\x91", 1000) + "\x01",
		"maps in each other":                 strings.Repeat("\x81\xa1x", 1000) + "\x01",
		"a field of the wrong kind for each": "\x8a\xa6prefix\x07\xa6follow\x07\xa3ids\x81\x01\x02\xa5items\x05\xa2id\x90\xa4name\x07\xa5count\xa1x\xa4rank\xa1x\xa4keep\x07\xa1g\x07",
	}
	for _, topic := range methods(t) {
		t.Run(topic, func(t *testing.T) {
			r := greeted(t, in.socket(1))
			for name, body := range garbage {
				if topic == api.Shutdown.Topic && strings.HasPrefix(name, "a field") {
					continue
				}
				m := r.answer(topic, []byte(body))
				require.Equal(t, wire.Response, m.Type)
				if !slices.Contains(deaf, topic) && !strings.HasPrefix(name, "a field of the wrong kind") {
					require.NotEqual(t, wire.OK, m.Code, name)
					require.NotEqual(t, wire.EndOfStream, m.Code, name)
					require.NotEqual(t, wire.Internal, m.Code, "%s: %s", name, m.Text)
					require.NotEmpty(t, m.Text)
					require.Less(t, len(m.Text), 1000, "a message for people")
				}
			}
			in.serves(t)
		})
	}
	t.Run("empty requests and requests of noise to every method", func(t *testing.T) {
		var bodies [][]byte
		for _, b := range []string{"", "\xc0", "\x80", "\x90"} {
			bodies = append(bodies, []byte(b))
		}
		src := rand.New(rand.NewPCG(1, 2))
		for range 60 {
			bodies = append(bodies, noiseBody(src))
		}
		for _, topic := range methods(t) {
			if topic == api.Shutdown.Topic {
				continue // an empty one is a good one
			}
			r := greeted(t, in.socket(1))
			for i, b := range bodies {
				m := request(topic, uint64(i), b)
				m.Flags = wire.Stream
				r.send(m, &wire.Message{Type: wire.Control, Topic: api.TopicCancel, Flags: wire.Cancel, Tag: uint64(i)})
			}
			r.send(request(api.Ping.Topic, 1<<40, nil))
			for r.read().Tag != 1<<40 {
			}
		}
		in.serves(t)
	})
}

// bigRequests are of nearly 16 MiB. What decodes them would overflow its stack, or hold a hundred times as much.
func bigRequests(t *testing.T, in *instance) {
	for name, body := range map[string]string{
		"arrays in each other without end": "\x81\xa1x" + strings.Repeat("\x91", 15<<20),
		"maps in each other without end":   "\x81\xa1x" + strings.Repeat("\x81\xa1x", 5<<20),
		"nils that would become structs":   "\x81\xa5items\xdd\x00\xf0\x00\x00" + strings.Repeat("\xc0", 15<<20),
		"one bytes string":                 "\x81\xa5items\xc6\x00\xf0\x00\x00" + strings.Repeat("x", 15<<20),
	} {
		t.Run(name, func(t *testing.T) {
			m := greeted(t, in.socket(0)).answer(api.Submit.Topic, []byte(body))
			require.Equal(t, wire.Invalid, m.Code, m.Text)
			require.Contains(t, m.Text, "malformed body")
			require.Less(t, in.rss(t, 0), int64(memoryLimit))
			in.serves(t)
		})
	}
}

// answer makes a call and reads its last answer.
func (r *raw) answer(topic string, body []byte) *wire.Message {
	r.t.Helper()
	m := request(topic, binary.BigEndian.Uint64([]byte("tag 1234")), body)
	m.Flags = wire.Stream
	r.send(m)
	for {
		if m := r.read(); m.Flags&wire.Stream == 0 {
			return m
		}
	}
}

// noiseBody is a map with fields that requests have and values of any kind.
func noiseBody(src *rand.Rand) []byte {
	names := []string{"ids", "items", "id", "key", "rank", "inc", "uuid", "session", "runs", "records", "specs", "starts", "targets", "signal",
		"type", "severity", "note", "states", "results", "max", "since", "count", "pid", "prefix", "topic", "body", "g", "task", "data", "eof",
		"events", "output", "follow", "token", "envs", "name", "pad", "progress", "collapse", "reason", "force", "update", "drop", "user"}
	fields := map[string]any{}
	for range 1 + src.IntN(6) {
		fields[names[src.IntN(len(names))]] = noiseValue(src, 3)
	}
	var buf bytes.Buffer
	enc := msgpack.NewEncoder(&buf)
	enc.SetSortMapKeys(true)
	if err := enc.Encode(fields); err != nil {
		panic(err)
	}
	b := buf.Bytes()
	if src.IntN(3) == 0 {
		b[src.IntN(len(b))] ^= byte(1 + src.IntN(255))
	}
	return b
}

func noiseValue(src *rand.Rand, depth int) any {
	switch src.IntN(9) {
	case 0:
		return src.Int64() - src.Int64()
	case 1:
		return -1
	case 2:
		return fmt.Sprint(src.Uint32())
	case 3:
		return bytes.Repeat([]byte{0xff}, src.IntN(50))
	case 4:
		return src.Float64() * 1e300
	case 5:
		return true
	case 6:
		return nil
	}
	if depth == 0 {
		return 0
	}
	list := make([]any, src.IntN(8))
	for i := range list {
		list[i] = noiseValue(src, depth-1)
	}
	return list
}
