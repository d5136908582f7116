package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func anyHeader(name string) (string, bool) { return "H-" + name, name != "nope" }

func TestFormatRow(t *testing.T) {
	values := map[string]any{"s": "simulate", "empty": "", "n": 42, "neg": -1234567, "x": 0.5, "zero": 0.0, "yes": true, "none": nil,
		"t": 1700000000.25, "secs": 83.4567, "utf": "ƒabc", "list": jsonValue{[]string{"a"}}, "never": 0.0}
	for _, c := range []struct{ name, format, want string }{
		{"plain fields and text", "a {s}-{n} b", "a simulate-42 b"},
		{"doubled braces are braces", "{{{n}}}", "{42}"},
		{"text is left, numbers right", "[{s:10}][{n:6}]", "[simulate  ][    42]"},
		{"alignment", "[{s:>10}][{n:<6}][{s:^12}]", "[  simulate][42    ][  simulate  ]"},
		{"fill", "[{n:*>6}][{s:.<10}]", "[****42][simulate..]"},
		{"zero padding keeps the sign in front", "[{n:06}][{neg:010}]", "[000042][-001234567]"},
		{"precision cuts text", "[{s:<6.4}]", "[simu  ]"},
		{"a plus marks the cut", "[{s:<6.4+}][{s:<10.8+}]", "[sim+  ][simulate  ]"},
		{"width counts characters, not bytes", "[{utf:>6}]", "[  ƒabc]"},
		{"h makes empty a hyphen", "[{empty:>4h}][{none:h}][{zero:h}][{n:>4h}]", "[   -][-][-][  42]"},
		{"h and plus together", "[{s:<6.4h+}]", "[sim+  ]"},
		{"groups of thousands", "[{neg:,}]", "[-1,234,567]"},
		{"floats", "[{x}][{x:.2f}][{n:.1f}][{x:%}]", "[0.5][0.50][42.0][50.000000%]"},
		{"integers in other bases", "[{n:x}][{n:X}][{n:o}][{n:b}]", "[2a][2A][52][101010]"},
		{"a sign for positive numbers", "[{n:+d}][{n:+6d}]", "[+42][   +42]"},
		{"booleans and nothing as Python prints them", "[{yes}][{none}]", "[True][]"},
		{"JSON values", "{list}", `["a"]`},
		{"ISO date", "{t!D}", "2023-11-14T22:13:20"},
		{"date with a layout", "{t!d:%b%d %R}", "Nov14 22:13"},
		{"date with layout and width", "[{t!d:%b%d %R::>14}][{never!d:%R::>6h}]", "[   Nov14 22:13][     -]"},
		{"durations", "{secs!F} {secs!H} {x!F}", "1.391m 0:01:23 0.500s"},
		{"percentage", "{x!P}", "50%"},
		{"conversion of nothing", "[{none!F:>4h}][{none!D}]", "[   -][]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := parseFormat(c.format, anyHeader)
			require.NoError(t, err)
			require.Equal(t, c.want, f.row(func(n string) any { return values[n] }))
		})
	}
}

func TestFormatHeader(t *testing.T) {
	for _, c := range []struct{ format, want string }{
		{"{a:>6} {b:<8.8} {c:>5d}|", "   H-a H-b        H-c|"},
		{"{a!d:%b%d %R::>12}|{b:h}|{c:<2.2+}|", "         H-a|H-b|H-|"},
	} {
		f, err := parseFormat(c.format, anyHeader)
		require.NoError(t, err)
		require.Equal(t, c.want, f.header())
	}
}

func TestFormatErrorsNameThePlace(t *testing.T) {
	for format, want := range map[string]string{
		"{nope}":       "unknown format field: nope",
		"{a":           "without '}'",
		"a}":           "single '}'",
		"{}":           "without a name",
		"{a!z}":        `unknown conversion "!z"`,
		"{a:>5q}":      `invalid format spec ">5q"`,
		"{a:99999}":    "over 4096",
		"":             "empty",
		"{a:>5.99999}": "over 4096",
	} {
		_, err := parseFormat(format, anyHeader)
		require.ErrorContains(t, err, want, format)
	}
}

func TestCollapseAndWiden(t *testing.T) {
	f, err := parseFormat("{a:<3} ?:{q:<4} +:{w:>2}|?+:{z}|", anyHeader)
	require.NoError(t, err)
	row := func(m map[string]any) record { return func(n string) any { return m[n] } }
	rows := []record{row(map[string]any{"a": "1", "w": "longish"}), row(map[string]any{"a": "2", "w": "x", "q": ""})}
	fitted := f.fit(rows)
	require.Equal(t, "H-a     H-w|", fitted.header())
	require.Equal(t, "2         x|", fitted.row(rows[1]), "an empty column goes, a widened one is as wide as its widest value")
	rows = append(rows, row(map[string]any{"a": "3", "q": "batch", "z": 7}))
	require.Equal(t, "H-a H-q      H-w|H-z|", f.fit(rows).header())
}

func TestDurationsAndPercentages(t *testing.T) {
	for secs, want := range map[float64]string{0: "0s", 0.0004: "0s", 1.5: "1.500s", 59: "59s", 90: "1.5m", 3600: "1h", 86400 * 2: "2d", 86400 * 12345: "12345d"} {
		require.Equal(t, want, fsdText(secs))
	}
	for x, want := range map[float64]string{0.5: "50%", 0.015: "1.5%", 0.0005: "0.05%", 1: "100%", 0: "0%", 0.1234: "12.3%"} {
		require.Equal(t, want, percentText(x))
	}
	require.Equal(t, "2 days, 1:00:01", clockText(2*86400+3601))
	require.Equal(t, "0:00:01", clockText(0.01), "what is not zero is at least a second")
}

func TestStrftime(t *testing.T) {
	at := time.Date(2026, 2, 3, 14, 5, 6, 7_000_000, time.UTC)
	require.Equal(t, "2026-02-03 14:05:06.007000 Tue 034 02 PM %  3 2 100% %q",
		strftime(at, "%F %T.%f %a %j %I %p %% %e %u 100%% %q"))
}

// FuzzFormat: whatever stands in a format, it is refused or prints.
func FuzzFormat(f *testing.F) {
	for _, s := range []string{"{id:>12}", "?:{a!d:%b::>3h+}", "{{}}", "{a:0=+9,.2f}", "{a:ƒ^5}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseFormat(s, anyHeader)
		if err != nil {
			return
		}
		for _, v := range []any{nil, "x", 1, -1.5, true, uint64(1 << 63)} {
			r := func(string) any { return v }
			p.fit([]record{r}).header()
			p.row(r)
		}
	})
}
