package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/idset"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// submitOptions are the options that submit and run share, as the user gave them: values may hold {cc}, so they are read only when
// a job is made of them.
type submitOptions struct {
	ntasks, nodes, coresPerTask, gpusPerTask string
	exclusive                                bool
	cores, tasksPerNode, tasksPerCore        string
	gpusPerNode, mem                         string
	limit, minTime, urgency, name, queue     string
	shape, resourcesJSON                     string
	counters                                 []string
	setopt, setattr, requires                []string
	dependency                               []string
	bank                                     string
	beginTime                                string
	env, rlimit                              []string
	input, output, errout                    string
	unbuffered, label                        bool
	cwd, flags, signal, rerun                string
	taskmap                                  string
	addFile                                  []string
	files                                    map[string]any // more of them
	onFinish                                 string
	hooked                                   bool   // --on-finish is given
	retries, maxFails, atOnce                string // atOnce is of --array
	dryRun, quiet                            bool
	verbose                                  int
	command                                  []string
}

// add declares the options on cmd. What follows the first argument belongs to the job's command.
func (o *submitOptions) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SetInterspersed(false)
	o.addResources(f)
	o.addStreams(f)
	o.addJob(f)
	f.StringVar(&o.taskmap, "taskmap", "", "number the tasks by `SCHEME`: block (default), cyclic[:N], hostfile:FILE, manual:TASKMAP")
}

// addJob declares what is said of a job as a whole.
func (o *submitOptions) addJob(f *pflag.FlagSet) {
	f.StringVarP(&o.limit, "time-limit", "t", "", "time limit: `MINUTES`, or with a unit 30s, 1.5h")
	f.StringVar(&o.minTime, "min-time", "", "start with a shorter limit, from `MINUTES` on, where only such a gap is free")
	f.StringVar(&o.urgency, "urgency", "", "`N` from 0 to 31, hold (0), default (16) or expedite (31)")
	f.StringVar(&o.name, "job-name", "", "`NAME` of the job (default: the command's)")
	f.StringVarP(&o.queue, "queue", "q", "", "submit to the queue `NAME`")
	f.StringArrayVar(&o.requires, "requires", nil, "`CONDITION` on nodes: properties, host:NAMES, rank:IDS, with and, or, not")
	f.StringArrayVar(&o.dependency, "dependency", nil, "wait first: `SCHEME:JOB`, with after, afterany, afterok, afternotok, afterexcept or aftercorr, and JOB an id, ARRAY:INDEXES or name:NAME; or singleton")
	f.StringVarP(&o.bank, "bank", "B", "", "kept with the job as attribute bank: `NAME`")
	f.StringVar(&o.beginTime, "begin-time", "", "do not start before `+FSD|TIME`: +1h, 2026-12-24 18:00, 18:00, tomorrow")
	f.StringArrayVarP(&o.setattr, "setattr", "S", nil, "set an attribute `KEY[=VALUE]`; VALUE may be JSON, ^KEY=FILE reads it from a file")
	f.StringArrayVarP(&o.setopt, "setopt", "o", nil, "set a shell option `KEY[=VALUE]`")
	f.StringVar(&o.cwd, "cwd", "", "working `DIRECTORY` (default: this one)")
	f.StringVar(&o.flags, "flags", "", "submit `FLAGS`: debug, waitable, novalidate")
	f.StringVar(&o.signal, "signal", "", "`[SIG][@TIME]`: send SIG (USR1) TIME (60s) before the time limit")
	f.StringVar(&o.rerun, "rerun", "", "run again when the job's node is lost: `yes|no` (default yes)")
	f.StringArrayVar(&o.addFile, "add-file", nil, "take a file along, as {{tmpdir}}/NAME on each node: `[NAME=]PATH`")
	f.Var(&hookValue{o}, "on-finish", "run `COMMAND` (for sh) once when the job, or the whole array, has ended")
	f.StringVar(&o.retries, "retries", "", "run a job that failed again, up to `N` times")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the jobspec and submit nothing")
	f.BoolVar(&o.quiet, "quiet", false, "do not print job ids")
	f.CountVarP(&o.verbose, "verbose", "v", "say more on standard error")
	o.addEnv(f)
}

