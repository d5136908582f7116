package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/frond-hpc/frond/config"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What people type out of habit, and what it is called here. It is said and never done: the words may mean something else there.

// habits are words of other tools in the place of a verb, with the verbs that do it here: the first that there is, is named. A word of
// two parts is a verb of its own with one below it.
var habits = map[string]string{
	// Slurm
	"sbatch": "batch|submit", "srun": "run", "salloc": "alloc|start", "squeue": "jobs", "scancel": "cancel", "sinfo": "resource list",
	"sacct": "jobs -a", "sattach": "job attach", "scontrol": "job info", "sstat": "report|jobs -a", "seff": "report|jobs -a", "sprio": "explain|jobs",
	"scontrol update": "update|job info", "scontrol hold": "job urgency|job info", "scontrol show": "job info|jobs",
	"sacctmgr": "queue|jobs", "sdiag": "uptime", "strigger": "job wait-event", "sbcast": "exec|run",
	// LSF, PBS, SGE
	"bsub": "submit", "bjobs": "jobs", "bkill": "cancel", "bhosts": "resource list", "bpeek": "logs", "bqueues": "queue list|jobs", "bstop": "kill",
	"qsub": "submit", "qstat": "jobs", "qdel": "cancel", "qhost": "resource list", "qsh": "start", "qrsh": "run", "qhold": "job urgency|jobs",
	"pbsnodes": "resource list", "mpirun": "run", "mpiexec": "run", "jsrun": "run", "aprun": "run",
	// HyperQueue
	"hq": "--help", "server": "start", "server start": "start", "server stop": "shutdown", "server info": "uptime", "worker": "resource list",
	"worker list": "resource list", "worker start": "start", "worker stop": "resource drain", "task": "jobs", "task list": "jobs -a",
	"job list": "jobs", "job cat": "logs", "job progress": "wait", "job submit-file": "submit", "job summary": "jobs --stats", "job forget": "job purge",
	"output-log": "logs", "dashboard": "top|jobs", "job task-ids": "jobs",
	// Flux, now and before
	"flux": "--help", "mini": "--help", "mini run": "run", "mini submit": "submit", "mini batch": "batch|submit", "mini alloc": "alloc|start",
	"mini bulksubmit": "bulksubmit|submit", "job drain": "queue drain|wait --all", "broker-start": "start", "keygen": "start", "proxy": "proxy|--instance NAME",
	"hwloc": "resource list", "jobtap": "start", "content": "kvs|start", "cron": "submit --begin-time|submit",
	// Words
	"ps": "jobs", "ls": "jobs", "queue": "queue|jobs", "status": "list", "stop": "shutdown", "quit": "shutdown", "exit": "shutdown", "end": "shutdown",
	"nodes": "resource list", "hosts": "resource list", "rm": "cancel", "del": "cancel", "delete": "cancel", "abort": "cancel", "log": "logs",
	"cat": "logs", "tail": "logs", "output": "logs", "instances": "list", "info": "job info", "show": "job info", "history": "jobs -a",
	"array": "submit --cc", "xargs": "parallel|submit --cc", "watch": "watch|job attach", "attach": "job attach", "init": "start", "up": "start",
	"down": "shutdown", "signal": "kill", "ssh": "--instance ssh://HOST/NAME", "set": "config",
}

// optionHabits are options of other tools, with those that mean it here.
var optionHabits = map[string]string{
	"cpus-per-task": "-c/--cores-per-task", "cpus": "-c/--cores-per-task or --cores", "time": "-t/--time-limit", "partition": "-q/--queue",
	"gres": "-g/--gpus-per-task", "gpus": "-g/--gpus-per-task", "ntasks-per-node": "--tasks-per-node", "array": "--cc=IDSET", "constraint": "--requires",
	"chdir": "--cwd", "export": "--env", "nodelist": "--requires=host:NAMES", "wrap": "the command itself, after the options", "account": "nothing: an instance has one user",
	"mem-per-cpu": "--mem (per slot)", "comment": "--setattr=user.comment=TEXT", "begin": "--begin-time", "name": "--job-name", "priority": "--urgency",
	"time-request": "--min-time", "stdout": "--output", "stderr": "--error", "stdin": "--input", "crash-limit": "--retries", "no-requeue": "--rerun=no",
	"workdir": "--cwd", "jobs": "-n or --cores", "nice": "--urgency",
}

