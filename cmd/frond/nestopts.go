package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/config"
	"github.com/spf13/pflag"
)

// nestOptions are what batch and alloc share: the options of a job that is an instance.
type nestOptions struct {
	submitOptions
	confs      []string
	brokerOpts []string
	history    yesNo
	dump       string
}

func (o *nestOptions) add(f *pflag.FlagSet) {
	f.SetInterspersed(false)
	f.StringVarP(&o.ntasks, "nslots", "n", "", "`N` slots (default 1)")
	f.StringVarP(&o.nodes, "nodes", "N", "", "spread over `N` nodes; alone: N whole nodes")
	f.StringVarP(&o.coresPerTask, "cores-per-slot", "c", "", "`N` cores for each slot (default 1)")
	f.StringVarP(&o.gpusPerTask, "gpus-per-slot", "g", "", "`N` gpus for each slot")
	f.BoolVarP(&o.exclusive, "exclusive", "x", false, "whole nodes only (with -N)")
	f.StringVar(&o.mem, "mem", "", "memory for each slot, `SIZE` as 500M or 2G")
	f.StringVar(&o.shape, "resources-shape", "", "all that the instance needs as a `SHAPE` (Flux RFC 46): node=2/slot=4/[core=8;gpu=1]")
	f.StringVar(&o.resourcesJSON, "resources-json", "", "all that the instance needs from `FILE`: the resources section of a jobspec")
	f.StringArrayVar(&o.counters, "resource", nil, "`NAME=N` of a named counter (frond start --resource), for the whole job; may be repeated")
	o.addStreams(f)
	o.addJob(f)
	f.StringArrayVar(&o.confs, "conf", nil, "configuration of the instance: a `FILE`, KEY=VALUE, or TOML itself in several lines; may be repeated")
	f.StringVar(&o.dump, "dump", "", "archive what the instance knows at its end into `FILE` (.tgz, .tar.gz, .tar; default "+dumpName+")")
	f.Lookup("dump").NoOptDefVal = dumpName
	f.StringArrayVar(&o.brokerOpts, "broker-opts", nil, "`OPTIONS` of frond start for the instance, separated by commas: --policy=fcfs,--on-exit=cancel; may be repeated")
}

// keepHistory adds the option that decides whether what ran in the instance stays to be seen.
func (o *nestOptions) keepHistory(f *pflag.FlagSet, otherwise bool) {
	o.history = yesNo(otherwise)
	f.Var(&o.history, "keep-history", "what ran in the instance can be seen when it has ended (frond jobs -R); =no: it cannot")
	f.Lookup("keep-history").NoOptDefVal = "yes"
}

// yesNo is the value of an option that stands alone, for yes, or says which.
type yesNo bool

func (y *yesNo) Type() string   { return "bool" }
func (y *yesNo) String() string { return strconv.FormatBool(bool(*y)) }

func (y *yesNo) Set(text string) error {
	v, err := strconv.ParseBool(text)
	switch text {
	case "yes":
		v, err = true, nil
	case "no":
		v, err = false, nil
	}
	if err != nil {
		return errors.New("use yes or no")
	}
	*y = yesNo(v)
	return nil
}

// nest makes the job of o an instance that runs command, which may be empty.
func (o *nestOptions) nest(command []string) error {
	if strings.Contains(o.gpusPerTask, ".") {
		return fmt.Errorf("-g %s: an instance has whole gpus, no parts of one", o.gpusPerTask)
	}
	argv := []string{"frond", "child"}
	conf, err := o.conf()
	if err != nil {
		return err
	}
	if conf != "" {
		o.bring("conf.toml", []byte(conf), 0o600)
		argv = append(argv, "--conf={{tmpdir}}/conf.toml")
	}
	opts, limit, err := o.startOptions(conf)
	if err != nil {
		return err
	}
	argv = append(argv, opts...)
	if len(command) == 0 {
		argv = append(argv, "--stay")
	}
	if err := checkDump(o.dump); err != nil {
		return err
	}
	if o.dump != "" {
		argv = append(argv, "--dump="+o.dump)
	}
	o.command = append(append(argv, "--"), command...)
	attrs := []string{fmt.Sprintf("system.instance.history=%t", o.history)}
	if limit > 0 {
		attrs = append(attrs, fmt.Sprintf("system.instance.start-limit=%g", limit+startMargin))
	}
	o.setattr = append(attrs, o.setattr...)
	return nil
}

