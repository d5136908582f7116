package job

import (
	"slices"
	"sort"
	"strconv"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/resource/idset"
)

// array is one unfinished submission. Element idx is
//
//	active   if it is in active (it runs, or its end is not yet durable)
//	waiting  if it is in again (it ran, or was started, and waits to be started again)
//	pending  if idx ≥ next and it is not in skip
//	ended    otherwise, and only the store knows how
//
// As a queue may hold a million of them, what few arrays have is in extra.
type array struct {
	*extra  // to write to it: own
	id      jobspec.ID
	n       int
	spec    *Spec
	env     *Env
	queue   *queue
	submit  float64
	limit   float64 // time limit in seconds, 0 = none
	one     *elem   // active of an array of one, without a map
	next    int     // first index never started
	pending int     // elements pending or waiting
	running int     // active, end not yet seen
	ended   int     // ended, durable or not
	durably int     // ended and durable
	done    [4]int32
	fails   int32 // elements that failed, durably or not
	status  int32 // largest wait status
	user    uint32
	given   int8 // urgency at submission
	urgency int8
	durable bool // submission: only then it is queued
	watched bool
	follow  bool
	hiDirty bool
	uneven  bool // is in Machine.uneven
	haste   Haste
	// What branches have of it (grant.go).
	delegated bool  // to them, not to the scheduler
	asked     int32 // how many of the pending ones the scheduler has been asked for, or branches may have
	held      int32 // elements that branches hold
}

// extra is what few arrays have.
type extra struct {
	shared bool // is Machine.none, of all arrays that have nothing of this: never written to
	// Of the submission, as in ArrayRow.
	flags      int
	ccText     string
	bcc        bool
	paramSet   uint64
	digest     string
	indexText  string
	originSize int

	values  *idset.Index // of ccText, parsed when first needed
	indexes *idset.Index // of indexText, too
	params  *paramState
	skip    []Span  // indexes ≥ next that are not pending, ascending and disjoint
	top     int     // with aftercorr: those below may have been started
	again   []*elem // to start again, by index
	active  map[int]*elem
	exc     string           // of the first that failed
	hi      int              // recovered: elements below may have been started by an earlier leader
	claimed map[int]StartRow // recovery: durable starts and retries of the leader before, by element
	// What its log says beside the row, and what waits for it (history.go, depend.go).
	log       []byte
	noted     float64 // time of the last event in it
	logDirty  bool
	wait      *waiting   // nil = it has no dependencies
	freed     bool       // they are met
	followers []follower // dependencies on it
	// Of branches (grant.go), and in a branch (tenure.go).
	casts   []Cast    // exceptions that branches are to be told of as long as they hold any
	tried   idset.Set // pending elements that may have run where they are no more
	foreign idset.Set // elements that this instance does not have
	from    []fromGrant
	vars    []string
}

// own is extra to write to.
func (a *array) own() *extra {
	if a.shared {
		a.extra = &extra{}
	}
	return a.extra
}

// newArray makes an array that was submitted as row says.
func (m *Machine) newArray(row *ArrayRow, spec *Spec, env *Env) *array {
	a := &array{extra: &m.none, id: row.ID, n: row.N, spec: spec, env: env, submit: row.Submit, limit: spec.Job.Duration, pending: row.N,
		user: row.User, given: int8(row.Urgency), urgency: int8(row.Urgency)}
	if row.CC != "" || row.BCC || row.Flags != 0 || row.Params != 0 || row.Digest != "" || row.Indexes != "" || len(row.Log) > 0 {
		a.extra = &extra{flags: row.Flags, ccText: row.CC, bcc: row.BCC, paramSet: row.Params, digest: row.Digest, indexText: row.Indexes,
			originSize: row.Size, log: row.Log}
	}
	return a
}

// row is the array as the store has it, but for its token: only the store looks for that.
func (a *array) row() *ArrayRow {
	row := &ArrayRow{ID: a.id, N: a.n, Spec: a.spec.ID, Name: a.spec.Job.Name, CC: a.ccText, BCC: a.bcc, Urgency: int(a.given), Flags: a.flags, User: a.user,
		Submit: a.submit, Params: a.paramSet, Digest: a.digest, Indexes: a.indexText, Size: a.originSize, Log: a.log}
	if a.env != nil {
		row.Env = a.env.ID
	}
	return row
}

// elem is an active or waiting element.
type elem struct {
	arr      *array
	idx      int
	attempt  uint32
	epoch    uint64 // of the leader that started this attempt
	state    jobspec.State
	alloc    uint64   // the scheduler's id, 0 = none
	allocs   []uint64 // adopted: our ids, one a broker
	res      *resource.Alloc
	parts    []part
	log      eventLog
	status   int // largest wait status of the parts that ended, -1 = none
	failed   int // status of a task that could not be started: it becomes the element's; 0 = none
	exc      *Exception
	tRun     float64
	limit    float64 // seconds that it may run, as the scheduler granted; 0 = no limit
	started  bool    // `start` is posted
	begun    bool    // it was, in this attempt or an earlier one
	lost     string  // why a part was lost; empty = none was
	ran      bool    // some task of it ran, or may have
	adopted  bool    // taken over from the leader before
	nnodes   int     // adopted: how many nodes it has in all
	maxRSS   int64
	began    float64 // when its tasks started
	signal   int     // that a task died of
	cpu      float64
	watched  bool
	held     bool     // rerun=no: waits for its start row to be durable
	signaled bool     // the other parts were told to end
	fails    int      // attempts that failed, for --retries
	wants    bool     // waits for its parameters
	warned   bool     // of the instance's end
	killed   bool     // a user has sent it a signal
	risen    bool     // an instance that has said where it is
	params   []string // until all parts are sent
	after    []posted // of epilogs: they stand behind finish
}

