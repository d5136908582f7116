package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/branchsvc"
	"github.com/frond-hpc/frond/broker/execsvc"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/jobsvc"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/resourcesvc"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/broker/schedsvc"
	"github.com/frond-hpc/frond/broker/store/mem"
	"github.com/frond-hpc/frond/exec"
	execsim "github.com/frond-hpc/frond/exec/sim"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
	"github.com/vmihailenco/msgpack/v5"
)

// TreeConfig is a run of a tree of branches. Each instance is one broker with its real services; between them lies a link that delays,
// breaks and stays broken for a while, as the seed has it.
type TreeConfig struct {
	Seed   uint64
	Widths []int // branches of each instance, by level
	Cores  int   // of a leaf
	Jobs   int   // elements
	Faults time.Duration
	Limit  time.Duration // of virtual time
	Trace  io.Writer
}

// TreeResult is what a run did.
type TreeResult struct {
	Virtual                         time.Duration
	Starts, Crashes, Breaks, Losses int
	Recalls                         int // times that a branch was asked to give something back
	Completed, Failed, Canceled     int
}

// tree is a top with its branches.
type tree struct {
	loop
	cfg     TreeConfig
	rng     *rand.Rand
	began   time.Time
	top     *inst
	all     []*inst
	calm    bool
	tag     uint64
	replies map[uint64]func(reactor.Reply)
	running map[jobspec.ID]*inst
	ended   map[jobspec.ID]int // durably at the top, by result
	noted   map[jobspec.ID]int // found ended at the top, when its leader came again: nobody had been told
	arrays  []jobspec.ID
	sizes   map[jobspec.ID]int
	res     TreeResult
}

// inst is one instance; its services are those of one life of its leader.
type inst struct {
	w        *tree
	path     string
	parent   *inst
	index    int
	children []*inst
	store    *mem.Store
	leader   *mem.Leader
	life     int
	alive    bool
	key      string
	svcs     map[string]*treeService
	dir      *reactor.Directory
	jobs     *jobsvc.Service
	branch   *branchsvc.Service
	tasks    *execsim.Driver
	conn     *treeConn // to the parent
	cutUntil time.Time
}

type treeService struct {
	in     *inst
	life   int
	svc    reactor.Service
	ep     *reactor.Endpoint
	driver reactor.Driver
	due    time.Time
}

type treeError string

func (w *tree) fail(format string, args ...any) {
	panic(treeError(fmt.Sprintf("at %v: ", w.now.Sub(w.began)) + fmt.Sprintf(format, args...)))
}

func (w *tree) must(err error) {
	if err != nil {
		w.fail("%v", err)
	}
}

func (w *tree) logf(format string, args ...any) {
	if w.cfg.Trace != nil {
		fmt.Fprintf(w.cfg.Trace, "%12v "+format+"\n", append([]any{w.now.Sub(w.began)}, args...)...)
	}
}

// RunTree plays a tree. The error tells what went wrong, and when.
func RunTree(cfg TreeConfig) (res TreeResult, err error) {
	w := &tree{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x74726565)), replies: make(map[uint64]func(reactor.Reply)), running: make(map[jobspec.ID]*inst),
		ended: make(map[jobspec.ID]int), noted: make(map[jobspec.ID]int), sizes: make(map[jobspec.ID]int)}
	w.now = time.Unix(1800000000, 0)
	w.began = w.now
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(treeError)
			if !ok {
				panic(r)
			}
			res, err = w.res, fmt.Errorf("seed %d %s", cfg.Seed, string(e))
		}
	}()
	w.top = w.grow(nil, 0, 0)
	w.submitAll()
	if cfg.Faults > 0 {
		w.After(2*time.Second, w.mishap)
		w.After(2*time.Second+cfg.Faults, func() { w.calm = true })
	} else {
		w.calm = true
	}
	w.play()
	return w.res, nil
}

// grow makes an instance, and what is below it.
func (w *tree) grow(parent *inst, index, level int) *inst {
	in := &inst{w: w, parent: parent, index: index, path: strconv.Itoa(index)}
	switch {
	case parent == nil:
		in.path = "top"
	case parent.parent != nil:
		in.path = parent.path + "." + in.path
	}
	w.all = append(w.all, in)
	in.fresh()
	in.boot()
	if level < len(w.cfg.Widths) {
		for i := range w.cfg.Widths[level] {
			in.children = append(in.children, w.grow(in, i, level+1))
		}
	}
	in.expectAll()
	return in
}

// fresh gives an instance an empty store.
func (in *inst) fresh() {
	w := in.w
	in.store = mem.New(mem.Options{After: w.After, MinDelay: time.Millisecond, MaxDelay: 8 * time.Millisecond, Seed: w.rng.Uint64()})
	in.key = fmt.Sprint(in.path, "/", w.rng.Uint64())
}

