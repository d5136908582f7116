package jobspec

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Defaults of shell options.
const (
	defaultKillTimeout = 5.0
	defaultExitTimeout = 30.0
	defaultWarnSignal  = 10 // SIGUSR1 on Linux
	defaultWarnLeft    = 60.0
)

// fillSystem reads attributes.system, which is in js.System already, and takes the environment out of it.
func (js *Jobspec) fillSystem() error {
	sys := js.System
	for _, key := range []string{"dependencies", "files"} {
		if err := refuseFilled(sys[key]); err != nil {
			return at(key, err)
		}
	}
	for _, f := range []struct {
		key  string
		fill func(v any) error
	}{
		{"duration", js.fillDuration},
		{"environment", js.fillEnvironment},
		{"cwd", js.fillCwd},
		{"queue", func(v any) (err error) { js.Queue, err = optString(v, ""); return }},
		{"job", js.fillJob},
		{"constraints", js.fillConstraint},
		{"exec", js.fillExec},
		{"rerun", func(v any) (err error) { js.Rerun, err = optBool(v, true); return }},
		{"shell", js.fillShell},
	} {
		if err := f.fill(sys[f.key]); err != nil {
			return at(f.key, err)
		}
	}
	delete(sys, "environment")
	return nil
}

// refuseFilled refuses attributes that would change what the job means and that Frond does not act on.
func refuseFilled(v any) error {
	list, isList := v.([]any)
	obj, isObject := v.(map[string]any)
	if v == nil || isList && len(list) == 0 || isObject && len(obj) == 0 {
		return nil
	}
	return bad("is not supported by this version of Frond")
}

func (js *Jobspec) fillDuration(v any) error {
	d, ok := v.(float64)
	if v == nil {
		return bad("is missing; it must be a number of seconds, 0 for no limit")
	}
	if !ok || d < 0 || d > maxDuration {
		return bad("must be a number of seconds from 0 (no limit) to %.0f", maxDuration)
	}
	js.Duration = d
	return nil
}

func (js *Jobspec) fillEnvironment(v any) error {
	if v == nil {
		return nil
	}
	env, err := asObject(v)
	if err != nil {
		return err
	}
	js.Environment = make(map[string]string, len(env))
	for name, value := range env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return bad("%q cannot be the name of a variable", clip(name))
		}
		if value == nil {
			js.EnvUnset = append(js.EnvUnset, name)
			continue
		}
		if js.Environment[name], err = asString(value); err != nil {
			return at(clip(name), err)
		}
	}
	slices.Sort(js.EnvUnset)
	return nil
}

func (js *Jobspec) fillCwd(v any) (err error) {
	if js.Cwd, err = optString(v, ""); err != nil {
		return err
	}
	if js.Cwd != "" && js.Cwd[0] != '/' {
		return bad("must be an absolute path")
	}
	return nil
}

func (js *Jobspec) fillJob(v any) error {
	js.Name = js.Command[0][strings.LastIndexByte(js.Command[0], '/')+1:]
	if v == nil {
		return nil
	}
	job, err := asObject(v)
	if err != nil {
		return err
	}
	js.Name, err = optString(job["name"], js.Name)
	return at("name", err)
}

func (js *Jobspec) fillConstraint(v any) (err error) {
	if v == nil {
		return nil
	}
	js.Constraint, err = ParseConstraint(v)
	return err
}

func (js *Jobspec) fillExec(v any) error {
	if v == nil {
		return nil
	}
	exec, err := asObject(v)
	if err != nil || exec["test"] == nil {
		return err
	}
	test, err := asObject(exec["test"])
	if err == nil {
		err = js.fillTest(test)
	}
	return at("test", err)
}

// fillTest reads exec.test; run_duration may be seconds or an FSD text, as the command line gives it.
func (js *Jobspec) fillTest(test map[string]any) (err error) {
	t := &TestExec{}
	if t.RunDuration, err = optSeconds(test["run_duration"], 0); err != nil {
		return at("run_duration", err)
	}
	if t.WaitStatus, err = optInt(test["wait_status"], 0, 0, 0xffff); err != nil {
		return at("wait_status", err)
	}
	if t.MockException, err = optString(test["mock_exception"], ""); err != nil {
		return at("mock_exception", err)
	}
	js.Test = t
	return nil
}

func optString(v any, def string) (string, error) {
	if v == nil {
		return def, nil
	}
	return asString(v)
}

