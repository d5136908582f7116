package jobsvc

import (
	"math"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// Purging: a query of the store's readers finds the arrays, so that commits do not wait for it; then the store's writer forgets them, and gives
// back the room they took in further effects, between which other commits have their turn.

// PurgeLimits are limits of what has ended: elements that ended Age ago or before, and the oldest beyond Num, are purged. 0 = no such limit; Num
// counts with HasNum alone, as none at all may be wanted.
type PurgeLimits struct {
	Age    time.Duration
	Num    int
	HasNum bool
}

const (
	purgeBatch = 1000             // jobs and arrays that one call purges, where it does not say
	purgeEvery = 10 * time.Second // how often the limits are looked at
	// tokensKept is how long a submission without a key may be sent again: longer than any client tries.
	tokensKept = time.Hour
)

// purging is the state of purges.
type purging struct {
	then []func(job.Purged, error) // of the effects under way, in order
	due  time.Time                 // when the limits are looked at; zero = there is nothing to purge, or one is under way
	busy bool
}

// done takes the answer of the oldest effect.
func (p *purging) done(res any, err error) {
	then := p.then[0]
	p.then = p.then[1:]
	purged, _ := res.(job.Purged)
	then(purged, err)
}

// selection is what a purge may take.
type selection struct {
	before float64 // what ended at or before it
	excess int     // elements, the oldest, that are too many
	batch  int     // arrays
	after  job.EndPos
}

func (s *Service) onPurge(r *rpc.Request, req api.PurgeReq) error {
	switch {
	case req.Batch < 0:
		return wire.Errorf(wire.Invalid, "purge: a batch of %d", req.Batch)
	case len(req.IDs) > 0:
		s.purgeIDs(r, &req)
		return nil
	case req.AgeLimit == nil && req.NumLimit == nil:
		return wire.Errorf(wire.Invalid, "purge: neither ids nor limits are given")
	case req.AgeLimit != nil && !(*req.AgeLimit >= 0):
		return wire.Errorf(wire.Invalid, "purge: an age of %v", *req.AgeLimit)
	case req.NumLimit != nil && *req.NumLimit < 0:
		return wire.Errorf(wire.Invalid, "purge: a limit of %d elements", *req.NumLimit)
	}
	sel := selection{before: -1, excess: 0, batch: req.Batch}
	if req.AgeLimit != nil {
		sel.before = float64(s.now.UnixNano())/1e9 - *req.AgeLimit
	}
	inactive := s.m.Totals().Inactive
	if req.NumLimit != nil {
		sel.excess = max(0, inactive-*req.NumLimit)
	}
	if req.After != nil {
		sel.after = job.EndPos(*req.After)
	}
	if sel.batch == 0 {
		sel.batch = purgeBatch
	}
	if !req.Force {
		sel.batch = math.MaxInt
	}
	s.purgeSome(&sel, req.Force, func(count int, next *job.EndPos, err error) {
		if err != nil {
			s.out.Fail(r, err)
			return
		}
		s.out.Reply(r, api.PurgeRep{Count: count, Inactive: inactive, Next: (*api.PurgeAfter)(next)})
	})
	return nil
}

// purgeSome purges, or with force=false counts, the next arrays of a selection. Then is called with the number of elements and where to go on; nil =
// there are no more.
func (s *Service) purgeSome(sel *selection, force bool, then func(count int, next *job.EndPos, err error)) {
	keep := s.m.Needed()
	s.query(func(rd job.Reader) (any, error) { return sel.find(rd, keep) }, func(v any, err error) {
		f, _ := v.(victims)
		if err != nil || !force {
			then(f.elements, f.next, err)
			return
		}
		s.purgeArrays(f.ids, f.next == nil, func(p job.Purged, err error) { then(p.Elements(), f.next, err) })
	})
}

// victims is what a selection found.
type victims struct {
	ids      []jobspec.ID
	elements int
	next     *job.EndPos
}

func (sel *selection) find(rd job.Reader, keep map[jobspec.ID]bool) (any, error) {
	var f victims
	excess := sel.excess
	err := rd.Oldest(sel.after, func(a job.EndedArray, at job.EndPos) bool {
		if a.End > sel.before && excess <= 0 {
			return false
		}
		if keep[a.ID] {
			return true
		}
		f.ids, f.elements = append(f.ids, a.ID), f.elements+a.N
		if excess -= a.N; len(f.ids) >= sel.batch {
			f.next = &at
			return false
		}
		return true
	})
	return f, err
}

// purgeArrays purges arrays but those on which unfinished ones depend by now; with all it also gives back the room of this and purges before.
func (s *Service) purgeArrays(ids []jobspec.ID, all bool, then func(job.Purged, error)) {
	needed := s.m.Needed()
	free := make([]jobspec.ID, 0, len(ids))
	for _, id := range ids {
		if !needed[id] {
			free = append(free, id)
		}
	}
	s.doPurge(free, func(p job.Purged, err error) {
		if err != nil {
			then(p, wire.Errorf(wire.Unavailable, "%v", err))
			return
		}
		s.step(job.Forgotten{Purged: p})
		if !all || !p.More {
			then(p, nil)
			return
		}
		s.giveBack(func(err error) { then(p, err) })
	})
}

// giveBack has the room of what is purged given back.
func (s *Service) giveBack(then func(error)) {
	s.doPurge(nil, func(p job.Purged, err error) {
		if err != nil || !p.More {
			then(err)
			return
		}
		s.giveBack(then)
	})
}

func (s *Service) doPurge(ids []jobspec.ID, then func(job.Purged, error)) {
	s.purging.then = append(s.purging.then, then)
	s.out.Do(&job.Purge{Arrays: ids, TokensUntil: float64(s.now.Add(-tokensKept).UnixNano()) / 1e9})
}

// purgeIDs purges named jobs and arrays, all or none.
func (s *Service) purgeIDs(r *rpc.Request, req *api.PurgeReq) {
	rep := api.PurgeRep{Inactive: s.m.Totals().Inactive, Errors: map[jobspec.ID]string{}}
	needed := s.m.Needed()
	for _, id := range req.IDs {
		if _, _, _, active := s.m.Lookup(id); active {
			rep.Errors[id] = "job is active"
		} else if needed[id] {
			rep.Errors[id] = "a job that has not ended depends on it"
		}
	}
	s.query(func(rd job.Reader) (any, error) { return named(rd, req.IDs, &rep) }, func(v any, err error) {
		if err != nil || len(rep.Errors) > 0 || !req.Force {
			if len(rep.Errors) > 0 {
				rep.Count = 0
			}
			s.answerPurge(r, &rep, err)
			return
		}
		s.purgeArrays(v.([]jobspec.ID), true, func(p job.Purged, err error) {
			rep.Count = p.Elements()
			s.answerPurge(r, &rep, err)
		})
	})
}

// named finds the arrays that are named by their ids, or by those of all their elements.
func named(rd job.Reader, ids []jobspec.ID, rep *api.PurgeRep) (whole []jobspec.ID, err error) {
	seen := make(map[jobspec.ID]bool, len(ids))
	parts := make(map[jobspec.ID][]jobspec.ID) // elements that are named, by array
	for _, id := range ids {
		if seen[id] || rep.Errors[id] != "" {
			continue
		}
		seen[id] = true
		row, ok, err := rd.Find(id)
		switch {
		case err != nil:
			return nil, err
		case !ok:
			rep.Errors[id] = "unknown job id"
		case row.ID != id:
			if parts[row.ID] = append(parts[row.ID], id); len(parts[row.ID]) < row.N {
				continue
			}
			delete(parts, row.ID)
		}
		if ok && !seen[row.ID] || row.ID == id {
			seen[row.ID] = true
			rep.Count += row.N
			whole = append(whole, row.ID)
		}
	}
	for array, elements := range parts {
		for _, id := range elements {
			if !seen[array] {
				rep.Errors[id] = "it is an element of an array, which is purged as a whole: name that, or all of them"
			}
		}
	}
	return whole, nil
}

func (s *Service) answerPurge(r *rpc.Request, rep *api.PurgeRep, err error) {
	if err != nil {
		s.out.Fail(r, err)
		return
	}
	s.out.Reply(r, *rep)
}

// purgeIfDue purges what is beyond the limits.
func (s *Service) purgeIfDue() {
	l, p := &s.cfg.Purge, &s.purging
	if l.Age <= 0 && !l.HasNum || p.busy || s.stopping {
		return
	}
	inactive := s.m.Totals().Inactive
	if p.due.IsZero() {
		if inactive > 0 {
			p.due = s.now.Add(purgeEvery)
		}
		return
	}
	if p.due.After(s.now) {
		return
	}
	p.due = time.Time{}
	sel := &selection{before: -1, batch: purgeBatch}
	if l.Age > 0 {
		sel.before = float64(s.now.Add(-l.Age).UnixNano()) / 1e9
	}
	if l.HasNum {
		sel.excess = max(0, inactive-l.Num)
	}
	p.busy = true
	s.purgeOn(sel)
}

func (s *Service) purgeOn(sel *selection) {
	s.purgeSome(sel, true, func(count int, next *job.EndPos, err error) {
		if err == nil && next != nil && !s.stopping {
			sel.after, sel.excess = *next, max(0, sel.excess-count)
			s.purgeOn(sel)
			return
		}
		s.purging.busy = false
		if err != nil {
			s.out.Log("error", "old jobs cannot be purged, trying again", "err", err)
		}
	})
}
