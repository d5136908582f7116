package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/exec/exectest"
	"github.com/stretchr/testify/require"
)

// loop is a virtual clock.
type loop struct {
	now   time.Time
	seq   int
	queue calls
}

type call struct {
	at  time.Time
	seq int
	f   func()
}

type calls []call

func (c calls) Len() int { return len(c) }
func (c calls) Less(i, j int) bool {
	return c[i].at.Before(c[j].at) || c[i].at.Equal(c[j].at) && c[i].seq < c[j].seq
}
func (c calls) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *calls) Push(x any)   { *c = append(*c, x.(call)) }
func (c *calls) Pop() any {
	x := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return x
}

func newLoop() *loop { return &loop{now: time.Unix(1e9, 0)} }

func (l *loop) after(d time.Duration, f func()) {
	l.seq++
	heap.Push(&l.queue, call{l.now.Add(d), l.seq, f})
}

func (l *loop) step() bool {
	if len(l.queue) == 0 {
		return false
	}
	c := heap.Pop(&l.queue).(call)
	l.now = c.at
	c.f()
	return true
}

type subject struct {
	t      *testing.T
	loop   *loop
	d      *Driver
	events []exec.TaskEvent
}

func (s *subject) Do(effect any) {
	s.d.Do(s.loop.now, effect, func(result any, err error) {
		require.NoError(s.t, err)
		s.events = append(s.events, result.(exec.Tasks)...)
	})
}

func (s *subject) Wait(ok func([]exec.TaskEvent) bool) []exec.TaskEvent {
	for !ok(s.events) {
		require.True(s.t, s.loop.step(), "nothing more happens")
	}
	return s.events
}

func play(j *exec.Job, _ int, rnd *rand.Rand) Play {
	c := exectest.CommandOf(j)
	p := Play{Delay: time.Duration(rnd.IntN(1000)) * time.Microsecond, Run: c.Run, Status: c.Status, Stubborn: c.Stubborn, Output: []byte(c.Output)}
	if c.Missing {
		p.Fail = "task 0 (host n0): start failed: /no/such: No such file or directory"
	}
	return p
}

func TestConformance(t *testing.T) {
	exectest.Run(t, func(t *testing.T) exectest.Subject {
		l := newLoop()
		s := &subject{t: t, loop: l, d: New(Config{Now: func() time.Time { return l.now }, After: l.after, Play: play})}
		s.Do(exec.Open{})
		return s
	})
}

func TestTheSameSeedGivesTheSameRun(t *testing.T) {
	run := func(seed uint64) string {
		l := newLoop()
		var log string
		s := &subject{t: t, loop: l, d: New(Config{Seed: seed, Now: func() time.Time { return l.now }, After: l.after,
			Observe: func(o Observation) { o.Spec = nil; log += fmt.Sprintln(o) }})}
		s.Do(exec.Open{})
		for i := range exec.RunID(50) {
			s.Do(exec.Launch{Jobs: []*exec.Job{exectest.Job(i+1, exectest.True, 2)}})
		}
		s.Wait(exectest.Ended(100))
		return log + fmt.Sprint(s.events)
	}
	require.Equal(t, run(1), run(1))
	require.NotEqual(t, run(1), run(2))
}

func TestACrashEndsAllTasksInTheObserversEyes(t *testing.T) {
	l := newLoop()
	running := map[string]bool{}
	s := &subject{t: t, loop: l, d: New(Config{Now: func() time.Time { return l.now }, After: l.after, Play: play, Observe: func(o Observation) {
		key := fmt.Sprint(o.Ref, o.Task)
		require.NotEqual(t, o.Begins, running[key])
		running[key] = o.Begins
	}})}
	s.Do(exec.Open{})
	s.Do(exec.Launch{Jobs: []*exec.Job{exectest.Job(1, exectest.Sleep, 3)}})
	s.Wait(func(ev []exec.TaskEvent) bool { return len(ev) == 3 })
	require.Equal(t, 3, s.d.Running())
	s.d.Crash()
	require.Equal(t, 0, s.d.Running())
	for key, on := range running {
		require.False(t, on, key)
	}
	for l.step() {
	}
	require.Len(t, s.events, 3, "the dead tell nothing")
}
