package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/frond-hpc/frond/parallel"
	"github.com/spf13/pflag"
)

// parallelPlan is what a run does: how jobs are made, and how they are run.
type parallelPlan struct {
	o        *parallelOptions
	env      parallel.Env
	command  *parallel.Template
	tagging  *parallel.Template // nil = no tags
	results  *parallel.Template // nil = none
	columns  []string           // names of the sources, of --header
	builder  *parallel.Builder
	halt     parallel.Halt
	retries  int // attempts a job; 0 = for ever
	timeout  time.Duration
	delay    time.Duration
	slots    int // 0 = all cores
	known    int // number of jobs, where it is known; else 0
	warned   bool
	warnings io.Writer
	files    closers
}

func (p *parallelPlan) close() { p.files.close() }

// parallelSources is the command line after the options.
type parallelSources struct {
	words   []string
	sources []parallelSource
}

// parallelSource is one source: values, or a file's name.
type parallelSource struct {
	file   bool
	values []string
	linked bool // with the one before
}

// split takes the arguments apart: the command, then sources.
func (o *parallelOptions) split(args []string) (*parallelSources, error) {
	s := &parallelSources{}
	for _, name := range o.argFiles {
		s.sources = append(s.sources, parallelSource{file: true, values: []string{name}})
	}
	kinds := map[string]parallelSource{o.fileSep: {file: true}, o.fileSep + "+": {file: true, linked: true}, o.argSep: {}, o.argSep + "+": {linked: true}}
	at := slices.IndexFunc(args, func(a string) bool { _, ok := kinds[a]; return ok })
	if at < 0 {
		s.words = args
		return s, nil
	}
	s.words = args[:at]
	var kind parallelSource
	for i := at; i < len(args); {
		kind = kinds[args[i]]
		n := 1
		for i+n < len(args) {
			if _, ok := kinds[args[i+n]]; ok {
				break
			}
			n++
		}
		values := args[i+1 : i+n]
		i += n
		if !kind.file {
			s.sources = append(s.sources, parallelSource{values: values, linked: kind.linked})
			continue
		}
		for _, name := range values {
			s.sources = append(s.sources, parallelSource{file: true, values: []string{name}, linked: kind.linked})
		}
	}
	return s, nil
}

// check refuses what contradicts itself, before anything is started.
func (o *parallelOptions) check() error {
	if (o.resume || o.resumeFailed) && o.jobLog == "" && o.results == "" {
		return errors.New("--resume and --resume-failed require --joblog or --results")
	}
	if o.retryFailed && o.jobLog == "" {
		return errors.New("--retry-failed requires --joblog")
	}
	if o.header != "" && o.header != ":" {
		return fmt.Errorf("--header %q: only ':' is supported, the first value of each source", o.header)
	}
	if strings.Trim(o.trim, "nlr") != "" {
		return fmt.Errorf("--trim %q: must be n, l, r or lr", o.trim)
	}
	_, err := o.slotCount(runtime.NumCPU())
	return err
}

// plan opens the sources and reads the templates.
func (o *parallelOptions) plan(e *env, s *parallelSources) (*parallelPlan, error) {
	p := &parallelPlan{o: o, warnings: e.stderr}
	if err := p.running(); err != nil {
		return nil, err
	}
	syntax := &parallel.Syntax{Strings: o.names, Plus: o.plus}
	src, err := p.open(e, s, syntax)
	if err != nil {
		return nil, err
	}
	if p.command, err = parallel.ParseCommand(s.words, o.quote, syntax); err != nil {
		return nil, err
	}
	if err := p.templates(syntax); err != nil {
		return nil, err
	}
	how, err := o.batching()
	if err != nil {
		return nil, err
	}
	p.env.Context = how.Context
	if o.shuf {
		if src, err = shuffled(src); err != nil {
			return nil, err
		}
	}
	if p.slots, err = o.slotCount(runtime.NumCPU()); err != nil {
		return nil, err
	}
	if p.slots == 0 {
		p.slots = o.slots
	}
	p.env.Slots = max(p.slots, 1)
	if p.slots == 0 {
		p.env.Slots = runtime.NumCPU()
	}
	p.builder = parallel.NewBuilder(src, p.command, &p.env, how.Batching)
	if p.needsTotal() {
		if p.known, err = p.builder.ReadAhead(maxKnown); err != nil {
			return nil, err
		}
		p.env.Total = p.known
	}
	if o.total > 0 {
		p.known = o.total
	}
	return p, nil
}

func (p *parallelPlan) needsTotal() bool {
	o := p.o
	if p.command.UsesTotal() || p.tagging != nil && p.tagging.UsesTotal() || p.results != nil && p.results.UsesTotal() || p.halt.Percent > 0 {
		return true
	}
	return (o.bar || o.eta) && o.total == 0
}

