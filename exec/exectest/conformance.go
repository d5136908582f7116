// Package exectest is the conformance suite of the port in package exec: what exec/proc and exec/sim must both do.
package exectest

import (
	"fmt"
	"testing"
	"time"

	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
	"github.com/stretchr/testify/require"
)

// Command is what a task of the suite does. Argv is its real form; a simulation plays it by the other fields.
type Command struct {
	Argv     []string
	Run      time.Duration
	Status   int
	Stubborn bool   // ignores TERM
	Output   string // to stdout
	Missing  bool   // cannot be started
}

// The commands of the suite, found again by CommandOf.
var (
	True     = sh("true", 0, 0)
	Three    = sh("exit 3", 0, 3<<8)
	Sleep    = Command{Argv: []string{"sleep", "1000"}, Run: 1000 * time.Second}
	Nap      = Command{Argv: []string{"sleep", "0.1"}, Run: 100 * time.Millisecond}
	Stubborn = Command{Argv: []string{"sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000"}, Run: 1000 * time.Second, Stubborn: true}
	Hello    = Command{Argv: []string{"echo", "hello"}, Output: "hello\n"}
	Missing  = Command{Argv: []string{"/no/such"}, Status: 127 << 8, Missing: true}
)

func sh(script string, run time.Duration, status int) Command {
	return Command{Argv: []string{"sh", "-c", script}, Run: run, Status: status}
}

// CommandOf returns the command that a job of the suite runs.
func CommandOf(j *exec.Job) Command {
	for _, c := range []Command{True, Three, Sleep, Nap, Stubborn, Hello, Missing} {
		if fmt.Sprint(c.Argv) == fmt.Sprint(j.Spec.Job.Command) {
			return c
		}
	}
	panic("exectest: unknown command")
}

// Subject is a driver under test, opened.
type Subject interface {
	// Do gives it an effect.
	Do(effect any)
	// Wait lets time pass until ok is true for all events so far, or fails the test after a while.
	Wait(ok func(events []exec.TaskEvent) bool) []exec.TaskEvent
}

// Job makes a job of n tasks on node 0.
func Job(id exec.RunID, c Command, n int) *exec.Job {
	spec := &exec.Spec{ID: uint64(id), Env: []byte("PATH=/usr/local/bin:/usr/bin:/bin\x00"), Job: &jobspec.Jobspec{Command: c.Argv, Cwd: "/",
		Shell: jobspec.ShellOptions{Umask: -1, KillTimeout: 5, ExitTimeout: 30}}}
	return &exec.Job{ID: id, Spec: spec, Start: exec.Start{Ref: exec.Ref{Job: jobspec.ID(id), Attempt: 1, Epoch: 1}, SpecID: uint64(id),
		Parts: []exec.Part{{Cores: resource.MaskOf(0), NTasks: n}}, NTasks: n, NNodes: 1, Nodelist: "n0"}}
}

// Run runs the suite; open makes a new subject for each of its tests.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	for name, test := range map[string]func(*testing.T, Subject){
		"each task ends once, with its status":                  ends,
		"a started task is told before it ends":                 starts,
		"output comes before the end":                           output,
		"TERM ends the tasks of the run alone":                  term,
		"a signal that is given with the start is not lost":     early,
		"a task that ignores TERM dies of KILL":                 stubborn,
		"a signal for an unknown run does nothing":              unknown,
		"a harmless signal does not end a task":                 harmless,
		"a command that is missing ends with 127 and a note":    missing,
		"hundreds of runs at once all end":                      many,
		"output waits while the flow is paused, and then comes": paused,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// Ended tells whether n tasks have ended.
func Ended(n int) func([]exec.TaskEvent) bool {
	return func(events []exec.TaskEvent) bool {
		k := 0
		for _, ev := range events {
			if ev.Kind == exec.TaskEnded {
				k++
			}
		}
		return k >= n
	}
}

func launch(jobs ...*exec.Job) exec.Launch { return exec.Launch{Jobs: jobs} }

// check verifies what holds for any events: order within a task, one end each.
func check(t *testing.T, events []exec.TaskEvent) map[string]exec.TaskEvent {
	ended := map[string]exec.TaskEvent{}
	started := map[string]bool{}
	for _, ev := range events {
		key := fmt.Sprint(ev.Run, "/", ev.Task)
		_, over := ended[key]
		require.False(t, over, "something came after the end of %s", key)
		switch ev.Kind {
		case exec.TaskStarted:
			require.False(t, started[key], "%s started twice", key)
			require.Positive(t, ev.Time)
			started[key] = true
		case exec.TaskEnded:
			require.GreaterOrEqual(t, ev.Time, ev.Start)
			ended[key] = ev
		}
	}
	return ended
}

func ends(t *testing.T, s Subject) {
	s.Do(launch(Job(1, True, 1), Job(2, Three, 3), Job(3, Nap, 2)))
	ended := check(t, s.Wait(Ended(6)))
	require.Len(t, ended, 6)
	for key, status := range map[string]int{"1/0": 0, "2/0": 3 << 8, "2/1": 3 << 8, "2/2": 3 << 8, "3/0": 0, "3/1": 0} {
		require.Equal(t, status, ended[key].Status, key)
		require.Positive(t, ended[key].Start, key)
	}
	require.GreaterOrEqual(t, ended["3/0"].Time-ended["3/0"].Start, 0.09)
}

