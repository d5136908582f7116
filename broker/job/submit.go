package job

import (
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
)

func (m *Machine) onSubmitted(ev Submitted) {
	for i := range ev.Items {
		it := &ev.Items[i]
		if it.NewSpec {
			m.txn.Specs = append(m.txn.Specs, SpecRow{it.Spec.ID, it.Spec.JSON})
		}
		if it.NewEnv {
			m.txn.Envs = append(m.txn.Envs, EnvRow{it.Env.ID, it.Env.Data})
		}
		a := m.newArray(&ArrayRow{ID: m.newID(it.N), N: it.N, CC: it.CC, BCC: it.BCC, Urgency: it.Urgency, Flags: it.Flags, User: it.User,
			Submit: m.now, Params: it.Params, Digest: it.Digest, Indexes: it.Indexes, Size: it.Size}, it.Spec, it.Env)
		a.watched, a.follow = it.Watched, it.Followed
		row := a.row()
		row.Token = it.Token
		m.txn.Arrays = append(m.txn.Arrays, *row)
		m.dependOn(a, it.Depends) // its log is in a row of its own
		m.txn.LastID = m.lastID
		m.next.arrays = append(m.next.arrays, a)
		m.addArray(a)
		m.listen(a)
		m.out.IDs = append(m.out.IDs, a.id)
	}
}

func (m *Machine) onAllocated(ev Allocated) {
	for i := range ev.Allocs {
		al := &ev.Allocs[i]
		a := m.arrays[al.Array]
		var e *elem
		if a != nil && !a.delegated { // else what is asked for is what branches may have
			a.asked = max(a.asked-1, 0)
			if a.urgency > 0 && m.want(a) > 0 {
				e = m.takePending(a)
			}
		}
		if e == nil { // cancelled or held meanwhile
			m.out.Free = append(m.out.Free, al.ID)
			if a != nil {
				m.adjust(a)
			}
			continue
		}
		m.allocate(e, al)
	}
}

// takePending makes the next element of a active, those that ran before first; nil if there is none.
func (m *Machine) takePending(a *array) *elem {
	var e *elem
	if i := a.firstAgain(); i >= 0 {
		e = a.again[i]
		a.removeAgain(i)
	} else if idx := a.popEligible(); idx >= 0 {
		e = m.newElem(a, idx, 1, 0)
		if !a.hiDirty {
			a.hiDirty = true
			m.dirty = append(m.dirty, a)
		}
	} else {
		return nil
	}
	m.activate(e)
	return e
}

// newElem makes an element's state. What an earlier leader may have started begins with a later attempt.
func (m *Machine) newElem(a *array, idx int, attempt uint32, fails int) *elem {
	e := &elem{arr: a, idx: idx, attempt: attempt, fails: fails, status: -1, watched: a.watched, log: eventLog{last: a.submit}}
	if a.wait != nil && a.wait.corr && a.eligible(idx) {
		e.logCorr(m.now)
	}
	if attempt == 1 && (idx < a.hi || a.tried.Has(idx)) {
		e.attempt = 2
	}
	if !a.tried.Empty() {
		a.tried.RemoveRange(idx, idx)
	}
	a.logGrant(e, m.now)
	if e.attempt > 1 {
		if m.rerun(a) { // so that the next leader does not give this number to another attempt
			m.txn.Retried = append(m.txn.Retried, e.startRow(e.attempt, ""))
		}
		e.log.addInt(evRestart, m.now, int64(e.attempt))
	}
	return e
}

func (m *Machine) activate(e *elem) {
	e.arr.put(e)
	e.arr.pending--
	e.arr.running++
	m.totals.Pending--
	m.totals.Running++
}

func (m *Machine) allocate(e *elem, al *Allocation) {
	e.state, e.epoch, e.alloc, e.res, e.tRun = jobspec.StateRun, m.epoch, al.ID, al.Alloc, m.now
	e.after = nil
	e.started, e.status, e.failed, e.lost, e.ran, e.signaled, e.adopted, e.killed, e.risen = false, -1, 0, "", false, false, false, false, false
	m.awaitInstance(e)
	e.log.add(evAlloc, m.now, appendAlloc(nil, partsOf(al.Alloc)))
	if e.limit = e.arr.limit; e.arr.spec.Job.MinDuration > 0 && al.End > m.now {
		e.limit = min(e.limit, al.End-m.now)
	}
	m.touch(e)
	m.layParts(e)
	m.equip(e)
	if !m.rerun(e.arr) {
		m.txn.Starts = append(m.txn.Starts, e.startRow(e.attempt, m.nodes[al.Alloc.Nodes[0].Node].name))
		m.next.held = append(m.next.held, heldStart{e, e.attempt})
		e.held = true
		return
	}
	m.startAll(e)
}

// layParts lays the tasks over the nodes of the allocation and groups the nodes by broker.
func (m *Machine) layParts(e *elem) {
	e.parts = e.parts[:0:0]
	tasks := m.tasksPerNode(e)
	first := 0
	for i := range e.res.Nodes {
		n := &e.res.Nodes[i]
		p := Part{Node: n.Node, NodeID: i, Cores: n.Cores, GPUs: n.GPUs, FirstTask: first, NTasks: tasks[i],
			MemMiB: e.arr.spec.Job.Request.MemMiB * int64(n.Slots)}
		if n.GPUParts != nil {
			p.GPUParts = *n.GPUParts
		}
		first += tasks[i]
		rank := m.nodes[n.Node].rank
		e.addPart(rank, p)
	}
	for i := range e.parts {
		m.rank(e.parts[i].rank).runs[e] = struct{}{}
	}
}

