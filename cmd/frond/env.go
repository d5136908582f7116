package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/frond-hpc/frond/config"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// env is what a verb knows of the world: its streams, its environment, and how to reach an instance. Verbs take everything
// from it, so that they can be run in tests without touching the process.
type env struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	lookup func(name string) (string, bool) // one environment variable
	color  string                           // --color: auto, always, never
	target string                           // --instance: a name or URI instead of FROND_URI; empty = not given
	up     int                              // --parent: so many levels
	conf   string                           // --conf: a configuration file to read last
	etc    string                           // where the host's configuration lies
	config config.Config                    // what the files say; nil until read
	args   []string                         // the command line, without the program's name

	elements []elementsOf // named in arguments; connect checks that they are there
}

// newEnv is the env of this process.
func newEnv() *env {
	return &env{stdin: os.Stdin, stdout: &watchedFile{File: os.Stdout}, stderr: os.Stderr, lookup: os.LookupEnv, color: "auto", etc: "/etc/frond"}
}

// getenv returns a variable, or "" where it is unset.
func (e *env) getenv(name string) string {
	v, _ := e.lookup(name)
	return v
}

// isTerminal tells whether stream (one of the env's) is a terminal.
func (e *env) isTerminal(stream any) bool {
	f := asFile(stream)
	return f != nil && term.IsTerminal(int(f.Fd()))
}

// useColor tells whether output on stream is to be coloured: --color decides, else NO_COLOR, else whether it is a terminal.
func (e *env) useColor(stream any) bool {
	switch e.color {
	case "always":
		return true
	case "never":
		return false
	}
	return e.getenv("NO_COLOR") == "" && e.getenv("TERM") != "dumb" && e.isTerminal(stream)
}

// exitError ends the command with Code. With Err nil nothing is printed: the code says it all (a job's exit code).
type exitError struct {
	Code int
	Err  error
}

// Error is the message, without the verb in front.
func (e *exitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap gives the cause.
func (e *exitError) Unwrap() error { return e.Err }

// exitCode is the exit code for what a command returned: 0 without an error, an exitError's Code, else 1.
func exitCode(err error) int {
	var x *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &x):
		return x.Code
	}
	return 1
}

// report prints err as "frond VERB: message", unless it carries a code only.
func (e *env) report(cmd *cobra.Command, err error) {
	var x *exitError
	if errors.As(err, &x) && x.Err == nil {
		return
	}
	hint, text := "", plainer(err.Error())
	if strings.HasPrefix(text, "accepts ") || strings.HasPrefix(text, "requires at least ") {
		hint = "; usage: " + cmd.UseLine() // the parser counts arguments and does not say which
	}
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = escaped(l) // it may quote what the user, a file or a job said
	}
	fmt.Fprintf(e.stderr, "%s: %s%s\n", cmd.CommandPath(), strings.Join(lines, "\n"), hint)
}

// run executes the command line args and returns the exit code.
func (e *env) run(ctx context.Context, args []string) int {
	e.args = args
	root := newRoot(e, verbsFor(e, args))
	root.SetArgs(args)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = unwritten(e.stdout)
	}
	if err != nil {
		e.report(cmd, err)
	}
	return exitCode(err)
}
