package branch

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/frond-hpc/frond/jobspec"
)

// Balance decides how much of the queue each branch is given. Work is counted in cores: an element counts as many as it asks for.
//
// A branch is to have work for some time without its parent's help, and not so much that others run out of it: two rounds of its cores,
// or what it does in a second if that is more, and it is filled up to three rounds, or two seconds. When nothing is left to give and one
// branch has cores without work, the one that has most is asked to give some back.
type Balance struct {
	sides  map[int]*side
	jobs   map[jobspec.ID]*work
	queue  offers
	asking int // cores of all that may be granted
}

// side is one branch.
type side struct {
	cores  int
	nodes  int
	up     bool
	load   int     // cores of all that it holds
	rate   float64 // cores of elements that end in a second, smoothed
	ended  int     // cores of those that ended since
	since  time.Time
	recall bool      // it has been asked to give something back
	quiet  time.Time // it had nothing to give: it is not asked before
}

// work is an array.
type work struct {
	id    jobspec.ID
	prio  uint32
	cores int // of an element
	nodes int // 0 = any
	n     int // elements that may be granted
	at    int // place in the queue, -1 = it is not there
}

// What a branch is given.
const (
	rounds   = 2       // of its cores: below it gets more
	ahead    = 1.0     // seconds of what it does
	MaxGrant = 1 << 15 // elements of one grant
	looks    = 64      // arrays that are looked at for one that fits
)

// Take says to grant elements.
type Take struct {
	Branch int
	Items  []TakeItem
}

// TakeItem is N elements of an array.
type TakeItem struct {
	Array jobspec.ID
	N     int
}

// Recall asks a branch to give back elements of so many cores.
type Recall struct{ Branch, Cores int }

// NewBalance makes one without branches.
func NewBalance() *Balance {
	return &Balance{sides: make(map[int]*side), jobs: make(map[jobspec.ID]*work)}
}

// Join books a branch: its nodes and cores, those of what it holds, and that it takes work from now on.
func (b *Balance) Join(branch, nodes, cores, load int, now time.Time) {
	s := b.sides[branch]
	if s == nil {
		s = &side{}
		b.sides[branch] = s
	}
	s.cores, s.nodes, s.load, s.up, s.recall, s.since = max(cores, 1), nodes, load, true, false, now
}

// Part books that a branch takes no work for now. It keeps what it holds.
func (b *Balance) Part(branch int) {
	if s := b.sides[branch]; s != nil {
		s.up, s.recall, s.rate = false, false, 0
	}
}

// Drop forgets a branch that holds nothing.
func (b *Balance) Drop(branch int) { delete(b.sides, branch) }

// Offer books that n more (or fewer) elements of an array may be granted. Cores and nodes are what one element needs; 0 cores: as was said.
func (b *Balance) Offer(id jobspec.ID, n, cores, nodes int, prio uint32) {
	w := b.jobs[id]
	if w == nil {
		w = &work{id: id, at: -1}
		b.jobs[id] = w
	}
	if cores > 0 {
		b.asking += w.n * (cores - w.cores)
		w.cores, w.nodes, w.prio = cores, nodes, prio
	}
	b.add(w, n)
}

func (b *Balance) add(w *work, n int) {
	w.n += n
	b.asking += n * w.cores
	switch {
	case w.n > 0 && w.at < 0:
		heap.Push(&b.queue, w)
	case w.n > 0:
		heap.Fix(&b.queue, w.at)
	case w.at >= 0:
		heap.Remove(&b.queue, w.at)
	}
	if w.n == 0 {
		delete(b.jobs, w.id)
	}
}

// Granted books that a branch holds elements of so many cores more.
func (b *Balance) Granted(branch, cores int) {
	if s := b.sides[branch]; s != nil {
		s.load += cores
	}
}

// Settled books that a branch holds so many fewer; ended: because they have ended.
func (b *Balance) Settled(branch, cores int, ended bool) {
	if s := b.sides[branch]; s != nil {
		if s.load = max(0, s.load-cores); ended {
			s.ended += cores
		}
	}
}

// Recalled books a branch's answer to a Recall.
func (b *Balance) Recalled(branch, cores int, now time.Time) {
	if s := b.sides[branch]; s != nil {
		if s.recall = false; cores == 0 {
			s.quiet = now.Add(recallPause)
		}
	}
}

// recallPause is how long a branch that had nothing to give back is not asked again.
const recallPause = 250 * time.Millisecond

// rateEvery is the least time over which a rate is measured.
const rateEvery = 100 * time.Millisecond

// rateRests is how long nothing need be heard from a branch without its being taken for slow: it reports now and then.
const rateRests = time.Second

func (s *side) measure(now time.Time) {
	d := now.Sub(s.since)
	if d < rateEvery || s.ended == 0 && d < rateRests {
		return
	}
	s.rate = (s.rate + float64(s.ended)/d.Seconds()) / 2
	s.ended, s.since = 0, now
}

