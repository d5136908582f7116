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

// fillSystem reads attributes.system; the environment does not go into js.System.
func (js *Jobspec) fillSystem(sys object) error {
	js.Rerun = true
	js.Name = js.Command[0][strings.LastIndexByte(js.Command[0], '/')+1:]
	js.Shell = ShellOptions{CPUAffinity: "on", GPUAffinity: "on", Umask: -1, KillTimeout: defaultKillTimeout, ExitTimeout: defaultExitTimeout}
	if sys.get("instance") != nil {
		js.Shell.KillTimeout, js.Shell.ExitTimeout, js.Shell.PMI = killTimeoutInstance, -1, "off"
	}
	js.System = make(map[string]any, len(sys))
	for i := range sys {
		key, v := sys[i].key, sys[i].v
		if err := js.fillSystemKey(key, v); err != nil {
			return at(clip(key), err)
		}
		if key != "environment" {
			js.System[key] = toMaps(v)
		}
	}
	if js.dependsOn("singleton") && !js.Named {
		return at("dependencies", bad("singleton needs a name of the job (attributes.system.job.name)"))
	}
	if sys.get("duration") == nil {
		return at("duration", bad("is missing; it must be a number of seconds, 0 for no limit"))
	}
	if js.Instance != nil && js.Request.GPUPart > 0 {
		return at("instance", bad("an instance has whole gpus, no parts of one"))
	}
	if js.MinDuration > 0 && (js.Duration == 0 || js.MinDuration > js.Duration) {
		return at("min-duration", bad("needs a time limit (duration) that is no shorter"))
	}
	return nil
}

func (js *Jobspec) fillSystemKey(key string, v any) (err error) {
	if v == nil {
		return nil
	}
	switch key {
	case "duration":
		return js.fillDuration(v)
	case "min-duration":
		js.MinDuration, err = optSeconds(v, 0)
	case "counters":
		js.Request.Counters, err = parseCounters(v)
	case "environment":
		return js.fillEnvironment(v)
	case "cwd":
		return js.fillCwd(v)
	case "queue":
		js.Queue, err = asString(v)
	case "job":
		return js.fillJob(v)
	case "constraints":
		js.Constraint, err = parseConstraint(v)
	case "exec":
		return js.fillExec(v)
	case "rerun":
		js.Rerun, err = optBool(v, true)
	case "retries":
		js.Retries, err = optInt(v, 0, 0, maxRetries)
	case "array":
		return js.fillArray(v)
	case "shell":
		return js.fillShell(v)
	case "dependencies":
		return js.fillDependencies(v)
	case "files":
		return js.fillFiles(v)
	case "instance":
		return js.fillInstance(v)
	}
	return err
}

// killTimeoutInstance is for an instance to end its own jobs, and theirs if they are instances.
const killTimeoutInstance = 60.0

// defaultStartLimit is longer than an instance waits for its brokers itself, so that it can say what is missing.
const defaultStartLimit = 300.0

func (js *Jobspec) fillInstance(v any) error {
	m, err := asObject(v)
	if err != nil {
		return err
	}
	js.Instance = &Instance{}
	if js.Instance.History, err = optFlag(m.get("history"), false); err != nil {
		return at("history", err)
	}
	js.Instance.StartLimit, err = optSeconds(m.get("start-limit"), defaultStartLimit)
	return at("start-limit", err)
}

func (js *Jobspec) fillDuration(v any) error {
	d, ok := v.(float64)
	if !ok || d < 0 || d > MaxDuration {
		return bad("must be a number of seconds from 0 (no limit) to %.0f", MaxDuration)
	}
	js.Duration = d
	return nil
}

