package parallel

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// MaxRecord is the largest input record in bytes.
const MaxRecord = 16 << 20

// Source gives values, each a list of columns (one, unless records are split). It returns io.EOF at its end.
type Source interface {
	Next() ([]string, error)
}

// Reading is how records are read from an input.
type Reading struct {
	Delim   string // ends a record; empty = newline
	EOF     string // -E: this record ends the input; empty = none
	Columns *regexp.Regexp
	Trim    string // n l r lr rl; empty = n, or lr with Columns
	NoEmpty bool   // -r: records of white space alone are passed over
	Lines   int    // -L: so many nonblank lines are one value; 0 = each record is one
	// Warn is told of something odd, at most once for each kind; nil = nobody is.
	Warn func(kind string)
}

// Warnings of Reading.
const WarnNUL = "nul"

// reader reads records of a stream.
type reader struct {
	in    *bufio.Reader
	how   *Reading
	delim []byte
	name  string
	ended bool
}

// NewReader is a source that reads records; name is for errors.
func NewReader(in io.Reader, name string, how *Reading) Source {
	r := &reader{in: bufio.NewReaderSize(in, 64<<10), how: how, delim: []byte(how.Delim), name: name}
	if len(r.delim) == 0 {
		r.delim = []byte{'\n'}
	}
	return r
}

// NewList is a source of given values. One that holds the delimiter is several records, as in GNU parallel.
func NewList(values []string, how *Reading) Source {
	delim := how.Delim
	if delim == "" {
		delim = "\n"
	}
	var b strings.Builder
	for _, v := range values {
		b.WriteString(v)
		b.WriteString(delim)
	}
	return NewReader(strings.NewReader(b.String()), ":::", how)
}

// Next implements Source.
func (r *reader) Next() ([]string, error) {
	for {
		s, err := r.value()
		if err != nil {
			return nil, err
		}
		if r.how.EOF != "" && s == r.how.EOF {
			r.ended = true
			return nil, io.EOF
		}
		if r.how.NoEmpty && strings.TrimSpace(s) == "" {
			continue
		}
		return r.columns(s), nil
	}
}

// value is one record, or several lines with -L.
func (r *reader) value() (string, error) {
	s, err := r.record()
	for err == nil && r.how.Lines > 0 && strings.TrimRight(s, " \t") != s {
		var more string
		if more, err = r.record(); err != nil {
			return s, nil
		}
		s = s + more
	}
	return s, err
}

// record is what stands before the next delimiter.
func (r *reader) record() (string, error) {
	if r.ended {
		return "", io.EOF
	}
	var rec []byte
	last := r.delim[len(r.delim)-1]
	for {
		part, err := r.in.ReadSlice(last)
		rec = append(rec, part...)
		switch {
		case len(rec) > MaxRecord:
			return "", fmt.Errorf("%s: a record is longer than %d MiB", r.name, MaxRecord>>20)
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			r.ended = true
			if len(rec) == 0 {
				return "", io.EOF
			}
			return r.text(rec), nil
		case err != nil:
			return "", fmt.Errorf("%s: %w", r.name, err)
		case bytes.HasSuffix(rec, r.delim):
			return r.text(rec[:len(rec)-len(r.delim)]), nil
		}
	}
}

// text is a record as a value. NUL cannot stand in a command line.
func (r *reader) text(rec []byte) string {
	s := string(rec)
	if strings.IndexByte(s, 0) >= 0 {
		if r.how.Warn != nil {
			r.how.Warn(WarnNUL)
		}
		s = strings.ReplaceAll(s, "\x00", `\0`)
	}
	return s
}

func (r *reader) columns(s string) []string {
	cols := []string{s}
	trim := r.how.Trim
	if r.how.Columns != nil {
		cols = r.how.Columns.Split(s, -1)
		if trim == "" {
			trim = "lr"
		}
	}
	for i := range cols {
		cols[i] = trimmed(cols[i], trim)
	}
	return cols
}

func trimmed(s, how string) string {
	if strings.Contains(how, "l") {
		s = strings.TrimLeft(s, " \t\r\n\f\v")
	}
	if strings.Contains(how, "r") {
		s = strings.TrimRight(s, " \t\r\n\f\v")
	}
	return s
}

// Group is input sources that are read side by side (:::+); groups are combined each with each.
type Group []Source

// combiner goes through all combinations of its groups, the first group slowest.
type combiner struct {
	first  Group
	rest   [][][]string // the values of the other groups, whole
	head   []string     // of the first group
	at     []int        // in rest
	opened bool
}

// Combine is a source of all combinations of the groups. The values of all but the first are read at once.
func Combine(groups []Group) (Source, error) {
	c := &combiner{first: groups[0], at: make([]int, len(groups)-1)}
	for _, g := range groups[1:] {
		var values [][]string
		for {
			v, err := g.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			values = append(values, v)
		}
		c.rest = append(c.rest, values)
	}
	return c, nil
}

// next reads one value of each source of the group, side by side; the shortest ends it.
func (g Group) next() ([]string, error) {
	if len(g) == 1 {
		return g[0].Next()
	}
	var row []string
	for _, s := range g {
		v, err := s.Next()
		if err != nil {
			return nil, err
		}
		row = append(row, v...)
	}
	return row, nil
}

// Next implements Source.
func (c *combiner) Next() ([]string, error) {
	if !c.opened || !c.step() {
		head, err := c.first.next()
		if err != nil {
			return nil, err
		}
		c.head, c.opened = head, true
		for i := range c.at {
			if len(c.rest[i]) == 0 {
				return nil, io.EOF
			}
			c.at[i] = 0
		}
	}
	row := c.head[:len(c.head):len(c.head)]
	for i, at := range c.at {
		row = append(row, c.rest[i][at]...)
	}
	return row, nil
}

// step goes on to the next combination with the same head.
func (c *combiner) step() bool {
	for i := len(c.at) - 1; i >= 0; i-- {
		if c.at[i]++; c.at[i] < len(c.rest[i]) {
			return true
		}
		c.at[i] = 0
	}
	return false
}

// Link is a source that reads all sources side by side, beginning the short ones anew until the longest has ended (--link).
func Link(sources []Source) (Source, error) {
	l := &linked{}
	for _, s := range sources {
		var values [][]string
		for {
			v, err := s.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			values = append(values, v)
		}
		l.values = append(l.values, values)
		l.n = max(l.n, len(values))
	}
	return l, nil
}

type linked struct {
	values [][][]string
	n, at  int
}

// Next implements Source.
func (l *linked) Next() ([]string, error) {
	if l.at == l.n {
		return nil, io.EOF
	}
	var row []string
	for _, v := range l.values {
		if len(v) == 0 {
			row = append(row, "")
		} else {
			row = append(row, v[l.at%len(v)]...)
		}
	}
	l.at++
	return row, nil
}
