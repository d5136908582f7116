package jobspec

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Count is a count given on a command line; 0 = not given. It can be a flag's value (pflag.Value): Set takes integers ≥ 1 only.
type Count int

// Set reads text.
func (c *Count) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxCount {
		return fmt.Errorf("%q is not an integer ≥ 1", clip(text))
	}
	*c = Count(n)
	return nil
}

// String returns the number, "" if not given.
func (c *Count) String() string {
	if *c == 0 {
		return ""
	}
	return strconv.Itoa(int(*c))
}

// Type names the value in help texts.
func (c *Count) Type() string { return "N" }

// Options are what `submit` and `run` take on the command line, with the meaning that Flux gives them. Zero values are "not given".
type Options struct {
	Command []string // argv

	NTasks       Count  // -n: tasks, each in a slot of its own
	CoresPerTask Count  // -c
	GPUPart      string // -g below one: 0.5
	GPUsPerTask  Count  // -g
	Nodes        Count  // -N
	Exclusive    bool   // -x: whole nodes
	Mem          string // --mem: for each slot

	Cores        Count // --cores: total, instead of per task
	TasksPerNode Count // --tasks-per-node
	TasksPerCore Count // --tasks-per-core
	GPUsPerNode  Count // --gpus-per-node

	Resources Resources // --resources-shape, --resources-json: instead of all of the above

	Counters   []string       // --resource: NAME=N of named counters, for the whole job
	TimeLimit  string         // -t: minutes or FSD
	MinTime    string         // --min-time: minutes or FSD
	JobName    string         // --job-name
	Queue      string         // -q
	Output     string         // --output: template of a file; "none" and "kvs" mean the store
	Error      string         // --error
	Input      string         // --input
	Label      bool           // -l: label lines in output files
	Unbuffered bool           // -u
	Cwd        string         // --cwd, absolute
	Requires   []string       // --requires: queries, all of which must hold
	Depends    []string       // --dependency: SCHEME[:VALUE]
	Signal     string         // --signal=[SIG][@TIME]; SIG is a number here, the command translates names
	Rerun      string         // --rerun=yes|no
	Retries    string         // --retries
	MaxFails   Count          // --max-fails
	AtOnce     Count          // --array=…%N
	Setattr    []string       // -S KEY[=VALUE], ^KEY=FILE
	Files      map[string]any // --add-file: attributes.system.files
	Setopt     []string       // -o KEY[=VALUE], ^KEY=FILE

	Environment map[string]string // whole environment; nil when it travels beside the jobspec
	RLimit      map[string]int64  // -1 = unlimited

	ReadFile func(path string) ([]byte, error) // for ^KEY=FILE; nil: that form is refused
}

// Build makes the jobspec of a command line (flux-facts §5.2). Errors are sentences for the user.
func Build(o Options) (*Jobspec, error) {
	if len(o.Command) == 0 || o.Command[0] == "" {
		return nil, fmt.Errorf("a command is missing")
	}
	if err := o.checkText(); err != nil {
		return nil, err
	}
	resources, count, err := o.section()
	if err != nil {
		return nil, err
	}
	attrs, err := o.attributes()
	if err != nil {
		return nil, err
	}
	v := fromMaps(map[string]any{
		"version":    1,
		"resources":  []any(resources),
		"tasks":      []any{map[string]any{"command": o.Command, "slot": resources.label(), "count": count.value()}},
		"attributes": attrs,
	})
	if depth(v) > MaxDepth {
		return nil, fmt.Errorf("jobspec is nested deeper than %d levels", MaxDepth)
	}
	return fromValue(v)
}

// checkText refuses what JSON cannot hold: it would come out as something else.
func (o *Options) checkText() error {
	for i, arg := range o.Command {
		if !utf8.ValidString(arg) {
			return fmt.Errorf("argument %d of the command, %q, is not valid UTF-8, as a jobspec has to be", i, clip(arg))
		}
	}
	for _, text := range []string{o.Cwd, o.JobName, o.Input, o.Output, o.Error} {
		if !utf8.ValidString(text) {
			return fmt.Errorf("%q is not valid UTF-8, as a jobspec has to be", clip(text))
		}
	}
	return nil
}

