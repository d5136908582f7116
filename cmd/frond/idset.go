package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/resource/idset"
	"github.com/spf13/cobra"
)

type idsetOptions struct {
	expand    bool
	delimiter string
	count     bool
	nth       int
	brackets  bool
	intersect bool
	minus     bool
	xor       bool
	exclude   string
	limit     int
	quiet     bool
}

func newIdsetCmd(e *env) *cobra.Command {
	o := &idsetOptions{nth: -1}
	cmd := &cobra.Command{
		Use:   "idset [OPTIONS] [IDSET…]",
		Short: "Combine and print sets of numbers",
		Long: `Read sets of numbers, as in 0-3,7, unite them, or combine them as an option says, and print the result. Without an argument they are read from
standard input.

Exit codes: 0, or 1 when a set cannot be read, and with --quiet when the result is empty.`,
		Example: "  frond idset -e 0-3,7\n  frond idset -m 0-9 3,5",
		RunE:    func(_ *cobra.Command, args []string) error { return o.run(e, args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.expand, "expand", "e", false, "print every number")
	f.StringVarP(&o.delimiter, "delimiter", "d", " ", "what stands between the numbers of --expand")
	f.BoolVarP(&o.count, "count", "c", false, "print how many there are")
	f.IntVarP(&o.nth, "nth", "n", -1, "print the number at place `N`, from 0")
	f.BoolVarP(&o.brackets, "brackets", "b", false, "print more than one number as [0-3,7]")
	f.BoolVarP(&o.intersect, "intersect", "i", false, "the numbers that are in all sets")
	f.BoolVarP(&o.minus, "minus", "m", false, "the numbers of the first set that are in no other")
	f.BoolVarP(&o.xor, "xor", "X", false, "the numbers that are in an odd number of sets")
	f.StringVarP(&o.exclude, "exclude", "x", "", "without `IDSET`")
	f.IntVarP(&o.limit, "limit", "L", 0, "at most the first `N`")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing; the exit code tells whether there is a number")
	return cmd
}

func (o *idsetOptions) run(e *env, args []string) error {
	if o.intersect && (o.minus || o.xor) || o.minus && o.xor {
		return errors.New("--intersect, --minus and --xor exclude each other")
	}
	if len(args) == 0 {
		text, err := io.ReadAll(io.LimitReader(e.stdin, mostHosts))
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		args = strings.Fields(string(text))
	}
	var set idset.Set
	for i, a := range args {
		next, err := idset.Parse(a)
		if err != nil {
			return err
		}
		set = o.combine(i, set, next)
	}
	if o.exclude != "" {
		out, err := idset.Parse(o.exclude)
		if err != nil {
			return fmt.Errorf("--exclude: %w", err)
		}
		set = set.Minus(out)
	}
	return o.print(e, o.first(set))
}

func (o *idsetOptions) combine(i int, set, next idset.Set) idset.Set {
	switch {
	case i == 0:
		return next
	case o.intersect:
		return set.Intersect(next)
	case o.minus:
		return set.Minus(next)
	case o.xor:
		return set.Minus(next).Union(next.Minus(set))
	}
	return set.Union(next)
}

// first is the first --limit numbers.
func (o *idsetOptions) first(set idset.Set) idset.Set {
	if o.limit <= 0 || o.limit >= set.Len() {
		return set
	}
	last, _ := set.Nth(o.limit - 1)
	return set.Intersect(idset.FromRange(0, last))
}

func (o *idsetOptions) print(e *env, set idset.Set) error {
	text := set.String()
	switch {
	case o.quiet:
		if set.Empty() {
			return &exitError{Code: 1}
		}
		return nil
	case o.nth >= 0:
		id, ok := set.Nth(o.nth)
		if !ok {
			return fmt.Errorf("--nth %d: the set has %d numbers", o.nth, set.Len())
		}
		text = strconv.Itoa(id)
	case o.count:
		text = strconv.Itoa(set.Len())
	case o.expand:
		return o.expanded(e, set)
	case o.brackets:
		text = set.StringBrackets()
	}
	if text == "" {
		return nil
	}
	_, err := fmt.Fprintln(e.stdout, text)
	return err
}

// maxExpanded is how many numbers --expand prints: a set of four bytes can have a billion.
const maxExpanded = 10_000_000

func (o *idsetOptions) expanded(e *env, set idset.Set) error {
	if set.Empty() {
		return nil
	}
	if n := set.Len(); n > maxExpanded {
		return fmt.Errorf("--expand: %d numbers are over the limit of %d", n, maxExpanded)
	}
	var b []byte
	sep := delimiter(o.delimiter)
	for id := range set.All() {
		b = append(strconv.AppendInt(b, int64(id), 10), sep...)
	}
	_, err := fmt.Fprintln(e.stdout, strings.TrimSuffix(string(b), sep))
	return err
}
