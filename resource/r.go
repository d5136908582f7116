package resource

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
)

// MaxNodes bounds the nodes of one resource set.
const MaxNodes = 1_000_000

// memoryWriter marks R.scheduling as Frond's: {"writer":"frond:memory","memory":{RANKS: MiB}}.
const memoryWriter = "frond:memory"

// R is a resource set, decoded from R version 1 (Flux RFC 20).
type R struct {
	Nodes      []Node  // ascending by Index, which is the rank in R; Broker and CPUs are not part of R
	NSlots     int     // 0 = not given
	StartTime  float64 // epoch seconds; 0 = unset
	Expiration float64 // epoch seconds; 0 = unset
}

// partsWriter marks R.scheduling of a job that has parts of gpus: {"writer":"frond:gpu-parts","gpus":{RANK:{ID: share}}}.
const partsWriter = "frond:gpu-parts"

// EncodeAlloc writes what a job was given as R version 1. Parts of gpus stand under "scheduling"; others see those gpus as its own. node returns the node with an index; start and expiration are epoch seconds,
// 0 = unset; nslots 0 = left out. Instance-local properties ("+name") do not go into it.
func EncodeAlloc(a *Alloc, node func(index int) *Node, start, expiration float64, nslots int) []byte {
	parts := make([]part, len(a.Nodes))
	for i, n := range a.Nodes {
		parts[i] = part{rank: n.Node, cores: n.Cores, gpus: n.GPUs, gpuParts: n.GPUParts}
		if nd := node(n.Node); nd != nil {
			parts[i].name, parts[i].properties = nd.Name, nd.Properties
		}
	}
	return encode(parts, R{NSlots: nslots, StartTime: start, Expiration: expiration}, false)
}

// EncodeNodes writes whole nodes as R version 1, with their memory under "scheduling".
func EncodeNodes(nodes []Node) []byte { return EncodeR(R{Nodes: nodes}) }

// EncodeR writes r. DecodeR reads it back to the same.
func EncodeR(r R) []byte {
	parts := make([]part, len(r.Nodes))
	for i := range r.Nodes {
		n := &r.Nodes[i]
		parts[i] = part{n.Index, n.Name, n.Cores, n.GPUs, n.MemMiB, n.Properties, nil}
	}
	slices.SortStableFunc(parts, func(a, b part) int { return a.rank - b.rank })
	return encode(parts, r, true)
}

// part is one node's share, as R has it.
type part struct {
	rank        int
	name        string
	cores, gpus Mask
	memMiB      int64
	properties  []string
	gpuParts    *[]int
}

// encode writes parts (ascending by rank). It is written by hand because every job that starts needs one.
func encode(parts []part, r R, whole bool) []byte {
	b := make([]byte, 0, 192)
	b = append(b, `{"version":1,"execution":{"R_lite":[`...)
	b = appendRLite(b, parts)
	b = append(b, `],"nodelist":[`...)
	if len(parts) > 0 {
		b = appendString(b, nodelist(parts))
	}
	b = append(b, ']')
	if r.NSlots > 0 {
		b = strconv.AppendInt(append(b, `,"nslots":`...), int64(r.NSlots), 10)
	}
	b = appendByName(b, `,"properties":`, propertyRanks(parts, whole))
	b = append(b, `,"starttime":`...)
	b = strconv.AppendFloat(b, r.StartTime, 'f', -1, 64)
	b = append(b, `,"expiration":`...)
	b = strconv.AppendFloat(b, r.Expiration, 'f', -1, 64)
	b = append(b, '}')
	if len(parts) > 0 && parts[0].gpuParts != nil {
		b = appendGPUParts(b, parts)
	}
	b = appendMemory(b, parts)
	return append(b, '}')
}

func nodelist(parts []part) string {
	if len(parts) == 1 {
		return parts[0].name
	}
	names := make([]string, len(parts))
	for i := range parts {
		names[i] = parts[i].name
	}
	return hostlist.Encode(names)
}

// appendRLite writes the entries, nodes with equal children together, in order of their lowest rank.
func appendRLite(b []byte, parts []part) []byte {
	if len(parts) == 1 {
		return appendEntry(b, idset.Of(parts[0].rank), &parts[0])
	}
	type entry struct {
		first *part
		ranks idset.Set
	}
	var entries []*entry
	byKey := map[string]*entry{}
	for i := range parts {
		key := parts[i].cores.String() + "/" + parts[i].gpus.String()
		e := byKey[key]
		if e == nil {
			e = &entry{first: &parts[i]}
			byKey[key] = e
			entries = append(entries, e)
		}
		e.ranks.Add(parts[i].rank)
	}
	for i, e := range entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendEntry(b, e.ranks, e.first)
	}
	return b
}

