package main

import (
	"fmt"
	"strings"
)

// Output formats as Flux has them (-o): Python's format strings over named fields, with Flux's additions. A format is text with
// fields in braces, {name!conversion:spec}. See formatspec.go for conversions and specs. A field after "?:" is left out where
// it is empty in all rows; one after "+:" is as wide as its widest value; "?+:" does both.

// column is one field of a format with the text before it.
type column struct {
	before   string
	name     string // "" = text only (the end of the format)
	conv     byte   // 0 = none
	spec     spec
	layout   string // of !d: strftime directives
	header   string
	collapse bool
	widen    bool
}

// format is a parsed output format. It is immutable.
type format struct{ columns []column }

// headers gives the header of a field, and false where there is no such field.
type headers func(name string) (string, bool)

// record gives the value of a field: nil (unset), string, bool, int, uint64, float64 or jsonValue.
type record func(name string) any

// parseFormat parses s. Errors name the field or the place.
func parseFormat(s string, known headers) (*format, error) {
	f := &format{}
	text := ""
	for len(s) > 0 {
		lit, field, rest, err := cutField(s)
		if err != nil {
			return nil, err
		}
		text += lit
		s = rest
		if field == "" {
			continue
		}
		col, err := parseColumn(text, field, known)
		if err != nil {
			return nil, err
		}
		f.columns = append(f.columns, col)
		text = ""
	}
	if text != "" {
		f.columns = append(f.columns, column{before: text})
	}
	if len(f.columns) == 0 {
		return nil, fmt.Errorf("the format is empty")
	}
	return f, nil
}

// cutField cuts s at its first field (without braces; "" where a doubled brace or the end came first).
func cutField(s string) (text, field, rest string, err error) {
	i := strings.IndexAny(s, "{}")
	if i < 0 {
		return s, "", "", nil
	}
	if i+1 < len(s) && s[i+1] == s[i] {
		return s[:i+1], "", s[i+2:], nil
	}
	if s[i] == '}' {
		return "", "", "", fmt.Errorf("single '}' in format at %q", s[i:])
	}
	end := strings.IndexByte(s[i:], '}')
	if end < 0 {
		return "", "", "", fmt.Errorf("'{' without '}' in format at %q", s[i:])
	}
	if end == 1 {
		return "", "", "", fmt.Errorf("a field without a name in format at %q", s[i:])
	}
	return s[:i], s[i+1 : i+end], s[i+end+1:], nil
}

// parseColumn parses "name!conv:spec" after text.
func parseColumn(text, field string, known headers) (column, error) {
	c := column{before: text}
	c.before, c.collapse, c.widen = cutModifier(text)
	name, specText, _ := strings.Cut(field, ":")
	name, conv, hasConv := strings.Cut(name, "!")
	c.name = name
	if hasConv {
		if len(conv) != 1 || !strings.Contains("dDFHPsr", conv) {
			return c, fmt.Errorf("unknown conversion %q of field %q", "!"+conv, name)
		}
		c.conv = conv[0]
	}
	var ok bool
	if c.header, ok = known(name); !ok {
		return c, fmt.Errorf("unknown format field: %s", name)
	}
	if c.conv == 'd' {
		c.layout, specText = cutLayout(specText)
	}
	var err error
	if c.spec, err = parseSpec(specText); err != nil {
		return c, fmt.Errorf("field %q: %w", name, err)
	}
	return c, nil
}

// cutModifier takes ?: and +: from the end of the text before a field.
func cutModifier(text string) (rest string, collapse, widen bool) {
	for _, m := range []struct {
		suffix          string
		collapse, widen bool
	}{{"?+:", true, true}, {"?:", true, false}, {"+:", false, true}} {
		if rest, ok := strings.CutSuffix(text, m.suffix); ok {
			return rest, m.collapse, m.widen
		}
	}
	return text, false, false
}

// cutLayout cuts the spec of !d, "LAYOUT[h]" or "LAYOUT::SPEC".
func cutLayout(s string) (layout, spec string) {
	layout, spec, found := strings.Cut(s, "::")
	if !found && strings.HasSuffix(layout, "h") && !strings.HasSuffix(layout, "%h") {
		return layout[:len(layout)-1], "h"
	}
	return layout, spec
}

// cell is the text of column c in a row.
func (c *column) cell(r record) string {
	if c.name == "" {
		return ""
	}
	v := r(c.name)
	if s, ok := v.(string); ok {
		v = escaped(s)
	}
	return c.spec.apply(convert(v, c.conv, c.layout))
}

// title is the header of column c, laid out like its cells.
func (c *column) title() string {
	if c.name == "" {
		return ""
	}
	s := c.spec
	s.kind, s.hyphen, s.mark, s.zero, s.sign, s.comma = 0, false, false, false, 0, false
	if c.spec.isNumber() {
		s.prec = -1
	}
	if s.align == 0 && c.spec.isNumber() {
		s.align = '>'
	}
	return s.apply(c.header)
}

// adaptive tells whether the layout depends on all rows, so that none can be printed before all are known.
func (f *format) adaptive() bool {
	for _, c := range f.columns {
		if c.collapse || c.widen {
			return true
		}
	}
	return false
}

// fit is f with the columns that are empty in all rows left out and the adaptive widths set.
func (f *format) fit(rows []record) *format {
	out := &format{}
	for _, c := range f.columns {
		if c.collapse && emptyIn(&c, rows) {
			continue
		}
		if c.widen {
			c.spec.width = widest(&c, rows)
			c.spec.prec = -1
		}
		out.columns = append(out.columns, c)
	}
	return out
}

func emptyIn(c *column, rows []record) bool {
	for _, r := range rows {
		switch v := strings.TrimSpace(text(r(c.name))); v {
		case "", "0", "0.0", "False", "[]", "{}":
		default:
			return false
		}
	}
	return true
}

func widest(c *column, rows []record) int {
	bare := *c
	bare.spec.width, bare.spec.prec = 0, -1
	w := columnsOf(bare.title())
	for _, r := range rows {
		w = max(w, columnsOf(bare.cell(r)))
	}
	return w
}

// header is the line of headers.
func (f *format) header() string {
	var b strings.Builder
	for i := range f.columns {
		b.WriteString(f.columns[i].before)
		b.WriteString(f.columns[i].title())
	}
	return b.String()
}

// row is the line of one record.
func (f *format) row(r record) string {
	var b strings.Builder
	for i := range f.columns {
		b.WriteString(f.columns[i].before)
		b.WriteString(f.columns[i].cell(r))
	}
	return b.String()
}

// fields lists the names of the fields that f uses.
func (f *format) fields() []string {
	var names []string
	for _, c := range f.columns {
		if c.name != "" {
			names = append(names, c.name)
		}
	}
	return names
}