// expectAll tells an instance of its branches.
func (in *inst) expectAll() {
	if len(in.children) == 0 {
		return
	}
	var sizes []api.BranchSize
	for i, c := range in.children {
		in.give("branch", branchsvc.Expect{Branch: i, Key: c.key, Path: c.path})
		sizes = append(sizes, api.BranchSize{Nodes: 1, CoresOfNode: in.w.cfg.Cores})
	}
	in.give("job", api.BranchFits{Sizes: sizes})
}

// boot begins a life of the leader.
func (in *inst) boot() {
	w := in.w
	in.life++
	in.alive = true
	leader, loaded := in.store.Open()
	in.leader = leader
	for i := range loaded.Members {
		loaded.Members[i].State = "dead" // its broker is the leader's process
	}
	jobs, err := jobsvc.New(jobsvc.Config{Loaded: loaded, Lease: lease, Size: 1, Now: w.now, Branch: in.parent != nil})
	w.must(err)
	in.jobs = jobs
	if in.parent == nil {
		in.w.reload(in, loaded)
	}
	cfg := branchsvc.Config{Version: "sim"}
	if in.parent != nil {
		cfg.Up = &branchsvc.Uplink{Branch: in.index, Key: in.key, Nodes: 1}
	}
	in.branch = branchsvc.New(cfg)
	life := in.life
	in.tasks = execsim.New(execsim.Config{Seed: w.rng.Uint64(), Now: w.Now, After: w.After, Play: w.play1, Observe: func(o execsim.Observation) { in.observe(life, o) }})
	uuid := fmt.Sprintf("%s-%d", in.path, in.life)
	services := []reactor.Service{jobs, schedsvc.New(schedsvc.Config{}), resourcesvc.New(resourcesvc.Config{}), in.branch,
		execsvc.New(execsvc.Config{UUID: uuid, Exec: exec.Config{}})}
	names := make([]string, len(services))
	for i, s := range services {
		names[i] = s.Name()
	}
	in.dir = reactor.NewDirectory(names...)
	in.svcs = make(map[string]*treeService)
	for _, s := range services {
		in.svcs[s.Name()] = &treeService{in: in, life: life, svc: s, ep: reactor.NewEndpoint(in.dir, s.Name())}
	}
	in.svcs["job"].driver = &treeStore{in, leader}
	in.svcs["exec"].driver = in.tasks
	in.svcs["branch"].driver = &treeLink{in, life}
	for _, s := range services {
		in.give(s.Name(), reactor.Start{})
	}
	cores := 0 // an instance with branches has given its own away
	if n := in.leafCores(); in.level() == len(w.cfg.Widths) {
		cores = n
	}
	in.join(uuid, loaded.Epoch, max(cores, 1))
}

func (in *inst) level() (n int) {
	for p := in.parent; p != nil; p = p.parent {
		n++
	}
	return n
}

func (in *inst) leafCores() int { return in.w.cfg.Cores }

// join tells the services of the one broker with its node.
func (in *inst) join(uuid string, epoch uint64, cores int) {
	n := in.leafCores()
	for _, width := range in.w.cfg.Widths[min(in.level(), len(in.w.cfg.Widths)):] {
		n *= width
	}
	nodes := []resource.Node{{Index: 0, Name: in.path, Cores: resource.MaskRange(0, max(n, cores)-1)}}
	raw, err := msgpack.Marshal(nodes)
	in.w.must(err)
	m := api.Membership{Rank: 0, State: "online", UUID: uuid, Incarnation: 1, Host: in.path, Resources: raw}
	in.give("resource", m)
	in.give("job", m)
	in.give("exec", api.Contact{Up: true, Rank: 0, Epoch: epoch, Incarnation: 1})
}

// give hands an input to a service, in turn.
func (in *inst) give(name string, msg any) {
	sv := in.svcs[name]
	if sv == nil {
		return
	}
	in.w.soon(func() { sv.handle(msg) })
}

func (s *treeService) up() bool { return s.in.alive && s.in.life == s.life }

func (s *treeService) handle(msg any) {
	if !s.up() {
		return
	}
	msg, ok := s.ep.Accept(msg)
	if !ok {
		return
	}
	var out reactor.Out
	s.svc.Handle(s.in.w.now, msg, &out)
	for _, item := range out.Items {
		s.carryOut(item)
	}
}

func (s *treeService) carryOut(item any) {
	w := s.in.w
	switch it := item.(type) {
	case reactor.WakeAt:
		if s.due = it.T; !it.T.IsZero() {
			w.After(it.T.Sub(w.now), func() {
				if s.up() && s.due.Equal(it.T) {
					s.due = time.Time{}
					s.handle(reactor.Wake{})
				}
			})
		}
	case reactor.Do:
		effect := it.Effect
		s.driver.Do(w.now, effect, func(result any, err error) {
			w.soon(func() { s.handle(reactor.Done{Effect: effect, Result: result, Err: err}) })
		})
	case reactor.Log:
		if it.Level == "error" {
			w.logf("%s %s: %s %v", s.in.path, s.svc.Name(), it.Msg, it.KV)
		}
	default:
		to, msg := s.ep.Dispatch(item, func(name string) bool { return s.in.svcs[name] != nil }, 0)
		if to != "" && msg != nil {
			s.in.give(to, msg)
		} else if r, ok := msg.(reactor.Reply); ok {
			if f := w.replies[r.Tag]; f != nil {
				w.soon(func() { f(r) })
			}
		}
	}
}

