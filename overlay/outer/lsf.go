package outer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// lsf reads what a job of IBM Spectrum LSF finds ("Environment variables set for job execution" in its reference): LSB_DJOB_HOSTFILE is a file with a
// line for each slot, LSB_MCPU_HOSTS "hostA 4 hostB 2", LSB_HOSTS "hostA hostA hostB", which is not set for many slots.
func lsf(s system) (*Allocation, error) {
	id := s.getenv("LSB_JOBID")
	if id == "" {
		return nil, nil
	}
	a := &Allocation{Kind: "lsf", ID: id, Where: Script, GPUs: true}
	if n := s.getenv("LSB_JOBINDEX"); n != "" && n != "0" {
		a.ID += "[" + n + "]"
	}
	c, err := s.lsfHosts()
	if err != nil {
		return nil, err
	}
	// On systems with jsrun (CSM) the job's script runs on a launch node, which is the first in the lists, with one slot, and has no part in the work.
	if s.has("jsrun") && len(c.names) > 1 && c.counts[0] == 1 && slices.Min(c.counts[1:]) > 1 {
		c.drop()
		a.JSM = true
	}
	a.Nodes, a.CPUs, a.Here = c.names, c.counts, s.here(c.names)
	return a, nil
}

func (s system) lsfHosts() (counted, error) {
	var c counted
	if s.getenv("LSB_DJOB_HOSTFILE") != "" {
		return s.hostPerSlot("LSB_DJOB_HOSTFILE")
	}
	if list := strings.Fields(s.getenv("LSB_MCPU_HOSTS")); len(list) > 0 {
		for i := 0; i < len(list); i += 2 {
			n, err := 0, error(nil)
			if i+1 < len(list) {
				n, err = strconv.Atoi(list[i+1])
			}
			if err != nil || n < 1 {
				return c, fmt.Errorf("LSB_MCPU_HOSTS: %q is no list of hosts with numbers", s.getenv("LSB_MCPU_HOSTS"))
			}
			c.add(list[i], n)
		}
		return c, nil
	}
	for host := range strings.FieldsSeq(s.getenv("LSB_HOSTS")) {
		c.add(host, 1)
	}
	if len(c.names) == 0 {
		return c, fmt.Errorf("LSB_JOBID is %s but neither LSB_DJOB_HOSTFILE nor LSB_MCPU_HOSTS nor LSB_HOSTS is set: this is no environment that LSF made; unset LSB_JOBID, or use --launcher=local",
			s.getenv("LSB_JOBID"))
	}
	return c, nil
}
