package rexecproc

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/exec/rexec"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// log is what a process has told.
type log struct {
	mu   sync.Mutex
	out  [3]strings.Builder
	pid  chan int
	last chan any
	news chan struct{}
}

func start(d *Driver, s *rexec.Start) *log {
	l := &log{last: make(chan any, 1), pid: make(chan int, 1), news: make(chan struct{}, 1)}
	if s.Window == 0 {
		s.Window = 1 << 30
	}
	s.Env = append(s.Env, "PATH="+os.Getenv("PATH")...)
	s.Env = append(s.Env, 0)
	d.Do(time.Time{}, s, func(res any, _ error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		switch r := res.(type) {
		case rexec.Started:
			l.pid <- r.PID
		case rexec.Output:
			l.out[r.Stream].Write(r.Data)
			select {
			case l.news <- struct{}{}:
			default:
			}
		default:
			l.last <- res
		}
	})
	return l
}

func (l *log) text(stream int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out[stream].String()
}

func TestAProcessIsRunWithItsStreamsAndItsEnd(t *testing.T) {
	d := New(Config{URI: "local:///b"})
	defer d.Close()
	l := start(d, &rexec.Start{ID: "a", Argv: []string{"sh", "-c", "cat; echo err >&2; pwd; echo $FROND_URI $A; exit 7"}, Dir: "/", Input: true,
		Env: []byte("FROND_URI=other\x00A=b\x00")})
	wrote := make(chan bool)
	d.Do(time.Time{}, &rexec.Write{ID: "a", Data: []byte("in"), EOF: true}, func(any, error) { close(wrote) })
	<-wrote
	require.Equal(t, rexec.Exited{Status: 7 << 8}, <-l.last)
	require.Equal(t, "in/\nlocal:///b b\n", l.text(1))
	require.Equal(t, "err\n", l.text(2))
	d.Do(time.Time{}, &rexec.Write{ID: "a", Data: []byte("late")}, func(any, error) { wrote = nil })
	require.Nil(t, wrote, "input for a process that has ended is answered")
}

func TestWhatCannotBeStartedIsSaid(t *testing.T) {
	d := New(Config{})
	defer d.Close()
	require.Equal(t, rexec.Failed{Text: "/no/such: no such file or directory", Code: 127}, <-start(d, &rexec.Start{ID: "a", Argv: []string{"/no/such"}}).last)
	require.Equal(t, rexec.Failed{Text: "/etc/passwd: permission denied", Code: 126}, <-start(d, &rexec.Start{ID: "a", Argv: []string{"/etc/passwd"}}).last)
	require.Equal(t, rexec.Failed{Text: "/no/dir: no such file or directory", Code: 126}, <-start(d, &rexec.Start{ID: "a", Argv: []string{"true"}, Dir: "/no/dir"}).last)
}

func TestOutputThatNobodyTakesMakesTheProcessWait(t *testing.T) {
	d := New(Config{})
	defer d.Close()
	const window = 100 << 10
	l := start(d, &rexec.Start{ID: "a", Argv: []string{"head", "-c", "3000000", "/dev/zero"}, Window: window})
	for acked := 0; acked < 3000000; {
		select {
		case <-l.news:
		case last := <-l.last:
			l.last <- last
		}
		n := len(l.text(1)) - acked
		require.LessOrEqual(t, n, window+64<<10, "one piece may go beyond the window")
		acked += n
		d.Do(time.Time{}, &rexec.Ack{ID: "a", Bytes: n}, nil)
	}
	require.Equal(t, rexec.Exited{}, <-l.last)
	require.Len(t, l.text(1), 3000000)
}

func TestSignalsAndKillsReachAllThatTheProcessStarted(t *testing.T) {
	d := New(Config{})
	l := start(d, &rexec.Start{ID: "a", Argv: []string{"sh", "-c", "sleep 1000 & sleep 1000"}})
	<-l.pid
	d.Do(time.Time{}, &rexec.Signal{ID: "a", Signal: int(syscall.SIGTERM)}, nil)
	require.Equal(t, rexec.Exited{Status: int(syscall.SIGTERM)}, <-l.last)

	for _, end := range []func(){func() { d.Do(time.Time{}, &rexec.Kill{ID: "b"}, nil) }, d.Close} {
		l = start(d, &rexec.Start{ID: "b", Argv: []string{"sh", "-c", "trap '' TERM; setsid sleep 1000 & echo $!; cat /dev/zero"}, Window: 10, Input: true})
		<-l.news
		d.Do(time.Time{}, &rexec.Write{ID: "b", Data: make([]byte, 1<<20)}, func(any, error) {}) // nobody reads it
		var child int
		_, err := fmt.Sscan(l.text(1), &child)
		require.NoError(t, err)
		end()
		require.Equal(t, rexec.Exited{Status: int(syscall.SIGKILL)}, <-l.last)
		require.Equal(t, syscall.ESRCH, syscall.Kill(child, 0))
	}
	require.Equal(t, "the broker is stopping", (<-start(d, &rexec.Start{ID: "c", Argv: []string{"true"}}).last).(rexec.Failed).Text)
}