func (e *elem) addPart(rank int32, p Part) {
	for i := range e.parts {
		if e.parts[i].rank == rank {
			e.parts[i].parts = append(e.parts[i].parts, p)
			return
		}
	}
	e.parts = append(e.parts, part{rank: rank, parts: []Part{p}})
}

// tasksPerNode is TasksPerNode, and for an instance one for each broker, on the first of its nodes.
func (m *Machine) tasksPerNode(e *elem) []int {
	if e.arr.spec.Job.Instance == nil {
		return TasksPerNode(e.arr.spec.Job, e.res)
	}
	return InstanceTasks(e.res, func(node int) int32 { return m.nodes[node].rank })
}

// InstanceTasks says on which nodes of an allocation an instance has a task: on the first of each broker.
func InstanceTasks(res *resource.Alloc, broker func(node int) int32) []int {
	tasks := make([]int, len(res.Nodes))
	seen := make(map[int32]bool, len(tasks))
	for i := range res.Nodes {
		if b := broker(res.Nodes[i].Node); !seen[b] {
			seen[b] = true
			tasks[i] = 1
		}
	}
	return tasks
}

// TasksPerNode says how many tasks each node of an allocation gets.
func TasksPerNode(j *jobspec.Jobspec, res *resource.Alloc) []int {
	tasks := make([]int, len(res.Nodes))
	switch {
	case j.TaskCount.PerNode > 0:
		for i := range tasks {
			tasks[i] = j.TaskCount.PerNode
		}
	case j.TaskCount.PerCore > 0:
		for i := range tasks {
			tasks[i] = j.TaskCount.PerCore * res.Nodes[i].Cores.Count()
		}
	case j.TaskCount.Total > 0:
		dealTasks(tasks, res, j.TaskCount.Total)
	default:
		for i := range tasks {
			tasks[i] = max(j.TaskCount.PerSlot, 1) * max(res.Nodes[i].Slots, 1)
		}
	}
	return tasks
}

// dealTasks deals n tasks in turn to the nodes that still have a free slot; when none has, all are refilled.
func dealTasks(tasks []int, res *resource.Alloc, n int) {
	for rounds := 1; n > 0; rounds++ {
		for progress := true; progress && n > 0; {
			progress = false
			for i := range tasks {
				if n > 0 && tasks[i] < rounds*max(res.Nodes[i].Slots, 1) {
					tasks[i]++
					n--
					progress = true
				}
			}
		}
	}
}

// startAll sends what has not been sent yet to the brokers whose session is known; the others get it when they sync.
func (m *Machine) startAll(e *elem) {
	if e.wants || e.held {
		return
	}
	for i := range e.parts {
		if p := &e.parts[i]; !p.sent {
			if r := m.rank(p.rank); r.session != 0 {
				m.send(e, p, r)
			}
		}
	}
}

func (m *Machine) send(e *elem, p *part, r *rank) {
	p.sent = true
	b := m.batch[r.id]
	if b == nil {
		b = &RankStarts{Rank: r.id, Session: r.session}
		m.batch[r.id] = b
	}
	key := e.arr.specKey()
	if _, ok := r.specs[key]; !ok {
		if len(r.specs) >= maxNodeSpecs {
			b.Drop = append(b.Drop, r.dropSpecs(b.Specs)...)
		}
		r.specs[key] = struct{}{}
		b.Specs = append(b.Specs, SpecEnv{key, e.arr.spec, e.arr.env})
	}
	b.Runs = append(b.Runs, m.run(e, p))
	if e.params != nil && e.sent() {
		e.params = nil
		m.dropParams(e.arr)
	}
}

// sent tells whether all parts of the element have been sent.
func (e *elem) sent() bool {
	for i := range e.parts {
		if !e.parts[i].sent {
			return false
		}
	}
	return true
}

func (m *Machine) run(e *elem, p *part) Run {
	a := e.arr
	run := Run{Key: e.key(), SpecID: a.specKey(), Index: a.shown(e.idx), Size: a.n, CC: a.cc(e.idx), BCC: a.bcc, Parts: p.parts,
		NNodes: len(e.res.Nodes), Limit: e.limit, Watched: e.watched, Params: e.params, Vars: a.aftermathVars()}
	if a.n > 1 || a.indexText != "" {
		run.Array = a.id
	}
	if a.indexText != "" {
		run.Size = a.originSize
	}
	for i := range e.parts {
		for j := range e.parts[i].parts {
			run.NTasks += e.parts[i].parts[j].NTasks
		}
	}
	run.Nodelist = m.nodelist(e)
	if run.NTasks > 1 {
		run.Root, run.Brokers = e.parts[0].rank, len(e.parts)
		if run.NNodes > 1 {
			run.Taskmap = taskmap(e)
		}
	}
	return run
}

// taskmap is how many tasks each node of an element has.
func taskmap(e *elem) string {
	tasks := make([]int, len(e.res.Nodes))
	for i := range e.parts {
		for j := range e.parts[i].parts {
			p := &e.parts[i].parts[j]
			if p.NodeID < len(tasks) {
				tasks[p.NodeID] = p.NTasks
			}
		}
	}
	return jobspec.BlockMap(tasks).String()
}

func (m *Machine) flushStarts() {
	if len(m.batch) == 0 {
		return
	}
	for _, id := range sortedRanks(m.batch) {
		m.out.Starts = append(m.out.Starts, *m.batch[id])
	}
	clear(m.batch)
}

// touch notes that a watched element has new events.
func (m *Machine) touch(e *elem) {
	if e.watched {
		m.out.Touched = append(m.out.Touched, e.id())
	}
}