func (o *submitOptions) addResources(f *pflag.FlagSet) {
	f.StringVarP(&o.ntasks, "ntasks", "n", "", "`N` tasks (default 1)")
	f.StringVarP(&o.nodes, "nodes", "N", "", "spread over `N` nodes; alone: N whole nodes, one task each")
	f.StringVarP(&o.coresPerTask, "cores-per-task", "c", "", "`N` cores for each task (default 1)")
	f.StringVarP(&o.gpusPerTask, "gpus-per-task", "g", "", "`N` gpus for each task, or a part of one: 0.5")
	f.BoolVarP(&o.exclusive, "exclusive", "x", false, "whole nodes only (with -N)")
	f.StringVar(&o.cores, "cores", "", "`N` cores in total, instead of options per task")
	f.StringVar(&o.tasksPerNode, "tasks-per-node", "", "`N` tasks on each node, instead of options per task")
	f.StringVar(&o.tasksPerCore, "tasks-per-core", "", "`N` tasks on each core, instead of options per task")
	f.StringVar(&o.gpusPerNode, "gpus-per-node", "", "`N` gpus on each node, instead of options per task")
	f.StringVar(&o.mem, "mem", "", "memory for each task (slot), `SIZE` as 500M or 2G")
	f.StringVar(&o.shape, "resources-shape", "", "all that the job needs as a `SHAPE` (Flux RFC 46): node=2/slot=4/[core=8;gpu=1]")
	f.StringVar(&o.resourcesJSON, "resources-json", "", "all that the job needs from `FILE`: the resources section of a jobspec")
	f.StringArrayVar(&o.counters, "resource", nil, "`NAME=N` of a named counter (frond start --resource), for the whole job; may be repeated")
}

func (o *submitOptions) addStreams(f *pflag.FlagSet) {
	f.StringVar(&o.input, "input", "", "read standard input from `FILE`; with run also task ranks that get this command's")
	f.StringVar(&o.output, "output", "", "write standard output to `FILE`; {{id}}, {{name}}, {cc} … are replaced")
	f.StringVar(&o.errout, "error", "", "write standard error to `FILE`")
	f.BoolVarP(&o.unbuffered, "unbuffered", "u", false, "do not hold output back for whole lines")
	f.BoolVarP(&o.label, "label-io", "l", false, "put the task's rank in front of each line of output")
}

func (o *submitOptions) addEnv(f *pflag.FlagSet) {
	f.Var(&ruleValue{&o.env, ""}, "env", "`RULE` for the environment: NAME=VALUE, NAME, -PATTERN, ^FILE")
	f.Var(&ruleValue{&o.env, "-"}, "env-remove", "remove variables that match `PATTERN`")
	f.Var(&ruleValue{&o.env, "^"}, "env-file", "read rules from `FILE`")
	f.Var(&ruleValue{&o.rlimit, ""}, "rlimit", "resource limits to pass on, by `RULE`: NAME, NAME=VALUE, -PATTERN")
}

// ruleValue is a flag that appends to a list of rules, with a prefix; several flags share one list, to keep their order.
type ruleValue struct {
	list   *[]string
	prefix string
}

func (r *ruleValue) Set(s string) error {
	*r.list = append(*r.list, r.prefix+s)
	return nil
}
func (r *ruleValue) String() string { return "" }
func (r *ruleValue) Type() string   { return "rule" }

// texts are the options in which {cc} makes the jobs of one submission differ in more than command and file names, so that they
// cannot be one array.
func (o *submitOptions) texts() []*string {
	t := []*string{&o.ntasks, &o.nodes, &o.coresPerTask, &o.gpusPerTask, &o.cores, &o.tasksPerNode, &o.tasksPerCore, &o.gpusPerNode, &o.mem,
		&o.shape, &o.resourcesJSON, &o.limit, &o.minTime, &o.urgency, &o.name, &o.queue, &o.cwd, &o.flags, &o.signal, &o.rerun, &o.taskmap, &o.retries, &o.maxFails, &o.beginTime, &o.bank}
	for _, list := range [][]string{o.setopt, o.setattr, o.requires, o.dependency, o.env, o.rlimit, o.counters} {
		for i := range list {
			t = append(t, &list[i])
		}
	}
	return t
}

