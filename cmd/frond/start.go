package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/branchsvc"
	"github.com/frond-hpc/frond/broker/schedsvc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/resource"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// startOptions is what the user asks of `frond start`.
type startOptions struct {
	prolog, epilog string
	prologFail     string
	brokers        int
	fanout         int
	statedir       string
	recover        bool
	resources      string // short form; empty = what this host has
	name           string
	detach         bool
	unlisted       bool // others do not find it
	ready          int  // descriptor on which a detached supervisor says that it is ready; 0 = not detached
	lease          string
	policy         string
	transport      string
	counters       []string // NAME=N
	properties     []string // NAME[:TARGETS]
	recalled       bool     // properties are those of an earlier start
	inactiveAge    string   // FSD; empty = for ever
	inactiveNum    int      // -1 = any number
	queues         []string // NAME[:KEY=VALUE,…]
	oversub        int      // cores offered for each that there is
	onExit         string
	listen         string // tcp://HOST:PORT for clients; empty = none
	launcher       string // how brokers are started on other hosts
	boot           string // which allocation is believed in
	hosts          string // where brokers are started, as a hostlist
	minNodes       int    // so many brokers do; 0 = all are needed
	startTime      string // FSD; empty = the default
	iface, ports   string // for brokers on several hosts
	dryRun         bool
	checkOnly      bool // --check
	brokersGiven   bool // -n was
	spread         bool // brokers are on several hosts
	end            endOptions
	keepEnv        bool
	command        []string
	stay           bool        // without a command: until it is ended
	dump           string      // an archive of the state that is left at the end; absolute
	child          *childStart // it is a job of another instance; nil = it is not
	split          string
	branch         string // a child: it is this branch of its parent
}

const startLong = `Start an instance and run a command in it.
Inside an allocation of Slurm (in a batch script, in a shell of salloc, or by srun once per node), LSF, PBS or Grid Engine one broker is
started on each of its nodes, and what was granted is offered, never more. --hosts names hosts that ssh reaches. Processes that mpiexec or
the like has started become one instance. In a shell of salloc all is carried to the first node, with terminal, input, signals and
exit code. Else, or with -n, all is on this host. --dry-run says what was found and what would be done.

On one host brokers are processes of their own, with the host's cores dealt out among them. The command runs beside the leader,
with FROND_URI set and frond in its PATH; without a command, a shell if there is a terminal; else the instance works its
queue off and ends. When the command ends while jobs are active, the instance waits for them (--on-exit).

SIGINT, SIGTERM and SIGHUP are passed to the command, then all is ended in order; a second one (TERM and HUP: after 2 s) hastens. Active jobs are
cancelled, but stay in --statedir at SIGTERM and SIGHUP (not with --on-exit=cancel) and with --on-exit=keep.
Everything that was started ends with the instance: brokers, tasks, and whatever the command left in the background.

Exit code: the command's, or 128 + the number of the signal that ended it; 1 if the instance failed.`

func newStartCmd(e *env) *cobra.Command {
	o := &startOptions{}
	cmd := &cobra.Command{
		Use:   "start [flags] [--] [command …]",
		Short: "Start an instance and run a command in it",
		Long:  startLong,
		Example: `  frond start -n 4 -- frond run -N4 -n4 hostname
  frond start --statedir work --resources 'node[64]/core[64],gpu[4]' ./sweep.sh
  sbatch -N16 --no-kill --wrap 'frond start ./sweep.sh'     # one broker on each of 16 nodes
  frond start --hosts 'node[1-4]' ./sweep.sh                # the same by ssh
  mpiexec -n 4 frond start ./sweep.sh                       # four brokers of one instance
  frond start --detach --name lab && frond --instance lab submit ./job.sh`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.command = args
			o.brokersGiven = cmd.Flags().Changed("brokers") || cmd.Flags().Changed("test-size")
			return o.run(cmd.Context(), e)
		},
	}
	o.flags(cmd)
	return cmd
}

func (o *startOptions) flags(cmd *cobra.Command) {
	o.flagsOf(cmd.Flags())
}

