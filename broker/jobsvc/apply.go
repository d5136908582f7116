package jobsvc

import (
	"slices"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource/idset"
)

// apply carries out the machine's orders, the scheduler's first.
func (s *Service) apply(a *job.Actions) {
	s.machineAt = a.Wake
	s.toSched(a)
	s.toBranches(a)
	if s.cfg.Branch {
		s.toParent(a)
	}
	for i := range a.Params {
		s.loadParams(a.Params[i])
	}
	for i := range a.Starts {
		s.start(&a.Starts[i])
	}
	for i := range a.Kills {
		k := &a.Kills[i]
		s.out.Call(reactor.Call{Topic: api.ExecKill.Topic, Target: k.Rank, NoReply: true,
			Body: api.ExecKillReq{Session: k.Session, Runs: refs(k.Runs), Signal: k.Signal, End: k.End}})
	}
	for i := range a.Suspects {
		s.drain(&a.Suspects[i])
	}
	for _, g := range a.Gone {
		s.childGone(g)
	}
	for _, id := range a.Closed {
		s.dropChild(id)
	}
	s.tell(a)
	for _, l := range a.Lookups {
		s.lookInto(l)
	}
}

// drain takes nodes on which a prolog failed out of use, if it is asked for.
func (s *Service) drain(p *job.Suspect) {
	if !s.cfg.Drain {
		return
	}
	var nodes idset.Set
	for _, n := range p.Nodes {
		nodes.Add(n)
	}
	s.out.Call(reactor.Call{Topic: api.ResourceDrain.Topic, Target: wire.Any, NoReply: true,
		Body: api.DrainReq{Targets: nodes.String(), Reason: p.Note + " (job " + p.Job.String() + ")"}})
}

func (s *Service) toSched(a *job.Actions) {
	if len(a.Queue) > 0 {
		groups := make([]api.SchedGroup, len(a.Queue))
		for i, q := range a.Queue {
			j := q.Spec.Job
			groups[i] = api.SchedGroup{ID: api.GroupID(q.Array), Request: j.Request, Constraint: j.Constraint, Duration: q.Duration,
				Priority: q.Priority, Order: uint64(q.Array), Count: q.Count, MinLength: j.MinDuration}
		}
		s.out.Notify("sched", api.SchedSubmit{Groups: groups})
	}
	for _, p := range a.Priorities {
		s.out.Notify("sched", api.SchedPriority{ID: api.GroupID(p.Array), Priority: p.Priority})
	}
	for i := range a.Limits {
		s.limit(&a.Limits[i])
	}
	for _, d := range a.Dequeue {
		s.out.Notify("sched", api.SchedCancel{ID: api.GroupID(d.Array), Count: d.Count})
	}
	if len(a.Adopt) > 0 {
		allocs := make([]api.SchedAlloc, len(a.Adopt))
		for i, al := range a.Adopt {
			allocs[i] = api.SchedAlloc{ID: al.ID, Group: api.GroupID(al.Array), Alloc: al.Alloc, End: al.End, Counters: al.Counters}
		}
		s.out.Notify("sched", api.SchedAdopt{Allocs: allocs})
	}
	if len(a.Free) > 0 {
		s.out.Notify("sched", api.SchedFree{IDs: a.Free})
	}
	if a.Hold != nil && !*a.Hold {
		late := s.late
		s.late = nil
		for _, f := range late {
			f()
		}
	}
	if a.Hold != nil && !s.stopping {
		s.out.Notify("sched", api.SchedHold{Hold: *a.Hold})
	}
}

// startsBranch tells whether a spec is that of a branch.
func (s *Service) startsBranch(b *job.RankStarts, spec uint64) bool {
	return slices.ContainsFunc(b.Runs, func(r job.Run) bool { return r.SpecID == spec && slices.Contains(s.m.System(), r.Key.Job) })
}

