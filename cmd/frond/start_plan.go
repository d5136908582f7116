package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/frond-hpc/frond/overlay/meet"
	"github.com/frond-hpc/frond/overlay/outer"
	"github.com/frond-hpc/frond/resource/hostlist"
)

// launchPlan says where the brokers of an instance will be, and how they get there.
type launchPlan struct {
	alloc   *outer.Allocation // nil: in none
	inside  *outer.Allocation // in which this process stands, but whose other nodes are left alone
	found   string            // for people: where this process is, and why this is done
	local   int               // brokers of this host: ranks 0 to local-1
	here    int               // index in nodes of this host, which the leader offers; -1 = it offers nothing
	nodes   []string          // all; nil: local brokers alone
	way     way               // nil: no broker elsewhere
	threads map[string]int    // by node, cpus of the allocation's scheduler that make a core; 1 where it has none
	step    string            // id of the launch that this process is one of, unique at whoever launched it; empty: it is alone
	crew    *crew             // its processes, if they can talk
	launch  *outer.Task       // the same as a launcher of parallel programs tells it; nil: it is none of its
	notes   []string          // for the user, when it is started
	seat    []string          // not nil: the command line that carries this command to the first node, where the rest happens
	joiners int               // brokers that others start, and that come by themselves
	// properties are those of nodes by index in R, as --property says.
	properties map[int][]string
}

// size is the number of brokers.
func (p *launchPlan) size() int {
	if p.nodes == nil {
		return p.local + p.joiners
	}
	if p.here < 0 {
		return len(p.nodes) + 1
	}
	return len(p.nodes)
}

// others are the nodes on which brokers are launched, by rank from 1 on.
func (p *launchPlan) others() []string {
	var out []string
	for i, n := range p.nodes {
		if i != p.here {
			out = append(out, n)
		}
	}
	return out
}

// makePlan finds out where this process is and decides what to launch.
func (o *startOptions) makePlan(e *env) (*launchPlan, error) {
	p := &launchPlan{local: max(1, o.brokers), here: -1}
	if o.child != nil {
		p.local, p.joiners, p.found = 1, o.child.Size-1, "a task of job "+o.child.Job+" of "+o.child.parent.Name
		return p, nil
	}
	var err error
	switch o.boot {
	case "none":
	case "auto":
		p.alloc, err = outer.Detect(e.getenv)
	default:
		if p.alloc, err = outer.DetectAs(o.boot, e.getenv); err == nil && p.alloc == nil {
			err = fmt.Errorf("--boot=%s: this process is in no allocation of %s, as far as its environment says", o.boot, schedulers[o.boot])
		}
	}
	if err != nil && o.launcher != "local" {
		return nil, err
	}
	if p.launch, err = o.started(e, p.alloc); err != nil {
		return nil, err
	}
	switch a := p.alloc; {
	case p.launch != nil:
		return p, o.planLaunch(e, p)
	case o.hosts != "" || o.launcher != "auto" && o.launcher != "local" && o.launcher != "slurm":
		return p, o.planOthers(p)
	case o.launcher == "local" || o.launcher == "auto" && (o.brokersGiven || a == nil || a.Nodes == nil):
		return p, o.planLocal(e, p)
	case o.launcher == "slurm" && (a == nil || a.Kind != "slurm"):
		return nil, errors.New("--launcher=slurm: this process is in no allocation of Slurm (SLURM_JOB_ID is not set)")
	case a.Kind != "slurm":
		return p, o.planOthers(p)
	}
	return p, o.planSlurm(e, p)
}

