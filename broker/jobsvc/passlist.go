package jobsvc

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
)

// listBranches asks branches for lists, behind the grants that they are about to get, and calls then with what came. What a branch that does
// not answer would say, instead says; nil = nothing.
func (s *Service) listBranches(reqs map[int]api.ListReq, instead func(to int) []api.JobInfo, then func([]api.JobInfo)) {
	if len(reqs) == 0 {
		then(nil)
		return
	}
	s.whenSent(func() { s.askForLists(reqs, instead, then) })
}

func (s *Service) askForLists(reqs map[int]api.ListReq, instead func(to int) []api.JobInfo, then func([]api.JobInfo)) {
	left := len(reqs)
	var jobs []api.JobInfo
	for _, to := range slices.Sorted(maps.Keys(reqs)) {
		s.pass(to, api.List.Topic, reqs[to], &passing{each: func(b rpc.Payload) {
			if rep, err := rpc.As[api.ListRep](b); err == nil {
				jobs = append(jobs, rep.Jobs...)
			}
		}, end: func(err error) {
			if err != nil && instead != nil {
				jobs = append(jobs, instead(to)...)
			}
			if left--; left == 0 {
				then(jobs)
			}
		}})
	}
}

// moves counts how often elements went to branches, and came back. One that moves while a list is put together may be in none of its
// parts: then these are asked for again.
type moves struct{ taken, back uint64 }

// listTries is how often a list is put together at most. Where work goes to branches all the time, one may miss what moved just then.
const listTries = 8

// statesActive are all states but that of the end.
const statesActive = int(jobspec.StatesPending | jobspec.StatesRunning)

// withHeld adds to a list of active jobs those that branches hold, in the list's order. It calls again instead if some came back meanwhile.
func (s *Service) withHeld(req *api.ListReq, jobs []api.JobInfo, again func(), then func([]api.JobInfo)) {
	states := statesActive
	if req.States != 0 || req.Results != 0 {
		states = req.States & statesActive
	}
	reqs := make(map[int]api.ListReq)
	if states != 0 && req.After == nil {
		for _, b := range s.m.Holders() {
			reqs[b] = api.ListReq{States: states, Name: req.Name, Collapse: req.Collapse, Max: req.Max, Reasons: req.Reasons}
		}
	}
	instead := func(to int) []api.JobInfo {
		return s.unreached(to, func(j *api.JobInfo) bool { return states&j.State != 0 && (req.Name == "" || j.Name == req.Name) })
	}
	before := s.moves.back
	s.listBranches(reqs, instead, func(held []api.JobInfo) {
		if again != nil && s.moves.back != before {
			again()
			return
		}
		if held = s.stillHeld(held); len(held) > 0 {
			jobs = inOrder(collapse(append(jobs, held...)))
		}
		then(jobs)
	})
}

// stillHeld drops what is listed as active and no more in a branch's hands: it is in another list.
func (s *Service) stillHeld(jobs []api.JobInfo) []api.JobInfo {
	return slices.DeleteFunc(jobs, func(j api.JobInfo) bool {
		arr, _, idx, ok := s.m.Lookup(j.ID)
		if ok && idx >= 0 {
			_, ok = s.m.Holder(arr, idx)
		}
		return !ok
	})
}

// collapse makes one row of those that stand for pending elements of the same array.
func collapse(jobs []api.JobInfo) []api.JobInfo {
	at := make(map[jobspec.ID]int)
	kept := jobs[:0]
	for _, j := range jobs {
		i, seen := at[j.ID]
		if j.NElements == 0 || !seen {
			at[j.ID] = len(kept)
			kept = append(kept, j)
			continue
		}
		kept[i].NElements = max(kept[i].NElements, 1) + j.NElements
	}
	return kept
}

// inOrder sorts active jobs: pending ones by priority and id, then running ones, the latest start first.
func inOrder(jobs []api.JobInfo) []api.JobInfo {
	pending := func(j *api.JobInfo) bool { return j.State&int(jobspec.StatesPending) != 0 }
	slices.SortStableFunc(jobs, func(a, b api.JobInfo) int {
		switch p, q := pending(&a), pending(&b); {
		case p != q && p:
			return -1
		case p != q:
			return 1
		case p:
			return cmp.Or(-cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.ID, b.ID))
		}
		return cmp.Or(cmp.Compare(b.TRun, a.TRun), cmp.Compare(a.ID, b.ID))
	})
	return jobs
}

// askChunk bounds how many jobs a branch is asked for at once.
const askChunk = 1000

