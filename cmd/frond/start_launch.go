package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/outer"
	"github.com/spf13/pflag"
)

// launchFlags are those that say where brokers are and how they get there.
func (o *startOptions) launchFlags(f *pflag.FlagSet) {
	f.StringVar(&o.launcher, "launcher", "auto", "how brokers get to other hosts: auto (as the allocation does), local (not at all), slurm, ssh, blaunch, jsrun, pbs_tmrsh, pbsdsh, qrsh, mpiexec, or exec:`COMMAND` with {host} in it")
	f.StringVar(&o.boot, "boot", "auto", "the allocation to start in: auto (what the environment says), slurm, lsf, pbs, sge, or none")
	f.StringVar(&o.hosts, "hosts", "", "start a broker on each of `HOSTS`, as 'node[1-4],big' or a file with a host on each line, by ssh or what --launcher says")
	f.IntVar(&o.minNodes, "min-nodes", 0, "go on when at least `K` brokers are there, without those that do not come up (default: all must)")
	f.StringVar(&o.startTime, "start-time", "", "how long brokers may take to come up, a `DURATION` (default: 60s, on other hosts 120s)")
	f.StringVar(&o.iface, "interface", "", "brokers on several hosts talk over `NAME` (eth1), or over addresses in it (10.1.0.0/16)")
	f.StringVar(&o.ports, "port-range", "", "and listen on ports `FROM-TO` (default: any)")
	f.BoolVar(&o.keepEnv, "keep-env", false, "jobs keep the variables of the allocation's scheduler, and find its srun or jsrun")
	f.BoolVar(&o.dryRun, "dry-run", false, "say what was found and what would be run, and start nothing")
	f.BoolVar(&o.checkOnly, "check", false, "start, show a table of the brokers, and end; exit code 0 if all came up")
}

// checkLaunch refuses what contradicts itself.
func (o *startOptions) checkLaunch() error {
	if !slices.Contains(launchers, o.launcher) && !strings.HasPrefix(o.launcher, "exec:") {
		return fmt.Errorf("--launcher=%s: must be %s, or exec:COMMAND", o.launcher, strings.Join(launchers, ", "))
	}
	if o.hosts != "" && o.launcher == "auto" {
		o.launcher = "ssh"
	}
	switch {
	case o.boot != "auto" && o.boot != "none" && !slices.Contains(outer.Kinds, o.boot):
		return fmt.Errorf("--boot=%s: must be auto, %s or none", o.boot, strings.Join(outer.Kinds, ", "))
	case o.hosts != "" && (o.launcher == "local" || o.launcher == "slurm"):
		return fmt.Errorf("--hosts and --launcher=%s contradict each other: with --hosts brokers are started by ssh or another launcher", o.launcher)
	case o.hosts != "" && o.brokersGiven:
		return errors.New("--hosts and -n contradict each other: there is one broker on each host")
	case o.minNodes < 0:
		return fmt.Errorf("--min-nodes %d: must be at least 1", o.minNodes)
	}
	if _, err := parsePorts(o.ports); err != nil {
		return err
	}
	if o.startTime != "" {
		if s, err := jobspec.ParseFSD(o.startTime); err != nil || s < 1 || s > 24*3600 {
			return fmt.Errorf("--start-time %s: must be between 1s and 24h", o.startTime)
		}
	}
	return nil
}

// checkMinNodes compares --min-nodes with the brokers that will be started. --check wants to see all that come.
func (o *startOptions) checkMinNodes() error {
	switch {
	case o.minNodes > o.brokers:
		return fmt.Errorf("--min-nodes %d: no more than %s will be started", o.minNodes, plural(o.brokers, "broker"))
	case o.checkOnly && o.spread && o.minNodes == 0:
		o.minNodes = 1
	}
	return nil
}

// startLimit is how long brokers may take to come up.
func (o *startOptions) startLimit() time.Duration {
	if s, err := jobspec.ParseFSD(o.startTime); err == nil && o.startTime != "" {
		return time.Duration(s * float64(time.Second))
	}
	if o.spread {
		return 2 * startLimit
	}
	return startLimit
}

// launchCheck is how long a process that waits for number 0 of its launch is patient before it asks Slurm whether that does anything.
const launchCheck = 15 * time.Second

// waitForStep is the life of a process that was started beside the one that runs the instance, as by `srun frond start`: it waits
// until no broker of the instance is left on its node. Signals, which all of them get, are for the instance; with USR2 number 0 says, before
// there is a broker, that there will be none.
func (o *startOptions) waitForStep(e *env, step string) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	o.spread = true
	end, check := time.After(o.startLimit()), time.After(launchCheck)
	what := fmt.Sprintf("task %s of step %s on node %s waited for the broker that task 0 starts here", e.getenv("SLURM_PROCID"), step, e.getenv("SLURMD_NODENAME"))
	for poll := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-poll.C:
			if dir := boot.StepDir(e.getenv, step); dir != "" {
				boot.AwaitEnd(dir)
				return nil
			}
		case sig := <-signals:
			if sig == syscall.SIGUSR2 {
				return &exitError{Code: 1} // task 0 says why
			}
		case <-check:
			if job, _, _ := strings.Cut(step, "."); e.getenv("SLURM_STEP_ID") != "" && !outer.BrokersStep(output("squeue", "-h", "-s", "-j", job, "-o", "%i %j")) {
				return fmt.Errorf("%s, but after %v Slurm knows of no step with brokers in job %s: task 0 has died, or hangs. See what it says", what, launchCheck, job)
			}
		case <-end:
			return fmt.Errorf("%s; none came up within %v", what, o.startLimit())
		}
	}
}

// releases is how often the others are told.
const releases = 4

// ended lets the other processes of the launch go if there is no instance that they could belong to.
func (p *launchPlan) ended(failed error) {
	switch a := p.alloc; {
	case p.crew != nil:
		p.crew.tell("", cmp.Or(failed, errors.New("it has ended")))
		p.crew.away()
	case failed != nil && a != nil && a.Kind == "slurm" && a.Where == outer.Step:
		signal.Ignore(syscall.SIGUSR2)
		for i := range releases { // some may only just be started, and Slurm keeps no signal for them
			time.Sleep(time.Duration(i) * 300 * time.Millisecond)
			output("scancel", "--signal=USR2", p.step)
		}
	}
}