// running reads the options that say how jobs are run.
func (p *parallelPlan) running() error {
	var err error
	o := p.o
	if p.halt, err = parallel.ParseHalt(o.halt); err != nil {
		return err
	}
	p.retries = 1
	if o.retries != "" {
		if p.retries, err = strconv.Atoi(o.retries); err != nil || p.retries < 0 {
			return fmt.Errorf("--retries %q: must be a number from 0 on", o.retries)
		}
	}
	if p.timeout, err = parallelDuration("--timeout", o.timeout); err != nil {
		return err
	}
	if p.delay, err = parallelDuration("--delay", o.delay); err != nil {
		return err
	}
	_, err = parseTermSeq(o.termSeq)
	return err
}

// parallelDuration reads GNU parallel's durations: seconds, or numbers with s, m, h, d one after the other.
func parallelDuration(option, s string) (time.Duration, error) {
	bad := fmt.Errorf("%s %q: must be seconds, or numbers with s, m, h or d behind them", option, s)
	total, rest := 0.0, s
	for rest != "" {
		n := 0
		for n < len(rest) && (rest[n] >= '0' && rest[n] <= '9' || rest[n] == '.') {
			n++
		}
		v, err := strconv.ParseFloat(rest[:n], 64)
		if err != nil {
			return 0, bad
		}
		unit := 1.0
		if n < len(rest) {
			at := strings.IndexByte("smhd", rest[n]|0x20)
			if at < 0 {
				return 0, bad
			}
			unit = []float64{1, 60, 3600, 86400}[at]
			n++
		}
		total += v * unit
		rest = rest[n:]
	}
	if total > math.MaxInt64/2e9 {
		return 0, bad
	}
	return time.Duration(total * float64(time.Second)), nil
}

func (p *parallelPlan) templates(y *parallel.Syntax) error {
	var err error
	o := p.o
	switch {
	case o.tagString != "":
		p.tagging, err = parallel.Parse(o.tagString, y)
	case o.tag:
		p.tagging, err = parallel.ParseCommand(nil, false, &parallel.Syntax{})
	}
	if err == nil && o.results != "" {
		p.results, err = parallel.Parse(o.results, y)
	}
	return err
}

// tag is what stands in front of each line of a job's output.
func (p *parallelPlan) tag(j *parallel.Job) string {
	if p.tagging == nil {
		return ""
	}
	return p.tagging.Text(j, &p.env) + "\t"
}

// parallelBatching is how values are dealt out to jobs.
type parallelBatching struct {
	parallel.Batching
	Context bool
}

func (o *parallelOptions) batching() (parallelBatching, error) {
	b := parallelBatching{Context: o.context || o.replaceArgs != "" || o.lines != ""}
	for _, n := range []struct{ option, text string }{{"-n", o.maxArgs}, {"-N", o.replaceArgs}, {"-L", o.lines}} {
		if n.text == "" {
			continue
		}
		v, err := strconv.Atoi(n.text)
		if err != nil || v < 0 {
			return b, fmt.Errorf("%s %q: must be a number from 0 on", n.option, n.text)
		}
		b.Max, b.None = max(v, 1), v == 0
	}
	if o.maxChars != "" {
		v, err := strconv.Atoi(o.maxChars)
		if err != nil || v < 1 {
			return b, fmt.Errorf("-s %q: must be a number from 1 on", o.maxChars)
		}
		b.MaxChars = min(v, parallel.MaxLine+1)
	}
	b.Many = o.context || o.many || o.xargs
	b.Spread = b.Many && !o.xargs
	b.Exit = o.exit
	return b, nil
}

// slotCount is -j as a number; 0 = not given.
func (o *parallelOptions) slotCount(cores int) (int, error) {
	s := o.jobs
	if s == "" {
		return 0, nil
	}
	if text, err := os.ReadFile(s); err == nil {
		s = strings.TrimSpace(string(text))
	}
	num, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(strings.TrimLeft(num, "+-"), 64)
	switch {
	case err != nil || math.IsNaN(v) || v < 0 || v > 1e6:
		return 0, fmt.Errorf("-j %q: must be a number, +N, -N, N%% or a file that holds one of them", o.jobs)
	case percent:
		v = float64(cores) * v / 100
	case strings.HasPrefix(s, "+"):
		v += float64(cores)
	case strings.HasPrefix(s, "-"):
		v = float64(cores) - v
	case v == 0:
		v = manySlots
	}
	return max(int(v), 1), nil
}

// manySlots is what -j0 stands for.
const manySlots = 250

// reading is how values are read.
func (p *parallelPlan) reading() (*parallel.Reading, error) {
	o := p.o
	r := &parallel.Reading{Delim: unescape(o.delim), EOF: o.eof, Trim: o.trim, NoEmpty: o.noEmpty, Warn: p.warn}
	if o.null || o.delim == `\0` {
		r.Delim = "\x00"
	}
	if o.lines != "" {
		r.Lines = 1
	}
	if o.colSep == "" {
		return r, nil
	}
	re, err := regexp.Compile(o.colSep)
	if err != nil {
		return nil, fmt.Errorf("--colsep: %w", err)
	}
	r.Columns = re
	return r, nil
}