func (o *startOptions) flagsOf(f *pflag.FlagSet) {
	f.SetInterspersed(false)
	f.IntVarP(&o.brokers, "brokers", "n", 1, "number of `N` brokers")
	f.IntVarP(&o.brokers, "test-size", "s", 1, "the same, as Flux calls it")
	f.IntVar(&o.fanout, "fanout", 32, "children of one broker in the tree, at most `K`")
	f.StringVar(&o.statedir, "statedir", "", "keep jobs in `DIR`: opened if it holds a state, else created; {name} is the instance's")
	f.BoolVar(&o.recover, "recover", false, "--statedir must hold a state already")
	f.BoolVar(&o.recover, "recovery", false, "the same")
	f.StringVar(&o.resources, "resources", "", "offer `SPEC`, as 'node[64]/core[64],gpu[4],memory[256G]', instead of what this host has")
	f.StringVar(&o.resources, "fake-resources", "", "the same")
	f.IntVar(&o.oversub, "oversubscribe", 1, "offer `N` cores for each that there is")
	f.StringArrayVar(&o.queues, "queue", nil, "a named queue, `NAME[:KEY=VALUE,…]` with default, requires=PROPERTY, limits.duration=1h, limits.job-size.max.nnodes=4 …; may be repeated")
	f.StringArrayVar(&o.counters, "resource", nil, "a named counter, `NAME=N`, that jobs take from with submit --resource; may be repeated")
	f.StringArrayVar(&o.properties, "property", nil, "a property, `NAME[:RANKS|HOSTS]`, of these nodes or all, for submit --requires; may be repeated")
	f.StringVar(&o.inactiveAge, "inactive-age-limit", "", "purge jobs that ended longer ago than this `FSD`, as frond job purge does")
	f.IntVar(&o.inactiveNum, "inactive-num-limit", -1, "purge the oldest until at most `N` jobs that have ended are left")
	f.StringVar(&o.name, "name", "", "`NAME` of the instance (default: a random one)")
	f.BoolVar(&o.detach, "detach", false, "run in the background, return when ready; without a command until 'frond shutdown NAME'")
	f.StringVar(&o.lease, "lease", "30s", "a broker without contact to the leader ends its tasks after this `DURATION`")
	f.StringVar(&o.split, "split", "", "make branches, each with nodes of its own, that run slices of the queue: `KxL…` of them, L below each of K")
	f.StringVar(&o.policy, "policy", schedsvc.PolicyNames[0], "how the queue is scheduled: "+strings.Join(schedsvc.PolicyNames, " or "))
	f.StringVar(&o.transport, "transport", boot.Unix, "how brokers talk: unix (sockets of this host) or zmq (ZeroMQ with CURVE)")
	f.StringVar(&o.prolog, "prolog", "", "run `COMMAND` (for sh) on each node of a job before its tasks; if it fails the job does")
	f.StringVar(&o.prologFail, "prolog-fail", "exception", "when it fails: exception (the job fails), or drain (its nodes are drained, too)")
	f.StringVar(&o.epilog, "epilog", "", "run `COMMAND` (for sh) on each node of a job after its tasks")
	f.StringVar(&o.onExit, "on-exit", "wait", "jobs that are active when the command ends: wait, cancel, or keep (in --statedir)")
	f.StringVar(&o.listen, "listen", "", "take clients on `tcp://HOST:PORT` too, that have the certificate (port 0: a free one)")
	o.launchFlags(f)
	o.end.flags(f)
	f.IntVar(&o.ready, "ready-fd", 0, "")
	f.BoolVar(&o.unlisted, "unlisted", false, "do not let others find it")
	for _, name := range []string{"ready-fd", "unlisted", "test-size", "recovery", "fake-resources"} {
		f.Lookup(name).Hidden = true
	}
}

// maxLocalBrokers bounds --brokers: each is a process of this host.
const maxLocalBrokers = 4096

// maxOversubscribe bounds --oversubscribe.
const maxOversubscribe = 256

