package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type batchCmd struct {
	nestOptions
	wrap bool
	json bool
}

func newBatchCmd(e *env) *cobra.Command {
	o := &batchCmd{}
	cmd := &cobra.Command{
		Use:   "batch [OPTIONS] [SCRIPT [ARG…] | --wrap COMMAND…]",
		Short: "Submit a script that runs in an instance of its own",
		Long: `Submit a script as a job that is an instance: on the resources of the job a broker is started for each broker here that
has some of them, and the script runs with FROND_URI set, so that frond run and frond submit in it use those resources.
Without SCRIPT it is read from standard input. It is stored with the job: what happens to the file later changes nothing.
With --wrap the command itself is the script, for sh; several words are one command with its arguments.

Options may stand in the script as well, in lines "#FROND: -N4 -t 1h" (or "#flux:") before its first command; the command
line goes before them. Output goes to frond-{{id}}.out unless --output says else.

The job ends with the script (and its jobs: --broker-opts=--on-exit=cancel ends those), by frond cancel, or when its time is
up; then what still runs in it is ended in order. What ran in it is shown by frond jobs -R, later too (--keep-history).

Exit codes: 0 when submitted, 1 when not.`,
		Example: `  frond batch -N4 -t 2h ./sweep.sh
  frond batch -n8 --wrap 'frond run -n8 ./prepare; frond run -n8 ./solve "case 1"'
  frond jobs -R`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, e, args) },
	}
	o.flags(cmd.Flags())
	return cmd
}

func (o *batchCmd) flags(f *pflag.FlagSet) {
	o.nestOptions.add(f)
	f.BoolVar(&o.wrap, "wrap", false, "the command line is the script, for sh")
	o.keepHistory(f, true)
	f.BoolVar(&o.json, "json", false, "print the id as JSON: {\"ids\": […]}")
}

func (o *batchCmd) run(cmd *cobra.Command, e *env, args []string) error {
	script, err := o.script(e, args)
	if err != nil {
		return err
	}
	if o, err = o.directed(cmd.Flags(), script); err != nil {
		return err
	}
	o.bring("script", script.text, 0o700)
	if o.name == "" {
		o.name = script.name
	}
	if o.output == "" {
		o.output = "frond-{{id}}.out"
	}
	if err := o.nest(append([]string{"{{tmpdir}}/script"}, script.args...)); err != nil {
		return err
	}
	return o.submit(cmd.Context(), e)
}

func (o *batchCmd) submit(ctx context.Context, e *env) error {
	b, err := o.batch("", "", os.Environ(), false)
	if err != nil {
		return err
	}
	s := &submitCmd{submitOptions: o.submitOptions, json: o.json}
	return s.submit(ctx, e, "frond batch", b)
}

// batchScript is what is to be run.
type batchScript struct {
	name string // of the job
	from string // for messages
	text []byte
	args []string
}

// script reads the script and sees to it that it can be one.
func (o *batchCmd) script(e *env, args []string) (*batchScript, error) {
	if o.wrap {
		return wrapped(args)
	}
	s := &batchScript{name: "batchscript", from: "standard input"}
	var err error
	switch {
	case len(args) > 0:
		s.name, s.from, s.args = filepath.Base(args[0]), args[0], args[1:]
		s.text, err = readScript(args[0])
	case e.isTerminal(e.stdin):
		return nil, errors.New("a script is missing: give a file, --wrap COMMAND, or the script as standard input")
	default:
		s.text, err = io.ReadAll(io.LimitReader(e.stdin, maxAddedFiles+1))
	}
	if err != nil {
		return nil, err
	}
	return s, s.check()
}

func readScript(path string) ([]byte, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no such script (a command goes with --wrap)", path)
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no plain file", path)
	case st.Size() > maxAddedFiles:
		return nil, fmt.Errorf("%s is %d bytes long; a script has at most %d", path, st.Size(), maxAddedFiles)
	}
	return os.ReadFile(path)
}

func (s *batchScript) check() error {
	switch {
	case len(s.text) > maxAddedFiles:
		return fmt.Errorf("%s is longer than %d bytes", s.from, maxAddedFiles)
	case len(strings.TrimSpace(string(s.text))) == 0:
		return fmt.Errorf("%s: the script is empty", s.from)
	case !strings.HasPrefix(string(s.text), "#!"):
		what := "does not begin with '#!' and an interpreter"
		if !utf8.Valid(s.text) || strings.ContainsRune(string(s.text), 0) {
			what = "is no script (a program goes with --wrap)"
		}
		return fmt.Errorf("%s %s", s.from, what)
	}
	if line, _, _ := strings.Cut(string(s.text), "\n"); strings.HasSuffix(line, "\r") {
		return fmt.Errorf("%s: its lines end as on Windows (CR LF), so its interpreter would not be found: dos2unix, or sed -i 's/\\r$//', mends it", s.from)
	}
	return nil
}

// wrapped makes a script of a command line: one word is text for sh as it is, several are a command and its arguments.
func wrapped(args []string) (*batchScript, error) {
	if len(args) == 0 || strings.TrimSpace(strings.Join(args, "")) == "" {
		return nil, errors.New("--wrap: the command is missing")
	}
	text := args[0]
	if len(args) > 1 {
		quoted := make([]string, len(args))
		for i, a := range args {
			quoted[i] = shellQuote(a)
		}
		text = strings.Join(quoted, " ")
	}
	if strings.ContainsRune(text, 0) {
		return nil, errors.New("--wrap: the command holds a NUL character")
	}
	return &batchScript{name: "wrap", from: "--wrap", text: []byte("#!/bin/sh\n" + text + "\n")}, nil
}

// directed is the options with those of the script's directives, over which the command line goes.
func (o *batchCmd) directed(given *pflag.FlagSet, s *batchScript) (*batchCmd, error) {
	if s.from == "--wrap" {
		return o, nil
	}
	list, err := jobspec.Directives(string(s.text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.from, err)
	}
	d := &batchCmd{}
	flags := pflag.NewFlagSet("directive", pflag.ContinueOnError)
	d.flags(flags)
	for _, line := range list {
		if err := flags.Parse(line.Args); err != nil {
			return nil, fmt.Errorf("%s: line %d: %s", s.from, line.Line, plainer(err.Error()))
		}
		if flags.NArg() > 0 {
			return nil, fmt.Errorf("%s: line %d: %q is no option", s.from, line.Line, flags.Arg(0))
		}
	}
	if d.wrap {
		return nil, fmt.Errorf("%s: --wrap is for the command line, not for a directive", s.from)
	}
	return d, d.override(flags, given, o)
}

// override sets in d what the command line says. Lists of options grow.
func (o *batchCmd) override(mine, given *pflag.FlagSet, from *batchCmd) (err error) {
	o.env, o.rlimit = append(o.env, from.env...), append(o.rlimit, from.rlimit...)
	if from.hooked {
		o.onFinish, o.hooked = from.onFinish, true
	}
	given.VisitAll(func(f *pflag.Flag) {
		to := mine.Lookup(f.Name)
		if to == nil || !f.Changed && (f.Value.String() == f.DefValue || to.Changed) || f.Value.Type() == "rule" || f.Name == "on-finish" {
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			for _, v := range list.GetSlice() {
				to.Value.(pflag.SliceValue).Append(v)
			}
			return
		}
		if e := to.Value.Set(f.Value.String()); e != nil && err == nil {
			err = fmt.Errorf("--%s: %w", f.Name, e)
		}
	})
	return err
}
