package jobspec

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// DirectiveError is what is wrong in a line of a script, counted from 1.
type DirectiveError struct {
	Line int
	Msg  string
}

// Error names the line.
func (e *DirectiveError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// Directive is the options of one line, or of a text that begins there.
type Directive struct {
	Line int
	Args []string
}

// sentinel finds a directive in a line: a prefix without letters, a tag, and the rest (Flux RFC 36).
var sentinel = regexp.MustCompile(`^([^\w]*)(flux|FLUX|frond|FROND):(.*)$`)

// Directives reads the submission directives of a script (Flux RFC 36; the tag may be frond, too): lines such as "#FROND: -N4 -t 1h"
// before the first line that does not begin as they do. The error is a *DirectiveError.
func Directives(script string) ([]Directive, error) {
	d := &directives{}
	for i, line := range strings.Split(script, "\n") {
		if err := d.take(i+1, strings.TrimSuffix(line, "\r")); err != nil {
			return nil, err
		}
	}
	if d.quote != "" {
		return nil, &DirectiveError{d.quoteLine, "the " + d.quote + " that begins here has no end"}
	}
	return d.list, nil
}

type directives struct {
	list   []Directive
	prefix string // of the first directive
	tag    string
	over   int // line at which the directives ended; 0 = not yet

	quote     string // the triple quote of a text of several lines that is open; "" = none
	quoteLine int
	head      string // what stands before the quote
	indent    string
	text      strings.Builder
}

func (d *directives) take(n int, line string) error {
	m := sentinel.FindStringSubmatch(line)
	if m == nil {
		return d.plain(n, line)
	}
	switch {
	case d.over > 0 && d.prefix+d.tag == m[1]+m[2]:
		return &DirectiveError{n, fmt.Sprintf("a directive after the first line of the script itself, line %d", d.over)}
	case d.over > 0:
		return nil // the script's own text
	case d.tag == "":
		d.prefix, d.tag = m[1], m[2]
	case d.prefix+d.tag != m[1]+m[2]:
		return &DirectiveError{n, fmt.Sprintf("directives begin with %q here and with %q before: all must begin alike", m[1]+m[2]+":", d.prefix+d.tag+":")}
	}
	if d.quote != "" {
		return d.quoted(n, m[3])
	}
	return d.line(n, m[3])
}

// plain takes a line that is no directive: with the first that does not begin as they do, they end.
func (d *directives) plain(n int, line string) error {
	if d.quote != "" {
		return &DirectiveError{n, fmt.Sprintf("the %s of line %d has no end: all its lines must begin with %q", d.quote, d.quoteLine, d.prefix+d.tag+":")}
	}
	begins := d.tag == "" || strings.HasPrefix(line, strings.TrimRight(d.prefix, " \t"))
	if d.tag != "" && d.over == 0 && strings.TrimSpace(line) != "" && !begins {
		d.over = n
	}
	return nil
}

// line takes a directive's body.
func (d *directives) line(n int, body string) error {
	trimmed := strings.TrimRight(body, " \t")
	for _, q := range []string{`"""`, `'''`} {
		if strings.HasSuffix(trimmed, q) && strings.Count(trimmed, q)%2 == 1 {
			d.quote, d.quoteLine, d.head = q, n, strings.TrimSuffix(trimmed, q)
			d.indent = body[:len(body)-len(strings.TrimLeft(body, " \t"))]
			d.text.Reset()
			return nil
		}
	}
	return d.add(n, body)
}

// quoted takes a line of a text of several lines.
func (d *directives) quoted(n int, body string) error {
	if trimmed := strings.TrimRight(body, " \t"); strings.HasSuffix(trimmed, d.quote) {
		if rest := strings.TrimSuffix(trimmed, d.quote); strings.TrimSpace(rest) != "" {
			return &DirectiveError{n, fmt.Sprintf("%s ends a text on a line of its own, but here stands %q before it", d.quote, strings.TrimSpace(rest))}
		}
		words, err := splitWords(d.head)
		if err != nil {
			return &DirectiveError{d.quoteLine, err.Error()}
		}
		if len(words) == 0 {
			return &DirectiveError{d.quoteLine, "a text without an option before it"}
		}
		words[len(words)-1] += d.text.String()
		d.quote = ""
		return d.addWords(d.quoteLine, words)
	}
	d.text.WriteString(strings.TrimPrefix(body, d.indent) + "\n")
	return nil
}

func (d *directives) add(n int, body string) error {
	words, err := splitWords(body)
	if err != nil {
		return &DirectiveError{n, err.Error()}
	}
	return d.addWords(n, words)
}

func (d *directives) addWords(n int, words []string) error {
	if len(words) == 0 {
		return nil
	}
	if !strings.HasPrefix(words[0], "-") {
		return &DirectiveError{n, fmt.Sprintf("%q is no option: a directive has options, as on the command line", clip(words[0]))}
	}
	d.list = append(d.list, Directive{n, words})
	return nil
}

// splitWords splits a line as a shell does, with quotes and comments; three quotes in a row take everything as it is.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	in := false // in a word
	end := func() {
		if in {
			words = append(words, word.String())
			word.Reset()
			in = false
		}
	}
	for i := 0; i < len(s); {
		rest := s[i:]
		switch c := s[i]; {
		case c == ' ' || c == '\t':
			end()
			i++
		case c == '#' && !in:
			return words, nil
		case strings.HasPrefix(rest, `"""`) || strings.HasPrefix(rest, `'''`):
			text, _, ok := strings.Cut(rest[3:], rest[:3])
			if !ok {
				return nil, fmt.Errorf("%s without an end", rest[:3])
			}
			word.WriteString(text)
			in, i = true, i+6+len(text)
		case c == '\'' || c == '"':
			n, err := quotedWord(rest, &word)
			if err != nil {
				return nil, err
			}
			in, i = true, i+n
		case c == '\\' && i+1 < len(s):
			word.WriteByte(s[i+1])
			in, i = true, i+2
		default:
			word.WriteByte(c)
			in = true
			i++
		}
	}
	end()
	return slices.Clip(words), nil
}

// quotedWord reads a quoted part at the beginning of s and returns its length.
func quotedWord(s string, word *strings.Builder) (int, error) {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return i + 1, nil
		case s[i] == '\\' && s[0] == '"' && i+1 < len(s) && strings.IndexByte(`"\$`+"`", s[i+1]) >= 0:
			i++
			word.WriteByte(s[i])
		default:
			word.WriteByte(s[i])
		}
	}
	return 0, fmt.Errorf("a %c without an end", s[0])
}
