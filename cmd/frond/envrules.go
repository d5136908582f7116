package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// environ is an environment in the making: names in the order in which they came, and their values.
type environ struct {
	names  []string
	values map[string]string
}

// newEnviron is an environment from NAME=value entries; entries without a name are dropped.
func newEnviron(list []string) *environ {
	e := &environ{values: make(map[string]string, len(list))}
	for _, kv := range list {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "" {
			e.set(name, value)
		}
	}
	return e
}

func (e *environ) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

// remove takes out the names for which match is true.
func (e *environ) remove(match func(string) bool) {
	kept := e.names[:0]
	for _, n := range e.names {
		if match(n) {
			delete(e.values, n)
			continue
		}
		kept = append(kept, n)
	}
	e.names = kept
}

// bytes is the environment as it travels: NAME=value, each ended by NUL.
func (e *environ) bytes() []byte {
	n := 0
	for _, name := range e.names {
		n += len(name) + len(e.values[name]) + 2
	}
	b := make([]byte, 0, n)
	for _, name := range e.names {
		b = append(b, name...)
		b = append(b, '=')
		b = append(b, e.values[name]...)
		b = append(b, 0)
	}
	return b
}

// envRules applies Flux's rules (--env, --env-remove, --env-file) in their order to a copy of the submitter's environment:
// -PATTERN removes, ^FILE reads rules from a file, NAME=VALUE sets (with $NAME replaced), any other is a pattern that copies
// from the submitter's environment what is not yet there. A pattern is a shell glob, or a regular expression after "/".
type envRules struct {
	process *environ // the submitter's
	job     *environ
	depth   int // of files that name files
}

// applyEnvRules gives the job's environment. Errors name the rule.
func applyEnvRules(process []string, rules []string) (*environ, error) {
	r := &envRules{process: newEnviron(process), job: newEnviron(process)}
	for _, rule := range rules {
		if err := r.apply(rule); err != nil {
			return nil, fmt.Errorf("--env: %w", err)
		}
	}
	return r.job, nil
}

func (r *envRules) apply(rule string) error {
	switch {
	case rule == "":
		return nil
	case rule[0] == '-':
		match, err := namePattern(rule[1:])
		if err != nil {
			return err
		}
		r.job.remove(match)
		return nil
	case rule[0] == '^':
		return r.file(rule[1:])
	}
	if name, value, ok := strings.Cut(rule, "="); ok {
		return r.assign(name, value)
	}
	return r.copyMatching(rule)
}

func (r *envRules) assign(name, value string) error {
	if name == "" {
		return fmt.Errorf("rule %q has no variable name before '='", "="+value)
	}
	v, err := substitute(value, r.lookup)
	if err != nil {
		return fmt.Errorf("%s=%s: %w", name, value, err)
	}
	r.job.set(name, v)
	return nil
}

func (r *envRules) lookup(name string) (string, bool) {
	if v, ok := r.job.values[name]; ok {
		return v, true
	}
	v, ok := r.process.values[name]
	return v, ok
}

func (r *envRules) copyMatching(pattern string) error {
	match, err := namePattern(pattern)
	if err != nil {
		return err
	}
	for _, n := range r.process.names {
		if _, have := r.job.values[n]; !have && match(n) {
			r.job.set(n, r.process.values[n])
		}
	}
	return nil
}

const (
	maxRuleFiles = 16        // depth of rule files in rule files
	maxRule      = 128 << 10 // length of a line in them: Linux takes no longer variable
)

func (r *envRules) file(name string) error {
	if r.depth++; r.depth > maxRuleFiles {
		return fmt.Errorf("rule file %s: files that name files over %d deep", name, maxRuleFiles)
	}
	defer func() { r.depth-- }()
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		home, _ := r.process.values["HOME"]
		name = filepath.Join(home, rest)
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxRule)
	n := 1
	for ; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := r.apply(line); err != nil {
			return fmt.Errorf("%s line %d: %w", name, n, err)
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("%s line %d is longer than %d bytes, the most that a variable can have", name, n, maxRule)
	case err != nil:
		return fmt.Errorf("read rules: %w", err)
	}
	return nil
}

// namePattern is a match function for a glob, or for a regular expression after "/" (with or without "/" at its end), which
// must match at the start of the name.
func namePattern(pattern string) (func(string) bool, error) {
	if expr, ok := strings.CutPrefix(pattern, "/"); ok {
		re, err := regexp.Compile("^(?:" + strings.TrimSuffix(expr, "/") + ")")
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", pattern, err)
		}
		return re.MatchString, nil
	}
	pattern = strings.ReplaceAll(pattern, "[!", "[^")
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	return func(name string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	}, nil
}

// substitute replaces $name and ${name}; $$ is a $. An unset name and any other form after $ are errors.
func substitute(s string, lookup func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		if strings.HasPrefix(s, "$") {
			b.WriteByte('$')
			s = s[1:]
			continue
		}
		name, rest, ok := cutName(s)
		if !ok {
			return "", fmt.Errorf("after '$' only $, a name or {name} may stand, not %q", s)
		}
		v, ok := lookup(name)
		if !ok {
			return "", fmt.Errorf("variable %q is not set", name)
		}
		b.WriteString(v)
		s = rest
	}
}

// cutName takes name or {name} from s.
func cutName(s string) (name, rest string, ok bool) {
	if inner, found := strings.CutPrefix(s, "{"); found {
		name, rest, ok = strings.Cut(inner, "}")
		return name, rest, ok && nameLen(name) == len(name) && name != ""
	}
	n := nameLen(s)
	return s[:n], s[n:], n > 0
}

func nameLen(s string) int {
	for i := 0; i < len(s); i++ {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}
