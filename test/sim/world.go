package sim

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/store/mem"
	"github.com/frond-hpc/frond/jobspec"
	memnet "github.com/frond-hpc/frond/overlay/mem"
)

// lease is short of production's, so that more of them end in a run.
const lease = 20 * time.Second

// Config of a run.
type Config struct {
	Seed    uint64
	Brokers int
	Cores   int // of each broker's node
	Fanout  int
	Jobs    int           // elements in all
	Faults  time.Duration // how long things go wrong; 0 = nothing does
	Limit   time.Duration // of virtual time; what has not ended by then is a failure
	Trace   func(string)  // nil = no log
}

// Result of a run.
type Result struct {
	Print     uint64 // fingerprint of everything that happened
	Virtual   time.Duration
	Events    uint64
	Attempts  int // starts
	Equipped  int // of them with parameters
	Exhausted int // elements that failed as often as they may
	Crashes   int
	Leaders   int
	Err       error
}

// failure is a broken promise; it ends the run by a panic that Run recovers.
type failure struct{ error }

// world is one run.
type world struct {
	loop
	cfg       Config
	rng       *rand.Rand
	net       *memnet.Network
	store     *mem.Store
	stored    *mem.Leader
	nodes     map[string]*node // alive ones by name
	names     []string         // of all places, in order; a place has at most one process
	leader    *node
	user      *user
	kv        *kvUsers
	processes int
	dead      map[string]bool // uuids
	finished  map[jobspec.ID]bool
	oracle    *oracle
	running   map[jobspec.ID]*attempt
	byNode    map[*node]map[jobspec.ID]bool
	print     fingerprint
	result    Result
	calm      bool // faults are over
}

// attempt is what runs of an element.
type attempt struct {
	number uint32
	on     map[*node]bool
}

// Run runs one simulation.
func Run(cfg Config) (res Result) {
	w := &world{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 1)), nodes: make(map[string]*node), dead: make(map[string]bool),
		finished: make(map[jobspec.ID]bool), oracle: newOracle(), running: make(map[jobspec.ID]*attempt), byNode: make(map[*node]map[jobspec.ID]bool)}
	w.now = time.Unix(1800000000, 0)
	w.net = memnet.NewNetwork(w, cfg.Seed)
	w.store = mem.New(mem.Options{After: w.After, MinDelay: time.Millisecond, MaxDelay: 40 * time.Millisecond, Seed: cfg.Seed})
	defer func() {
		res = w.result
		res.Print, res.Events = w.print.sum, w.events
		if p := recover(); p != nil {
			f, ok := p.(failure)
			if !ok {
				panic(fmt.Sprintf("seed %d at %v: %v", cfg.Seed, w.now.Sub(time.Unix(1800000000, 0)), p))
			}
			res.Err = f.error
		}
	}()
	w.begin()
	w.play()
	return w.result
}

func (w *world) must(err error) {
	if err != nil {
		w.fail("%v", err)
	}
}

func (w *world) fail(format string, args ...any) {
	panic(failure{fmt.Errorf("seed %d at %v: "+format, append([]any{w.cfg.Seed, w.elapsed()}, args...)...)})
}

func (w *world) elapsed() time.Duration { return w.now.Sub(time.Unix(1800000000, 0)) }

func (w *world) logf(format string, args ...any) {
	if w.cfg.Trace != nil {
		w.cfg.Trace(fmt.Sprintf("%12v ", w.elapsed()) + fmt.Sprintf(format, args...))
	}
}

func place(i int) string { return fmt.Sprintf("n%d", i) }

func (w *world) leaderName() string { return place(0) }

// parentOf is where a broker of the start dials first: its parent in the K-ary tree.
func (w *world) parentOf(rank int32) string {
	if rank <= 0 {
		return addr(w.leaderName())
	}
	return addr(place((int(rank) - 1) / w.cfg.Fanout))
}

