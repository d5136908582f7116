// Package outer finds out in which allocation of another scheduler this process stands, from its environment alone: which nodes it
// has, how much of them was granted, and where on them this process is.
package outer

import (
	"strings"
)

// Where in an allocation a process stands.
const (
	Script = "batch script"   // on the first node
	Shell  = "shell"          // of an interactive allocation: on none of its nodes, or on one
	Step   = "step"           // one of several processes that a launcher started
	Single = "step of a task" // the only process of a step
)

// Allocation is what an outer scheduler granted.
type Allocation struct {
	Kind   string // "slurm"
	ID     string // of the job there
	Nodes  []string
	CPUs   []int   // granted of each node, as the scheduler counts; nil = unknown
	MemMiB []int64 // granted of each node; nil = unknown
	GPUs   bool    // some were granted
	Where  string
	Here   int    // index in Nodes of the one this process is on; -1 = none
	Step   string // with Where == Step: its id, unique at the scheduler
	Proc   int    // and this process's number in it, from 0
	Procs  int    // of how many
}

// Node is the name of node i as the scheduler knows it.
func (a *Allocation) Node(i int) string { return a.Nodes[i] }

// Detect reads the environment. nil: this process is in no allocation that is known here.
func Detect(getenv func(string) string) (*Allocation, error) {
	if getenv("FROND_JOB_ID") != "" || getenv("FLUX_JOB_ID") != "" { // these stand nearer
		return nil, nil
	}
	return slurm(getenv)
}

// matches tells whether the variable of an entry NAME=value has one of the names, of which those that end in * are prefixes.
func matches(entry string, names []string) bool {
	name, _, _ := strings.Cut(entry, "=")
	for _, n := range names {
		if prefix, ok := strings.CutSuffix(n, "*"); ok && strings.HasPrefix(name, prefix) || name == n {
			return true
		}
	}
	return false
}

// filter returns the entries that match none of drop, or some of keep.
func filter(environ, drop, keep []string) []string {
	var out []string
	for _, entry := range environ {
		if !matches(entry, drop) || matches(entry, keep) {
			out = append(out, entry)
		}
	}
	return out
}

// jobVars are all variables of outer schedulers that tasks of Frond must not see: they would take themselves for tasks there.
var jobVars = []string{"SLURM_*", "SLURMD_*", "SRUN_*", "SBATCH_*", "PMI_*", "PMI2_*", "PMIX_*", "PALS_*"}

// BrokerEnviron is the environment for a broker process: without the outer scheduler's variables but those by which its commands find it.
func BrokerEnviron(environ []string) []string {
	return filter(environ, jobVars, []string{"SLURM_CONF"})
}

// ProgramEnviron is the environment for the initial program: it may use the outer scheduler's commands, so it keeps what describes the
// job, but nothing of the step that this process is in, if it is in one.
func (a *Allocation) ProgramEnviron(environ []string) []string {
	if a.Where != Step && a.Where != Single {
		return environ
	}
	return filter(environ, stepVars, nil)
}
