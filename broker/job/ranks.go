package job

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/resource/hostlist"
)

// maxNodeSpecs bounds how many specs a broker is made to remember.
const maxNodeSpecs = 4096

// rank is what the leader knows of one broker's exec service.
type rank struct {
	id      int32
	uuid    string
	session uint64 // 0 = none that may get starts
	latest  uint64 // the highest session of uuid: an earlier one that comes late by another way tells of the past
	last    time.Time
	lost    bool // its way broke; at last+lease+margin its runs are given up
	over    bool // they were: the session may not renew
	reason  string
	row     MemberRow
	runs    map[*elem]struct{}
	specs   map[uint64]struct{}
}

func (m *Machine) rank(id int32) *rank {
	r := m.ranks[id]
	if r == nil {
		r = &rank{id: id, runs: make(map[*elem]struct{}), specs: make(map[uint64]struct{}), last: m.clock}
		m.ranks[id] = r
	}
	return r
}

// dropSpecs forgets what the broker remembers, but for those just being sent.
func (r *rank) dropSpecs(keep []SpecEnv) []uint64 {
	for _, s := range keep {
		delete(r.specs, s.ID)
	}
	drop := make([]uint64, 0, len(r.specs))
	for id := range r.specs {
		drop = append(drop, id)
	}
	slices.Sort(drop)
	clear(r.specs)
	for _, s := range keep {
		r.specs[s.ID] = struct{}{}
	}
	return drop
}

// sortedRuns returns the runs by job id.
func (r *rank) sortedRuns() []*elem {
	es := make([]*elem, 0, len(r.runs))
	for e := range r.runs {
		es = append(es, e)
	}
	slices.SortFunc(es, func(a, b *elem) int { return cmp.Compare(a.id(), b.id()) })
	return es
}

