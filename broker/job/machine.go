package job

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/frond-hpc/frond/broker/branch"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
)

// Machine is the state of all unfinished jobs of an instance. One goroutine owns it.
type Machine struct {
	cfg    Config
	epoch  uint64
	arrays map[jobspec.ID]*array
	order  []jobspec.ID // ids of arrays, ascending; may hold ended ones
	lastID jobspec.ID
	nodes  map[int]nodeInfo
	ranks  map[int32]*rank
	txn    *Txn   // what the next commit will write
	gen    uint64 // of txn
	// taken transactions, oldest first
	taken   []*inflight
	next    inflight // what txn's commit will bring about
	timers  timers
	gate    map[int32]string // recovery: brokers (uuid) of the leader before that may still run something
	gateAt  time.Time
	queues  map[string]*queue
	names   map[string]int      // arrays by name of their own
	singles map[string][]*array // those that wait to be the only one of their name, in order of submission
	claims  []claim             // recovery: durable starts not yet accounted for
	// adoptions numbers the allocations of adopted runs
	adoptions uint64
	unstored  int      // elements that ended and are not yet durable
	stash     []uint64 // allocations that are given back when fewer of those are left
	totals    Totals
	levels    [maxUrgency + 1]int // unfinished arrays by urgency
	out       *Actions
	now       float64
	clock     time.Time
	system    map[jobspec.ID]bool         // arrays with FlagSystem
	ledger    *branch.Ledger              // what branches hold
	unlisted  bool                        // a branch: its parent has not said yet what it holds
	list      *Listed                     // it has, but it is not known yet what runs
	fits      func(*jobspec.Jobspec) bool // nil = there are no branches
	batch     map[int32]*RankStarts
	dirty     []*array // arrays whose hi is to be written
	failing   []*array // arrays in which too many elements failed
	logs      []*array // arrays whose log is to be written
	none      extra    // of all arrays that have nothing of it
	// expiration is when the instance ends (epoch seconds, 0 = unknown), warnAt when jobs are to be warned of it next, 0 = not.
	expiration, warnAt float64
	late               []lateEnd
	shrunk             map[uint64]bool // grants of which something came back in this step
	uneven             []*array        // arrays of which the scheduler may have to be asked for more or fewer
}

// Totals counts elements. Failed are all that did not complete. Purged ones are not among the others.
type Totals struct{ Pending, Running, Inactive, Failed, Canceled, TimedOut, Purged int }

type nodeInfo struct {
	rank int32
	name string
}

// inflight is what follows when a transaction is durable.
type inflight struct {
	completes bool // an array is complete by it
	gen       uint64
	txn       *Txn
	arrays    []*array // their submission
	ended     []*elem
	ranges    []endedRange
	held      []heldStart // starts that waited for it
	grants    []Granted
}

// heldStart is an attempt of a rerun=no element.
type heldStart struct {
	e       *elem
	attempt uint32
}

type endedRange struct {
	arr  *array
	span Span
	end  ending
}

// ending is how elements ended that have no state of their own here.
type ending struct {
	result jobspec.Result
	status int
	exc    *Exception
	ran    bool
	time   float64
}

// New makes a machine from what the store holds.
func New(cfg Config) (*Machine, *Actions, error) {
	m := &Machine{cfg: cfg, queues: make(map[string]*queue), names: make(map[string]int), singles: make(map[string][]*array), arrays: make(map[jobspec.ID]*array), nodes: make(map[int]nodeInfo), ranks: make(map[int32]*rank),
		system: make(map[jobspec.ID]bool), ledger: branch.NewLedger(), shrunk: make(map[uint64]bool), txn: &Txn{}, batch: make(map[int32]*RankStarts), epoch: 1, expiration: cfg.Expiration}
	m.none.shared = true
	m.begin(cfg.Now)
	if m.unlisted = cfg.Branch; cfg.Branch {
		hold := true
		m.out.Hold = &hold
	}
	if cfg.Loaded != nil {
		if err := m.load(cfg.Loaded); err != nil {
			return nil, nil, err
		}
	}
	return m, m.end(), nil
}

