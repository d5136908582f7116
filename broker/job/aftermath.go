package job

import (
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/jobspec"
)

// A job that was submitted together with others and waits for their end (dependency on @ITEM) is told in its environment how they ended:
// frond submit --on-finish. What it is told stands in its log, in dependency-remove, so that it is the same under the next leader.

// aftermath is how the jobs of a dependency ended. The zero value stands for none.
type aftermath struct {
	Result jobspec.Result `json:"result"`
	Status int            `json:"status"` // the largest, -1 = none has one
	Failed int            `json:"failed"` // jobs that did not complete
}

// severity orders results: what is said of several is that of the last here.
var severity = map[jobspec.Result]int{jobspec.ResultCompleted: 1, jobspec.ResultCanceled: 2, jobspec.ResultTimeout: 3, jobspec.ResultFailed: 4}

// count adds n jobs that ended alike.
func (f *aftermath) count(o *Outcome, n int) {
	end := aftermath{Result: o.Result, Status: o.Status}
	if !o.OK {
		end.Failed = n
	}
	f.add(&end)
}

func (f *aftermath) add(o *aftermath) {
	if f.Result == 0 {
		*f = *o
		return
	}
	if severity[o.Result] > severity[f.Result] {
		f.Result = o.Result
	}
	f.Status = max(f.Status, o.Status)
	f.Failed += o.Failed
}

// code is the exit code that stands for it.
func (f *aftermath) code() int {
	code := 0
	if f.Status >= 0 {
		code = jobspec.ExitCode(f.Status)
	}
	if code == 0 && f.Failed > 0 {
		return 1
	}
	return code
}

// aftermathVars are the variables that tell a of the jobs it waited for; nil = it was not submitted with any.
func (a *array) aftermathVars() []string {
	if a.wait == nil {
		return a.vars
	}
	var ids []string
	var all aftermath
	for i := range a.wait.deps {
		if d := &a.wait.deps[i]; d.Ref.Item > 0 {
			ids = append(ids, d.to.Array.String())
			all.add(&d.end)
		}
	}
	if ids == nil {
		return nil
	}
	status := ""
	if all.Status >= 0 {
		status = strconv.Itoa(all.Status)
	}
	return []string{"FROND_FINISHED_ID=" + strings.Join(ids, " "), "FROND_RESULT=" + strings.ToLower(all.Result.String()), "FROND_STATUS=" + status,
		"FROND_EXIT_CODE=" + strconv.Itoa(all.code()), "FROND_FAILED=" + strconv.Itoa(all.Failed)}
}
