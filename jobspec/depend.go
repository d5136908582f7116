package jobspec

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/resource/idset"
)

// Dependency is one entry of attributes.system.dependencies (Flux RFC 26).
type Dependency struct {
	Scheme string  // afterstart, afterany, afterok, afternotok, afterexcept, aftercorr, begin-time, singleton
	Value  string  // as the user gave it
	Ref    Ref     // of after…: whom it names
	Time   float64 // of begin-time: epoch seconds
}

// Ref names a job: by id, or by name; of an array all of it or some elements.
type Ref struct {
	ID       ID
	Elements idset.Set // empty = all
	Name     string    // not empty: the job submitted last with this name
	Item     int       // not 0: what was submitted by the Item-th item of the same request
}

// dependPrefix is what Flux calls a dependency in events, by scheme; aftercorr is Frond's own.
var dependPrefix = map[string]string{"afterstart": "after-start=", "afterany": "after-finish=", "afterok": "after-success=", "afternotok": "after-failure=",
	"afterexcept": "after-except=", "aftercorr": "after-corr="}

// Description is how events and listings name the dependency.
func (d *Dependency) Description() string {
	switch d.Scheme {
	case "begin-time":
		return "begin-time=" + strconv.FormatFloat(d.Time, 'f', 3, 64)
	case "singleton":
		return "singleton"
	}
	return dependPrefix[d.Scheme] + d.Value
}

// maxDependencies bounds what one job may wait for.
const maxDependencies = 1024

func (js *Jobspec) fillDependencies(v any) error {
	list, ok := v.([]any)
	if !ok {
		return bad("must be a list")
	}
	if len(list) > maxDependencies {
		return bad("are %d; at most %d are allowed", len(list), maxDependencies)
	}
	for i, entry := range list {
		d, err := readDependency(entry)
		if err != nil {
			return at(strconv.Itoa(i), err)
		}
		if !js.dependsOn(d.Description()) {
			js.Dependencies = append(js.Dependencies, d)
		}
	}
	return nil
}

func (js *Jobspec) dependsOn(description string) bool {
	for i := range js.Dependencies {
		if js.Dependencies[i].Description() == description {
			return true
		}
	}
	return false
}

func readDependency(v any) (Dependency, error) {
	o, err := asObject(v)
	if err != nil {
		return Dependency{}, err
	}
	d := Dependency{}
	if d.Scheme, err = asString(o.get("scheme")); err != nil {
		return d, at("scheme", err)
	}
	switch value := o.get("value").(type) {
	case nil:
	case float64:
		d.Value = strconv.FormatFloat(value, 'f', -1, 64)
	default:
		if d.Value, err = asString(value); err != nil {
			return d, at("value", err)
		}
	}
	return d, d.complete()
}

// complete checks scheme and value and reads the value.
func (d *Dependency) complete() (err error) {
	if d.Scheme == "after" {
		d.Scheme = "afterstart"
	}
	switch d.Scheme {
	case "begin-time":
		d.Time, err = strconv.ParseFloat(d.Value, 64)
		if err != nil || math.IsNaN(d.Time) || d.Time < 0 || d.Time > maxBegin {
			return fmt.Errorf("begin-time:%s is not a time in seconds since 1970", clip(d.Value))
		}
		return nil
	case "singleton":
		return nil
	}
	if dependPrefix[d.Scheme] == "" {
		return fmt.Errorf("unknown dependency scheme %q: use after, afterany, afterok, afternotok, afterexcept, aftercorr, begin-time or singleton", clip(d.Scheme))
	}
	if d.Ref, err = ParseRef(d.Value); err != nil {
		return fmt.Errorf("%s: %w", d.Scheme, err)
	}
	if d.Scheme == "aftercorr" && !d.Ref.Elements.Empty() {
		return fmt.Errorf("aftercorr is between whole arrays: name the array, not its elements")
	}
	return nil
}

// maxBegin is the year 9999: beyond, times do not fit what holds them.
const maxBegin = 253402300799

// ParseRef reads ID, ARRAY:INDEXES, name:NAME or @ITEM.
func ParseRef(text string) (Ref, error) {
	if name, ok := strings.CutPrefix(text, "name:"); ok {
		if name == "" {
			return Ref{}, fmt.Errorf("after name: a name is missing")
		}
		return Ref{Name: name}, nil
	}
	if item, ok := strings.CutPrefix(text, "@"); ok {
		n, err := strconv.Atoi(item)
		if err != nil || n < 1 {
			return Ref{}, fmt.Errorf("%q: after '@' stands which item of the request, from 1 on", clip(text))
		}
		return Ref{Item: n}, nil
	}
	idText, elements, found := strings.Cut(text, ":")
	id, err := ParseID(idText)
	if err != nil {
		return Ref{}, err
	}
	ref := Ref{ID: id}
	if !found {
		return ref, nil
	}
	ref.Elements, err = idset.Parse(elements)
	if err != nil || ref.Elements.Empty() {
		return Ref{}, fmt.Errorf("%q: after ':' stand indexes of elements of an array, as in 17 or 1-10,20", clip(text))
	}
	return ref, nil
}

// ParseDependency reads --dependency=SCHEME[:VALUE] as an entry of attributes.system.dependencies.
func ParseDependency(text string) (map[string]any, error) {
	scheme, value, _ := strings.Cut(text, ":")
	d := Dependency{Scheme: scheme, Value: value}
	if err := d.complete(); err != nil {
		return nil, err
	}
	return map[string]any{"scheme": d.Scheme, "value": value}, nil
}

func (o *Options) depends(attrs tree) error {
	var list []any
	for _, text := range o.Depends {
		d, err := ParseDependency(text)
		if err != nil {
			return fmt.Errorf("--dependency: %w", err)
		}
		list = append(list, d)
	}
	if list == nil {
		return nil
	}
	return attrs.put("system.dependencies", list)
}
