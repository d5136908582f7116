package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

func genMessage(t *rapid.T) *Message {
	m := &Message{
		Type:   Type(rapid.IntRange(1, 4).Draw(t, "type")),
		Topic:  rapid.StringN(0, 40, MaxTopic).Draw(t, "topic"),
		Flags:  Flags(rapid.Uint32().Draw(t, "flags")),
		Target: rapid.Int32().Draw(t, "target"),
		Tag:    rapid.Uint64().Draw(t, "tag"),
		Seq:    rapid.Uint64().Draw(t, "seq"),
		Epoch:  rapid.Uint64().Draw(t, "epoch"),
		User:   rapid.Uint32().Draw(t, "user"),
		Code:   Code(rapid.Uint16().Draw(t, "code")),
		Text:   rapid.StringN(0, -1, 70_000).Draw(t, "text"),
		Body:   rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "body"),
	}
	for range rapid.IntRange(0, MaxRoute).Draw(t, "hops") {
		m.Route = append(m.Route, Hop{rapid.Int32().Draw(t, "rank"), rapid.Uint64().Draw(t, "inc")})
	}
	return m
}

// Fails when appendInt writes -33 as a fixint (planted once).
func TestDecodeGivesBackWhatWasEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := genMessage(t)
		prefix := []byte("before")
		b, err := AppendEncode(prefix, m)
		require.NoError(t, err)
		got, err := Decode(b[len(prefix):])
		require.NoError(t, err)
		require.Equal(t, m, got)
	})
}

func TestOtherMsgpackLibrariesReadAndWriteTheSameHeader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := genMessage(t)
		b, err := Encode(m)
		require.NoError(t, err)
		var head []any
		dec := msgpack.NewDecoder(bytes.NewReader(b))
		require.NoError(t, dec.Decode(&head))
		require.Len(t, head, fields)
		require.Equal(t, m.Topic, head[1])
		again, err := msgpack.Marshal(head)
		require.NoError(t, err)
		got, err := Decode(append(again, m.Body...))
		require.NoError(t, err)
		require.Equal(t, m, got)
	})
}

func TestGoldenBytes(t *testing.T) {
	m := &Message{Type: Request, Topic: "job.submit", Flags: Stream, Route: []Hop{{LocalRank, 7}, {300, 1 << 40}}, Target: Upstream,
		Tag: 1000, User: 1001, Body: []byte{0x80}}
	b, err := Encode(m)
	require.NoError(t, err)
	require.Equal(t, "9b01aa6a6f622e7375626d6974019292ff0792cd012ccf0000010000000000fecd03e800cd03e900a00080", hex.EncodeToString(b))
}

func TestDecode(t *testing.T) {
	whole, _ := Encode(&Message{Type: Response, Topic: "a.b", Text: "x", Epoch: 3, Body: []byte("body")})
	head := whole[1 : len(whole)-4]
	with := func(n byte, extra ...byte) []byte {
		return append(append([]byte{0xdc, 0, n}, head...), extra...)
	}
	rows := []struct {
		name  string
		frame []byte
		err   string
	}{
		{"reads extra trailing elements of every kind", with(13, 0x82, 1, 0x91, 0xc3, 2, 0xc7, 2, 5, 0, 0, 0xca, 1, 2, 3, 4), ""},
		{"reads a frame without the epoch", append([]byte{0x9a}, head[:len(head)-1]...), ""},
		{"refuses an empty frame", nil, "header: the frame ends"},
		{"refuses what is no array", []byte{0x80}, "header: byte 0x80 is no array"},
		{"refuses too few elements", []byte{0x99}, "header: has 9 elements, needs 10"},
		{"refuses an unknown type", []byte{0x9b, 9}, "type: 9 is unknown"},
		{"refuses a number as topic", []byte{0x9b, 1, 1}, "topic: byte 0x01 is no string"},
		{"refuses a long topic", append([]byte{0x9b, 1, 0xda, 1, 1}, make([]byte, 400)...), "topic: 257 bytes are over the limit of 256"},
		{"refuses a deep route", []byte{0x9b, 1, 0xa0, 0, 0xdc, 0, 65}, "route: 65 hops are over the limit of 64"},
		{"refuses a hop of three", []byte{0x9b, 1, 0xa0, 0, 0x91, 0x93, 1, 2, 3}, "route: hop 0: has 3 elements"},
		{"refuses a rank over 31 bits", []byte{0x9b, 1, 0xa0, 0, 0x90, 0xce, 0x80, 0, 0, 0}, "target: number out of range"},
		{"refuses a negative tag", []byte{0x9b, 1, 0xa0, 0, 0x90, 0xff, 0xff}, "tag: number out of range"},
		{"refuses a reserved byte among extra elements", with(12, 0xc1), "extra elements: byte 0xc1 is no msgpack"},
		{"refuses extra elements that are not there", with(12, 0xdf, 0xff, 0xff, 0xff, 0xff), "extra elements: the frame ends"},
		{"refuses a string longer than the frame", []byte{0x9b, 1, 0xa9, 'x'}, "topic: the frame ends"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m, err := Decode(row.frame)
			if row.err == "" {
				require.NoError(t, err)
				require.Equal(t, "a.b", m.Topic)
				return
			}
			require.ErrorContains(t, err, row.err)
			require.ErrorIs(t, err, &Error{Code: Invalid})
		})
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	b, _ := Encode(&Message{Type: Event, Topic: "a.b", Route: []Hop{{1, 2}, {-1, 1 << 50}}, Text: strings.Repeat("x", 300), Epoch: 1 << 60})
	for n := range b {
		_, err := Decode(b[:n])
		require.Error(t, err, "%d bytes", n)
	}
}

