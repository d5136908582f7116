package outer

import (
	"fmt"
	"strconv"
	"strings"
)

// pbs reads what a job of PBS Professional, OpenPBS or Torque finds (qsub(1B), pbs_environment(7B)): PBS_NODEFILE has a line for each slot, which with PBS
// Professional is a process of mpiprocs, one of each chunk by default; NCPUS is the chunk's cpus there, PBS_NUM_PPN Torque's slots of a node.
func pbs(s system) (*Allocation, error) {
	id := s.getenv("PBS_JOBID")
	if id == "" {
		return nil, nil
	}
	a := &Allocation{Kind: "pbs", ID: id, Where: Script, GPUs: true}
	if s.getenv("PBS_ENVIRONMENT") == "PBS_INTERACTIVE" {
		a.Where = Shell
	}
	if s.getenv("PBS_NODEFILE") == "" {
		return nil, fmt.Errorf("PBS_JOBID is %s but PBS_NODEFILE is not set: this is no environment that PBS made; unset PBS_JOBID, or use --launcher=local", id)
	}
	c, err := s.hostPerSlot("PBS_NODEFILE")
	if err != nil {
		return nil, err
	}
	a.Nodes, a.CPUs, a.Slots, a.Here = c.names, c.counts, c.firsts, s.here(c.names)
	for _, name := range []string{"NCPUS", "PBS_NUM_PPN"} {
		n, _ := strconv.Atoi(s.getenv(name))
		for i := range a.CPUs {
			a.CPUs[i] = max(a.CPUs[i], n)
		}
	}
	return a, nil
}

// PBSGrant takes the cpus of each node from the output of `qstat -f JOB`, where they stand as exec_host = n1/0*8+n2/1*4 (PBS Professional), n1/0-3+n2/0-1
// or n1/3+n1/2 (Torque). false: they do not stand there.
func (a *Allocation) PBSGrant(qstat string) bool {
	qstat = strings.NewReplacer("\r", "", "\n\t", "").Replace(qstat) // long values go on in the next line
	_, list, found := strings.Cut(qstat, "exec_host = ")
	if !found {
		return false
	}
	list, _, _ = strings.Cut(list, "\n")
	var c counted
	for part := range strings.SplitSeq(strings.TrimSpace(list), "+") {
		host, slots, ok := strings.Cut(part, "/")
		n := pbsSlots(slots)
		if !ok || n < 1 {
			return false
		}
		c.add(host, n)
	}
	cpus := make([]int, len(a.Nodes))
	for i, node := range a.Nodes {
		k := system{host: node}.here(c.names)
		if k < 0 {
			return false
		}
		cpus[i] = c.counts[k]
	}
	a.CPUs = cpus
	return true
}

// pbsSlots counts 0*8, 0-3,6 or 3.
func pbsSlots(text string) int {
	if _, times, ok := strings.Cut(text, "*"); ok {
		n, _ := strconv.Atoi(times)
		return n
	}
	total := 0
	for r := range strings.SplitSeq(text, ",") {
		from, to, two := strings.Cut(r, "-")
		lo, err := strconv.Atoi(from)
		hi := lo
		if two && err == nil {
			hi, err = strconv.Atoi(to)
		}
		if err != nil || hi < lo {
			return 0
		}
		total += hi - lo + 1
	}
	return total
}
