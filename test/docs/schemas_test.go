package docs

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// schema is the part of JSON Schema that docs/schema uses.
type schema struct {
	Schema      string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        any                `json:"type,omitempty"` // a name or a list of them
	Properties  map[string]*schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Additional  *any               `json:"additionalProperties,omitempty"` // false, or nothing
	Items       *schema            `json:"items,omitempty"`
}

// types are the names in Type.
func (s *schema) types() []string {
	switch t := s.Type.(type) {
	case string:
		return []string{t}
	case []any:
		var names []string
		for _, n := range t {
			names = append(names, fmt.Sprint(n))
		}
		return names
	case []string:
		return t
	}
	return nil
}

// typeOf names the type of a value.
func typeOf(v any) string {
	switch x := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case json.Number:
		if _, err := x.Int64(); err == nil {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

// check tells where v is not as s says.
func (s *schema) check(at string, v any) error {
	t, names := typeOf(v), s.types()
	if len(names) > 0 && !slices.Contains(names, t) && !(t == "integer" && slices.Contains(names, "number")) {
		return fmt.Errorf("%s is of type %s, not %v", at, t, names)
	}
	switch x := v.(type) {
	case []any:
		for i, e := range x {
			if s.Items == nil {
				break
			}
			if err := s.Items.check(fmt.Sprintf("%s[%d]", at, i), e); err != nil {
				return err
			}
		}
	case map[string]any:
		return s.checkObject(at, x)
	}
	return nil
}

func (s *schema) checkObject(at string, v map[string]any) error {
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			return fmt.Errorf("%s.%s is missing", at, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		p := s.Properties[name]
		if p == nil && s.Additional != nil {
			return fmt.Errorf("%s.%s is not in the schema", at, name)
		}
		if p == nil {
			continue
		}
		if err := p.check(at+"."+name, v[name]); err != nil {
			return err
		}
	}
	return nil
}

// infer is a schema for what was seen; free objects have keys that are data.
func infer(at string, seen []any, free map[string]bool) *schema {
	if free["*"+at] { // anything
		return &schema{}
	}
	s := &schema{}
	var names []string
	var items []any
	fields, count := map[string][]any{}, map[string]int{}
	objects := 0
	for _, v := range seen {
		if t := typeOf(v); !slices.Contains(names, t) {
			names = append(names, t)
		}
		switch x := v.(type) {
		case []any:
			items = append(items, x...)
		case map[string]any:
			objects++
			for k, e := range x {
				fields[k] = append(fields[k], e)
				count[k]++
			}
		}
	}
	if slices.Contains(names, "number") {
		names = slices.DeleteFunc(names, func(n string) bool { return n == "integer" })
	}
	slices.Sort(names)
	s.Type = names
	if len(names) == 1 {
		s.Type = names[0]
	}
	if len(items) > 0 {
		s.Items = infer(at+"[]", items, free)
	}
	if objects == 0 || free[at] {
		return s
	}
	var no any = false
	s.Additional = &no
	s.Properties = map[string]*schema{}
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		s.Properties[k] = infer(at+"."+k, fields[k], free)
		if count[k] == objects {
			s.Required = append(s.Required, k)
		}
	}
	return s
}
