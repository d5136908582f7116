package jobspec

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Resources is a jobspec's resources section as --resources-shape and --resources-json give it: decoded JSON.
type Resources []any

// ParseShape reads a resource shape (Flux RFC 46), such as "node=2/slot=4/[core=8;gpu=1]" or "slot=10/[core;memory=4{unit:GB}]". A
// count is one number: ranges and sets, which Flux's language has too, are refused. A slot without a label gets "task".
func ParseShape(text string) (Resources, error) {
	p := &shapeParser{text: text}
	list, err := p.list(0)
	if err == nil && p.at < len(text) {
		err = p.bad("the shape should end here")
	}
	if err != nil {
		return nil, err
	}
	return overNodes(list), nil
}

// ParseResources reads the JSON of a resources section, or of an object with one as `resources`.
func ParseResources(data []byte) (Resources, error) {
	v, err := decodeJSON(data)
	if err != nil {
		return nil, err
	}
	if o, ok := v.(object); ok {
		v = o.get("resources")
	}
	list, ok := toMaps(v).([]any)
	if !ok {
		return nil, fmt.Errorf("is neither a list of resources nor an object with a list `resources`")
	}
	return overNodes(list), nil
}

// overNodes turns N slots of one node each, which version 1 of the jobspec cannot say, into N nodes with a slot each. A node of which
// nothing is said is a whole one. Everything else is left to the jobspec's checks.
func overNodes(list []any) []any {
	if len(list) != 1 {
		return list
	}
	slot, _ := list[0].(map[string]any)
	with, _ := slot["with"].([]any)
	if slot["type"] != "slot" || len(with) != 1 {
		return list
	}
	node, _ := with[0].(map[string]any)
	if node["type"] != "node" || node["count"] != 1.0 {
		return list
	}
	inner := map[string]any{"type": "slot", "count": 1.0, "label": slot["label"], "with": node["with"]}
	outer := map[string]any{"type": "node", "count": slot["count"], "with": []any{inner}}
	for k, v := range node {
		if outer[k] == nil {
			outer[k] = v
		}
	}
	if node["with"] == nil {
		inner["with"] = []any{map[string]any{"type": "core", "count": 1.0}}
		if node["exclusive"] == nil {
			outer["exclusive"] = true
		}
	}
	return []any{outer}
}

// label is the label of the only slot.
func (r Resources) label() string {
	for list := []any(r); len(list) == 1; {
		v, _ := list[0].(map[string]any)
		if v["type"] == "slot" {
			if label, ok := v["label"].(string); ok {
				return label
			}
		}
		list, _ = v["with"].([]any)
	}
	return "task"
}

type shapeParser struct {
	text string
	at   int
}

func (p *shapeParser) bad(format string, args ...any) error {
	return fmt.Errorf("%q, character %d: %s", clip(p.text), p.at+1, fmt.Sprintf(format, args...))
}

// take reads c if it is next.
func (p *shapeParser) take(c byte) bool {
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

// list reads a vertex, or several in brackets.
func (p *shapeParser) list(depth int) ([]any, error) {
	if depth > MaxDepth/2 {
		return nil, p.bad("nested too deep")
	}
	if !p.take('[') {
		v, err := p.vertex(depth)
		return []any{v}, err
	}
	var list []any
	for {
		v, err := p.vertex(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		switch {
		case p.take(']'):
			return list, nil
		case !p.take(';'):
			return nil, p.bad("want ';' or ']'")
		}
	}
}

func (p *shapeParser) vertex(depth int) (map[string]any, error) {
	typ, _, err := p.word("a type of resource, such as node, slot or core")
	if err != nil {
		return nil, err
	}
	v := map[string]any{"type": typ, "count": 1.0}
	if p.take('=') {
		if v["count"], err = p.count(); err != nil {
			return nil, err
		}
	}
	if typ == "slot" {
		v["label"] = "task"
	}
	if p.take('{') {
		if err := p.items(v); err != nil {
			return nil, err
		}
	}
	if p.take('/') {
		if v["with"], err = p.list(depth + 1); err != nil {
			return nil, err
		}
	} else if typ == "slot" {
		return nil, p.bad("a slot needs '/' and what is in it, such as slot/core")
	}
	return v, nil
}

// count reads one positive number.
func (p *shapeParser) count() (any, error) {
	start := p.at
	end := strings.IndexAny(p.text[p.at:], "{/;]")
	if end < 0 {
		end = len(p.text) - p.at
	}
	text := p.text[start : start+end]
	if n, err := strconv.ParseFloat(text, 64); err == nil && n > 0 && !math.IsInf(n, 0) && strings.Trim(text, "0123456789.") == "" {
		p.at += end
		return n, nil
	}
	if strings.ContainsAny(text, "[-+,:") && strings.ContainsAny(text, "0123456789") {
		return nil, p.bad("count %q is a range or a set; a job here asks for one number", clip(text))
	}
	return nil, p.bad("count %q is not a number ≥ 1", clip(text))
}

// items reads what stands in braces into v.
func (p *shapeParser) items(v map[string]any) error {
	for first := v["type"] == "slot"; ; first = false {
		sign := p.take('+')
		no := !sign && p.take('-')
		key, _, err := p.word("a key")
		if err != nil {
			return err
		}
		switch {
		case first && (sign || no || p.at < len(p.text) && p.text[p.at] == ':'):
			return p.bad("the label of a slot comes first, without a key")
		case first:
			v["label"] = key
		default:
			if key == "x" {
				key = "exclusive"
			}
			value := any(!no)
			if !sign && !no && p.take(':') {
				if value, err = p.value(); err != nil {
					return err
				}
			}
			if key == "type" || key == "count" || key == "with" {
				return p.bad("%s is not given in braces", key)
			}
			v[key] = value
		}
		switch {
		case p.take('}'):
			return nil
		case !p.take(','):
			return p.bad("want ',' or '}'")
		}
	}
}

// value reads a string, a number, true or false.
func (p *shapeParser) value() (any, error) {
	text, quoted, err := p.word("a value (a word, a number, true or false)")
	if err != nil || quoted {
		return text, err
	}
	if text == "true" || text == "false" {
		return text == "true", nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil && !math.IsInf(n, 0) && !math.IsNaN(n) {
		return n, nil
	}
	return text, nil
}

// word reads a string in quotes, or one without special characters.
func (p *shapeParser) word(what string) (text string, quoted bool, err error) {
	rest := p.text[p.at:]
	if strings.HasPrefix(rest, `"`) {
		q, err := strconv.QuotedPrefix(rest)
		if err == nil {
			text, err = strconv.Unquote(q)
		}
		if err != nil {
			return "", false, p.bad("a string without its end")
		}
		p.at += len(q)
		return text, true, nil
	}
	end := strings.IndexAny(rest, "[]{};/=,:\" \t\n")
	if end < 0 {
		end = len(rest)
	}
	if end == 0 {
		return "", false, p.bad("want %s", what)
	}
	p.at += end
	return rest[:end], false, nil
}