func (s *Service) start(b *job.RankStarts) {
	req := api.ExecStartReq{Session: b.Session, Drop: b.Drop, Starts: make([]api.StartItem, 0, len(b.Runs))}
	for _, sp := range b.Specs {
		spec := api.Spec{ID: sp.ID, JSON: sp.Spec.JSON, Parsed: sp.Spec.Job, Prolog: s.cfg.Prolog, Epilog: s.cfg.Epilog}
		if sp.Env != nil {
			spec.Env = sp.Env.Data
		}
		if sp.Spec.Job.Instance != nil && s.startsBranch(b, sp.ID) {
			spec.Prolog, spec.Epilog = "", "" // they are for users' jobs, which have them where they run
		}
		req.Specs = append(req.Specs, spec)
	}
	size := 0
	for i := range b.Runs {
		r := &b.Runs[i]
		if size += listSize(r.Params); size > maxStartBytes {
			s.sendStarts(b.Rank, req)
			req, size = api.ExecStartReq{Session: b.Session}, listSize(r.Params)
		}
		req.Starts = append(req.Starts, api.StartItem{Ref: ref(r.Key), Spec: r.SpecID, Array: r.Array, Index: r.Index, Size: r.Size, CC: r.CC, BCC: r.BCC,
			Parts: nodeParts(r.Parts), NTasks: r.NTasks, NNodes: r.NNodes, Nodelist: r.Nodelist, Limit: r.Limit, Watched: r.Watched,
			Taskmap: r.Taskmap, Root: r.Root, Brokers: r.Brokers, Params: r.Params, Vars: r.Vars})
	}
	s.sendStarts(b.Rank, req)
}

// maxStartBytes bounds the parameters in one message, well below a frame's 16 MiB.
const maxStartBytes = 4 << 20

func (s *Service) sendStarts(rank int32, req api.ExecStartReq) {
	s.out.Call(reactor.Call{Topic: api.ExecStart.Topic, Target: rank, NoReply: true, Body: req})
}

func nodeParts(ps []job.Part) []api.NodePart {
	out := make([]api.NodePart, len(ps))
	for i := range ps {
		p := &ps[i]
		out[i] = api.NodePart{Node: p.Node, NodeID: p.NodeID, Cores: p.Cores, GPUs: p.GPUs, FirstTask: p.FirstTask, NTasks: p.NTasks,
			MemMiB: p.MemMiB, GPUParts: p.GPUParts}
	}
	return out
}

func ref(k job.RunKey) api.RunRef { return api.RunRef{Job: k.Job, Attempt: k.Attempt, Epoch: k.Epoch} }

func key(r api.RunRef) job.RunKey {
	return job.RunKey{Job: r.Job, Attempt: r.Attempt, Epoch: r.Epoch}
}

func refs(ks []job.RunKey) []api.RunRef {
	out := make([]api.RunRef, len(ks))
	for i, k := range ks {
		out[i] = ref(k)
	}
	return out
}

func (s *Service) onAllocs(in api.SchedAllocs) {
	ev := job.Allocated{Allocs: make([]job.Allocation, 0, len(in.Allocs))}
	for i := range in.Allocs {
		a := &in.Allocs[i]
		ev.Allocs = append(ev.Allocs, job.Allocation{ID: a.ID, Array: jobspec.ID(a.Group), Alloc: a.Alloc, End: a.End})
	}
	s.step(ev)
}

func (s *Service) onSync(r *rpc.Request, req api.ExecSyncReq) error {
	ev := job.Synced{Rank: req.Rank, UUID: req.UUID, Session: req.Session, Runs: make([]job.SyncRun, len(req.Runs))}
	for i := range req.Runs {
		run := &req.Runs[i]
		parts := make([]job.Part, len(run.Parts))
		for k := range run.Parts {
			p := &run.Parts[k]
			parts[k] = job.Part{Node: p.Node, NodeID: p.NodeID, Cores: p.Cores, GPUs: p.GPUs, FirstTask: p.FirstTask, NTasks: p.NTasks,
				MemMiB: p.MemMiB, GPUParts: p.GPUParts}
		}
		ev.Runs[i] = job.SyncRun{Key: key(run.Ref), Parts: parts, NNodes: run.NNodes, Start: run.Start, End: run.End, Ended: run.Ended}
	}
	// The answer goes before the starts that follow from the sync: exec drops starts of a session that is not confirmed.
	a := s.m.Step(s.now, ev)
	if a.Stale {
		s.apply(a)
		return wire.Errorf(wire.Resync, "that session is over")
	}
	s.out.Reply(r, api.ExecSyncRep{Kill: refs(a.Kill), Forget: refs(a.Forget), Lease: s.cfg.Lease.Seconds()})
	s.apply(a)
	return nil
}