// ask sends a request to a service of an instance as a client or a branch would; f gets the answers.
func (in *inst) ask(topic string, body any, stream bool, f func(reactor.Reply)) (key rpc.RequestKey) {
	w := in.w
	w.tag++
	raw, err := rpc.Payload{Value: body}.Bytes()
	w.must(err)
	w.replies[w.tag] = f
	r := &rpc.Request{Topic: topic, Body: rpc.Payload{Raw: raw}, Peer: "client", Route: []wire.Hop{{Rank: wire.LocalRank, Inc: reactor.FirstClient}}, Tag: w.tag, Stream: stream}
	in.give(reactor.ServiceOf(topic), r)
	return r.Key()
}

// play1 is what a task does.
func (w *tree) play1(_ *exec.Job, _ int, rnd *rand.Rand) execsim.Play {
	p := execsim.Play{Delay: time.Duration(rnd.IntN(2000)) * time.Microsecond, Run: time.Duration(rnd.ExpFloat64() * float64(time.Second)), Stubborn: rnd.IntN(50) == 0}
	if rnd.IntN(10) == 0 {
		p.Status = 1 << 8
	}
	return p
}

// observe sees to it that no element runs twice at a time, and none that has ended.
func (in *inst) observe(life int, o execsim.Observation) {
	w := in.w
	id := o.Ref.Job
	if !o.Begins {
		if w.running[id] == in {
			delete(w.running, id)
		}
		return
	}
	w.res.Starts++
	if other := w.running[id]; other != nil {
		w.fail("%v starts in %s, life %d, while it runs in %s", id, in.path, life, other.path)
	}
	if w.result(id) != 0 {
		w.fail("%v has ended and is started again in %s", id, in.path)
	}
	w.running[id] = in
}

// treeStore sees what becomes durable.
type treeStore struct {
	in     *inst
	driver reactor.Driver
}

// Do implements reactor.Driver.
func (s *treeStore) Do(now time.Time, effect any, done func(any, error)) {
	s.driver.Do(now, effect, func(res any, err error) {
		if c, ok := effect.(*job.Commit); ok && err == nil && s.in.parent == nil {
			s.in.w.committed(c.Txn)
		}
		done(res, err)
	})
}

// committed notes what has ended at the top.
func (w *tree) committed(t *job.Txn) {
	for i := range t.Arrays {
		w.know(&t.Arrays[i])
	}
	for i := range t.Ended {
		w.finish(t.Ended[i].ID, int(t.Ended[i].Result))
	}
	for _, r := range t.Ranges {
		for i := r.Lo; i <= r.Hi; i++ {
			w.finish(w.element(r.Array, i), int(r.Result))
		}
	}
}

// reload notes what had become durable without a word when the top's leader died.
func (w *tree) reload(in *inst, l *job.Loaded) {
	for i := range l.Arrays {
		w.know(&l.Arrays[i].ArrayRow)
	}
	in.leader.Do(w.now, &job.Query{Run: func(r job.Reader) (any, error) {
		return nil, r.Ended(0, 0, 0, 0, func(e job.ElementRow) bool {
			if row, ok, err := r.Array(e.Array); ok && err == nil {
				w.know(&row)
			}
			if w.ended[e.ID] == 0 {
				w.noted[e.ID] = int(e.Result)
			}
			return true
		})
	}}, func(any, error) {})
}

func (w *tree) know(a *job.ArrayRow) {
	if _, known := w.sizes[a.ID]; !known {
		w.arrays = append(w.arrays, a.ID)
		w.sizes[a.ID] = a.N
	}
}

// result is how an element has ended at the top, 0 = it has not.
func (w *tree) result(id jobspec.ID) int {
	if r := w.ended[id]; r != 0 {
		return r
	}
	return w.noted[id]
}

func (w *tree) element(array jobspec.ID, i int) jobspec.ID {
	if w.sizes[array] == 1 {
		return array
	}
	return array + 1 + jobspec.ID(i)
}

func (w *tree) finish(id jobspec.ID, result int) {
	if w.ended[id] != 0 {
		w.fail("%v ends twice", id)
	}
	if in := w.running[id]; in != nil {
		w.fail("%v ends while it runs in %s", id, in.path)
	}
	w.ended[id] = result
	switch jobspec.Result(result) {
	case jobspec.ResultCompleted:
		w.res.Completed++
	case jobspec.ResultCanceled:
		w.res.Canceled++
	default:
		w.res.Failed++
	}
}
