package exec

import (
	"cmp"
	"slices"
)

// A fence is one exchange among the brokers of a job: each gives pairs once all its tasks are in a PMI barrier, and all get the pairs
// of all. The broker of the job's first node, its root, collects them. broker/api/exec.go has the protocol.
type fence struct {
	seq   int
	of    int                // brokers of the job
	from  map[int32][]string // pairs by rank
	keys  map[int32]any      // the request of each that waits for an answer
	last  []string           // what the fence before gave: an answer that was lost is asked for again
	since int64              // when it was first asked for
}

// strayFence is how long the root keeps a fence of a run that it does not have.
const strayFence = int64(600e9)

// fenceRetry is when a broker asks again after its call failed.
const fenceRetry = int64(500e6)

// fenceAsk is a run's own call for the fence that its tasks wait in.
type fenceAsk struct {
	seq   int
	call  uint64 // 0 = it failed, and goes again at fenceAt
	pairs []string
}

// taskFence: all tasks of a run here are in a barrier.
func (m *Machine) taskFence(r *run, pairs []string) {
	r.fences++
	if r.job.Brokers <= 1 {
		m.act(Fence{r.job.ID, pairs})
		return
	}
	r.ask = &fenceAsk{seq: r.fences, pairs: pairs}
	m.askFence(r)
}

func (m *Machine) askFence(r *run) {
	m.calls++
	r.ask.call = m.calls
	m.asks[m.calls] = r
	m.act(CallFence{Call: m.calls, Root: r.job.Root, Ref: r.job.Ref, Seq: r.ask.seq, Rank: m.contact.Rank, Of: r.job.Brokers, Pairs: r.ask.pairs})
}

func (m *Machine) onFenceReply(ev FenceReply) {
	r := m.asks[ev.Call]
	delete(m.asks, ev.Call)
	if r == nil || r.over || r.ask == nil || r.ask.call != ev.Call {
		return
	}
	if ev.Failed {
		r.ask.call = 0
		r.fenceAt = m.now + fenceRetry
		m.reschedule(r)
		return
	}
	if r.ask = nil; r.prepared() {
		m.launch(r)
		return
	}
	m.act(Fence{r.job.ID, ev.Pairs})
}

// onFenceAsked is the root's side.
func (m *Machine) onFenceAsked(ev FenceAsked) {
	f := m.fences[ev.Ref]
	switch r := m.runs[ev.Ref]; {
	case m.past.has(ev.Ref) || r != nil && r.over:
		m.act(FenceDone{Keys: []any{ev.Key}, Failed: true})
		return
	case f == nil:
		m.dropStrays()
		f = &fence{seq: 1, of: ev.Of, from: map[int32][]string{}, keys: map[int32]any{}, since: m.now}
		m.fences[ev.Ref] = f
	}
	switch ev.Seq {
	case f.seq - 1:
		m.act(FenceDone{Keys: []any{ev.Key}, Pairs: f.last})
		return
	case f.seq:
	default:
		m.act(FenceDone{Keys: []any{ev.Key}, Failed: true})
		return
	}
	f.from[ev.Rank], f.keys[ev.Rank] = ev.Pairs, ev.Key
	if len(f.from) == f.of {
		m.completeFence(f)
	}
}

func (m *Machine) completeFence(f *fence) {
	done := FenceDone{Pairs: []string{}}
	for _, rank := range sortedRanks(f.from) {
		done.Pairs = append(done.Pairs, f.from[rank]...)
		done.Keys = append(done.Keys, f.keys[rank])
	}
	f.seq++
	f.last = done.Pairs
	clear(f.from)
	clear(f.keys)
	m.act(done)
}

// endFences: the run is over here, and nobody's barrier will be complete any more.
func (m *Machine) endFences(r *run) {
	if r.ask != nil {
		delete(m.asks, r.ask.call)
		r.ask = nil
	}
	if f := m.fences[r.job.Ref]; f != nil {
		m.failFence(r.job.Ref, f)
	}
}

func (m *Machine) failFence(ref Ref, f *fence) {
	delete(m.fences, ref)
	done := FenceDone{Failed: true}
	for _, rank := range sortedRanks(f.keys) {
		done.Keys = append(done.Keys, f.keys[rank])
	}
	if len(done.Keys) > 0 {
		m.act(done)
	}
}

// dropStrays gives up fences whose run never came.
func (m *Machine) dropStrays() {
	var stray []Ref
	for ref, f := range m.fences {
		if m.runs[ref] == nil && m.now-f.since > strayFence {
			stray = append(stray, ref)
		}
	}
	slices.SortFunc(stray, func(a, b Ref) int { return cmp.Compare(a.Job, b.Job) })
	for _, ref := range stray {
		m.failFence(ref, m.fences[ref])
	}
}

func sortedRanks[V any](m map[int32]V) []int32 {
	ranks := make([]int32, 0, len(m))
	for r := range m {
		ranks = append(ranks, r)
	}
	slices.Sort(ranks)
	return ranks
}

// taskAborted: a task ends its job with a status of its choice (MPI_Abort).
func (m *Machine) taskAborted(r *run, ev *TaskEvent) {
	if r.failed || r.ending {
		return
	}
	r.failed, r.status = true, ev.Status
	m.record(r, Record{Kind: RecException, Type: typeExec, Note: ev.Note, Status: ev.Status})
	m.end(r, sigTERM, r.killTimeout())
}