// differs tells whether an option other than command and file names holds {cc}.
func (o *submitOptions) differs() bool {
	for _, s := range o.texts() {
		if strings.Contains(*s, "{cc}") {
			return true
		}
	}
	return false
}

// with is a copy of o with {cc} replaced everywhere.
func (o *submitOptions) with(cc string) *submitOptions {
	c := *o
	for _, list := range []*[]string{&c.setopt, &c.setattr, &c.requires, &c.dependency, &c.env, &c.rlimit, &c.counters, &c.command} {
		*list = append([]string(nil), *list...)
	}
	for _, s := range append(c.texts(), &c.input, &c.output, &c.errout) {
		*s = strings.ReplaceAll(*s, "{cc}", cc)
	}
	for i := range c.command {
		c.command[i] = strings.ReplaceAll(c.command[i], "{cc}", cc)
	}
	return &c
}

// replace is a copy of o with tag replaced in the command and in file names.
func (o *submitOptions) replace(tag, by string) *submitOptions {
	c := *o
	c.command = append([]string(nil), o.command...)
	c.setopt = append([]string(nil), o.setopt...)
	for i := range c.command {
		c.command[i] = strings.ReplaceAll(c.command[i], tag, by)
	}
	for _, s := range []*string{&c.input, &c.output, &c.errout} {
		*s = strings.ReplaceAll(*s, tag, by)
	}
	return &c
}

// urgencyValue is --urgency as a number.
func (o *submitOptions) urgencyValue() (int, error) {
	if o.urgency == "" {
		return 16, nil
	}
	n, err := jobspec.ParseUrgency(o.urgency)
	if err != nil {
		return 0, fmt.Errorf("--urgency: %w", err)
	}
	return n, nil
}

// needCommand refuses a command line without a command to run.
func needCommand(_ *cobra.Command, args []string) error {
	if len(args) == 0 || args[0] == "" {
		return errors.New("a command to run is missing")
	}
	return nil
}

// parseSubmitFlags reads --flags as Flux's mask.
func parseSubmitFlags(s string) (int, error) {
	mask := 0
	for name := range strings.SplitSeq(s, ",") {
		switch name {
		case "":
		case "debug":
			mask |= 2
		case "waitable":
			mask |= 4
		case "novalidate":
			mask |= 8
		default:
			return 0, fmt.Errorf("--flags: unknown flag %q: there are debug, waitable and novalidate", name)
		}
	}
	return mask, nil
}

// spec makes the jobspec options of o, without the environment. {cc} in what differs must have been replaced.
func (o *submitOptions) spec() (jobspec.Options, error) {
	s := jobspec.Options{
		Command: o.command, Exclusive: o.exclusive, Mem: o.mem, TimeLimit: o.limit, MinTime: o.minTime, Counters: o.counters, JobName: o.name, Queue: o.queue,
		Output: o.output, Error: o.errout, Label: o.label, Unbuffered: o.unbuffered, Requires: o.requires,
		Rerun: o.rerun, Retries: o.retries, Setattr: o.attributes(), Setopt: o.setopt, ReadFile: os.ReadFile,
	}
	if err := o.depends(&s); err != nil {
		return s, err
	}
	files, err := addedFiles(o.addFile)
	if err != nil {
		return s, err
	}
	maps.Copy(files, o.files)
	s.Files = files
	s.Setopt = append(envTemplates(o.env), s.Setopt...)
	if o.inputRanks() == nil {
		s.Input = o.input
	}
	for _, f := range []struct{ option, name string }{{"--input", s.Input}, {"--output", s.Output}, {"--error", s.Error}} {
		if at := strings.LastIndex(f.name, "{{"); at >= 0 && !strings.Contains(f.name[at:], "}}") {
			return s, fmt.Errorf("%s: '{{' without '}}' in %q", f.option, f.name)
		}
	}
	for _, n := range []struct {
		option, text string
		count        *jobspec.Count
	}{
		{"-n/--ntasks", o.ntasks, &s.NTasks}, {"-N/--nodes", o.nodes, &s.Nodes}, {"-c/--cores-per-task", o.coresPerTask, &s.CoresPerTask},
		{"-g/--gpus-per-task", o.gpusPerTask, &s.GPUsPerTask}, {"--cores", o.cores, &s.Cores}, {"--tasks-per-node", o.tasksPerNode, &s.TasksPerNode},
		{"--tasks-per-core", o.tasksPerCore, &s.TasksPerCore}, {"--gpus-per-node", o.gpusPerNode, &s.GPUsPerNode},
		{"--max-fails", o.maxFails, &s.MaxFails}, {"--array=…%", o.atOnce, &s.AtOnce},
	} {
		if n.text == "" || n.text == "0" && n.count == &s.GPUsPerTask {
			continue
		}
		if n.count == &s.GPUsPerTask && strings.Contains(n.text, ".") {
			s.GPUPart = n.text
			continue
		}
		if err := n.count.Set(n.text); err != nil {
			return s, fmt.Errorf("%s: %w", n.option, err)
		}
	}
	if s.Resources, err = o.resources(); err != nil {
		return s, err
	}
	if s.Cwd, err = o.workdir(); err != nil {
		return s, err
	}
	if o.taskmap != "" {
		scheme, err := taskmapOption(o.taskmap)
		if err != nil {
			return s, err
		}
		s.Setopt = append(slices.Clip(s.Setopt), "taskmap="+scheme)
	}
	if s.Signal, err = signalOption(o.signal); err != nil {
		return s, err
	}
	s.RLimit, err = applyLimitRules(o.rlimit)
	return s, err
}

