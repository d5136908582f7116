package jobspec

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Queue is a named queue over the resources of an instance: what jobs in it may ask for (Flux RFC 33).
type Queue struct {
	Name            string
	Default         bool     // for jobs that name no queue
	Requires        []string // properties that nodes must have
	Limit           float64  // longest time limit in seconds, 0 = none
	DefaultDuration float64  // time limit of jobs without one, 0 = none
	Min, Max        Size
}

// Size is a bound of a job's size; 0 = none.
type Size struct{ Nodes, Cores, GPUs int }

// maxQueues bounds how many queues an instance has.
const maxQueues = 256

// ParseQueues reads queues as the command line has them, NAME[:KEY=VALUE,…]; see ParseQueue. A sole queue is the default.
func ParseQueues(texts []string) ([]Queue, error) {
	if len(texts) > maxQueues {
		return nil, fmt.Errorf("%d queues; at most %d are allowed", len(texts), maxQueues)
	}
	var queues []Queue
	defaults := 0
	for _, t := range texts {
		q, err := ParseQueue(t)
		if err != nil {
			return nil, fmt.Errorf("queue %q: %w", clip(t), err)
		}
		if FindQueue(queues, q.Name) != nil {
			return nil, fmt.Errorf("queue %s is there twice", q.Name)
		}
		if q.Default {
			defaults++
		}
		queues = append(queues, q)
	}
	if defaults > 1 {
		return nil, fmt.Errorf("%d queues are the default; one can be", defaults)
	}
	if len(queues) == 1 {
		queues[0].Default = true
	}
	return queues, nil
}

// FindQueue is the queue of a name, or nil.
func FindQueue(queues []Queue, name string) *Queue {
	for i := range queues {
		if queues[i].Name == name {
			return &queues[i]
		}
	}
	return nil
}

// ParseQueue reads NAME[:KEY=VALUE,…] with the keys of Flux's configuration: requires=PROPERTY (may come several times), limits.duration=FSD,
// limits.job-size.max.nnodes|ncores|ngpus=N (and min), defaults.duration=FSD, and default, which makes it that of jobs that name none.
// "limit" and "size" are short for limits and job-size.
func ParseQueue(text string) (Queue, error) {
	name, rest, _ := strings.Cut(text, ":")
	q := Queue{Name: name}
	if err := checkQueueName(name); err != nil {
		return q, err
	}
	for part := range strings.SplitSeq(rest, ",") {
		if part == "" {
			continue
		}
		key, value, _ := strings.Cut(part, "=")
		if err := q.set(key, value); err != nil {
			return q, fmt.Errorf("%s: %w", clip(part), err)
		}
	}
	return q, nil
}

func checkQueueName(name string) error {
	if name == "" || len(name) > 64 {
		return fmt.Errorf("a name of 1 to 64 characters is needed")
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.' {
			return fmt.Errorf("a name may hold letters, digits, '-', '_' and '.', not %q", r)
		}
	}
	return nil
}

func (q *Queue) set(key, value string) (err error) {
	key = strings.TrimPrefix(key, "policy.")
	if rest, ok := strings.CutPrefix(key, "limit."); ok {
		key = "limits." + rest
	}
	key = strings.Replace(key, "limits.size.", "limits.job-size.", 1)
	switch key {
	case "default":
		if value != "" && value != "true" {
			return fmt.Errorf("takes no value")
		}
		q.Default = true
	case "requires":
		if value == "" {
			return fmt.Errorf("a property is missing")
		}
		q.Requires = append(q.Requires, value)
	case "limits.duration":
		q.Limit, err = queueDuration(value)
	case "defaults.duration":
		q.DefaultDuration, err = queueDuration(value)
	default:
		return q.setSize(key, value)
	}
	return err
}

func queueDuration(text string) (float64, error) {
	d, err := ParseFSD(text)
	if err != nil || math.IsInf(d, 0) {
		return 0, err
	}
	if d > MaxDuration {
		return 0, fmt.Errorf("a duration is at most %.0f seconds", float64(MaxDuration))
	}
	return d, nil
}

func (q *Queue) setSize(key, value string) error {
	bound, what, ok := strings.Cut(strings.TrimPrefix(key, "limits.job-size."), ".")
	size := map[string]*Size{"max": &q.Max, "min": &q.Min}[bound]
	if !ok || size == nil || !strings.HasPrefix(key, "limits.job-size.") {
		return fmt.Errorf("unknown key: there are default, requires, limits.duration, limits.job-size.max.nnodes (ncores, ngpus; min) and defaults.duration")
	}
	field := map[string]*int{"nnodes": &size.Nodes, "ncores": &size.Cores, "ngpus": &size.GPUs}[what]
	n, err := strconv.Atoi(value)
	if field == nil || err != nil || n < -1 || n > maxCount {
		return fmt.Errorf("must be nnodes, ncores or ngpus with a number (-1 for no limit)")
	}
	*field = max(n, 0)
	return nil
}

// Check refuses a job that the queue does not take; the error says why.
func (q *Queue) Check(j *Jobspec) error {
	if q.Limit > 0 && (j.Duration == 0 || j.Duration > q.Limit) {
		asked := "unlimited"
		if j.Duration > 0 {
			asked = FormatFSD(j.Duration)
		}
		return fmt.Errorf("requested duration (%s) exceeds the limit of queue %s, %s: set a time limit with -t", asked, q.Name, FormatFSD(q.Limit))
	}
	r := &j.Request
	slots := r.TotalSlots()
	for _, x := range []struct {
		what          string
		asked, lo, hi int
	}{{"nnodes", r.Nodes, q.Min.Nodes, q.Max.Nodes}, {"ncores", slots * r.Cores, q.Min.Cores, q.Max.Cores}, {"ngpus", slots * r.GPUs, q.Min.GPUs, q.Max.GPUs}} {
		switch {
		case x.hi > 0 && x.asked > x.hi:
			return fmt.Errorf("requested %s (%d) exceeds the limit of queue %s, %d", x.what, x.asked, q.Name, x.hi)
		case x.asked < x.lo:
			return fmt.Errorf("requested %s (%d) is less than queue %s takes, %d", x.what, x.asked, q.Name, x.lo)
		}
	}
	return nil
}

// Apply is the job as it stands in the queue: with the queue's name, the properties it requires, and its default time limit.
func (q *Queue) Apply(j *Jobspec) (*Jobspec, error) {
	k := *j
	k.System = maps.Clone(j.System)
	k.Queue = q.Name
	k.System["queue"] = q.Name
	if k.Duration == 0 && q.DefaultDuration > 0 {
		k.System["duration"] = q.DefaultDuration
	}
	if len(q.Requires) > 0 {
		all := []*Constraint{{Op: "properties", Names: slices.Clone(q.Requires)}}
		if j.Constraint != nil {
			all = append(all, j.Constraint)
		}
		k.System["constraints"] = join("and", mergeProperties(all)).Value()
	}
	text, err := k.JSON()
	if err != nil {
		return nil, err
	}
	return Parse(text)
}
