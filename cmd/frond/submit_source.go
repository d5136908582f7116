package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/spf13/cobra"
)

// sourceOptions give the elements of an array something of their own from a file: a line, or an item of a JSON array.
type sourceOptions struct {
	eachLine string
	fromJSON string
}

func (s *sourceOptions) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.eachLine, "each-line", "", "one job for each line of `FILE` (- for standard input): {line} and FROND_LINE")
	f.StringVar(&s.fromJSON, "from-json", "", "one job for each item of the JSON array in `FILE`: {entry} and FROND_ENTRY")
	cmd.MarkFlagsMutuallyExclusive("each-line", "from-json")
	cmd.MarkFlagsMutuallyExclusive("array", "cc")
	cmd.MarkFlagsMutuallyExclusive("array", "bcc")
	for _, other := range []string{"cc", "bcc", "array"} {
		cmd.MarkFlagsMutuallyExclusive("each-line", other)
		cmd.MarkFlagsMutuallyExclusive("from-json", other)
	}
}

func (s *sourceOptions) given() bool { return s.eachLine+s.fromJSON != "" }

// batch makes the item: an array with an element for each line or entry. What stands for it in texts becomes a parameter.
func (s *sourceOptions) batch(e *env, o *submitOptions, item api.SubmitItem) (*batch, error) {
	if o.differs() {
		return nil, errors.New("{cc} in options goes with --cc only")
	}
	option, path, tag, read := "--each-line", s.eachLine, "{line}", readLines
	vars := []string{"FROND_LINE={{param.0}}"}
	if s.fromJSON != "" {
		option, path, tag, read = "--from-json", s.fromJSON, "{entry}", readEntries
		vars = []string{"FROND_ENTRY={{param.1}}"}
	}
	data, err := e.readInput(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	lists, n, err := read(data)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %s: %w", option, path, err)
	case n == 0:
		return nil, fmt.Errorf("%s: %s is empty: there is nothing to submit", option, path)
	case n > maxArray:
		return nil, fmt.Errorf("%s: %s makes %d jobs; an array has at most %d elements", option, path, n, maxArray)
	}
	one := o.replace(tag, "{{param.0}}")
	for _, v := range vars {
		one.setopt = append(one.setopt, "env-expand."+v)
	}
	item.N = n
	b := &batch{}
	return b, b.addParams(one, os.Environ(), item, lists)
}

// readInput reads a file, standard input for "-".
func (e *env) readInput(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(e.stdin)
	}
	return os.ReadFile(path)
}

// readLines gives each line, without its end, as the only parameter.
func readLines(data []byte) (iter.Seq[[]string], int, error) {
	n := bytes.Count(data, []byte("\n"))
	if len(data) > 0 && data[len(data)-1] != '\n' {
		n++
	}
	line := 0
	for text := range bytes.Lines(data) {
		if line++; bytes.IndexByte(text, 0) >= 0 {
			return nil, 0, fmt.Errorf("line %d holds a NUL byte", line)
		}
	}
	return func(yield func([]string) bool) {
		for text := range bytes.Lines(data) {
			text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
			if !yield([]string{string(text)}) {
				return
			}
		}
	}, n, nil
}

// readEntries gives each item of a JSON array as two parameters: as text (of a string what it holds), and as JSON.
func readEntries(data []byte) (iter.Seq[[]string], int, error) {
	var items []json.RawMessage
	if err := json.Unmarshal(data, &items); err != nil {
		return nil, 0, fmt.Errorf("is not a JSON array: %w", err)
	}
	lists := func(yield func([]string) bool) {
		for _, item := range items {
			var text string
			if json.Unmarshal(item, &text) != nil || item[0] != '"' {
				text = string(item)
			}
			if !yield([]string{text, string(item)}) {
				return
			}
		}
	}
	i := 0
	for list := range lists {
		if i++; strings.IndexByte(list[0], 0) >= 0 {
			return nil, 0, fmt.Errorf("item %d holds a NUL character", i)
		}
	}
	return lists, len(items), nil
}