func appendEntry(b []byte, ranks idset.Set, p *part) []byte {
	b = append(b, `{"rank":"`...)
	b = ranks.Append(b)
	b = append(b, `","children":{"core":"`...)
	b = append(b, p.cores.String()...)
	b = append(b, '"')
	if !p.gpus.Empty() {
		b = append(b, `,"gpu":"`...)
		b = append(b, p.gpus.String()...)
		b = append(b, '"')
	}
	return append(b, '}', '}')
}

// propertyRanks collects which ranks have each property.
func propertyRanks(parts []part, local bool) map[string]*idset.Set {
	var m map[string]*idset.Set
	for i := range parts {
		for _, name := range parts[i].properties {
			if !local && strings.HasPrefix(name, "+") {
				continue
			}
			if m == nil {
				m = map[string]*idset.Set{}
			}
			if m[name] == nil {
				m[name] = &idset.Set{}
			}
			m[name].Add(parts[i].rank)
		}
	}
	return m
}

func appendByName(b []byte, key string, m map[string]*idset.Set) []byte {
	if len(m) == 0 {
		return b
	}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	b = append(append(b, key...), '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, name)
		b = append(b, ':', '"')
		b = append(m[name].Append(b), '"')
	}
	return append(b, '}')
}

func appendGPUParts(b []byte, parts []part) []byte {
	b = append(b, `,"scheduling":{"writer":"`+partsWriter+`","gpus":{`...)
	for i := range parts {
		p := &parts[i]
		if p.gpuParts == nil {
			continue
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `"%d":{`, p.rank)
		for k, id := range p.gpus.IDs() {
			if k > 0 {
				b = append(b, ',')
			}
			b = fmt.Appendf(b, `"%d":%g`, id, float64((*p.gpuParts)[k])/WholeGPU)
		}
		b = append(b, '}')
	}
	return append(b, '}', '}')
}

func appendMemory(b []byte, parts []part) []byte {
	bySize := map[int64]*idset.Set{}
	for i := range parts {
		if mib := parts[i].memMiB; mib > 0 {
			if bySize[mib] == nil {
				bySize[mib] = &idset.Set{}
			}
			bySize[mib].Add(parts[i].rank)
		}
	}
	if len(bySize) == 0 {
		return b
	}
	sizes := make([]int64, 0, len(bySize))
	for mib := range bySize {
		sizes = append(sizes, mib)
	}
	slices.SortFunc(sizes, func(a, b int64) int { return bySize[a].Min() - bySize[b].Min() })
	b = append(b, `,"scheduling":{"writer":"`+memoryWriter+`","memory":{`...)
	for i, mib := range sizes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(bySize[mib].Append(append(b, '"')), '"', ':')
		b = strconv.AppendInt(b, mib, 10)
	}
	return append(b, '}', '}')
}

// appendString writes s as a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string cannot fail
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// rJSON is R version 1 as JSON.
type rJSON struct {
	Version   *int `json:"version"`
	Execution *struct {
		RLite []struct {
			Rank     string `json:"rank"`
			Children struct {
				Core *string `json:"core"`
				GPU  string  `json:"gpu"`
			} `json:"children"`
		} `json:"R_lite"`
		Nodelist   []string          `json:"nodelist"`
		NSlots     int               `json:"nslots"`
		Properties map[string]string `json:"properties"`
		StartTime  float64           `json:"starttime"`
		Expiration float64           `json:"expiration"`
	} `json:"execution"`
	Scheduling json.RawMessage `json:"scheduling"`
}

// DecodeR reads R version 1. It fails on another version, on a rank that appears twice, and where the number of hosts is not that of
// ranks; the error names the place. Of "scheduling" it reads what EncodeR writes, other writers' is ignored.
func DecodeR(data []byte) (R, error) {
	r, err := decodeR(data)
	if err != nil {
		return R{}, fmt.Errorf("decode R: %w", err)
	}
	return r, nil
}

