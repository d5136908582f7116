package resource

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const golden = `{"version":1,"execution":{"R_lite":[{"rank":"19-22","children":{"core":"0-47","gpu":"0-7"}}],"nodelist":["node[186-189]"],` +
	`"nslots":32,"properties":{"ssd":"19-20"},"starttime":1676560542,"expiration":1676562342}}`

func TestDecodeRReadsTheExampleOfRFC20(t *testing.T) {
	r, err := DecodeR([]byte(golden))
	require.NoError(t, err)
	require.Len(t, r.Nodes, 4)
	cores, gpus := 0, 0
	for _, n := range r.Nodes {
		cores += n.Cores.Count()
		gpus += n.GPUs.Count()
	}
	require.Equal(t, 192, cores)
	require.Equal(t, 32, gpus)
	require.Equal(t, 32, r.NSlots)
	require.Equal(t, "node188", r.Nodes[2].Name)
	require.Equal(t, 21, r.Nodes[2].Index)
	require.Equal(t, []string{"ssd"}, r.Nodes[1].Properties)
	require.Empty(t, r.Nodes[2].Properties)
	require.Equal(t, golden, string(EncodeR(r)))
}

func TestDecodeRRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:              "decode R:",
		`{"version":2}`: "version must be 1",
		`{"version":1}`: "execution is missing",
		`{"version":1,"execution":{"R_lite":[{"rank":"0","children":{}}],"nodelist":["a"]}}`:                                                       "R_lite[0].children.core is missing",
		`{"version":1,"execution":{"R_lite":[{"rank":"0-1","children":{"core":"0"}},{"rank":"1","children":{"core":"0"}}],"nodelist":["a[0-2]"]}}`: "R_lite[1]: rank 1 appears twice",
		`{"version":1,"execution":{"R_lite":[{"rank":"0-1","children":{"core":"0"}}],"nodelist":["a"]}}`:                                           "1 hosts for 2 ranks",
		`{"version":1,"execution":{"R_lite":[{"rank":"0-99999999","children":{"core":"0"}}],"nodelist":["a"]}}`:                                    "more than 1000000 nodes",
		`{"version":1,"execution":{"R_lite":[{"rank":"0","children":{"core":"0-99999999"}}],"nodelist":["a"]}}`:                                    "R_lite[0]: core:",
		`{"version":1,"execution":{"R_lite":[{"rank":"0","children":{"core":"0"}}],"nodelist":["a"],"properties":{"x":"7"}}}`:                      `properties: "x": rank 7 is not in R_lite`,
		`{"version":1,"execution":{"R_lite":[{"rank":"0","children":{"core":"0"}}],"nodelist":["a"],"properties":{"x":"0-999999999"}}}`:            `has ranks that R_lite has not`,
	} {
		_, err := DecodeR([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}

func TestEncodeAllocOfOneCore(t *testing.T) {
	node := Node{Index: 3, Name: "n3", Properties: []string{"+local", "ssd"}}
	a := &Alloc{Nodes: []NodeAlloc{{Node: 3, Cores: MaskOf(5), Slots: 1}}}
	got := EncodeAlloc(a, func(int) *Node { return &node }, 1.5, 0, 1)
	require.Equal(t, `{"version":1,"execution":{"R_lite":[{"rank":"3","children":{"core":"5"}}],"nodelist":["n3"],"nslots":1,`+
		`"properties":{"ssd":"3"},"starttime":1.5,"expiration":0}}`, string(got))
}

func TestEncodeAllocPutsEqualNodesTogether(t *testing.T) {
	nodes, err := ParseShape("node[4]/core[4],gpu[1]")
	require.NoError(t, err)
	a := &Alloc{}
	for i, cores := range []Mask{MaskRange(0, 1), MaskRange(0, 3), MaskRange(0, 1), MaskRange(0, 1)} {
		a.Nodes = append(a.Nodes, NodeAlloc{Node: i, Cores: cores})
	}
	got := EncodeAlloc(a, func(i int) *Node { return &nodes[i] }, 0, 0, 0)
	require.Equal(t, `{"version":1,"execution":{"R_lite":[{"rank":"0,2-3","children":{"core":"0-1"}},{"rank":"1","children":{"core":"0-3"}}],`+
		`"nodelist":["node[0-3]"],"starttime":0,"expiration":0}}`, string(got))
}

func TestPropEncodeRReadsBackTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := R{NSlots: rapid.IntRange(0, 9).Draw(t, "nslots"), StartTime: float64(rapid.IntRange(0, 9).Draw(t, "start")) / 2}
		rank := 0
		for range rapid.IntRange(0, 12).Draw(t, "nodes") {
			rank += rapid.IntRange(1, 3).Draw(t, "gap")
			n := Node{Index: rank, Name: fmt.Sprintf("n%d", rapid.IntRange(8, 12).Draw(t, "name"))}
			n.Cores = MaskRange(0, rapid.IntRange(0, 80).Draw(t, "cores"))
			n.GPUs = MaskRange(0, rapid.IntRange(-1, 2).Draw(t, "gpus"))
			n.MemMiB = rapid.Int64Range(0, 2).Draw(t, "mem")
			for _, p := range []string{"+here", "a", "b"} {
				if rapid.Bool().Draw(t, p) {
					n.Properties = append(n.Properties, p)
				}
			}
			r.Nodes = append(r.Nodes, n)
		}
		back, err := DecodeR(EncodeR(r))
		require.NoError(t, err)
		require.Equal(t, r, back)
	})
}

