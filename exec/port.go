package exec

// The port to whatever runs tasks. A driver is a reactor.Driver: it gets these effects in order through Do, which does not block.
// Open comes first; every call of its done carries a Tasks value. The other effects' done is not called.
//
// The driver says, for each task of a launched run, in this order:
//
//	TaskStarted   once, when it runs; left out when its end is in the same Tasks
//	TaskOutput    any number of times, in order within each stream; every byte that the task wrote, also the last before its end
//	TaskEnded     once, when the task and everything that descends from it is dead and reaped. A task that could not be
//	              started at all has Note set and no Start.
//
// Of a run of several tasks, at any time between the start and the end of them:
//
//	TaskFence     all tasks of the run here are in a PMI barrier. Answered by the effect Fence.
//	TaskAborted   a task asks for the end of its job, with Status and Note
//
// Of a run with a memory limit (Part.MemMiB), when it is over it, once:
//
//	RunExceeds    with a Note
//
// A Signal for a run that is still being started is not lost: it hits the task when it runs, or the task ends with that signal
// without having run.
type (
	// Open is the first effect.
	Open struct{}
	// Launch starts all tasks of runs.
	Launch struct{ Jobs []*Job }
	// Signal goes to every process of the run's tasks here. Nothing happens when there is none.
	Signal struct {
		Run RunID
		Sig int
	}
	// Feed gives standard input to a task, -1 = all of the run. It is dropped for tasks that have a file or nothing as stdin.
	Feed struct {
		Run  RunID
		Task int
		Data []byte
		EOF  bool
		Window
	}
	// Window is the size of a task's terminal; zero = as it is.
	Window struct{ Rows, Cols int }
	// Fence ends the barrier that the run's tasks are in. Pairs (key, value, key, value, …) are what the tasks of the whole job have
	// put. Nothing happens when the run is gone.
	Fence struct {
		Run   RunID
		Pairs []string
	}
	// Flow stops or resumes the reading of output. Tasks that go on writing wait when they are 16 MiB ahead.
	Flow struct{ Paused bool }
)

// TaskEvent is one fact about a task.
type TaskEvent struct {
	Kind TaskEventKind
	Run  RunID
	Task int
	Time float64 // epoch seconds
	// TaskEnded
	Start  float64 // when it started; 0 = it never did
	Status int     // wait(2) status; 127<<8, 126<<8 for a command that is missing or not executable
	MaxRSS int64   // KiB
	CPU    float64 // seconds
	Note   string  // why it could not be started
	Owing  bool    // it took part in PMI and did not finalize: others may wait for it
	// TaskOutput
	Stream uint8 // 1 stdout, 2 stderr
	Data   []byte
	EOF    bool
	// TaskFence
	Pairs []string
}

// TaskEventKind says what a TaskEvent is.
type TaskEventKind uint8

// The kinds of task events.
const (
	TaskStarted TaskEventKind = 1 + iota
	TaskOutput
	TaskEnded
	TaskFence
	TaskAborted
	RunExceeds
)
