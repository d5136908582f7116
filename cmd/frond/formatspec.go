package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// spec is a Python format spec, [[fill]align][sign][0][width][,][.precision][type], with Flux's suffixes: h prints "-" for an
// empty value, + marks a cut value with a + at its end.
type spec struct {
	fill   rune
	align  byte // < > ^ or 0: numbers to the right, the rest to the left
	sign   byte // + or blank; 0 = only minus
	zero   bool
	comma  bool
	width  int
	prec   int  // -1 = none
	kind   byte // d x X o b f F e g % s or 0
	hyphen bool
	mark   bool
}

const maxWidth = 4096 // a width beyond this is a typing error, not a wish

// parseSpec parses a format spec.
func parseSpec(s string) (spec, error) {
	p := spec{fill: ' ', prec: -1}
	whole := s
	s, p.mark = strings.CutSuffix(s, "+")
	s, p.hyphen = strings.CutSuffix(s, "h")
	s = p.takeAlign(s)
	if s != "" && strings.IndexByte("+- ", s[0]) >= 0 {
		if s[0] != '-' {
			p.sign = s[0]
		}
		s = s[1:]
	}
	if s, p.zero = strings.CutPrefix(s, "0"); p.zero && p.align == 0 {
		p.fill, p.align = '0', '='
	}
	var err error
	if p.width, s, err = takeNumber(s, 0); err != nil {
		return p, err
	}
	s, p.comma = strings.CutPrefix(s, ",")
	if rest, ok := strings.CutPrefix(s, "."); ok {
		if p.prec, s, err = takeNumber(rest, -1); err != nil {
			return p, err
		}
	}
	if len(s) == 1 && strings.Contains("dxXobfFegGsn%", s) {
		p.kind, s = s[0], ""
	}
	if s != "" {
		return p, fmt.Errorf("invalid format spec %q", whole)
	}
	return p, nil
}

// takeAlign takes [fill]align from s.
func (p *spec) takeAlign(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n > 0 && n < len(s) && strings.IndexByte("<>^=", s[n]) >= 0 {
		p.fill, p.align = r, s[n]
		return s[n+1:]
	}
	if s != "" && strings.IndexByte("<>^=", s[0]) >= 0 {
		p.align = s[0]
		return s[1:]
	}
	return s
}

func takeNumber(s string, none int) (int, string, error) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	if i == 0 {
		return none, s, nil
	}
	n, err := strconv.Atoi(s[:i])
	if err != nil || n > maxWidth {
		return 0, s, fmt.Errorf("width or precision %s is over %d", s[:i], maxWidth)
	}
	return n, s[i:], nil
}

// isNumber tells whether the spec is for numbers only.
func (p *spec) isNumber() bool { return p.kind != 0 && p.kind != 's' }

// apply lays out a value.
func (p *spec) apply(v any) string {
	if p.hyphen && isBlank(text(v)) {
		v = "-"
	}
	s, number := p.render(v)
	if !number && p.prec >= 0 {
		s = cut(s, p.prec, p.mark)
	}
	return p.pad(s, number)
}

// render turns v into text as the type of the spec says.
func (p *spec) render(v any) (s string, number bool) {
	switch x := v.(type) {
	case int:
		return p.renderInt(int64(x), strconv.Itoa(x)), true
	case uint64:
		return p.renderInt(int64(x), strconv.FormatUint(x, 10)), true
	case float64:
		return p.renderFloat(x), true
	}
	return text(v), false
}

func (p *spec) renderInt(n int64, dec string) string {
	switch p.kind {
	case 'x', 'X', 'o', 'b':
		base := map[byte]int{'x': 16, 'X': 16, 'o': 8, 'b': 2}[p.kind]
		s := strconv.FormatUint(uint64(n), base)
		if p.kind == 'X' {
			s = strings.ToUpper(s)
		}
		return s
	case 'f', 'F', 'e', 'g', 'G', '%':
		return p.renderFloat(float64(n))
	}
	return p.signed(p.grouped(dec))
}

func (p *spec) renderFloat(x float64) string {
	prec := p.prec
	switch p.kind {
	case 'f', 'F', 'e', 'g', 'G', '%':
		if prec < 0 {
			prec = 6
		}
	}
	switch p.kind {
	case 'f', 'F':
		return p.signed(p.grouped(strconv.FormatFloat(x, 'f', prec, 64)))
	case 'e', 'g', 'G':
		return p.signed(strconv.FormatFloat(x, p.kind, prec, 64))
	case '%':
		return p.signed(strconv.FormatFloat(100*x, 'f', prec, 64) + "%")
	case 'd':
		return p.signed(p.grouped(strconv.FormatFloat(math.Trunc(x), 'f', 0, 64)))
	}
	if prec >= 0 {
		return p.signed(strconv.FormatFloat(x, 'g', prec, 64))
	}
	return p.signed(floatText(x))
}

func (p *spec) signed(s string) string {
	if p.sign != 0 && !strings.HasPrefix(s, "-") {
		return string(p.sign) + s
	}
	return s
}

func (p *spec) grouped(s string) string {
	if !p.comma {
		return s
	}
	whole, frac, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if frac != "" {
		return whole + "." + frac
	}
	return whole
}

