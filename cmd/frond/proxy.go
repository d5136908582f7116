package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

type proxyCmd struct{ nohup, force, reconnect bool }

func newProxyCmd(e *env) *cobra.Command {
	o := &proxyCmd{}
	cmd := &cobra.Command{
		Use:     "proxy [OPTIONS] TARGET [COMMAND [ARG…]]",
		Aliases: []string{"shell"},
		Short:   "Run a command, or a shell, whose frond commands talk to another instance",
		Long: `Run a command, else a shell, with FROND_URI set to another instance: TARGET is what 'frond uri' takes, as the id of a job that
is an instance (JOBID/JOBID for a job of that one), a name or a URI. Of an instance that has ended its jobs can be looked at,
as long as what it left is there. Commands connect again by themselves when the instance was away (Flux's --reconnect).

Exit codes: the command's; 1 when there is no such instance, 127 when there is no such command, 126 when it cannot be run.`,
		Example: `  frond proxy f2GkxPgu frond jobs -a
  frond shell f2GkxPgu/f3AbQ
  frond proxy lab frond submit ./job.sh`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&o.nohup, "nohup", "n", false, "go on when the terminal is closed")
	f.BoolVarP(&o.force, "force", "f", false, "Flux's: versions are checked when commands connect")
	f.BoolVar(&o.reconnect, "reconnect", false, "Flux's: commands always do")
	return cmd
}

func (o *proxyCmd) run(ctx context.Context, e *env, args []string) error {
	uri, err := e.targetURI(args[:1])
	if err != nil {
		return err
	}
	c, err := e.dial(ctx, uri)
	if err != nil {
		return err
	}
	c.Close()
	argv := args[1:]
	if len(argv) == 0 {
		argv = []string{shell(e)}
	}
	path, err := exec.LookPath(argv[0])
	switch {
	case errors.Is(err, fs.ErrPermission):
		return commandError(argv[0], fmt.Errorf("%s: %w", argv[0], syscall.EACCES))
	case err != nil:
		return commandError(argv[0], syscall.ENOENT)
	}
	if o.nohup {
		signal.Ignore(syscall.SIGHUP)
	}
	var environ []string
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); !taskVariable(name) {
			environ = append(environ, kv)
		}
	}
	return commandError(argv[0], fmt.Errorf("%s: %w", argv[0], syscall.Exec(path, argv, programEnviron(environ, uri))))
}
