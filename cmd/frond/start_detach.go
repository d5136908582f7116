package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// readyFD is the descriptor on which a detached supervisor prints its name and URI once it is ready.
const readyFD = 3

// detach runs this same command line again in a session of its own and waits until it is ready, or has failed. Until then its
// error output is ours.
func detach(ctx context.Context, e *env) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	defer r.Close()
	args := append([]string{"start", fmt.Sprintf("--ready-fd=%d", readyFD)}, argsAfterStart(os.Args)...)
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{"frond"}, args...), Stderr: asFile(e.stderr),
		ExtraFiles: []*os.File{w}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	line, _ := io.ReadAll(r)
	if len(line) > 0 {
		e.stdout.Write(line)
		return cmd.Process.Release()
	}
	err = cmd.Wait()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return &exitError{Code: max(failed.ExitCode(), 1)} // it has said why
	}
	return errors.Join(errors.New("the detached instance ended before it was ready"), err)
}

// argsAfterStart is what follows the verb on the command line.
func argsAfterStart(args []string) []string {
	for i, a := range args {
		if a == "start" {
			return args[i+1:]
		}
	}
	return nil
}

// announce tells whoever started a detached supervisor that it is ready; from then on messages go to a log of its own.
func (s *supervisor) announce() {
	if s.o.ready == 0 {
		return
	}
	ready := os.NewFile(uintptr(s.o.ready), "ready")
	log, err := os.OpenFile(filepath.Join(s.info.RunDir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		unix.Dup2(int(log.Fd()), 2) // the starter's terminal or pipe must not be held open
		log.Close()
	}
	fmt.Fprintf(ready, "%s %s\n", s.info.Name, s.info.URI(0))
	ready.Close()
}
