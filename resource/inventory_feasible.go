package resource

import (
	"errors"
	"fmt"
	"strings"

	"github.com/frond-hpc/frond/jobspec"
)

// feasibleCache bounds the answers that are kept: users' constraints must not make memory grow without end.
const feasibleCache = 4096

type feasibleKey struct {
	req jobspec.Request
	c   string
}

// Feasible tells whether the request could ever run on the known nodes, all of them idle and up. The error is a sentence for the
// user: what is needed and what the most is that there is. Answers are kept until nodes are added or removed.
func (v *Inventory) Feasible(req jobspec.Request, c *jobspec.Constraint) error {
	key := feasibleKey{req, c.Key()}
	err, ok := v.feasible[key]
	if ok {
		return err
	}
	err = v.feasibleNow(req, c)
	if v.feasible == nil || len(v.feasible) >= feasibleCache {
		v.feasible = make(map[feasibleKey]error)
	}
	v.feasible[key] = err
	return err
}

func (v *Inventory) feasibleNow(req jobspec.Request, c *jobspec.Constraint) error {
	n := NeedOf(req)
	if err := n.Valid(); err != nil {
		return err
	}
	if c == nil && n.fitsAll(v.all) {
		return nil
	}
	s := v.survey(n, c)
	if s.nodes == 0 && c != nil {
		return errors.New("no node " + Describe(c))
	}
	if err := n.slotTooLarge(s); err != nil {
		return err
	}
	if req.Nodes > 0 {
		return n.tooFewNodes(s, c)
	}
	return n.tooFewSlots(s, c)
}

// fitsAll is the quick answer for requests of cores alone: no look at each node.
func (n Need) fitsAll(x *Index) bool {
	if n.Slot.GPUs > 0 || n.Slot.MemMiB > 0 {
		return false
	}
	if n.Req.Nodes > 0 {
		return x.NodesWith(n.Node.Cores) >= n.Req.Nodes
	}
	return x.SlotsOf(n.Slot.Cores) >= n.Req.Slots
}

// survey is what the nodes that satisfy a constraint have, for one need.
type survey struct {
	nodes   int  // how many there are
	largest Room // field by field
	fit     int  // how many have room for one node's part
	oneSlot int  // how many have room for a slot
	slots   int  // that fit on all of them
	cores   int
}

func (v *Inventory) survey(n Need, c *jobspec.Constraint) survey {
	var s survey
	for i := range v.nodes {
		if v.nodes[i].node == nil || !v.Matches(i, c) {
			continue
		}
		r := v.all.At(i)
		s.nodes++
		s.cores += int(r.Cores)
		s.largest = s.largest.max(r)
		if n.CoveredBy(r) {
			s.fit++
		}
		if k := r.Slots(n.Slot, n.Req.Slots); k > 0 {
			s.oneSlot++
			s.slots += k
		}
	}
	return s
}

// slotTooLarge says that not even one slot (or, for whole node counts, one node's slots) fits anywhere.
func (n Need) slotTooLarge(s survey) error {
	want, place := n.Slot, "in one slot"
	if n.Req.Nodes > 0 && n.Req.Slots > 1 {
		want, place = n.Node, "on one node"
	}
	switch {
	case s.nodes == 0:
		return errors.New("this instance has no nodes")
	case want.GPUs > s.largest.GPUs:
		return fmt.Errorf("needs %s; the largest node has %d", describeGPUs(want.GPUs), s.largest.GPUs/WholeGPU)
	case want.Cores > s.largest.Cores:
		return fmt.Errorf("needs %s %s; the largest node has %d (see frond start --oversubscribe)", plural(int(want.Cores), "core"), place, s.largest.Cores)
	case want.MemMiB > 0 && s.largest.MemMiB == 0:
		return fmt.Errorf("needs %d MiB of memory %s; no node says how much it has", want.MemMiB, place)
	case want.MemMiB > s.largest.MemMiB:
		return fmt.Errorf("needs %d MiB of memory %s; the largest node has %d", want.MemMiB, place, s.largest.MemMiB)
	case s.fit == 0 && n.Req.Nodes > 0 || s.oneSlot == 0:
		return fmt.Errorf("needs %s %s; no node has all of that", DescribeRoom(want), place)
	}
	return nil
}

func (n Need) tooFewNodes(s survey, c *jobspec.Constraint) error {
	switch {
	case s.nodes < n.Req.Nodes && c != nil:
		return fmt.Errorf("needs %s; %d of this instance's satisfy its constraint (%s)", plural(n.Req.Nodes, "node"), s.nodes, Describe(c))
	case s.nodes < n.Req.Nodes:
		return fmt.Errorf("needs %s; this instance has %d", plural(n.Req.Nodes, "node"), s.nodes)
	case s.fit < n.Req.Nodes:
		return fmt.Errorf("needs %s with %s; this instance has %d such", plural(n.Req.Nodes, "node"), DescribeRoom(n.Node), s.fit)
	}
	return nil
}

func (n Need) tooFewSlots(s survey, c *jobspec.Constraint) error {
	if s.slots >= n.Req.Slots {
		return nil
	}
	where := "this instance has"
	if c != nil {
		where = "the nodes allowed by its constraint have"
	}
	if n.Slot == (Room{Cores: 1}) {
		return fmt.Errorf("needs %s; %s %d (see frond start --oversubscribe)", plural(n.Req.Slots, "core"), where, s.cores)
	}
	return fmt.Errorf("needs %s of %s; %s room for %d", plural(n.Req.Slots, "slot"), DescribeRoom(n.Slot), where, s.slots)
}

// Describe puts a constraint into words that follow "a node that …": "has property ssd", "is host node[1-3]".
func Describe(c *jobspec.Constraint) string {
	if c == nil || c.Op == "" {
		return "is there"
	}
	switch c.Op {
	case "properties":
		return describeProperties(c.Names)
	case "hostlist":
		return "is host " + strings.Join(c.Names, ",")
	case "ranks":
		return "has rank " + strings.Join(c.Names, ",")
	case "not":
		return "does not match (" + describeSubs(c.Sub, " and ") + ")"
	case "or":
		return describeSubs(c.Sub, " or ")
	}
	return describeSubs(c.Sub, " and ")
}

func describeProperties(names []string) string {
	words := make([]string, len(names))
	for i, n := range names {
		if bare, negated := strings.CutPrefix(n, "^"); negated {
			words[i] = "lacks property " + bare
		} else {
			words[i] = "has property " + n
		}
	}
	return strings.Join(words, " and ")
}

func describeSubs(subs []*jobspec.Constraint, sep string) string {
	words := make([]string, len(subs))
	for i, s := range subs {
		words[i] = Describe(s)
		if len(s.Sub) > 1 {
			words[i] = "(" + words[i] + ")"
		}
	}
	return strings.Join(words, sep)
}

// DescribeRoom puts a need into words: "2 cores and 1 gpu".
func DescribeRoom(r Room) string {
	words := []string{plural(int(r.Cores), "core")}
	if r.GPUs > 0 {
		words = append(words, describeGPUs(r.GPUs))
	}
	if r.MemMiB > 0 {
		words = append(words, fmt.Sprintf("%d MiB of memory", r.MemMiB))
	}
	return strings.Join(words, " and ")
}

func describeGPUs(hundredths int32) string {
	if hundredths < WholeGPU {
		return fmt.Sprintf("%.2g of a gpu", float64(hundredths)/WholeGPU)
	}
	return plural(int(hundredths/WholeGPU), "gpu")
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
