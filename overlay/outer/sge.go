package outer

import (
	"fmt"
	"strconv"
	"strings"
)

// sge reads what a job of Grid Engine finds (qsub(1), sge_pe(5)): PE_HOSTFILE is a file with lines "host slots queue processors", there only in a parallel
// environment. JOB_ID alone could be anybody's: SGE_JOB_SPOOL_DIR stands beside it.
func sge(s system) (*Allocation, error) {
	id := s.getenv("JOB_ID")
	if id == "" || s.getenv("SGE_JOB_SPOOL_DIR") == "" && s.getenv("PE_HOSTFILE") == "" {
		return nil, nil
	}
	a := &Allocation{Kind: "sge", ID: id, Where: Script, GPUs: true}
	if n := s.getenv("SGE_TASK_ID"); n != "" && n != "undefined" {
		a.ID += "." + n
	}
	if s.getenv("PE_HOSTFILE") == "" { // a serial job has one slot
		a.Nodes, a.CPUs = []string{s.host}, []int{1}
		return a, nil
	}
	path := s.getenv("PE_HOSTFILE")
	data, err := s.readFile(path)
	if err != nil {
		return nil, fmt.Errorf("PE_HOSTFILE: %w", err)
	}
	var c counted
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		n := 0
		if len(f) > 1 {
			n, err = strconv.Atoi(f[1])
		}
		if err != nil || n < 1 {
			return nil, fmt.Errorf("PE_HOSTFILE: %s: %q does not begin with a host and its slots", path, strings.TrimSpace(line))
		}
		c.add(f[0], n)
	}
	if len(c.names) == 0 {
		return nil, fmt.Errorf("PE_HOSTFILE: %s names no host", path)
	}
	a.Nodes, a.CPUs, a.Here = c.names, c.counts, s.here(c.names)
	return a, nil
}
