package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/store/mem"
	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/jobspec"
)

// TreeConfig is a run of a tree of branches: an instance of Nodes brokers, and the branches that it starts as jobs of its own on them, which
// do so, too. All are brokers, services, schedulers and stores as in production; only processes and time are made up.
type TreeConfig struct {
	Seed   uint64
	Nodes  int
	Cores  int   // of each
	Widths []int // of the tree at start
	Jobs   int   // elements
	Faults time.Duration
	Limit  time.Duration // of virtual time
	Wipe   bool          // state directories get lost, too
	Trace  io.Writer
	Watch  string // an element's id: its story is in the trace
}

// TreeResult is what a run did.
type TreeResult struct {
	Virtual                     time.Duration
	Events                      uint64
	Print                       uint64 // fingerprint of everything that happened
	Starts                      int    // of elements
	Below                       int    // of them, those in branches
	Branches, Deepest           int    // instances that were started, the largest level
	Crashes, Breaks, Wipes      int
	Recalls, Splits             int // times that a branch was asked to give something back; times that the tree was asked to be another
	Completed, Failed, Canceled int
	Late                        int // starts after a cancel or hold that could not be known yet
}

// tree is the world of a top with its branches.
type tree struct {
	loop
	cfg       TreeConfig
	rng       *rand.Rand
	began     time.Time
	top       *inst
	all       []*inst // that are not over, in order of their start
	byJob     map[branchRef]*inst
	jobs      map[string]branchJob  // by state directory: the latest
	states    map[string]*mem.Store // by state directory
	spoiled   map[string]bool       // state directories that do not tell all any more
	clients   map[uint64]*treeClient
	lastID    uint64
	processes int
	dead      map[string]bool // uuids
	owner     [][]*tenant     // by host and core
	fates     map[jobspec.ID]*fate
	user      *treeUser
	calm      bool
	print     fingerprint
	res       TreeResult
}

// branchRef names an attempt of a job that is a branch.
type branchRef struct {
	parent *inst
	ref    exec.Ref
}

// branchJob is a job that is a branch, at the parent with a state directory.
type branchJob struct {
	parent string
	id     jobspec.ID
}

type treeError string

func (w *tree) fail(format string, args ...any) {
	panic(treeError(fmt.Sprintf("at %v: ", w.elapsed()) + fmt.Sprintf(format, args...)))
}

func (w *tree) must(err error) {
	if err != nil {
		w.fail("%v", err)
	}
}

func (w *tree) elapsed() time.Duration { return w.now.Sub(w.began) }

func (w *tree) logf(format string, args ...any) {
	if w.cfg.Trace != nil {
		fmt.Fprintf(w.cfg.Trace, "%12v "+format+"\n", append([]any{w.elapsed()}, args...)...)
	}
}

// upTo is a random duration.
func (w *tree) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d))) }

// RunTree plays a tree. The error tells what went wrong, and when.
func RunTree(cfg TreeConfig) (res TreeResult, err error) {
	w := &tree{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x74726565)), byJob: make(map[branchRef]*inst), states: make(map[string]*mem.Store), jobs: make(map[string]branchJob),
		spoiled: make(map[string]bool), clients: make(map[uint64]*treeClient), lastID: reactor.FirstClient, dead: make(map[string]bool), fates: make(map[jobspec.ID]*fate)}
	w.now = time.Unix(1800000000, 0)
	w.began = w.now
	defer func() {
		w.res.Events, w.res.Print = w.events, w.print.sum
		res = w.res
		if r := recover(); r != nil {
			e, ok := r.(treeError)
			if !ok {
				panic(r)
			}
			err = fmt.Errorf("seed %d %s", cfg.Seed, string(e))
		}
	}()
	w.begin()
	w.play()
	return w.res, nil
}

func (w *tree) begin() {
	root := &tenant{name: "the top"}
	in := w.newInst("top", nil)
	in.split = w.cfg.Widths
	for i := range w.cfg.Nodes {
		cores := make([]*tenant, w.cfg.Cores)
		for c := range cores {
			cores[c] = root
		}
		w.owner = append(w.owner, cores)
		in.seats = append(in.seats, &seat{in: in, rank: i, host: i, cores: maskOf(w.cfg.Cores), tenant: root, uses: make(map[exec.Ref]*use)})
	}
	w.top = in
	w.user = newTreeUser(w)
	in.bootLeader()
	for _, s := range in.seats[1:] {
		in.boot(s, int32(s.rank))
	}
	if w.cfg.Faults > 0 {
		w.After(3*time.Second, w.mishap)
		w.After(2*time.Second, w.user.fiddle)
		w.After(3*time.Second+w.cfg.Faults, func() { w.logf("calm"); w.calm = true })
	} else {
		w.calm = true
	}
}

// play runs until all has ended, undoes the tree, and looks at what is left.
func (w *tree) play() {
	limit := w.now.Add(w.cfg.Limit)
	w.until(limit, "not all has ended", func() bool { return w.calm && w.user.over() && w.ended() == w.cfg.Jobs })
	w.res.Virtual = w.elapsed()
	w.user.compare()
	w.until(w.now.Add(time.Hour), "the comparison is not answered", func() bool { return w.user.compared })
	w.user.unsplit()
	w.until(w.now.Add(time.Hour), "there are branches still", func() bool { return w.user.flat && len(w.all) == 1 && w.user.idle })
	w.verify()
}

// until does what is due until it is done.
func (w *tree) until(limit time.Time, what string, done func() bool) {
	for n := 0; n%16 > 0 || !done(); n++ {
		if !w.step(limit) {
			w.stuck(what)
		}
		if n%1000 == 0 {
			w.check()
		}
	}
	w.check()
}

func (w *tree) stuck(what string) {
	for _, in := range w.all {
		if in.leader != nil && in.leader.alive {
			w.logf("%s: %+v", in, in.jobs.Totals())
		}
	}
	for _, a := range w.user.arrays {
		for _, f := range a.fates {
			if f.result == 0 {
				w.logf("%v has not ended: %s", f.id, a.plan)
				break
			}
		}
	}
	w.fail("%s: %d of %d ended, %d instances, the top has %+v", what, w.ended(), w.cfg.Jobs, len(w.all), w.top.jobs.Totals())
}

func (w *tree) ended() (n int) { return w.res.Completed + w.res.Failed + w.res.Canceled }

// check asks all machines for their invariants.
func (w *tree) check() {
	for _, in := range w.all {
		if in.leader != nil && in.leader.alive {
			for _, err := range []error{in.jobs.Check(), in.branch.Check()} {
				if err != nil {
					w.fail("%s: %v", in, err)
				}
			}
		}
	}
}
