package script

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// openShell is a shell at a terminal of so many columns, with an instance called t. It ends with the test.
func openShell(t *testing.T, columns uint16) *terminal {
	dir, err := os.MkdirTemp("", "fj")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	tm, slave := openTerminal(t)
	require.NoError(t, unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}))
	sh := exec.Command("sh", "-i")
	sh.Env = append(harness.Environ(dir), "PS1=% ", "ENV=", "TERM=xterm", "NO_COLOR=")
	sh.Dir = dir
	sh.Stdin, sh.Stdout, sh.Stderr = slave, slave, slave
	sh.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, sh.Start())
	slave.Close()
	go tm.read()
	tm.await("% ")
	tm.enter("frond start --detach --name t\n")
	tm.await("t local:")
	t.Cleanup(func() {
		harness.KillAll(dir)
		sh.Wait()
	})
	return tm
}

// TestInterruptsAtATerminal: Ctrl-C goes to the tasks, twice it cancels the job, Ctrl-C Ctrl-Z leaves it alone, Ctrl-Z stops the command.
func TestInterruptsAtATerminal(t *testing.T) {
	tm := openShell(t, 80)
	tm.enter("frond run sh -c 'trap \"echo got it; exit 3\" INT; echo up; while :; do sleep 0.05; done'; echo code $?\n")
	tm.await(`up\r`)
	tm.enter("\x03")
	tm.await("got it\r")
	tm.await("code 3\r")

	tm.enter("frond run sh -c 'trap : INT; echo up; while :; do sleep 0.05; done'; echo code $?\n")
	tm.await(`up\r`)
	tm.enter("\x03")
	tm.await("sent SIGINT to the job")
	tm.enter("\x03")
	tm.await("canceling the job")
	tm.await("code [1-9][0-9]*\r")

	tm.enter("frond run --job-name kept sh -c 'trap : INT; echo up; while :; do sleep 0.05; done'; echo code $?\n")
	tm.await(`up\r`)
	tm.enter("\x03")
	tm.await("sent SIGINT to the job")
	tm.enter("\x1a")
	tm.await("goes on; 'frond job attach ")
	tm.await("code 0\r")
	tm.enter("frond jobs -n -o '{name} {status}'\n")
	tm.await("kept RUN")

	tm.enter("frond run sh -c 'echo up; sleep 0.5; echo over'\n")
	tm.await(`up\r`)
	tm.enter("\x1a")
	tm.await("Stopped")
	tm.enter("fg\n")
	tm.await("over\r")
}

// TestNarrowTerminal: 20 columns are enough for every command that draws.
func TestNarrowTerminal(t *testing.T) {
	tm := openShell(t, 20)
	tm.enter("frond submit --cc=1-8 --wait --progress sleep 0.05; echo code $?\n")
	tm.await("code 0\r")
	tm.enter("frond jobs -a; frond list; frond resource list; frond resource status; frond overlay status; frond jobs --help >/dev/null; echo code $?\n")
	tm.await("code 0\r")
}

// TestALentTerminal: with pty.interactive a job's task 0 has the terminal: its size, its keys, and ~. leaves the job alone.
func TestALentTerminal(t *testing.T) {
	tm := openShell(t, 91)
	tm.enter("frond run -o pty.interactive sh -c 'stty size; stty raw; echo up; dd bs=1 count=1 2>/dev/null | od -c; stty -raw; exit 4'; echo code $?\n")
	tm.await("24 91\r")
	tm.await("up")
	tm.enter("\x03")
	tm.await("003")
	tm.await("code 4\r")

	tm.enter("frond run -o pty.interactive sh -c 'trap \"echo got it; exit 3\" INT; echo up; while :; do sleep 0.05; done'; echo code $?\n")
	tm.await("up\r")
	tm.enter("\x03")
	tm.await("got it\r")
	tm.await("code 3\r")

	tm.enter("frond run --job-name kept -o pty.interactive sh -c 'echo up; read line; echo \"line: $line\"'; echo code $?\n")
	tm.await("up\r")
	tm.enter("~.")
	tm.await("goes on; 'frond job attach ")
	tm.await("code 0\r")
	tm.enter("frond job attach $(frond jobs -n -o '{id}' --name=kept); echo code $?\n")
	tm.await("up\r")
	tm.enter("typed\r")
	tm.await("line: typed\r")
	tm.await("code 0\r")
	tm.enter("echo still $((40 + 2))\n")
	tm.await("still 42\r")
}