func (js *Jobspec) fillEnvironment(v any) error {
	env, err := asObject(v)
	if err != nil {
		return err
	}
	js.Environment = make(map[string]string, len(env))
	for i := range env {
		name, value := env[i].key, env[i].v
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
	if js.Cwd, err = asString(v); err != nil {
		return err
	}
	if js.Cwd != "" && js.Cwd[0] != '/' && !strings.HasPrefix(js.Cwd, "{{") {
		return bad("must be an absolute path")
	}
	return nil
}

func (js *Jobspec) fillJob(v any) error {
	job, err := asObject(v)
	if err != nil {
		return err
	}
	js.Named = job.get("name") != nil
	js.Name, err = optString(job.get("name"), js.Name)
	return at("name", err)
}

func (js *Jobspec) fillExec(v any) error {
	exec, err := asObject(v)
	if err != nil || exec.get("test") == nil {
		return err
	}
	test, err := asObject(exec.get("test"))
	if err == nil {
		err = js.fillTest(test)
	}
	return at("test", err)
}

// fillTest reads exec.test; run_duration may be seconds or an FSD text, as the command line gives it.
func (js *Jobspec) fillTest(test object) (err error) {
	t := &TestExec{}
	if t.RunDuration, err = optSeconds(test.get("run_duration"), 0); err != nil {
		return at("run_duration", err)
	}
	if t.WaitStatus, err = optInt(test.get("wait_status"), 0, 0, 0xffff); err != nil {
		return at("wait_status", err)
	}
	if t.MockException, err = optString(test.get("mock_exception"), ""); err != nil {
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
		if x >= 0 && x <= MaxDuration {
			return x, nil
		}
	case string:
		d, err := ParseFSD(x)
		if err != nil {
			return 0, err
		}
		if d <= MaxDuration {
			return d, nil
		}
	}
	return 0, bad("must be a duration of at most %.0f seconds", MaxDuration)
}

// fillShell reads shell.options (Flux's shell options, as far as Frond acts on them; others stay in System).
func (js *Jobspec) fillShell(v any) error {
	shell, err := asObject(v)
	if err != nil || shell.get("options") == nil {
		return err
	}
	opts, err := asObject(shell.get("options"))
	if err == nil {
		err = js.fillOptions(opts)
	}
	return at("options", err)
}

func (js *Jobspec) fillOptions(opts object) error {
	for i := range opts {
		if err := js.fillOption(opts[i].key, opts[i].v); err != nil {
			return at(opts[i].key, err)
		}
	}
	return nil
}

func (js *Jobspec) fillOption(key string, v any) (err error) {
	sh := &js.Shell
	switch key {
	case "output":
		return sh.fillOutput(v)
	case "input":
		return sh.fillInput(v)
	case "cpu-affinity":
		sh.CPUAffinity, err = affinity(v)
	case "gpu-affinity":
		sh.GPUAffinity, err = affinity(v)
	case "rlimit":
		return sh.fillRLimit(v)
	case "umask":
		sh.Umask, err = umask(v)
	case "nice":
		sh.Nice, err = optInt(v, 0, -20, 19)
	case "signal":
		return sh.fillSignal(v)
	case "kill-timeout":
		sh.KillTimeout, err = optSeconds(v, defaultKillTimeout)
	case "exit-timeout":
		return sh.fillExitTimeout(v)
	case "exit-on-error":
		sh.ExitOnError, err = optFlag(v, false)
	case "per-resource":
		return js.fillPerResource(v)
	default:
		return js.fillTaskOption(key, v)
	}
	return err
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
	if text, ok := v.(string); ok && strings.HasPrefix(text, "map:") {
		if _, err := AffinityMap(text); err != nil {
			return "", err
		}
		return text, nil
	}
	return "", bad("must be on, off, per-task or map:IDS;IDS…")
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
	if sh.Signal, err = optInt(m.get("signum"), defaultWarnSignal, 1, 64); err != nil {
		return at("signum", err)
	}
	sh.SignalLeft, err = optSeconds(m.get("timeleft"), defaultWarnLeft)
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
	for i := range m {
		name, value := m[i].key, m[i].v
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
	if c := m.get("count"); c != nil {
		if n, err = asCount(c, maxPerSlot); err != nil {
			return at("count", err)
		}
	}
	switch m.get("type") {
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
	if err != nil || m.get("stdin") == nil {
		return err
	}
	in, err := asObject(m.get("stdin"))
	if err != nil {
		return at("stdin", err)
	}
	if in.get("type") != "file" {
		return nil
	}
	if sh.Stdin, err = asString(in.get("path")); err == nil && sh.Stdin == "" {
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
	mode, err := optString(m.get("mode"), "truncate")
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
		if err := sh.fillStream(m.get(s.key), s.out); err != nil {
			return at(s.key, err)
		}
	}
	if m.get("stderr") == nil || streamType(m.get("stderr")) == "" {
		sh.Stderr.Path = sh.Stdout.Path
		sh.Stderr.Label = sh.Stderr.Label || sh.Stdout.Label
	}
	sh.Label = sh.Stdout.Label && sh.Stderr.Label
	return nil
}

func streamType(v any) string {
	m, _ := v.(object)
	s, _ := m.get("type").(string)
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
	if out.Label, err = optFlag(m.get("label"), false); err != nil {
		return at("label", err)
	}
	if buffer, ok := m.get("buffer").(object); ok && buffer.get("type") == "none" {
		sh.Unbuffered = true
	}
	switch typ := streamType(v); typ {
	case "", "kvs", "term":
		return nil
	case "file":
		if out.Path, err = asString(m.get("path")); err == nil && out.Path == "" {
			err = bad("must not be empty")
		}
		return at("path", err)
	default:
		return at("type", fmt.Errorf("%q is unknown; use kvs, term or file", clip(typ)))
	}
}
