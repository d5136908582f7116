package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func newEnvCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "env [COMMAND [ARGS…]]",
		Short: "Run a command with FROND_URI and PATH set, or print them for a shell",
		Long: `Run a command with the environment of the instance: FROND_URI says where it is, and PATH begins with this program's directory. Without a command
print that for a shell to read.

Exit codes: the command's; 127 when it is not found; 1 when there is no instance.`,
		Example: "  eval \"$(frond --instance mine env)\"\n  frond --instance mine env make",
		RunE:    func(_ *cobra.Command, args []string) error { return e.runEnv(args) },
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func (e *env) runEnv(argv []string) error {
	uri, err := e.uri()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's directory: %w", err)
	}
	path := e.getenv("PATH")
	if dir := filepath.Dir(self); !strings.HasPrefix(path+":", dir+":") {
		path = strings.TrimSuffix(dir+":"+path, ":")
	}
	if len(argv) == 0 {
		_, err := fmt.Fprintf(e.stdout, "export FROND_URI=%s\nexport PATH=%s\n", shellQuote(uri), shellQuote(path))
		return err
	}
	environ := []string{"FROND_URI=" + uri, "PATH=" + path}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "FROND_URI=") && !strings.HasPrefix(kv, "PATH=") {
			environ = append(environ, kv)
		}
	}
	os.Setenv("PATH", path) // for the search
	file, err := exec.LookPath(argv[0])
	if err != nil {
		return &exitError{Code: 127, Err: err}
	}
	err = syscall.Exec(file, argv, environ)
	code := 126
	if errors.Is(err, os.ErrNotExist) {
		code = 127
	}
	return &exitError{Code: code, Err: fmt.Errorf("%s: %w", file, err)}
}
