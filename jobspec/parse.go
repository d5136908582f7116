package jobspec

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Limits of what one jobspec may ask for; they keep products within an int and a broker's memory.
const (
	maxCount    = 1<<31 - 1 // any count, and nodes × slots
	maxPerSlot  = 65_536    // tasks per slot, node or core
	maxMemMiB   = 1 << 31   // per slot
	MaxDuration = 1e9       // seconds: the largest time limit
)

// Parse reads a jobspec of version 1 (Flux RFC 25) from JSON and checks it. Beyond RFC 25 a slot may hold memory. An error names the
// place: "jobspec: resources[0].with[0].count: must be an integer ≥ 1".
func Parse(data []byte) (*Jobspec, error) {
	v, err := decodeJSON(data)
	if err != nil {
		return nil, fmt.Errorf("jobspec %w", err)
	}
	return fromValue(v)
}

// fromValue builds a Jobspec from decoded JSON. It takes the value over.
func fromValue(v any) (*Jobspec, error) {
	js := &Jobspec{}
	if err := js.fill(v); err != nil {
		return nil, fmt.Errorf("jobspec: %w", err)
	}
	return js, nil
}

// pathError is an error at a place in the jobspec. The path grows from the inside out, so that it costs nothing without error.
type pathError struct{ path, msg string }

func (e *pathError) Error() string {
	if e.path == "" {
		return e.msg
	}
	return e.path + ": " + e.msg
}

// at puts a key or an index ("[0]") before the path of err.
func at(key string, err error) error {
	if err == nil {
		return nil
	}
	e, ok := err.(*pathError)
	if !ok {
		return &pathError{key, err.Error()}
	}
	switch {
	case e.path == "":
		e.path = key
	case e.path[0] == '[':
		e.path = key + e.path
	default:
		e.path = key + "." + e.path
	}
	return e
}

func bad(format string, args ...any) error { return &pathError{msg: fmt.Sprintf(format, args...)} }

func (js *Jobspec) fill(v any) error {
	top, ok := v.(object)
	if !ok {
		return bad("must be a JSON object")
	}
	if err := checkVersion(top.get("version")); err != nil {
		return at("version", err)
	}
	if err := onlyKeys(top, "version", "resources", "tasks", "attributes"); err != nil {
		return err
	}
	label, err := js.fillResources(top.get("resources"))
	if err != nil {
		return at("resources", err)
	}
	if err := js.fillTasks(top.get("tasks"), label); err != nil {
		return at("tasks", err)
	}
	if err := js.fillAttributes(top.get("attributes")); err != nil {
		return at("attributes", err)
	}
	return js.checkTaskCount()
}

func checkVersion(v any) error {
	n, ok := v.(float64)
	switch {
	case v == nil:
		return bad("is missing; it must be 1")
	case !ok:
		return bad("must be the number 1")
	case n != 1:
		return bad("version %v is not supported; only version 1 is", n)
	}
	return nil
}

func onlyKeys(m object, known ...string) error {
next:
	for i := range m {
		for _, k := range known {
			if m[i].key == k {
				continue next
			}
		}
		return at(clip(m[i].key), bad("is not a known key; known are %s", strings.Join(known, ", ")))
	}
	return nil
}

// asObject, asList, asString and asBool check a type; a missing value has its own message.
func asObject(v any) (object, error) {
	if m, ok := v.(object); ok {
		return m, nil
	}
	return nil, wrongType(v, "an object")
}

func asList(v any) ([]any, error) {
	if a, ok := v.([]any); ok {
		return a, nil
	}
	return nil, wrongType(v, "an array")
}

func asString(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", wrongType(v, "a string")
	}
	if strings.IndexByte(s, 0) >= 0 {
		return "", bad("must not contain a NUL character")
	}
	return s, nil
}

func wrongType(v any, want string) error {
	if v == nil {
		return bad("is missing; it must be %s", want)
	}
	return bad("must be %s", want)
}

