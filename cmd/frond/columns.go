package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// columns prints rows aligned under headings, for tables whose columns the user does not choose. On a terminal lines are cut at its width.
func columns(w io.Writer, headings string, rows [][]any) error {
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.ReplaceAll(headings, " ", "\t"))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, v := range row {
			cells[i] = escaped(fmt.Sprint(v))
		}
		fmt.Fprintln(tw, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	width := terminalWidth(w)
	for line := range strings.Lines(b.String()) {
		writeLine(out, cutColumns(strings.TrimSuffix(line, "\n"), width))
	}
	return flush(out)
}
