// Package idset holds sets of non-negative integers and their text form (Flux RFC 22): "1-3,5-6,42". A set is a sorted list of
// ranges, so that 0-999999999 costs as much as 0-1. It is pure.
package idset

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Max is the largest id a set can hold. It is one less than the largest int, so that Len never overflows.
const Max = math.MaxInt - 1

// Range is the ids Lo … Hi, both included.
type Range struct{ Lo, Hi int }

// Set is a set of ids. The zero value is empty and ready to use. Copying a Set shares its ranges: Clone before changing one of two
// copies. Union, Minus and Intersect make new sets.
type Set struct {
	r []Range // ascending, disjoint, not adjacent
}

// Of returns the set of the given ids, in any order. It panics on a negative id.
func Of(ids ...int) Set {
	var s Set
	for _, id := range ids {
		s.Add(id)
	}
	return s
}

// FromRange returns the set lo … hi, empty if hi < lo. It panics if lo is negative.
func FromRange(lo, hi int) Set {
	var s Set
	s.AddRange(lo, hi)
	return s
}

// Parse reads the text form, with or without one pair of brackets. "" and "[]" are the empty set. Ids must ascend strictly, without
// leading zeros, signs or blanks. The size of the result is not limited: the caller checks Len before it expands a set.
func Parse(text string) (Set, error) {
	body := text
	if strings.HasPrefix(body, "[") && strings.HasSuffix(body, "]") && len(body) >= 2 {
		body = body[1 : len(body)-1]
	}
	var s Set
	if body == "" {
		return s, nil
	}
	last := -1
	for part := range strings.SplitSeq(body, ",") {
		r, err := parseRange(part)
		if err != nil {
			return Set{}, fmt.Errorf("idset %q: %w", clip(text), err)
		}
		if r.Lo <= last {
			return Set{}, fmt.Errorf("idset %q: %d does not come after %d", clip(text), r.Lo, last)
		}
		last = r.Hi
		s.AddRange(r.Lo, r.Hi)
	}
	return s, nil
}

// MustParse is Parse for constants; it panics on an error.
func MustParse(text string) Set {
	s, err := Parse(text)
	if err != nil {
		panic(err)
	}
	return s
}

func parseRange(part string) (Range, error) {
	lo, hi, isRange := strings.Cut(part, "-")
	a, err := parseID(lo)
	if err != nil || !isRange {
		return Range{a, a}, err
	}
	b, err := parseID(hi)
	if err != nil {
		return Range{}, err
	}
	if b <= a {
		return Range{}, fmt.Errorf("range %s must go upwards", part)
	}
	return Range{a, b}, nil
}

func parseID(s string) (int, error) {
	if s == "" {
		return 0, fmt.Errorf("a number is missing")
	}
	if len(s) > 1 && s[0] == '0' {
		return 0, fmt.Errorf("%q has a leading zero", clip(s))
	}
	n := 0
	for i := range len(s) {
		d := int(s[i]) - '0'
		if d < 0 || d > 9 {
			return 0, fmt.Errorf("%q is not a number", clip(s))
		}
		if n > (Max-d)/10 {
			return 0, fmt.Errorf("%s is too large", clip(s))
		}
		n = n*10 + d
	}
	return n, nil
}

// clip shortens text for error messages.
func clip(s string) string {
	if len(s) > 60 {
		return s[:57] + "..."
	}
	return s
}

// Clone returns a copy that shares nothing with s.
func (s Set) Clone() Set { return Set{slices.Clone(s.r)} }

// Add puts id into s. It panics on an id that is negative or above Max.
func (s *Set) Add(id int) { s.AddRange(id, id) }

// AddRange puts lo … hi into s; nothing if hi < lo.
func (s *Set) AddRange(lo, hi int) {
	if hi < lo {
		return
	}
	if lo < 0 || hi > Max {
		panic(fmt.Sprintf("idset: range %d-%d is out of bounds", lo, hi))
	}
	n := len(s.r)
	if n == 0 || lo > s.r[n-1].Hi+1 {
		s.r = append(s.r, Range{lo, hi})
		return
	}
	i := sort.Search(n, func(i int) bool { return s.r[i].Hi+1 >= lo })        // first that touches or lies beyond
	j := i + sort.Search(n-i, func(k int) bool { return s.r[i+k].Lo > hi+1 }) // first beyond
	if i < j {
		lo, hi = min(lo, s.r[i].Lo), max(hi, s.r[j-1].Hi)
	}
	s.r = slices.Replace(s.r, i, j, Range{lo, hi})
}

// RemoveRange takes lo … hi out of s.
func (s *Set) RemoveRange(lo, hi int) {
	from := s.find(lo)
	to := from
	var rest []Range
	for ; to < len(s.r) && s.r[to].Lo <= hi; to++ {
		if s.r[to].Lo < lo {
			rest = append(rest, Range{s.r[to].Lo, lo - 1})
		}
		if s.r[to].Hi > hi {
			rest = append(rest, Range{hi + 1, s.r[to].Hi})
		}
	}
	if from < to {
		s.r = slices.Replace(s.r, from, to, rest...)
	}
}