func optBool(v any, def bool) (bool, error) {
	if v == nil {
		return def, nil
	}
	b, ok := v.(bool)
	if !ok {
		return false, bad("must be true or false")
	}
	return b, nil
}

// optFlag reads a shell option that is on or off: a boolean, or a number as Flux's command line writes it.
func optFlag(v any, def bool) (bool, error) {
	if n, ok := v.(float64); ok && (n == 0 || n == 1) {
		return n == 1, nil
	}
	return optBool(v, def)
}

func optInt(v any, def, lo, hi int) (int, error) {
	if v == nil {
		return def, nil
	}
	n, ok := v.(float64)
	if !ok || n != math.Trunc(n) || n < float64(lo) || n > float64(hi) {
		return 0, bad("must be an integer from %d to %d", lo, hi)
	}
	return int(n), nil
}

// optSeconds reads a number of seconds or an FSD text, both finite.
func optSeconds(v any, def float64) (float64, error) {
	switch x := v.(type) {
	case nil:
		return def, nil
	case float64:
		if x >= 0 && x <= maxDuration {
			return x, nil
		}
	case string:
		d, err := ParseFSD(x)
		if err != nil {
			return 0, err
		}
		if d <= maxDuration {
			return d, nil
		}
	}
	return 0, bad("must be a duration of at most %.0f seconds", maxDuration)
}

// fillShell reads shell.options (Flux's shell options, as far as Frond acts on them; others stay in System).
func (js *Jobspec) fillShell(v any) error {
	js.Shell = ShellOptions{CPUAffinity: "on", GPUAffinity: "on", Umask: -1, KillTimeout: defaultKillTimeout, ExitTimeout: defaultExitTimeout}
	if v == nil {
		return nil
	}
	shell, err := asObject(v)
	if err != nil || shell["options"] == nil {
		return err
	}
	opts, err := asObject(shell["options"])
	if err == nil {
		err = js.fillOptions(opts)
	}
	return at("options", err)
}

func (js *Jobspec) fillOptions(opts map[string]any) error {
	if len(opts) == 0 {
		return nil
	}
	sh := &js.Shell
	for _, f := range []struct {
		key  string
		fill func(v any) error
	}{
		{"output", sh.fillOutput},
		{"input", sh.fillInput},
		{"cpu-affinity", func(v any) (err error) { sh.CPUAffinity, err = affinity(v); return }},
		{"gpu-affinity", func(v any) (err error) { sh.GPUAffinity, err = affinity(v); return }},
		{"rlimit", sh.fillRLimit},
		{"umask", func(v any) (err error) { sh.Umask, err = umask(v); return }},
		{"nice", func(v any) (err error) { sh.Nice, err = optInt(v, 0, -20, 19); return }},
		{"signal", sh.fillSignal},
		{"kill-timeout", func(v any) (err error) { sh.KillTimeout, err = optSeconds(v, defaultKillTimeout); return }},
		{"exit-timeout", sh.fillExitTimeout},
		{"exit-on-error", func(v any) (err error) { sh.ExitOnError, err = optFlag(v, false); return }},
		{"per-resource", js.fillPerResource},
	} {
		if v, ok := opts[f.key]; ok {
			if err := f.fill(v); err != nil {
				return at(f.key, err)
			}
		}
	}
	return nil
}

func affinity(v any) (string, error) {
	switch v {
	case nil, true, 1.0, "on":
		return "on", nil
	case false, 0.0, "off":
		return "off", nil
	case "per-task":
		return "per-task", nil
	}
	return "", bad("must be on, off or per-task")
}

// umask reads an octal text ("022") or a number.
func umask(v any) (int, error) {
	if s, ok := v.(string); ok {
		n, err := strconv.ParseUint(s, 8, 9)
		if err != nil {
			return 0, bad("must be an octal number up to 777")
		}
		return int(n), nil
	}
	return optInt(v, -1, 0, 0o777)
}

func (sh *ShellOptions) fillSignal(v any) (err error) {
	sh.Signal, sh.SignalLeft = defaultWarnSignal, defaultWarnLeft
	if on, err := optFlag(v, false); err == nil {
		if !on {
			sh.Signal, sh.SignalLeft = 0, 0
		}
		return nil
	}
	m, err := asObject(v)
	if err != nil {
		return err
	}
	if sh.Signal, err = optInt(m["signum"], defaultWarnSignal, 1, 64); err != nil {
		return at("signum", err)
	}
	sh.SignalLeft, err = optSeconds(m["timeleft"], defaultWarnLeft)
	return at("timeleft", err)
}

