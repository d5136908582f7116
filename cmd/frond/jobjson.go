package main

import (
	"encoding/json"

	"github.com/frond-hpc/frond/jobspec"
)

// jobJSON is a job as `flux jobs --json` shows it: ids as integers, states and results by name, keys only for what is known. The
// keys from reason on are Frond's own.
type jobJSON struct {
	ID             uint64          `json:"id"`
	UserID         uint32          `json:"userid"`
	Username       string          `json:"username"`
	Urgency        int             `json:"urgency"`
	Priority       uint32          `json:"priority"`
	TSubmit        float64         `json:"t_submit,omitzero"`
	TDepend        float64         `json:"t_depend,omitzero"`
	TRun           float64         `json:"t_run,omitzero"`
	TCleanup       float64         `json:"t_cleanup,omitzero"`
	TInactive      float64         `json:"t_inactive,omitzero"`
	State          string          `json:"state"`
	Status         string          `json:"status"`
	StatusAbbrev   string          `json:"status_abbrev"`
	Result         string          `json:"result,omitzero"`
	Success        *bool           `json:"success,omitzero"`
	ReturnCode     *int            `json:"returncode,omitzero"`
	WaitStatus     *int            `json:"waitstatus,omitzero"`
	InactiveReason string          `json:"inactive_reason,omitzero"`
	Name           string          `json:"name"`
	Cwd            string          `json:"cwd,omitzero"`
	Queue          string          `json:"queue,omitzero"`
	NTasks         int             `json:"ntasks"`
	NCores         int             `json:"ncores,omitzero"`
	NNodes         int             `json:"nnodes,omitzero"`
	Ranks          string          `json:"ranks,omitzero"`
	Nodelist       string          `json:"nodelist,omitzero"`
	Duration       float64         `json:"duration"`
	Expiration     float64         `json:"expiration,omitzero"`
	Runtime        *float64        `json:"runtime,omitzero"`
	TRemaining     float64         `json:"t_remaining,omitzero"`
	Exception      exceptionJSON   `json:"exception"`
	Annotations    *annotationJSON `json:"annotations,omitzero"`

	Dependencies []string `json:"dependencies,omitzero"`

	Reason  string  `json:"reason,omitzero"`
	Array   uint64  `json:"array,omitzero"`
	Index   *int    `json:"index,omitzero"`
	CC      string  `json:"cc,omitzero"`
	Attempt int     `json:"attempt"`
	MaxRSS  int64   `json:"maxrss_kib"`
	CPU     float64 `json:"cpu_seconds"`
}

type exceptionJSON struct {
	Occurred bool   `json:"occurred"`
	Type     string `json:"type,omitzero"`
	Severity *int   `json:"severity,omitzero"`
	Note     string `json:"note,omitzero"`
}

type annotationJSON struct {
	Sched schedJSON       `json:"sched,omitzero"`
	User  json.RawMessage `json:"user,omitzero"` // memos
}

type schedJSON struct {
	ReasonPending string  `json:"reason_pending"`
	TEstimate     float64 `json:"t_estimate,omitzero"`
}

// json is the job for programs.
func (j jobView) json() *jobJSON {
	out := &jobJSON{ID: uint64(j.ID), UserID: j.UserID, Username: j.username(), Urgency: j.Urgency, Priority: j.Priority,
		TSubmit: j.TSubmit, TDepend: j.TDepend, TRun: j.TRun, TCleanup: j.TCleanup, TInactive: j.TInactive,
		State: j.state().String(), Status: jobspec.Status(j.state(), j.result()), StatusAbbrev: jobspec.StatusAbbrev(j.state(), j.result()),
		Name: j.Name, Cwd: j.Cwd, Queue: j.Queue, NTasks: j.NTasks, NCores: j.NCores, NNodes: j.NNodes, Ranks: j.Ranks, Nodelist: j.Nodelist,
		Duration: j.Duration, Expiration: j.Expiration, TRemaining: j.remaining(), Reason: j.Reason, Array: uint64(j.Array), CC: j.CC,
		Dependencies: j.Dependencies, Attempt: j.Attempt, MaxRSS: j.MaxRSSKiB, CPU: j.CPU}
	if j.TRun != 0 {
		out.Runtime = new(j.runtime())
	}
	if j.HasStatus {
		out.WaitStatus = &j.WaitStatus
	}
	if j.Array != 0 {
		out.Index = &j.Index
	}
	if j.ExcOccurred {
		out.Exception = exceptionJSON{true, j.ExcType, &j.ExcSeverity, j.ExcNote}
	}
	j.jsonOfEnd(out)
	if j.Memo != "" {
		if out.Annotations == nil {
			out.Annotations = &annotationJSON{}
		}
		out.Annotations.User = json.RawMessage(j.Memo)
	}
	return out
}

// jsonOfEnd fills in what is known of an inactive job only, or why an active one waits.
func (j jobView) jsonOfEnd(out *jobJSON) {
	if !j.inactive() {
		if j.Reason != "" {
			out.Annotations = &annotationJSON{}
			out.Annotations.Sched.ReasonPending, out.Annotations.Sched.TEstimate = j.Reason, j.TEstimate
		}
		return
	}
	out.Result, out.Success, out.ReturnCode = j.result().String(), &j.Success, new(j.returnCode())
	out.InactiveReason = text(j.inactiveReason())
}
