package jobspec

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of a jobspec's JSON text.
const (
	MaxBytes = 1 << 20
	MaxDepth = 32
)

// object is a JSON object in the order of its text, without repeated keys.
type object []member

type member struct {
	key string
	v   any
}

// get returns the value of key, nil if there is none.
func (o object) get(key string) any {
	for i := range o {
		if o[i].key == key {
			return o[i].v
		}
	}
	return nil
}

// manyKeys is from where on a map finds repeated keys faster than looking through the object.
const manyKeys = 16

// set adds or replaces. seen has the places of keys once there are many.
func (o object) set(key string, v any, seen *map[string]int) object {
	if len(o) < manyKeys {
		for i := range o {
			if o[i].key == key {
				o[i].v = v
				return o
			}
		}
		return append(o, member{key, v})
	}
	if *seen == nil {
		*seen = make(map[string]int, 2*len(o))
		for i := range o {
			(*seen)[o[i].key] = i
		}
	}
	if i, ok := (*seen)[key]; ok {
		o[i].v = v
		return o
	}
	(*seen)[key] = len(o)
	return append(o, member{key, v})
}

// toMaps turns the objects in v into map[string]any.
func toMaps(v any) any {
	switch x := v.(type) {
	case object:
		m := make(map[string]any, len(x))
		for _, f := range x {
			m[f.key] = toMaps(f.v)
		}
		return m
	case []any:
		out := make([]any, len(x))
		for i := range x {
			out[i] = toMaps(x[i])
		}
		return out
	}
	return v
}

// fromMaps turns each map[string]any in v into an object, and integers into float64, as decodeJSON would give them.
func fromMaps(v any) any {
	switch x := v.(type) {
	case map[string]any:
		o := make(object, 0, len(x))
		for k, f := range x {
			o = append(o, member{k, fromMaps(f)})
		}
		slices.SortFunc(o, func(a, b member) int { return strings.Compare(a.key, b.key) })
		return o
	case []any:
		out := make([]any, len(x))
		for i := range x {
			out[i] = fromMaps(x[i])
		}
		return out
	case []string:
		out := make([]any, len(x))
		for i := range x {
			out[i] = x[i]
		}
		return out
	case int:
		return float64(x)
	case int64:
		return float64(x)
	}
	return v
}

// depth counts the levels of v as decodeJSON does: 0 for a leaf or what is empty.
func depth(v any) int {
	most := 0
	switch x := v.(type) {
	case object:
		for i := range x {
			most = max(most, 1+depth(x[i].v))
		}
	case []any:
		for i := range x {
			most = max(most, 1+depth(x[i]))
		}
	}
	return most
}

// decodeJSON reads one JSON value (RFC 8259): object, []any, string, float64, bool or nil; integers beyond 2^53 become json.Number, so
// that they are not rounded. It is a reader of its own because it bounds the depth and takes a fraction of the time of encoding/json,
// which shows when every submission brings a jobspec. Invalid UTF-8 is refused.
func decodeJSON(data []byte) (any, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("is %d bytes long; the limit is %d", len(data), MaxBytes)
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("is not valid UTF-8")
	}
	r := reader{s: string(data)}
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if r.blank(); r.i < len(r.s) {
		return nil, r.fail("unexpected text after the end")
	}
	return v, nil
}

// reader is a position in a JSON text.
type reader struct {
	s string
	i int
}

func (r *reader) fail(what string) error {
	line := 1
	for _, c := range r.s[:min(r.i, len(r.s))] {
		if c == '\n' {
			line++
		}
	}
	if r.i >= len(r.s) {
		return fmt.Errorf("is not valid JSON: it ends too early")
	}
	return fmt.Errorf("is not valid JSON: %s at line %d, byte %d", what, line, r.i)
}

func (r *reader) blank() {
	for r.i < len(r.s) {
		switch r.s[r.i] {
		case ' ', '\t', '\n', '\r':
			r.i++
		default:
			return
		}
	}
}

// next skips blanks and returns the next byte without taking it, 0 at the end.
func (r *reader) next() byte {
	r.blank()
	if r.i < len(r.s) {
		return r.s[r.i]
	}
	return 0
}

func (r *reader) value(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("is nested deeper than %d levels", MaxDepth)
	}
	switch c := r.next(); {
	case c == '{':
		return r.object(depth)
	case c == '[':
		return r.array(depth)
	case c == '"':
		return r.str()
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	}
	return r.word()
}

func (r *reader) word() (any, error) {
	for _, w := range []struct {
		text string
		v    any
	}{{"true", true}, {"false", false}, {"null", nil}} {
		if len(r.s)-r.i >= len(w.text) && r.s[r.i:r.i+len(w.text)] == w.text {
			r.i += len(w.text)
			return w.v, nil
		}
	}
	return nil, r.fail("a value is missing")
}

