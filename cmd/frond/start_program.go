package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/frond-hpc/frond/exec/guard"
	"github.com/frond-hpc/frond/overlay/outer"
)

// runProgram runs the command, or the user's shell where there is a terminal. Without either the queue is worked off, but a
// detached instance stays until it is shut down.
func (s *supervisor) runProgram() {
	argv := s.o.command
	if len(argv) == 0 && s.e.isTerminal(s.e.stdin) && s.o.ready == 0 {
		argv = []string{shell(s.e), "-i"}
	}
	if len(argv) == 0 {
		if s.o.ready == 0 && !s.o.stay {
			s.drain()
		}
		return
	}
	program, err := guard.Start(argv, s.programEnviron(), "", asFile(s.e.stdin), asFile(s.e.stdout), asFile(s.e.stderr))
	if err != nil {
		s.err = commandError(argv[0], err)
		s.stop(false, "the command did not start")
		return
	}
	s.program = program
	go func() {
		st, err := program.Wait()
		if err != nil { // the guard was killed, and by that the program
			st = syscall.WaitStatus(syscall.SIGKILL)
		}
		s.events <- evProgram{st}
	}()
}

// commandError explains why the command could not be started, with the shell's exit codes: 127 not found, 126 not executable.
func commandError(name string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT):
		return &exitError{127, fmt.Errorf("%s: %s", name, whatIsMissing(name))}
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.ENOEXEC):
		return &exitError{126, fmt.Errorf("%s: cannot be executed: %w", name, errors.Unwrap(err))}
	}
	return &exitError{126, err}
}

// whatIsMissing says why a command is not found: it may be there, but not what its first line names.
func whatIsMissing(name string) string {
	f, err := os.Open(name)
	if err != nil || !strings.Contains(name, "/") {
		return "no such command"
	}
	defer f.Close()
	head := make([]byte, 256)
	n, _ := io.ReadFull(f, head)
	line, _, _ := strings.Cut(string(head[:n]), "\n")
	line, isScript := strings.CutPrefix(line, "#!")
	if interpreter := strings.Fields(strings.TrimRight(line, "\r")); isScript && len(interpreter) > 0 {
		if strings.HasSuffix(line, "\r") {
			return "its lines end as on Windows (CR LF), so its interpreter is not found"
		}
		return fmt.Sprintf("its interpreter %s is not there", interpreter[0])
	}
	return "what it needs to be started (an interpreter or loader) is not there"
}

func shell(e *env) string {
	if sh := e.getenv("SHELL"); sh != "" {
		return sh
	}
	return "/bin/sh"
}

// programEnviron is the program's environment, with the id of the allocation if this is one.
func (s *supervisor) programEnviron() []string {
	if c := s.o.child; c != nil {
		return programEnviron(c.programEnviron(), s.info.URI(0))
	}
	environ := os.Environ()
	if s.plan.launch != nil {
		environ = outer.WithoutTask(environ) // it is no task of the launch
	}
	if a := s.plan.around(); a != nil {
		environ = append(a.ProgramEnviron(environ), "FROND_OUTER_JOBID="+a.ID)
	}
	return programEnviron(environ, s.info.URI(0))
}

// programEnviron is the program's environment: the user's, with FROND_URI, and frond's own directory first in PATH.
func programEnviron(environ []string, uri string) []string {
	path := ""
	var out []string
	for _, kv := range environ {
		switch {
		case strings.HasPrefix(kv, "PATH="):
			path = kv[len("PATH="):]
		case !strings.HasPrefix(kv, "FROND_URI=") && !strings.HasPrefix(kv, carriedEnv+"="):
			out = append(out, kv)
		}
	}
	if self, err := os.Executable(); err == nil {
		path = withDir(filepath.Dir(self), path)
	}
	return append(out, "PATH="+path, "FROND_URI="+uri)
}

// defaultPath is where commands are searched when there is no PATH.
const defaultPath = "/usr/local/bin:/usr/bin:/bin"

// withDir puts dir first in a PATH.
func withDir(dir, path string) string {
	return dir + string(os.PathListSeparator) + cmp.Or(path, defaultPath)
}