// Pop takes the smallest id out; ok is false if there is none.
func (s *Set) Pop() (id int, ok bool) {
	if len(s.r) == 0 {
		return 0, false
	}
	id = s.r[0].Lo
	if s.r[0].Lo++; s.r[0].Lo > s.r[0].Hi {
		s.r = s.r[1:]
	}
	return id, true
}

// Has tells whether id is in s.
func (s Set) Has(id int) bool {
	i := s.find(id)
	return i < len(s.r) && s.r[i].Lo <= id
}

// find returns the index of the first range that ends at or after id.
func (s Set) find(id int) int {
	return sort.Search(len(s.r), func(i int) bool { return s.r[i].Hi >= id })
}

// Len is the number of ids.
func (s Set) Len() int {
	n := 0
	for _, r := range s.r {
		n += r.Hi - r.Lo + 1
	}
	return n
}

// Empty tells whether s has no id.
func (s Set) Empty() bool { return len(s.r) == 0 }

// Min returns the smallest id, -1 if s is empty.
func (s Set) Min() int {
	if len(s.r) == 0 {
		return -1
	}
	return s.r[0].Lo
}

// Max returns the largest id, -1 if s is empty.
func (s Set) Max() int {
	if len(s.r) == 0 {
		return -1
	}
	return s.r[len(s.r)-1].Hi
}

// Nth returns the i-th smallest id, counted from 0; false if there are not so many.
func (s Set) Nth(i int) (int, bool) {
	if i < 0 {
		return 0, false
	}
	for _, r := range s.r {
		if n := r.Hi - r.Lo + 1; i >= n {
			i -= n
			continue
		}
		return r.Lo + i, true
	}
	return 0, false
}

// Index finds the ids of a set by their place, however many ranges it has. It does not change with the set.
type Index struct {
	r     []Range
	first []int // place of each range's first id
}

// Index makes one.
func (s Set) Index() *Index {
	x := &Index{slices.Clone(s.r), make([]int, len(s.r))}
	n := 0
	for i, r := range s.r {
		x.first[i] = n
		n += r.Hi - r.Lo + 1
	}
	return x
}

// Nth is Set.Nth.
func (x *Index) Nth(i int) (int, bool) {
	k := sort.Search(len(x.first), func(k int) bool { return x.first[k] > i }) - 1
	if k < 0 || i < 0 || i-x.first[k] > x.r[k].Hi-x.r[k].Lo {
		return 0, false
	}
	return x.r[k].Lo + i - x.first[k], true
}

// All yields the ids in ascending order.
func (s Set) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, r := range s.r {
			for id := r.Lo; id <= r.Hi; id++ {
				if !yield(id) {
					return
				}
			}
		}
	}
}

// Ranges yields the ranges in ascending order: disjoint, and with a gap between neighbours.
func (s Set) Ranges() iter.Seq[Range] { return slices.Values(s.r) }

// Equal tells whether both hold the same ids.
func (s Set) Equal(t Set) bool { return slices.Equal(s.r, t.r) }

// Union returns the ids that are in s or in t.
func (s Set) Union(t Set) Set {
	u := s.Clone()
	for _, r := range t.r {
		u.AddRange(r.Lo, r.Hi)
	}
	return u
}

// Intersect returns the ids that are in both.
func (s Set) Intersect(t Set) Set {
	var u Set
	for i, j := 0, 0; i < len(s.r) && j < len(t.r); {
		u.AddRange(max(s.r[i].Lo, t.r[j].Lo), min(s.r[i].Hi, t.r[j].Hi))
		if s.r[i].Hi < t.r[j].Hi {
			i++
		} else {
			j++
		}
	}
	return u
}

// Minus returns the ids of s that are not in t.
func (s Set) Minus(t Set) Set {
	var u Set
	j := 0
	for _, r := range s.r {
		for j < len(t.r) && t.r[j].Hi < r.Lo {
			j++
		}
		lo := r.Lo
		for k := j; k < len(t.r) && t.r[k].Lo <= r.Hi; k++ {
			u.AddRange(lo, t.r[k].Lo-1)
			lo = t.r[k].Hi + 1
		}
		u.AddRange(lo, r.Hi)
	}
	return u
}

// String returns the text form without brackets; "" for the empty set.
func (s Set) String() string { return string(s.Append(nil)) }

// Append appends the text form to b.
func (s Set) Append(b []byte) []byte {
	for i, r := range s.r {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(r.Lo), 10)
		if r.Hi > r.Lo {
			b = append(b, '-')
			b = strconv.AppendInt(b, int64(r.Hi), 10)
		}
	}
	return b
}

// StringBrackets is String, within brackets if there is more than one id.
func (s Set) StringBrackets() string {
	if len(s.r) == 0 || len(s.r) == 1 && s.r[0].Lo == s.r[0].Hi {
		return s.String()
	}
	return "[" + s.String() + "]"
}
