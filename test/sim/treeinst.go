package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/broker/branchsvc"
	"github.com/frond-hpc/frond/broker/execsvc"
	"github.com/frond-hpc/frond/broker/jobsvc"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/resourcesvc"
	"github.com/frond-hpc/frond/broker/schedsvc"
	"github.com/frond-hpc/frond/broker/store/mem"
	"github.com/frond-hpc/frond/exec"
	execsim "github.com/frond-hpc/frond/exec/sim"
	"github.com/frond-hpc/frond/overlay"
	memnet "github.com/frond-hpc/frond/overlay/mem"
	"github.com/frond-hpc/frond/resource"
	"github.com/vmihailenco/msgpack/v5"
)

// inst is one instance: the top, or an attempt of a job that is a branch. It is the home of its brokers.
type inst struct {
	w        *tree
	path     string // of its state directory: what it is called
	name     string // of the branch, as its parent gave it
	parent   *inst
	ref      exec.Ref // at its parent
	at       *node    // the parent's broker beside its leader, whose client it is
	index    int
	level    int
	split    []int
	net      *memnet.Network
	store    *mem.Store
	stored   *mem.Leader
	seats    []*seat
	leader   *node
	jobs     *jobsvc.Service
	branch   *branchsvc.Service
	up       *treeClient // of the service "branch"
	meet     *treeClient // of the supervisor
	linked   time.Time   // when the latest session with its parent began; zero = there is none
	cutUntil time.Time
	over     bool
	leaders  int
}

// seat is where a broker of an instance runs: a node of it.
type seat struct {
	in     *inst
	rank   int // at start; in a branch also the task's
	host   int
	cores  resource.Mask
	gone   bool // of a branch: its task has ended
	node   *node
	tasks  *execsim.Driver
	tenant *tenant // has the cores that no job has
	uses   map[exec.Ref]*use
}

func maskOf(cores int) resource.Mask { return resource.MaskRange(0, cores-1) }

func (in *inst) String() string { return in.path }

func (w *tree) newInst(path string, parent *inst) *inst {
	in := &inst{w: w, path: path, parent: parent, net: memnet.NewNetwork(w, w.rng.Uint64())}
	in.net.SetFaults(calmNet())
	w.all = append(w.all, in)
	return in
}

// clock, note, logf, answer, dropped and exited are what a home has.
func (in *inst) clock() *loop { return &in.w.loop }

func (in *inst) note(who string, msg any) { in.w.print.note(in.w.now, who, msg) }

func (in *inst) logf(format string, args ...any) { in.w.logf(format, args...) }

func (in *inst) answer(n *node, a broker.ToClient) {
	if c := in.w.clients[a.ID]; c != nil && c.n == n {
		c.answered(a.Msg)
	}
}

func (in *inst) dropped(n *node, id uint64) {
	if c := in.w.clients[id]; c != nil && c.n == n {
		c.end()
	}
}

func (in *inst) exited(n *node, err error) {
	in.w.logf("%s exits: %v", n.name, err)
	for _, s := range in.seats {
		if s.node == n {
			in.kill(s)
		}
	}
}

// boot starts a broker on a seat.
func (in *inst) boot(s *seat, rank int32) {
	w := in.w
	if in.over || s.gone || s.node != nil && s.node.alive {
		return
	}
	w.processes++
	n := &node{home: in, loop: &w.loop, rank: rank, alive: true, services: make(map[string]*service)}
	n.name, n.uuid = fmt.Sprintf("%s/%d", in.path, s.host), fmt.Sprintf("%s/%d-%d", in.path, s.host, w.processes)
	nodes, err := msgpack.Marshal([]resource.Node{{Index: int(rank), Name: place(s.host), Broker: rank, Cores: s.cores}})
	w.must(err)
	leader := s == in.seats[0]
	cfg := overlay.Config{Rank: rank, Size: len(in.seats), Leader: leader, UUID: n.uuid, Fanout: 3, Rand: w.rng.Uint64(),
		Info: overlay.Info{Hostname: place(s.host), BootID: "sim", PID: w.processes, Version: "sim", Resources: nodes}}
	n.tree = in.net.Transport(n.name, func(ev any) { n.post(ev) })
	cfg.Info.Addr, err = n.tree.Listen(addr(n.name))
	w.must(err)
	s.node = n
	s.tasks = execsim.New(execsim.Config{Seed: w.rng.Uint64(), Now: w.Now, After: w.After, Play: w.playTask, Observe: func(o execsim.Observation) { w.observe(s, n, &o) }})
	drivers := map[string]reactor.Driver{"exec": s.tasks}
	var services []reactor.Service
	if leader {
		in.leader = n
		services = in.leaderServices(&cfg)
		drivers["job"], drivers["branch"] = &treeStore{in, in.stored}, &treeLink{in, n}
	} else {
		cfg.Parent, cfg.Fallback = addr(in.addrOf(max(0, (s.rank-1)/3))), []string{addr(in.addrOf(0))}
	}
	services = append(services, execsvc.New(execsvc.Config{UUID: n.uuid}))
	n.assemble(cfg, services, drivers)
	n.post(broker.Begin{})
}

