package main

import (
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

// waitForStep is the life of a process that was started beside the one that runs the instance, as by `srun frond start`: it waits
// until no broker of the instance is left on its node. Signals, which all of them get, are for the instance.
func (o *startOptions) waitForStep(e *env, a *outer.Allocation) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	o.spread = true
	for end := time.Now().Add(o.startLimit()); ; time.Sleep(50 * time.Millisecond) {
		if dir := boot.StepDir(e.getenv, a.Step); dir != "" {
			boot.AwaitEnd(dir)
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("task %d of step %s on node %s waited for the broker that task 0 starts here; none came up within %v", a.Proc, a.Step,
				os.Getenv("SLURMD_NODENAME"), o.startLimit())
		}
	}
}