// startMargin is how many seconds longer a parent waits for an instance than that itself waits for its brokers.
const startMargin = 60

// bring adds a file to those that the job brings along.
func (o *nestOptions) bring(name string, data []byte, mode uint32) {
	if o.files == nil {
		o.files = map[string]any{}
	}
	o.files[name] = fileEntry(data, regular|mode)
}

// startOptions are --broker-opts, checked as the instance will, and its --start-time in seconds (0 = not given).
func (o *nestOptions) startOptions(conf string) ([]string, float64, error) {
	var opts []string
	for _, text := range o.brokerOpts {
		for i, part := range strings.Split(text, ",-") { // a value may hold commas, too
			if i > 0 {
				part = "-" + part
			}
			if part != "" {
				opts = append(opts, part)
			}
		}
	}
	start := &startOptions{}
	flags := pflag.NewFlagSet("broker-opts", pflag.ContinueOnError)
	start.flagsOf(flags)
	if err := flags.Parse(opts); err != nil {
		return nil, 0, fmt.Errorf("--broker-opts: %s", plainer(err.Error()))
	}
	if flags.NArg() > 0 {
		return nil, 0, fmt.Errorf("--broker-opts: %q is no option", flags.Arg(0))
	}
	if err := start.forChild(); err != nil {
		return nil, 0, fmt.Errorf("--broker-opts: %w", err)
	}
	if conf == "" { // else it may say the rest
		if err := start.check(); err != nil {
			return nil, 0, fmt.Errorf("--broker-opts: %w", err)
		}
	}
	if start.startTime == "" {
		return opts, 0, nil
	}
	return opts, start.startLimit().Seconds(), nil
}

// conf is what --conf says, as one file: single keys first, which stand in no table.
func (o *nestOptions) conf() (string, error) {
	var keys, tables []string
	for _, c := range o.confs {
		switch {
		case strings.Contains(c, "\n"):
			tables = append(tables, c)
		case strings.Contains(c, "="):
			key, value, _ := strings.Cut(c, "=")
			if !strings.ContainsAny(value[:min(1, len(value))], `"'[`) {
				value = fmt.Sprintf("%q", value)
			}
			keys = append(keys, key+" = "+value)
		default:
			data, err := os.ReadFile(c)
			if err != nil {
				return "", fmt.Errorf("--conf: %w", err)
			}
			tables = append(tables, string(data))
		}
	}
	text := strings.Join(append(keys, tables...), "\n")
	if text == "" {
		return "", nil
	}
	dir, err := os.MkdirTemp("", "frond-conf-")
	if err != nil {
		return "", fmt.Errorf("--conf: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "conf.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("--conf: %w", err)
	}
	if _, err := config.Read([]config.File{{Path: path, Must: true}}, configKeys); err != nil {
		return "", errors.New("--conf: " + strings.ReplaceAll(err.Error(), dir+"/", ""))
	}
	return text, nil
}

// forChild refuses options that mean nothing where a job says what there is.
func (o *startOptions) forChild() error {
	for _, f := range []struct {
		set  bool
		name string
	}{{o.detach, "--detach"}, {o.dryRun, "--dry-run"}, {o.checkOnly, "--check"}, {o.hosts != "", "--hosts"}, {o.resources != "", "--resources"},
		{o.oversub != 1, "--oversubscribe"}, {o.name != "", "--name"}, {o.brokers != 1, "--brokers"}, {!slices.Contains([]string{"auto", "local"}, o.launcher), "--launcher"}} {
		if f.set {
			return errors.New(f.name + " is not for a child instance: it has what its job has")
		}
	}
	return nil
}