// check refuses what contradicts itself, before anything is started.
func (o *startOptions) check() error {
	switch {
	case o.brokers < 1 || o.brokers > maxLocalBrokers:
		return fmt.Errorf("--brokers %d: must be 1 to %d", o.brokers, maxLocalBrokers)
	case o.fanout < 1:
		return fmt.Errorf("--fanout %d: must be at least 1", o.fanout)
	case o.recover && o.statedir == "":
		return errors.New("--recover needs --statedir")
	case o.oversub < 1 || o.oversub > maxOversubscribe:
		return fmt.Errorf("--oversubscribe %d: must be 1 to %d", o.oversub, maxOversubscribe)
	case o.prologFail != "exception" && o.prologFail != "drain":
		return fmt.Errorf("--prolog-fail=%s: must be exception or drain", o.prologFail)
	case o.onExit == "keep" && o.statedir == "":
		return errors.New("--on-exit=keep needs --statedir: there is no other place to keep jobs in")
	case o.onExit != "wait" && o.onExit != "cancel" && o.onExit != "keep":
		return fmt.Errorf("--on-exit=%s: must be wait, cancel or keep", o.onExit)
	}
	if o.transport != boot.Unix && o.transport != boot.ZeroMQ {
		return fmt.Errorf("--transport=%s: must be %s or %s", o.transport, boot.Unix, boot.ZeroMQ)
	}
	if _, err := o.widths(); err != nil {
		return err
	}
	if _, err := jobspec.ParseQueues(o.queues); err != nil {
		return fmt.Errorf("--queue: %w", err)
	}
	if _, err := resource.ParseProperties(notEmpty(o.properties)); err != nil {
		return fmt.Errorf("--property: %w", err)
	}
	if _, err := jobspec.ParseCounters(notEmpty(o.counters)); err != nil {
		return fmt.Errorf("--resource: %w", err)
	}
	if err := (schedsvc.Config{Policy: o.policy}).Valid(); err != nil {
		return fmt.Errorf("--policy: %w", err)
	}
	if _, err := o.inactiveSeconds(); err != nil {
		return err
	}
	if o.inactiveNum < -1 {
		return fmt.Errorf("--inactive-num-limit=%d: must be 0 or more", o.inactiveNum)
	}
	if err := o.checkListen(); err != nil {
		return err
	}
	if err := o.end.check(); err != nil {
		return err
	}
	if err := o.checkLaunch(); err != nil {
		return err
	}
	if o.name == "" {
		return nil
	}
	return boot.CheckName(o.name)
}

// widths parses --split.
func (o *startOptions) widths() ([]int, error) {
	if o.split == "" {
		return nil, nil
	}
	widths, err := branchsvc.ParseWidths(o.split)
	if err == nil {
		err = branchsvc.CheckWidths(widths, maxBranches)
	}
	if err != nil {
		return nil, fmt.Errorf("--split %w", err)
	}
	return widths, nil
}

// maxBranches bounds --split, whatever nodes there are.
const maxBranches = 1 << 20

// leaseSeconds parses --lease.
func (o *startOptions) leaseSeconds() (float64, error) {
	s, err := jobspec.ParseFSD(o.lease)
	if err != nil {
		return 0, fmt.Errorf("--lease %s: %w", o.lease, err)
	}
	if s < 1 || s > 24*3600 {
		return 0, fmt.Errorf("--lease %s: must be between 1s and 24h", o.lease)
	}
	return s, nil
}

// inactiveSeconds parses --inactive-age-limit; 0 = none.
func (o *startOptions) inactiveSeconds() (float64, error) {
	if o.inactiveAge == "" {
		return 0, nil
	}
	s, err := jobspec.ParseFSD(o.inactiveAge)
	switch {
	case err != nil:
		return 0, fmt.Errorf("--inactive-age-limit: %w", err)
	case s <= 0:
		return 0, fmt.Errorf("--inactive-age-limit=%s: must be more than 0 (--inactive-num-limit=0 keeps none)", o.inactiveAge)
	case s > maxInactiveAge:
		return 0, nil
	}
	return s, nil
}