func decodeR(data []byte) (R, error) {
	var j rJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return R{}, err
	}
	if j.Version == nil || *j.Version != 1 {
		return R{}, fmt.Errorf("version must be 1")
	}
	ex := j.Execution
	if ex == nil {
		return R{}, fmt.Errorf("execution is missing")
	}
	if ex.NSlots < 0 || !validTime(ex.StartTime) || !validTime(ex.Expiration) {
		return R{}, fmt.Errorf("execution: nslots, starttime and expiration must not be negative")
	}
	d := decoder{index: map[int]int{}}
	for i, e := range ex.RLite {
		if e.Children.Core == nil {
			return R{}, fmt.Errorf("execution.R_lite[%d].children.core is missing", i)
		}
		if err := d.entry(e.Rank, *e.Children.Core, e.Children.GPU); err != nil {
			return R{}, fmt.Errorf("execution.R_lite[%d]: %w", i, err)
		}
	}
	if err := d.names(ex.Nodelist); err != nil {
		return R{}, fmt.Errorf("execution.nodelist: %w", err)
	}
	if err := d.properties(ex.Properties); err != nil {
		return R{}, fmt.Errorf("execution.properties: %w", err)
	}
	if err := d.memory(j.Scheduling); err != nil {
		return R{}, fmt.Errorf("scheduling.memory: %w", err)
	}
	return R{Nodes: d.nodes, NSlots: ex.NSlots, StartTime: ex.StartTime, Expiration: ex.Expiration}, nil
}

func validTime(t float64) bool { return t >= 0 && !math.IsInf(t, 0) }

// decoder collects the nodes of an R.
type decoder struct {
	nodes []Node
	index map[int]int // rank → place in nodes
}

func (d *decoder) entry(rank, core, gpu string) error {
	ranks, err := idset.Parse(rank)
	if err != nil {
		return err
	}
	if ranks.Len() > MaxNodes-len(d.nodes) {
		return fmt.Errorf("more than %d nodes", MaxNodes)
	}
	cores, err := ParseMask(core)
	if err != nil {
		return fmt.Errorf("core: %w", err)
	}
	gpus, err := ParseMask(gpu)
	if err != nil {
		return fmt.Errorf("gpu: %w", err)
	}
	for id := range ranks.All() {
		if _, twice := d.index[id]; twice {
			return fmt.Errorf("rank %d appears twice", id)
		}
		d.index[id] = -1
		d.nodes = append(d.nodes, Node{Index: id, Cores: cores, GPUs: gpus})
	}
	return nil
}

// names sorts the nodes by rank and gives the i-th of them the i-th name.
func (d *decoder) names(list []string) error {
	slices.SortFunc(d.nodes, func(a, b Node) int { return a.Index - b.Index })
	for i := range d.nodes {
		d.index[d.nodes[i].Index] = i
	}
	hosts, err := hostlist.Parse(strings.Join(list, ","))
	if err != nil {
		return err
	}
	if len(hosts) != len(d.nodes) {
		return fmt.Errorf("%d hosts for %d ranks", len(hosts), len(d.nodes))
	}
	for i := range d.nodes {
		d.nodes[i].Name = hosts[i]
	}
	return nil
}

// each calls f for the nodes whose ranks text has.
func (d *decoder) each(text string, f func(n *Node)) error {
	ranks, err := idset.Parse(text)
	if err != nil {
		return err
	}
	if ranks.Len() > len(d.nodes) {
		return fmt.Errorf("%q has ranks that R_lite has not", text)
	}
	for id := range ranks.All() {
		i, ok := d.index[id]
		if !ok {
			return fmt.Errorf("rank %d is not in R_lite", id)
		}
		f(&d.nodes[i])
	}
	return nil
}

func (d *decoder) properties(m map[string]string) error {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		err := d.each(m[name], func(n *Node) { n.Properties = append(n.Properties, name) })
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	return nil
}

func (d *decoder) memory(scheduling json.RawMessage) error {
	var s struct {
		Writer string           `json:"writer"`
		Memory map[string]int64 `json:"memory"`
	}
	if json.Unmarshal(scheduling, &s) != nil || s.Writer != memoryWriter {
		return nil
	}
	for ranks, mib := range s.Memory {
		if mib < 0 {
			return fmt.Errorf("%q: must not be negative", ranks)
		}
		if err := d.each(ranks, func(n *Node) { n.MemMiB = mib }); err != nil {
			return err
		}
	}
	return nil
}
