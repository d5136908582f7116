package options

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

// nonsense are values that no option is made for. Some options take any text; what counts is that nothing breaks.
var nonsense = []string{"", "-1", "99999999999999999999", "\x01\x1b[31m\xff", "{{", "a[9-1],b-", "1-1000000000"}

var (
	valueRE   = regexp.MustCompile(`(?m)^ +(?:-[A-Za-z0-9], )?(--[a-z0-9][a-z0-9-]*) [^ ]`)
	commandRE = regexp.MustCompile(`(?m)^  ([a-zA-Z][a-zA-Z-]*) {2,}\S`)
)

// leaf is a command with its options that take a value.
type leaf struct {
	verb    []string
	options []string
}

// leaves lists all commands that help lists.
func leaves(t *testing.T, verb []string) []leaf {
	out, err := exec.Command(filepath.Join(harness.BinDir(), "frond"), append(append([]string{}, verb...), "--help")...).Output()
	require.NoError(t, err)
	head, flags, _ := strings.Cut(string(out), "\nFlags:\n")
	flags, _, _ = strings.Cut(flags, "\nGlobal Flags:\n")
	if _, examples, ok := strings.Cut(head, "\nExamples:\n"); ok {
		_, head, _ = strings.Cut(examples, "\n\n")
	}
	var list []leaf
	for _, m := range commandRE.FindAllStringSubmatch(head, -1) {
		if m[1] != "help" {
			list = append(list, leaves(t, append(append([]string{}, verb...), m[1]))...)
		}
	}
	if len(list) > 0 {
		return list
	}
	l := leaf{verb: verb}
	for _, m := range valueRE.FindAllStringSubmatch(flags, -1) {
		l.options = append(l.options, m[1])
	}
	return []leaf{l}
}

// spared are commands that end the instance, or write where they are told.
var spared = map[string]bool{"shutdown": true, "man": true}

// takesCommand are commands whose arguments are a command line to run.
var takesCommand = map[string]bool{"start": true, "run": true, "submit": true, "bulksubmit": true, "parallel": true, "exec": true, "env": true, "batch": true, "alloc": true}

// TestNonsense gives every option of every command values that make no sense: an error or not, but no crash, and the instance stays well.
func TestNonsense(t *testing.T) {
	dir, err := os.MkdirTemp("", "fn")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Cleanup(func() { harness.KillAll(dir) })
	n := &nonsenseRun{t: t, dir: dir, env: append(harness.Environ(dir), "LC_ALL=C.UTF-8")}
	out, err := n.frond("start", "--detach", "--name", "n", "--resources", "node/core[4]")
	require.NoError(t, err, out)
	_, uri, _ := strings.Cut(strings.TrimSpace(out), " ")
	n.env = append(n.env, "FROND_URI="+uri)
	id, err := n.frond("submit", "--wait", "true")
	require.NoError(t, err, id)
	n.id = strings.TrimSpace(id)

	values := nonsense
	if os.Getenv("FROND_FULL") == "" {
		values = nonsense[3:5]
	}
	work := make(chan []string)
	var workers sync.WaitGroup
	for range 3 {
		workers.Go(func() {
			for args := range work {
				n.try(args)
			}
		})
	}
	for _, l := range leaves(t, nil) {
		if spared[strings.Join(l.verb, " ")] {
			continue
		}
		for _, o := range l.options {
			for _, v := range values {
				args := append(append([]string{}, l.verb...), o+"="+v)
				if takesCommand[l.verb[0]] {
					work <- append(args, "true")
				} else {
					work <- append(args, n.id)
				}
			}
		}
	}
	close(work)
	workers.Wait()
	require.Greater(t, n.tried, 200)
	out, err = n.frond("ping", "--count=1", "0")
	require.NoError(t, err, out)
	out, err = n.frond("cancel", "--all")
	require.NoError(t, err, out)
	out, err = n.frond("run", "echo", "well")
	require.NoError(t, err, out)
	require.Equal(t, "well\n", out)
	out, err = n.frond("shutdown", "n")
	require.NoError(t, err, out)
}

type nonsenseRun struct {
	t   *testing.T
	dir string
	env []string
	id  string

	mu    sync.Mutex
	tried int
}

func (n *nonsenseRun) frond(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(harness.BinDir(), "frond"), args...)
	cmd.Dir, cmd.Env = n.dir, n.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// crashRE is what a Go program prints that has crashed.
var crashRE = regexp.MustCompile(`(?m)^(panic: |fatal error: |goroutine \d+ \[)`)

// try runs one command line. Some wait for what never comes: they are given a moment.
func (n *nonsenseRun) try(args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(harness.BinDir(), "frond"), args...)
	cmd.Dir, cmd.Env = n.dir, n.env
	cmd.WaitDelay = time.Second
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.CombinedOutput()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tried++
	if crashRE.Match(out) {
		n.t.Errorf("%q crashes:\n%s", args, out)
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) && ctx.Err() == nil && failed.ExitCode() > 0 && len(out) == 0 && !takesCommand[args[0]] && args[0] != "pgrep" { // pgrep says by its exit code that nothing matches
		n.t.Errorf("%q fails with %d and says nothing", args, failed.ExitCode())
	}
	asIs := args[0] == "config" || args[0] == "pstree" // config get prints what it is given, and a format's own text is the user's, colours too
	if strings.Contains(string(out), "\x1b[31m\xff") && !asIs {
		n.t.Errorf("%q prints control characters as they are: %q", args, out)
	}
}
