package main

import (
	"encoding/json"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
)

// jobHeaders are the fields of `frond jobs -o` and their headers: Flux's, and at the end Frond's own.
var jobHeaders = map[string]string{
	"id": "JOBID", "id.dec": "JOBID", "id.f58": "JOBID", "id.f58plain": "JOBID", "id.hex": "JOBID", "id.dothex": "JOBID", "id.kvs": "JOBID",
	"userid": "UID", "username": "USER", "urgency": "URG", "priority": "PRI",
	"state": "STATE", "state_single": "S", "status": "STATUS", "status_abbrev": "ST", "name": "NAME", "cwd": "CWD", "queue": "QUEUE",
	"uri": "URI", "uri.local": "URI", "ntasks": "NTASKS", "ncores": "NCORES", "nnodes": "NNODES", "ranks": "RANKS", "nodelist": "NODELIST",
	"duration": "DURATION", "expiration": "EXPIRATION", "t_remaining": "T_REMAINING", "runtime": "RUNTIME",
	"t_submit": "T_SUBMIT", "t_depend": "T_DEPEND", "t_run": "T_RUN", "t_cleanup": "T_CLEANUP", "t_inactive": "T_INACTIVE",
	"success": "SUCCESS", "result": "RESULT", "result_abbrev": "RS", "waitstatus": "WSTATUS", "returncode": "RC",
	"exception.occurred": "EXCEPTION-OCCURRED", "exception.severity": "EXCEPTION-SEVERITY",
	"exception.type": "EXCEPTION-TYPE", "exception.note": "EXCEPTION-NOTE",
	"annotations": "ANNOTATIONS", "annotations.sched.reason_pending": "REASON", "sched.reason_pending": "REASON", "dependencies": "DEPENDENCIES",
	"contextual_info": "INFO", "contextual_time": "TIME", "inactive_reason": "INACTIVE-REASON",
	"reason": "REASON", "array": "ARRAY", "index": "INDEX", "cc": "CC", "attempt": "ATTEMPT", "maxrss": "MAXRSS", "cpu": "CPU", "efficiency": "EFF",
	"nelements": "ELEMENTS", "t_estimate": "T_ESTIMATE", "annotations.sched.t_estimate": "T_ESTIMATE", "sched.t_estimate": "T_ESTIMATE",
}

func jobHeader(name string) (string, bool) {
	h, ok := jobHeaders[name]
	if rest := strings.TrimPrefix(name, "annotations."); !ok && strings.HasPrefix(rest, "user.") && rest != "user." {
		return strings.ToUpper(rest), true
	}
	return h, ok
}

// jobView computes the fields of one job record at a point in time.
type jobView struct {
	*api.JobInfo
	now   float64           // epoch seconds
	ascii bool              // ids with a plain f
	users map[uint32]string // names already looked up, shared by all rows
}

func (j jobView) state() jobspec.State   { return jobspec.State(j.State) }
func (j jobView) result() jobspec.Result { return jobspec.Result(j.Result) }
func (j jobView) inactive() bool         { return j.state() == jobspec.StateInactive }

// field is the value of a field; nil where the job has none yet.
func (j jobView) field(name string) any {
	group, rest, _ := strings.Cut(name, ".")
	switch group {
	case "id":
		return j.idField(rest)
	case "exception":
		return j.exceptionField(rest)
	case "annotations", "sched":
		if key, ok := strings.CutPrefix(rest, "user."); ok {
			return j.memo(key)
		}
		return j.annotation(rest)
	case "user":
		return j.memo(rest)
	case "uri":
		return j.uriField(rest)
	}
	if v, ok := j.timeField(name); ok {
		return v
	}
	if v, ok := j.stateField(name); ok {
		return v
	}
	return j.plainField(name)
}

// uriField is where a job is reached that is an instance; nil of others.
func (j jobView) uriField(form string) any {
	uri := memoURI(j.JobInfo)
	if uri == "" {
		return nil
	}
	if local, err := localURI(uri); form == "local" && err == nil {
		return local
	}
	return uri
}

func (j jobView) idField(encoding string) any {
	switch encoding {
	case "", "f58":
		return j.f58()
	case "dec":
		return uint64(j.shown())
	}
	s, err := j.shown().Encode(encoding)
	if err != nil {
		return nil
	}
	return s
}

// shown is the id to show: of a collapsed record the array's.
func (j jobView) shown() jobspec.ID {
	if j.NElements > 1 && j.Array != 0 {
		return j.Array
	}
	return j.ID
}