// section makes the resources of the jobspec and counts the tasks.
func (o *Options) section() (Resources, TaskCount, error) {
	if o.Resources != nil {
		given := o.NTasks + o.CoresPerTask + o.GPUsPerTask + o.Nodes + o.Cores + o.TasksPerNode + o.TasksPerCore + o.GPUsPerNode
		if given > 0 || o.GPUPart != "" || o.Mem != "" || o.Exclusive {
			return nil, TaskCount{}, fmt.Errorf("--resources-shape and --resources-json say all that a job needs: leave out -N, -n, -c, -g, -x, --mem and the like")
		}
		return o.Resources, TaskCount{PerSlot: 1}, nil
	}
	r, count, err := o.resources()
	if err == nil && o.Mem != "" {
		if r.MemMiB, err = ParseMemory(o.Mem); err != nil {
			err = fmt.Errorf("--mem: %w", err)
		}
	}
	return Resources{r.value()}, count, err
}

// resources works out the request and the tasks. With --tasks-per-node and --tasks-per-core the count is a placeholder.
func (o *Options) resources() (Request, TaskCount, error) {
	perResource := o.Cores+o.TasksPerNode+o.TasksPerCore+o.GPUsPerNode > 0
	perTask := o.NTasks+o.CoresPerTask+o.GPUsPerTask > 0 || o.GPUPart != ""
	switch {
	case perResource && perTask:
		return Request{}, TaskCount{}, fmt.Errorf("-n, -c and -g cannot be combined with --cores, --tasks-per-node, --tasks-per-core or --gpus-per-node")
	case o.Exclusive && o.Nodes == 0:
		return Request{}, TaskCount{}, fmt.Errorf("-x/--exclusive needs a number of nodes: add -N")
	case perResource:
		return o.perResource()
	}
	return o.perTask()
}

func (o *Options) perTask() (Request, TaskCount, error) {
	n, nodes := int(o.NTasks), int(o.Nodes)
	part, err := o.gpuPart()
	if err != nil {
		return Request{}, TaskCount{}, err
	}
	r := Request{Nodes: nodes, Cores: max(1, int(o.CoresPerTask)), GPUs: int(o.GPUsPerTask), GPUPart: part, Exclusive: o.Exclusive}
	if n == 0 {
		r.Exclusive = nodes > 0
		n = max(1, nodes)
	}
	if nodes > n {
		return r, TaskCount{}, fmt.Errorf("%d nodes are more than the %d tasks: give at least as many tasks (-n) as nodes (-N)", nodes, n)
	}
	if r.Slots = n; nodes > 0 {
		r.Slots = (n + nodes - 1) / nodes
	}
	if r.TotalSlots() != n {
		return r, TaskCount{Total: n}, nil
	}
	return r, TaskCount{PerSlot: 1}, nil
}

func (o *Options) gpuPart() (int, error) {
	if o.GPUPart == "" {
		return 0, nil
	}
	f, err := strconv.ParseFloat(o.GPUPart, 64)
	switch {
	case err != nil || !(f > 0):
		return 0, fmt.Errorf("-g: %q is not a number of gpus, nor a part of one such as 0.5", clip(o.GPUPart))
	case f >= 1:
		return 0, fmt.Errorf("-g %s: gpus are given whole (-g 1, -g 2), or each task has a part of one (-g 0.5)", clip(o.GPUPart))
	}
	part, err := gpuPart(f)
	if err != nil {
		return 0, fmt.Errorf("-g: %w", err)
	}
	return part, nil
}

func (o *Options) perResource() (Request, TaskCount, error) {
	cores, nodes := int(o.Cores), int(o.Nodes)
	r := Request{Nodes: nodes, Slots: 1, Cores: 1, GPUs: int(o.GPUsPerNode), Exclusive: o.Exclusive}
	var err error
	switch {
	case cores == 0 && nodes == 0:
		err = fmt.Errorf("--tasks-per-node, --tasks-per-core and --gpus-per-node need --cores or -N")
	case nodes == 0 && o.GPUsPerNode > 0:
		err = fmt.Errorf("--gpus-per-node needs a number of nodes: add -N")
	case nodes == 0:
		r.Slots = cores
	case cores == 0:
		r.Exclusive = true
	case cores%nodes != 0:
		err = fmt.Errorf("%d cores cannot be divided evenly over %d nodes", cores, nodes)
	default:
		r.Cores = cores / nodes
	}
	if o.TasksPerNode > 0 && o.TasksPerCore > 0 {
		err = fmt.Errorf("--tasks-per-node and --tasks-per-core cannot be combined")
	}
	return r, TaskCount{PerSlot: 1}, err
}