func (w *world) begin() {
	for i := range w.cfg.Brokers {
		w.names = append(w.names, place(i))
	}
	w.user = newUser(w)
	w.kv = newKVUsers(w)
	w.startLeader()
	for i := 1; i < w.cfg.Brokers; i++ {
		w.boot(place(i), int32(i), false)
	}
	if w.cfg.Faults > 0 {
		w.After(time.Second, w.user.fiddle)
		w.After(5*time.Second, w.mishap)
		w.After(5*time.Second+w.cfg.Faults, w.calmDown)
	} else {
		w.calm = true
	}
}

func (w *world) startLeader() {
	w.result.Leaders++
	w.leader = w.boot(w.leaderName(), 0, true)
	w.user.connect()
}

// play runs until all jobs have ended, and checks.
func (w *world) play() {
	limit := w.now.Add(w.cfg.Limit)
	for n := 0; !w.done(); n++ {
		if !w.step(limit) {
			w.result.Virtual = w.elapsed()
			w.stuck()
		}
		if n%200000 == 0 {
			w.check()
		}
	}
	w.result.Virtual = w.elapsed()
	w.check()
	w.verify()
}

func (w *world) done() bool {
	return w.calm && w.kv.settled() && w.user.answered() && w.leader != nil && w.leader.alive && len(w.finished) == w.cfg.Jobs
}

func (w *world) stuck() {
	t := w.leader.job.Totals()
	w.fail("not done: %d of %d elements finished, leader has %+v, %d submissions unanswered, %d brokers of %d alive", len(w.finished), w.cfg.Jobs, t,
		w.user.open(), len(w.nodes), w.cfg.Brokers)
}

// check asks the leader's machine for its invariants.
func (w *world) check() {
	if w.leader != nil && w.leader.alive {
		w.must(w.leader.job.Check())
	}
}

// clock, answer, dropped and exited are what a home has.
func (w *world) clock() *loop { return &w.loop }

func (w *world) answer(n *node, a broker.ToClient) {
	if !w.kv.answer(n, a) {
		w.user.answer(n, a)
	}
}

func (w *world) dropped(n *node, id uint64) { w.user.dropped(n, id) }

func (w *world) exited(n *node, err error) {
	w.logf("%s exits: %v", n.name, err)
	w.crash(n)
}

// crash ends a process at once.
func (w *world) crash(n *node) {
	if !n.alive {
		return
	}
	n.alive = false
	w.dead[n.uuid] = true
	w.result.Crashes++
	delete(w.nodes, n.name)
	for id := range w.byNode[n] {
		w.ended(n, id)
	}
	delete(w.byNode, n)
	w.kv.lost(n)
	if n == w.leader {
		w.store.Crash()
		w.user.lost()
	}
}

// started is what exec/sim tells of a start.
func (w *world) started(n *node, id jobspec.ID, number uint32) {
	w.result.Attempts++
	a := w.running[id]
	if a == nil {
		a = &attempt{number: number, on: make(map[*node]bool)}
		w.running[id] = a
	}
	if a.number != number {
		for o := range a.on {
			w.fail("attempt %d of %v starts on %s while attempt %d runs on %s", number, id, n.name, a.number, o.name)
		}
	}
	if w.finished[id] {
		w.fail("%v has finished and is started again on %s, attempt %d", id, n.name, number)
	}
	w.must(w.oracle.started(id))
	a.on[n] = true
	if w.byNode[n] == nil {
		w.byNode[n] = make(map[jobspec.ID]bool)
	}
	w.byNode[n][id] = true
}

func (w *world) ended(n *node, id jobspec.ID) {
	if a := w.running[id]; a != nil {
		delete(a.on, n)
		if len(a.on) == 0 {
			delete(w.running, id)
			w.user.runEnded(id)
		}
	}
	delete(w.byNode[n], id)
}

// storeWatch sees what becomes durable.
type storeWatch struct {
	w      *world
	driver reactor.Driver
}

func (w *world) watchStore(d *mem.Leader) reactor.Driver { return &storeWatch{w, d} }

// Do implements reactor.Driver.
func (s *storeWatch) Do(now time.Time, effect any, done func(any, error)) {
	s.driver.Do(now, effect, func(res any, err error) {
		if c, ok := effect.(*job.Commit); ok && err == nil {
			s.w.committed(c.Txn)
		}
		done(res, err)
	})
}

