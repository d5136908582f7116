package resource

import (
	"fmt"

	"github.com/frond-hpc/frond/jobspec"
)

// Counters are the named counters of an instance: how much of each there is. They belong to no node.
type Counters []jobspec.Counter

// Total is how much there is of a name.
func (c Counters) Total(name string) int64 {
	for i := range c {
		if c[i].Name == name {
			return c[i].N
		}
	}
	return 0
}

// Feasible tells whether a request asks for no more than there is; the error is a sentence for the user.
func (c Counters) Feasible(req *jobspec.Request) error {
	for _, n := range req.CounterList() {
		switch total := c.Total(n.Name); {
		case total == 0:
			return fmt.Errorf("needs %d of resource %q, which this instance does not have (see --resource of frond start)", n.N, n.Name)
		case n.N > total:
			return fmt.Errorf("needs %d of resource %q; this instance has %d", n.N, n.Name, total)
		}
	}
	return nil
}
