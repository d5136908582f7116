package resource

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/jobspec"
)

// Limits of a resource description.
const (
	maxCoresPerNode = 4096
	maxGPUsPerNode  = 1024
)

// ParseShape reads the short form of a resource description, such as "node[64]/core[64],gpu[4],memory[256GiB]", and returns nodes
// named node0, node1, …, with indexes from 0 on.
//
// Levels are separated by "/". What follows the last one, separated by commas, are siblings, each per parent. Above node there may be
// cluster and rack, between node and core socket and numa; their numbers multiply. A number is left out for 1. Memory is in MiB
// unless a unit (kB … TB, KiB … TiB, K … T) follows. The spelling of Flux RFC 46, "node=64/[core=64;gpu=4;memory=256{unit:GiB}]", is read too.
// Without a node level there is one node.
func ParseShape(text string) ([]Node, error) {
	nodes, err := parseShape(text)
	if err != nil {
		return nil, fmt.Errorf("resources %q: %w; write for example node[4]/core[8],gpu[1]", clip(text), err)
	}
	return nodes, nil
}

// ParseResources reads the value of --resources: "@FILE" with R version 1 as JSON, such JSON itself, or the short form of ParseShape.
// Nodes get indexes from 0 on. readFile reads files.
func ParseResources(spec string, readFile func(path string) ([]byte, error)) ([]Node, error) {
	data := []byte(spec)
	path, isFile := strings.CutPrefix(spec, "@")
	if isFile {
		var err error
		if data, err = readFile(path); err != nil {
			return nil, fmt.Errorf("read resources: %w", err)
		}
	} else if !strings.HasPrefix(strings.TrimSpace(spec), "{") {
		return ParseShape(spec)
	}
	r, err := DecodeR(data)
	if err != nil {
		return nil, fmt.Errorf("resources %s: %w", clip(spec), err)
	}
	if len(r.Nodes) == 0 {
		return nil, fmt.Errorf("resources %s: there is no node", clip(spec))
	}
	for i := range r.Nodes {
		r.Nodes[i].Index = i
	}
	return r.Nodes, nil
}

// vertex is one "type[count]" of a description.
type vertex struct {
	typ   string
	count int
	unit  string
}

// shape is what a description adds up to.
type shape struct {
	nodes     int // of all
	perNode   int // parents of the leaves in each node
	seenNode  bool
	cores     int // per node
	gpus      int
	memoryMiB int64
}

// ranksOfLevels gives the order in which levels may follow each other.
var levelOrder = []string{"cluster", "rack", "node", "socket", "numa"}

func parseShape(text string) ([]Node, error) {
	levels := splitLevels(text)
	s := shape{nodes: 1, perNode: 1}
	last := -1
	for _, level := range levels[:len(levels)-1] {
		v, err := parseVertex(level)
		if err != nil {
			return nil, err
		}
		at := slices.Index(levelOrder, v.typ)
		if at <= last {
			return nil, fmt.Errorf("%q cannot stand here; levels are %s, in this order", clip(level), strings.Join(levelOrder, "/"))
		}
		last = at
		if err := s.level(v); err != nil {
			return nil, err
		}
	}
	for _, item := range splitSiblings(levels[len(levels)-1]) {
		v, err := parseVertex(item)
		if err == nil {
			err = s.leaf(v)
		}
		if err != nil {
			return nil, err
		}
	}
	return s.build()
}

// splitLevels splits at slashes outside braces.
func splitLevels(text string) []string {
	var levels []string
	start, depth := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '{':
			depth++
		case '}':
			depth--
		case '/':
			if depth == 0 {
				levels = append(levels, text[start:i])
				start = i + 1
			}
		}
	}
	return append(levels, text[start:])
}

// splitSiblings splits "a,b" or "[a;b]".
func splitSiblings(text string) []string {
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		return strings.Split(text[1:len(text)-1], ";")
	}
	return strings.Split(text, ",")
}

