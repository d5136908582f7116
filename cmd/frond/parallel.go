package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/frond-hpc/frond/parallel"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const parallelLong = `Run a command line for each value of the input, many at a time, on all nodes of the instance: by GNU parallel's rules.
Without an instance one of this host is made for the time of the run.

Values come from standard input, a line each, from ::: VALUES, :::: FILES, or -a FILE. Several sources give all combinations; :::+ and ::::+ read
side by side with the source before. {} in the command is the value; {.} without extension, {/} without directory, {//} its directory,
{/.} both; {1} {2.} … that of the first source, the second; {#} the job's number, {%} its slot. Without any of them the value stands at the end. The
command line is run by the shell ($PARALLEL_SHELL, the shell that started this, $SHELL); one that needs no shell is run without.

Exit codes: 0 when all jobs succeeded; 1 to 100 the number that failed; 101 for more; 255 for other errors. With --halt fail=1 that of the job.`

func newParallelCmd(e *env) *cobra.Command {
	o := &parallelOptions{}
	cmd := &cobra.Command{
		Use:   "parallel [OPTIONS] [COMMAND [ARG…]] [::: VALUE…] [:::: FILE…]",
		Short: "Run command lines for many values, as GNU parallel does",
		Long:  parallelLong,
		Example: `  frond parallel gzip ::: *.log
  frond parallel -k --tag ./simulate --seed={1} --size={2} ::: 1 2 3 ::: small large
  find . -name '*.wav' | frond parallel --joblog jobs.log --resume flac {} -o {.}.flac`,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := o.fromEnvironment(e, cmd.Flags())
			if err == nil {
				err = o.run(cmd.Context(), e, args)
			}
			var x *exitError
			if err != nil && !errors.As(err, &x) {
				err = &exitError{255, err}
			}
			return err
		},
	}
	o.add(cmd.Flags())
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{255, unsupported(err)} })
	return cmd
}

func (o *parallelOptions) run(ctx context.Context, e *env, args []string) error {
	split, err := o.split(args)
	if err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	switch {
	case o.shellQuote > 0:
		o.dryRun, o.quote = true, true
	case !o.dryRun && o.shell == "":
		o.shell = findShell(e)
		if _, err := e.uri(); errors.Is(err, errNoInstance) {
			return o.throwAway(e)
		}
	}
	p, err := o.plan(e, split)
	if err != nil {
		return err
	}
	defer p.close()
	if o.dryRun {
		return p.print(e)
	}
	return o.start(ctx, e, p)
}

// print shows the command lines.
func (p *parallelPlan) print(e *env) error {
	out := bufio.NewWriter(e.stdout)
	defer out.Flush()
	for {
		j, err := p.builder.Next()
		if errors.Is(err, io.EOF) {
			return flush(out)
		}
		if err != nil {
			return err
		}
		line := p.command.Command(j, &p.env)
		for range max(p.o.shellQuote-1, 0) {
			line = parallel.Quote(line)
		}
		out.WriteString(p.tag(j))
		out.WriteString(line)
		if err := out.WriteByte('\n'); err != nil {
			return err
		}
	}
}

// parallelOptions are the options as the user gave them.
type parallelOptions struct {
	jobs                                        string
	keep, noKeep, tag, dryRun, bar, eta         bool
	progress, ungroup, group, lineBuffer, quote bool
	verbose                                     int
	trace, silent, shuf, link, plus             bool
	tagString, jobLog, retries, timeout, halt   string
	resume, resumeFailed, retryFailed           bool
	delay, results, termSeq, slotVar            string
	colSep, delim, eof, header, trim            string
	null, noEmpty, exit                         bool
	argFiles                                    []string
	maxArgs, replaceArgs, lines, maxChars       string
	context, many, xargs                        bool
	names                                       parallel.Strings
	argSep, fileSep, workdir                    string
	shellQuote                                  int
	total                                       int
	skipLine                                    bool
	shell                                       string // hidden: set in a throw-away instance
	jobName                                     string
	slots                                       int // hidden: its cores
	ignored                                     bool
	ignoredText                                 []string
}

func (o *parallelOptions) add(f *pflag.FlagSet) {
	f.SetInterspersed(false)
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if long, ok := parallelAliases[name]; ok {
			name = long
		}
		return pflag.NormalizedName(name)
	})
	o.addRunning(f)
	o.addInput(f)
	o.addHidden(f)
}

func (o *parallelOptions) addRunning(f *pflag.FlagSet) {
	f.StringVarP(&o.jobs, "jobs", "j", "", "run `N` jobs at a time: N, +N and -N from the number of cores, N%, 0 for very many (default: all cores)")
	f.BoolVarP(&o.keep, "keep-order", "k", false, "print output in the order of the input")
	f.BoolVar(&o.group, "group", false, "print a job's output together when it has ended (default)")
	f.BoolVarP(&o.ungroup, "ungroup", "u", false, "print output at once, mixed")
	f.BoolVar(&o.lineBuffer, "line-buffer", false, "print output line by line")
	f.BoolVar(&o.tag, "tag", false, "put the values in front of each line of output")
	f.StringVar(&o.tagString, "tagstring", "", "put `TEXT`, with {} and so on replaced, in front of each line")
	f.BoolVar(&o.bar, "bar", false, "show a bar (on a terminal)")
	f.BoolVar(&o.eta, "eta", false, "show when the end is expected (on a terminal)")
	f.BoolVar(&o.progress, "progress", false, "show the numbers of jobs (on a terminal)")
	f.StringVar(&o.jobLog, "joblog", "", "write a line for each ended job to `FILE`; +FILE appends")
	f.BoolVar(&o.resume, "resume", false, "pass over jobs that are in --joblog")
	f.BoolVar(&o.resumeFailed, "resume-failed", false, "pass over jobs that succeeded by --joblog")
	f.BoolVar(&o.retryFailed, "retry-failed", false, "run the failed jobs of --joblog again; no command and input are needed")
	f.StringVar(&o.retries, "retries", "", "run a failing job up to `N` times; 0 = for ever")
	f.StringVar(&o.timeout, "timeout", "", "end jobs after `DURATION`: seconds, or 90s, 5m, 1.5h, 2d")
	f.StringVar(&o.halt, "halt", "", "`WHEN`: never; now or soon, with fail=N, success=N, done=N, or a percentage: soon,fail=10%")
	f.StringVar(&o.delay, "delay", "", "wait `DURATION` between two starts")
	f.StringVar(&o.results, "results", "", "write output to files below `NAME`, or to files that NAME with {} and so on gives, or to NAME.csv, .tsv, .json")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the command lines and run nothing")
	f.BoolVarP(&o.trace, "verbose", "t", false, "print command lines on standard error")
	f.CountVarP(&o.verbose, "v", "v", "print command lines on standard output")
	f.StringVar(&o.workdir, "workdir", "", "working `DIRECTORY` of the jobs (default: this one)")
	f.StringVar(&o.termSeq, "term-seq", "TERM,200,TERM,100,TERM,50,KILL,25", "how jobs are ended: `SIGNAL,MILLISECONDS,…`")
}

func (o *parallelOptions) addInput(f *pflag.FlagSet) {
	f.StringArrayVarP(&o.argFiles, "arg-file", "a", nil, "read values from `FILE`, - for standard input")
	f.BoolVarP(&o.null, "null", "0", false, "values in files end with NUL")
	f.StringVarP(&o.delim, "delimiter", "d", "", "values in files end with `TEXT`")
	f.StringVarP(&o.colSep, "colsep", "C", "", "split values into columns at `REGEXP`: {1} {2} …")
	f.StringVar(&o.header, "header", "", "with `:`, the first value of each source is its name: {name}")
	f.StringVar(&o.trim, "trim", "", "cut white space off values: `n|l|r|lr`")
	f.StringVarP(&o.eof, "eof", "E", "", "a value `TEXT` ends the input")
	f.BoolVarP(&o.noEmpty, "no-run-if-empty", "r", false, "pass over empty values")
	f.StringVarP(&o.maxArgs, "max-args", "n", "", "up to `N` values a job")
	f.StringVarP(&o.replaceArgs, "max-replace-args", "N", "", "`N` values a job, as {1} … {N}")
	f.StringVarP(&o.lines, "max-lines", "L", "", "`N` nonblank lines a job")
	f.BoolVarP(&o.context, "context", "X", false, "as many values a job as a line has room for; words with {} are repeated")
	f.BoolVarP(&o.many, "multiple", "m", false, "as many values a job as a line has room for, in place of {}")
	f.BoolVar(&o.xargs, "xargs", false, "as -m, without dealing them out evenly at the end")
	f.StringVarP(&o.maxChars, "max-chars", "s", "", "up to `N` bytes a command line")
	f.BoolVarP(&o.exit, "exit", "x", false, "end when a line is too long for -n values")
	f.BoolVarP(&o.quote, "quote", "q", false, "quote the command for the shell")
	f.BoolVar(&o.link, "link", false, "read all sources side by side, short ones from their beginning again")
	f.BoolVar(&o.shuf, "shuf", false, "run the jobs in random order")
	f.BoolVar(&o.plus, "plus", false, "more replacement strings: {+/} {+.} {..} {...} {/..} {##} {0#} {slot} …")
	f.StringVarP(&o.names.Arg, "replace", "I", "", "`TEXT` instead of {}")
	f.IntVar(&o.total, "total-jobs", 0, "there will be `N` jobs, for --bar and --eta")
}

// addHidden declares what is seldom needed, or there only so that scripts for GNU parallel run as they are.
func (o *parallelOptions) addHidden(f *pflag.FlagSet) {
	f.StringVarP(&o.jobs, "max-procs", "P", "", "as --jobs")
	f.BoolVar(&o.noKeep, "no-keep-order", false, "")
	f.BoolVar(&o.silent, "silent", false, "")
	f.CountVar(&o.shellQuote, "shell-quote", "")
	f.StringVar(&o.argSep, "arg-sep", ":::", "")
	f.StringVar(&o.fileSep, "arg-file-sep", "::::", "")
	f.StringVar(&o.names.NoExt, "extensionreplace", "", "")
	f.StringVar(&o.names.Base, "basenamereplace", "", "")
	f.StringVar(&o.names.Dir, "dirnamereplace", "", "")
	f.StringVar(&o.names.BaseNoExt, "basenameextensionreplace", "", "")
	f.StringVar(&o.names.Seq, "seqreplace", "", "")
	f.StringVar(&o.names.Slot, "slotreplace", "", "")
	f.StringVar(&o.slotVar, "process-slot-var", "", "")
	f.BoolVar(&o.skipLine, "skip-first-line", false, "")
	for _, name := range []string{"will-cite", "no-notice", "gnu", "plain"} {
		f.BoolVar(&o.ignored, name, false, "")
	}
	f.StringArrayVar(&o.ignoredText, "env", nil, "")
	f.StringArrayVar(&o.ignoredText, "tmpdir", nil, "")
	f.StringVar(&o.shell, "use-shell", "", "")
	f.IntVar(&o.slots, "use-slots", 0, "")
	for _, name := range []string{"max-procs", "no-keep-order", "silent", "shell-quote", "arg-sep", "arg-file-sep", "extensionreplace",
		"basenamereplace", "dirnamereplace", "basenameextensionreplace", "seqreplace", "slotreplace", "process-slot-var", "skip-first-line",
		"will-cite", "no-notice", "gnu", "plain", "env", "tmpdir", "use-shell", "use-slots"} {
		f.Lookup(name).Hidden = true
	}
}

// parallelAliases are other names of options.
var parallelAliases = map[string]string{
	"jl": "joblog", "res": "results", "lb": "line-buffer", "linebuffer": "line-buffer", "dryrun": "dry-run", "halt-on-error": "halt",
	"wd": "workdir", "termseq": "term-seq", "xapply": "link", "er": "extensionreplace", "bnr": "basenamereplace", "dnr": "dirnamereplace",
	"bner": "basenameextensionreplace", "shellquote": "shell-quote", "total": "total-jobs", "keeporder": "keep-order", "retry": "retries",
	"max-replace": "max-replace-args",
}

// parallelMissing are GNU parallel's options that are not there, with what to do instead.
var parallelMissing = map[string]string{
	"pipe": "give each job its part by other means, as split(1) and ::::", "spreadstdin": "give each job its part by other means",
	"pipe-part": "", "pipepart": "", "tee": "", "round-robin": "", "block": "", "cat": "", "fifo": "", "recstart": "", "recend": "",
	"group-by": "", "shard": "", "bin": "", "sshlogin": "jobs run on all nodes of the instance", "slf": "jobs run on all nodes of the instance",
	"sshloginfile": "jobs run on all nodes of the instance", "onall": "'frond exec' runs a command on all nodes",
	"nonall": "'frond exec' runs a command on all nodes", "transfer": "files are not copied", "transferfile": "files are not copied",
	"return": "files are not copied", "trc": "files are not copied", "basefile": "files are not copied", "cleanup": "files are not copied",
	"semaphore": "use flock(1)", "sql": "", "sqlmaster": "", "sqlworker": "", "tmux": "", "tmuxpane": "", "rpl": "Perl is not part of Frond",
	"parens": "Perl is not part of Frond", "filter": "Perl is not part of Frond", "csv": "use --colsep", "files": "use --results",
	"load": "jobs get cores of their own", "memfree": "", "memsuspend": "", "limit": "", "noswap": "", "nice": "put nice in front of the command",
	"color": "", "ctag": "", "latest-line": "", "ll": "", "tty": "", "open-tty": "", "interactive": "", "hostgroups": "", "fg": "", "bg": "",
	"profile": "", "template": "", "tmpl": "", "embed": "", "shebang": "", "compress": "", "record-env": "", "session": "",
}

// unsupported explains a flag error where it is about an option of GNU parallel.
func unsupported(err error) error {
	name, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if strings.HasPrefix(err.Error(), "unknown shorthand flag: 'S' ") {
		name, ok = "sshlogin", true
	}
	instead, known := parallelMissing[name]
	switch {
	case !ok || !known:
		return err
	case instead == "":
		return fmt.Errorf("--%s of GNU parallel is not supported", name)
	}
	return fmt.Errorf("--%s of GNU parallel is not supported: %s", name, instead)
}

// shuffled is a source in random order.
func shuffled(src parallel.Source) (parallel.Source, error) {
	var values [][]string
	for {
		v, err := src.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(values) == maxKnown {
			return nil, fmt.Errorf("--shuf: the input has more than %d values", maxKnown)
		}
		values = append(values, v)
	}
	rand.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
	return &valueList{values}, nil
}

// valueList is a source of values in memory.
type valueList struct{ values [][]string }

// Next implements parallel.Source.
func (l *valueList) Next() ([]string, error) {
	if len(l.values) == 0 {
		return nil, io.EOF
	}
	v := l.values[0]
	l.values = l.values[1:]
	return v, nil
}

// maxKnown is how many values are read where all must be known before the first job starts.
const maxKnown = 20_000_000

// closers are files to close.
type closers []*os.File

func (c closers) close() {
	for _, f := range c {
		f.Close()
	}
}
