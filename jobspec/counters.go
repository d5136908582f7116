package jobspec

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Limits of what one jobspec may ask of named counters.
const (
	maxCounters    = 64
	maxCounterName = 64
)

// Counter is an amount of a named counter: what there is of it, or what a job takes.
type Counter struct {
	Name string
	N    int64
}

// ParseCounter reads NAME=N, or NAME for 1, as --resource has it. N is at least 1, up to 2^31-1.
func ParseCounter(text string) (Counter, error) {
	name, number, given := strings.Cut(text, "=")
	c := Counter{name, 1}
	if !validCounterName(name) {
		return c, fmt.Errorf("%q must be NAME=N, the name of letters, digits, '-', '_', '.' and ':'", clip(text))
	}
	if given {
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 1 || n > maxCount {
			return c, fmt.Errorf("%s: %q is not an integer from 1 to %d", name, clip(number), maxCount)
		}
		c.N = n
	}
	return c, nil
}

// ParseCounters is ParseCounter for several; a name may stand once only.
func ParseCounters(texts []string) ([]Counter, error) {
	var list []Counter
	for _, text := range texts {
		c, err := ParseCounter(text)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(list, func(o Counter) bool { return o.Name == c.Name }) {
			return nil, fmt.Errorf("%s appears twice", c.Name)
		}
		list = append(list, c)
	}
	return list, nil
}

func validCounterName(name string) bool {
	return name != "" && len(name) <= maxCounterName && strings.Trim(name, counterLetters) == ""
}

const counterLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:"

// joinCounters is the form in which a Request has counters.
func joinCounters(list []Counter) string {
	slices.SortFunc(list, func(a, b Counter) int { return strings.Compare(a.Name, b.Name) })
	var b strings.Builder
	for i, c := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s=%d", c.Name, c.N)
	}
	return b.String()
}

// CounterList is Counters as a list. What no Parse has made gives what can be read of it.
func (r *Request) CounterList() []Counter {
	if r.Counters == "" {
		return nil
	}
	var list []Counter
	for text := range strings.SplitSeq(r.Counters, ",") {
		if c, err := ParseCounter(text); err == nil {
			list = append(list, c)
		}
	}
	return list
}

// parseCounters reads attributes.system.counters: an object of integers ≥ 1.
func parseCounters(v any) (string, error) {
	obj, err := asObject(v)
	if err != nil {
		return "", err
	}
	if len(obj) > maxCounters {
		return "", bad("has %d counters; the limit is %d", len(obj), maxCounters)
	}
	list := make([]Counter, 0, len(obj))
	for i := range obj {
		if !validCounterName(obj[i].key) {
			return "", bad("%q cannot be the name of a counter", clip(obj[i].key))
		}
		n, err := asCount(obj[i].v, math.MaxInt32)
		if err != nil {
			return "", at(obj[i].key, err)
		}
		list = append(list, Counter{obj[i].key, int64(n)})
	}
	return joinCounters(list), nil
}
