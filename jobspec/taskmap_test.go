package jobspec

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTaskmapVectorsOfRFC34(t *testing.T) {
	for raw, want := range map[string]string{
		"0-1;2-3":                               "[[0,2,2,1]]",
		"0,2;1,3":                               "[[0,2,1,2]]",
		"1;0":                                   "[[1,1,1,1],[0,1,1,1]]",
		"0,6;1,7;2,8;3,9;4,10,12,14;5,11,13,15": "[[0,6,1,2],[4,2,1,2]]",
		"0-1;2-3;4-5;6-7;8-11;12-15":            "[[0,4,2,1],[4,2,4,1]]",
	} {
		m, err := ParseTaskmap(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, m.String(), raw)
		again, err := ParseTaskmap(` {"version":1,"map":` + want + `}`)
		require.NoError(t, err)
		require.Equal(t, m, again)
	}
}

func TestTaskmapsThatMakeNoSense(t *testing.T) {
	for text, want := range map[string]string{
		"0-1;1-2":           "each task id from 0 to 3 must stand on one node",
		"0;2":               "each task id from 0 to 1 must stand on one node",
		"[[0,1,1]]":         "four integers",
		"[[0,1,1,0]]":       "four integers",
		"[[0,1,1,1.5]]":     "four integers",
		"[[0,1,1,1],[":      "taskmap",
		"[[0,9999,9999,9]]": "at most",
		"0-99999999":        "at most",
	} {
		_, err := ParseTaskmap(text)
		require.ErrorContains(t, err, want, text)
	}
	for text, want := range map[string]string{
		"cyclic:0":    "stride",
		"spiral":      `no scheme "spiral"`,
		"block:3":     "block takes no value",
		"hostfile":    "needs a list of hosts",
		"manual:[[0]": "taskmap",
	} {
		_, err := ParseNumbering(text)
		require.ErrorContains(t, err, want, text)
	}
	_, err := Numbering{"manual", "[[0,2,2,1]]"}.Map([]int{1, 3}, nil)
	require.EqualError(t, err, "it puts [2 2] tasks on the nodes, the job has [1 3]")
}

func TestNumberings(t *testing.T) {
	for text, want := range map[string]string{
		"block":            "[[0,2,4,1]]",
		"cyclic":           "[[0,2,1,4]]",
		"cyclic:2":         "[[0,2,2,2]]",
		"cyclic:3":         "[[0,2,3,1],[0,2,1,1]]",
		"hostfile:b,a":     "[[1,1,1,1],[0,2,1,3],[0,1,1,1]]",
		"manual:0-3;4-7":   "[[0,2,4,1]]",
		"hostfile:a,a,b,b": "[[0,2,2,2]]",
	} {
		n, err := ParseNumbering(text)
		require.NoError(t, err)
		m, err := n.Map([]int{4, 4}, []string{"a", "b"})
		require.NoError(t, err, text)
		require.Equal(t, expand(mustTaskmap(t, want)), expand(m), "%s: %s", text, m)
	}
	m, err := Numbering{Scheme: "cyclic"}.Map([]int{1, 3, 2}, nil)
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 2, 1, 2, 1}, expand(m))
}

func mustTaskmap(t *testing.T, text string) Taskmap {
	m, err := ParseTaskmap(text)
	require.NoError(t, err)
	return m
}

func TestPropTasksAndCountsAgreeWithTheMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := rapid.SliceOfN(rapid.IntRange(0, 5), 1, 5).Draw(t, "counts")
		stride := rapid.IntRange(1, 3).Draw(t, "stride")
		m := cyclic(counts, stride)
		require.Equal(t, counts, m.Counts(len(counts)))
		nodes := expand(m)
		for node := range counts {
			var want []int
			for id, at := range nodes {
				if at == node {
					want = append(want, id)
				}
			}
			require.Equal(t, want, m.Tasks(node))
		}
		again, err := ParseTaskmap(m.String())
		if len(m) > 0 {
			require.NoError(t, err)
			require.Equal(t, nodes, expand(again))
		}
	})
}

func TestShellOptionsOfTasks(t *testing.T) {
	parse := func(opts string) (*Jobspec, error) {
		return Parse([]byte(`{"version":1,"resources":[{"type":"slot","count":1,"label":"task","with":[{"type":"core","count":1}]}],"tasks":[{"command":["a"],"slot":"task",
			"count":{"per_slot":1}}],"attributes":{"system":{"duration":0,"shell":{"options":` + opts + `}}}}`))
	}
	for text, want := range map[string]string{
		`{"pmi":"pmix"}`:                              `"pmix" is not offered`,
		`{"pmi":3}`:                                   "pmi",
		`{"taskmap":"x"}`:                             "there is no scheme",
		`{"taskmap":{"value":"x"}}`:                   "scheme",
		`{"pty":{"ranks":"b"}}`:                       "ranks",
		`{"env-expand":{"A":1}}`:                      "env-expand",
		`{"verbose":3}`:                               "verbose",
		`{"taskmap":{"scheme":"cyclic","value":"0"}}`: "stride",
	} {
		_, err := parse(text)
		require.ErrorContains(t, err, want, text)
	}
	js, err := parse(`{"pmi":"off","pmi-simple":{"nomap":1},"taskmap":{"scheme":"cyclic","value":"2"},"pty":{"interactive":1},"env-expand":{"A":"{{id}}"},"verbose":2}`)
	require.NoError(t, err)
	sh := js.Shell
	require.Equal(t, "off", sh.PMI)
	require.True(t, sh.PMINoMap)
	require.Equal(t, Numbering{"cyclic", "2"}, sh.Numbering)
	require.Equal(t, PTY{Ranks: "0", Interactive: true, Rows: 24, Cols: 80}, sh.PTY)
	require.Equal(t, map[string]string{"A": "{{id}}"}, sh.EnvExpand)
	require.Equal(t, 2, sh.Verbose)
	js, err = parse(`{"pty":{"ranks":"all"}}`)
	require.NoError(t, err)
	require.True(t, js.Shell.PTY.Has(17))
	require.False(t, PTY{Ranks: "0"}.Has(1))
	require.False(t, PTY{}.Has(0))
}
