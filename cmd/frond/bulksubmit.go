package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/parallel"
	"github.com/spf13/cobra"
)

type bulkCmd struct {
	submitCmd
	sep     string
	shuffle bool
	shell   bool
}

func newBulksubmitCmd(e *env) *cobra.Command {
	o := &bulkCmd{}
	cmd := &cobra.Command{
		Use:   "bulksubmit [OPTIONS] [COMMAND [ARG…]] [::: INPUT…] [:::: FILE…]",
		Short: "Submit a job for each of many inputs",
		Long: `Submit a command once for each input, as Flux's bulksubmit. Inputs are lines of standard input, the words after :::, or lines of the
files after ::::. Several of these give all combinations; :::+ and ::::+ go side by side with the one before.

In the command and in the values of options {} is the input; with several, {0} and {1} … name them. {0.%} is without extension, {0./}
without directory, {0.//} the directory, {0./%} without both; {seq} and {seq1} count from 0 and 1. Without a command each input is one,
split into words. No shell is involved, unless --shell asks for one.

All jobs are elements of one array where only the command and file names differ, else jobs of their own.

Exit codes: as submit.`,
		Example: `  frond bulksubmit --wait gzip {} ::: *.log
  frond bulksubmit -n {0} --output={seq}.out ./scale {1} ::: 1 2 4 8 ::: small large
  frond bulksubmit --cc=0-3 ./step {} {cc} :::: inputs.txt`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("once") {
				if err := checkKey(o.once); err != nil {
					return err
				}
			}
			return o.run(cmd.Context(), e, args)
		},
	}
	o.submitOptions.add(cmd)
	o.addArray(cmd)
	f := cmd.Flags()
	f.StringVar(&o.once, "once", "", "submit nothing if the same was submitted under `KEY` before: the same ids again")
	f.StringVar(&o.cc, "cc", "", "submit each input once for each id of `IDSET`")
	f.StringVar(&o.bcc, "bcc", "", "as --cc, for `IDSET`, without FROND_JOB_CC in the environment")
	o.followOptions.add(f)
	f.BoolVar(&o.json, "json", false, "print the ids as JSON: {\"ids\": […]}")
	f.BoolVar(&o.shuffle, "shuffle", false, "submit in random order")
	f.StringVar(&o.sep, "sep", "", "inputs in files and standard input end with `STRING` (default: newline; none: white space)")
	f.BoolVar(&o.shell, "shell", false, "the command is one line for /bin/sh; inputs are quoted")
	return cmd
}

func (o *bulkCmd) run(ctx context.Context, e *env, args []string) error {
	if o.cc != "" && o.bcc != "" {
		return fmt.Errorf("--cc and --bcc cannot be combined")
	}
	split, err := (&parallelOptions{argSep: ":::", fileSep: "::::"}).split(args)
	if err != nil {
		return err
	}
	rows, err := o.rows(e, split)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return errors.New("there are no inputs")
	}
	if o.shuffle {
		rand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	}
	o.command = split.words
	b, err := o.batch(rows)
	if err != nil {
		return err
	}
	return o.submit(ctx, e, "frond bulksubmit", b)
}

// rows are the inputs of each submission.
func (o *bulkCmd) rows(e *env, s *parallelSources) ([][]string, error) {
	if len(s.sources) == 0 {
		s.sources = []parallelSource{{file: true, values: []string{"-"}}}
	}
	var groups []parallel.Group
	for i := range s.sources {
		values, err := o.values(e, &s.sources[i])
		if err != nil {
			return nil, err
		}
		list := &valueList{}
		for _, v := range values {
			if strings.IndexByte(v, 0) >= 0 {
				return nil, fmt.Errorf("an input holds a NUL byte: %.40q", v)
			}
			list.values = append(list.values, []string{v})
		}
		if s.sources[i].linked && len(groups) > 0 {
			groups[len(groups)-1] = append(groups[len(groups)-1], list)
		} else {
			groups = append(groups, parallel.Group{list})
		}
	}
	src, err := parallel.Combine(groups)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for {
		row, err := src.Next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		if len(rows) == maxArray {
			return nil, fmt.Errorf("the inputs make more than %d jobs; an array has no more elements", maxArray)
		}
		rows = append(rows, row)
	}
}

// values are those of one source.
func (o *bulkCmd) values(e *env, s *parallelSource) ([]string, error) {
	if !s.file {
		return s.values, nil
	}
	in, err := e.openInput(s.values[0])
	if err != nil {
		return nil, fmt.Errorf("read inputs: %w", err)
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("read inputs: %w", err)
	}
	text := string(data)
	switch o.sep {
	case "none":
		return strings.Fields(text), nil
	case "":
		var lines []string
		for line := range strings.Lines(text) {
			lines = append(lines, strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
		}
		return lines, nil
	}
	sep := unescape(o.sep)
	if text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), sep); text == "" {
		return nil, nil
	}
	return strings.Split(text, sep), nil
}

// bulkPlan is the templates of one call.
type bulkPlan struct {
	o       *bulkCmd
	command []bulkTemplate
	files   [3]bulkTemplate // input, output, error
	options []bulkTemplate  // of the texts of submitOptions; nil = as it stands
	differ  bool            // an option holds a field: the jobs are no array
}

