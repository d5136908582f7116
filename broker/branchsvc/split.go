package branchsvc

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// A branch is a job of its parent that is an instance (jobspec.Instance), marked as the system's own: it is not listed nor counted, and
// gives way to what a user has submitted. Its nodes are the job's. It is known by the job's id.

// Make says how branches are started; a zero one cannot.
type Make struct {
	Command []string // that is a branch; what distinguishes it is added as options
	Env     []byte   // NAME=value, each ended by NUL
	State   string   // directory under which each has its state
	Size    int      // brokers of this instance: branches are not made before all nodes are known
	Split   []int    // made at start
}

// splitter is the making of branches.
type splitter struct {
	widths []int
	nodes  map[int]api.BranchSize // by index: one node each
	down   map[int]bool           // of these, those that are offline or drained
	ending bool                   // branches are being done away with
	known  bool                   // those of the leader before have been taken over
	asked  []func()               // what waits for that
	at     bool                   // Make.Split was done
	least  api.BranchSize         // of a node, as "job" was told
	back   []int                  // made again when no job is active that fits no branch
	poll   time.Time              // when that is asked next
	within float64                // seconds that a branch has to come up
	lost   map[int]*lostBranch
	// When branches that wait for nodes are ended, as there are too few; zero = there are enough.
	shortAt time.Time
}

// lostBranch is one that has ended while the instance is split. Its nodes are the parent's again.
type lostBranch struct {
	nodes int
	job   jobspec.ID
	why   string
	tries int
	at    time.Time // when it is made again; zero = never, as no other is left
}

// It is made again after pauses that double.
const (
	minPause = 10 * time.Second
	maxPause = 10 * time.Minute
)

// limit is how many seconds a branch has to come up.
func (p *splitter) limit() float64 { return cmp.Or(p.within, comeUp) }

// pauseAfter is how long a branch that was lost is not made again, after so many tries.
func pauseAfter(tries int) time.Duration { return min(minPause<<min(tries, 10), maxPause) }

// remakeAt is when the next lost branch is made again; zero = none is.
func (p *splitter) remakeAt() (next time.Time) {
	for _, l := range p.lost {
		next = earliest(next, l.at)
	}
	return next
}

// systemFlag is job.FlagSystem, which a service does not import from another's machine.
const systemFlag = 1 << 20

// urgencyOfBranches is below all that users submit by default.
const urgencyOfBranches = 1

// comeUp is how many seconds a branch may take by default, from its start until its leader is there, and from then until it says hello.
const comeUp = 120

// maxWithin bounds what is asked for instead, in seconds.
const maxWithin = 24 * 3600

// nodesKnown counts this instance's nodes, and makes the branches that it is to have from the start.
func (s *Service) nodesKnown(n api.NodesChanged) {
	for i := range n.Add {
		s.split.nodes[n.Add[i].Index] = api.BranchSize{Nodes: 1, CoresOfNode: n.Add[i].Cores.Count(), GPUsOfNode: n.Add[i].GPUs.Count()}
	}
	for _, i := range n.Remove {
		delete(s.split.nodes, i)
	}
	s.nodesUp(&n)
	s.madeAtStart()
	if len(s.links) > 0 && !s.split.ending && s.leastNode() != s.split.least {
		s.tellFits()
	}
}

// madeAtStart makes the branches that the instance is to have from the start, when all nodes are there.
func (s *Service) madeAtStart() {
	if s.split.at || !s.split.known || len(s.cfg.Make.Split) == 0 || len(s.split.nodes) < s.cfg.Make.Size {
		return
	}
	s.split.at = true
	if len(s.links) > 0 {
		return
	}
	if err := s.makeBranches(s.cfg.Make.Split); err != nil {
		s.out.Log("error", "no branches are made", "err", err)
	}
}