func (j jobView) f58() string {
	if j.ascii {
		return j.shown().F58Plain()
	}
	return j.shown().String()
}

func (j jobView) exceptionField(part string) any {
	if part == "occurred" {
		return j.ExcOccurred
	}
	if !j.ExcOccurred {
		return nil
	}
	switch part {
	case "severity":
		return j.ExcSeverity
	case "type":
		return j.ExcType
	}
	return j.ExcNote
}

// tellsReason tells whether a field needs to know why jobs wait.
func tellsReason(field string) bool {
	group, _, _ := strings.Cut(field, ".")
	return slices.Contains([]string{"annotations", "sched", "reason", "contextual_info", "t_estimate"}, group)
}

func (j jobView) annotation(path string) any {
	if j.Reason == "" || j.inactive() {
		return nil
	}
	switch {
	case strings.HasSuffix(path, "reason_pending"):
		return j.Reason
	case strings.HasSuffix(path, "t_estimate"):
		return unset(j.TEstimate)
	}
	sched := map[string]any{"reason_pending": j.Reason}
	if j.TEstimate > 0 {
		sched["t_estimate"] = j.TEstimate
	}
	return jsonValue{map[string]any{"sched": sched}}
}

// memo is what frond job memo has noted under a key; a dot leads into an object.
func (j jobView) memo(key string) any {
	var v any
	if j.Memo == "" || json.Unmarshal([]byte(j.Memo), &v) != nil {
		return nil
	}
	for part := range strings.SplitSeq(key, ".") {
		object, _ := v.(map[string]any)
		v = object[part]
	}
	switch x := v.(type) {
	case nil, string, bool:
		return v
	case float64:
		return jsonNumber(x)
	}
	return jsonValue{v}
}

// jsonNumber is a number as it was written: 3, not 3.0.
func jsonNumber(x float64) any {
	if n := int(x); float64(n) == x {
		return n
	}
	return x
}

func (j jobView) timeField(name string) (any, bool) {
	switch name {
	case "t_submit":
		return unset(j.TSubmit), true
	case "t_depend":
		return unset(j.TDepend), true
	case "t_run":
		return unset(j.TRun), true
	case "t_cleanup":
		return unset(j.TCleanup), true
	case "t_inactive":
		return unset(j.TInactive), true
	case "expiration":
		return unset(j.Expiration), true
	case "duration":
		return j.Duration, true
	case "runtime":
		return j.runtime(), true
	case "t_estimate":
		return unset(j.TEstimate), true
	case "t_remaining":
		return j.remaining(), true
	case "contextual_time":
		return j.contextualTime(), true
	}
	return nil, false
}

// unset turns the zero time into no value.
func unset(t float64) any {
	if t == 0 {
		return nil
	}
	return t
}

// runtime is how long the job has run, in seconds; 0 before it ran.
func (j jobView) runtime() float64 {
	end := j.now
	switch {
	case j.TRun == 0:
		return 0
	case j.TCleanup > 0:
		end = j.TCleanup
	case j.TInactive > 0:
		end = j.TInactive
	}
	return max(0, end-j.TRun)
}

func (j jobView) remaining() float64 {
	if j.state()&jobspec.StatesRunning == 0 || j.Expiration == 0 {
		return 0
	}
	return max(0, j.Expiration-j.now)
}

// contextualTime is the run time of a job that runs or ran, else the time limit it asked for.
func (j jobView) contextualTime() any {
	if j.state()&jobspec.StatesPending == 0 {
		return j.runtime()
	}
	if j.Duration > 0 {
		return j.Duration
	}
	return nil
}

func (j jobView) stateField(name string) (any, bool) {
	switch name {
	case "state":
		return j.state().String(), true
	case "state_single":
		return j.state().Abbrev(), true
	case "status":
		return jobspec.Status(j.state(), j.result()), true
	case "status_abbrev":
		return jobspec.StatusAbbrev(j.state(), j.result()), true
	case "result":
		return j.result().String(), true
	case "result_abbrev":
		return j.result().Abbrev(), true
	case "success":
		return onlyIf(j.inactive(), j.Success), true
	case "waitstatus":
		return onlyIf(j.HasStatus, j.WaitStatus), true
	case "returncode":
		return onlyIf(j.inactive(), j.returnCode()), true
	case "inactive_reason":
		return j.inactiveReason(), true
	case "contextual_info":
		return j.contextualInfo(), true
	}
	return nil, false
}

func onlyIf(ok bool, v any) any {
	if !ok {
		return nil
	}
	return v
}

func (j jobView) returnCode() int { return jobspec.ReturnCode(j.WaitStatus, j.HasStatus, j.result()) }

