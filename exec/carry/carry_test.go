package carry

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/exec/pty"
	"github.com/stretchr/testify/require"
)

// The test's own binary plays the other side, and a user's side of its own where that needs a process.
func TestMain(m *testing.M) {
	switch os.Getenv("CARRY_TEST") {
	case "serve":
		os.Unsetenv("CARRY_TEST")
		if err := Serve(os.Stdin, os.Stdout, []string{"KEPT"}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(9)
		}
	case "run":
		c := Command{Argv: []string{"/bin/sh", "-c", os.Getenv("CARRY_SCRIPT")}, Env: os.Environ(), Dir: "/", Streams: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}}
		code, err := c.Run(launcher())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
		os.Exit(code)
	default:
		if signal.Ignored(syscall.SIGHUP) { // by nohup; then no script could trap it
			signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
		}
		os.Exit(m.Run())
	}
}

func launcher() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "CARRY_TEST=serve", "KEPT=there")
	cmd.Stderr = os.Stderr
	return cmd
}

// carried runs a script with input, and returns what it wrote.
func carried(t *testing.T, script, input string) (stdout, stderr string, code int) {
	var files [3]*os.File
	for i, name := range []string{"in", "out", "err"} {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		require.NoError(t, err)
		defer f.Close()
		files[i] = f
	}
	files[0].WriteString(input)
	files[0].Seek(0, io.SeekStart)
	c := Command{Argv: []string{"/bin/sh", "-c", script}, Env: []string{"A=b", "KEPT=here", "PATH=" + os.Getenv("PATH")}, Dir: "/", Streams: files}
	code, err := c.Run(launcher())
	require.NoError(t, err)
	read := func(f *os.File) string {
		text, err := os.ReadFile(f.Name())
		require.NoError(t, err)
		return string(text)
	}
	return read(files[1]), read(files[2]), code
}

func TestStreamsEnvironmentAndExitCodeAreCarried(t *testing.T) {
	out, errOut, code := carried(t, `cat; echo $A $KEPT; printf '=X no newline'; echo bad >&2; pwd; exit 5`, "one\ntwo")
	require.Equal(t, "one\ntwob there\n=X no newline/\n", out)
	require.Equal(t, "bad\n", errOut)
	require.Equal(t, 5, code)
	_, _, code = carried(t, "kill -9 $$", "")
	require.Equal(t, 137, code)
}

func TestMuchIsCarriedWhole(t *testing.T) {
	input := strings.Repeat("0123456789\x00\xff\n", 300_000)
	out, _, code := carried(t, "cat", input)
	require.Zero(t, code)
	require.True(t, input == out, "%d bytes came back of %d", len(out), len(input))
}

func TestACommandThatReadsNothingEnds(t *testing.T) {
	_, _, code := carried(t, "exit 3", strings.Repeat("x", 1<<20))
	require.Equal(t, 3, code)
}

func TestWhatCannotBeStartedIsSaid(t *testing.T) {
	_, err := (&Command{Argv: []string{"/bin/true"}, Dir: "/no/such/directory"}).Run(launcher())
	require.ErrorContains(t, err, "the directory /no/such/directory is not on host")
	_, err = (&Command{Argv: []string{"/no/such/command"}, Dir: "/"}).Run(launcher())
	var why StartError
	require.ErrorAs(t, err, &why)
	require.ErrorContains(t, err, "start /no/such/command")
}

func TestALauncherThatFailsIsAnError(t *testing.T) {
	_, err := (&Command{Argv: []string{"/bin/true"}, Dir: "/"}).Run(exec.Command("sh", "-c", "exit 7"))
	require.ErrorIs(t, err, ErrNoEnd)
	require.ErrorContains(t, err, "exit status 7")
	err = Serve(strings.NewReader("nonsense\n=Hx\n=H"+"e30=\n"), io.Discard, nil)
	require.ErrorContains(t, err, "nothing to run was told")
}

// user starts a user's side as a process.
func user(t *testing.T, script string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "CARRY_TEST=run", "CARRY_SCRIPT="+script)
	return cmd
}

