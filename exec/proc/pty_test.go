package proc

import (
	"strings"
	"testing"

	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
)

func terminal(j *exec.Job) {
	j.Spec.Job.Shell.PTY = jobspec.PTY{Ranks: "0", Rows: 24, Cols: 80}
	j.NTasks = j.Parts[0].NTasks
}

// lines is text without the carriage returns of a terminal.
func lines(events []exec.TaskEvent, task int) string {
	return strings.ReplaceAll(text(events, task, 1), "\r", "")
}

func TestATaskHasATerminal(t *testing.T) {
	s := open(t)
	events := s.run(script(1, 2, `test -t 0 && test -t 1 && test -t 2 && echo terminal; stty size 2>/dev/null; ps -o tty= -p $$ >/dev/null 2>&1; exit 3`, terminal))
	require.Equal(t, "terminal\n24 80\n", lines(events, 0))
	require.Empty(t, lines(events, 1), "the others have none")
	require.Equal(t, 3<<8, last(events).Status)
}

func TestATerminalIsFedAndResized(t *testing.T) {
	s := open(t)
	j := script(1, 1, `stty -echo; echo ready; while read -r line; do echo "got $line"; stty size; done; echo end`, terminal)
	s.Do(exec.Launch{Jobs: []*exec.Job{j}})
	wait := func(want string) {
		s.Wait(func(ev []exec.TaskEvent) bool { return strings.Contains(lines(ev, 0), want) })
	}
	wait("ready\n")
	s.Do(exec.Feed{Run: 1, Task: 0, Data: []byte("hello\n")})
	wait("got hello\n24 80\n")
	s.Do(exec.Feed{Run: 1, Task: 0, Window: exec.Window{Rows: 30, Cols: 100}})
	s.Do(exec.Feed{Run: 1, Task: 0, Data: []byte("again\n")})
	wait("got again\n30 100\n")
	s.Do(exec.Feed{Run: 1, Task: 0, Data: []byte("rest"), EOF: true})
	events := s.Wait(func(ev []exec.TaskEvent) bool { return ended(ev) == 1 })
	require.Contains(t, lines(events, 0), "end\n")
}

func TestCtrlCOnATerminalEndsWhatIsInItsForeground(t *testing.T) {
	s := open(t)
	j := script(1, 1, `trap 'exit 3' INT; echo ready; while :; do sleep 0.05; done`, terminal)
	s.Do(exec.Launch{Jobs: []*exec.Job{j}})
	s.Wait(func(ev []exec.TaskEvent) bool { return strings.Contains(lines(ev, 0), "ready") })
	s.Do(exec.Feed{Run: 1, Task: 0, Data: []byte{3}})
	events := s.Wait(func(ev []exec.TaskEvent) bool { return ended(ev) == 1 })
	require.Equal(t, 3<<8, last(events).Status)
}

func TestATaskWithATerminalLeavesNothing(t *testing.T) {
	s := open(t)
	before := openFDs(t)
	for i := range 5 {
		events := s.run(script(exec.RunID(i+1), 1, "setsid sleep 60 & sleep 60 & exit 0", terminal))
		require.Zero(t, last(events).Status)
	}
	require.Less(t, openFDs(t), before+10)
}
