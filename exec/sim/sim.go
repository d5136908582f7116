// Package sim is a driver that plays tasks on virtual time, for test/sim: the port of package exec without processes. What a
// task does follows from the seed and its job, attempt and rank alone, so that it does not depend on the order of starts. An
// observer is told where and when each task runs.
package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/frond-hpc/frond/exec"
)

// Play is what a task does.
type Play struct {
	Delay    time.Duration // until it runs
	Run      time.Duration // until it ends by itself
	Status   int           // wait(2) status then
	Stubborn bool          // TERM does not end it
	Output   []byte        // written to stdout at its end
	Fail     string        // it cannot be started, with this note and Status
}

// Observation tells that a task began or ended to run on a broker.
type Observation struct {
	Broker int32
	Ref    exec.Ref
	Task   int
	Begins bool
	Status int // wait(2) status of one that ended; -1 = its broker died
	Time   time.Time
	Start  exec.Start // of its run
	Spec   *exec.Spec
}

// Config of a driver.
type Config struct {
	Broker int32
	Seed   uint64
	// Now and After are the virtual clock; After calls f on the simulation's loop, never from within After itself.
	Now   func() time.Time
	After func(d time.Duration, f func())
	// Play decides what a task does; nil = as the jobspec's mock execution says, else by Random.
	Play func(j *exec.Job, task int, rnd *rand.Rand) Play
	// Observe may be nil.
	Observe func(Observation)
}

// Random is the default play: mostly short tasks that succeed.
func Random(rnd *rand.Rand) Play {
	p := Play{Delay: time.Duration(rnd.IntN(3000)) * time.Microsecond, Run: time.Duration(rnd.ExpFloat64() * float64(2*time.Second)), Stubborn: rnd.IntN(20) == 0}
	if rnd.IntN(20) == 0 {
		p.Status = 1 << 8
	}
	if rnd.IntN(4) == 0 {
		p.Output = fmt.Appendf(nil, "%d\n", rnd.Uint32())
	}
	return p
}

// Driver implements reactor.Driver. It belongs to the simulation's loop: nothing here is safe for concurrent use.
type Driver struct {
	cfg  Config
	emit func(any, error)
	runs map[exec.RunID]*run
	dead bool
}

type run struct {
	job   *exec.Job
	tasks []*task
	left  int
}

type task struct {
	run    *run
	rank   int
	play   Play
	start  time.Time // zero = it does not run yet
	ended  bool
	cancel int // signal that came before it ran
}

// New makes a driver.
func New(cfg Config) *Driver { return &Driver{cfg: cfg, runs: map[exec.RunID]*run{}} }

// Do implements reactor.Driver with the effects of package exec. Feed, Flow and Fence change nothing here.
func (d *Driver) Do(_ time.Time, effect any, done func(result any, err error)) {
	if d.dead {
		return
	}
	switch e := effect.(type) {
	case exec.Open:
		d.emit = done
	case exec.Launch:
		for _, j := range e.Jobs {
			d.launch(j)
		}
	case exec.Signal:
		d.signal(e)
	case exec.Feed, exec.Flow, exec.Fence:
	default:
		done(nil, fmt.Errorf("sim: unknown effect %T", effect))
	}
}

// Crash ends everything at once, as a broker's death does, and tells only the observer.
func (d *Driver) Crash() {
	d.dead = true
	ids := make([]exec.RunID, 0, len(d.runs))
	for id := range d.runs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		for _, t := range d.runs[id].tasks {
			if !t.ended && !t.start.IsZero() {
				d.observe(t, false, -1)
			}
			t.ended = true
		}
	}
	d.runs = nil
}

// Exit ends a task that runs, by itself. It is not to be called from within an observer.
func (d *Driver) Exit(ref exec.Ref, rank, status int) {
	for _, r := range d.runs {
		if r.job.Ref != ref {
			continue
		}
		for _, t := range r.tasks {
			if t.rank == rank && !t.ended && !t.start.IsZero() {
				d.end(t, status)
				return
			}
		}
	}
}