// unknownCommand refuses arguments of a command that has only commands: they are habits from elsewhere, or typing errors.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	typed := strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()) + " " + args[0])
	if args[0] == "flux" || args[0] == "frond" || args[0] == "hq" {
		if len(args) > 1 && verbIn(cmd.Root(), args[1]) {
			return fmt.Errorf("leave out %q: the verb is '%s %s'", args[0], cmd.Root().Name(), args[1])
		}
	}
	if hint := habit(cmd.Root(), typed, args[1:]); hint != "" {
		return fmt.Errorf("there is no %q here; what does it is '%s %s'", shown(typed, args[1:]), cmd.Root().Name(), hint)
	}
	if near := nearest(args[0], names(cmd)); near != "" {
		return fmt.Errorf("unknown command %q; is '%s %s' meant?", args[0], cmd.CommandPath(), near)
	}
	return fmt.Errorf("unknown command %q; '%s --help' lists the commands", args[0], cmd.CommandPath())
}

// shown is what was typed, with the second word where that decided.
func shown(typed string, more []string) string {
	if len(more) > 0 {
		if _, ok := habits[typed+" "+more[0]]; ok {
			return typed + " " + more[0]
		}
	}
	return typed
}

// habit is what is meant by typed and the words after it; empty = not known.
func habit(root *cobra.Command, typed string, more []string) string {
	choices, ok := habits[shown(typed, more)]
	if !ok {
		return ""
	}
	for choice := range strings.SplitSeq(choices, "|") {
		if strings.HasPrefix(choice, "-") {
			return choice
		}
		cmd, rest, err := root.Find(strings.Fields(choice))
		if err == nil && cmd != root && (len(rest) == 0 || strings.HasPrefix(rest[0], "-")) && cmd.CommandPath() != root.Name()+" "+typed {
			return choice
		}
	}
	return ""
}

func verbIn(cmd *cobra.Command, name string) bool {
	for _, c := range cmd.Commands() {
		if c.Name() == name {
			return true
		}
	}
	return false
}

// names are the commands below cmd that help lists.
func names(cmd *cobra.Command) []string {
	var list []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			list = append(list, c.Name())
		}
	}
	return list
}

// nearest is the word that is most like typed, if any is like it.
func nearest(typed string, words []string) string {
	best, least := "", max(1, min(3, len(typed)/2))+1
	for _, w := range words {
		if d := config.Distance(w, typed); d < least {
			best, least = w, d
		}
	}
	return best
}

// plainer puts a message of the parser of command lines in the words of this command. It is called for errors only, so that no command
// pays for the expressions.
func plainer(text string) string {
	if m := regexp.MustCompile(`^if any flags in the group .*; \[(.*)\] were all set$`).FindStringSubmatch(text); m != nil {
		return "--" + strings.Join(strings.Fields(m[1]), " and --") + " cannot be combined"
	}
	for _, t := range [][2]string{
		{`^(invalid argument .*): strconv\.ParseU?[iI]nt: .*$`, "$1: it must be a whole number"},
		{`^(invalid argument .*): strconv\.\w+: .*$`, "$1"},
		{`^unknown command (".*") for "(frond .*)"$`, "$1 is one argument too many; '$2 --help' tells what there is"},
	} {
		text = regexp.MustCompile(t[0]).ReplaceAllString(text, t[1])
	}
	return text
}

// unknownOption adds to the parser's message which option may be meant.
func unknownOption(cmd *cobra.Command, err error) error {
	name, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return err
	}
	if hint := optionHabits[name]; hint != "" && cmd.Flags().Lookup("cores-per-task") != nil {
		return fmt.Errorf("unknown flag: --%s; here it is %s", name, hint)
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	})
	if near := nearest(name, known); near != "" {
		return fmt.Errorf("unknown flag: --%s; is --%s meant?", name, near)
	}
	return fmt.Errorf("unknown flag: --%s; '%s --help' lists them", name, cmd.CommandPath())
}