func (in *inst) addrOf(seat int) string { return fmt.Sprintf("%s/%d", in.path, in.seats[seat].host) }

// bootLeader starts the leader, which opens the store.
func (in *inst) bootLeader() {
	w, s := in.w, in.seats[0]
	if in.over || s.gone || s.node != nil && s.node.alive {
		return
	}
	in.boot(s, 0)
	if in.parent == nil {
		w.user.connect()
	} else {
		in.rendezvous()
	}
}

func (in *inst) leaderServices(cfg *overlay.Config) []reactor.Service {
	w := in.w
	st := w.states[in.path]
	if st == nil {
		st = mem.New(mem.Options{After: w.After, MinDelay: time.Millisecond, MaxDelay: 8 * time.Millisecond, Seed: w.rng.Uint64()})
		w.states[in.path] = st
	}
	leader, loaded := st.Open()
	in.store, in.stored = st, leader
	in.leaders++
	for i := range loaded.Members {
		m := &loaded.Members[i]
		// As on one host: what is provably dead is known to be.
		if w.dead[m.UUID] && w.rng.IntN(2) == 0 || m.Rank == 0 {
			m.State = "dead"
		}
		if in.leaders > 1 { // else all are new, and none of those before can come back
			cfg.Known = append(cfg.Known, overlay.Member{Rank: m.Rank, UUID: m.UUID, State: overlay.Orphan})
		}
	}
	cfg.Epoch = loaded.Epoch
	jobs, err := jobsvc.New(jobsvc.Config{Loaded: loaded, Lease: lease, Size: len(in.seats), Now: w.now, Branch: in.parent != nil})
	w.must(err)
	bc := branchsvc.Config{Version: "sim", Make: branchsvc.Make{Command: []string{"branch"}, State: in.path, Size: len(in.seats), Split: in.split}}
	if in.parent != nil {
		bc.Up = &branchsvc.Uplink{Branch: in.index, Path: in.name, Key: in.ref.Job.String(), Nodes: len(in.seats)}
	} else {
		w.reload(in, loaded)
	}
	in.jobs, in.branch = jobs, branchsvc.New(bc)
	return []reactor.Service{jobs, in.branch, schedsvc.New(schedsvc.Config{}), resourcesvc.New(resourcesvc.Config{})}
}

// crash ends the broker of a seat at once, and with it what it has started.
func (in *inst) crash(s *seat) {
	w, n := in.w, s.node
	if n == nil || !n.alive {
		return
	}
	w.res.Crashes++
	n.alive = false
	w.dead[n.uuid] = true
	s.tasks.Crash()
	in.net.Crash(n.name, w.rng.IntN(2) == 0)
	w.hangUp(n)
	if n == in.leader {
		in.store.Crash()
		if in == w.top {
			w.user.forget()
		}
		in.linked = time.Time{}
		in.up.end()
	}
}

// kill ends a broker as a process: a branch's task ends with it, but for that of its leader, whose supervisor starts another one.
func (in *inst) kill(s *seat) {
	w := in.w
	in.crash(s)
	switch {
	case s == in.seats[0]:
		w.After(100*time.Millisecond+w.upTo(4*time.Second), in.bootLeader)
	case in.parent == nil:
		if w.rng.IntN(2) == 0 {
			w.user.brokerDead(s.node)
		}
		w.After(w.upTo(20*time.Second), func() { in.boot(s, -1) })
	default:
		in.exit(s)
	}
}