// asCount reads an integer from 1 to limit.
func asCount(v any, limit int) (int, error) {
	n, ok := v.(float64)
	if _, big := v.(json.Number); big {
		return 0, bad("must be at most %d", limit)
	}
	if !ok || n < 1 || n != math.Trunc(n) {
		return 0, bad("must be an integer ≥ 1")
	}
	if n > float64(limit) {
		return 0, bad("must be at most %d", limit)
	}
	return int(n), nil
}

// fillResources reads [node >] slot > (core, gpu, memory) and returns the slot's label.
func (js *Jobspec) fillResources(v any) (label string, err error) {
	root, err := onlyOne(v, "resource")
	if err != nil {
		return "", err
	}
	slot, path := root, "[0]"
	if root.get("type") == "node" {
		if slot, err = js.fillNode(root); err != nil {
			return "", at(path, err)
		}
		path += ".with[0]"
	}
	label, err = js.fillSlot(slot)
	return label, at(path, err)
}

// onlyOne returns the only element of an array, an object.
func onlyOne(v any, what string) (object, error) {
	list, err := asList(v)
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, bad("must have exactly one %s, not %d", what, len(list))
	}
	m, err := asObject(list[0])
	return m, at("[0]", err)
}

func (js *Jobspec) fillNode(node object) (slot object, err error) {
	if err := onlyKeys(node, "type", "count", "exclusive", "with", "unit", "label", "id"); err != nil {
		return nil, err
	}
	if js.Request.Nodes, err = asCount(node.get("count"), maxCount); err != nil {
		return nil, at("count", err)
	}
	if js.Request.Exclusive, err = optBool(node.get("exclusive"), false); err != nil {
		return nil, at("exclusive", err)
	}
	slot, err = onlyOne(node.get("with"), "slot")
	return slot, at("with", err)
}

func (js *Jobspec) fillSlot(slot object) (label string, err error) {
	typ, err := asString(slot.get("type"))
	if err != nil {
		return "", at("type", err)
	}
	if typ != "slot" {
		return "", at("type", bad("%q is not possible here; version 1 allows slot or node > slot", clip(typ)))
	}
	if err = onlyKeys(slot, "type", "count", "exclusive", "with", "unit", "label", "id"); err != nil {
		return "", err
	}
	if label, err = asString(slot.get("label")); err != nil {
		return "", at("label", err)
	}
	r := &js.Request
	if r.Slots, err = asCount(slot.get("count"), maxCount); err != nil {
		return "", at("count", err)
	}
	if r.Nodes > 0 && r.Slots > maxCount/r.Nodes {
		return "", at("count", bad("asks for more than %d slots in all", maxCount))
	}
	exclusive, err := optBool(slot.get("exclusive"), false)
	if err != nil {
		return "", at("exclusive", err)
	}
	r.Exclusive = r.Exclusive || exclusive && r.Nodes > 0
	return label, at("with", js.fillSlotContent(slot.get("with")))
}

func (js *Jobspec) fillSlotContent(v any) error {
	list, err := asList(v)
	if err != nil {
		return err
	}
	for i, item := range list {
		m, err := asObject(item)
		if err == nil {
			err = js.fillVertex(m)
		}
		if err != nil {
			return at(fmt.Sprintf("[%d]", i), err)
		}
	}
	if js.Request.Cores == 0 {
		return bad("must have a core")
	}
	return nil
}

func (js *Jobspec) fillVertex(m object) error {
	typ, err := asString(m.get("type"))
	if err != nil {
		return at("type", err)
	}
	if typ != "core" && typ != "gpu" && typ != "memory" {
		return at("type", bad("%q is not possible in a slot; use core, gpu or memory", clip(typ)))
	}
	if err := onlyKeys(m, "type", "count", "exclusive", "unit", "label", "id"); err != nil {
		return err
	}
	r := &js.Request
	if f, ok := m.get("count").(float64); ok && typ == "gpu" && f > 0 && f < 1 {
		if r.GPUs > 0 {
			return bad("appears twice")
		}
		part, err := gpuPart(f)
		if err != nil {
			return at("count", err)
		}
		return setOnce(&r.GPUPart, part)
	}
	n, err := asCount(m.get("count"), maxCount)
	if err != nil {
		return at("count", err)
	}
	switch typ {
	case "core":
		return setOnce(&r.Cores, n)
	case "gpu":
		if r.GPUPart > 0 {
			return bad("appears twice")
		}
		return setOnce(&r.GPUs, n)
	}
	return js.fillMemory(n, m.get("unit"))
}

