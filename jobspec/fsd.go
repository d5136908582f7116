package jobspec

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units of a duration in seconds (Flux RFC 23). The order matters: ms before s and m.
var units = []struct {
	suffix string
	secs   float64
}{{"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}}

// ParseFSD reads a Flux Standard Duration (RFC 23) such as "1.5h", "100ms", "30" or "inf" and returns seconds. Without a suffix the
// number is seconds. The number may be what C's strtod takes, but not negative.
func ParseFSD(text string) (float64, error) {
	v, _, err := parseFSD(text)
	return v, err
}

// ParseTimeLimit reads the value of -t/--time-limit and returns seconds: as ParseFSD, but a bare number is minutes, and infinity is
// 0, which means no limit.
func ParseTimeLimit(text string) (float64, error) {
	v, hasUnit, err := parseFSD(text)
	if err != nil {
		return 0, fmt.Errorf("time limit: %w", err)
	}
	if math.IsInf(v, 0) {
		return 0, nil
	}
	if !hasUnit {
		v *= 60
	}
	return v, nil
}

func parseFSD(text string) (secs float64, hasUnit bool, err error) {
	if strings.EqualFold(text, "inf") || strings.EqualFold(text, "infinity") {
		return math.Inf(1), false, nil
	}
	n := numberPrefix(text)
	num, suffix := text[:n], text[n:]
	if strings.HasPrefix(num, "0x") || strings.HasPrefix(num, "0X") {
		if !strings.ContainsAny(num, "pP") {
			num += "p0" // Go wants an exponent where C does not
		}
	}
	v, perr := strconv.ParseFloat(num, 64)
	factor := unitOf(suffix)
	if perr != nil || factor == 0 || math.IsInf(v*factor, 0) {
		return 0, false, fmt.Errorf("%q is not a duration; write a number with ms, s, m, h or d, such as 1.5h", clip(text))
	}
	return v * factor, suffix != "", nil
}

// unitOf returns 0 for an unknown suffix, 1 for none.
func unitOf(suffix string) float64 {
	if suffix == "" {
		return 1
	}
	for _, u := range units {
		if u.suffix == suffix {
			return u.secs
		}
	}
	return 0
}

// numberPrefix returns the length of the longest unsigned number at the start of s, decimal or hexadecimal.
func numberPrefix(s string) int {
	digits, exp := "0123456789", "eE"
	i := 0
	if strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X") {
		digits, exp, i = "0123456789abcdefABCDEF", "pP", 2
	}
	span := func(set string) {
		for i < len(s) && strings.IndexByte(set, s[i]) >= 0 {
			i++
		}
	}
	span(digits)
	if i < len(s) && s[i] == '.' {
		i++
		span(digits)
	}
	if i == 0 || i >= len(s) || strings.IndexByte(exp, s[i]) < 0 {
		return i
	}
	mark := i
	i++
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		i++
	}
	start := i
	if span("0123456789"); i == start {
		return mark
	}
	return i
}

// FormatFSD writes seconds as Flux does: with the largest fitting unit and six significant digits.
func FormatFSD(secs float64) string {
	suffix, factor := "d", 86400.0
	switch {
	case math.IsInf(secs, 0):
		return "infinity"
	case secs != 0 && secs < 0.1:
		suffix, factor = "ms", 1e-3
	case secs < 60:
		suffix, factor = "s", 1
	case secs < 3600:
		suffix, factor = "m", 60
	case secs < 86400:
		suffix, factor = "h", 3600
	}
	return strconv.FormatFloat(secs/factor, 'g', 6, 64) + suffix
}