// attributes makes the attributes object: first the options with a meaning of their own, then -o, then -S, which can change all.
func (o *Options) attributes() (map[string]any, error) {
	attrs := tree{}
	if err := o.system(attrs); err != nil {
		return nil, err
	}
	o.streams(attrs)
	for _, opt := range o.Setopt {
		if err := o.set(attrs, opt, "-o/--setopt", func(key string) string { return "system.shell.options." + key }); err != nil {
			return nil, err
		}
	}
	for _, attr := range o.Setattr {
		if err := o.set(attrs, attr, "-S/--setattr", attrKey); err != nil {
			return nil, err
		}
	}
	return attrs, nil
}

// attrKey completes a key of --setattr: "x" means "system.x".
func attrKey(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "attributes."), ".")
	if strings.HasPrefix(key, "system.") || strings.HasPrefix(key, "user.") {
		return key
	}
	return "system." + key
}

func (o *Options) system(attrs tree) error {
	limit, err := o.timeLimit()
	if err != nil {
		return err
	}
	attrs.put("system.duration", limit)
	if err := o.minTime(attrs); err != nil {
		return err
	}
	if err := o.counters(attrs); err != nil {
		return err
	}
	for key, value := range map[string]string{"system.cwd": o.Cwd, "system.queue": o.Queue, "system.job.name": o.JobName} {
		if value != "" {
			attrs.put(key, value)
		}
	}
	if o.Rerun != "" {
		if o.Rerun != "yes" && o.Rerun != "no" {
			return fmt.Errorf("--rerun must be yes or no, not %q", clip(o.Rerun))
		}
		attrs.put("system.rerun", o.Rerun == "yes")
	}
	if err := o.arrayOptions(attrs); err != nil {
		return err
	}
	if o.Environment != nil {
		attrs.put("system.environment", anyMap(o.Environment, func(v string) any { return v }))
	}
	if len(o.RLimit) > 0 {
		attrs.put("system.shell.options.rlimit", anyMap(o.RLimit, func(v int64) any { return float64(v) }))
	}
	if err := o.depends(attrs); err != nil {
		return err
	}
	if len(o.Files) > 0 {
		attrs.put("system.files", o.Files)
	}
	o.perResourceOption(attrs)
	if err := o.signal(attrs); err != nil {
		return err
	}
	return o.constraint(attrs)
}

func (o *Options) timeLimit() (float64, error) {
	if o.TimeLimit == "" {
		return 0, nil
	}
	return ParseTimeLimit(o.TimeLimit)
}

func (o *Options) minTime(attrs tree) error {
	if o.MinTime == "" {
		return nil
	}
	if o.TimeLimit == "" {
		return fmt.Errorf("--min-time needs a time limit: add -t")
	}
	least, err := ParseTimeLimit(o.MinTime)
	if err != nil {
		return fmt.Errorf("--min-time: %w", err)
	}
	return attrs.put("system.min-duration", least)
}

func (o *Options) counters(attrs tree) error {
	list, err := ParseCounters(o.Counters)
	if err != nil {
		return fmt.Errorf("--resource: %w", err)
	}
	if len(list) == 0 {
		return nil
	}
	obj := make(map[string]any, len(list))
	for _, c := range list {
		obj[c.Name] = float64(c.N)
	}
	return attrs.put("system.counters", obj)
}

func (o *Options) perResourceOption(attrs tree) {
	typ, n := "node", o.TasksPerNode
	if o.TasksPerCore > 0 {
		typ, n = "core", o.TasksPerCore
	}
	if n > 0 {
		attrs.put("system.shell.options.per-resource", map[string]any{"type": typ, "count": float64(n)})
	}
}

// signal reads [SIG][@TIME].
func (o *Options) signal(attrs tree) error {
	if o.Signal == "" {
		return nil
	}
	sig, left, hasLeft := strings.Cut(o.Signal, "@")
	value := map[string]any{"signum": float64(defaultWarnSignal), "timeleft": defaultWarnLeft}
	if sig != "" {
		n, err := strconv.Atoi(sig)
		if err != nil || n < 1 || n > 64 {
			return fmt.Errorf("--signal: %q is not a signal", clip(sig))
		}
		value["signum"] = float64(n)
	}
	if hasLeft {
		secs, err := ParseFSD(left)
		if err != nil {
			return fmt.Errorf("--signal: %w", err)
		}
		value["timeleft"] = secs
	}
	attrs.put("system.shell.options.signal", value)
	return nil
}