func (js *Jobspec) fillMemory(n int, unit any) error {
	name, err := optString(unit, "")
	if err != nil {
		return at("unit", err)
	}
	mib, err := Memory(n, name)
	if err != nil {
		return at("unit", err)
	}
	return setOnce(&js.Request.MemMiB, mib)
}

// gpuPart is a fraction of a gpu in hundredths.
func gpuPart(f float64) (int, error) {
	part := math.Round(f * 100)
	if part < 1 || part > 99 || math.Abs(f*100-part) > 1e-6 {
		return 0, bad("a part of a gpu has at most two digits: 0.01 to 0.99")
	}
	return int(part), nil
}

func setOnce[T int | int64](field *T, n T) error {
	if *field != 0 {
		return bad("appears twice")
	}
	*field = n
	return nil
}

// memUnits are units of memory in bytes.
var memUnits = map[string]float64{
	"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// ParseMemory reads --mem: a number with a unit K, M, G or T (powers of 1024) or one of Memory's; without one MiB. It returns MiB, rounded up.
func ParseMemory(text string) (int64, error) {
	number := strings.TrimRight(text, "BKMGTikgmtb")
	unit := text[len(number):]
	n, err := strconv.ParseFloat(number, 64)
	bytes, known := unitBytes(unit)
	if err != nil || !known || !(n > 0) || math.IsInf(n, 0) || strings.ContainsAny(number, "xXpP_nN") {
		return 0, fmt.Errorf("%q is not an amount of memory such as 500M or 1.5G", clip(text))
	}
	if mib := math.Ceil(n * bytes / (1 << 20)); mib <= maxMemMiB {
		return int64(mib), nil
	}
	return 0, fmt.Errorf("%s is more than %d MiB", clip(text), maxMemMiB)
}

// unitBytes is how many bytes a unit of memory is: K, M, G, T are those of 1024, and none is MiB.
func unitBytes(unit string) (bytes float64, known bool) {
	switch {
	case unit == "":
		unit = "MiB"
	case len(unit) == 1 && unit != "B":
		unit = strings.ToUpper(unit) + "iB"
	}
	bytes, known = memUnits[unit]
	return bytes, known
}

// Memory converts n of a unit (B, kB … TB, KiB … TiB or K … T; empty = MiB) to MiB, rounding up.
func Memory(n int, unit string) (int64, error) {
	bytes, ok := unitBytes(unit)
	if !ok {
		return 0, fmt.Errorf("unknown unit %q; use B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, or K, M, G, T", clip(unit))
	}
	mib := math.Ceil(float64(n) * bytes / (1 << 20))
	if mib > maxMemMiB {
		return 0, fmt.Errorf("%d %s is more than %d MiB", n, unit, maxMemMiB)
	}
	return int64(mib), nil
}

func (js *Jobspec) fillTasks(v any, label string) error {
	task, err := onlyOne(v, "task")
	if err != nil {
		return err
	}
	return at("[0]", js.fillTask(task, label))
}

func (js *Jobspec) fillTask(task object, label string) error {
	if err := onlyKeys(task, "command", "slot", "count", "attributes"); err != nil {
		return err
	}
	var err error
	if js.Command, err = asStrings(task.get("command")); err != nil {
		return at("command", err)
	}
	if len(js.Command) == 0 || js.Command[0] == "" {
		return at("command", bad("must name a program"))
	}
	slot, err := asString(task.get("slot"))
	if err != nil {
		return at("slot", err)
	}
	if slot != label {
		return at("slot", bad("there is no slot %q; the only one is %q", clip(slot), clip(label)))
	}
	count, err := asObject(task.get("count"))
	if err == nil {
		err = js.fillTaskCount(count)
	}
	return at("count", err)
}

func asStrings(v any) ([]string, error) {
	list, err := asList(v)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(list))
	for i := range list {
		if out[i], err = asString(list[i]); err != nil {
			return nil, at(fmt.Sprintf("[%d]", i), err)
		}
	}
	return out, nil
}

