package main

import (
	"bufio"
	"bytes"
	"cmp"
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
	in, err := e.openInput(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	defer in.Close()
	lists, n, err := read(in)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %s: %w", option, path, err)
	case n == 0:
		return nil, fmt.Errorf("%s: %s is empty: there is nothing to submit", option, path)
	}
	one := o.replace(tag, "{{param.0}}")
	for _, v := range vars {
		one.setopt = append(one.setopt, "env-expand."+v)
	}
	item.N = n
	b := &batch{}
	return b, b.addParams(one, os.Environ(), item, lists)
}

// maxInput bounds what is read to make jobs of: there are inputs without an end.
const maxInput = 1 << 30

// maxValue is how long a line or item may be: Linux takes no longer argument or variable, and each job has it as a variable.
const maxValue = 128<<10 - len("FROND_ENTRY=") - 1

// openInput opens a file, standard input for "-", of which a bounded part can be read.
func (e *env) openInput(path string) (io.ReadCloser, error) {
	if path == "-" {
		return boundedInput(path, io.NopCloser(e.stdin)), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return boundedInput(path, f), nil
}

// bounded reads at most maxInput bytes, and fails behind them.
type bounded struct {
	io.ReadCloser
	path string
	left int
}

func boundedInput(path string, in io.ReadCloser) *bounded { return &bounded{in, path, maxInput} }

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("it is larger than %d MiB: submit it in parts", maxInput>>20)
	}
	return n, err
}

// readLines gives each line, without its end, as the only parameter. What cannot be lines for elements is not read to its end.
func readLines(in io.Reader) (iter.Seq[[]string], int, error) {
	var text []byte
	var ends []int // of the lines in text
	lines := bufio.NewReaderSize(in, maxValue+2)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			n := len(ends) + 1
			line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
			switch {
			case bytes.IndexByte(line, 0) >= 0:
				return nil, 0, fmt.Errorf("line %d holds a NUL byte", n)
			case len(line) > maxValue:
				return nil, 0, fmt.Errorf("line %d is longer than %d bytes, the most that a command can be given", n, maxValue)
			case n > maxArray:
				return nil, 0, fmt.Errorf("it has more than %d lines; an array has no more elements", maxArray)
			}
			text = append(text, line...)
			ends = append(ends, len(text))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
	}
	return func(yield func([]string) bool) {
		from := 0
		for _, end := range ends {
			if !yield([]string{string(text[from:end])}) {
				return
			}
			from = end
		}
	}, len(ends), nil
}

// readEntries gives each item of a JSON array as two parameters: as text (of a string what it holds), and as JSON.
func readEntries(in io.Reader) (iter.Seq[[]string], int, error) {
	dec := json.NewDecoder(in)
	if begin, err := dec.Token(); err != nil || begin != json.Delim('[') {
		return nil, 0, fmt.Errorf("is not a JSON array: %w", cmp.Or(unended(err), errors.New("it does not begin with [")))
	}
	var items []json.RawMessage
	for dec.More() {
		var item json.RawMessage
		if err := dec.Decode(&item); err != nil {
			return nil, 0, fmt.Errorf("is not a JSON array: item %d: %w", len(items)+1, unended(err))
		}
		items = append(items, item)
		switch n := len(items); {
		case strings.IndexByte(entryText(item), 0) >= 0:
			return nil, 0, fmt.Errorf("item %d holds a NUL character", n)
		case len(item) > maxValue:
			return nil, 0, fmt.Errorf("item %d is longer than %d bytes, the most that a command can be given", n, maxValue)
		case n > maxArray:
			return nil, 0, fmt.Errorf("it has more than %d items; an array has no more elements", maxArray)
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, 0, fmt.Errorf("is not a JSON array: %w", unended(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, 0, errors.New("is not a JSON array: something stands behind its end")
	}
	return func(yield func([]string) bool) {
		for _, item := range items {
			if !yield([]string{entryText(item), string(item)}) {
				return
			}
		}
	}, len(items), nil
}

// entryText is an item as text: of a string what it holds.
func entryText(item json.RawMessage) string {
	var text string
	if item[0] == '"' && json.Unmarshal(item, &text) == nil {
		return text
	}
	return string(item)
}

// unended is an error of reading JSON, in words where the text is over too soon.
func unended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends too soon")
	}
	return err
}
