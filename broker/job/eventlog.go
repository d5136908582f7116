package job

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/jobspec"
)

// An element's events are kept as bytes: for each the code, the time since the one before in microseconds (zigzag varint; the first
// counts from the submission) and its context (varint length, bytes). The events every element of an array shares, submit to
// priority, are not in it: they follow from the ArrayRow. Names and contexts are Flux's (RFC 21).
type code byte

const (
	evAlloc     code = 1 + iota // context: the allocation, see appendAlloc
	evStart                     // none
	evFinish                    // varint status
	evRelease                   // none: ranks "all", final
	evFree                      // none
	evClean                     // none
	evException                 // JSON
	evRetry                     // JSON {attempt, status?, rank, node, reason}
	evRestart                   // varint attempt: "flux-restart", the element may have run under an earlier leader
	evUrgency                   // JSON
	evDependAdd                 // JSON, as the following
	evDependRemove
	evDepend // none
	evPriority
	evUpdate // jobspec-update
	evMemo
	evGrant // varint number of the grant, path of the branch
)

// Events that brokers tell of (job/perilog.go).
const (
	evPrologStart  code = 64 + iota // JSON {description}
	evPrologFinish                  // JSON {description, status}
	evEpilogStart
	evEpilogFinish
)

var codeNames = map[code]string{evPrologStart: "prolog-start", evPrologFinish: "prolog-finish", evEpilogStart: "epilog-start", evEpilogFinish: "epilog-finish",
	evAlloc: "alloc", evStart: "start", evFinish: "finish", evRelease: "release", evFree: "free",
	evClean: "clean", evException: "exception", evRetry: "retry", evRestart: "flux-restart", evUrgency: "urgency",
	evDependAdd: "dependency-add", evDependRemove: "dependency-remove", evDepend: "depend", evPriority: "priority", evUpdate: "jobspec-update", evMemo: "memo", evGrant: "grant"}

// Event is one decoded entry. Context is JSON text, empty without one.
type Event struct {
	Time    float64 // epoch seconds
	Name    string
	Context string
}

// eventLog builds the bytes.
type eventLog struct {
	buf  []byte
	last float64 // time of the last entry; at first the submission's
}

func (l *eventLog) add(c code, t float64, ctx []byte) {
	l.buf = append(l.buf, byte(c))
	l.buf = binary.AppendVarint(l.buf, int64(math.Round((t-l.last)*1e6)))
	l.buf = binary.AppendUvarint(l.buf, uint64(len(ctx)))
	l.buf = append(l.buf, ctx...)
	l.last = t
}

func (l *eventLog) addInt(c code, t float64, v int64) {
	var ctx [binary.MaxVarintLen64]byte
	l.add(c, t, ctx[:binary.PutVarint(ctx[:], v)])
}

// rawEvent is an entry before its context is turned into JSON.
type rawEvent struct {
	code code
	time float64
	ctx  []byte
}

// errLog is what a damaged log gives.
var errLog = fmt.Errorf("damaged eventlog")

// scanLog calls f for each entry.
func scanLog(buf []byte, submit float64, f func(rawEvent) error) error {
	t := submit
	for len(buf) > 0 {
		c := code(buf[0])
		d, n := binary.Varint(buf[1:])
		if n <= 0 {
			return errLog
		}
		buf = buf[1+n:]
		size, n := binary.Uvarint(buf)
		if n <= 0 || size > uint64(len(buf)-n) {
			return errLog
		}
		t += float64(d) / 1e6
		if err := f(rawEvent{c, t, buf[n : n+int(size)]}); err != nil {
			return err
		}
		buf = buf[n+int(size):]
	}
	return nil
}

// Eventlog returns the whole log of an element: the shared beginning from its array's row, then what log holds.
func Eventlog(a *ArrayRow, log []byte) ([]Event, error) {
	events := []Event{
		{a.Submit, "submit", fmt.Sprintf(`{"userid":%d,"urgency":%d,"flags":%d,"version":1}`, a.User, a.Urgency, a.Flags)},
		{a.Submit, "validate", ""},
	}
	shared, err := readLog(a.Log, a.Submit)
	if err != nil {
		return events, err
	}
	own, err := readLog(log, a.Submit)
	if len(shared) == 0 || shared[0].Name != "dependency-add" {
		events = append(events, Event{a.Submit, "depend", ""}, Event{a.Submit, "priority", string(priorityContext(a.Urgency))})
	}
	return append(events, merge(shared, own)...), err
}

func readLog(log []byte, submit float64) (events []Event, err error) {
	err = scanLog(log, submit, func(e rawEvent) error {
		ctx, err := e.context()
		if err != nil {
			return err
		}
		events = append(events, Event{e.time, codeNames[e.code], ctx})
		return nil
	})
	return events, err
}

// merge puts the events of an array among those of an element, by time, up to the element's end.
func merge(shared, own []Event) []Event {
	if len(shared) == 0 {
		return own
	}
	out := make([]Event, 0, len(shared)+len(own))
	for _, e := range own {
		for len(shared) > 0 && shared[0].Time <= e.Time {
			out, shared = append(out, shared[0]), shared[1:]
		}
		out = append(out, e)
	}
	if n := len(own); n > 0 && own[n-1].Name == "clean" {
		return out
	}
	return append(out, shared...)
}

