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

	"github.com/frond-hpc/frond/resource/hostlist"
)

// launchers are the values of --launcher, beside exec:COMMAND.
var launchers = []string{"auto", "local", "slurm", "ssh", "blaunch", "jsrun", "pbs_tmrsh", "pbsdsh", "qrsh", "mpiexec"}

// schedulers are how people call the kinds of allocations.
var schedulers = map[string]string{"slurm": "Slurm", "lsf": "LSF", "pbs": "PBS", "sge": "Grid Engine", "flux": "Flux", "frond": "Frond"}

// planOthers is for all launchers but Slurm's: that of --launcher on the allocation's nodes or on --hosts, else the one that goes with the allocation.
func (o *startOptions) planOthers(p *launchPlan) error {
	if err := o.whichHosts(p); err != nil {
		return err
	}
	p.local = 1
	hosts := p.others()
	if len(hosts) == 0 {
		return nil
	}
	r, why, err := o.whichRecipe(p)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	w := &recipeWay{recipe: r, self: self, hosts: hosts, why: why}
	switch {
	case r.name == "pbsdsh" && p.alloc != nil && p.alloc.Slots != nil:
		for i := range p.nodes {
			if i != p.here {
				w.slots = append(w.slots, p.alloc.Slots[i])
			}
		}
	case r.name == "pbsdsh":
		return errors.New("--launcher=pbsdsh: it reaches the nodes of a PBS job only, and only by their numbers in PBS_NODEFILE")
	case r.tree:
		w.order = &treeOrder{SSH: sshProgram(os.Getenv), Self: self, Fanout: o.fanout}
	case r.name == "mpiexec":
		w.flavour = flavourOf(output("mpiexec", "--version"))
	case r.name == "jsrun" && p.here >= 0:
		return errors.New("--launcher=jsrun: it starts processes on all nodes of the allocation, but this is one of them; on a launch node it would be used by itself")
	}
	p.way = w
	return nil
}

// whichHosts fills in the nodes, which of them this is, and what was found.
func (o *startOptions) whichHosts(p *launchPlan) error {
	switch {
	case o.hosts != "":
		hosts, err := readHosts(o.hosts)
		if err != nil {
			return fmt.Errorf("--hosts: %w", err)
		}
		if len(hosts) == 0 {
			return errors.New("--hosts: no host is named")
		}
		p.nodes, p.alloc = hosts, nil
		p.found = "told by --hosts to start brokers on " + hostlist.Encode(hosts)
		host, _ := os.Hostname()
		p.here = slices.IndexFunc(hosts, func(n string) bool { return n == "localhost" || sameHost(n, host) })
		return nil
	case p.alloc == nil || p.alloc.Nodes == nil:
		return fmt.Errorf("--launcher=%s needs --hosts: this process is in no allocation that would name them", o.launcher)
	}
	a := p.alloc
	p.nodes, p.here = a.Nodes, a.Here
	p.found = fmt.Sprintf("in the %s of job %s of %s, with %s: %s", a.Where, a.ID, schedulers[a.Kind], plural(len(a.Nodes), "node"), hostlist.Encode(a.Nodes))
	switch {
	case a.JSM:
		p.found += "; it is a launch node, and jsrun reaches the others"
	case a.Kind == "pbs":
		a.PBSGrant(output("qstat", "-f", a.ID)) // else what the environment says counts
	}
	return nil
}

// whichRecipe finds the launcher.
func (o *startOptions) whichRecipe(p *launchPlan) (r *recipe, why string, err error) {
	command, isExec := strings.CutPrefix(o.launcher, "exec:")
	switch {
	case isExec && strings.TrimSpace(command) == "":
		return nil, "", errors.New("--launcher=exec: needs a command, in which {host} stands for the host")
	case isExec:
		return execRecipe(command), "", nil
	case o.launcher != "auto":
		r = findRecipe(o.launcher)
		if _, err := exec.LookPath(r.program); err != nil && !r.tree { // there may be another ssh
			return nil, "", fmt.Errorf("--launcher=%s: %s is not in PATH", o.launcher, r.program)
		}
		return r, "it was asked for, or goes with --hosts", nil
	}
	return chooseRecipe(p.alloc)
}

// output is what a command prints, within some seconds; what there is of it if it fails.
func output(name string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, name, args...).Output()
	return string(out)
}

// readHosts reads --hosts: a hostlist, or the name of a file with a host on each line, and what other programs' host files have behind it ("n1 slots=4", "n1:4",
// comments). Hosts that come again, as in files with a line for each slot, count once.
func readHosts(text string) ([]string, error) {
	if fi, err := os.Stat(text); !strings.Contains(text, "/") && (err != nil || !fi.Mode().IsRegular()) {
		return hostlist.Parse(text)
	}
	data, err := os.ReadFile(text)
	if err != nil {
		return nil, err
	}
	var hosts []string
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		name, _, _ := strings.Cut(f[0], ":")
		more, err := hostlist.Parse(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		for _, h := range more {
			if !slices.Contains(hosts, h) {
				hosts = append(hosts, h)
			}
		}
	}
	return hosts, nil
}
