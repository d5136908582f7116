package execsvc

import (
	"math"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

func refOf(r api.RunRef) exec.Ref { return exec.Ref{Job: r.Job, Attempt: r.Attempt, Epoch: r.Epoch} }

func refsOf(list []api.RunRef) []exec.Ref {
	refs := make([]exec.Ref, len(list))
	for i, r := range list {
		refs[i] = refOf(r)
	}
	return refs
}

func refTo(r exec.Ref) api.RunRef {
	return api.RunRef{Job: r.Job, Attempt: r.Attempt, Epoch: r.Epoch}
}

// startRuns converts a batch. The parts of all its starts share one array.
func startRuns(req *api.ExecStartReq) (any, error) {
	ev := exec.StartRuns{Session: req.Session, Drop: req.Drop, Starts: make([]exec.Start, len(req.Starts))}
	for i := range req.Specs {
		ev.Specs = append(ev.Specs, specOf(&req.Specs[i]))
	}
	n := 0
	for i := range req.Starts {
		n += len(req.Starts[i].Parts)
	}
	parts := make([]exec.Part, 0, n)
	for i := range req.Starts {
		it := &req.Starts[i]
		from := len(parts)
		for _, p := range it.Parts {
			parts = append(parts, exec.Part{Node: p.Node, NodeID: p.NodeID, Cores: p.Cores, GPUs: p.GPUs, FirstTask: p.FirstTask, NTasks: p.NTasks,
				MemMiB: p.MemMiB, GPUParts: p.GPUParts})
		}
		ev.Starts[i] = exec.Start{Ref: refOf(it.Ref), SpecID: it.Spec, Array: it.Array, Index: it.Index, Size: it.Size, CC: it.CC, BCC: it.BCC,
			Parts: parts[from:len(parts):len(parts)], NTasks: it.NTasks, NNodes: it.NNodes, Nodelist: it.Nodelist, Limit: seconds(it.Limit), Watched: it.Watched,
			Taskmap: it.Taskmap, Root: it.Root, Brokers: it.Brokers, Params: it.Params, Vars: it.Vars}
	}
	return ev, nil
}

// specOf takes a spec as the leader's own broker gets it, or parses what came over the tree.
func specOf(s *api.Spec) *exec.Spec {
	spec := &exec.Spec{ID: s.ID, Job: s.Parsed, Env: s.Env, Prolog: s.Prolog, Epilog: s.Epilog}
	if spec.Job == nil {
		job, err := jobspec.Parse(s.JSON)
		if spec.Job = job; err != nil {
			spec.Job, spec.Bad = nil, err.Error()
		}
	}
	return spec
}

func killRuns(req *api.ExecKillReq) (any, error) {
	return exec.KillRuns{Session: req.Session, Runs: refsOf(req.Runs), Signal: req.Signal, End: req.End}, nil
}

func setLimits(req *api.ExecLimitReq) (any, error) {
	return exec.SetLimits{Session: req.Session, Runs: refsOf(req.Runs), Limit: seconds(req.Limit)}, nil
}

func input(req *api.ExecInputReq) (any, error) {
	return exec.Input{Session: req.Session, Run: refOf(req.Run), Task: req.Task, Data: req.Data, EOF: req.EOF,
		Window: exec.Window{Rows: req.Rows, Cols: req.Cols}}, nil
}

func fenceAsked(r *rpc.Request) func(*api.ExecFenceReq) (any, error) {
	return func(req *api.ExecFenceReq) (any, error) {
		if req.Of < 1 || req.Seq < 1 {
			return nil, wire.Errorf(wire.Invalid, "fence %d of %d brokers", req.Seq, req.Of)
		}
		return exec.FenceAsked{Key: r, Ref: refOf(req.Run), Seq: req.Seq, Rank: req.Rank, Of: req.Of, Pairs: req.Pairs}, nil
	}
}

func fenceReply(call uint64, res *rpc.Response) exec.FenceReply {
	rep, err := api.ExecFence.DecodeReply(res)
	return exec.FenceReply{Call: call, Failed: err != nil, Pairs: rep.Pairs}
}

func syncReply(session uint64, res *rpc.Response) exec.SyncReply {
	rep, err := api.ExecSync.DecodeReply(res)
	if err != nil {
		return exec.SyncReply{Session: session, Failed: true}
	}
	return exec.SyncReply{Session: session, Kill: refsOf(rep.Kill), Forget: refsOf(rep.Forget), Lease: seconds(rep.Lease)}
}

// seconds converts, short of what a Duration cannot hold.
func seconds(s float64) time.Duration { return time.Duration(min(s*1e9, math.MaxInt64/4)) }

func (s *Service) syncReq(a exec.CallSync) api.ExecSyncReq {
	req := api.ExecSyncReq{Rank: s.contact.Rank, UUID: s.cfg.UUID, Incarnation: s.contact.Incarnation, Session: a.Session, Runs: make([]api.RunState, len(a.Runs))}
	for i := range a.Runs {
		r := &a.Runs[i]
		parts := make([]api.NodePart, len(r.Parts))
		for k, p := range r.Parts {
			parts[k] = api.NodePart{Node: p.Node, NodeID: p.NodeID, Cores: p.Cores, GPUs: p.GPUs, FirstTask: p.FirstTask, NTasks: p.NTasks,
				MemMiB: p.MemMiB, GPUParts: p.GPUParts}
		}
		req.Runs[i] = api.RunState{Ref: refTo(r.Ref), Parts: parts, Start: r.Start, End: r.End, Ended: r.Ended, NNodes: r.NNodes}
	}
	return req
}

func (s *Service) reportReq(a exec.CallReport) api.ExecReportReq {
	recs := make([]api.Record, len(a.Records))
	for i := range a.Records {
		r := &a.Records[i]
		recs[i] = api.Record{Kind: api.RecordKind(r.Kind), Ref: refTo(r.Ref), Time: r.Time, Status: r.Status, Start: r.Start, NTasks: r.NTasks,
			MaxRSS: r.MaxRSS, CPU: r.CPU, Task: r.Task, Stream: r.Stream, Offset: r.Offset, Data: r.Data, EOF: r.EOF, Type: r.Type,
			Severity: r.Severity, Note: r.Note, Signal: r.Signal}
	}
	return api.ExecReportReq{Rank: s.contact.Rank, UUID: s.cfg.UUID, Session: a.Session, Records: recs}
}