// adopt takes over the branches of the leader before, whose jobs have been taken over, too. It does not wait for nodes: some may be gone.
func (s *Service) adopt() {
	s.out.Call(reactor.Call{Topic: api.BranchJobs.Topic, Target: wire.Any, Body: api.Empty{}, Key: func(r *rpc.Response) {
		rep, err := api.BranchJobs.DecodeReply(r)
		if err != nil {
			s.out.Log("error", "job does not tell what branches there are", "err", err)
		}
		for _, j := range rep.Jobs {
			path := strings.TrimPrefix(j.Name, "branch-")
			i, err := strconv.Atoi(path[strings.LastIndexByte(path, '.')+1:])
			if err != nil || s.links[i] != nil {
				continue
			}
			l := &link{branch: i, asks: make(map[uint64]*rpc.Request), nodes: j.Nodes, made: true, adopted: true, path: path, job: j.ID, key: j.ID.String()}
			s.links[i] = l
			s.watch(l)
		}
		for _, i := range rep.Holders {
			if s.links[i] == nil {
				s.forfeit(api.BranchForfeit{Branch: i, Reason: "its job ended before this leader started"})
			}
		}
		if n := len(s.links); n > 0 {
			if s.split.widths = s.cfg.Make.Split; len(s.split.widths) == 0 || s.split.widths[0] != n {
				s.split.widths = []int{n}
			}
			s.tellFits()
			s.out.Notify("job", api.BranchMade{})
		}
		s.split.known = true
		asked := s.split.asked
		s.split.asked = nil
		for _, f := range asked {
			f()
		}
		s.madeAtStart()
	}})
}

// tellFits tells "job" what fits the branches that there are.
func (s *Service) tellFits() {
	s.split.least = s.leastNode()
	var sizes []api.BranchSize
	for _, i := range slices.Sorted(maps.Keys(s.links)) {
		size := s.split.least
		size.Nodes = s.links[i].nodes
		sizes = append(sizes, size)
	}
	s.out.Notify("job", api.BranchFits{Sizes: sizes})
}

// leastNode is what every node has.
func (s *Service) leastNode() api.BranchSize {
	least := api.BranchSize{CoresOfNode: 1 << 30, GPUsOfNode: 1 << 30}
	for _, z := range s.split.nodes {
		least.CoresOfNode, least.GPUsOfNode = min(least.CoresOfNode, z.CoresOfNode), min(least.GPUsOfNode, z.GPUsOfNode)
	}
	return least
}

// CheckWidths says what is wrong with the widths of a tree of branches over so many nodes; nil = nothing.
func CheckWidths(widths []int, nodes int) error {
	need := 1
	for _, w := range widths {
		if w < 1 {
			return fmt.Errorf("%s: each number is at least 1", Widths(widths))
		}
		if need *= w; need > nodes {
			return fmt.Errorf("%s: these are more branches than nodes; there are %d, and each branch has at least one of its own", Widths(widths), nodes)
		}
	}
	return nil
}

// Widths writes the widths of a tree, as 4x8.
func Widths(widths []int) string {
	text := make([]string, len(widths))
	for i, w := range widths {
		text[i] = strconv.Itoa(w)
	}
	return strings.Join(text, "x")
}

// ParseWidths reads what Widths writes.
func ParseWidths(text string) ([]int, error) {
	var widths []int
	for _, part := range strings.Split(text, "x") {
		w, err := strconv.Atoi(part)
		if err != nil || w < 1 {
			return nil, fmt.Errorf("%q: numbers of branches by level are wanted, as 4 or 4x8", text)
		}
		widths = append(widths, w)
	}
	return widths, nil
}

func (s *Service) onSplit(r *rpc.Request, req api.BranchSplitReq) error {
	switch {
	case !s.split.known:
		s.split.asked = append(s.split.asked, func() {
			if err := s.onSplit(r, req); err != nil {
				s.out.Fail(r, err)
			}
		})
		return nil
	case s.up != nil && reactor.FromClient(r):
		return wire.Errorf(wire.Denied, "this instance is a branch itself; its top instance is split, and unsplit, as a whole")
	case !(req.Within >= 0 && req.Within <= maxWithin):
		return wire.Errorf(wire.Invalid, "branches cannot be given %g s to come up: must be between 0 and 24 hours", req.Within)
	case len(req.Widths) == 0:
		s.split.back, s.split.poll = nil, time.Time{}
		clear(s.split.lost)
		s.unsplit()
	case s.split.ending:
		return wire.Errorf(wire.Busy, "the branches that there were are still ending; try again when 'frond split' shows none")
	case len(s.links) > 0:
		return wire.Errorf(wire.Busy, "there are branches already, %s; 'frond split off' first", Widths(s.split.widths))
	default:
		within := s.split.within
		s.split.within = cmp.Or(req.Within, comeUp)
		if err := s.makeBranches(req.Widths); err != nil {
			s.split.within = within
			return err
		}
	}
	s.out.Reply(r, s.status())
	return nil
}

