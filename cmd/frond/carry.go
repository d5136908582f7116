package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"github.com/frond-hpc/frond/exec/carry"
	"github.com/frond-hpc/frond/overlay/outer"
	"github.com/spf13/cobra"
)

// carriedEnv names, in the process that was carried to it, the node on which it stands.
const carriedEnv = "FROND_CARRIED"

func newCarryCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "carry",
		Short: "Run a command for 'frond start' on another node",
		Long: `Run the command that standard input tells of, with its streams, terminal, signals and exit code in messages on
standard input and output. 'frond start' has it started on the first node of an allocation when it stands on none.

Exit codes: 0 when the command's own was told, 1 when there was nothing to run.`,
		Example: "  srun -N1 -n1 frond carry     # as 'frond start' in a shell of salloc does",
		Args:    cobra.NoArgs,
		Hidden:  true,
		RunE: func(*cobra.Command, []string) error {
			return carry.Serve(e.stdin, e.stdout, outer.NodeVars)
		},
	}
}

// carry runs this same command on the first node of the allocation, with everything that the user has here.
func (p *launchPlan) carry(e *env) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the directory: %w", err)
	}
	c := carry.Command{Argv: slices.Concat([]string{self}, e.args), Env: append(os.Environ(), carriedEnv+"="+p.nodes[0]), Dir: dir,
		Streams: [3]*os.File{asFile(e.stdin), asFile(e.stdout), asFile(e.stderr)}}
	launcher := exec.Command(p.seat[0], p.seat[1:]...)
	launcher.Env, launcher.Stderr = outer.SrunEnviron(brokerEnviron(os.Environ())), &srunTalk{w: e.stderr}
	launcher.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // the terminal's signals are carried
	code, err := c.Run(launcher)
	var why carry.StartError
	switch {
	case errors.As(err, &why):
		return fmt.Errorf("on node %s: %w", p.nodes[0], err)
	case errors.Is(err, carry.ErrNoEnd):
		return fmt.Errorf("what runs on node %s is out of reach (%w): has the node failed, the allocation ended, or is %s not there?", p.nodes[0], err, self)
	case err != nil:
		return fmt.Errorf("start on node %s: %w", p.nodes[0], err)
	case code != 0:
		return &exitError{Code: code}
	}
	return nil
}

// srunTalk passes on what srun says, but not that the site binds no tasks to cpus: nobody has asked it to.
type srunTalk struct {
	w    io.Writer
	line []byte // what came of one that has not ended
}

// Write never fails.
func (t *srunTalk) Write(b []byte) (int, error) {
	t.line = append(t.line, b...)
	for {
		i := bytes.IndexByte(t.line, '\n')
		if i < 0 {
			return len(b), nil
		}
		if !bytes.Contains(t.line[:i], []byte("lacks support for cpu binding")) {
			t.w.Write(t.line[:i+1])
		}
		t.line = t.line[i+1:]
	}
}