// maxInactiveAge is a limit in seconds that will not be seen, a century; "inf" is more.
const maxInactiveAge = 100 * 366 * 24 * 3600

func (o *startOptions) run(ctx context.Context, e *env) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.detach && o.ready == 0 {
		return detach(ctx, e)
	}
	if o.ready > 0 {
		unix.CloseOnExec(o.ready)
	}
	plan, err := o.makePlan(e)
	if err != nil {
		return err
	}
	beside := plan.beside()
	switch {
	case o.dryRun:
		if !beside {
			plan.describe(e)
		}
		return nil
	case plan.seat != nil:
		return plan.carry(e)
	case beside && plan.crew != nil:
		return plan.crew.serve(e, o, plan.step)
	case beside:
		return o.waitForStep(e, plan.step)
	}
	o.brokers, o.spread = plan.size(), plan.way != nil
	if err := o.checkMinNodes(); err != nil {
		plan.ended(err)
		return err
	}
	s := &supervisor{e: e, o: o, plan: plan, began: time.Now(), events: make(chan any, 64)}
	defer s.catchSignals()()
	err = s.prepare()
	if err == nil {
		err = s.run(ctx)
	} else {
		s.err = err
		s.cleanup()
	}
	plan.ended(s.err)
	return err
}

// stateDir makes --statedir absolute and sees to it that it is there.
func (o *startOptions) stateDir() (string, error) {
	dir, err := filepath.Abs(o.statedir)
	if err != nil {
		return "", fmt.Errorf("--statedir: %w", err)
	}
	if o.recover {
		if _, err := os.Stat(filepath.Join(dir, "store.db")); err != nil {
			return "", fmt.Errorf("--recover: %s holds no state (no store.db)", dir)
		}
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("--statedir: %w", err)
	}
	return dir, nil
}

// expandStateDir replaces {name} in --statedir and ~ in front of it, so that a configuration file can say where all instances keep theirs.
func expandStateDir(dir, name, home string) string {
	if rest, ok := strings.CutPrefix(dir, "~/"); ok && home != "" {
		dir = filepath.Join(home, rest)
	}
	return strings.ReplaceAll(dir, "{name}", name)
}

// newInfo is the boot file's content for these options.
func (o *startOptions) newInfo(e *env, name, rundir string) (*boot.Info, error) {
	lease, err := o.leaseSeconds()
	if err != nil {
		return nil, err
	}
	age, err := o.inactiveSeconds()
	if err != nil {
		return nil, err
	}
	split, err := o.widths()
	if err != nil {
		return nil, err
	}
	info := &boot.Info{Name: name, Split: split, ID: fmt.Sprintf("%016x", rand.Uint64()), RunDir: rundir, Size: o.brokers, Fanout: o.fanout, Lease: lease, Recover: o.recover, Policy: o.policy, Queues: o.queues, Prolog: o.prolog, Epilog: o.epilog, Drain: o.prologFail == "drain", Transport: o.transport, InactiveAge: age,
		Start: float64(time.Now().UnixMicro()) / 1e6}
	info.KeepEnv = o.keepEnv
	if o.inactiveNum >= 0 {
		info.InactiveNum = &o.inactiveNum
	}
	if o.child != nil {
		o.child.describe(info)
		if info.Branch = o.branch; o.branch != "" {
			o.child.asBranch(info)
		}
		if o.statedir == "" {
			info.TempState = true
			if info.StateDir, err = o.child.stateDir(rundir); err != nil {
				return nil, err
			}
			err = o.recall(info)
			info.Counters = o.counters
			return info, err
		}
	}
	o.statedir = expandStateDir(o.statedir, name, e.getenv("HOME"))
	if o.statedir == "" {
		info.StateDir, info.TempState = filepath.Join(rundir, "state"), true
		err = os.Mkdir(info.StateDir, 0o700)
	} else {
		info.StateDir, err = o.stateDir()
	}
	if err == nil {
		err = o.recall(info)
	}
	info.Counters = o.counters
	return info, err
}
