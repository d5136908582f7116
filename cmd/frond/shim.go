package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

// In a job of an instance that is in an allocation, srun would ask the site's Slurm for a job of its own, and wait for it, as the variables that tell it of the
// allocation are not there; jsrun would fail in its own way. So jobs find others under these names, which say what to use instead.

// shimmed are the commands with one.
var shimmed = []string{"srun", "jsrun"}

// shims makes the directory with them; empty if jobs are to have none.
func (p *brokerProcess) shims() (string, error) {
	if p.info.Outer == "" || p.info.KeepEnv {
		return "", nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	dir := filepath.Join(p.info.BrokerDir(int(p.rank)), "instead")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make commands for jobs: %w", err)
	}
	for _, name := range shimmed {
		text := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\"\n", typedLine([]string{self, "instead", name}))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			return "", fmt.Errorf("make commands for jobs: %w", err)
		}
	}
	return dir, nil
}

func newInsteadCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:                "instead COMMAND [args …]",
		Short:              "Say what to use instead of another scheduler's command in a job",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("a command is missing")
			}
			fmt.Fprintf(e.stderr, "%s: %s\n", args[0], instead(args[0], args[1:]))
			return &exitError{Code: 1}
		},
	}
}

// instead is what a user is told who typed a command of another scheduler in a job.
func instead(name string, args []string) string {
	line, left := translate(name, args)
	text := fmt.Sprintf("this is a job of Frond, in which %s would ask the site for a new job. Use:\n  %s", name, line)
	if len(left) > 0 {
		text += "\nwithout a counterpart: " + strings.Join(left, " ")
	}
	return text + fmt.Sprintf("\n(%s itself is there by its full path; with 'frond start --keep-env' jobs keep its environment, and find it)", name)
}

// word is how an option of another launcher is said here.
type word struct {
	to    string              // empty = nothing says it, or nothing needs to
	value func(string) string // puts its value into our words; nil = as it is
	drop  bool                // nothing needs to be said
}

// withValue are the options that take a value, by their long name and short letter.
var withValue = map[string]map[string]word{
	"srun": {
		"n": {to: "-n"}, "ntasks": {to: "-n"}, "N": {to: "-N"}, "nodes": {to: "-N"}, "c": {to: "-c"}, "cpus-per-task": {to: "-c"}, "gpus-per-task": {to: "-g"},
		"ntasks-per-node": {to: "--tasks-per-node="}, "gpus-per-node": {to: "--gpus-per-node="}, "J": {to: "--job-name="}, "job-name": {to: "--job-name="},
		"t": {to: "-t", value: slurmTime}, "time": {to: "-t", value: slurmTime}, "o": {to: "--output="}, "output": {to: "--output="}, "e": {to: "--error="}, "error": {to: "--error="},
		"i": {to: "--input="}, "input": {to: "--input="}, "D": {to: "--cwd="}, "chdir": {to: "--cwd="}, "w": {to: "--requires=host:"}, "nodelist": {to: "--requires=host:"},
		"x": {to: "--requires=-host:"}, "exclude": {to: "--requires=-host:"},
		"mpi": {drop: true}, "cpu-bind": {drop: true}, "K": {drop: true}, "W": {drop: true}, "wait": {drop: true}, "jobid": {drop: true}, "export": {}, "mem": {}, "mem-per-cpu": {},
		"p": {}, "partition": {}, "A": {}, "account": {}, "q": {}, "qos": {}, "m": {}, "distribution": {}, "C": {}, "constraint": {}, "G": {}, "gpus": {}, "gres": {}, "d": {}, "dependency": {},
		"signal": {}, "threads-per-core": {}, "hint": {}, "mem-bind": {}, "multi-prog": {}, "r": {}, "relative": {}, "B": {}, "S": {}, "T": {}, "tres-per-task": {}, "network": {}, "prolog": {},
		"epilog": {}, "task-prolog": {}, "task-epilog": {}, "reservation": {}, "cluster-constraint": {}, "M": {}, "clusters": {}, "bcast": {}, "het-group": {},
	},
	"jsrun": {
		"n": {}, "nrs": {}, "a": {}, "tasks_per_rs": {}, "c": {}, "cpu_per_rs": {}, "g": {}, "gpu_per_rs": {}, "p": {to: "-n"}, "np": {to: "-n"}, // those without are counted together
		"r": {}, "rs_per_host": {}, "d": {drop: true}, "launch_distribution": {drop: true}, "b": {drop: true}, "bind": {drop: true}, "l": {drop: true}, "latency_priority": {drop: true},
		"h": {to: "--cwd="}, "chdir": {to: "--cwd="}, "o": {to: "--output="}, "stdio_stdout": {to: "--output="}, "k": {to: "--error="}, "stdio_stderr": {to: "--error="},
		"t": {to: "--input="}, "stdio_input": {to: "--input="}, "E": {to: "--env="}, "env": {to: "--env="}, "F": {}, "M": {}, "smpiargs": {}, "U": {}, "erf_input": {}, "S": {}, "m": {}, "memory_per_rs": {}, "X": {drop: true}, "exit_on_error": {drop: true},
	},
}