// warn tells of a NUL in the input, once.
func (p *parallelPlan) warn(string) {
	if !p.warned {
		p.warned = true
		io.WriteString(p.warnings, "parallel: Warning: A NUL character in the input was replaced with \\0.\n"+
			"parallel: Warning: NUL cannot be passed through in the argument list.\nparallel: Warning: Did you mean to use the --null option?\n")
	}
}

// unescape replaces \n, \t, \0, \x41, \101 and so on.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	if s == `\0` {
		return "\x00"
	}
	if text, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`); err == nil {
		return text
	}
	return s
}

// open opens the sources, and takes their names off with --header.
func (p *parallelPlan) open(e *env, s *parallelSources, y *parallel.Syntax) (parallel.Source, error) {
	how, err := p.reading()
	if err != nil {
		return nil, err
	}
	if len(s.sources) == 0 {
		if e.isTerminal(e.stdin) {
			fmt.Fprintln(e.stderr, "parallel: Warning: Input is read from the terminal. You are either an expert")
			fmt.Fprintln(e.stderr, "parallel: Warning: (in which case: YOU ARE AWESOME!) or maybe you forgot")
			fmt.Fprintln(e.stderr, "parallel: Warning: ::: or :::: or -a or to pipe data into parallel.")
		}
		s.sources = []parallelSource{{file: true, values: []string{"-"}}}
	}
	var groups []parallel.Group
	var all []parallel.Source
	for i := range s.sources {
		src, err := p.openOne(e, &s.sources[i], how)
		if err != nil {
			return nil, err
		}
		if p.o.skipLine && i == 0 {
			if _, err := src.Next(); err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
		}
		if p.o.header == ":" {
			names, err := src.Next()
			if err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
			p.columns = append(p.columns, names...)
		}
		all = append(all, src)
		if s.sources[i].linked && len(groups) > 0 {
			groups[len(groups)-1] = append(groups[len(groups)-1], src)
		} else {
			groups = append(groups, parallel.Group{src})
		}
	}
	if len(p.columns) > 0 {
		y.Columns = map[string]int{}
		for i, name := range p.columns {
			y.Columns[name] = i + 1
		}
	}
	if p.o.link {
		return parallel.Link(all)
	}
	return parallel.Combine(groups)
}

func (p *parallelPlan) openOne(e *env, s *parallelSource, how *parallel.Reading) (parallel.Source, error) {
	if !s.file {
		return parallel.NewList(s.values, how), nil
	}
	name := s.values[0]
	if name == "-" {
		return parallel.NewReader(e.stdin, "standard input", how), nil
	}
	f, err := os.Open(name)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, fmt.Errorf("cannot open input file %s: %w", name, err)
	}
	p.files = append(p.files, f)
	return parallel.NewReader(f, name, how), nil
}

// findShell is the shell that runs command lines: PARALLEL_SHELL, the shell that started this, SHELL, /bin/sh.
func findShell(e *env) string {
	if sh := e.getenv("PARALLEL_SHELL"); sh != "" {
		return sh
	}
	for pid, n := os.Getppid(), 0; pid > 1 && n < 20; n++ {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && isShell(exe) {
			return exe
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			break
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		f := strings.Fields(rest)
		if len(f) < 2 {
			break
		}
		if pid, err = strconv.Atoi(f[1]); err != nil {
			break
		}
	}
	if sh := e.getenv("SHELL"); isShell(sh) {
		return sh
	}
	return "/bin/sh"
}

// isShell tells whether a program is a shell whose quoting is that of the command lines made here.
func isShell(path string) bool {
	return slices.Contains([]string{"bash", "dash", "sh", "ksh", "ksh93", "mksh", "zsh", "ash", "yash", "posh"}, filepath.Base(path))
}

// fromEnvironment takes options from the variable PARALLEL; those of the command line count more.
func (o *parallelOptions) fromEnvironment(e *env, given *pflag.FlagSet) error {
	words := shellWords(e.getenv("PARALLEL"))
	if len(words) == 0 {
		return nil
	}
	f := pflag.NewFlagSet("PARALLEL", pflag.ContinueOnError)
	(&parallelOptions{}).add(f)
	if err := f.Parse(words); err != nil {
		return fmt.Errorf("the variable PARALLEL: %w", unsupported(err))
	}
	var err error
	f.Visit(func(x *pflag.Flag) {
		if !given.Changed(x.Name) && x.Value.Type() != "stringArray" {
			err = errors.Join(err, given.Set(x.Name, x.Value.String()))
		}
	})
	return err
}

// shellWords splits s as a shell would, as far as quotes and backslashes go.
func shellWords(s string) []string {
	var words []string
	var word []byte
	quote, in := byte(0), false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			word, in = append(word, s[i]), true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word = append(word, c)
		case c == '\'' || c == '"':
			quote, in = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if in {
				words, word, in = append(words, string(word)), word[:0], false
			}
		default:
			word, in = append(word, c), true
		}
	}
	if in {
		words = append(words, string(word))
	}
	return words
}