func (o *bulkCmd) plan() (*bulkPlan, error) {
	p := &bulkPlan{o: o}
	words := o.command
	if o.shell && len(words) > 0 {
		words = []string{strings.Join(words, " ")}
	}
	for i, s := range append([]string{o.input, o.output, o.errout}, words...) {
		t, err := parseBulk(s)
		if err != nil {
			return nil, err
		}
		if i < 3 {
			p.files[i] = t
		} else {
			p.command = append(p.command, t)
		}
	}
	for _, s := range o.texts() {
		t, err := parseBulk(*s)
		if err != nil {
			t = nil // braces of its own, as in JSON
		}
		p.options = append(p.options, t)
		p.differ = p.differ || t.fields()
	}
	return p, nil
}

// values are the inputs as the command gets them.
func (p *bulkPlan) values(inputs []string) []string {
	if !p.o.shell {
		return inputs
	}
	quoted := make([]string, len(inputs))
	for i, s := range inputs {
		quoted[i] = parallel.Quote(s)
	}
	return quoted
}

// wrap gives a line to a shell, with --shell.
func (p *bulkPlan) wrap(argv []string) []string {
	if p.o.shell {
		return []string{"/bin/sh", "-c", strings.Join(argv, " ")}
	}
	return argv
}

// argv is the command for inputs; without one the inputs are the command.
func (p *bulkPlan) argv(inputs []string, seq int) ([]string, error) {
	var argv []string
	for _, t := range p.command {
		s, err := t.format(p.values(inputs), seq)
		if err != nil {
			return nil, err
		}
		argv = append(argv, s)
	}
	if len(p.command) == 0 {
		line := strings.Join(inputs, " ")
		if argv = []string{line}; !p.o.shell {
			argv = shellWords(line)
		}
		if strings.TrimSpace(line) == "" || len(argv) == 0 {
			return nil, fmt.Errorf("input %d is empty: there is no command to run", seq+1)
		}
	}
	return p.wrap(argv), nil
}

// batch makes one array of all rows where it can.
func (o *bulkCmd) batch(rows [][]string) (*batch, error) {
	p, err := o.plan()
	if err != nil {
		return nil, err
	}
	if p.differ || o.cc+o.bcc != "" {
		return p.each(rows)
	}
	one := *o.submitOptions.with("{cc}") // a copy
	var lists [][]string
	switch {
	case len(p.command) > 0:
		lists, err = p.fields(&one, rows)
	case slices.ContainsFunc(p.files[:], bulkTemplate.fields):
		return p.each(rows)
	default:
		lists, err = p.lines(&one, rows)
	}
	if err != nil {
		return nil, err
	}
	b := &batch{}
	return b, b.addParams(&one, os.Environ(), api.SubmitItem{N: len(rows), Watched: o.watch}, slices.Values(lists))
}

// fields makes an array's options, in which parameters stand for the fields, and the parameters of each element.
func (p *bulkPlan) fields(one *submitOptions, rows [][]string) ([][]string, error) {
	var fields []bulkField
	one.command = nil
	for _, t := range p.command {
		one.command = append(one.command, t.withParams(&fields))
	}
	quoted := len(fields) // those of the command
	one.command = p.wrap(one.command)
	for i, s := range []*string{&one.input, &one.output, &one.errout} {
		*s = p.files[i].withParams(&fields)
	}
	lists := make([][]string, len(rows))
	for i, row := range rows {
		for k := range fields {
			values := row
			if k < quoted {
				values = p.values(row)
			}
			s, err := bulkTemplate(fields[k:k+1]).format(values, i)
			if err != nil {
				return nil, err
			}
			lists[i] = append(lists[i], s)
		}
		if len(fields) == 0 {
			lists[i] = []string{""}
		}
	}
	return lists, nil
}

// lines makes an array whose elements' commands are the inputs.
func (p *bulkPlan) lines(one *submitOptions, rows [][]string) ([][]string, error) {
	lists := make([][]string, len(rows))
	for i, row := range rows {
		var err error
		if lists[i], err = p.argv(row, i); err != nil {
			return nil, err
		}
	}
	one.command = []string{"{{argv}}"}
	if one.name == "" {
		one.name = lists[0][0][strings.LastIndexByte(lists[0][0], '/')+1:]
	}
	return lists, nil
}

// each makes a submission of each row.
func (p *bulkPlan) each(rows [][]string) (*batch, error) {
	if p.o.maxFails != "" {
		return nil, fmt.Errorf("--max-fails needs one array: here the jobs differ in more than their command and file names")
	}
	if len(rows) > maxDifferent {
		return nil, fmt.Errorf("the inputs make %d different jobspecs; at most %d are allowed", len(rows), maxDifferent)
	}
	all := &batch{}
	for i, row := range rows {
		one := p.o.submitOptions.with("{cc}")
		var err error
		if one.command, err = p.argv(row, i); err != nil {
			return nil, err
		}
		texts := append([]*string{&one.input, &one.output, &one.errout}, one.texts()...)
		for k, t := range append(p.files[:], p.options...) {
			if t == nil {
				continue
			}
			if *texts[k], err = t.format(row, i); err != nil {
				return nil, err
			}
		}
		b, err := one.batch(p.o.cc, p.o.bcc, os.Environ(), p.o.watch)
		if err != nil {
			return nil, err
		}
		all.join(b)
	}
	return all, nil
}

// join appends the items of another batch.
func (b *batch) join(o *batch) {
	for _, it := range o.items {
		it.Env = b.envIndex(o.envs[it.Env-1])
		b.items = append(b.items, it)
	}
	b.content, b.names = append(b.content, o.content...), append(b.names, o.names...)
	b.dry = append(b.dry, o.dry...)
	b.content, b.names = append(b.content, o.content...), append(b.names, o.names...)
}