// filled puts what branches know of elements that have ended there in place of what is known here.
func (s *Service) filled(jobs []api.JobInfo, then func([]api.JobInfo)) {
	reqs := make(map[int]api.ListReq)
	for i := range jobs {
		if b := jobs[i].Branch; b != "" && jobs[i].State == int(jobspec.StateInactive) {
			to, _ := strconv.Atoi(b)
			req := reqs[to]
			if len(req.IDs) < askChunk {
				req.IDs = append(req.IDs, jobs[i].ID)
				reqs[to] = req
			}
		}
	}
	fill := func(known []api.JobInfo) {
		byID := make(map[jobspec.ID]*api.JobInfo, len(known))
		for i := range known {
			byID[known[i].ID] = &known[i]
		}
		for i := range jobs {
			if k := byID[jobs[i].ID]; k != nil && k.State == int(jobspec.StateInactive) {
				k.Branch, k.Dependencies = jobs[i].Branch, jobs[i].Dependencies
				jobs[i] = *k
			}
		}
		then(jobs)
	}
	var silent []jobspec.ID
	instead := func(to int) []api.JobInfo {
		silent = append(silent, reqs[to].IDs...)
		return nil
	}
	s.listBranches(reqs, instead, func(known []api.JobInfo) {
		if len(silent) == 0 {
			fill(known)
			return
		}
		s.query(func(rd job.Reader) (any, error) { return listKept(rd, silent), nil }, func(v any, err error) {
			kept, _ := v.([]api.JobInfo)
			fill(append(known, kept...))
		})
	})
}

// listKept lists what branches that do not answer keep of elements that have ended there.
func listKept(rd job.Reader, ids []jobspec.ID) (jobs []api.JobInfo) {
	by := make(map[job.Reader]*converter)
	for _, id := range ids {
		kept, _, el, err := findKept(rd, id)
		if err != nil || kept == rd {
			continue
		}
		c := by[kept]
		if c == nil {
			c = newConverter(kept)
			by[kept] = c
		}
		if info, err := c.ended(el); err == nil {
			jobs = append(jobs, info)
		}
	}
	return jobs
}

// heldOf asks branches for what they hold of the ids of a listing, and again if something moved meanwhile, up to so many times.
func (s *Service) heldOf(req *api.ListReq, tries int, then func(map[jobspec.ID][]api.JobInfo)) {
	reqs := make(map[int]api.ListReq)
	named := make(map[jobspec.ID]jobspec.ID) // an array's elements stand under the array's id, if that was asked for
	for _, id := range req.IDs {
		arr, _, idx, ok := s.m.Lookup(id)
		if !ok {
			continue
		}
		named[arr] = id
		for _, h := range s.m.HoldersOf(arr) {
			if idx < 0 || h.Elements.Has(idx) {
				one := reqs[h.Branch]
				one.IDs, one.Collapse, one.Reasons = append(one.IDs, id), req.Collapse, req.Reasons
				reqs[h.Branch] = one
			}
		}
	}
	instead := func(to int) []api.JobInfo {
		return s.unreached(to, func(j *api.JobInfo) bool {
			return slices.Contains(reqs[to].IDs, j.ID) || slices.Contains(reqs[to].IDs, j.Array)
		})
	}
	before := s.moves
	s.listBranches(reqs, instead, func(jobs []api.JobInfo) {
		if tries > 1 && s.moves != before {
			s.heldOf(req, tries-1, then)
			return
		}
		held := make(map[jobspec.ID][]api.JobInfo)
		for _, j := range s.stillHeld(jobs) {
			id := j.ID
			if arr := cmp.Or(j.Array, j.ID); !slices.Contains(req.IDs, id) {
				id = named[arr]
			}
			if j.State != int(jobspec.StateInactive) {
				held[id] = append(held[id], j)
			}
		}
		for id := range held {
			held[id] = inOrder(collapse(held[id]))
		}
		then(held)
	})
}

// unreached is what is known here of the elements that a branch holds: not whether they run.
func (s *Service) unreached(to int, wanted func(*api.JobInfo) bool) (jobs []api.JobInfo) {
	for _, sh := range s.m.Shares(to) {
		row, spec, _, ok := s.m.Row(sh.Array)
		if !ok {
			continue
		}
		info := submitted(row, spec.Job)
		info.State, info.Attempt, info.Reason = int(jobspec.StateSched), 1, s.awayText(to)
		for idx := range sh.Elements.All() {
			one := info
			one.Index = idx
			if row.N > 1 {
				one.ID, one.Array = row.ID+1+jobspec.ID(idx), row.ID
			}
			if wanted(&one) {
				jobs = append(jobs, one)
			}
			if len(jobs) >= api.ListLimit {
				return jobs
			}
		}
	}
	return jobs
}

func (s *Service) awayText(to int) string {
	return "is in branch " + strconv.Itoa(to) + ", which cannot be reached at the moment"
}
