package script

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal with a shell that has job control.
type terminal struct {
	t      *testing.T
	master *os.File
	mu     sync.Mutex
	seen   bytes.Buffer // what was printed since the last await
}

// openTerminal opens a pair (pty(7)).
func openTerminal(t *testing.T) (term *terminal, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	return &terminal{t: t, master: master}, slave
}

func (tm *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := tm.master.Read(buf)
		tm.mu.Lock()
		tm.seen.Write(buf[:n])
		tm.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (tm *terminal) enter(text string) {
	_, err := tm.master.WriteString(text)
	require.NoError(tm.t, err)
}

// await waits until pattern was printed, and forgets what was printed up to its end.
func (tm *terminal) await(pattern string) {
	tm.t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	found := harness.Until(harness.Patience, func() bool {
		tm.mu.Lock()
		defer tm.mu.Unlock()
		at := re.FindIndex(tm.seen.Bytes())
		if at != nil {
			tm.seen.Next(at[1])
		}
		return at != nil
	})
	tm.mu.Lock()
	defer tm.mu.Unlock()
	require.True(tm.t, found, "%q was not printed:\n%s", pattern, tm.seen.String())
}

// TestJobControl plays a user at a shell: frond start and its command stop and go on together, and interrupts go to the command.
func TestJobControl(t *testing.T) {
	dir, err := os.MkdirTemp("", "fj")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Cleanup(func() { harness.KillAll(dir) })
	tm, slave := openTerminal(t)
	sh := exec.Command("sh", "-i")
	sh.Env = append(harness.Environ(dir), "PS1=% ", "ENV=", "TERM=dumb")
	sh.Dir = dir
	sh.Stdin, sh.Stdout, sh.Stderr = slave, slave, slave
	sh.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, sh.Start())
	slave.Close()
	go tm.read()

	tm.await("% ")
	tm.enter("frond start -- sh -c 'trap \"echo interrupted; exit 7\" INT; echo up; while :; do sleep 0.05; done'\n")
	tm.await(`(?:^|\x1b\[K)up`) // the line that says how many brokers have come goes before
	tm.enter("\x1a")            // ^Z
	tm.await("Stopped")
	tm.enter("fg\n")
	tm.await("frond start")
	time.Sleep(200 * time.Millisecond)
	tm.enter("\x03") // ^C
	tm.await(`\^Cinterrupted`)
	tm.enter("echo code $?\n")
	tm.await("code 7\r")

	tm.enter("frond start -- cat &\n")
	tm.await("% ")
	tm.enter("fg\n")
	tm.await("frond start")
	time.Sleep(300 * time.Millisecond)
	tm.enter("to the command\n")
	tm.await("^to the command\r\nto the command") // the terminal's echo, and cat's
	tm.enter("\x04")
	tm.enter("exit\n")
	sh.Wait()
	var left []string
	require.True(t, harness.Until(harness.Patience, func() bool { left = harness.Left(dir, dir); return len(left) == 0 }), "%v", left)
}
