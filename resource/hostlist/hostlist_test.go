package hostlist

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseExpandsInOrder(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "",
		"foo":                    "foo",
		"node[186-189]":          "node186 node187 node188 node189",
		"[005,4,11-13]":          "005 004 011 012 013",
		"[00-2]":                 "00 01 02",
		"n[08-11]":               "n08 n09 n10 n11",
		"n[8-11]":                "n8 n9 n10 n11",
		"foo[1,1,2,1]":           "foo1 foo1 foo2 foo1",
		"foo[1,3]-bar":           "foo1-bar foo3-bar",
		"foo1,,foo2,":            "foo1 foo2",
		"a[1-2],b,c[3]":          "a1 a2 b c3",
		"foo-1a-[2-3]":           "foo-1a-2 foo-1a-3",
		"h[0-0]":                 "h0",
		"x[10,5]":                "x10 x5",
		"x123456789012345678901": "x123456789012345678901",
	} {
		got, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, strings.Join(got, " "), text)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"a[1", "a1]", "a[1]b[2]", "a[[1]]", "a[]", "a[1,]", "a[x]", "a[2-1]", "a[-1]", "a b", "a\tb", "ä[1]", "][",
		"a[1-2000000]", "a[0-600000],b[0-600000]", "a[1-2-3]", "a[1234567890123456789]", "]a["} {
		_, err := Parse(text)
		require.Error(t, err, text)
	}
}

func TestEncodeCompressesTrailingNumbersOnly(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		"foo1 foo2 foo3 fooi":   "foo[1-3],fooi",
		"foo-1a-2 foo-1a-3":     "foo-1a-[2-3]",
		"foo1-bar foo3-bar":     "foo1-bar,foo3-bar",
		"foo1 foo1 foo1":        "foo[1,1,1]",
		"n08 n09 n10 n11":       "n[08-11]",
		"n8 n9 n10":             "n[8-10]",
		"n10 n09":               "n10,n09",
		"n9 n010":               "n9,n010",
		"a1 a2 b a3":            "a[1-2],b,a3",
		"node7":                 "node7",
		"x99999999999999999999": "x99999999999999999999",
		"n998 n999 n1000":       "n[998-1000]",
		"n0 n00":                "n0,n00",
	} {
		require.Equal(t, want, Encode(strings.Fields(text)))
	}
}

func TestPropEncodeThenParseGivesTheSameList(t *testing.T) {
	host := rapid.Custom(func(t *rapid.T) string {
		p := rapid.SampledFrom([]string{"", "n", "n-", "rack1-n"}).Draw(t, "prefix")
		s := rapid.SampledFrom([]string{"", "", "", "-ib"}).Draw(t, "suffix")
		return p + fmt.Sprintf("%0*d", rapid.IntRange(0, 3).Draw(t, "width"), rapid.IntRange(0, 120).Draw(t, "n")) + s
	})
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.SliceOf(host).Draw(t, "hosts")
		got, err := Parse(Encode(hosts))
		require.NoError(t, err)
		require.Equal(t, strings.Join(hosts, " "), strings.Join(got, " "))
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "node[08-11],login", "a[1]b[2]", "foo[1,1,2,1]", "[00-2]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		hosts, err := Parse(text)
		if err != nil {
			return
		}
		back, err := Parse(Encode(hosts))
		require.NoError(t, err)
		require.Equal(t, hosts, back)
	})
}