func starts(t *testing.T, s Subject) {
	s.Do(launch(Job(1, Sleep, 2)))
	events := s.Wait(func(ev []exec.TaskEvent) bool { return len(ev) >= 2 })
	for _, ev := range events {
		require.Equal(t, exec.TaskStarted, ev.Kind)
	}
	s.Do(exec.Signal{Run: 1, Sig: 9})
	require.Len(t, check(t, s.Wait(Ended(2))), 2)
}

func output(t *testing.T, s Subject) {
	many, watched := Job(2, Hello, 2), Job(3, Hello, 1)
	watched.Watched = true
	s.Do(launch(Job(1, Hello, 1), many, watched))
	events := s.Wait(Ended(4))
	check(t, events)
	text := map[string]string{}
	for _, ev := range events {
		if ev.Kind == exec.TaskOutput && len(ev.Data) > 0 {
			require.EqualValues(t, 1, ev.Stream)
			text[fmt.Sprint(ev.Run, "/", ev.Task)] += string(ev.Data)
		}
	}
	require.Equal(t, map[string]string{"1/0": "hello\n", "2/0": "hello\n", "2/1": "hello\n", "3/0": "hello\n"}, text)
}

func started(n int) func([]exec.TaskEvent) bool {
	return func(events []exec.TaskEvent) bool {
		k := 0
		for _, ev := range events {
			if ev.Kind == exec.TaskStarted {
				k++
			}
		}
		return k >= n
	}
}

func term(t *testing.T, s Subject) {
	s.Do(launch(Job(1, Sleep, 2), Job(2, Sleep, 1)))
	s.Wait(started(3))
	s.Do(exec.Signal{Run: 1, Sig: 15})
	ended := check(t, s.Wait(Ended(2)))
	require.Len(t, ended, 2)
	require.Equal(t, 15, ended["1/0"].Status)
	require.Equal(t, 15, ended["1/1"].Status)
	s.Do(exec.Signal{Run: 2, Sig: 9})
	require.Equal(t, 9, check(t, s.Wait(Ended(3)))["2/0"].Status)
}

func early(t *testing.T, s Subject) {
	watched := Job(3, Sleep, 1)
	watched.Watched = true
	s.Do(launch(Job(1, Sleep, 1), Job(2, Sleep, 2), watched))
	for id := range exec.RunID(3) {
		s.Do(exec.Signal{Run: id + 1, Sig: 15})
	}
	for key, ev := range check(t, s.Wait(Ended(4))) {
		require.Equal(t, 15, ev.Status, key)
	}
}

func stubborn(t *testing.T, s Subject) {
	s.Do(launch(Job(1, Stubborn, 1), Job(2, Nap, 1)))
	s.Wait(Ended(1)) // the trap is set by now
	s.Do(exec.Signal{Run: 1, Sig: 15})
	s.Do(launch(Job(3, Nap, 1)))
	require.Len(t, check(t, s.Wait(Ended(2))), 2)
	s.Do(exec.Signal{Run: 1, Sig: 9})
	require.Equal(t, 9, check(t, s.Wait(Ended(3)))["1/0"].Status)
}

func unknown(t *testing.T, s Subject) {
	s.Do(exec.Signal{Run: 7, Sig: 9})
	s.Do(exec.Feed{Run: 7, Task: -1, Data: []byte("x")})
	s.Do(launch(Job(1, True, 1)))
	require.Len(t, check(t, s.Wait(Ended(1))), 1)
	s.Do(exec.Signal{Run: 1, Sig: 9})
}

func harmless(t *testing.T, s Subject) {
	s.Do(launch(Job(1, Nap, 1)))
	s.Wait(started(1))
	for _, sig := range []int{17, 18, 23, 28} {
		s.Do(exec.Signal{Run: 1, Sig: sig})
	}
	require.Equal(t, 0, check(t, s.Wait(Ended(1)))["1/0"].Status)
}

func missing(t *testing.T, s Subject) {
	s.Do(launch(Job(1, Missing, 1), Job(2, True, 1)))
	ended := check(t, s.Wait(Ended(2)))
	require.Equal(t, 127<<8, ended["1/0"].Status)
	require.Zero(t, ended["1/0"].Start)
	require.Contains(t, ended["1/0"].Note, "start failed: /no/such: No such file or directory")
	require.Empty(t, ended["2/0"].Note)
}

func many(t *testing.T, s Subject) {
	for i := range exec.RunID(200) {
		s.Do(launch(Job(i+1, True, 1)))
		s.Wait(Ended(int(i) - 8))
	}
	require.Len(t, check(t, s.Wait(Ended(200))), 200)
}

func paused(t *testing.T, s Subject) {
	s.Do(exec.Flow{Paused: true})
	s.Do(launch(Job(1, Hello, 1)))
	s.Do(exec.Flow{Paused: false})
	events := s.Wait(Ended(1))
	check(t, events)
	var text string
	for _, ev := range events {
		text += string(ev.Data)
	}
	require.Equal(t, "hello\n", text)
}
