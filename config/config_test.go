package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func testKeys() []Key {
	return []Key{
		{Name: "start.brokers", Check: func(s string) error {
			if s == "0" {
				return errors.New("must be at least 1")
			}
			return nil
		}},
		{Name: "start.properties", List: true},
		{Name: "client.color"},
		{Name: "queues", Table: true},
	}
}

func write(t *testing.T, text string) File {
	path := filepath.Join(t.TempDir(), "c.toml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return File{Path: path}
}

func TestLaterFilesGoBeforeEarlierOnes(t *testing.T) {
	first := write(t, "version = 1\n[start]\nbrokers = 2\n\n[client]\ncolor = \"never\"\n")
	second := write(t, "# mine\nclient.color = 'always'\n[start]\nproperties = ['a', 'b']\n[queues.debug]\nlimit = 5\n")
	c, err := Read([]File{first, {Path: "/no/such/file"}, second}, testKeys)
	require.NoError(t, err)
	require.Equal(t, []string{"client.color", "queues.debug.limit", "start.brokers", "start.properties"}, c.Names())
	require.Equal(t, Value{[]string{"2"}, Place{first.Path, 3}}, c["start.brokers"])
	require.Equal(t, Value{[]string{"always"}, Place{second.Path, 2}}, c["client.color"])
	require.Equal(t, "a,b", c["start.properties"].Text())
	require.Equal(t, Value{[]string{"5"}, Place{second.Path, 6}}, c["queues.debug.limit"])
}

func TestAnErrorNamesFileAndLine(t *testing.T) {
	for name, row := range map[string]struct{ text, want string }{
		"an unknown key":             {"[start]\nbrokers = 1\nbroker = 2\n", ":3: unknown key start.broker: is start.brokers meant?"},
		"an unknown table":           {"\n[strat]\nx = 1\n", ":2: unknown key strat"},
		"a key of nowhere":           {"zzzzzzzzzz = 1\n", ":1: unknown key zzzzzzzzzz ('frond config show' lists the keys)"},
		"a table for a value":        {"[start.brokers]\nx = 1\n", ":1: start.brokers: a text, a number"},
		"a value for a table":        {"start = 1\n", ":1: unknown key start"},
		"a value for a free table":   {"queues = 1\n", ":1: unknown key queues"},
		"a list for a value":         {"[start]\nbrokers = [1]\n", ":2: start.brokers: one value is wanted, not a list"},
		"a value that is none":       {"[start]\nbrokers = 0\n", ":2: start.brokers: must be at least 1"},
		"no TOML":                    {"[start]\nbrokers = \n", ":2: "},
		"a key twice":                {"[start]\nbrokers = 1\nbrokers = 2\n", ":3: "},
		"a newer version":            {"x = 1\nversion = 2\n", ":2: this file has version 2, and this frond knows versions up to 1"},
		"a version that is none":     {"version = 'one'\n", ":1: version must be a whole number"},
		"an array of tables":         {"[[start]]\nbrokers = 1\n", ": unknown key start"},
		"a date":                     {"[start]\nbrokers = 2026-01-01\n", ":2: start.brokers: a text"},
		"a binary file":              {"\x00\x01\xff", ":1: "},
		"no end of a string":         {"[client]\ncolor = \"x\n", ":2: "},
		"a key with a control chars": {"\"a\\u0007b\" = 1\n", ":1: unknown key "},
	} {
		t.Run(name, func(t *testing.T) {
			f := write(t, row.text)
			_, err := Read([]File{f}, testKeys)
			require.ErrorContains(t, err, f.Path+":")
			require.ErrorContains(t, err, row.want)
		})
	}
	_, err := Read([]File{{Path: "/no/such/file", Must: true}}, testKeys)
	require.ErrorContains(t, err, "/no/such/file")
}

func TestDistance(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"submit", "submti", 1}, {"jobs", "job", 1}, {"kitten", "sitting", 3}} {
		require.Equal(t, row.want, Distance(row.a, row.b), row.a+" "+row.b)
		require.Equal(t, row.want, Distance(row.b, row.a), row.b+" "+row.a)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("[start]\nbrokers = 1\n")
	f.Add("queues.a.b = [1, 'x']\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := Config{}
		c.add("f", text, testKeys()) // an error or not, never a panic
	})
}
