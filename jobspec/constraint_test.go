package jobspec

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type target struct {
	rank  int
	host  string
	props string
}

func (t target) Rank() int                 { return t.rank }
func (t target) Host() string              { return t.host }
func (t target) HasProperty(p string) bool { return slices.Contains(strings.Fields(t.props), p) }

func TestConstraintTruthTableOfRFC31(t *testing.T) {
	n := target{3, "host1", "ssd fast"}
	for text, want := range map[string]bool{
		`{}`:                                true,
		`{"properties":["ssd"]}`:            true,
		`{"properties":["ssd","fast"]}`:     true,
		`{"properties":["ssd","^fast"]}`:    false,
		`{"properties":["^slow"]}`:          true,
		`{"properties":[]}`:                 true,
		`{"hostlist":["host[0-1]"]}`:        true,
		`{"hostlist":["host0","host2"]}`:    false,
		`{"hostlist":[]}`:                   false,
		`{"ranks":["0","2-4"]}`:             true,
		`{"ranks":["0-2"]}`:                 false,
		`{"and":[]}`:                        true,
		`{"or":[]}`:                         true,
		`{"not":[]}`:                        false,
		`{"not":[{"properties":["ssd"]}]}`:  false,
		`{"not":[{"properties":["slow"]}]}`: true,
		`{"and":[{"hostlist":["host[0-1]"]},{"properties":["ssd","^slowgpu"]}]}`: true,
		`{"or":[{"ranks":["9"]},{"properties":["fast"]}]}`:                       true,
		`{"or":[{"ranks":["9"]},{"properties":["slow"]}]}`:                       false,
		`{"and":[{}]}`: true,
	} {
		var v any
		require.NoError(t, json.Unmarshal([]byte(text), &v))
		c, err := ParseConstraint(v)
		require.NoError(t, err, text)
		require.Equal(t, want, c.Match(n), text)
		if c != nil {
			require.Equal(t, v, c.Value(), "Value gives the JSON form back")
			literal := &Constraint{Op: c.Op, Names: c.Names, Sub: c.Sub}
			require.Equal(t, want, literal.Match(n), "a constraint made by hand matches the same")
		}
	}
}

func TestParseQuery(t *testing.T) {
	for text, want := range map[string]string{
		"":                   `null`,
		"a":                  `{"properties":["a"]}`,
		"a,b c":              `{"properties":["a","b","c"]}`,
		"a and b & c && d":   `{"properties":["a","b","c","d"]}`,
		"a|b||c or d":        `{"or":[{"properties":["a"]},{"properties":["b"]},{"properties":["c"]},{"properties":["d"]}]}`,
		"(a|-b)&c":           `{"and":[{"or":[{"properties":["a"]},{"not":[{"properties":["b"]}]}]},{"properties":["c"]}]}`,
		"not a or b":         `{"or":[{"not":[{"properties":["a"]}]},{"properties":["b"]}]}`,
		"host:n[1-3] rank:2": `{"and":[{"hostlist":["n[1-3]"]},{"ranks":["2"]}]}`,
		"hosts:'n[1-3]'":     `{"hostlist":["n[1-3]"]}`,
		"'a b'":              `{"properties":["a b"]}`,
		"^a":                 `{"properties":["^a"]}`,
		"a or b and c":       `{"or":[{"properties":["a"]},{"properties":["b","c"]}]}`,
		"not (a b)":          `{"not":[{"properties":["a","b"]}]}`,
		"not not a":          `{"not":[{"not":[{"properties":["a"]}]}]}`,
		"not a b":            `{"and":[{"not":[{"properties":["a"]}]},{"properties":["b"]}]}`,
	} {
		c, err := ParseQuery(text, "properties")
		require.NoError(t, err, text)
		b, err := json.Marshal(c.Value())
		require.NoError(t, err)
		require.JSONEq(t, want, string(b), text)
	}
}

func TestParseQueryRefuses(t *testing.T) {
	for _, text := range []string{"(", ")", "a)", "(a", "a &", "& a", "|", "-(a)", "- a", "not", "host:", "'a", "color:x", "rank:x", "a!b",
		"a or", "-and", strings.Repeat("(", 100) + "a" + strings.Repeat(")", 100), strings.Repeat("not ", 100) + "a"} {
		_, err := ParseQuery(text, "properties")
		require.Error(t, err, text)
	}
}

func TestKeyIsEqualForEqualConstraintsOnly(t *testing.T) {
	key := func(q string) string {
		c, err := ParseQuery(q, "properties")
		require.NoError(t, err)
		return c.Key()
	}
	require.Equal(t, key("a b|c"), key("(a and b) or c"))
	seen := map[string]bool{}
	for _, q := range []string{"", "a", "a b", "'a b'", "a|b", "not a", "host:a", "not (a b)", "(not a) b"} {
		require.False(t, seen[key(q)], q)
		seen[key(q)] = true
	}
}

func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{"a|b", "(a -b) c", "host:'n[1-3]'", "not not x", "a:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1000 {
			return
		}
		c, err := ParseQuery(text, "properties")
		if err != nil || c == nil {
			return
		}
		back, err := ParseConstraint(c.Value())
		require.NoError(t, err)
		require.Equal(t, c.Key(), back.Key())
	})
}