// low is the load below which a branch gets more, and high what it is filled up to.
func (s *side) low() int  { return max(rounds*s.cores, int(s.rate*ahead)) }
func (s *side) high() int { return max(rounds*s.cores*3/2, int(s.rate*ahead*2)) }

// Decide says what to do now.
func (b *Balance) Decide(now time.Time) (takes []Take, recalls []Recall) {
	up := b.sorted()
	all := 0
	for _, i := range up {
		b.sides[i].measure(now)
		all += b.sides[i].cores
	}
	asking := b.asking
	for _, i := range up {
		s := b.sides[i]
		if asking == 0 || s.load >= s.low() {
			continue
		}
		share := (asking*s.cores + all - 1) / all
		if t := b.fill(i, s, min(s.high()-s.load, max(share, 1))); len(t.Items) > 0 {
			takes = append(takes, t)
		}
	}
	if b.asking == 0 {
		recalls = b.even(up, now)
	}
	return takes, recalls
}

// sorted are the branches that take work, those with least first.
func (b *Balance) sorted() []int {
	up := slices.DeleteFunc(slices.Sorted(maps.Keys(b.sides)), func(i int) bool { return !b.sides[i].up })
	slices.SortStableFunc(up, func(i, j int) int {
		x, y := b.sides[i], b.sides[j]
		return cmp.Compare(x.load*y.cores, y.load*x.cores)
	})
	return up
}

// fill takes work of so many cores for a branch from the front of the queue.
func (b *Balance) fill(branch int, s *side, want int) Take {
	t := Take{Branch: branch}
	var passed []*work // it does not fit
	left := MaxGrant
	for want > 0 && left > 0 && len(b.queue) > 0 && len(passed) < looks {
		w := b.queue[0]
		if w.cores > s.cores || w.nodes > s.nodes {
			passed = append(passed, heap.Pop(&b.queue).(*work))
			continue
		}
		n := min(w.n, (want+w.cores-1)/w.cores, left)
		t.Items = append(t.Items, TakeItem{w.id, n})
		want, left = want-n*w.cores, left-n
		b.add(w, -n)
	}
	for _, w := range passed {
		heap.Push(&b.queue, w)
	}
	return t
}

// even has the branch with most work give some back, if another has cores without work.
func (b *Balance) even(up []int, now time.Time) (recalls []Recall) {
	if len(up) < 2 {
		return nil
	}
	idle := b.sides[up[0]]
	if idle.load >= idle.cores {
		return nil
	}
	for i := len(up) - 1; i > 0; i-- {
		s := b.sides[up[i]]
		over := s.load - s.cores // more than can run at once
		if over <= 0 || s.recall || s.quiet.After(now) {
			continue
		}
		fair := (s.load*idle.cores - idle.load*s.cores) / (s.cores + idle.cores)
		if k := min(over, fair); k > 0 {
			s.recall = true
			return append(recalls, Recall{up[i], k})
		}
	}
	return nil
}

// Load is the cores of all that a branch holds.
func (b *Balance) Load(branch int) int {
	if s := b.sides[branch]; s != nil {
		return s.load
	}
	return 0
}

// Hungry tells whether a branch has cores without work while another has more than it can run: then Decide is to be asked again after a
// while.
func (b *Balance) Hungry() bool {
	short, over := false, false
	for _, s := range b.sides {
		short, over = short || s.up && s.load < s.cores, over || s.up && s.load > s.cores
	}
	return short && over
}

// Check returns the first broken invariant.
func (b *Balance) Check() error {
	asking := 0
	for id, w := range b.jobs {
		asking += w.n * w.cores
		if (w.n > 0) != (w.at >= 0) || w.at >= 0 && b.queue[w.at] != w {
			return fmt.Errorf("%v: %d elements, place %d", id, w.n, w.at)
		}
	}
	if asking != b.asking {
		return fmt.Errorf("%d cores are offered, counted as %d", asking, b.asking)
	}
	for i, s := range b.sides {
		if s.load < 0 {
			return fmt.Errorf("branch %d has a load of %d", i, s.load)
		}
	}
	return nil
}

// offers is a heap of arrays: the highest priority first, of equal ones the oldest.
type offers []*work

func (o offers) Len() int { return len(o) }
func (o offers) Less(i, j int) bool {
	return cmp.Or(-cmp.Compare(o[i].prio, o[j].prio), cmp.Compare(o[i].id, o[j].id)) < 0
}
func (o offers) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].at, o[j].at = i, j
}

// Push implements heap.Interface.
func (o *offers) Push(x any) {
	w := x.(*work)
	w.at = len(*o)
	*o = append(*o, w)
}

// Pop implements heap.Interface.
func (o *offers) Pop() any {
	last := len(*o) - 1
	w := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	w.at = -1
	return w
}