// Running is the number of tasks that have begun and not ended.
func (d *Driver) Running() int {
	n := 0
	for _, r := range d.runs {
		for _, t := range r.tasks {
			if !t.ended && !t.start.IsZero() {
				n++
			}
		}
	}
	return n
}

func (d *Driver) launch(j *exec.Job) {
	r := &run{job: j}
	d.runs[j.ID] = r
	for i := range j.Parts {
		for k := range j.Parts[i].NTasks {
			t := &task{run: r, rank: j.Parts[i].FirstTask + k}
			t.play = d.play(j, t.rank)
			r.tasks = append(r.tasks, t)
		}
	}
	r.left = len(r.tasks)
	for _, t := range r.tasks {
		d.cfg.After(t.play.Delay, func() { d.begin(t) })
	}
}

func (d *Driver) play(j *exec.Job, rank int) Play {
	test := j.Spec.Job.Test
	if d.cfg.Play == nil && test != nil {
		return Play{Run: time.Duration(test.RunDuration * 1e9), Status: test.WaitStatus}
	}
	const prime = 1099511628211
	h := (uint64(j.Ref.Job)*prime^uint64(j.Ref.Attempt))*prime ^ uint64(rank)
	rnd := rand.New(rand.NewPCG(d.cfg.Seed, h*prime))
	if d.cfg.Play != nil {
		return d.cfg.Play(j, rank, rnd)
	}
	return Random(rnd)
}

func (d *Driver) begin(t *task) {
	switch {
	case t.ended:
		return
	case t.cancel != 0:
		d.end(t, t.cancel)
		return
	case t.play.Fail != "":
		d.finish(t, exec.TaskEvent{Status: t.play.Status, Note: t.play.Fail})
		return
	}
	t.start = d.cfg.Now()
	d.observe(t, true, 0)
	d.tell(t, exec.TaskEvent{Kind: exec.TaskStarted})
	d.cfg.After(t.play.Run, func() {
		if !t.ended {
			d.end(t, t.play.Status)
		}
	})
}

func (d *Driver) signal(e exec.Signal) {
	r := d.runs[e.Run]
	if r == nil {
		return
	}
	for _, t := range r.tasks {
		switch {
		case t.ended || !deadly(e.Sig, t.play.Stubborn):
		case t.start.IsZero():
			t.cancel = e.Sig
		default:
			d.cfg.After(0, func() {
				if !t.ended {
					d.end(t, e.Sig)
				}
			})
		}
	}
}

func deadly(sig int, stubborn bool) bool {
	switch sig {
	case 9:
		return true
	case 0, 17, 18, 19, 20, 21, 22, 23, 28: // test, CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH
		return false
	}
	return !stubborn
}

func (d *Driver) end(t *task, status int) {
	ev := exec.TaskEvent{Status: status, MaxRSS: 1024}
	if !t.start.IsZero() {
		ev.Start, ev.CPU = epoch(t.start), d.cfg.Now().Sub(t.start).Seconds()
		if len(t.play.Output) > 0 {
			d.tell(t, exec.TaskEvent{Kind: exec.TaskOutput, Stream: 1, Data: t.play.Output})
		}
		d.observe(t, false, status)
	}
	d.finish(t, ev)
}

func (d *Driver) finish(t *task, ev exec.TaskEvent) {
	t.ended = true
	if t.run.left--; t.run.left == 0 {
		delete(d.runs, t.run.job.ID)
	}
	ev.Kind = exec.TaskEnded
	d.tell(t, ev)
}

func (d *Driver) tell(t *task, ev exec.TaskEvent) {
	ev.Run, ev.Task, ev.Time = t.run.job.ID, t.rank, epoch(d.cfg.Now())
	d.emit(exec.Tasks{ev}, nil)
}

func (d *Driver) observe(t *task, begins bool, status int) {
	if d.cfg.Observe != nil {
		d.cfg.Observe(Observation{d.cfg.Broker, t.run.job.Ref, t.rank, begins, status, d.cfg.Now(), t.run.job.Start, t.run.job.Spec})
	}
}

func epoch(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