// flagWords are those without a value that have a counterpart; others without one are dropped.
var flagWords = map[string]string{"l": "-l", "label": "-l", "u": "-u", "unbuffered": "-u", "exclusive": "", "pty": "-o pty.interactive"}

// translate says a command line of srun or jsrun as `frond run`, and what of it has no counterpart.
func translate(name string, args []string) (line string, left []string) {
	words := withValue[name]
	out := []string{"frond", "run"}
	rs := map[string]int{} // of jsrun: resource sets and what each has
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-" {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		opt, value, given := cutOption(arg, words)
		w, takes := words[opt]
		if !takes {
			if to := flagWords[opt]; to != "" && name == "srun" {
				out = append(out, strings.Fields(to)...)
			}
			continue
		}
		if !given && len(args) > 0 {
			value, args = args[0], args[1:]
		}
		n, err := strconv.Atoi(value)
		switch {
		case name == "jsrun" && err == nil && slices.Contains([]string{"n", "a", "c", "g"}, jsrunLetter(opt)):
			rs[jsrunLetter(opt)] = n
		case w.to != "":
			if w.value != nil {
				value = w.value(value)
			}
			out = append(out, w.to+value)
		case !w.drop:
			left = append(left, arg)
		}
	}
	out = append(out, resourceSets(rs)...)
	return typedLine(append(out, args...)), left
}

// cutOption takes --name=value, --name, -nVALUE or -n apart. given: the value stood with it.
func cutOption(arg string, words map[string]word) (opt, value string, given bool) {
	if long, ok := strings.CutPrefix(arg, "--"); ok {
		opt, value, given = strings.Cut(long, "=")
		return opt, value, given
	}
	opt, value = arg[1:2], strings.TrimPrefix(arg[2:], "=")
	if _, takes := words[opt]; !takes {
		return opt, "", false
	}
	return opt, value, value != ""
}

// jsrunLetter is the letter of an option that says something of resource sets.
func jsrunLetter(opt string) string {
	if len(opt) == 1 {
		return opt
	}
	return map[string]string{"nrs": "n", "tasks_per_rs": "a", "cpu_per_rs": "c", "gpu_per_rs": "g"}[opt]
}

// resourceSets says n sets of a tasks, c cores and g gpus as tasks.
func resourceSets(rs map[string]int) []string {
	var out []string
	a := max(rs["a"], 1)
	if rs["n"] > 0 {
		out = append(out, fmt.Sprintf("-n%d", rs["n"]*a))
	}
	if c := (rs["c"] + a - 1) / a; c > 1 {
		out = append(out, fmt.Sprintf("-c%d", c))
	}
	if g := (rs["g"] + a - 1) / a; g > 0 {
		out = append(out, fmt.Sprintf("-g%d", g))
	}
	return out
}

// slurmTime says a time limit of Slurm (minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]]) as a duration.
func slurmTime(v string) string {
	days, rest, dayed := strings.Cut(v, "-")
	if !dayed {
		days, rest = "0", v
	}
	units := map[int][]float64{1: {60}, 2: {60, 1}, 3: {3600, 60, 1}}
	if dayed {
		units = map[int][]float64{1: {3600}, 2: {3600, 60}, 3: {3600, 60, 1}}
	}
	parts := strings.Split(rest, ":")
	d, err := strconv.Atoi(days)
	total := float64(d) * 86400
	for i, p := range parts {
		n, bad := strconv.Atoi(p)
		if bad != nil || err != nil || len(parts) > 3 {
			return v
		}
		total += float64(n) * units[len(parts)][i]
	}
	return jobspec.FormatFSD(total)
}