func TestSignalsAreCarriedPastInputThatNobodyReads(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1} {
		cmd := user(t, fmt.Sprintf("trap 'exit 40' %d; echo ready; while :; do sleep 0.05; done", sig))
		cmd.Stdin = endless{}
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = io.ReadFull(out, make([]byte, 6))
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Signal(sig))
		io.Copy(io.Discard, out)
		state, err := cmd.Process.Wait()
		require.NoError(t, err)
		require.Equal(t, 40, state.ExitCode(), sig.String())
	}
}

// endless is input without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func TestTheEndOfTheUserIsAHangup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	cmd := user(t, "trap 'echo hup >"+file+"; exit' HUP; echo ready; while :; do sleep 0.05; done")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	io.ReadFull(out, make([]byte, 6))
	cmd.Process.Kill()
	cmd.Wait()
	require.Eventually(t, func() bool { text, _ := os.ReadFile(file); return string(text) == "hup\n" }, time.Minute, 10*time.Millisecond)
}

// A pager may not read on for a while: what the command wrote is not cut off because it has ended.
func TestWhoReadsLateGetsAll(t *testing.T) {
	const size = 160_000 // as much as the pipes between take, so that the command can end
	file := filepath.Join(t.TempDir(), "file")
	cmd := user(t, fmt.Sprintf("yes | head -c %d; echo >%s", size, file))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { _, err := os.Stat(file); return err == nil }, time.Minute, 10*time.Millisecond)
	time.Sleep(drainLimit + drainLimit/2)
	rest, err := io.Copy(io.Discard, out)
	require.NoError(t, err)
	require.NoError(t, cmd.Wait())
	require.Equal(t, size, int(rest))
}

func TestWhoReadsNoMoreEndsTheWriter(t *testing.T) {
	cmd := user(t, "yes; exit $?")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	io.ReadFull(out, make([]byte, 100))
	out.Close()
	cmd.Wait()
	require.Equal(t, 141, cmd.ProcessState.ExitCode(), "SIGPIPE")
}

// onTerminal runs a user's side on a terminal of 33 rows; screen is what it shows.
func onTerminal(t *testing.T, script string) (cmd *exec.Cmd, keys *os.File, screen *screen) {
	master, slave, err := pty.Open()
	require.NoError(t, err)
	t.Cleanup(func() { master.Close() })
	pty.Resize(master, 33, 77)
	cmd = user(t, script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	slave.Close()
	screen = newScreen(master)
	return cmd, master, screen
}

type screen struct {
	text  bytes.Buffer
	lines chan string
}

func newScreen(r io.Reader) *screen {
	s := &screen{lines: make(chan string, 1000)}
	go func() {
		buf := make([]byte, 1000)
		for {
			n, err := r.Read(buf)
			s.lines <- string(buf[:n])
			if err != nil {
				close(s.lines)
				return
			}
		}
	}()
	return s
}

func (s *screen) await(t *testing.T, want string) {
	limit := time.After(time.Minute)
	for !strings.Contains(s.text.String(), want) {
		select {
		case text, ok := <-s.lines:
			s.text.WriteString(text)
			require.True(t, ok || strings.Contains(s.text.String(), want), "no %q in %q", want, s.text.String())
		case <-limit:
			require.Fail(t, "no "+want, "%q", s.text.String())
		}
	}
	s.text.Reset()
}

func TestATerminalIsCarried(t *testing.T) {
	cmd, keys, screen := onTerminal(t, `trap 'echo int' INT; tty; stty size; tty <&2; read x; echo "got $x"; while :; do read y && echo "then $y"; test "$y" = end && exit 6; done`)
	screen.await(t, "33 77\r\n/dev/pts/")
	keys.WriteString("hello\r")
	screen.await(t, "got hello")
	keys.Write([]byte{3})
	screen.await(t, "int")
	pty.Resize(keys, 20, 30)
	keys.WriteString("end\r")
	screen.await(t, "then end")
	cmd.Wait()
	require.Equal(t, 6, cmd.ProcessState.ExitCode())
}
