// Package hostlist reads and writes lists of host names in the short form of Flux RFC 29: "node[08-11],login". A list is ordered and
// may hold a name twice; the place in it is what counts (a broker's rank, a node's index). It is pure.
package hostlist

import (
	"fmt"
	"strconv"
	"strings"
)

// Limit is the largest number of names that Parse expands.
const Limit = 1_000_000

// maxDigits bounds a number in a name, so that it fits an int.
const maxDigits = 18

// Parse expands a host list. Empty fields between commas are skipped; "" is the empty list. It fails on a second bracket group in one
// name, on blanks and control characters, on malformed or descending ranges, and on more than Limit names.
func Parse(text string) ([]string, error) {
	var hosts []string
	for rest := text; rest != ""; {
		var field string
		field, rest = cutField(rest)
		if field == "" {
			continue
		}
		var err error
		if hosts, err = expand(hosts, field); err != nil {
			return nil, fmt.Errorf("hostlist %q: %w", clip(text), err)
		}
	}
	return hosts, nil
}

// cutField splits at the first comma outside brackets.
func cutField(s string) (field, rest string) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '[':
			depth++
		case ']':
			depth--
		case ',':
			if depth <= 0 {
				return s[:i], s[i+1:]
			}
		}
	}
	return s, ""
}

// expand appends the names of one field.
func expand(hosts []string, field string) ([]string, error) {
	for i := range len(field) {
		if c := field[i]; c <= ' ' || c > '~' {
			return nil, fmt.Errorf("%q has a character that no host name has", clip(field))
		}
	}
	prefix, rest, found := strings.Cut(field, "[")
	ids, suffix, closed := strings.Cut(rest, "]")
	if found != closed || strings.ContainsAny(prefix, "]") || strings.ContainsAny(suffix, "[]") || strings.Contains(ids, "[") {
		return nil, fmt.Errorf("%q must have at most one pair of brackets", clip(field))
	}
	if !found {
		return appendHost(hosts, field)
	}
	width := -1
	for elem := range strings.SplitSeq(ids, ",") {
		lo, hi, err := parseElem(elem)
		if err != nil {
			return nil, err
		}
		if width < 0 {
			width = padding(elem)
		}
		if hi-lo >= Limit {
			return nil, tooMany()
		}
		for n := lo; n <= hi; n++ {
			if hosts, err = appendHost(hosts, prefix+pad(n, width)+suffix); err != nil {
				return nil, err
			}
		}
	}
	return hosts, nil
}

func appendHost(hosts []string, name string) ([]string, error) {
	if len(hosts) >= Limit {
		return nil, tooMany()
	}
	return append(hosts, name), nil
}

func tooMany() error { return fmt.Errorf("more than %d names", Limit) }

func parseElem(elem string) (lo, hi int, err error) {
	a, b, isRange := strings.Cut(elem, "-")
	if lo, err = parseNumber(a); err != nil || !isRange {
		return lo, lo, err
	}
	if hi, err = parseNumber(b); err != nil {
		return 0, 0, err
	}
	if hi < lo {
		return 0, 0, fmt.Errorf("range %s goes downwards", clip(elem))
	}
	return lo, hi, nil
}

func parseNumber(s string) (int, error) {
	if s == "" || len(s) > maxDigits || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a number", clip(s))
	}
	return strconv.Atoi(s)
}

// padding is the width that a bracket's first element fixes: its length if it has leading zeros, else 0.
func padding(elem string) int {
	first, _, _ := strings.Cut(elem, "-")
	if len(first) > 1 && first[0] == '0' {
		return len(first)
	}
	return 0
}

func pad(n, width int) string {
	s := strconv.Itoa(n)
	if len(s) < width {
		return strings.Repeat("0", width-len(s)) + s
	}
	return s
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:57] + "..."
	}
	return s
}

// Encode writes a list in the short form. Neighbours that differ in their trailing number only go into one pair of brackets; order and
// repeats are kept: Parse(Encode(hosts)) is hosts again.
func Encode(hosts []string) string {
	var b strings.Builder
	for i := 0; i < len(hosts); {
		if i > 0 {
			b.WriteByte(',')
		}
		i += encodeGroup(&b, hosts[i:])
	}
	return b.String()
}

// encodeGroup writes the longest run of hosts that fits one expression and returns its length.
func encodeGroup(b *strings.Builder, hosts []string) int {
	prefix, digits := split(hosts[0])
	if digits == "" {
		b.WriteString(hosts[0])
		return 1
	}
	width := padding(digits)
	numbers := []int{atoi(digits)}
	for _, h := range hosts[1:] {
		p, d := split(h)
		if p != prefix || d == "" || d != pad(atoi(d), width) {
			break
		}
		numbers = append(numbers, atoi(d))
	}
	if len(numbers) == 1 {
		b.WriteString(hosts[0])
		return 1
	}
	b.WriteString(prefix)
	b.WriteByte('[')
	writeRuns(b, numbers, width)
	b.WriteByte(']')
	return len(numbers)
}

// writeRuns writes numbers in order, ascending runs by one as ranges.
func writeRuns(b *strings.Builder, numbers []int, width int) {
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(pad(numbers[i], width))
		if j > i {
			b.WriteByte('-')
			b.WriteString(pad(numbers[j], width))
		}
		i = j + 1
	}
}

// split cuts a name before its trailing digits; digits is empty if there are none or too many.
func split(host string) (prefix, digits string) {
	i := len(host)
	for i > 0 && host[i-1] >= '0' && host[i-1] <= '9' {
		i--
	}
	if len(host)-i > maxDigits {
		return host, ""
	}
	return host[:i], host[i:]
}

// atoi converts digits that split has checked.
func atoi(digits string) int {
	n := 0
	for i := range len(digits) {
		n = n*10 + int(digits[i]-'0')
	}
	return n
}