// planLocal: all brokers are processes of this host. If that is in an allocation, what it granted of this host is the limit all the same.
func (o *startOptions) planLocal(e *env, p *launchPlan) error {
	a := p.alloc
	p.alloc = nil
	switch {
	case a == nil && e.getenv("FLUX_URI") != "":
		p.found = "in an instance of Flux (FLUX_URI) and in none of its jobs, and uses this host alone; flux run -N NODES frond start makes brokers on its nodes"
		return nil
	case a == nil:
		p.found = "in no allocation"
		return nil
	case a.Nodes == nil:
		p.found = fmt.Sprintf("in job %s of %s: what the job has of its node is used", a.ID, schedulers[a.Kind])
		return nil
	case a.Where == outer.Step && o.launcher != "local":
		return fmt.Errorf("-n in each of the %d tasks of step %s would make %d instances: leave -n away for one instance on all nodes, or say --launcher=local, too, if so many are wanted", a.Procs, a.Step, a.Procs)
	}
	p.inside = a
	p.found = fmt.Sprintf("in the %s of job %s of %s, whose other nodes are left alone (--launcher or -n say so)", a.Where, a.ID, schedulers[a.Kind])
	if a.Kind == "slurm" && a.Here >= 0 {
		p.askSlurm(a)
	}
	return nil
}

// around is the allocation in which this process stands; nil = none.
func (p *launchPlan) around() *outer.Allocation {
	if p.alloc != nil && p.alloc.Nodes != nil {
		return p.alloc
	}
	return p.inside
}