// makeBranches submits the jobs that are branches.
func (s *Service) makeBranches(widths []int) error {
	if len(s.cfg.Make.Command) == 0 {
		return wire.Errorf(wire.Invalid, "this instance cannot make branches")
	}
	all := s.available()
	if err := CheckWidths(widths, all); err != nil {
		return wire.Errorf(wire.Invalid, "%v", err)
	}
	s.split.widths, s.split.back, s.split.poll = widths, nil, time.Time{}
	clear(s.split.lost)
	n, rest := all/widths[0], all%widths[0]
	for i := range widths[0] {
		nodes := n
		if i < rest {
			nodes++
		}
		l := s.newBranch(i, nodes)
		s.submit(l, widths[1:])
	}
	s.tellFits()
	s.out.Notify("job", api.BranchMade{})
	return nil
}

func (s *Service) newBranch(i, nodes int) *link {
	l := &link{branch: i, asks: make(map[uint64]*rpc.Request), nodes: nodes, made: true, path: strconv.Itoa(i)}
	if s.up != nil {
		l.path = s.up.cfg.Path + "." + l.path
	}
	s.links[i] = l
	return l
}

// risen: the leader of a branch is there; it has to say hello in time.
func (s *Service) risen(id jobspec.ID) {
	for _, l := range s.links {
		if l.job == id && l.since.IsZero() {
			l.since = s.now
		}
	}
}

// submit submits the job that is a branch.
func (s *Service) submit(l *link, below []int) {
	m := &s.cfg.Make
	argv := append(slices.Clone(m.Command), "--branch="+l.path, "--statedir="+m.State+"/"+strconv.Itoa(l.branch))
	if len(below) > 0 {
		argv = append(argv, "--split="+Widths(below))
	}
	spec, err := json.Marshal(map[string]any{
		"version": 1,
		"resources": []any{map[string]any{"type": "node", "count": l.nodes, "exclusive": true, "with": []any{map[string]any{"type": "slot", "count": 1,
			"label": "task", "with": []any{map[string]any{"type": "core", "count": 1}}}}}},
		"tasks": []any{map[string]any{"command": argv, "slot": "task", "count": map[string]any{"per_slot": 1}}},
		"attributes": map[string]any{"system": map[string]any{"duration": 0, "retries": 3, "job": map[string]any{"name": "branch-" + l.path},
			"instance": map[string]any{"history": true, "start-limit": s.split.limit()}}},
	})
	if err != nil {
		s.out.Log("error", "the jobspec of a branch cannot be written", "err", err)
		return
	}
	req := api.SubmitReq{Items: []api.SubmitItem{{Spec: spec, N: 1, Urgency: urgencyOfBranches, Flags: systemFlag}}}
	if len(m.Env) > 0 {
		req.Envs, req.Items[0].Env = [][]byte{m.Env}, 1
	}
	s.out.Call(reactor.Call{Topic: api.Submit.Topic, Target: wire.Any, Body: req, Key: func(r *rpc.Response) {
		rep, err := api.Submit.DecodeReply(r)
		if err != nil {
			s.failed(l, "it could not be submitted: "+err.Error())
			return
		}
		l.job, l.key = rep.IDs[0], rep.IDs[0].String()
		s.watch(l)
	}})
}

// watch waits for the end of a branch's job.
func (s *Service) watch(l *link) {
	text := "its job ended"
	s.out.Call(reactor.Call{Topic: api.Wait.Topic, Target: wire.Any, Body: api.WaitReq{IDs: []jobspec.ID{l.job}}, Stream: true, Key: &waiting{func(r *rpc.Response) {
		if s.links[l.branch] != l {
			return
		}
		if rep, err := api.Wait.DecodeReply(r); err == nil && rep.Done {
			if text = "its job ended with status " + strconv.Itoa(rep.Status); rep.Exception != "" {
				text += ", " + rep.Exception
			}
		}
		if !r.More {
			s.failed(l, text)
		}
	}}})
}

