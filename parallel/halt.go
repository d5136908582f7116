package parallel

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Halt is --halt: when to start no more jobs.
type Halt struct {
	Now     bool   // kill what runs
	Why     string // fail, success, done; empty = never
	Count   int
	Percent float64 // of all jobs; 0 = Count counts
}

// ParseHalt reads the value of --halt. The errors are GNU parallel's.
func ParseHalt(s string) (Halt, error) {
	switch s {
	case "", "never", "0":
		return Halt{}, nil
	case "1", "soon,fail=1":
		return Halt{Why: "fail", Count: 1}, nil
	case "2":
		return Halt{Now: true, Why: "fail", Count: 1}, nil
	case "-1":
		return Halt{Why: "success", Count: 1}, nil
	case "-2":
		return Halt{Now: true, Why: "success", Count: 1}, nil
	}
	if p, ok := strings.CutSuffix(s, "%"); ok {
		if n, err := strconv.ParseFloat(p, 64); err == nil && n > 0 && n < 100 {
			return Halt{Why: "fail", Percent: n}, nil
		}
	}
	when, cond, _ := strings.Cut(s, ",")
	if when != "now" && when != "soon" {
		return Halt{}, errors.New("--halt must have 'never', 'soon', or 'now'")
	}
	why, value, _ := strings.Cut(cond, "=")
	h := Halt{Now: when == "now", Why: why}
	if why != "fail" && why != "success" && why != "done" {
		return h, fmt.Errorf("--halt %s must be followed by ,success or ,fail", when)
	}
	err := h.amount(value)
	if err != nil {
		return h, fmt.Errorf("--halt %s,%s must be followed by ,number or ,percent%%", when, why)
	}
	return h, nil
}

func (h *Halt) amount(value string) error {
	var err error
	if p, ok := strings.CutSuffix(value, "%"); ok {
		h.Percent, err = strconv.ParseFloat(p, 64)
		if err == nil && (h.Percent < 0 || h.Percent > 100) {
			err = strconv.ErrRange
		}
		return err
	}
	h.Count, err = strconv.Atoi(value)
	if err == nil && h.Count < 0 {
		err = strconv.ErrRange
	}
	return err
}

// Enabled tells whether there is anything to halt for.
func (h *Halt) Enabled() bool { return h.Why != "" && (h.Count > 0 || h.Percent > 0) }

// Outcome is how a job ended.
type Outcome struct {
	Exit   int // exit code; -1 for one that was killed by its timeout
	Signal int
}

// Failed tells whether the job counts as failed.
func (o Outcome) Failed() bool { return o.Exit != 0 || o.Signal != 0 }

// Code is the outcome as a shell would show it.
func (o Outcome) Code() int {
	if o.Signal != 0 {
		return 128 + o.Signal
	}
	return o.Exit & 255
}

// Tally counts the jobs of a run, and knows when to halt and the exit code.
type Tally struct {
	Halt   Halt
	Total  int // of jobs; needed for percentages
	Done   int
	Failed int
	Halted bool
	first  int // exit code of the job that reached it
}

// Verdicts of Add.
const (
	Failed    = "failed"
	Succeeded = "succeeded"
	Finished  = "finished"
)

// Add takes the outcome of a job. The verdict, if any, is what --halt tells the user of this job.
func (t *Tally) Add(o Outcome) (verdict string) {
	t.Done++
	if o.Failed() {
		t.Failed++
	}
	if !t.Halt.Enabled() {
		return ""
	}
	n := t.Done
	switch t.Halt.Why {
	case "fail":
		if !o.Failed() {
			return ""
		}
		verdict, n = Failed, t.Failed
	case "success":
		if o.Failed() {
			return ""
		}
		verdict, n = Succeeded, t.Done-t.Failed
	default:
		verdict = Finished
	}
	if !t.Halted && t.reached(n) {
		t.Halted, t.first = true, o.Code()
	}
	return verdict
}

func (t *Tally) reached(n int) bool {
	if t.Halt.Percent > 0 {
		return float64(n)*100 >= t.Halt.Percent*float64(max(t.Total, 1))
	}
	return n >= t.Halt.Count
}

// ExitCode is the run's.
func (t *Tally) ExitCode() int {
	h := &t.Halt
	switch {
	case t.Halted && h.Why == "success" && h.Percent == 0:
		return 0
	case t.Halted && h.Why == "fail" && (h.Percent == 0 && h.Count == 1 || t.Failed == 1):
		return t.first
	case h.Enabled() && h.Percent > 0:
		n := max(t.Total, 1)
		return min((t.Failed*100+n-1)/n, 100)
	}
	return min(t.Failed, 101)
}
