package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/overlay/board"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/outer"
	"github.com/frond-hpc/frond/overlay/pmi"
	"github.com/frond-hpc/frond/resource/idset"
)

// What happens in a process that a launcher of parallel programs has started as one of several: `mpiexec -n 4 frond start`.

// launchNames are how people call them.
var launchNames = map[string]string{"mpich": "mpiexec of MPICH", "openmpi": "mpiexec of Open MPI", "mvapich": "mpirun of MVAPICH", "jsrun": "jsrun", "pals": "mpiexec of PALS", "flux": "flux run", "frond": "frond run",
	"pmi": "a launcher with PMI", "pmix": "a launcher with PMIx"}

// beside tells whether another process of the launch has the say.
func (p *launchPlan) beside() bool {
	if p.launch != nil {
		return p.launch.Rank > 0
	}
	return p.alloc != nil && p.alloc.Where == outer.Step && p.alloc.Proc > 0
}

// started tells of the launch, unless Slurm has started the processes itself, which it tells better, or the user wants an instance for each.
func (o *startOptions) started(e *env, a *outer.Allocation) (*outer.Task, error) {
	if o.launcher == "local" {
		return nil, nil
	}
	t, err := outer.Started(e.getenv)
	if err != nil || t == nil {
		return nil, err
	}
	direct := t.By == "pmi" || t.By == "pmix" || t.By == "pals"
	if a != nil && a.Kind == "slurm" && direct && (a.Where == outer.Step || a.Where == outer.Single) {
		return nil, nil
	}
	name := launchNames[t.By]
	switch {
	case t.Size == 0:
		return nil, fmt.Errorf("%s has started this process as number %d of several, but does not say of how many, so they cannot become one instance. Start one process there, with --hosts or in an allocation; "+
			"--launcher=local makes an instance for each", name, t.Rank)
	case o.detach:
		return nil, fmt.Errorf("%s ends with the processes that it has started, so --detach cannot work there: start the instance outside of it", name)
	case o.hosts != "" || o.brokersGiven || o.launcher != "auto":
		return nil, fmt.Errorf("%s has started this command %d times, and each process becomes a broker of one instance: --hosts, -n and --launcher=%s contradict that. Start it once; --launcher=local makes an instance for each",
			name, t.Size, o.launcher)
	}
	return t, nil
}

// planLaunch has the processes meet. Where an allocation says what the nodes are there is one broker on each; else each process becomes one.
func (o *startOptions) planLaunch(e *env, p *launchPlan) error {
	t, a := p.launch, p.alloc
	many := a == nil || a.Nodes == nil
	p.found = fmt.Sprintf("number %d of %d that %s has started; number 0 runs the leader, ", t.Rank, t.Size, launchNames[t.By])
	if many {
		p.found += "and each other one becomes a broker with its part of its host"
		p.alloc = nil
	} else {
		p.found += fmt.Sprintf("and the first one on each other node of job %s of %s its broker", a.ID, schedulers[a.Kind])
	}
	if o.dryRun {
		p.local, p.joiners = 1, t.Size-1
		if !many {
			p.joiners = len(a.Nodes) - 1
		}
		return nil
	}
	c, err := o.meet(e, t)
	if err != nil {
		return err
	}
	c.many = many
	p.crew, p.local, p.here = c, 1, 0
	p.step = "launch " + t.Key
	if client, ok := c.talk.(*pmi.Client); ok {
		p.step += client.Space
	}
	p.nodes, _ = c.nodes()
	if !many {
		o.grantLaunch(p)
	}
	if parts := c.brokers(); len(parts) < len(c.cards) && c.rank == 0 {
		p.notes = append(p.notes, fmt.Sprintf("%d processes were started on %d nodes: one on each becomes the broker, the others wait", len(c.cards), len(parts)))
	}
	c.bound(p)
	if len(p.nodes) > 1 {
		p.way = crewWay{c}
	}
	return nil
}

// grantLaunch takes from the allocation what it says of the nodes where processes are, by the names that it has for them.
func (o *startOptions) grantLaunch(p *launchPlan) {
	a, c := p.alloc, p.crew
	a.Where, a.Proc = outer.Step, c.rank
	for i, host := range p.nodes {
		if k := slices.IndexFunc(a.Nodes, func(n string) bool { return sameHost(n, host) }); k >= 0 {
			p.nodes[i] = a.Nodes[k]
		}
	}
	if n := len(a.Nodes); n > len(p.nodes) && c.rank == 0 {
		p.notes = append(p.notes, fmt.Sprintf("there are processes on %d of the job's %d nodes: the others are left alone", len(p.nodes), n))
	}
	a.Regrant(p.nodes, nil)
	a.Here = 0
	if a.CPUs == nil {
		return
	}
	for i, rank := range c.brokers() {
		c.cards[rank].CPUs = a.CPUs[i]
	}
	if c.rank == 0 {
		widen(a.CPUs[0])
	}
}

// bound notes that a launcher has bound the processes of the leader's host to a few of its cpus, and so the brokers.
func (c *crew) bound(p *launchPlan) {
	if c.rank > 0 || !c.many {
		return
	}
	var mine idset.Set
	for _, o := range c.cards {
		if cpus, err := idset.Parse(o.Mask); err == nil && o.Boot == c.cards[0].Boot && o.Node == c.cards[0].Node {
			mine = mine.Union(cpus)
		}
	}
	if all := onlineCPUs(); mine.Len() < all {
		p.notes = append(p.notes, fmt.Sprintf("the launcher has bound its processes to %d of this host's %d cpus, and no more are offered: see its --bind-to none", mine.Len(), all))
	}
}

// meet has the processes of the launch meet: by PMI if they have it, else by files.
func (o *startOptions) meet(e *env, t *outer.Task) (*crew, error) {
	limit := min(crewLimit, o.startLimit())
	if t.PMI {
		client, err := pmi.Open(e.getenv, limit)
		if err != nil {
			return nil, fmt.Errorf("%s has started this process, but PMI does not work: %w", launchNames[t.By], err)
		}
		if client.Size != t.Size || client.Rank != t.Rank {
			return nil, fmt.Errorf("%s has started this process as number %d of %d, but PMI says %d of %d", launchNames[t.By], t.Rank, t.Size, client.Rank, client.Size)
		}
		return gather(e, client, t.Rank, t.Size)
	}
	ways := "Ways out: set FROND_HOME to a directory that is the same on all hosts; or start frond once, with --hosts (ssh) or in an allocation"
	dir := boot.TicketDir(os.Getenv)
	if t.Key == "" || dir == "" {
		return nil, fmt.Errorf("the %d processes that %s has started cannot find each other: it offers no PMI, and nothing that tells this launch from others. %s", t.Size, launchNames[t.By], ways)
	}
	b, err := board.Open(dir, t.Key, t.Rank, t.Size, limit)
	if err != nil {
		return nil, fmt.Errorf("%w. %s", err, ways)
	}
	c, err := gather(e, b, t.Rank, t.Size)
	var missing *board.MissingError
	switch {
	case errors.As(err, &missing) && !missing.First:
		return nil, errNobody // another one tells it
	case err != nil:
		return nil, fmt.Errorf("%w. %s", err, ways)
	}
	return c, nil
}

// onlineCPUs counts the host's cpus.
func onlineCPUs() int {
	text, _ := os.ReadFile("/sys/devices/system/cpu/online")
	cpus, err := idset.Parse(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return cpus.Len()
}
