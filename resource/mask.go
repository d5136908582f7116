package resource

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/vmihailenco/msgpack/v5"
)

// MaxMaskID is the largest id a Mask holds; larger ones are refused when text or messages are decoded, so that a
// peer cannot make this process hold more than 8 KiB a mask.
const MaxMaskID = 65535

// Mask is a set of small ids (cores or gpus of one node). The zero value is empty. Values are immutable: operations return
// new ones; copying is cheap. Masks have one form per set: no trailing zero words in more.
type Mask struct {
	w    uint64   // ids 0-63
	more []uint64 // ids from 64 on; never changed once made
}

// MaskOf returns the set of the ids given. It panics on ids outside 0 … MaxMaskID.
func MaskOf(ids ...int) Mask {
	var words []uint64
	var m Mask
	for _, id := range ids {
		checkID(id)
		if id < 64 {
			m.w |= 1 << id
			continue
		}
		k := id/64 - 1
		words = growTo(words, k+1)
		words[k] |= 1 << (id % 64)
	}
	m.more = words
	return m
}

// MaskRange returns lo … hi, both included; it is empty when hi < lo. It panics on ids outside 0 … MaxMaskID.
func MaskRange(lo, hi int) Mask {
	if hi < lo {
		return Mask{}
	}
	checkID(lo)
	checkID(hi)
	m := Mask{w: wordRange(lo, hi, 0)}
	if hi >= 64 {
		m.more = make([]uint64, hi/64)
		for k := range m.more {
			m.more[k] = wordRange(lo, hi, (k+1)*64)
		}
	}
	return m
}

// wordRange is the part of lo … hi that falls into the 64 ids from base on.
func wordRange(lo, hi, base int) uint64 {
	from, to := max(lo-base, 0), min(hi-base, 63)
	if from > 63 || to < from {
		return 0
	}
	return ^uint64(0) >> (63 - (to - from)) << from
}

func checkID(id int) {
	if id < 0 || id > MaxMaskID {
		panic(fmt.Sprintf("resource: id %d outside 0-%d", id, MaxMaskID))
	}
}

func growTo(words []uint64, n int) []uint64 {
	for len(words) < n {
		words = append(words, 0)
	}
	return words
}

// ParseMask reads an idset such as "0-3,7" (Flux RFC 22; brackets allowed). Empty text is the empty set. Ids
// above MaxMaskID, descending ranges and anything else that is no idset are errors that quote the offending part.
func ParseMask(idset string) (Mask, error) {
	s := strings.TrimSpace(idset)
	if len(s) >= 2 && s[0] == '[' && s[len(s)-1] == ']' {
		s = s[1 : len(s)-1]
	}
	var m Mask
	if s == "" {
		return m, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, err := parseRange(part)
		if err != nil {
			return Mask{}, fmt.Errorf("idset %q: %w", idset, err)
		}
		m = m.Union(MaskRange(lo, hi))
	}
	return m, nil
}

// parseRange reads "3" or "3-7".
func parseRange(part string) (lo, hi int, err error) {
	a, b, isRange := strings.Cut(part, "-")
	if lo, err = parseID(a); err != nil {
		return 0, 0, err
	}
	if !isRange {
		return lo, lo, nil
	}
	if hi, err = parseID(b); err != nil {
		return 0, 0, err
	}
	if hi < lo {
		return 0, 0, fmt.Errorf("range %q descends", part)
	}
	return lo, hi, nil
}

func parseID(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no id", s)
	}
	if n > MaxMaskID {
		return 0, fmt.Errorf("id %d is above %d", n, MaxMaskID)
	}
	return int(n), nil
}

// String is the idset text, such as "0-3,7"; empty for the empty set.
func (m Mask) String() string {
	var b []byte
	for lo := m.next(0); lo >= 0; {
		hi := lo
		for m.Has(hi + 1) {
			hi++
		}
		if b != nil {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(lo), 10)
		if hi > lo {
			b = append(b, '-')
			b = strconv.AppendInt(b, int64(hi), 10)
		}
		lo = m.next(hi + 1)
	}
	return string(b)
}

// next returns the lowest id ≥ id, or -1.
func (m Mask) next(id int) int {
	for k := id / 64; k <= len(m.more); k++ {
		w := m.word(k)
		if k == id/64 {
			w &= ^uint64(0) << (id % 64)
		}
		if w != 0 {
			return k*64 + bits.TrailingZeros64(w)
		}
	}
	return -1
}

// word returns ids 64k … 64k+63.
func (m Mask) word(k int) uint64 {
	if k == 0 {
		return m.w
	}
	if k > len(m.more) {
		return 0
	}
	return m.more[k-1]
}

// IDs returns the ids in ascending order, in a new slice; nil for the empty set.
func (m Mask) IDs() []int {
	n := m.Count()
	if n == 0 {
		return nil
	}
	ids := make([]int, 0, n)
	m.Each(func(id int) { ids = append(ids, id) })
	return ids
}

// Each calls f for every id in ascending order.
func (m Mask) Each(f func(id int)) {
	for k := 0; k <= len(m.more); k++ {
		for w := m.word(k); w != 0; w &= w - 1 {
			f(k*64 + bits.TrailingZeros64(w))
		}
	}
}

// Count is the number of ids.
func (m Mask) Count() int {
	n := bits.OnesCount64(m.w)
	for _, w := range m.more {
		n += bits.OnesCount64(w)
	}
	return n
}