// Step takes one event. The returned actions are the caller's.
func (m *Machine) Step(now time.Time, ev any) *Actions {
	m.begin(now)
	switch ev := ev.(type) {
	case Submitted:
		m.onSubmitted(ev)
	case Uploaded:
		m.onUploaded(ev)
	case ParamsLoaded:
		m.onParamsLoaded(ev)
	case Committed:
		m.onCommitted()
	case Refused:
		m.onRefused()
	case Allocated:
		m.onAllocated(ev)
	case Denied:
		m.onDenied(ev)
	case NodesKnown:
		for i := range ev.Nodes {
			m.nodes[ev.Nodes[i].Index] = nodeInfo{ev.Nodes[i].Broker, ev.Nodes[i].Name}
		}
	case MemberChanged:
		m.onMember(ev)
	case Synced:
		m.onSynced(ev)
	case Renewed:
		m.onRenewed(ev)
	case Reported:
		m.onReported(ev)
	case Raised:
		m.onRaised(ev)
	case Expires:
		m.onExpires(ev)
	case Signalled:
		m.onSignalled(ev)
	case Changed:
		m.onChanged(ev)
	case QueueChanged:
		m.onQueueChanged(ev)
	case Risen:
		m.onRisen(ev)
	case Looked:
		m.onLooked(ev)
	case Forgotten:
		m.onForgotten(ev)
	case Split:
		m.onSplit(ev)
	case Take:
		m.onTake(ev)
	case Acked:
		m.onAcked(ev)
	case Forfeited:
		m.onForfeited(ev)
	case Received:
		m.onReceived(ev)
	case Set:
		m.onSet(ev)
	case Unequipped:
		m.onUnequipped(ev)
	case TakeBack:
		m.onTakeBack(ev)
	case Listed:
		m.onListed(ev)
	case Cast:
		m.onCast(ev)
	case Awaited:
		m.onAwaited(ev)
	case Tick:
	default:
		panic(fmt.Sprintf("job machine: unknown event %T", ev))
	}
	m.runTimers()
	return m.end()
}

func (m *Machine) begin(now time.Time) {
	m.out = &Actions{}
	m.clock = now
	m.now = float64(now.UnixNano()) / 1e9
}

func (m *Machine) end() *Actions {
	out := m.out
	m.endFailing()
	m.throttle()
	m.writeShrunk()
	m.flushDemand()
	m.flushStarts()
	if len(m.timers) > 0 {
		out.Wake = m.timers[0].at
	}
	m.out = nil
	return out
}

// maxUnstored is how many ended elements may wait for the store. Beyond it their resources are not given back yet, so that what
// runs waits for the store, and memory stays bounded however slow it is.
const maxUnstored = 16384

func (m *Machine) throttle() {
	if m.unstored > maxUnstored {
		m.stash, m.out.Free = append(m.stash, m.out.Free...), nil
	} else if len(m.stash) > 0 {
		m.stash, m.out.Free = nil, append(m.stash, m.out.Free...)
	}
}

// Epoch is the leader's epoch.
func (m *Machine) Epoch() uint64 { return m.epoch }

// Totals counts all elements, those ended in the past included, but for those of the system.
func (m *Machine) Totals() Totals {
	t := m.totals
	for id := range m.system {
		if a := m.arrays[id]; a != nil {
			t.Pending -= a.pending
			t.Running -= a.n - a.pending - a.durably
		}
	}
	return t
}

// System are the ids of the unfinished arrays of the instance itself.
func (m *Machine) System() []jobspec.ID { return slices.Sorted(maps.Keys(m.system)) }

// Active tells how many elements have not durably ended.
func (m *Machine) Active() int {
	t := m.Totals()
	return t.Pending + t.Running
}

// Dirty tells whether there is something to commit.
func (m *Machine) Dirty() bool { return !m.txn.Empty() || len(m.dirty)+len(m.logs) > 0 }

