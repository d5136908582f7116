package jobspec

import (
	"fmt"
	"strings"
)

// ParseQuery reads a constraint in the query syntax of Flux RFC 35: terms "operator:operand" (or an operand alone, which gets the
// operator defaultOp), joined by & | not ( ) and their words, "-" as not; neighbours are joined by and. An empty query gives nil.
// Operands of properties are split at commas; host, hosts and rank are short for hostlist and ranks.
func ParseQuery(text, defaultOp string) (*Constraint, error) {
	toks, err := tokenize(text)
	if err != nil {
		return nil, fmt.Errorf("constraint %q: %w", clip(text), err)
	}
	if len(toks) == 0 {
		return nil, nil
	}
	p := queryParser{toks: toks, op: defaultOp}
	c, err := p.or(0)
	if err == nil && p.i < len(toks) {
		err = fmt.Errorf("unexpected %q", p.toks[p.i].text)
	}
	if err != nil {
		return nil, fmt.Errorf("constraint %q: %w", clip(text), err)
	}
	return c, nil
}

// token is a word, or one of ( ) & | not -.
type token struct {
	kind byte // 'w' for words, '!' for not, else the character
	text string
}

func tokenize(s string) ([]token, error) {
	var toks []token
	for i := 0; i < len(s); {
		switch c := s[i]; c {
		case ' ', '\t', '\n', '\r':
			i++
		case '(', ')':
			toks = append(toks, token{c, string(c)})
			i++
		case '&', '|':
			i++
			if i < len(s) && s[i] == c {
				i++
			}
			toks = append(toks, token{c, string(c)})
		default:
			tok, n, err := word(s[i:])
			if err != nil {
				return nil, err
			}
			toks = append(toks, tok...)
			i += n
		}
	}
	return toks, nil
}

// word reads a term with its leading "-" at the start of s.
func word(s string) (toks []token, n int, err error) {
	if s[0] == '-' {
		if n++; n == len(s) || strings.IndexByte(" \t\n\r()|&", s[n]) >= 0 {
			return nil, 0, fmt.Errorf("- must stand before a term; use not before parentheses")
		}
		toks = append(toks, token{'-', "-"})
	}
	start := n
	for n < len(s) && strings.IndexByte(" \t\n\r'\"()|&", s[n]) < 0 {
		n++
	}
	text := s[start:n]
	if n < len(s) && (s[n] == '\'' || s[n] == '"') && (text == "" || strings.HasSuffix(text, ":")) {
		end := strings.IndexByte(s[n+1:], s[n])
		if end < 0 {
			return nil, 0, fmt.Errorf("a closing quote is missing")
		}
		return append(toks, token{'w', text + s[n+1:n+1+end]}), n + end + 2, nil
	}
	if kind, ok := map[string]byte{"and": '&', "or": '|', "not": '!'}[text]; ok {
		if len(toks) > 0 {
			return nil, 0, fmt.Errorf("- must stand before a term")
		}
		return []token{{kind, text}}, n, nil
	}
	return append(toks, token{'w', text}), n, nil
}

type queryParser struct {
	toks []token
	i    int
	op   string
}

func (p *queryParser) peek() byte {
	if p.i < len(p.toks) {
		return p.toks[p.i].kind
	}
	return 0
}

// or parses and-expressions joined by |.
func (p *queryParser) or(depth int) (*Constraint, error) {
	if depth > maxConstraintDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxConstraintDepth)
	}
	parts, err := p.chain('|', depth, p.and)
	return join("or", parts), err
}

// and parses terms joined by & or by standing side by side.
func (p *queryParser) and(depth int) (*Constraint, error) {
	first, err := p.not(depth)
	parts := []*Constraint{first}
	for err == nil {
		switch p.peek() {
		case '&':
			p.i++
		case 'w', '-', '!', '(':
		default:
			return join("and", mergeProperties(parts)), nil
		}
		var c *Constraint
		c, err = p.not(depth)
		parts = append(parts, c)
	}
	return nil, err
}

func (p *queryParser) chain(sep byte, depth int, next func(int) (*Constraint, error)) ([]*Constraint, error) {
	var parts []*Constraint
	for {
		c, err := next(depth)
		if err != nil {
			return nil, err
		}
		parts = append(parts, c)
		if p.peek() != sep {
			return parts, nil
		}
		p.i++
	}
}

func (p *queryParser) not(depth int) (*Constraint, error) {
	if depth > maxConstraintDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxConstraintDepth)
	}
	kind := p.peek()
	if kind == 0 {
		return nil, fmt.Errorf("a term is missing at the end")
	}
	tok := p.toks[p.i]
	p.i++
	switch kind {
	case '!', '-':
		c, err := p.not(depth + 1)
		return &Constraint{Op: "not", Sub: []*Constraint{c}}, err
	case '(':
		c, err := p.or(depth + 1)
		if err == nil && p.peek() != ')' {
			err = fmt.Errorf("a closing parenthesis is missing")
		}
		p.i++
		return c, err
	case 'w':
		return p.term(tok.text)
	}
	return nil, fmt.Errorf("unexpected %q", tok.text)
}

var opAlias = map[string]string{"host": "hostlist", "hosts": "hostlist", "rank": "ranks", "property": "properties"}

func (p *queryParser) term(text string) (*Constraint, error) {
	op, operand, found := strings.Cut(text, ":")
	if !found {
		op, operand = p.op, text
	}
	if long, ok := opAlias[op]; ok {
		op = long
	}
	if operand == "" {
		return nil, fmt.Errorf("an operand is missing after %q", clip(text))
	}
	names := []string{operand}
	if op == "properties" {
		names = strings.Split(operand, ",")
	}
	return newTerm(op, names)
}

// mergeProperties makes one term of neighbouring terms with the operator properties.
func mergeProperties(parts []*Constraint) []*Constraint {
	out := parts[:1]
	for _, c := range parts[1:] {
		last := out[len(out)-1]
		if last.Op == "properties" && c.Op == "properties" {
			out[len(out)-1] = &Constraint{Op: "properties", Names: append(append([]string(nil), last.Names...), c.Names...)}
			continue
		}
		out = append(out, c)
	}
	return out
}

func join(op string, parts []*Constraint) *Constraint {
	if len(parts) == 1 {
		return parts[0]
	}
	return &Constraint{Op: op, Sub: parts}
}