// part is what an element has on one broker.
type part struct {
	rank    int32
	parts   []Part
	sent    bool
	started bool
	ended   bool
	posted  uint8 // events of its prolog and epilog that have come, by bit
}

func (a *array) idOf(idx int) jobspec.ID {
	if a.n == 1 {
		return a.id
	}
	return a.id + 1 + jobspec.ID(idx)
}

func (e *elem) id() jobspec.ID { return e.arr.idOf(e.idx) }

func (e *elem) key() RunKey { return RunKey{e.id(), e.attempt, e.epoch} }

func (a *array) get(idx int) *elem {
	if a.n == 1 {
		return a.one
	}
	return a.active[idx]
}

func (a *array) put(e *elem) {
	if a.n == 1 {
		a.one = e
		return
	}
	if a.active == nil {
		a.own().active = make(map[int]*elem)
	}
	a.active[e.idx] = e
}

func (a *array) drop(e *elem) {
	if a.n == 1 {
		a.one = nil
		return
	}
	delete(a.active, e.idx)
}

// sortedActive returns the active elements by index.
func (a *array) sortedActive() []*elem {
	if a.one != nil {
		return []*elem{a.one}
	}
	es := make([]*elem, 0, len(a.active))
	for _, e := range a.active {
		es = append(es, e)
	}
	sort.Slice(es, func(i, j int) bool { return es[i].idx < es[j].idx })
	return es
}

// skipped tells whether idx ≥ next is not pending.
func (a *array) skipped(idx int) bool {
	i := sort.Search(len(a.skip), func(i int) bool { return a.skip[i].Hi >= idx })
	return i < len(a.skip) && a.skip[i].Lo <= idx
}

// addSkip takes lo … hi out of the pending ones; parts may be out already. It returns the spans that were pending.
func (a *array) addSkip(lo, hi int) []Span {
	a.unready(lo, hi)
	lo = max(lo, a.next)
	var fresh []Span
	merged := Span{lo, hi}
	out := a.skip[:0:0]
	at := lo
	for _, s := range a.skip {
		if s.Hi < lo-1 || s.Lo > hi+1 {
			out = append(out, s)
			continue
		}
		if s.Lo > at {
			fresh = append(fresh, Span{at, min(s.Lo-1, hi)})
		}
		at = max(at, s.Hi+1)
		merged = Span{min(merged.Lo, s.Lo), max(merged.Hi, s.Hi)}
	}
	if at <= hi {
		fresh = append(fresh, Span{at, hi})
	}
	if lo > hi {
		return nil
	}
	out = append(out, merged)
	sort.Slice(out, func(i, j int) bool { return out[i].Lo < out[j].Lo })
	a.own().skip = out
	return fresh
}

// popPending takes the lowest pending element that was never started; -1 = none.
func (a *array) popPending() int {
	for len(a.skip) > 0 && a.skip[0].Lo <= a.next {
		a.next = max(a.next, a.skip[0].Hi+1)
		a.skip = a.skip[1:]
	}
	if a.next >= a.n {
		return -1
	}
	a.next++
	return a.next - 1
}

func (a *array) waiting(idx int) (int, *elem) {
	i := sort.Search(len(a.again), func(i int) bool { return a.again[i].idx >= idx })
	if i < len(a.again) && a.again[i].idx == idx {
		return i, a.again[i]
	}
	return i, nil
}

func (a *array) pushAgain(e *elem) {
	i, _ := a.waiting(e.idx)
	a.own().again = slices.Insert(a.again, i, e)
}

func (a *array) removeAgain(i int) { a.again = append(a.again[:i], a.again[i+1:]...) }

// isPending tells whether idx was never started and still may be.
func (a *array) isPending(idx int) bool { return idx >= a.next && idx < a.n && !a.skipped(idx) }

// cc is element idx's value of --cc.
func (a *array) cc(idx int) string {
	if a.ccText == "" {
		return ""
	}
	if a.values == nil {
		set, err := idset.Parse(a.ccText)
		if err != nil {
			return "" // was checked at submission
		}
		a.own().values = set.Index()
	}
	v, _ := a.values.Nth(a.shown(idx))
	return strconv.Itoa(v)
}

func (a *array) state() *ArrayState {
	return &ArrayState{ID: a.id, N: a.n, Pending: a.pending, Running: a.n - a.pending - a.durably - a.foreign.Len(), Completed: int(a.done[0]), Failed: int(a.done[1]),
		Canceled: int(a.done[2]), TimedOut: int(a.done[3]), MaxStatus: int(a.status), Exception: a.exc}
}

// countResult counts one durable end, or n of them.
func (a *array) countResult(result jobspec.Result, n int) {
	i := 1
	switch result {
	case jobspec.ResultCompleted:
		i = 0
	case jobspec.ResultCanceled:
		i = 2
	case jobspec.ResultTimeout:
		i = 3
	}
	a.done[i] += int32(n)
	a.durably += n
}
