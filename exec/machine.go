package exec

import (
	"cmp"
	"slices"
	"time"
)

// Config of a machine. The zero values of the durations and sizes stand for the defaults named.
type Config struct {
	// MockInDriver gives mock jobs to the driver, too (exec/sim plays and observes them); else the machine plays them itself.
	MockInDriver bool
	MaxUnacked   int           // bytes of output kept until reading stops; 16 MiB
	ReportGap    time.Duration // least time between two reports when some are outstanding; 300 µs
	StartedDelay time.Duration // how long a Started waits for its Ended to make it needless; 5 ms
	MaxCalls     int           // outstanding reports; 128
}

// Limits that are not configured.
const (
	maxBatch      = 4096                   // records a report
	maxBatchSize  = 1 << 20                // bytes of output a report, short of one record
	minTick       = 250 * time.Microsecond // between two Ticks
	resyncDelay   = 500 * time.Millisecond // after a failed sync or report
	presumedLease = 30 * time.Second       // until the leader has told it
	leaseGrace    = 3 * time.Second        // between TERM and KILL when the lease ends; below the leader's 10 s
	stopGrace     = 2 * time.Second        // the same when the broker stops
	flushLimit    = 2 * time.Second        // how long a stop waits for acknowledgements
	maxKillDelay  = 300 * time.Second      // between two KILLs
	remembered    = 4096                   // acknowledged runs, whose late duplicates are recognised
)

// Machine is the state of one broker's runs. Not safe for concurrent use.
type Machine struct {
	cfg  Config
	base time.Time // of the first Step
	now  int64     // nanoseconds since base
	wall float64   // epoch seconds
	out  []any

	contact Contact
	session uint64
	synced  bool // the leader has answered the present session's sync
	lease   struct {
		length, end, renew int64
		calls              []renewal
	}
	resyncAt int64
	calls    uint64 // number of the last report or renewal

	specs  map[uint64]*Spec
	runs   map[Ref]*run
	byID   map[RunID]*run // those the driver knows
	lastID RunID
	live   int // runs that have not ended
	timers timers
	past   memory

	sides  map[RunID]*side // commands of prologs and epilogs
	fences map[Ref]*fence  // of jobs whose root this broker is
	asks   map[uint64]*run // our calls for fences

	queue  records
	paused bool

	stopping bool
	stopAt   int64 // give up waiting for acknowledgements
	stopped  bool
	armed    int64 // the Tick asked for; 0 = none
	lastTick int64
}

type renewal struct {
	call uint64
	sent int64
}

// New makes a machine.
func New(cfg Config) *Machine {
	cfg.MaxUnacked = cmp.Or(cfg.MaxUnacked, 16<<20)
	cfg.ReportGap = cmp.Or(cfg.ReportGap, 300*time.Microsecond)
	cfg.StartedDelay = cmp.Or(cfg.StartedDelay, 5*time.Millisecond)
	cfg.MaxCalls = cmp.Or(cfg.MaxCalls, 128)
	return &Machine{cfg: cfg, specs: map[uint64]*Spec{}, runs: map[Ref]*run{}, byID: map[RunID]*run{}, sides: map[RunID]*side{}, fences: map[Ref]*fence{}, asks: map[uint64]*run{}, past: newMemory(remembered)}
}

// Step takes one event. The actions returned are valid until the next Step.
func (m *Machine) Step(now time.Time, event any) []any {
	if m.base.IsZero() {
		m.base = now.Add(-1) // so that 0 can stand for "no time"
	}
	m.now = max(m.now, int64(now.Sub(m.base)))
	m.wall = float64(now.UnixNano()) / 1e9
	clear(m.out)
	m.out = m.out[:0]
	m.dispatch(event)
	m.expire()
	m.flush()
	m.throttle()
	m.checkStopped()
	m.arm()
	return m.out
}

func (m *Machine) dispatch(event any) {
	switch ev := event.(type) {
	case Contact:
		m.onContact(ev)
	case SyncReply:
		m.onSyncReply(ev)
	case ReportReply:
		m.onReportReply(ev)
	case RenewReply:
		m.onRenewReply(ev)
	case StartRuns:
		m.onStartRuns(ev)
	case KillRuns:
		m.onKillRuns(ev)
	case SetLimits:
		m.onSetLimits(ev)
	case Input:
		m.onInput(ev)
	case FenceReply:
		m.onFenceReply(ev)
	case FenceAsked:
		m.onFenceAsked(ev)
	case Tasks:
		for i := range ev {
			m.onTask(&ev[i])
		}
	case Tick:
		m.armed, m.lastTick = 0, m.now
	case Stop:
		m.onStop(ev.Grace)
	default:
		panic("exec: unknown event")
	}
}

func (m *Machine) act(action any) { m.out = append(m.out, action) }

func (m *Machine) log(level, msg string, kv ...any) { m.act(Log{level, msg, kv}) }

// expire does what is due.
func (m *Machine) expire() {
	late := m.now - m.lease.end
	due := func(at *int64) bool {
		if *at == 0 || *at > m.now {
			return false
		}
		*at = 0
		return true
	}
	if due(&m.lease.end) {
		m.leaseOver(late)
	}
	if due(&m.resyncAt) && m.contact.Up {
		m.sync()
	}
	if due(&m.lease.renew) && m.synced {
		m.renew()
	}
	for len(m.timers) > 0 && m.timers[0].due <= m.now {
		m.onDeadline(m.timers[0])
	}
}

// arm asks for the next Tick. An earlier one that stands is left to come in vain: cheaper than moving it each time.
func (m *Machine) arm() {
	next := m.queue.next(m)
	for _, t := range []int64{m.lease.end, m.lease.renew, m.resyncAt, m.stopAt} {
		next = earliest(next, t)
	}
	if len(m.timers) > 0 {
		next = earliest(next, m.timers[0].due)
	}
	if next == 0 {
		return
	}
	next = max(next, m.lastTick+int64(minTick))
	if m.armed == 0 || next < m.armed {
		m.armed = next
		m.act(WakeAt{m.base.Add(time.Duration(next))})
	}
}

func earliest(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// ordered returns all runs in the order in which they came.
func (m *Machine) ordered() []*run {
	list := make([]*run, 0, len(m.runs))
	for _, r := range m.runs {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *run) int { return cmp.Compare(a.job.ID, b.job.ID) })
	return list
}

func (m *Machine) onStop(grace time.Duration) {
	if m.stopping {
		return
	}
	m.stopping = true
	if grace <= 0 {
		grace = stopGrace
	}
	for _, r := range m.ordered() {
		if !r.over {
			m.exception(r, typeLease, 0, "its broker was stopped")
			m.end(r, sigTERM, min(r.killTimeout(), int64(grace)))
		}
	}
}

// checkStopped tells the end of a stop: all is dead, and reported unless that takes too long.
func (m *Machine) checkStopped() {
	if !m.stopping || m.stopped || m.live > 0 {
		return
	}
	if m.queue.empty() || !m.contact.Up || m.stopAt != 0 && m.stopAt <= m.now {
		m.stopped, m.stopAt = true, 0
		m.act(Stopped{})
	} else if m.stopAt == 0 {
		m.stopAt = m.now + int64(flushLimit)
	}
}
