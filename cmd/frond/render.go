package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"syscall"

	"github.com/mattn/go-runewidth"
)

// The renderer: every verb that lists something hands its records to a table or to writeJSON, none prints by itself.

// table prints records in a format.
type table struct {
	format   *format
	noHeader bool
	color    func(r record) string // the ANSI color of a row, "" = none; nil = no colors
	// width is after how many columns lines are cut: 0 = those of the terminal, if w is one; negative = they are not.
	width int
}

// write prints all rows.
func (t *table) write(w io.Writer, rows []record) error {
	f := t.format
	if f.adaptive() {
		f = f.fit(rows)
	}
	out := bufio.NewWriter(w)
	width := t.width
	if width == 0 {
		width = terminalWidth(w)
	}
	if !t.noHeader {
		writeLine(out, cutColumns(f.header(), width))
	}
	for _, r := range rows {
		t.writeRow(out, cutColumns(f.row(r), width), r)
	}
	return flush(out)
}

// cutColumns is a line without what lies behind so many columns; 0 or less = all of it. Characters of East Asia take two.
func cutColumns(line string, width int) string {
	if width <= 0 || len(line) <= width {
		return line
	}
	return runewidth.Truncate(line, width, "")
}

func (t *table) writeRow(out *bufio.Writer, line string, r record) {
	if t.color == nil {
		writeLine(out, line)
		return
	}
	c := t.color(r)
	if c == "" {
		writeLine(out, line)
		return
	}
	out.WriteString(c)
	out.WriteString(strings.TrimRight(line, " "))
	out.WriteString(colorOff + "\n")
}

// writeLine writes a line without the blanks that padding left at its end. Errors stick in out.
func writeLine(out *bufio.Writer, line string) {
	out.WriteString(strings.TrimRight(line, " "))
	out.WriteByte('\n')
}

// flush ends writing. A reader that has gone away is no error: there is nobody left to tell.
func flush(out *bufio.Writer) error {
	if err := out.Flush(); err != nil && !errors.Is(err, syscall.EPIPE) {
		return err
	}
	return nil
}

// The colors, as ANSI codes.
const (
	colorOff    = "\x1b[0m"
	colorRed    = "\x1b[31m"
	colorYellow = "\x1b[33m"
	colorBlue   = "\x1b[34m"
	colorFaint  = "\x1b[2m"
)

// writeJSON prints v as one line of JSON, without escapes for HTML.
func writeJSON(w io.Writer, v any) error {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	return flush(out)
}

// jsonArray prints {"NAME":[…]} element by element, so that a long list is never held as a whole.
type jsonArray struct {
	out *bufio.Writer
	enc *json.Encoder
	n   int
}

func newJSONArray(w io.Writer, name string) *jsonArray {
	a := &jsonArray{out: bufio.NewWriter(w)}
	a.enc = json.NewEncoder(a.out)
	a.enc.SetEscapeHTML(false)
	a.out.WriteString(`{"` + name + `":[`)
	return a
}

// add prints one element. Errors of the writer show at close.
func (a *jsonArray) add(v any) error {
	if a.n++; a.n > 1 {
		a.out.WriteByte(',')
	}
	return a.enc.Encode(v)
}

func (a *jsonArray) close() error {
	a.out.WriteString("]}\n")
	return flush(a.out)
}