// cut shortens s to n columns of a terminal, the last of them a + where mark is set.
func cut(s string, n int, mark bool) string {
	if columnsOf(s) <= n {
		return s
	}
	if mark && n > 0 {
		return runewidth.Truncate(s, n, "+")
	}
	return runewidth.Truncate(s, n, "")
}

// pad brings s to the width.
func (p *spec) pad(s string, number bool) string {
	n := p.width - columnsOf(s)
	if n <= 0 {
		return s
	}
	fill := func(n int) string { return strings.Repeat(string(p.fill), n) }
	align := p.align
	if align == 0 {
		align = '<'
		if number {
			align = '>'
		}
	}
	switch align {
	case '>':
		return fill(n) + s
	case '^':
		return fill(n/2) + s + fill(n-n/2)
	case '=':
		if !number {
			return s + fill(n)
		}
		if s != "" && strings.IndexByte("+- ", s[0]) >= 0 {
			return s[:1] + fill(n) + s[1:]
		}
		return fill(n) + s
	}
	return s + fill(n)
}

// columnsOf is how many columns of a terminal s takes: letters of some scripts take two.
func columnsOf(s string) int {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return runewidth.StringWidth(s)
		}
	}
	return len(s)
}

// isBlank tells whether a value counts as empty for h, with Flux's list of such values.
func isBlank(s string) bool {
	switch s {
	case "", "0s", "0.0", "0:00:00", "1970-01-01T00:00:00":
		return true
	}
	return false
}

// jsonValue is a value that prints as compact JSON (a list or an object).
type jsonValue struct{ v any }

// text is a value as Python's str gives it; nil is empty.
func text(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	case bool:
		if x {
			return "True"
		}
		return "False"
	case float64:
		return floatText(x)
	case jsonValue:
		b, err := json.Marshal(x.v)
		if err != nil {
			return ""
		}
		return string(b)
	}
	return fmt.Sprint(v)
}

// floatText is a float as Python prints it: the shortest form that reads back the same, with a point.
func floatText(x float64) string {
	if a := math.Abs(x); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(x, 'e', -1, 64)
	}
	s := strconv.FormatFloat(x, 'f', -1, 64)
	if !strings.ContainsAny(s, ".IN") {
		s += ".0"
	}
	return s
}

// convert applies a conversion. Unset values become empty text.
func convert(v any, conv byte, layout string) any {
	if conv == 0 {
		return v
	}
	if conv == 's' || conv == 'r' {
		return text(v)
	}
	x, ok := number(v)
	if !ok {
		return text(v)
	}
	switch conv {
	case 'd':
		if x == 0 {
			return ""
		}
		if layout == "" {
			layout = "%F %T"
		}
		return strftime(epoch(x), layout)
	case 'D':
		if x == 0 {
			return ""
		}
		return strftime(epoch(x), "%FT%T")
	case 'F':
		return fsdText(x)
	case 'H':
		return clockText(x)
	}
	return percentText(x)
}

func number(v any) (float64, bool) {
	switch x := v.(type) {
	case float64:
		return x, true
	case int:
		return float64(x), true
	case uint64:
		return float64(x), true
	}
	return 0, false
}

// epoch is a time from seconds since 1970, in the user's zone.
func epoch(s float64) time.Time {
	whole, frac := math.Modf(s)
	return time.Unix(int64(whole), int64(frac*1e9))
}

// fsdText writes seconds as a duration for tables, as flux jobs does: four digits, below 10 s to the millisecond.
func fsdText(s float64) string {
	four := func(x float64, unit string) string { return strconv.FormatFloat(x, 'g', 4, 64) + unit }
	switch {
	case math.IsInf(s, 1):
		return "inf"
	case s < 1e-3:
		return "0s"
	case s < 10:
		return strconv.FormatFloat(s, 'f', 3, 64) + "s"
	case s < 60:
		return four(s, "s")
	case s < 3600:
		return four(s/60, "m")
	case s < 86400:
		return four(s/3600, "h")
	}
	if d := s / 86400; d >= 9999.5 {
		return strconv.FormatFloat(d, 'f', 0, 64) + "d"
	}
	return four(s/86400, "d")
}

// clockText writes seconds as [N days, ]H:MM:SS; what is not zero is at least a second.
func clockText(s float64) string {
	if s > 0 && s < 1 {
		s = 1
	}
	n := int64(math.RoundToEven(s))
	days := ""
	switch d := n / 86400; {
	case d == 1:
		days = "1 day, "
	case d > 1:
		days = fmt.Sprintf("%d days, ", d)
	}
	n %= 86400
	return fmt.Sprintf("%s%d:%02d:%02d", days, n/3600, n/60%60, n%60)
}

// percentText writes a fraction as a percentage of at most five characters.
func percentText(x float64) string {
	p := 100 * x
	switch {
	case p == 0:
		return "0%"
	case p >= 99.95:
		return strconv.FormatFloat(p, 'f', 0, 64) + "%"
	case p >= 10:
		return trimZeros(strconv.FormatFloat(p, 'f', 1, 64)) + "%"
	}
	return trimZeros(strconv.FormatFloat(p, 'f', 2, 64)) + "%"
}

func trimZeros(s string) string {
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}