func (o *Options) constraint(attrs tree) error {
	var all []*Constraint
	for _, query := range o.Requires {
		c, err := ParseQuery(query, "properties")
		if err != nil {
			return fmt.Errorf("--requires: %w", err)
		}
		if c != nil {
			all = append(all, c)
		}
	}
	if len(all) > 0 {
		attrs.put("system.constraints", join("and", mergeProperties(all)).Value())
	}
	return nil
}

// streams sets the shell options for output, error and input.
func (o *Options) streams(attrs tree) {
	for _, s := range []struct{ name, path string }{{"stdout", o.Output}, {"stderr", o.Error}} {
		base := "system.shell.options.output." + s.name
		if s.path != "" && s.path != "none" && s.path != "kvs" {
			attrs.put(base+".type", "file")
			attrs.put(base+".path", s.path)
			if o.Label {
				attrs.put(base+".label", true)
			}
		}
		if o.Unbuffered {
			attrs.put(base+".buffer.type", "none")
		}
	}
	if o.Input != "" {
		attrs.put("system.shell.options.input.stdin", map[string]any{"type": "file", "path": o.Input})
	}
}

// set carries out KEY, KEY=VALUE or ^KEY=FILE. A value that is JSON is taken as such, other text as a string; without one it is 1.
func (o *Options) set(attrs tree, arg, flag string, complete func(string) string) error {
	key, text, hasValue := strings.Cut(arg, "=")
	fromFile := strings.HasPrefix(key, "^")
	key = strings.TrimPrefix(key, "^")
	if key == "" || strings.Contains("."+key+".", "..") && !strings.HasPrefix(key, ".") {
		return fmt.Errorf("%s: %q must be KEY=VALUE", flag, clip(arg))
	}
	var value any = 1.0
	var err error
	switch {
	case fromFile:
		value, err = o.fromFile(text)
	case hasValue:
		value = jsonOrText(text)
	}
	if err == nil {
		err = attrs.put(complete(key), value)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", flag, clip(arg), err)
	}
	return nil
}

func (o *Options) fromFile(path string) (any, error) {
	if o.ReadFile == nil || path == "" {
		return nil, fmt.Errorf("a file to read is missing")
	}
	data, err := o.ReadFile(path)
	if err != nil {
		return nil, err
	}
	v, err := decodeJSON(data)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return toMaps(v), nil
}

func jsonOrText(text string) any {
	if v, err := decodeJSON([]byte(text)); err == nil {
		return toMaps(v)
	}
	return text
}

// tree is a JSON object with dotted paths.
type tree map[string]any

func (t tree) put(path string, value any) error { return PutPath(t, path, value) }

// PutPath sets a value in nested objects by a dotted path, making objects on the way. It fails where the way leads through something else.
func PutPath(m map[string]any, path string, value any) error {
	keys := strings.Split(path, ".")
	for _, k := range keys[:len(keys)-1] {
		next, ok := m[k].(map[string]any)
		if !ok {
			if m[k] != nil {
				return fmt.Errorf("%s is not an object", k)
			}
			next = map[string]any{}
			m[k] = next
		}
		m = next
	}
	m[keys[len(keys)-1]] = value
	return nil
}

func anyMap[V any](m map[string]V, conv func(V) any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = conv(v)
	}
	return out
}

// ParseUrgency reads --urgency: 0 to 31, hold (0), default (16) or expedite (31).
func ParseUrgency(text string) (int, error) {
	switch text {
	case "hold":
		return 0, nil
	case "default":
		return 16, nil
	case "expedite":
		return 31, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 31 {
		return 0, fmt.Errorf("urgency %q must be an integer from 0 to 31, hold, default or expedite", clip(text))
	}
	return n, nil
}

// BuildJSON is Build, encoded.
func BuildJSON(o Options) (json.RawMessage, error) {
	js, err := Build(o)
	if err != nil {
		return nil, err
	}
	return js.JSON()
}
