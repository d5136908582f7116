package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// frondAlone runs a command line without an instance and without the user's files.
func frondAlone(t *testing.T, args ...string) result {
	t.Helper()
	var out, errout bytes.Buffer
	e := newEnv()
	e.stdin, e.stdout, e.stderr, e.etc = strings.NewReader(""), &out, &errout, t.TempDir()
	home := t.TempDir()
	e.lookup = func(name string) (string, bool) {
		v, ok := map[string]string{"HOME": home, "LANG": "C.UTF-8"}[name]
		return v, ok
	}
	code := e.run(context.Background(), args)
	return result{code, out.String(), errout.String()}
}

// eachCommand calls f for every command that help lists.
func eachCommand(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			eachCommand(c, f)
		}
	}
}

func TestEveryCommandExplainsItself(t *testing.T) {
	e := newEnv()
	eachCommand(newRoot(e, verbs(e)), func(c *cobra.Command) {
		if c.Example == "" {
			t.Errorf("%s: help has no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			if !strings.Contains(line, "frond") {
				continue
			}
			require.Regexp(t, `^  \S`, line, c.CommandPath())
		}
		if c.HasParent() && !c.HasAvailableSubCommands() && !regexp.MustCompile(`(?i)exit codes?`).MatchString(c.Long) {
			t.Errorf("%s: help does not tell the exit codes", c.CommandPath())
		}
		require.NotRegexp(t, `\.$`, c.Short, c.CommandPath())
	})
}

func TestHabitsNameVerbsThatThereAre(t *testing.T) {
	root := newRoot(newEnv(), verbs(newEnv()))
	for word := range habits {
		first, more, _ := strings.Cut(word, " ")
		if verbIn(root, first) && more == "" {
			continue // it has become a verb
		}
		require.NotEmpty(t, habit(root, word, nil), word)
	}
}

func TestWhatIsMeantIsSaidAndNotDone(t *testing.T) {
	for line, want := range map[string]string{
		"sbatch x.sh":                        `there is no "sbatch" here; what does it is 'frond`,
		"squeue":                             "'frond jobs'",
		"scancel 17":                         "'frond cancel'",
		"sinfo":                              "'frond resource list'",
		"srun -n4 hostname":                  "'frond run'",
		"hq submit true":                     `leave out "hq": the verb is 'frond submit'`,
		"flux jobs":                          `leave out "flux"`,
		"mini run hostname":                  `there is no "mini run" here; what does it is 'frond run'`,
		"mini submit hostname":               "'frond submit'",
		"server start":                       "'frond start'",
		"worker list":                        "'frond resource list'",
		"submti x":                           "is 'frond submit' meant?",
		"jbos":                               "is 'frond jobs' meant?",
		"job inof f1":                        "is 'frond job info' meant?",
		"resource stauts":                    "is 'frond resource status' meant?",
		"xyzzy":                              `unknown command "xyzzy"; 'frond --help' lists the commands`,
		"submit --cpus-per-task=2 x":         "here it is -c/--cores-per-task",
		"submit --ntask=2 x":                 "is --ntasks meant?",
		"jobs --no-heeder":                   "is --no-header meant?",
		"jobs --qqqqqqqqqqqqq":               "'frond jobs --help' lists them",
		"--color=blue jobs":                  `"blue": must be auto, always or never`,
		"completion tcsh":                    "there are scripts for bash, zsh and fish",
		"job \x1b[31m":                       `unknown command "\x1b[31m"`,
		"submit --array=1-2 --cc=1 x":        "frond submit: --array and --cc cannot be combined\n",
		"retry --failed --lost f2":           "frond retry: --failed and --lost cannot be combined\n",
		"logs --tail=x f2":                   `frond logs: invalid argument "x" for "--tail" flag: it must be a whole number`,
		"logs --tail=99999999999999999999 f": `flag: it must be a whole number`,
		"queue list x":                       `frond queue list: "x" is one argument too many; 'frond queue list --help' tells what there is`,
		"":                                   "",
		"--instance ftp://x jobs":            "no URI of an instance",
		"--instance local://relative jobs":   "no URI of an instance",
	} {
		got := frondAlone(t, strings.Fields(line)...)
		if want == "" {
			require.Zero(t, got.code)
			continue
		}
		require.Equal(t, 1, got.code, line)
		require.Contains(t, got.errout, want, line)
		require.Empty(t, got.out, line)
	}
}

func TestManualPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	require.Zero(t, frondAlone(t, "man", dir).code)
	n := 0
	eachCommand(newRoot(newEnv(), verbs(newEnv())), func(c *cobra.Command) {
		n++
		page, err := os.ReadFile(filepath.Join(dir, manName(c)+".1"))
		require.NoError(t, err)
		require.Contains(t, string(page), ".SH EXAMPLES")
	})
	pages, err := filepath.Glob(dir + "/*.1")
	require.NoError(t, err)
	require.Len(t, pages, n)
	if _, err := exec.LookPath("groff"); err != nil {
		return // the pages are written; nothing here reads them
	}
	for _, page := range pages {
		out, err := exec.Command("groff", "-Kutf8", "-man", "-Tutf8", "-ww", "-z", page).CombinedOutput()
		require.NoError(t, err)
		require.Empty(t, string(out), page)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		got := frondAlone(t, "completion", shell)
		require.Zero(t, got.code)
		require.Contains(t, got.out, "frond")
		path := filepath.Join(t.TempDir(), "script")
		require.NoError(t, os.WriteFile(path, []byte(got.out), 0o600))
		if sh, err := exec.LookPath(shell); err == nil {
			out, err := exec.Command(sh, "-n", path).CombinedOutput()
			require.NoError(t, err, string(out))
		}
	}
	got := frondAlone(t, "__complete", "sub")
	require.Contains(t, got.out, "submit\tSubmit a job")
	got = frondAlone(t, "__complete", "submit", "--nt")
	require.Contains(t, got.out, "--ntasks")
	got = frondAlone(t, "__complete", "cancel", "")
	require.Zero(t, got.code) // no instance: nothing to offer
}