func (s *Service) onRenew(r *rpc.Request, req api.ExecRenewReq) error {
	if s.step(job.Renewed{Rank: req.Rank, UUID: req.UUID, Session: req.Session}).Stale {
		return wire.Errorf(wire.Resync, "that session is over")
	}
	s.out.Reply(r, api.Empty{})
	return nil
}

// onReport takes records; the answer waits until they are durable.
func (s *Service) onReport(r *rpc.Request, req api.ExecReportReq) error {
	ev := job.Reported{Rank: req.Rank, UUID: req.UUID, Session: req.Session, Records: make([]job.Record, len(req.Records))}
	for i := range req.Records {
		c := &req.Records[i]
		ev.Records[i] = job.Record{Kind: job.RecordKind(c.Kind), Key: key(c.Ref), Time: c.Time, Status: c.Status, Start: c.Start, MaxRSS: c.MaxRSS,
			CPU: c.CPU, Task: c.Task, Stream: c.Stream, Offset: c.Offset, Data: c.Data, Type: c.Type, Severity: c.Severity, Note: c.Note, Signal: c.Signal}
	}
	if s.step(ev).Stale {
		return wire.Errorf(wire.Resync, "that session is over")
	}
	s.whenDurable(func(out *reactor.Out, _ error) { out.Reply(r, api.Empty{}) })
	return nil
}

// committer is the state of group commit: at most one is under way, the next is filled meanwhile.
type committer struct {
	busy    bool
	gen     uint64 // of the one under way
	last    time.Time
	due     time.Time // when the next may go; zero = nothing to commit, or one is under way
	retryAt time.Time // after a failure
	failed  int       // commits since the last that succeeded
	err     error     // of the last of them; nil = it succeeded
	replies map[uint64][]pending
}

// pending waits for a commit. A failed one gives it the error if it was a submission; others wait for the next try.
type pending struct {
	f      func(*reactor.Out, error)
	submit bool
}

// whenDurable calls f when all that the machine has written so far is durable.
func (s *Service) whenDurable(f func(*reactor.Out, error)) { s.await(pending{f: f}) }

func (s *Service) await(p pending) {
	c := &s.committer
	switch {
	case s.m.Dirty():
		c.replies[s.m.Gen()] = append(c.replies[s.m.Gen()], p)
	case c.busy:
		c.replies[c.gen] = append(c.replies[c.gen], p)
	default:
		p.f(s.out, nil)
	}
}

// relaxed is how much longer the ends of elements wait while their arrays go on: a commit costs as much as a tenth of a job.
const relaxed = 8

func (s *Service) commitIfDue() {
	c := &s.committer
	c.due = time.Time{}
	if c.busy || !s.m.Dirty() {
		return
	}
	window := s.cfg.Window
	if s.m.Relaxed() {
		window *= relaxed
	}
	at := c.last.Add(window)
	if c.retryAt.After(at) {
		at = c.retryAt
	}
	if at.After(s.now) {
		c.due = at
		return
	}
	c.busy, c.gen, c.last = true, s.m.Gen(), s.now
	s.out.Do(&job.Commit{Txn: s.m.TakeTxn()})
}

const (
	commitRetry = time.Second // how long a failed commit waits for its next try
	lastTries   = 5           // failures after which an instance that is shutting down waits no longer
)

func (s *Service) onCommitted(err error) {
	c := &s.committer
	c.busy = false
	replies := c.replies[c.gen]
	delete(c.replies, c.gen)
	if err != nil {
		s.refused(replies, err)
		return
	}
	c.retryAt, c.failed, c.err = time.Time{}, 0, nil
	s.step(job.Committed{})
	for _, p := range replies {
		p.f(s.out, nil)
	}
}

// refused: submissions of the failed commit get the error and are forgotten; everything else is tried again.
func (s *Service) refused(replies []pending, err error) {
	s.out.Log("error", "commit failed, trying again", "err", err)
	s.committer.retryAt = s.now.Add(commitRetry)
	s.committer.failed++
	s.committer.err = err
	s.step(job.Refused{})
	e := wire.Errorf(wire.Unavailable, "the state directory cannot be written: %v; nothing was submitted", err)
	for _, p := range replies {
		if p.submit {
			p.f(s.out, e)
		} else {
			s.await(p)
		}
	}
}
