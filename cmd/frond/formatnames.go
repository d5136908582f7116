package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

// pickFormat is the format that was asked for: a name, a format string, or what the environment or the default says.
func pickFormat(e *env, asked, variable string, named map[string]string, known headers) (*format, error) {
	if asked == "" {
		asked = e.getenv(variable)
	}
	if asked == "" {
		asked = e.config[formatKey(variable)].Text()
	}
	if asked == "" {
		asked = "default"
	}
	if f, ok := named[asked]; ok {
		asked = f
	} else if !strings.Contains(asked, "{") {
		return nil, fmt.Errorf("unknown format name %q: there are %s; or give a format with fields in braces", asked, strings.Join(formatNames(named), ", "))
	}
	return parseFormat(asked, known)
}

func formatNames(named map[string]string) []string {
	names := make([]string, 0, len(named))
	for n := range named {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// printFormats lists named formats and fields (-o help).
func printFormats(w io.Writer, verb string, named, fields map[string]string) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "Formats of %s:\n", verb)
	for _, n := range formatNames(named) {
		fmt.Fprintf(out, "  %-10s %s\n", n, named[n])
	}
	fmt.Fprintf(out, "\nFields:\n")
	for _, n := range formatNames(fields) {
		fmt.Fprintf(out, "  %s\n", n)
	}
	return flush(out)
}