func (js *Jobspec) fillTaskCount(count object) (err error) {
	if err := onlyKeys(count, "per_slot", "total"); err != nil {
		return err
	}
	if len(count) != 1 {
		return bad("must have either per_slot or total")
	}
	if count[0].key == "per_slot" {
		js.TaskCount.PerSlot, err = asCount(count[0].v, maxPerSlot)
		return at("per_slot", err)
	}
	js.TaskCount.Total, err = asCount(count.get("total"), maxCount)
	return at("total", err)
}

// checkTaskCount checks what needs resources and tasks together: V1 wants nodes ≤ total ≤ slots.
func (js *Jobspec) checkTaskCount() error {
	total, r := js.TaskCount.Total, js.Request
	if total == 0 {
		return nil
	}
	if total < r.Nodes || total > r.TotalSlots() {
		return at("tasks[0].count.total", bad("is %d, but must be between the number of nodes, %d, and that of slots, %d",
			total, r.Nodes, r.TotalSlots()))
	}
	return nil
}

func (js *Jobspec) fillAttributes(v any) (err error) {
	attrs, err := asObject(v)
	if err != nil {
		return err
	}
	if err := onlyKeys(attrs, "user", "system"); err != nil {
		return err
	}
	if u := attrs.get("user"); u != nil {
		user, err := asObject(u)
		if err != nil {
			return at("user", err)
		}
		js.User = toMaps(user).(map[string]any)
	}
	system, err := asObject(attrs.get("system"))
	if err == nil {
		err = js.fillSystem(system)
	}
	return at("system", err)
}

// JSON returns the canonical form: keys sorted, the slot's label "task", memory in MiB, the environment included. Parse reads it
// back to an equal Jobspec.
func (js *Jobspec) JSON() ([]byte, error) {
	system := make(map[string]any, len(js.System)+1)
	for k, v := range js.System {
		system[k] = v
	}
	if js.Environment != nil || js.EnvUnset != nil {
		system["environment"] = js.envValue()
	}
	attrs := map[string]any{"system": system}
	if js.User != nil {
		attrs["user"] = js.User
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(map[string]any{
		"version":    1,
		"resources":  []any{js.Request.value()},
		"tasks":      []any{map[string]any{"command": js.Command, "slot": "task", "count": js.TaskCount.value()}},
		"attributes": attrs,
	})
	if err != nil {
		return nil, fmt.Errorf("encode jobspec: %w", err)
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

func (js *Jobspec) envValue() map[string]any {
	env := make(map[string]any, len(js.Environment)+len(js.EnvUnset))
	for k, v := range js.Environment {
		env[k] = v
	}
	for _, k := range js.EnvUnset {
		env[k] = nil
	}
	return env
}

func (r Request) value() any {
	with := []any{map[string]any{"type": "core", "count": r.Cores}}
	if r.GPUs > 0 {
		with = append(with, map[string]any{"type": "gpu", "count": r.GPUs})
	}
	if r.GPUPart > 0 {
		with = append(with, map[string]any{"type": "gpu", "count": float64(r.GPUPart) / 100})
	}
	if r.MemMiB > 0 {
		with = append(with, map[string]any{"type": "memory", "count": r.MemMiB, "unit": "MiB"})
	}
	slot := map[string]any{"type": "slot", "count": r.Slots, "label": "task", "with": with}
	if r.Nodes == 0 {
		return slot
	}
	node := map[string]any{"type": "node", "count": r.Nodes, "with": []any{slot}}
	if r.Exclusive {
		node["exclusive"] = true
	}
	return node
}

// value is the count of tasks[0]; with an option per-resource it is a placeholder, as Flux writes it.
func (c TaskCount) value() any {
	if c.Total > 0 {
		return map[string]any{"total": c.Total}
	}
	return map[string]any{"per_slot": max(1, c.PerSlot)}
}

// Validate checks a Jobspec that was not made by Parse or Build, by parsing its JSON form.
func (js *Jobspec) Validate() error {
	b, err := js.JSON()
	if err != nil {
		return err
	}
	_, err = Parse(b)
	return err
}