func (e rawEvent) context() (string, error) {
	switch e.code {
	case evFinish:
		v, n := binary.Varint(e.ctx)
		if n <= 0 {
			return "", errLog
		}
		return `{"status":` + strconv.FormatInt(v, 10) + `}`, nil
	case evRelease:
		return `{"ranks":"all","final":true}`, nil
	case evAlloc:
		parts, err := decodeAlloc(e.ctx)
		if err != nil {
			return "", err
		}
		return `{"annotations":{"sched":{"resource_summary":` + strconv.Quote(summary(parts)) + `}}}`, nil
	case evException, evRetry, evUrgency, evDependAdd, evDependRemove, evPriority, evUpdate, evMemo, evPrologStart, evPrologFinish, evEpilogStart, evEpilogFinish:
		return string(e.ctx), nil
	case evRestart:
		v, n := binary.Varint(e.ctx)
		if n <= 0 {
			return "", errLog
		}
		return `{"attempt":` + strconv.FormatInt(v, 10) + `}`, nil
	case evGrant:
		v, n := binary.Uvarint(e.ctx)
		if n <= 0 {
			return "", errLog
		}
		return `{"grant":` + strconv.FormatUint(v, 10) + `,"branch":` + strconv.Quote(string(e.ctx[n:])) + `}`, nil
	case evStart, evFree, evClean, evDepend:
		return "", nil
	}
	return "", errLog
}

// AllocPart is what an element had of one node, as the log keeps it.
type AllocPart struct {
	Node        int
	Cores, GPUs string // idsets; of gpus with their hundredths where they are shared (resource.ParseGPUs)
}

// LastAlloc returns the resources of the last attempt in the log; nil if it never had any.
func LastAlloc(log []byte) ([]AllocPart, error) {
	var parts []AllocPart
	err := scanLog(log, 0, func(e rawEvent) (err error) {
		if e.code == evAlloc {
			parts, err = decodeAlloc(e.ctx)
		}
		return err
	})
	return parts, err
}

func appendAlloc(buf []byte, parts []AllocPart) []byte {
	for _, p := range parts {
		buf = binary.AppendUvarint(buf, uint64(p.Node))
		for _, s := range [2]string{p.Cores, p.GPUs} {
			buf = binary.AppendUvarint(buf, uint64(len(s)))
			buf = append(buf, s...)
		}
	}
	return buf
}

func decodeAlloc(b []byte) ([]AllocPart, error) {
	var parts []AllocPart
	for len(b) > 0 {
		node, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errLog
		}
		b = b[n:]
		p := AllocPart{Node: int(node)}
		for _, s := range [2]*string{&p.Cores, &p.GPUs} {
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return nil, errLog
			}
			*s, b = string(b[n:n+int(size)]), b[n+int(size):]
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// summary is Flux's resource_summary of the allocation.
func summary(parts []AllocPart) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "rank%d/core[%s]", p.Node, p.Cores)
		if p.GPUs != "" {
			fmt.Fprintf(&b, ",gpu[%s]", p.GPUs)
		}
	}
	return b.String()
}

// State is what a log says of its element: the fold over its events.
type State struct {
	State   jobspec.State
	Result  jobspec.Result // 0 while active
	Status  int            // wait status of the last attempt, -1 = none
	Attempt uint32
	TRun    float64
	TEnd    float64
	Exc     *Exception // the first fatal one, else the last other
}

// Exception is a posted exception.
type Exception struct {
	Type     string `json:"type"`
	Severity int    `json:"severity"`
	Note     string `json:"note"`
}

// Fold replays a log. The machine's own view of an element is always this fold (checked in its tests).
func Fold(urgency int, submit float64, log []byte) (State, error) {
	s := State{State: jobspec.StateSched, Status: -1, Attempt: 1}
	err := scanLog(log, submit, func(e rawEvent) error {
		s.step(e)
		return nil
	})
	return s, err
}

func (s *State) step(e rawEvent) {
	switch e.code {
	case evAlloc:
		s.State, s.TRun = jobspec.StateRun, e.time
	case evFinish:
		v, _ := binary.Varint(e.ctx)
		s.State, s.Status = jobspec.StateCleanup, int(v)
	case evRetry:
		s.State, s.TRun, s.Attempt, s.Status = jobspec.StateSched, 0, s.Attempt+1, -1
	case evRestart:
		v, _ := binary.Varint(e.ctx)
		s.State, s.TRun, s.Attempt = jobspec.StateSched, 0, uint32(v)
	case evException:
		x := parseException(e.ctx)
		if s.Exc == nil || s.Exc.Severity > 0 {
			s.Exc = x
		}
		if x.Severity == 0 {
			s.State = jobspec.StateCleanup
		}
	case evClean:
		s.State, s.TEnd = jobspec.StateInactive, e.time
		s.Result = result(s.Status, s.Exc)
	}
}

// result is Flux's rule (RFC 21): ran to status 0 is completed; else by the root exception; else failed.
func result(status int, exc *Exception) jobspec.Result {
	fatal := exc != nil && exc.Severity == 0
	switch {
	case status == 0:
		return jobspec.ResultCompleted
	case fatal && exc.Type == "cancel":
		return jobspec.ResultCanceled
	case fatal && exc.Type == "timeout":
		return jobspec.ResultTimeout
	}
	return jobspec.ResultFailed
}

func parseException(ctx []byte) *Exception {
	var x Exception
	if err := json.Unmarshal(ctx, &x); err != nil {
		return &Exception{Type: "damaged", Severity: 7, Note: err.Error()}
	}
	return &x
}

// Priority is Flux's default priority of an urgency (RFC 30): 31 goes before all others.
func Priority(urgency int) uint32 {
	if urgency >= 31 {
		return math.MaxUint32
	}
	return uint32(max(urgency, 0))
}