// Has tells whether id is in the set; false for ids out of range.
func (m Mask) Has(id int) bool {
	return id >= 0 && m.word(id/64)>>(id%64)&1 == 1
}

// Empty tells whether there is no id.
func (m Mask) Empty() bool { return m.w == 0 && len(m.more) == 0 }

// Equal tells whether both hold the same ids.
func (m Mask) Equal(o Mask) bool { return m.w == o.w && slices.Equal(m.more, o.more) }

// Lowest is the lowest id, -1 for the empty set.
func (m Mask) Lowest() int { return m.next(0) }

// Highest is the highest id, -1 for the empty set.
func (m Mask) Highest() int {
	if n := len(m.more); n > 0 {
		return n*64 + bits.Len64(m.more[n-1]) - 1
	}
	return bits.Len64(m.w) - 1
}

// Union returns the ids in either.
func (m Mask) Union(o Mask) Mask {
	if len(m.more) < len(o.more) {
		m, o = o, m
	}
	r := Mask{w: m.w | o.w, more: m.more}
	if len(o.more) > 0 {
		r.more = slices.Clone(m.more)
		for k, w := range o.more {
			r.more[k] |= w
		}
	}
	return r
}

// Minus returns the ids of m that are not in o.
func (m Mask) Minus(o Mask) Mask {
	r := Mask{w: m.w &^ o.w, more: m.more}
	if len(m.more) > 0 && len(o.more) > 0 {
		r.more = slices.Clone(m.more)
		for k := range min(len(m.more), len(o.more)) {
			r.more[k] &^= o.more[k]
		}
		r.more = trim(r.more)
	}
	return r
}

// Intersect returns the ids in both.
func (m Mask) Intersect(o Mask) Mask {
	r := Mask{w: m.w & o.w}
	if n := min(len(m.more), len(o.more)); n > 0 {
		r.more = slices.Clone(m.more[:n])
		for k := range r.more {
			r.more[k] &= o.more[k]
		}
		r.more = trim(r.more)
	}
	return r
}

// Overlaps tells whether some id is in both, without making a set.
func (m Mask) Overlaps(o Mask) bool {
	if m.w&o.w != 0 {
		return true
	}
	for k := range min(len(m.more), len(o.more)) {
		if m.more[k]&o.more[k] != 0 {
			return true
		}
	}
	return false
}

// First returns the n lowest ids, all of them when there are fewer.
func (m Mask) First(n int) Mask {
	if n <= 0 {
		return Mask{}
	}
	c := bits.OnesCount64(m.w)
	if n <= c {
		return Mask{w: lowBits(m.w, n)}
	}
	r := Mask{w: m.w}
	n -= c
	for k, w := range m.more {
		c = bits.OnesCount64(w)
		if n <= c {
			r.more = slices.Clone(m.more[:k+1])
			r.more[k] = lowBits(w, n)
			r.more = trim(r.more)
			return r
		}
		n -= c
	}
	return m
}

// lowBits keeps the n lowest set bits of w, which has at least n.
func lowBits(w uint64, n int) uint64 {
	rest := w
	for range n {
		rest &= rest - 1
	}
	return w &^ rest
}

// trim drops trailing zero words, so that equal sets have equal forms.
func trim(words []uint64) []uint64 {
	n := len(words)
	for n > 0 && words[n-1] == 0 {
		n--
	}
	if n == 0 {
		return nil
	}
	return words[:n]
}

// EncodeMsgpack writes the compact form: one integer (bit i = id i) when all ids are below 64, else an array of such words.
func (m Mask) EncodeMsgpack(e *msgpack.Encoder) error {
	if len(m.more) == 0 {
		return e.EncodeUint(m.w)
	}
	if err := e.EncodeArrayLen(1 + len(m.more)); err != nil {
		return err
	}
	for k := 0; k <= len(m.more); k++ {
		if err := e.EncodeUint(m.word(k)); err != nil {
			return err
		}
	}
	return nil
}

// DecodeMsgpack reads what EncodeMsgpack writes, and nil as the empty set. More than MaxMaskID+1 bits are an error.
func (m *Mask) DecodeMsgpack(d *msgpack.Decoder) error {
	code, err := d.PeekCode()
	if err != nil {
		return err
	}
	if !isArray(code) {
		w, err := d.DecodeUint64() // nil decodes as 0
		*m = Mask{w: w}
		return err
	}
	n, err := d.DecodeArrayLen()
	if err != nil {
		return err
	}
	if n > (MaxMaskID+1)/64 {
		return fmt.Errorf("mask of %d words: at most %d ids", n, MaxMaskID+1)
	}
	words := make([]uint64, max(n, 1))
	for k := range n {
		if words[k], err = d.DecodeUint64(); err != nil {
			return err
		}
	}
	*m = Mask{w: words[0], more: trim(words[1:])}
	return nil
}

// isArray tells msgpack's array codes (fixarray, array 16, array 32).
func isArray(code byte) bool { return code&0xf0 == 0x90 || code == 0xdc || code == 0xdd }

// MarshalJSON writes the idset text.
func (m Mask) MarshalJSON() ([]byte, error) { return json.Marshal(m.String()) }

// UnmarshalJSON reads idset text.
func (m *Mask) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := ParseMask(s)
	if err != nil {
		return err
	}
	*m = v
	return nil
}