// progress says how far an array is: "17/100 done (2 failed), 80 pending: waits for 1 core".
func (j jobView) progress() string {
	s := fmt.Sprintf("%d/%d done", j.Ended, j.Size)
	if j.Incomplete > 0 {
		s += fmt.Sprintf(" (%d failed)", j.Incomplete)
	}
	s += fmt.Sprintf(", %d pending", j.NElements)
	if j.Reason != "" {
		s += ": " + j.Reason
	} else if len(j.Dependencies) > 0 {
		s += ": depends:" + strings.Join(j.Dependencies, ",")
	}
	return s
}

// contextualInfo is what one most wants to know in the job's state: why it waits, or where it runs or ran.
func (j jobView) contextualInfo() string {
	switch s := j.state(); {
	case s == jobspec.StateCleanup && j.Reason != "":
		return j.Reason
	case s&jobspec.StatesPending == 0:
		return j.Nodelist
	case j.NElements > 1:
		return j.progress()
	case s == jobspec.StateDepend:
		return "depends:" + strings.Join(j.Dependencies, ",")
	case s == jobspec.StatePriority:
		return "priority-wait"
	case s == jobspec.StateSched && j.Priority == 0:
		return "held"
	}
	return j.Reason
}

// inactiveReason says in a word or two how the job ended.
func (j jobView) inactiveReason() any {
	if !j.inactive() {
		return nil
	}
	switch sig := jobspec.WaitSignal(j.WaitStatus); {
	case j.result() == jobspec.ResultCanceled:
		return noted("Canceled", j.ExcNote)
	case j.result() == jobspec.ResultTimeout:
		return "Timeout"
	case j.HasStatus && sig != 0:
		return signalName(sig)
	case j.HasStatus && jobspec.ExitCode(j.WaitStatus) > 128:
		return signalName(jobspec.ExitCode(j.WaitStatus) - 128)
	case j.ExcOccurred && j.ExcSeverity == 0:
		return noted("Exception", "type="+j.ExcType+" "+j.ExcNote)
	}
	return fmt.Sprintf("Exit %d", j.returnCode())
}

func noted(what, note string) string {
	if note = strings.TrimSpace(note); note != "" {
		return what + ": " + note
	}
	return what
}

// signalName describes a signal as strsignal does, with a capital: "Killed", "Terminated".
func signalName(n int) string {
	s := syscall.Signal(n).String()
	return strings.ToUpper(s[:1]) + s[1:]
}

func (j jobView) plainField(name string) any {
	switch name {
	case "userid":
		return int(j.UserID)
	case "username":
		return j.username()
	case "urgency":
		return j.Urgency
	case "priority":
		return uint64(j.Priority)
	case "name":
		return j.Name
	case "cwd":
		return j.Cwd
	case "queue":
		return j.Queue
	case "ntasks":
		return j.NTasks
	case "ncores":
		return count(j.NCores)
	case "nnodes":
		return count(j.NNodes)
	case "ranks":
		return j.Ranks
	case "nodelist":
		return j.Nodelist
	case "dependencies":
		return strings.Join(j.Dependencies, ",")
	}
	return j.ownField(name)
}

// count is a number that is empty where it is 0: not known yet.
func count(n int) any { return onlyIf(n != 0, n) }

// ownField is a field that Flux has not.
func (j jobView) ownField(name string) any {
	switch name {
	case "reason":
		return j.Reason
	case "array":
		return onlyIf(j.Array != 0, jobView{JobInfo: &api.JobInfo{ID: j.Array}, ascii: j.ascii}.f58())
	case "index":
		return onlyIf(j.Array != 0, j.Index)
	case "cc":
		return j.CC
	case "attempt":
		return j.Attempt
	case "nelements":
		return count(j.NElements)
	case "maxrss":
		return onlyIf(j.MaxRSSKiB != 0, int(j.MaxRSSKiB))
	case "cpu":
		return onlyIf(j.inactive() && j.TRun != 0, j.CPU)
	case "efficiency":
		return onlyIf(j.inactive() && j.TRun != 0, efficiency(j.CPU, j.runtime()*float64(max(1, j.NCores))))
	}
	return nil
}

func (j jobView) username() string {
	if name, ok := j.users[j.UserID]; ok {
		return name
	}
	uid := strconv.FormatUint(uint64(j.UserID), 10)
	name := uid
	if u, err := user.LookupId(uid); err == nil {
		name = u.Username
	}
	if j.users != nil {
		j.users[j.UserID] = name
	}
	return name
}