// waiting is the key of a stream.
type waiting struct{ f func(*rpc.Response) }

// failed: nothing of a branch runs any more. As long as there are others it is made again.
func (s *Service) failed(l *link, reason string) {
	if !s.split.ending {
		s.out.Log("error", "a branch has ended", "branch", l.path, "reason", reason)
		s.split.lost[l.branch] = &lostBranch{nodes: l.nodes, job: l.job, why: reason, tries: l.tries + 1, at: s.now.Add(pauseAfter(l.tries))}
	}
	s.forfeit(api.BranchForfeit{Branch: l.branch, Reason: reason})
	if len(s.links) > 0 {
		return
	}
	if !s.split.ending {
		s.out.Log("error", "all branches have ended: the instance is no longer split")
		for _, lost := range s.split.lost {
			lost.at = time.Time{}
		}
	}
	s.split.ending, s.split.widths = false, nil
	if s.split.back != nil {
		s.split.poll = s.now.Add(pollEvery)
	}
	s.out.Notify("job", api.BranchFits{})
}

// unsplit does away with the branches: they get nothing more, give back what has not started, and end when they hold nothing.
func (s *Service) unsplit() {
	if len(s.links) == 0 {
		return
	}
	s.split.ending = true
	clear(s.split.lost)
	s.out.Notify("job", api.BranchFits{})
	for _, i := range slices.Sorted(maps.Keys(s.links)) {
		l := s.links[i]
		s.bal.Part(i)
		if l.ready {
			s.order(l, api.BranchOrder{TakeBack: 1 << 40})
		}
	}
	s.endEmpty()
}

// pollEvery is how often it is asked whether branches may come back.
const pollEvery = time.Second

// waits: a job needs more than a branch has. The branches make way for it, and come back when no such job is active.
func (s *Service) waits() {
	if len(s.links) > 0 && !s.split.ending {
		s.split.back = s.split.widths
		s.unsplit()
	}
}

// askBack makes the branches again, if nothing is in their way any more.
func (s *Service) askBack() {
	if s.split.poll.IsZero() || s.split.poll.After(s.now) {
		return
	}
	s.split.poll = time.Time{}
	s.out.Call(reactor.Call{Topic: api.BranchUnfit.Topic, Target: wire.Any, Body: api.Empty{}, Key: func(r *rpc.Response) {
		rep, err := api.BranchUnfit.DecodeReply(r)
		switch {
		case s.split.back == nil || len(s.links) > 0:
		case err == nil && rep.Arrays == 0:
			if err := s.makeBranches(s.split.back); err != nil {
				s.out.Log("error", "the branches cannot be made again", "err", err)
				s.split.back = nil
			}
		default:
			s.split.poll = s.now.Add(pollEvery)
		}
	}})
}

// endEmpty ends branches that hold nothing, when all are to end.
func (s *Service) endEmpty() {
	if !s.split.ending {
		return
	}
	for _, i := range slices.Sorted(maps.Keys(s.links)) {
		if l := s.links[i]; !l.told && l.job != 0 && s.bal.Load(i) == 0 && (l.ready || l.session == 0 && !l.adopted) {
			s.endJob(l, "the instance is no longer split")
		}
	}
}

// endJob ends a branch's job.
func (s *Service) endJob(l *link, why string) {
	l.told = true
	s.out.Call(reactor.Call{Topic: api.Raise.Topic, Target: wire.Any, Body: api.RaiseReq{IDs: []jobspec.ID{l.job}, Type: "cancel", Note: why},
		Key: func(*rpc.Response) {}})
}

// tooLate ends branches that never said hello. Of one whose leader never came "job" knows.
func (s *Service) tooLate() (next time.Time) {
	for _, i := range slices.Sorted(maps.Keys(s.links)) {
		l := s.links[i]
		if !l.made || l.session > 0 || l.told || l.since.IsZero() {
			continue
		}
		within := s.split.limit()
		if at := l.since.Add(time.Duration(within * float64(time.Second))); at.After(s.now) {
			next = earliest(next, at)
		} else {
			s.endJob(l, "it has started, and did not say hello to its parent within "+jobspec.FormatFSD(within))
		}
	}
	return next
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
