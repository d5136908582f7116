package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/exec/proc"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/spf13/cobra"
)

// newChildCmd is what the tasks of a job run that is an instance: task 0 is its leader and supervisor, the others are brokers of it.
func newChildCmd(e *env) *cobra.Command {
	o := &startOptions{}
	cmd := &cobra.Command{
		Use:    "child [flags] [--] [command …]",
		Short:  "Be a broker of a child instance (frond batch and frond alloc start it)",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.command = args
			return o.runChild(cmd.Context(), e)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&o.branch, "branch", "", "be the branch of this `NAME` of the instance around this one")
	cmd.Flags().StringVar(&o.dump, "dump", "", "archive the state into `FILE` at the end")
	cmd.Flags().BoolVar(&o.stay, "stay", false, "without a command: until it is ended")
	return cmd
}

// childStart is what a child instance starts with.
type childStart struct {
	*proc.Child
	parent  *boot.Info
	uri     string   // of the parent, on this host
	path    string   // FROND_JOB_ID_PATH
	environ []string // of this process as it was started
}

// takeChild takes what this process needs out of its environment: what describes the job is for nothing that starts here.
func takeChild() (*childStart, error) {
	c := &childStart{uri: os.Getenv("FROND_URI"), path: os.Getenv("FROND_JOB_ID_PATH")}
	var err error
	if c.Child, err = proc.ReadChild(); err != nil {
		return nil, err
	}
	if c.parent, err = boot.Load(c.RunDir); err != nil {
		return nil, fmt.Errorf("the instance around this one: %w", err)
	}
	c.environ = os.Environ()
	keep := brokerEnviron(c.environ)
	for _, kv := range c.environ {
		if !slices.Contains(keep, kv) {
			name, _, _ := strings.Cut(kv, "=")
			os.Unsetenv(name)
		}
	}
	return c, nil
}

func (o *startOptions) runChild(ctx context.Context, e *env) error {
	c, err := takeChild()
	if err != nil {
		return err
	}
	if c.Task > 0 {
		return c.follow(ctx, e, o.startLimit())
	}
	if err := o.forChild(); err != nil {
		return err
	}
	o.child, o.unlisted, o.brokers = c, true, c.Size
	if o.transport == boot.Unix {
		o.transport = c.parent.Transport
	}
	if o.dump != "" {
		if o.dump, err = filepath.Abs(o.dump); err != nil {
			return fmt.Errorf("--dump: %w", err)
		}
	}
	return o.run(ctx, e)
}

// getenv is the environment by which this instance's run directories lie beside its parent's.
func (c *childStart) getenv(name string) string {
	if name == "FROND_RUNDIR" {
		return filepath.Dir(filepath.Dir(c.parent.RunDir))
	}
	return os.Getenv(name)
}

// runDir makes the run directory; it has the job's id as name, with something added where that is taken.
func (c *childStart) runDir(size int) (*boot.RunDir, error) {
	base := boot.Base(c.getenv, c.name(), size)
	dir, err := boot.CreateRunDir(base, c.name(), size)
	for tries := 0; errors.Is(err, boot.ErrRunning) && tries < 100; tries++ {
		dir, err = boot.CreateRunDir(base, c.name()+strings.TrimLeft(boot.RandomName(), "abcdefghijklmnopqrstuvwxyz"), size)
	}
	return dir, err
}

// name is the job's id in letters of ASCII.
func (c *childStart) name() string { return plainID(c.Job) }

func plainID(f58 string) string { return "f" + strings.TrimPrefix(f58, "ƒ") }

// describe says in the boot file whose child this is.
func (c *childStart) describe(info *boot.Info) {
	info.Level, info.ParentURI, info.JobID, info.JobPath = strings.Count(c.path, "/"), c.uri, c.Job, c.path
	if c.parent.Spread && c.Size > 1 {
		info.Spread, info.Transport, info.Interface, info.Ports = true, boot.ZeroMQ, c.parent.Interface, c.parent.Ports
	}
}

// asBranch says in the boot file what a branch has of its parent. Its jobs are the top's, and see nothing of it.
func (c *childStart) asBranch(info *boot.Info) {
	info.JobPath, info.TaskURI, info.Unsynced = c.parent.JobPath, cmp.Or(c.parent.TaskURI, c.uri), c.parent.TempState || c.parent.Unsynced
	info.Outer, info.Drain = c.parent.Outer, c.parent.Drain
}

// stateDir is where the child keeps its jobs: if they are to be seen later in the parent's state directory, as far as this host has it.
func (c *childStart) stateDir(rundir string) (string, error) {
	dir := filepath.Join(rundir, "state")
	if _, err := os.Stat(filepath.Join(c.parent.StateDir, "store.db")); c.History && err == nil {
		dir = historyDir(c.parent.StateDir, c.Job)
		if c.Attempt > 1 {
			dir += fmt.Sprintf(".%d", c.Attempt)
		}
	}
	return dir, os.MkdirAll(dir, 0o700)
}

// historyDir is where a job that is an instance keeps what it ran, in its parent's state directory; later attempts have .N behind it.
func historyDir(statedir, f58 string) string { return filepath.Join(statedir, "branch", plainID(f58)) }

// programEnviron is the program's environment: the job's, without what is only for the job's tasks.
func (c *childStart) programEnviron() []string {
	var out []string
	for _, kv := range c.environ {
		name, _, _ := strings.Cut(kv, "=")
		if !taskVariable(name) {
			out = append(out, kv)
		}
	}
	return append(out, "FROND_ENCLOSING_ID="+c.Job)
}

// taskVariable tells whether a variable describes a task.
func taskVariable(name string) bool {
	switch name {
	case "FROND_URI", "FROND_ATTEMPT", "FROND_NODELIST", "FROND_CORES", "FROND_ENCLOSING_ID":
		return true
	}
	return slices.ContainsFunc([]string{"FROND_JOB_", "FROND_TASK_", "FROND_ARRAY_", "PMI_"}, func(p string) bool { return strings.HasPrefix(name, p) })
}