// Relaxed tells that nobody is known to wait for the transaction that is being filled: it tells of ends of elements, output and marks
// alone, and no array is complete by it.
func (m *Machine) Relaxed() bool {
	t := m.txn
	return !m.next.completes && len(t.Arrays)+len(t.Grants)+len(t.Ranges)+len(t.Starts)+len(t.Members)+len(t.Params)+len(t.Logs)+len(m.logs)+len(t.Queues) == 0
}

// Gen numbers the transaction that is being filled; TakeTxn hands it out and begins the next.
func (m *Machine) Gen() uint64 { return m.gen }

// TakeTxn returns what is to be committed next. Transactions are committed in this order, each answered by Committed or Refused.
func (m *Machine) TakeTxn() *Txn {
	for _, a := range m.dirty {
		a.hiDirty = false
		if m.arrays[a.id] == a && a.ended < a.n {
			m.txn.Hi = append(m.txn.Hi, HiRow{a.id, max(a.next, a.top)})
		}
	}
	clear(m.dirty)
	m.dirty = m.dirty[:0]
	m.takeLogs()
	f := m.next
	f.gen, f.txn = m.gen, m.txn
	m.taken = append(m.taken, &f)
	m.next, m.txn = inflight{}, &Txn{}
	m.gen++
	return f.txn
}

// find returns the array that holds element id, and its index; or the array whose own id it is, with index -1 (a single job: 0).
func (m *Machine) find(id jobspec.ID) (*array, int) {
	if a := m.arrays[id]; a != nil {
		if a.n == 1 {
			return a, 0
		}
		return a, -1
	}
	i := sort.Search(len(m.order), func(i int) bool { return m.order[i] > id })
	if i == 0 {
		return nil, 0
	}
	a := m.arrays[m.order[i-1]]
	if a == nil || id > a.id+jobspec.ID(a.n) || a.n == 1 {
		return nil, 0
	}
	return a, int(id - a.id - 1)
}

func (m *Machine) addArray(a *array) {
	m.arrays[a.id] = a
	a.queue = m.queueOf(a.spec.Job.Queue)
	if a.flags&FlagSystem != 0 {
		m.system[a.id] = true
	}
	a.delegated = m.goes(a)
	m.countName(a, 1)
	m.levels[a.urgency]++
	m.insert(a.id)
	m.totals.Pending += a.pending
}

func (m *Machine) removeArray(a *array) {
	delete(m.arrays, a.id)
	delete(m.system, a.id)
	m.countName(a, -1)
	m.levels[a.urgency]--
	if len(m.order) < 2*len(m.arrays)+1024 {
		return
	}
	kept := m.order[:0]
	for _, id := range m.order {
		if m.arrays[id] != nil {
			kept = append(kept, id)
		}
	}
	m.order = kept
}

// idEpoch is 2025-01-01 UTC in milliseconds: ids count from then, as a FLUID's 40 bits of milliseconds end 35 years after its epoch
// (those since 1970 no longer fit).
const idEpoch = 1735689600000

// newID gives an id to a submission of n elements: milliseconds << 24, or the next free one.
func (m *Machine) newID(n int) jobspec.ID {
	ms := jobspec.ID(max(m.clock.UnixMilli()-idEpoch, 0)) << 24
	if m.cfg.Branch { // of what it is made of itself; those of its jobs come from the top, which hardly comes so far within a millisecond
		ms |= 1 << 23
	}
	id := max(ms, m.lastID+1)
	m.lastID = id
	if n > 1 {
		m.lastID += jobspec.ID(n)
	}
	return id
}

// specKey names the pair of a spec and an environment on the nodes.
func (a *array) specKey() uint64 {
	if a.env == nil {
		return a.spec.ID << 32
	}
	return a.spec.ID<<32 | a.env.ID
}

func (m *Machine) rerun(a *array) bool { return a.spec.Job.Rerun }

func partsOf(res *resource.Alloc) []AllocPart {
	ps := make([]AllocPart, len(res.Nodes))
	for i := range res.Nodes {
		n := &res.Nodes[i]
		ps[i] = AllocPart{Node: n.Node, Cores: n.Cores.String(), GPUs: resource.FormatGPUs(n.GPUs, n.GPUParts)}
	}
	return ps
}
