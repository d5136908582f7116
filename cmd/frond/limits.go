package main

import (
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limit is a resource limit by Flux's name; passed tells whether it is passed on to jobs without --rlimit.
type limit struct {
	name   string
	id     int
	passed bool
}

var limitNames = []limit{
	{"core", unix.RLIMIT_CORE, true}, {"cpu", unix.RLIMIT_CPU, true}, {"data", unix.RLIMIT_DATA, true}, {"fsize", unix.RLIMIT_FSIZE, true},
	{"stack", unix.RLIMIT_STACK, true}, {"as", unix.RLIMIT_AS, true}, {"rss", unix.RLIMIT_RSS, true}, {"nproc", unix.RLIMIT_NPROC, true},
	{"nofile", unix.RLIMIT_NOFILE, true}, {"memlock", unix.RLIMIT_MEMLOCK, false}, {"msgqueue", unix.RLIMIT_MSGQUEUE, false},
	{"nice", unix.RLIMIT_NICE, false}, {"rtprio", unix.RLIMIT_RTPRIO, false}, {"rttime", unix.RLIMIT_RTTIME, false},
	{"sigpending", unix.RLIMIT_SIGPENDING, false},
}

// applyLimitRules gives the limits to pass on (-1 = unlimited). Rules are Flux's (--rlimit): -PATTERN removes, NAME=VALUE sets,
// any other is a pattern of names to pass on.
func applyLimitRules(rules []string) (map[string]int64, error) {
	limits := map[string]int64{}
	for _, l := range limitNames {
		if l.passed {
			addLimit(limits, l.name, l.id)
		}
	}
	for _, list := range rules {
		for rule := range strings.SplitSeq(list, ",") {
			if err := limitRule(limits, rule); err != nil {
				return nil, fmt.Errorf("--rlimit: %w", err)
			}
		}
	}
	return limits, nil
}

func limitRule(limits map[string]int64, rule string) error {
	if name, value, ok := strings.Cut(rule, "="); ok {
		return setLimit(limits, strings.ToLower(name), value)
	}
	pattern, remove := strings.CutPrefix(strings.ToLower(rule), "-")
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("pattern %q: %w", pattern, err)
	}
	found := false
	for _, l := range limitNames {
		if ok, _ := path.Match(pattern, l.name); !ok {
			continue
		}
		found = true
		if remove {
			delete(limits, l.name)
		} else {
			addLimit(limits, l.name, l.id)
		}
	}
	if !found {
		return fmt.Errorf("there is no limit %q", rule)
	}
	return nil
}

func setLimit(limits map[string]int64, name, value string) error {
	if !slices.ContainsFunc(limitNames, func(l limit) bool { return l.name == name }) {
		return fmt.Errorf("there is no limit %q", name)
	}
	switch value {
	case "unlimited", "infinity", "inf":
		limits[name] = -1
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%s: %q is neither a number nor unlimited", name, value)
	}
	limits[name] = n
	return nil
}

// addLimit takes over the current soft limit. Go raises this process's own limit of open files, so that one is read from the
// parent: the shell's is what the user set.
func addLimit(limits map[string]int64, name string, id int) {
	pid := 0
	if id == unix.RLIMIT_NOFILE {
		pid = os.Getppid()
	}
	var l unix.Rlimit
	if unix.Prlimit(pid, id, nil, &l) != nil {
		return
	}
	switch {
	case l.Cur == unix.RLIM_INFINITY:
		limits[name] = -1
	case l.Cur <= math.MaxInt64:
		limits[name] = int64(l.Cur)
	}
}