func TestParseShape(t *testing.T) {
	for text, want := range map[string]struct {
		nodes, cores, gpus int
		mem                int64
	}{
		"node[64]/core[64],gpu[4]":                   {64, 64, 4, 0},
		"node[4]/socket[2]/core[8]":                  {4, 16, 0, 0},
		"node[4]/socket[2]/core[8],gpu,memory[4GiB]": {4, 16, 2, 8192},
		"core[2]":                                      {1, 2, 0, 0},
		"node/core":                                    {1, 1, 0, 0},
		"node[2]/core[1],memory[512]":                  {2, 1, 0, 512},
		"node[2]/core[1],memory=4G":                    {2, 1, 0, 4096},
		"cluster/rack[3]/node[2]/core[1]":              {6, 1, 0, 0},
		"node=64/[core=64;gpu=4;memory=256{unit:GiB}]": {64, 64, 4, 262144},
		"node=2/socket=2/core=3":                       {2, 6, 0, 0},
		"node[100000]/core[64]":                        {100000, 64, 0, 0},
	} {
		nodes, err := ParseShape(text)
		require.NoError(t, err, text)
		require.Len(t, nodes, want.nodes, text)
		n := nodes[len(nodes)-1]
		require.Equal(t, want.cores, n.Cores.Count(), text)
		require.Equal(t, want.gpus, n.GPUs.Count(), text)
		require.Equal(t, want.mem, n.MemMiB, text)
		require.Equal(t, fmt.Sprintf("node%d", want.nodes-1), n.Name)
		require.Equal(t, want.nodes-1, n.Index)
	}
}

func TestParseShapeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "a type is missing",
		"node[2]":                     `"node" cannot stand after the last /`,
		"node[2]/gpu[1]":              "there is no core",
		"node[0]/core[1]":             "is not a count ≥ 1",
		"node[-1]/core[1]":            "is not a count ≥ 1",
		"node[x]/core[1]":             "is not a count ≥ 1",
		"node[2/core[1]":              "a closing bracket is missing",
		"core[2]/node[2]":             `"core[2]" cannot stand here`,
		"socket[2]/node[2]/core[1]":   `"node[2]" cannot stand here`,
		"node[2000000]/core[1]":       "more than 1000000 nodes",
		"rack[2000]/node[1000]/core":  "more than 1000000 nodes",
		"node[1]/core[5000]":          "more than 4096 in a node",
		"node/socket[8]/core[1000]":   "more than 4096 in a node",
		"node/core[1],core[1]":        "core appears twice",
		"node/core[1],memory[1pages]": `unknown unit "pages"`,
		"node/core[1GiB]":             "core has no unit",
		"node[99999999999999999999]":  "is not a count",
		"rack[2]/core[1]":             "there is no node",
		"node/core{x:1}":              "only {unit:…}",
	} {
		_, err := ParseShape(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestParseResources(t *testing.T) {
	files := func(path string) ([]byte, error) {
		if path == "r.json" {
			return []byte(golden), nil
		}
		return nil, errors.New("no such file")
	}
	nodes, err := ParseResources("@r.json", files)
	require.NoError(t, err)
	require.Equal(t, 3, nodes[3].Index, "ranks of a file are numbered anew")
	_, err = ParseResources("@other", files)
	require.ErrorContains(t, err, "no such file")
	nodes, err = ParseResources(golden, files)
	require.NoError(t, err)
	require.Len(t, nodes, 4)
	nodes, err = ParseResources("core[3]", files)
	require.NoError(t, err)
	require.Len(t, nodes, 1)
	_, err = ParseResources(`{"version":1,"execution":{}}`, files)
	require.ErrorContains(t, err, "there is no node")
}

func FuzzDecodeR(f *testing.F) {
	for _, s := range []string{golden, "", "{}", `{"version":1,"execution":{"R_lite":[],"nodelist":[]}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeR(data)
		if err != nil {
			return
		}
		_, err = DecodeR(EncodeR(r))
		require.NoError(t, err)
	})
}

func BenchmarkEncodeAllocOneCore(b *testing.B) {
	node := Node{Index: 3, Name: "n3"}
	a := &Alloc{Nodes: []NodeAlloc{{Node: 3, Cores: MaskOf(5), Slots: 1}}}
	b.ReportAllocs()
	for b.Loop() {
		EncodeAlloc(a, func(int) *Node { return &node }, 1700000000.25, 0, 1)
	}
}
