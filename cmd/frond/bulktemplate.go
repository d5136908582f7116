package main

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// bulkTemplate is a text with replacement fields of bulksubmit: {} {0} {0.%} {seq}. {cc} and Flux's {{…}} stay as they are.
type bulkTemplate []bulkField

// bulkField is text, or a field.
type bulkField struct {
	text    string
	field   bool
	index   int // of the input; -1 = seq, -2 = seq1
	methods []string
}

// Fields that are no inputs.
const (
	bulkSeq  = -1
	bulkSeq1 = -2
)

// parseBulk reads a template. As in Python's format, {} are the inputs one after the other.
func parseBulk(s string) (bulkTemplate, error) {
	var t bulkTemplate
	auto, lit := 0, 0
	for i := 0; i < len(s); i++ {
		if s[i] != '{' {
			continue
		}
		if strings.HasPrefix(s[i:], "{{") {
			n := strings.Index(s[i:], "}}")
			if n < 0 {
				return nil, fmt.Errorf("%q: {{ is not closed by }}", s)
			}
			i += n + 1
			continue
		}
		n := strings.IndexByte(s[i:], '}')
		if n < 0 {
			return nil, fmt.Errorf("%q: { is not closed by }", s)
		}
		name := s[i+1 : i+n]
		if name != "cc" {
			f, err := bulkFieldOf(name, &auto)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", s, err)
			}
			t = append(t, bulkField{text: s[lit:i]}, f)
			lit = i + n + 1
		}
		i += n
	}
	return append(t, bulkField{text: s[lit:]}), nil
}

func bulkFieldOf(name string, auto *int) (bulkField, error) {
	which, methods, dotted := strings.Cut(name, ".")
	f := bulkField{field: true}
	if dotted {
		f.methods = strings.Split(methods, ".")
	}
	for _, m := range f.methods {
		if _, ok := bulkMethod(m, ""); !ok {
			return f, fmt.Errorf("{%s}: there is no %q: %% without extension, / without directory, // the directory, /%% both", name, "."+m)
		}
	}
	switch n, err := strconv.Atoi(which); {
	case which == "":
		f.index = *auto
		*auto++
	case which == "seq":
		f.index = bulkSeq
	case which == "seq1":
		f.index = bulkSeq1
	case err == nil && n >= 0:
		f.index = n
	default:
		return f, fmt.Errorf("{%s} is not known: {}, {0} {1} …, {seq}, {seq1} and {cc} are", name)
	}
	return f, nil
}

// bulkMethod applies a method of an input.
func bulkMethod(m, s string) (string, bool) {
	switch m {
	case "%":
		return strings.TrimSuffix(s, path.Ext(s)), true
	case "/":
		return s[strings.LastIndexByte(s, '/')+1:], true
	case "//":
		return s[:max(strings.LastIndexByte(s, '/'), 0)], true
	case "/%":
		s = s[strings.LastIndexByte(s, '/')+1:]
		return strings.TrimSuffix(s, path.Ext(s)), true
	}
	return s, false
}

// fields tells whether there is anything to replace.
func (t bulkTemplate) fields() bool {
	for i := range t {
		if t[i].field {
			return true
		}
	}
	return false
}

// format makes the text for the inputs of submission number seq.
func (t bulkTemplate) format(inputs []string, seq int) (string, error) {
	var b strings.Builder
	for i := range t {
		f := &t[i]
		s := f.text
		switch {
		case !f.field:
		case f.index == bulkSeq:
			s = strconv.Itoa(seq)
		case f.index == bulkSeq1:
			s = strconv.Itoa(seq + 1)
		case f.index >= len(inputs):
			return "", fmt.Errorf("{%d} names an input that is not there: there are %d", f.index, len(inputs))
		default:
			s = inputs[f.index]
		}
		for _, m := range f.methods {
			s, _ = bulkMethod(m, s)
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

// withParams is the template with {{param.N}} for its fields, which are appended to fields.
func (t bulkTemplate) withParams(fields *[]bulkField) string {
	var b strings.Builder
	for i := range t {
		if !t[i].field {
			b.WriteString(t[i].text)
			continue
		}
		fmt.Fprintf(&b, "{{param.%d}}", len(*fields))
		*fields = append(*fields, t[i])
	}
	return b.String()
}
