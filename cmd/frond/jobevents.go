package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
)

// eventStyle is how the entries of an eventlog are printed, with Flux's names of formats.
type eventStyle struct {
	json bool   // one JSON object a line (RFC 18)
	time string // raw (seconds), iso, offset (since the first event), human
}

// eventPrinter prints events, one a line. Its first event is the origin of offsets.
type eventPrinter struct {
	out   io.Writer
	style eventStyle
	first float64
	last  float64 // minute that was printed last, for human times
	n     int
}

func newEventPrinter(out io.Writer, style eventStyle) *eventPrinter {
	return &eventPrinter{out: out, style: style}
}

// parseEventStyle reads the options --format, --time-format and --human.
func parseEventStyle(format, times string, human bool) (eventStyle, error) {
	s := eventStyle{json: format == "json", time: times}
	if format != "" && format != "text" && format != "json" {
		return s, fmt.Errorf("--format: %q is neither text nor json", format)
	}
	switch times {
	case "":
		s.time = "raw"
	case "raw", "iso", "offset", "human":
	default:
		return s, fmt.Errorf("--time-format: %q is none of raw, iso, offset, human", times)
	}
	if human {
		s.time = "human"
	}
	return s, nil
}

// note counts an event that is not printed.
func (p *eventPrinter) note(ev *api.Event) {
	if p.n++; p.n == 1 {
		p.first = ev.Timestamp
	}
}

// print prints an event.
func (p *eventPrinter) print(ev *api.Event) {
	p.note(ev)
	if p.style.json {
		fmt.Fprintf(p.out, "%s\n", eventJSON(ev))
		return
	}
	line := p.stamp(ev.Timestamp) + " " + ev.Name
	if c := contextText(ev.Context); c != "" {
		line += " " + c
	}
	fmt.Fprintln(p.out, line)
}

// stamp writes the time of an event in the style.
func (p *eventPrinter) stamp(t float64) string {
	switch p.style.time {
	case "iso":
		return epoch(t).UTC().Format("2006-01-02T15:04:05.000000Z")
	case "offset":
		return fmt.Sprintf("%.6f", t-p.first)
	case "human":
		return p.human(t)
	}
	return strconv.FormatFloat(t, 'f', 6, 64)
}

// human writes the date and minute where it changes, else the seconds since.
func (p *eventPrinter) human(t float64) string {
	if p.last != 0 && t-p.last < 60 {
		return fmt.Sprintf("[%+11.6f]", t-p.last)
	}
	p.last = t
	return "[" + epoch(t).Format("Jan02 15:04") + "]"
}

// eventJSON is an event as one line of an eventlog (RFC 18).
func eventJSON(ev *api.Event) []byte {
	var b bytes.Buffer
	name, _ := json.Marshal(ev.Name)
	fmt.Fprintf(&b, `{"timestamp":%s,"name":%s`, strconv.FormatFloat(ev.Timestamp, 'f', -1, 64), name)
	if ev.Context != "" {
		b.WriteString(`,"context":`)
		b.WriteString(ev.Context)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// member is one key of a JSON object with its value's text.
type member struct {
	key   string
	value json.RawMessage
}

// members lists a JSON object's keys in their order; nil for what is no object.
func members(object string) []member {
	d := json.NewDecoder(strings.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	var list []member
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return list
		}
		m := member{key: fmt.Sprint(key)}
		if d.Decode(&m.value) != nil {
			return list
		}
		list = append(list, m)
	}
	return list
}

// contextText is a context as key=value pairs, values as JSON.
func contextText(context string) string {
	var b strings.Builder
	for i, m := range members(context) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(m.key)
		b.WriteByte('=')
		var compact bytes.Buffer
		if json.Compact(&compact, m.value) == nil {
			b.Write(compact.Bytes())
		}
	}
	return b.String()
}

// contextHas tells whether a context has key=value; value is JSON or the text of a string.
func contextHas(context, key, value string) bool {
	for _, m := range members(context) {
		if m.key != key {
			continue
		}
		var s string
		if json.Unmarshal(m.value, &s) == nil && s == value {
			return true
		}
		return string(m.value) == value
	}
	return false
}

// tailLines keeps only the last n lines that are written to it.
type tailLines struct {
	n     int
	lines [][]byte
	part  []byte
}

func (l *tailLines) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		l.part = append(l.part, line...)
		if line[len(line)-1] == '\n' {
			l.push()
		}
	}
	return len(b), nil
}

func (l *tailLines) push() {
	l.lines = append(l.lines, l.part)
	l.part = nil
	if len(l.lines) > 2*l.n+16 {
		l.lines = append([][]byte(nil), l.lines[len(l.lines)-l.n:]...)
	}
}

// flush writes the lines that were kept.
func (l *tailLines) flush(w io.Writer) error {
	if len(l.part) > 0 {
		l.push()
	}
	out := bufio.NewWriter(w)
	for _, line := range l.lines[max(0, len(l.lines)-l.n):] {
		out.Write(line)
	}
	return flush(out)
}