// exit has the task end that a seat of a branch is.
func (in *inst) exit(s *seat) {
	for _, p := range in.parent.seats {
		if p.host == s.host && p.tasks != nil && !s.gone {
			driver := p.tasks
			in.w.soon(func() { driver.Exit(in.ref, s.rank, 9) })
		}
	}
}

// taskBegins: a task of a job that is a branch has begun on a seat of its parent.
func (w *tree) taskBegins(p *seat, n *node, o *execsim.Observation, t *tenant) {
	key := branchRef{p.in, o.Ref}
	in := w.byJob[key]
	if in == nil {
		in = w.newBranch(p, o)
		w.byJob[key] = in
	}
	s := in.seats[o.Task]
	if s != nil {
		w.fail("task %d of branch %s begins twice", o.Task, in)
	}
	s = &seat{in: in, rank: o.Task, host: p.host, cores: o.Start.Parts[0].Cores, tenant: t, uses: make(map[exec.Ref]*use)}
	in.seats[o.Task] = s
	if o.Task == 0 {
		in.at = n
	}
	if slices.Contains(in.seats, nil) {
		return
	}
	w.After(w.upTo(300*time.Millisecond), in.bootLeader) // it finds the others
	for _, s := range in.seats[1:] {
		w.After(w.upTo(500*time.Millisecond), func() { in.boot(s, int32(s.rank)) })
	}
}

func (w *tree) newBranch(s *seat, o *execsim.Observation) *inst {
	argv := o.Spec.Job.Command
	arg := func(name string) string {
		for _, a := range argv {
			if v, ok := strings.CutPrefix(a, "--"+name+"="); ok {
				return v
			}
		}
		return ""
	}
	parent := s.in
	in := w.newInst(arg("statedir"), parent)
	in.ref, in.level, in.name = o.Ref, parent.level+1, arg("branch")
	var err error
	in.index, err = strconv.Atoi(in.name[strings.LastIndexByte(in.name, '.')+1:])
	w.must(err)
	if text := arg("split"); text != "" {
		in.split, err = branchsvc.ParseWidths(text)
		w.must(err)
	}
	in.seats = make([]*seat, o.Start.NTasks)
	if w.jobs[in.path].id != o.Ref.Job {
		w.leave(in.path)
	}
	w.jobs[in.path] = branchJob{parent.path, o.Ref.Job}
	w.res.Branches++
	w.res.Deepest = max(w.res.Deepest, in.level)
	w.logf("branch %s starts: %v, attempt %d, epoch %d, %d nodes, the first on %d", in, o.Ref.Job, o.Ref.Attempt, o.Ref.Epoch, len(in.seats), s.host)
	for _, other := range w.all {
		if other != in && other.path == in.path && !other.over {
			w.fail("two instances have the state directory %s", in.path)
		}
	}
	return in
}

// taskEnds: it has ended, and what it has started with it.
func (w *tree) taskEnds(p *seat, o *execsim.Observation) {
	in := w.byJob[branchRef{p.in, o.Ref}]
	s := in.seats[o.Task]
	s.gone = true
	in.crash(s)
	if first := in.seats[0]; o.Task == 0 {
		in.meet.end()
	} else if first != nil {
		w.After(w.upTo(time.Minute), func() { in.exit(first) }) // it gets a node back only when it is started anew
	}
	for _, s := range in.seats {
		if s != nil && !s.gone {
			return
		}
	}
	w.logf("branch %s is over: attempt %d", in, in.ref.Attempt)
	in.over = true
	delete(w.byJob, branchRef{p.in, o.Ref})
	w.all = slices.DeleteFunc(w.all, func(i *inst) bool { return i == in })
}

// playTask is what a task does.
func (w *tree) playTask(j *exec.Job, _ int, rnd *rand.Rand) execsim.Play {
	p := execsim.Play{Delay: time.Duration(rnd.IntN(2000)) * time.Microsecond, Run: time.Duration(rnd.ExpFloat64() * float64(time.Second)), Stubborn: rnd.IntN(50) == 0}
	switch {
	case j.Spec.Job.Instance != nil:
		p.Run, p.Stubborn = 10000*time.Hour, rnd.IntN(8) == 0
	case rnd.IntN(10) == 0:
		p.Status = (1 + rnd.IntN(3)) << 8
	}
	return p
}