func TestLimits(t *testing.T) {
	rows := []struct {
		name string
		m    Message
		err  string
	}{
		{"a long topic is not encoded", Message{Type: Request, Topic: strings.Repeat("t", 257)}, "topic of 257 bytes"},
		{"a deep route is not encoded", Message{Type: Request, Route: make([]Hop, 65)}, "route of 65 hops"},
		{"a large body is not encoded", Message{Type: Request, Body: make([]byte, MaxFrame+1)}, "body of 16777217 bytes"},
		{"a body that fits only without its header is not encoded", Message{Type: Request, Body: make([]byte, MaxFrame)}, "frame of"},
		{"an unset type is not encoded", Message{}, "type 0 is unknown"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			b, err := AppendEncode([]byte("x"), &row.m)
			require.ErrorContains(t, err, row.err)
			require.Equal(t, []byte("x"), b)
		})
	}
	_, err := Decode(make([]byte, MaxFrame+1))
	require.ErrorIs(t, err, &Error{Code: TooLarge})
}

func TestFramesOnAStream(t *testing.T) {
	large := bytes.Repeat([]byte{7}, 3<<20)
	stream := AppendFrame(AppendFrame(AppendFrame(nil, []byte("one")), nil), large)
	r := bytes.NewReader(stream)
	for _, want := range [][]byte{[]byte("one"), {}, large} {
		got, err := ReadFrame(r)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := ReadFrame(r)
	require.Equal(t, io.EOF, err)
	for _, cut := range []int{2, 4, 6} {
		_, err = ReadFrame(bytes.NewReader(stream[:cut]))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "cut at %d", cut)
	}
	_, err = ReadFrame(bytes.NewReader([]byte{0xff, 0, 0, 0}))
	require.ErrorIs(t, err, &Error{Code: TooLarge})
}

func TestErrors(t *testing.T) {
	require.Equal(t, Internal+1, Code(len(codeNames)), "every code has a name")
	require.Equal(t, "internal", Internal.String())
	require.Equal(t, "code 999", Code(999).String())
	require.True(t, errors.Is(Errorf(Lost, "x"), &Error{Code: Lost}))
	require.False(t, errors.Is(Errorf(Lost, "x"), &Error{Code: Busy}))
	require.Equal(t, "busy", (&Error{Code: Busy}).Error())
}

func FuzzDecode(f *testing.F) {
	for _, m := range []*Message{
		{Type: Request, Topic: "job.submit", Route: []Hop{{-1, 1}, {5, 1 << 40}}, Tag: 9, Body: []byte{0x80}},
		{Type: Response, Code: Lost, Text: strings.Repeat("long ", 60)},
		{Type: Event, Topic: "job.state", Seq: 1 << 40, Epoch: 2},
		{Type: Control, Flags: Cancel, Route: make([]Hop, 40)},
	} {
		b, _ := Encode(m)
		f.Add(b)
		f.Add(append(append([]byte{0xdd, 0, 0, 0, 12}, b[1:]...), 0x92, 0xc0, 0xc4, 1, 0))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := Decode(frame)
		if err != nil {
			return
		}
		b, err := Encode(m)
		require.NoError(t, err)
		again, err := Decode(b)
		require.NoError(t, err)
		require.Equal(t, m, again)
	})
}

func BenchmarkEncode(b *testing.B) {
	m := benchMessage()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = AppendEncode(buf[:0], m)
	}
}

func BenchmarkDecode(b *testing.B) {
	frame, _ := Encode(benchMessage())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func benchMessage() *Message {
	return &Message{Type: Request, Topic: "exec.start", Route: []Hop{{-1, 3}, {0, 1 << 55}}, Target: 17, Tag: 12345, User: 1000, Body: make([]byte, 200)}
}