func (sh *ShellOptions) fillExitTimeout(v any) (err error) {
	if v == "none" {
		sh.ExitTimeout = -1
		return nil
	}
	sh.ExitTimeout, err = optSeconds(v, defaultExitTimeout)
	return err
}

// rlimitNames are Flux's names of resource limits.
var rlimitNames = []string{"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
	"rtprio", "rttime", "sigpending", "stack"}

func (sh *ShellOptions) fillRLimit(v any) error {
	m, err := asObject(v)
	if err != nil {
		return err
	}
	sh.RLimit = make(map[string]int64, len(m))
	for name, value := range m {
		lower := strings.ToLower(name)
		if !slices.Contains(rlimitNames, lower) {
			return bad("there is no limit %q; use %s", clip(name), strings.Join(rlimitNames, ", "))
		}
		n, ok := value.(float64)
		if _, huge := value.(json.Number); huge || value == "unlimited" {
			n, ok = -1, true
		}
		if !ok || n != math.Trunc(n) || n < -1 {
			return at(name, bad("must be an integer, or -1 for unlimited"))
		}
		sh.RLimit[lower] = int64(n)
	}
	return nil
}

func (js *Jobspec) fillPerResource(v any) error {
	m, err := asObject(v)
	if err != nil {
		return err
	}
	n := 1
	if c := m["count"]; c != nil {
		if n, err = asCount(c, maxPerSlot); err != nil {
			return at("count", err)
		}
	}
	switch m["type"] {
	case "node":
		js.TaskCount = TaskCount{PerNode: n}
	case "core":
		js.TaskCount = TaskCount{PerCore: n}
	default:
		return at("type", bad("must be node or core"))
	}
	return nil
}

func (sh *ShellOptions) fillInput(v any) error {
	m, err := asObject(v)
	if err != nil || m["stdin"] == nil {
		return err
	}
	in, err := asObject(m["stdin"])
	if err != nil {
		return at("stdin", err)
	}
	if in["type"] != "file" {
		return nil
	}
	if sh.Stdin, err = asString(in["path"]); err == nil && sh.Stdin == "" {
		err = bad("must not be empty")
	}
	return at("stdin", at("path", err))
}

// fillOutput reads output.{stdout,stderr,mode}. As in Flux, stderr goes where stdout goes unless it is set.
func (sh *ShellOptions) fillOutput(v any) error {
	m, err := asObject(v)
	if err != nil {
		return err
	}
	mode, err := optString(m["mode"], "truncate")
	if err == nil && mode != "truncate" && mode != "append" {
		err = bad("must be truncate or append")
	}
	if err != nil {
		return at("mode", err)
	}
	for _, s := range []struct {
		key string
		out *Output
	}{{"stdout", &sh.Stdout}, {"stderr", &sh.Stderr}} {
		s.out.Append = mode == "append"
		if err := sh.fillStream(m[s.key], s.out); err != nil {
			return at(s.key, err)
		}
	}
	if m["stderr"] == nil || streamType(m["stderr"]) == "" {
		sh.Stderr.Path = sh.Stdout.Path
		sh.Stderr.Label = sh.Stderr.Label || sh.Stdout.Label
	}
	sh.Label = sh.Stdout.Label && sh.Stderr.Label
	return nil
}

func streamType(v any) string {
	m, _ := v.(map[string]any)
	s, _ := m["type"].(string)
	return s
}

func (sh *ShellOptions) fillStream(v any, out *Output) error {
	if v == nil {
		return nil
	}
	m, err := asObject(v)
	if err != nil {
		return err
	}
	if out.Label, err = optFlag(m["label"], false); err != nil {
		return at("label", err)
	}
	if buffer, ok := m["buffer"].(map[string]any); ok && buffer["type"] == "none" {
		sh.Unbuffered = true
	}
	switch typ := streamType(v); typ {
	case "", "kvs", "term":
		return nil
	case "file":
		if out.Path, err = asString(m["path"]); err == nil && out.Path == "" {
			err = bad("must not be empty")
		}
		return at("path", err)
	default:
		return at("type", fmt.Errorf("%q is unknown; use kvs, term or file", clip(typ)))
	}
}