func sortedRanks[V any](m map[int32]V) []int32 {
	ids := make([]int32, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (m *Machine) onMember(ev MemberChanged) {
	r := m.rank(ev.Row.Rank)
	if r.row != ev.Row {
		r.row = ev.Row
		m.txn.Members = append(m.txn.Members, ev.Row)
	}
	switch ev.Row.State {
	case "online":
		if r.uuid != "" && r.uuid != ev.Row.UUID {
			m.loseRank(r, "its broker was replaced")
		}
		if r.uuid != ev.Row.UUID {
			r.uuid, r.latest = ev.Row.UUID, 0
		}
		r.lost = false
	case "lost":
		m.silence(r, ev.Reason)
	default: // dead, left
		if r.uuid == "" || r.uuid == ev.Row.UUID {
			r.session = 0
			m.loseRank(r, orElse(ev.Reason, "its broker is "+ev.Row.State))
		}
		m.openGate(r.id)
	}
}

// silence: the way to a broker broke. What was not sent yet goes elsewhere; for the rest the lease runs.
func (m *Machine) silence(r *rank, reason string) {
	r.session, r.lost, r.reason = 0, true, orElse(reason, "no contact")
	m.unsend(r)
	m.timers.add(timer{at: m.deadline(r), rank: r.id, kind: timeLease})
}

func (m *Machine) deadline(r *rank) time.Time { return r.last.Add(m.cfg.Lease + LeaseMargin) }

// unsend takes back the starts that wait for the broker's session.
func (m *Machine) unsend(r *rank) {
	for _, e := range r.sortedRuns() {
		if p := e.part(r.id); p != nil && !p.sent && !e.held {
			m.partLost(e, p, r.reason, true)
		}
	}
}

// loseRank gives up all that ran on a broker.
func (m *Machine) loseRank(r *rank, reason string) {
	r.over, r.reason = true, reason
	for _, e := range r.sortedRuns() {
		if p := e.part(r.id); p != nil && !p.ended {
			m.partLost(e, p, reason, !p.sent)
		}
	}
}

func (e *elem) part(rank int32) *part {
	for i := range e.parts {
		if e.parts[i].rank == rank {
			return &e.parts[i]
		}
	}
	return nil
}

func (m *Machine) onSynced(ev Synced) {
	r := m.rank(ev.Rank)
	if r.uuid == ev.UUID && ev.Session <= r.latest {
		m.out.Stale = true
		return
	}
	if r.uuid != "" && r.uuid != ev.UUID {
		m.loseRank(r, "its broker was replaced")
	}
	r.uuid, r.session, r.latest, r.last, r.lost, r.over = ev.UUID, ev.Session, ev.Session, m.clock, false, false
	clear(r.specs)
	listed := make(map[RunKey]bool, len(ev.Runs))
	for i := range ev.Runs {
		if m.syncRun(r, &ev.Runs[i]) {
			listed[ev.Runs[i].Key] = true
		}
	}
	m.resume(r, listed)
	m.openGate(r.id)
}

// syncRun decides on one run that a broker has; true = it goes on.
func (m *Machine) syncRun(r *rank, run *SyncRun) bool {
	a, idx := m.find(run.Key.Job)
	if a == nil || idx < 0 || idx >= a.n {
		return m.unwanted(run)
	}
	if e := a.get(idx); e != nil && e.key() == run.Key && e.part(r.id) != nil {
		if a.limit != a.spec.Job.Duration { // it may not have heard of that
			m.limitRuns(a, []*elem{e})
		}
		return true
	}
	e := a.get(idx)
	adopting := e != nil && e.adopted && m.gated() && e.attempt == run.Key.Attempt && e.epoch == run.Key.Epoch && e.state == jobspec.StateRun
	switch {
	case adopting:
	case e != nil || !m.gated() || run.Key.Epoch >= m.epoch:
		return m.unwanted(run)
	default:
		if e = m.adoptElem(a, idx, run); e == nil {
			return m.unwanted(run)
		}
	}
	m.adoptPart(e, r, run)
	if a.limit != a.spec.Job.Duration {
		m.limitRuns(a, []*elem{e})
	}
	return true
}

func (m *Machine) unwanted(run *SyncRun) bool {
	if run.Ended {
		m.out.Forget = append(m.out.Forget, run.Key)
	} else {
		m.out.Kill = append(m.out.Kill, run.Key)
	}
	return false
}

// adoptElem makes a pending element active, as an earlier leader had started it; nil if it is not pending.
func (m *Machine) adoptElem(a *array, idx int, run *SyncRun) *elem {
	if !a.isPending(idx) || a.claimed[idx].Attempt > run.Key.Attempt {
		return nil // it has ended, or that attempt of it has, as the store knows
	}
	a.addSkip(idx, idx)
	m.meetAll(a)
	e := &elem{arr: a, idx: idx, attempt: run.Key.Attempt, epoch: run.Key.Epoch, status: -1, adopted: true, nnodes: run.NNodes,
		watched: a.watched, log: eventLog{last: a.submit}, state: jobspec.StateRun, tRun: orNow(run.Start, m.now), res: &resource.Alloc{}}
	if e.limit = a.limit; a.limit == a.spec.Job.Duration && a.spec.Job.MinDuration > 0 && run.End > e.tRun {
		e.limit = min(e.limit, run.End-e.tRun)
	}
	e.fails = a.claimed[idx].Failed
	e.log.addInt(evRestart, m.now, int64(e.attempt))
	m.activate(e)
	m.adjust(a)
	return e
}

func orNow(t, now float64) float64 {
	if t > 0 {
		return t
	}
	return now
}

func (m *Machine) adoptPart(e *elem, r *rank, run *SyncRun) {
	m.adoptions++
	id := uint64(1)<<63 | m.adoptions
	req := &e.arr.spec.Job.Request
	res := &resource.Alloc{Exclusive: req.Exclusive}
	for _, p := range run.Parts {
		res.Nodes = append(res.Nodes, resource.NodeAlloc{Node: p.Node, Cores: p.Cores, GPUs: p.GPUs, Slots: max(p.NTasks, 1), MemMiB: p.MemMiB})
		if len(p.GPUParts) > 0 {
			res.Nodes[len(res.Nodes)-1].GPUParts = &p.GPUParts
		}
		e.addPart(r.id, p)
	}
	e.part(r.id).sent = true
	all := *e.res
	all.Nodes = append(slices.Clone(all.Nodes), res.Nodes...)
	sort.Slice(all.Nodes, func(i, j int) bool { return all.Nodes[i].Node < all.Nodes[j].Node })
	e.res = &all
	e.allocs = append(e.allocs, id)
	r.runs[e] = struct{}{}
	al := Allocation{ID: id, Array: e.arr.id, Alloc: res}
	if e.limit > 0 {
		al.End = e.tRun + e.limit
	}
	if len(e.allocs) == 1 {
		al.Counters = req.Counters
	}
	m.out.Adopt = append(m.out.Adopt, al)
	if len(e.res.Nodes) >= e.nnodes {
		e.log.add(evAlloc, max(e.tRun, e.log.last), appendAlloc(nil, partsOf(e.res)))
		m.touch(e)
	}
}

// resume goes through what the leader believes to be on a broker after its sync.
func (m *Machine) resume(r *rank, listed map[RunKey]bool) {
	for _, e := range r.sortedRuns() {
		p := e.part(r.id)
		switch {
		case p == nil || p.ended || e.held || e.wants:
		case !p.sent:
			m.send(e, p, r)
		case !listed[e.key()]:
			m.partLost(e, p, "its start did not arrive", true)
		case e.fatal() || e.signaled || e.follows(p) && e.root().ended:
			m.kill(e, p, 15, true)
		}
	}
}

func (m *Machine) onRenewed(ev Renewed) {
	r := m.ranks[ev.Rank]
	if r == nil || r.uuid != ev.UUID || r.session != ev.Session || r.session == 0 {
		m.out.Stale = true
		return
	}
	r.last = m.clock
}

// kill signals an element on one broker.
func (m *Machine) kill(e *elem, p *part, sig int, end bool) {
	r := m.rank(p.rank)
	if r.session == 0 || !p.sent || p.ended {
		return // it hears of it when it syncs
	}
	if e.follows(p) && !e.root().ended {
		return // its leader sees to it
	}
	if n := len(m.out.Kills); n > 0 {
		if k := &m.out.Kills[n-1]; k.Rank == r.id && k.Signal == sig && k.End == end {
			k.Runs = append(k.Runs, e.key())
			return
		}
	}
	m.out.Kills = append(m.out.Kills, RankKill{r.id, r.session, []RunKey{e.key()}, sig, end})
}

func (m *Machine) nodelist(e *elem) string {
	if len(e.res.Nodes) == 1 {
		return m.nodes[e.res.Nodes[0].Node].name
	}
	names := make([]string, len(e.res.Nodes))
	for i := range e.res.Nodes {
		names[i] = m.nodes[e.res.Nodes[i].Node].name
	}
	return hostlist.Encode(names)
}

func (m *Machine) rankName(id int32) string {
	for _, n := range sortedNodes(m.nodes) {
		if m.nodes[n].rank == id {
			return fmt.Sprintf("node %s (rank %d)", m.nodes[n].name, id)
		}
	}
	return fmt.Sprintf("rank %d", id)
}

func sortedNodes(nodes map[int]nodeInfo) []int {
	ids := make([]int, 0, len(nodes))
	for id := range nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
