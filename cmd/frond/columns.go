package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// columns prints rows aligned under headings, for tables whose columns the user does not choose.
func columns(w io.Writer, headings string, rows [][]any) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.ReplaceAll(headings, " ", "\t"))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, v := range row {
			cells[i] = escaped(fmt.Sprint(v))
		}
		fmt.Fprintln(tw, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	return tw.Flush()
}
