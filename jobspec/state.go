package jobspec

import (
	"fmt"
	"strings"
)

// State is a job's state as a bit (Flux RFC 21), so that a filter is a mask.
type State int

// The states, in the order a job goes through them, and their unions.
const (
	StateNew      State = 1
	StateDepend   State = 2
	StatePriority State = 4
	StateSched    State = 8
	StateRun      State = 16
	StateCleanup  State = 32
	StateInactive State = 64

	StatesPending = StateDepend | StatePriority | StateSched
	StatesRunning = StateRun | StateCleanup
	StatesActive  = StatesPending | StatesRunning
)

// Result is how an inactive job ended, as a bit.
type Result int

// The results.
const (
	ResultCompleted Result = 1
	ResultFailed    Result = 2
	ResultCanceled  Result = 4
	ResultTimeout   Result = 8
)

type bitName struct {
	bit        int
	name, abbr string
}

var stateNames = []bitName{{1, "NEW", "N"}, {2, "DEPEND", "D"}, {4, "PRIORITY", "P"}, {8, "SCHED", "S"}, {16, "RUN", "R"}, {32, "CLEANUP", "C"}, {64, "INACTIVE", "I"}}

var resultNames = []bitName{{1, "COMPLETED", "CD"}, {2, "FAILED", "F"}, {4, "CANCELED", "CA"}, {8, "TIMEOUT", "TO"}}

// String returns Flux's name: DEPEND, PRIORITY, SCHED, RUN, CLEANUP, INACTIVE. "" for a value that is no single state.
func (s State) String() string { return findName(stateNames, int(s)).name }

// Abbrev returns Flux's letter: D, P, S, R, C, I.
func (s State) Abbrev() string { return findName(stateNames, int(s)).abbr }

// String returns Flux's name: COMPLETED, FAILED, CANCELED, TIMEOUT. "" for none.
func (r Result) String() string { return findName(resultNames, int(r)).name }

// Abbrev returns Flux's letters: CD, F, CA, TO.
func (r Result) Abbrev() string { return findName(resultNames, int(r)).abbr }

func findName(names []bitName, bit int) bitName {
	for _, n := range names {
		if n.bit == bit {
			return n
		}
	}
	return bitName{}
}

// Status returns what the column STATUS of a table of jobs shows: the result of an inactive job, else its state.
func Status(s State, r Result) string {
	if s == StateInactive && r != 0 {
		return r.String()
	}
	return s.String()
}

// StatusAbbrev is Status in letters.
func StatusAbbrev(s State, r Result) string {
	if s == StateInactive && r != 0 {
		return r.Abbrev()
	}
	return s.Abbrev()
}

// Filter selects jobs by state or result. The zero Filter selects all.
type Filter struct {
	States  State
	Results Result
}

// Match tells whether a job is selected: its state is among States, or its result among Results.
func (f Filter) Match(s State, r Result) bool {
	return f == Filter{} || f.States&s != 0 || s == StateInactive && f.Results&r != 0
}

// ParseFilter reads the value of `jobs --filter`: names of states, of results, and of the unions pending, running, active, in any
// case, separated by commas.
func ParseFilter(text string) (Filter, error) {
	var f Filter
	for name := range strings.SplitSeq(text, ",") {
		s, r := filterTerm(strings.ToUpper(strings.TrimSpace(name)))
		if s == 0 && r == 0 {
			return Filter{}, fmt.Errorf("unknown state or result %q: use pending, running, active, inactive, depend, priority, sched, run, "+
				"cleanup, completed, failed, canceled or timeout", clip(name))
		}
		f.States |= s
		f.Results |= r
	}
	return f, nil
}

func filterTerm(name string) (State, Result) {
	switch name {
	case "PENDING":
		return StatesPending, 0
	case "RUNNING":
		return StatesRunning, 0
	case "ACTIVE":
		return StatesActive, 0
	case "CANCELLED":
		return 0, ResultCanceled
	}
	for _, n := range stateNames {
		if name == n.name || name == n.abbr {
			return State(n.bit), 0
		}
	}
	for _, n := range resultNames {
		if name == n.name || name == n.abbr {
			return 0, Result(n.bit)
		}
	}
	return 0, 0
}

// ExitCode returns the exit code that a shell would show for a wait(2) status word: the code, or 128 plus the signal.
func ExitCode(status int) int {
	if sig := WaitSignal(status); sig != 0 {
		return 128 + sig
	}
	return status >> 8 & 0xff
}

// WaitSignal returns the signal that a wait(2) status word says the process died of, 0 if it exited.
func WaitSignal(status int) int {
	if sig := status & 0x7f; sig != 0x7f {
		return sig
	}
	return 0
}

// ExitStatus makes the wait(2) status word of a process that exited with code.
func ExitStatus(code int) int { return code & 0xff << 8 }

// TaskStatus turns the wait status of a task into that of its job's shell in Flux: a task that died of a signal counts as exit code
// 128 + signal.
func TaskStatus(status int) int { return ExitStatus(ExitCode(status)) }

// ReturnCode is the field {returncode} of a table of jobs: the exit code, or the signal negated; without a status -128 for a job
// cancelled before it started and 1 for another that did not complete.
func ReturnCode(status int, hasStatus bool, r Result) int {
	switch {
	case !hasStatus && r == ResultCanceled:
		return -128
	case !hasStatus && r != ResultCompleted && r != 0:
		return 1
	case WaitSignal(status) != 0:
		return -WaitSignal(status)
	}
	return ExitCode(status)
}