func (w *world) committed(t *job.Txn) {
	for i := range t.Arrays {
		w.oracle.submitted(t.Arrays[i])
	}
	for i := range t.Ended {
		w.user.checkRetries(&t.Ended[i])
		w.oracle.results[t.Ended[i].ID] = jobspec.Result(t.Ended[i].Result)
		w.finish(t.Ended[i].ID)
	}
	for _, r := range t.Ranges {
		for i := r.Lo; i <= r.Hi; i++ {
			w.oracle.results[w.user.elementID(r.Array, i)] = jobspec.Result(r.Result)
			w.finish(w.user.elementID(r.Array, i))
		}
	}
}

func (w *world) finish(id jobspec.ID) {
	if w.finished[id] {
		w.fail("%v finishes twice", id)
	}
	w.finished[id] = true
}

// reload notes what was durable without anyone having been told, when a leader starts.
func (w *world) reload(l *job.Loaded) {
	count := 0
	for i := range l.Arrays {
		a := &l.Arrays[i]
		w.oracle.submitted(a.ArrayRow)
		for _, s := range a.Finished {
			for k := s.Lo; k <= s.Hi; k++ {
				id := a.ID
				if a.N > 1 {
					id += 1 + jobspec.ID(k)
				}
				w.finished[id] = true
				count++
			}
		}
	}
	w.reloadWhole()
	w.logf("leader %d opens the store: %d unfinished arrays with %d finished elements, %d members", w.result.Leaders, len(l.Arrays), count, len(l.Members))
}

// reloadWhole does the same for arrays that are finished as a whole, which a leader does not load.
func (w *world) reloadWhole() {
	w.stored.Do(w.now, &job.Query{Run: func(r job.Reader) (any, error) {
		return nil, r.Ended(0, 0, 0, 0, func(e job.ElementRow) bool {
			w.finished[e.ID] = true
			w.oracle.results[e.ID] = jobspec.Result(e.Result)
			return true
		})
	}}, func(any, error) {})
}

// verify compares the store with what was submitted.
func (w *world) verify() {
	seen := make(map[jobspec.ID]bool)
	var failed error
	w.stored.Do(w.now, &job.Query{Run: func(r job.Reader) (any, error) {
		return nil, r.Ended(0, 0, 0, 0, func(e job.ElementRow) bool {
			if seen[e.ID] {
				failed = fmt.Errorf("%v is in the store twice", e.ID)
			}
			seen[e.ID] = true
			return failed == nil
		})
	}}, func(any, error) {})
	for limit := w.now.Add(time.Second); w.step(limit); {
	}
	w.must(failed)
	if len(seen) != w.cfg.Jobs {
		w.fail("%d elements in the store, %d were submitted", len(seen), w.cfg.Jobs)
	}
	for _, id := range w.user.elements() {
		if !seen[id] {
			w.fail("%v was submitted and is not in the store", id)
		}
	}
}

// alive returns the living brokers but the leader, in order.
func (w *world) alive() []*node {
	var ns []*node
	for _, name := range w.names {
		if n := w.nodes[name]; n != nil && n != w.leader {
			ns = append(ns, n)
		}
	}
	return ns
}

// note feeds the run's fingerprint.
func (w *world) note(who string, in any) { w.print.note(w.now, who, in) }

// fingerprint is of everything that happened: who got what kind of input when.
type fingerprint struct {
	sum   uint64
	kinds map[reflect.Type]uint64
}

func (f *fingerprint) note(now time.Time, who string, in any) {
	if f.kinds == nil {
		f.kinds = make(map[reflect.Type]uint64)
	}
	t := reflect.TypeOf(in)
	kind, ok := f.kinds[t]
	if !ok {
		kind = uint64(len(f.kinds) + 1)
		f.kinds[t] = kind
	}
	const prime = 1099511628211
	h := f.sum ^ uint64(now.UnixNano())
	h = h*prime ^ kind
	for i := range len(who) {
		h = h*prime ^ uint64(who[i])
	}
	f.sum = h * prime
}