func (o *startOptions) planSlurm(e *env, p *launchPlan) error {
	a := p.alloc
	p.local, p.step = 1, a.Step
	if a.Where == outer.Step {
		if err := o.planStep(e, p); err != nil {
			return err
		}
	}
	p.nodes, p.here = a.Nodes, a.Here
	crewed := p.crew != nil || a.Where == outer.Step && o.dryRun && o.mayCrew(e, a.Procs) == nil
	p.found = fmt.Sprintf("in the %s of job %s of Slurm, with %s: %s", a.Where, a.ID, plural(len(a.Nodes), "node"), hostlist.Encode(a.Nodes))
	if a.Where == outer.Step {
		p.found += fmt.Sprintf("; %d tasks were started, of which the first (task 0) runs the leader; ", a.Procs)
		if crewed {
			p.found += "they talk by PMI, and the first one on each other node becomes its broker"
		} else {
			p.found += "it starts a broker on each other node, and the other tasks wait for the end"
		}
	}
	if a.Where == outer.Single && len(a.JobNodes) > len(a.Nodes) {
		p.notes = append(p.notes, fmt.Sprintf("this step has one task, on one of the %d nodes of job %s: the instance has what the step has. Without srun, frond start uses all nodes", len(a.JobNodes), a.ID))
	}
	if a.Where == outer.Shell && os.Getenv(carriedEnv) != "" {
		p.here = 0 // srun has said so, even where it does not name the node
	} else if a.Where == outer.Shell && o.ready == 0 && !o.detach { // a detached leader stays where its clients are
		p.here = 0
		p.seat = outer.SrunOne(p.nodes[0])
	}
	if len(p.others()) == 0 && p.seat == nil {
		return nil
	}
	if p.seat == nil || o.dryRun { // else it is asked there
		p.askSlurm(a)
	}
	if crewed {
		p.way = crewWay{p.crew}
		return nil
	}
	if _, err := exec.LookPath("srun"); err != nil {
		return errors.New("srun is not in PATH: it is needed to start brokers on the other nodes of the allocation; with --launcher=local they are left alone")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if p.seat != nil {
		p.seat = append(p.seat, self, "carry")
	}
	if len(p.others()) > 0 {
		p.way = &srunWay{self: self, nodes: p.others()}
	}
	return nil
}

// askSlurm completes what the environment says: what the job has of each node, and where hardware threads are counted. If Slurm does not answer, the
// environment counts, and cpus are taken for cores.
func (p *launchPlan) askSlurm(a *outer.Allocation) {
	a.SlurmGrant(output("scontrol", "-d", "-o", "show", "job", a.ID))
	p.threads = outer.ThreadsPerCPU(output("scontrol", "-o", "show", "node", hostlist.Encode(a.Nodes)))
}

// cores are those of so many cpus of a node.
func (p *launchPlan) cores(node string, cpus int) int { return max(1, cpus/max(1, p.threads[node])) }

// grantedHere fills in what this host may offer where the others are left alone.
func (p *launchPlan) grantedHere(place *meet.Place) {
	if a := p.inside; a != nil && a.Here >= 0 {
		p.grant(a, place, a.Here)
	}
}

// granted fills in what a node may offer.
func (p *launchPlan) granted(place *meet.Place, node int) {
	if p.alloc != nil {
		p.grant(p.alloc, place, node)
	}
}

func (p *launchPlan) grant(a *outer.Allocation, place *meet.Place, node int) {
	if a.CPUs != nil {
		place.Cores = p.cores(a.Nodes[node], a.CPUs[node])
	}
	if a.MemMiB != nil {
		place.MemMiB = a.MemMiB[node]
	}
	place.NoGPUs = !a.GPUs
	if a.GPUIDs != nil {
		place.GPUs = a.GPUIDs[node]
		place.NoGPUs = place.GPUs == ""
	}
}

// slots are the places of brokers elsewhere. Parts are what they are told to offer, by rank; nil = what they have.
func (p *launchPlan) slots(oversub int, parts [][]byte) []*slot {
	var out []*slot
	for i, name := range p.nodes {
		if i == p.here {
			continue
		}
		rank := len(out) + 1
		s := &slot{place: meet.Place{Rank: rank, Index: rank, Node: name, Oversub: oversub}}
		if p.here < 0 {
			s.place.Index--
		}
		p.granted(&s.place, i)
		s.place.Properties = p.properties[s.place.Index]
		if p.crew != nil {
			s.place.Part, s.place.Parts = p.crew.part(p.crew.brokers()[i])
		}
		if parts != nil {
			s.place.Resources = parts[rank]
		}
		out = append(out, s)
	}
	return out
}

// describe prints for people what was found and what will be run.
func (p *launchPlan) describe(e *env) {
	fmt.Fprintf(e.stdout, "found:    this process is %s\n", p.found)
	switch {
	case p.launch != nil:
		fmt.Fprintf(e.stdout, "brokers:  %d; rank 0, the leader, here\n", p.size())
	case p.nodes == nil:
		fmt.Fprintf(e.stdout, "brokers:  %d, all processes of this host\n", p.local)
	case p.seat != nil:
		fmt.Fprintf(e.stdout, "brokers:  %d; rank 0, the leader, on the first node, %s: this shell is on none of them, and carries terminal, input, signals and exit code\n", p.size(), p.nodes[0])
	case p.here >= 0:
		fmt.Fprintf(e.stdout, "brokers:  %d; rank 0, the leader, here on node %s\n", p.size(), p.nodes[p.here])
	default:
		fmt.Fprintf(e.stdout, "brokers:  %d; rank 0, the leader, on this host, which is none of the nodes: it offers no resources\n", p.size())
	}
	if p.alloc != nil && p.alloc.CPUs != nil {
		total := 0
		for i, n := range p.alloc.CPUs {
			total += p.cores(p.alloc.Nodes[i], n)
		}
		fmt.Fprintf(e.stdout, "granted:  %d cores at most\n", total)
	}
	if w, ok := p.way.(*recipeWay); ok {
		fmt.Fprintf(e.stdout, "launcher: %s (%s)", w.name, w.what)
		if w.why != "" {
			fmt.Fprintf(e.stdout, "; %s", w.why)
		}
		fmt.Fprintf(e.stdout, "\nticket:   %s\n", w.passes())
	}
	then := "here"
	if p.seat != nil {
		then = "there"
		fmt.Fprintf(e.stdout, "run:      %s\n", typedLine(p.seat))
	}
	if p.way != nil {
		for _, line := range p.way.words() {
			fmt.Fprintf(e.stdout, "run:      %s\n", line)
		}
	}
	if p.alloc != nil && p.alloc.Kind == "slurm" && len(p.nodes) > 1 {
		fmt.Fprintln(e.stdout, "note:     Slurm ends the whole job when one of its nodes fails, if it was submitted without --no-kill, which accounting (sacct) alone may know")
	}
	fmt.Fprintf(e.stdout, "then:     the command runs %s, with FROND_URI set\n", then)
}