// parseVertex reads type, type[N], type[NUNIT], type=N, type=N{unit:U}.
func parseVertex(text string) (vertex, error) {
	v := vertex{count: 1}
	body, items, hasItems := strings.Cut(text, "{")
	if hasItems {
		unit, ok := strings.CutPrefix(strings.TrimSuffix(items, "}"), "unit:")
		if !ok || !strings.HasSuffix(items, "}") {
			return v, fmt.Errorf("%q: only {unit:…} is known in braces", clip(text))
		}
		v.unit = unit
	}
	i := strings.IndexAny(body, "[=")
	if i < 0 {
		v.typ = body
	} else {
		v.typ = body[:i]
		number := body[i+1:]
		if body[i] == '[' {
			if !strings.HasSuffix(number, "]") {
				return v, fmt.Errorf("%q: a closing bracket is missing", clip(text))
			}
			number = number[:len(number)-1]
		}
		if err := v.setCount(number); err != nil {
			return v, fmt.Errorf("%q: %w", clip(text), err)
		}
	}
	if v.typ == "" {
		return v, fmt.Errorf("a type is missing in %q", clip(text))
	}
	return v, nil
}

func (v *vertex) setCount(number string) error {
	digits := len(number) - len(strings.TrimLeft(number, "0123456789"))
	n, err := strconv.Atoi(number[:digits])
	if err != nil || n < 1 {
		return fmt.Errorf("%q is not a count ≥ 1", clip(number))
	}
	v.count = n
	if unit := number[digits:]; unit != "" {
		if v.unit != "" {
			return fmt.Errorf("two units")
		}
		v.unit = unit
	}
	return nil
}

// level multiplies a level above the leaves in.
func (s *shape) level(v vertex) error {
	if v.unit != "" {
		return fmt.Errorf("%s has no unit", v.typ)
	}
	target, limit := &s.nodes, MaxNodes
	if slices.Index(levelOrder, v.typ) > slices.Index(levelOrder, "node") {
		target, limit = &s.perNode, maxCoresPerNode
	}
	s.seenNode = s.seenNode || v.typ == "node"
	if v.count > limit / *target {
		return fmt.Errorf("%s[%d] makes more than %d %s", v.typ, v.count, limit, map[bool]string{true: "nodes", false: "parts of a node"}[target == &s.nodes])
	}
	*target *= v.count
	return nil
}

// leaf adds what each parent has.
func (s *shape) leaf(v vertex) error {
	if v.typ != "memory" && v.unit != "" {
		return fmt.Errorf("%s has no unit", v.typ)
	}
	switch v.typ {
	case "core":
		return multiply(&s.cores, v, s.perNode, maxCoresPerNode)
	case "gpu":
		return multiply(&s.gpus, v, s.perNode, maxGPUsPerNode)
	case "memory":
		mib, err := jobspec.Memory(v.count, v.unit)
		if err == nil && s.memoryMiB != 0 {
			err = fmt.Errorf("memory appears twice")
		}
		s.memoryMiB = mib * int64(s.perNode)
		return err
	}
	return fmt.Errorf("%q cannot stand after the last /; core, gpu and memory can", clip(v.typ))
}

func multiply(field *int, v vertex, by, limit int) error {
	if *field != 0 {
		return fmt.Errorf("%s appears twice", v.typ)
	}
	if v.count > limit/by {
		return fmt.Errorf("%s[%d] makes more than %d in a node", v.typ, v.count, limit)
	}
	*field = v.count * by
	return nil
}

func (s *shape) build() ([]Node, error) {
	if s.cores == 0 {
		return nil, fmt.Errorf("there is no core")
	}
	if s.nodes > 1 && !s.seenNode {
		return nil, fmt.Errorf("there is no node")
	}
	cores, gpus := MaskRange(0, s.cores-1), MaskRange(0, s.gpus-1)
	nodes := make([]Node, s.nodes)
	for i := range nodes {
		nodes[i] = Node{Index: i, Name: "node" + strconv.Itoa(i), Cores: cores, GPUs: gpus, MemMiB: s.memoryMiB}
	}
	return nodes, nil
}

// clip shortens text for error messages.
func clip(s string) string {
	if len(s) > 60 {
		return s[:57] + "..."
	}
	return s
}