// resources is what --resources-shape or --resources-json give, nil without them.
func (o *submitOptions) resources() (jobspec.Resources, error) {
	switch {
	case o.shape != "" && o.resourcesJSON != "":
		return nil, errors.New("--resources-shape and --resources-json cannot be combined")
	case o.shape != "":
		r, err := jobspec.ParseShape(o.shape)
		if err != nil {
			return nil, fmt.Errorf("--resources-shape: %w", err)
		}
		return r, nil
	case o.resourcesJSON != "":
		data, err := os.ReadFile(o.resourcesJSON)
		if err != nil {
			return nil, fmt.Errorf("--resources-json: %w", err)
		}
		r, err := jobspec.ParseResources(data)
		if err != nil {
			return nil, fmt.Errorf("--resources-json %s: %w", o.resourcesJSON, err)
		}
		return r, nil
	}
	return nil, nil
}

// workdir is the job's working directory: --cwd, made absolute, or this one.
func (o *submitOptions) workdir() (string, error) {
	if strings.HasPrefix(o.cwd, "{{") {
		return o.cwd, nil
	}
	dir, err := filepath.Abs(o.cwd)
	if err != nil {
		return "", fmt.Errorf("find the working directory: %w", err)
	}
	return dir, nil
}

// signalOption is --signal with the signal as a number.
func signalOption(s string) (string, error) {
	name, left, found := strings.Cut(s, "@")
	if name == "" {
		return s, nil
	}
	sig, err := parseSignal(name)
	if err != nil {
		return "", fmt.Errorf("--signal: %w", err)
	}
	if !found {
		return strconv.Itoa(int(sig)), nil
	}
	return strconv.Itoa(int(sig)) + "@" + left, nil
}

// taskmapOption is --taskmap with the file that hostfile names as a list of hosts.
func taskmapOption(text string) (string, error) {
	if path, ok := strings.CutPrefix(text, "hostfile:"); ok {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("--taskmap: %w", err)
		}
		text = "hostfile:" + strings.Join(strings.Fields(string(data)), ",")
	}
	if _, err := jobspec.ParseNumbering(text); err != nil {
		return "", fmt.Errorf("--taskmap: %w", err)
	}
	return text, nil
}

// inputRanks are the task ranks that --input names, nil where it names a file or nothing.
func (o *submitOptions) inputRanks() []int {
	if o.input == "all" {
		return []int{-1}
	}
	set, err := idset.Parse(o.input)
	if err != nil || set.Empty() || set.Len() > maxInputRanks {
		return nil
	}
	var ranks []int
	for r := range set.All() {
		ranks = append(ranks, r)
	}
	return ranks
}

const maxInputRanks = 65536

// attributes are those of --setattr, with --bank.
func (o *submitOptions) attributes() []string {
	if o.bank == "" {
		return o.setattr
	}
	return append([]string{"system.bank=" + strconv.Quote(o.bank)}, o.setattr...)
}
