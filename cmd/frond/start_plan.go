package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/frond-hpc/frond/overlay/meet"
	"github.com/frond-hpc/frond/overlay/outer"
	"github.com/frond-hpc/frond/resource/hostlist"
)

// launchPlan says where the brokers of an instance will be, and how they get there.
type launchPlan struct {
	alloc   *outer.Allocation // nil: in none
	found   string            // for people: where this process is, and why this is done
	local   int               // brokers of this host: ranks 0 to local-1
	here    int               // index in nodes of this host, which the leader offers; -1 = it offers nothing
	nodes   []string          // all; nil: local brokers alone
	way     way               // nil: no broker elsewhere
	threads int               // cpus of the allocation's scheduler that make a core
}

// size is the number of brokers.
func (p *launchPlan) size() int {
	if p.nodes == nil {
		return p.local
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

// launchers are the values of --launcher, beside exec:COMMAND.
var launchers = []string{"auto", "local", "slurm", "ssh"}

// makePlan finds out where this process is and decides what to launch.
func (o *startOptions) makePlan(e *env) (*launchPlan, error) {
	p := &launchPlan{local: max(1, o.brokers), here: -1, threads: 1}
	if o.boot != "none" {
		a, err := outer.Detect(e.getenv)
		if err != nil && o.launcher != "local" {
			return nil, err
		}
		p.alloc = a
	}
	custom, isExec := strings.CutPrefix(o.launcher, "exec:")
	switch {
	case o.hosts != "" || o.launcher == "ssh" || isExec:
		return p, o.planHosts(p, custom, isExec)
	case o.launcher == "local" || o.launcher == "auto" && (o.brokersGiven || p.alloc == nil):
		p.found = "in no allocation"
		if p.alloc != nil {
			p.found = fmt.Sprintf("in the %s of job %s of %s, whose other nodes are left alone (--launcher, -n or --boot say so)", p.alloc.Where, p.alloc.ID, p.alloc.Kind)
			p.alloc = nil
		}
		return p, nil
	case p.alloc == nil:
		return nil, fmt.Errorf("--launcher=%s: this process is in no allocation of it (SLURM_JOB_ID is not set)", o.launcher)
	}
	return p, o.planSlurm(p)
}

func (o *startOptions) planSlurm(p *launchPlan) error {
	a := p.alloc
	p.local, p.nodes, p.here = 1, a.Nodes, a.Here
	p.found = fmt.Sprintf("in the %s of job %s of Slurm, with %d nodes: %s", a.Where, a.ID, len(a.Nodes), hostlist.Encode(a.Nodes))
	if a.Where == outer.Step {
		p.found += fmt.Sprintf("; %d tasks were started, of which the first (task 0) runs the leader and starts a broker on each other node, and the others wait for the end", a.Procs)
	}
	if len(p.others()) == 0 {
		return nil
	}
	if _, err := exec.LookPath("srun"); err != nil {
		return errors.New("srun is not in PATH: it is needed to start brokers on the other nodes of the allocation; with --launcher=local they are left alone")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	p.way = &srunWay{self: self, nodes: p.others()}
	p.threads = slurmThreads(p.others())
	return nil
}

// slurmThreads asks Slurm whether it counts hardware threads; where it does not answer it is taken to count cores.
func slurmThreads(nodes []string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "scontrol", "-o", "show", "node", nodes[0]).Output()
	if err != nil {
		return 1
	}
	return outer.ThreadsPerCPU(string(out))
}

// planHosts is for ssh and the like: one command a host.
func (o *startOptions) planHosts(p *launchPlan, custom string, isExec bool) error {
	switch {
	case o.hosts != "":
		hosts, err := hostlist.Parse(o.hosts)
		if err != nil {
			return fmt.Errorf("--hosts: %w", err)
		}
		p.nodes, p.alloc = hosts, nil
		p.found = "told the hosts: " + o.hosts
	case p.alloc != nil:
		p.nodes = p.alloc.Nodes
		p.found = fmt.Sprintf("in job %s of %s, with %d nodes: %s", p.alloc.ID, p.alloc.Kind, len(p.nodes), hostlist.Encode(p.nodes))
	default:
		return fmt.Errorf("--launcher=%s needs --hosts: this process is in no allocation that would name them", o.launcher)
	}
	if len(p.nodes) == 0 {
		return errors.New("--hosts: no host is named")
	}
	p.local = 1
	host, _ := os.Hostname()
	short, _, _ := strings.Cut(host, ".")
	p.here = slices.IndexFunc(p.nodes, func(n string) bool { return n == host || n == short || n == "localhost" })
	if p.alloc != nil {
		p.here = p.alloc.Here
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	w := &hostWay{kind: "ssh", prefix: []string{"ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "{host}"}, self: []string{"exec", self}, hosts: p.others()}
	if isExec {
		w.kind, w.prefix, w.self = "exec", strings.Fields(custom), []string{self}
		if len(w.prefix) == 0 {
			return errors.New("--launcher=exec: needs a command, in which {host} stands for the host")
		}
	}
	p.way = w
	if len(w.hosts) == 0 {
		p.way = nil
	}
	return nil
}

// granted fills in what a node may offer.
func (p *launchPlan) granted(place *meet.Place, node int) {
	a := p.alloc
	if a == nil {
		return
	}
	if a.CPUs != nil {
		place.Cores = max(1, a.CPUs[node]/p.threads)
	}
	if a.MemMiB != nil {
		place.MemMiB = a.MemMiB[node]
	}
	place.NoGPUs = !a.GPUs
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
	case p.nodes == nil:
		fmt.Fprintf(e.stdout, "brokers:  %d, all processes of this host\n", p.local)
	case p.here >= 0:
		fmt.Fprintf(e.stdout, "brokers:  %d; rank 0, the leader, here on node %s\n", p.size(), p.nodes[p.here])
	default:
		fmt.Fprintf(e.stdout, "brokers:  %d; rank 0, the leader, on this host, which is none of the nodes: it offers no resources\n", p.size())
	}
	if p.alloc != nil && p.alloc.CPUs != nil {
		total := 0
		for _, n := range p.alloc.CPUs {
			total += max(1, n/p.threads)
		}
		fmt.Fprintf(e.stdout, "granted:  %d cores at most\n", total)
	}
	if p.way != nil {
		for _, line := range p.way.words() {
			fmt.Fprintf(e.stdout, "run:      %s\n", line)
		}
	}
	fmt.Fprintln(e.stdout, "then:     the command runs here, with FROND_URI set")
}
