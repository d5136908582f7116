package jobspec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
)

// Constraint is a condition on nodes (Flux RFC 31): one operator with its operands. Immutable. Make it with ParseConstraint or
// ParseQuery, which check the operands; nil matches everything.
type Constraint struct {
	Op    string        // properties, hostlist, ranks, and, or, not; "" matches everything
	Names []string      // operands of properties, hostlist (host lists) and ranks (idsets)
	Sub   []*Constraint // operands of and, or, not

	hosts map[string]struct{} // of hostlist, expanded
	ranks idset.Set           // of ranks, united
}

// Target is what a constraint is matched against: a node.
type Target interface {
	Rank() int // as in R
	Host() string
	HasProperty(name string) bool
}

// maxConstraintDepth bounds a query's nesting, as MaxDepth bounds that of a jobspec.
const maxConstraintDepth = MaxDepth

// newTerm makes and checks a constraint with names as operands.
func newTerm(op string, names []string) (*Constraint, error) {
	c := &Constraint{Op: op, Names: names}
	switch op {
	case "properties":
		return c, checkProperties(names)
	case "hostlist":
		return c, c.expandHosts()
	case "ranks":
		return c, c.uniteRanks()
	}
	return nil, fmt.Errorf("unknown operator %q: use properties, hostlist, ranks, and, or, not", clip(op))
}

// matchHost looks in the expanded set, and in the operands themselves if c was not made by a parser.
func (c *Constraint) matchHost(host string) bool {
	if c.hosts == nil {
		made, err := newTerm(c.Op, c.Names)
		return err == nil && made.matchHost(host)
	}
	_, ok := c.hosts[host]
	return ok
}

// matchRank is matchHost for ranks.
func (c *Constraint) matchRank(rank int) bool {
	if c.ranks.Empty() && len(c.Names) > 0 {
		made, err := newTerm(c.Op, c.Names)
		return err == nil && made.ranks.Has(rank)
	}
	return c.ranks.Has(rank)
}

func checkProperties(names []string) error {
	for _, n := range names {
		if CheckProperty(strings.TrimPrefix(n, "^")) != nil {
			return fmt.Errorf("invalid property name %q", clip(n))
		}
	}
	return nil
}

// CheckProperty refuses what cannot be the name of a property (RFC 20).
func CheckProperty(name string) error {
	control := strings.IndexFunc(name, func(r rune) bool { return r < ' ' }) >= 0
	if name == "" || control || strings.ContainsAny(name, "!&'\"^`|()") {
		return fmt.Errorf("invalid property name %q: it must not be empty, and not have any of !&'\"^`|()", clip(name))
	}
	return nil
}

func (c *Constraint) expandHosts() error {
	c.hosts = map[string]struct{}{}
	for _, n := range c.Names {
		hosts, err := hostlist.Parse(n)
		if err != nil {
			return err
		}
		for _, h := range hosts {
			c.hosts[h] = struct{}{}
		}
	}
	return nil
}

func (c *Constraint) uniteRanks() error {
	for _, n := range c.Names {
		s, err := idset.Parse(n)
		if err != nil {
			return err
		}
		c.ranks = c.ranks.Union(s)
	}
	return nil
}

// Match tells whether t satisfies c. "and" and "or" without operands match, "not" without operands does not (RFC 31).
func (c *Constraint) Match(t Target) bool {
	if c == nil {
		return true
	}
	switch c.Op {
	case "":
		return true
	case "properties":
		return c.matchProperties(t)
	case "hostlist":
		return c.matchHost(t.Host())
	case "ranks":
		return c.matchRank(t.Rank())
	case "or":
		return len(c.Sub) == 0 || slices.ContainsFunc(c.Sub, func(s *Constraint) bool { return s.Match(t) })
	case "not":
		return !c.all(t)
	}
	return c.all(t)
}

func (c *Constraint) all(t Target) bool {
	return !slices.ContainsFunc(c.Sub, func(s *Constraint) bool { return !s.Match(t) })
}

func (c *Constraint) matchProperties(t Target) bool {
	for _, n := range c.Names {
		name, negated := strings.CutPrefix(n, "^")
		if t.HasProperty(name) == negated {
			return false
		}
	}
	return true
}

// ParseConstraint reads the JSON form as encoding/json decodes it: an object with one operator and an array of operands. An empty
// object gives nil. Errors name the place within v.
func ParseConstraint(v any) (*Constraint, error) { return parseConstraint(fromMaps(v)) }

func parseConstraint(v any) (*Constraint, error) {
	obj, err := asObject(v)
	if err != nil || len(obj) == 0 {
		return nil, err
	}
	if len(obj) > 1 {
		return nil, bad("must have one operator, not %d", len(obj))
	}
	op := obj[0].key
	list, err := asList(obj[0].v)
	if err != nil {
		return nil, at(clip(op), err)
	}
	c, err := parseOperator(op, list)
	return c, at(clip(op), err)
}

func parseOperator(op string, list []any) (*Constraint, error) {
	if op == "and" || op == "or" || op == "not" {
		return parseSub(op, list)
	}
	names, err := asStrings(list)
	if err != nil {
		return nil, err
	}
	return newTerm(op, names)
}

func parseSub(op string, list []any) (*Constraint, error) {
	c := &Constraint{Op: op}
	for i, v := range list {
		sub, err := parseConstraint(v)
		if err != nil {
			return nil, at(fmt.Sprintf("[%d]", i), err)
		}
		if sub == nil {
			sub = &Constraint{}
		}
		c.Sub = append(c.Sub, sub)
	}
	return c, nil
}

// Value returns the JSON form as Go values, nil for a nil c.
func (c *Constraint) Value() any {
	if c == nil {
		return nil
	}
	if c.Op == "" {
		return map[string]any{}
	}
	list := []any{}
	for _, n := range c.Names {
		list = append(list, n)
	}
	for _, s := range c.Sub {
		list = append(list, s.Value())
	}
	return map[string]any{c.Op: list}
}

// Key returns a text that is equal for equal constraints, to group by; "" for nil.
func (c *Constraint) Key() string {
	if c == nil {
		return ""
	}
	var b strings.Builder
	c.writeKey(&b)
	return b.String()
}

func (c *Constraint) writeKey(b *strings.Builder) {
	b.WriteString(c.Op)
	b.WriteByte('(')
	for i, n := range c.Names {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, "%q", n)
	}
	for i, s := range c.Sub {
		if i > 0 {
			b.WriteByte(',')
		}
		s.writeKey(b)
	}
	b.WriteByte(')')
}