func (r *reader) object(depth int) (any, error) {
	r.i++
	if r.next() == '}' {
		r.i++
		return object{}, nil
	}
	o := make(object, 0, 4)
	var seen map[string]int
	for {
		if r.next() != '"' {
			return nil, r.fail("a key in quotes is missing")
		}
		key, err := r.str()
		if err != nil {
			return nil, err
		}
		if r.next() != ':' {
			return nil, r.fail("a colon is missing")
		}
		r.i++
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		o = o.set(key, v, &seen)
		if end, err := r.more('}'); end || err != nil {
			return o, err
		}
	}
}

func (r *reader) array(depth int) (any, error) {
	r.i++
	if r.next() == ']' {
		r.i++
		return []any{}, nil
	}
	var a []any
	for {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
		if end, err := r.more(']'); end || err != nil {
			return a, err
		}
	}
}

// more takes a comma (end is false) or the closing byte.
func (r *reader) more(closing byte) (end bool, err error) {
	switch r.next() {
	case ',':
		r.i++
		return false, nil
	case closing:
		r.i++
		return true, nil
	}
	return false, r.fail(fmt.Sprintf("a comma or %c is missing", closing))
}

func (r *reader) str() (string, error) {
	r.i++
	start := r.i
	for r.i < len(r.s) {
		switch c := r.s[r.i]; {
		case c == '"':
			r.i++
			return r.s[start : r.i-1], nil
		case c == '\\':
			return r.escaped(start)
		case c < ' ':
			return "", r.fail("control character in a string")
		}
		r.i++
	}
	return "", r.fail("")
}

// escaped goes on with a string that has an escape at r.i.
func (r *reader) escaped(start int) (string, error) {
	b := append([]byte(nil), r.s[start:r.i]...)
	for r.i < len(r.s) {
		c := r.s[r.i]
		switch {
		case c == '"':
			r.i++
			return string(b), nil
		case c < ' ':
			return "", r.fail("control character in a string")
		case c != '\\':
			b = append(b, c)
			r.i++
			continue
		}
		var err error
		if b, err = r.escape(b); err != nil {
			return "", err
		}
	}
	return "", r.fail("")
}

var simpleEscapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape takes one escape sequence and appends what it means. A lone surrogate becomes U+FFFD.
func (r *reader) escape(b []byte) ([]byte, error) {
	if r.i+1 >= len(r.s) {
		r.i = len(r.s)
		return nil, r.fail("")
	}
	if c, ok := simpleEscapes[r.s[r.i+1]]; ok {
		r.i += 2
		return append(b, c), nil
	}
	u, ok := r.hex4(r.i)
	if !ok {
		return nil, r.fail("invalid escape")
	}
	r.i += 6
	if utf16.IsSurrogate(u) {
		low, _ := r.hex4(r.i)
		if u = utf16.DecodeRune(u, low); u != utf8.RuneError {
			r.i += 6
		}
	}
	return utf8.AppendRune(b, u), nil
}

// hex4 reads \uXXXX at i.
func (r *reader) hex4(i int) (rune, bool) {
	if len(r.s)-i < 6 || r.s[i] != '\\' || r.s[i+1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(r.s[i+2:i+6], 16, 32)
	return rune(v), err == nil
}

func (r *reader) digits() int {
	start := r.i
	for r.i < len(r.s) && r.s[r.i] >= '0' && r.s[r.i] <= '9' {
		r.i++
	}
	return r.i - start
}

func (r *reader) number() (any, error) {
	start := r.i
	if r.s[r.i] == '-' {
		r.i++
	}
	lead := r.i
	if n := r.digits(); n == 0 || n > 1 && r.s[lead] == '0' {
		return nil, r.fail("malformed number")
	}
	integer := true
	if r.i < len(r.s) && r.s[r.i] == '.' {
		integer = false
		r.i++
		if r.digits() == 0 {
			return nil, r.fail("malformed number")
		}
	}
	if r.i < len(r.s) && (r.s[r.i] == 'e' || r.s[r.i] == 'E') {
		integer = false
		r.i++
		if r.i < len(r.s) && (r.s[r.i] == '+' || r.s[r.i] == '-') {
			r.i++
		}
		if r.digits() == 0 {
			return nil, r.fail("malformed number")
		}
	}
	text := r.s[start:r.i]
	if integer && len(text) < 9 {
		n, err := strconv.Atoi(text)
		return float64(n), err
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, fmt.Errorf("is not valid JSON: the number %s is too large", clip(text))
	}
	if integer && math.Abs(f) >= 1<<53 {
		return json.Number(text), nil
	}
	return f, nil
}
