// Package outer finds out in which allocation of another scheduler this process stands, and which launcher has started it, from its
// environment and the files that the environment names: which nodes there are, how much of them was granted, where this process is.
package outer

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Where in an allocation a process stands.
const (
	Script = "batch script"   // on the first node
	Shell  = "shell"          // of an interactive allocation: on none of its nodes, or on one
	Step   = "step"           // one of several processes that a launcher started
	Single = "step of a task" // the only process of a step
	Job    = "job"            // a task of an enclosing instance: what it may use of its node shows in its affinity
)

// Allocation is what an outer scheduler granted.
type Allocation struct {
	Kind     string   // "slurm", one of Kinds
	ID       string   // of the job there
	Nodes    []string // none with Where == Job
	CPUs     []int    // granted of each node, as the scheduler counts; nil = unknown
	MemMiB   []int64  // granted of each node; nil = unknown
	GPUs     bool     // some were granted
	GPUIDs   []string // of each node, as an idset; empty = none; nil = unknown
	Where    string
	Here     int      // index in Nodes of the one this process is on; -1 = none
	Step     string   // with Where == Step: its id, unique at the scheduler
	Proc     int      // and this process's number in it, from 0
	Procs    int      // of how many
	Slots    []int    // for each node, the number of its first slot in the scheduler's list; nil = it has no such list
	JobNodes []string // with Where == Step or Single: the nodes of the whole job

	perNode, perCPU int64 // MiB, as Slurm says it; 0 = it does not

	JSM bool // of LSF: this is a launch node, from which jsrun alone reaches the others
}

// system is what detection reads.
type system struct {
	getenv   func(string) string
	readFile func(string) ([]byte, error)
	host     string
	has      func(program string) bool // in PATH
}

// Kinds are the schedulers whose allocations are detected, in the order in which they are looked for.
var Kinds = []string{"slurm", "lsf", "pbs", "sge"}

var detectors = map[string]func(system) (*Allocation, error){
	"slurm": func(s system) (*Allocation, error) { return slurm(s.getenv) },
	"lsf":   lsf,
	"pbs":   pbs,
	"sge":   sge,
}

// Detect reads the environment. nil: this process is in no allocation that is known here.
func Detect(getenv func(string) string) (*Allocation, error) { return thisSystem(getenv).detect("") }

// DetectAs does not look for other schedulers than kind.
func DetectAs(kind string, getenv func(string) string) (*Allocation, error) {
	return thisSystem(getenv).detect(kind)
}

func thisSystem(getenv func(string) string) system {
	host, _ := os.Hostname()
	return system{getenv, os.ReadFile, host, func(program string) bool { _, err := exec.LookPath(program); return err == nil }}
}

func (s system) detect(only string) (*Allocation, error) {
	if only != "" {
		return detectors[only](s)
	}
	for _, near := range []struct{ kind, name string }{{"frond", "FROND_JOB_ID"}, {"flux", "FLUX_JOB_ID"}} { // these stand nearer
		if id := s.getenv(near.name); id != "" {
			return &Allocation{Kind: near.kind, ID: id, Where: Job, Here: -1}, nil
		}
	}
	for _, kind := range Kinds {
		if a, err := detectors[kind](s); a != nil || err != nil {
			return a, err
		}
	}
	return nil, nil
}

// here finds this host among nodes, whose names may have a domain or not.
func (s system) here(nodes []string) int {
	short := func(name string) string { n, _, _ := strings.Cut(name, "."); return n }
	if i := slices.Index(nodes, s.host); i >= 0 {
		return i
	}
	return slices.IndexFunc(nodes, func(n string) bool { return s.host != "" && short(n) == short(s.host) })
}

// counted is a list of hosts with a number for each.
type counted struct {
	names  []string
	counts []int
	firsts []int // which in the list was the first for the host
}

// add counts n more for a host. Hosts stay in the order in which they come first.
func (c *counted) add(name string, n int) {
	total := 0
	for _, k := range c.counts {
		total += k
	}
	i := slices.Index(c.names, name)
	if i < 0 {
		c.names, c.counts, c.firsts = append(c.names, name), append(c.counts, n), append(c.firsts, total)
		return
	}
	c.counts[i] += n
}

// drop takes out the first host.
func (c *counted) drop() { c.names, c.counts, c.firsts = c.names[1:], c.counts[1:], c.firsts[1:] }

// hostPerSlot reads a file with a line for each slot: the host's name.
func (s system) hostPerSlot(variable string) (counted, error) {
	path := s.getenv(variable)
	data, err := s.readFile(path)
	if err != nil {
		return counted{}, fmt.Errorf("%s: %w", variable, err)
	}
	var c counted
	for line := range strings.FieldsSeq(string(data)) {
		c.add(line, 1)
	}
	if len(c.names) == 0 {
		return c, fmt.Errorf("%s: %s names no host", variable, path)
	}
	return c, nil
}
