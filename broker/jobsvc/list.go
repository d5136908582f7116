package jobsvc

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
)

// pageSize is how many records go into one message of a listing.
const pageSize = 1000

// onList lists in the order of Flux: pending jobs by priority and id, running ones, finished ones.
// In a branch the list waits for what the branch was granted just now: that is in no list before it is durable, neither here nor at its parent.
func (s *Service) onList(r *rpc.Request, req api.ListReq) error {
	if !s.cfg.Branch {
		return s.list(r, req, listTries)
	}
	s.whenDurable(func(*reactor.Out, error) { s.orFail(r, s.list(r, req, listTries)) })
	return nil
}

// list puts a list together, up to so many times.
func (s *Service) list(r *rpc.Request, req api.ListReq, tries int) error {
	if len(req.IDs) > 0 {
		return s.listIDs(r, req)
	}
	limit := api.ListLimit
	if req.Max > 0 {
		limit = min(limit, req.Max)
	}
	var jobs []api.JobInfo
	if req.After == nil || !req.After.Ended {
		if jobs = s.listPending(&req, limit); len(jobs) == limit && (req.Max <= 0 || req.Max > limit) {
			last := &jobs[limit-1]
			s.pages(r, &req, jobs, &api.ListAfter{Priority: last.Priority, ID: last.ID})
			return nil
		}
		jobs = append(jobs, s.listRunning(&req)...)
	}
	var again func()
	if tries > 1 {
		again = func() { s.orFail(r, s.list(r, req, tries-1)) }
	}
	s.withHeld(&req, jobs, again, func(jobs []api.JobInfo) { s.listOn(r, req, jobs, limit) })
	return nil
}

// listOn goes on behind the active jobs.
func (s *Service) listOn(r *rpc.Request, req api.ListReq, jobs []api.JobInfo, limit int) {
	if req.Max > 0 && len(jobs) >= req.Max {
		s.pages(r, &req, jobs[:req.Max], nil)
		return
	}
	if req.States == 0 || req.States&int(jobspec.StateInactive) != 0 || req.Results != 0 {
		s.listPast(r, req, jobs, limit)
		return
	}
	s.pages(r, &req, jobs, nil)
}

// listPending gives the next limit pending elements that match.
func (s *Service) listPending(req *api.ListReq, limit int) (jobs []api.JobInfo) {
	prio, after := uint32(math.MaxUint32), jobspec.ID(0)
	if at := req.After; at != nil {
		prio, after = at.Priority, at.ID
	}
	s.m.InOrder(prio, after, func(id jobspec.ID) bool {
		from := jobspec.ID(0)
		if req.After != nil && job.Priority(s.m.Urgency(id)) == prio {
			from = after + 1
		}
		return s.m.EachPending(id, from, req.Collapse, func(v job.View) bool {
			if info := s.active(&v); matches(req, &info) {
				jobs = append(jobs, info)
			}
			return len(jobs) < limit
		})
	})
	return jobs
}

// listRunning gives the running elements that match, the latest start first.
func (s *Service) listRunning(req *api.ListReq) (jobs []api.JobInfo) {
	for _, id := range s.m.Arrays() {
		s.m.EachRunning(id, func(v job.View) {
			if info := s.active(&v); matches(req, &info) {
				jobs = append(jobs, info)
			}
		})
	}
	slices.SortStableFunc(jobs, func(a, b api.JobInfo) int { return cmp.Or(cmp.Compare(b.TRun, a.TRun), cmp.Compare(a.ID, b.ID)) })
	return jobs
}

// matches tells whether a record of an active job is asked for.
func matches(req *api.ListReq, j *api.JobInfo) bool {
	return (req.States == 0 && req.Results == 0 || req.States&j.State != 0) && (req.Name == "" || j.Name == req.Name)
}

// pages ends a listing.
func (s *Service) pages(r *rpc.Request, req *api.ListReq, jobs []api.JobInfo, next *api.ListAfter) {
	if !req.Reasons {
		s.sendPages(r, jobs, next)
		return
	}
	s.withReasons(jobs, false, func(map[api.GroupID]int) { s.sendPages(r, jobs, next) })
}

func (s *Service) sendPages(r *rpc.Request, jobs []api.JobInfo, next *api.ListAfter) {
	for page := range slices.Chunk(jobs, pageSize) {
		s.out.Next(r, api.ListRep{Jobs: page})
	}
	if next != nil {
		s.out.Next(r, api.ListRep{Next: next})
	}
	s.out.End(r)
}

// listPast sends jobs and then finished ones from the store, newest end first.
func (s *Service) listPast(r *rpc.Request, req api.ListReq, jobs []api.JobInfo, limit int) {
	results := req.Results
	if req.States&int(jobspec.StateInactive) != 0 {
		results = 0
	}
	type page struct {
		jobs []api.JobInfo
		next *api.ListAfter
	}
	s.query(func(rd job.Reader) (any, error) {
		c := newConverter(rd)
		p := page{jobs: slices.Clone(jobs)}
		var failed error
		until := 0.0
		if req.After != nil && req.After.Ended {
			until = req.After.End
		}
		err := rd.Ended(0, results, req.Since, until, func(el job.ElementRow) bool {
			if !endedAfter(&el, req.After) {
				return true
			}
			var info api.JobInfo
			if row, err := c.row(el.Array); err == nil && row.Flags&job.FlagSystem != 0 {
				return true
			}
			if info, failed = c.ended(el); failed != nil {
				return false
			}
			if req.Name == "" || info.Name == req.Name {
				p.jobs = append(p.jobs, info)
			}
			if len(p.jobs) >= limit && (req.Max <= 0 || req.Max > limit) {
				p.next = &api.ListAfter{Ended: true, End: el.End, Result: int(el.Result), ID: el.ID}
			}
			return len(p.jobs) < limit
		})
		return p, cmp.Or(err, failed)
	}, func(v any, err error) {
		if err != nil {
			s.out.Fail(r, err)
			return
		}
		p := v.(page)
		s.filled(p.jobs, func(jobs []api.JobInfo) { s.pages(r, &req, jobs, p.next) })
	})
}

// endedAfter tells whether a finished element comes after a place in the listing.
func endedAfter(el *job.ElementRow, at *api.ListAfter) bool {
	if at == nil || !at.Ended {
		return true
	}
	return cmp.Or(cmp.Compare(el.End, at.End), cmp.Compare(int(el.Result), at.Result), cmp.Compare(el.ID, at.ID)) < 0
}

// listIDs answers for named jobs in the order given; an array stands for its elements.
func (s *Service) listIDs(r *rpc.Request, req api.ListReq) error {
	req.IDs = onceEach(req.IDs)
	s.heldOf(&req, listTries, func(held map[jobspec.ID][]api.JobInfo) { s.listNamed(r, req, held) })
	return nil
}

// listNamed is listIDs with what branches hold of the ids.
func (s *Service) listNamed(r *rpc.Request, req api.ListReq, active map[jobspec.ID][]api.JobInfo) {
	for _, id := range req.IDs {
		arr, _, idx, ok := s.m.Lookup(id)
		switch {
		case ok && idx < 0:
			add := func(v job.View) bool {
				active[id] = append(active[id], s.active(&v))
				return true
			}
			s.m.EachRunning(arr, func(v job.View) { add(v) })
			s.m.EachPending(arr, 0, req.Collapse, add)
		case ok:
			if v, ok := s.m.View(arr, idx); ok {
				active[id] = append(active[id], s.active(&v))
			}
		}
	}
	s.queryPast(func(rd job.Reader) (any, error) {
		c := newConverter(rd)
		var jobs []api.JobInfo
		for _, id := range req.IDs {
			jobs = append(jobs, active[id]...)
			past, err := c.byID(id, len(active[id]) > 0)
			if err != nil {
				return nil, err
			}
			jobs = append(jobs, past...)
		}
		return jobs, nil
	}, func(v any, err error) {
		if err != nil {
			s.out.Fail(r, err)
			return
		}
		jobs := v.([]api.JobInfo)
		if req.Max > 0 && len(jobs) > req.Max {
			jobs = jobs[:req.Max]
		}
		s.filled(jobs, func(jobs []api.JobInfo) { s.pages(r, &req, jobs, nil) })
	})
}

// onceEach is ids without those that come again.
func onceEach(ids []jobspec.ID) []jobspec.ID {
	seen := make(map[jobspec.ID]bool, len(ids))
	return slices.DeleteFunc(slices.Clone(ids), func(id jobspec.ID) bool {
		twice := seen[id]
		seen[id] = true
		return twice
	})
}

// active makes the record of an active element.
func (s *Service) active(v *job.View) api.JobInfo {
	j := v.Spec.Job
	info := submitted(v.Row, j)
	info.ID, info.Index, info.CC, info.State, info.Attempt = v.ID, v.Index, v.CC, int(v.Fold.State), int(v.Fold.Attempt)
	switch {
	case v.Fold.State == jobspec.StateCleanup && s.committer.err != nil:
		info.Reason = fmt.Sprintf("its end cannot be written down: %v", s.committer.err)
	case v.Fold.State == jobspec.StateDepend && len(info.Dependencies) > 0:
		info.Reason = "waits for " + strings.Join(info.Dependencies, ", ")
	case v.Pending && info.Urgency == 0:
		info.Reason = "is held: its urgency is 0"
	case v.Pending && s.m.QueueState(j.Queue).Stopped:
		info.Reason = "queue stopped"
	case v.Pending && j.Array.Limit > 0 && s.m.AtLimit(v.Row.ID):
		info.Reason = fmt.Sprintf("waits for others of its array: at most %d run at once", j.Array.Limit)
	}
	if v.Count > 1 {
		info.NElements, info.CC = v.Count, ""
		if st, ok := s.m.Array(v.Row.ID); ok {
			info.Size, info.Incomplete = st.N, st.Failed+st.Canceled+st.TimedOut
			info.Ended = st.Completed + info.Incomplete
		}
	}
	if v.Row.N > 1 {
		info.Array = v.Row.ID
	}
	if v.Res != nil {
		info.TRun = v.Fold.TRun
		info.Expiration = s.m.Expiration(v)
		s.placed(&info, v.Res)
	}
	setException(&info, v.Fold.Exc)
	return info
}

func (s *Service) placed(info *api.JobInfo, res *resource.Alloc) {
	info.NNodes, info.NCores = len(res.Nodes), 0
	names := make([]string, len(res.Nodes))
	for i := range res.Nodes {
		info.NCores += res.Nodes[i].Cores.Count()
		if n := s.inv.Node(res.Nodes[i].Node); n != nil {
			names[i] = n.Name
		}
	}
	info.Nodelist, info.Ranks = nodelist(names), res.Ranks()
}

// submitted makes the part of a record that follows from the submission.
func submitted(row *job.ArrayRow, j *jobspec.Jobspec) api.JobInfo {
	info := api.JobInfo{ID: row.ID, UserID: row.User, Urgency: row.Urgency, Priority: job.Priority(row.Urgency), TSubmit: row.Submit, TDepend: row.Submit,
		Name: row.Name, WaitStatus: -1}
	cur, changed := current(row)
	if changed {
		info.Urgency, info.Priority, info.Dependencies = cur.Urgency, job.Priority(cur.Urgency), cur.Waits
		if len(cur.Memo) > 0 {
			memo, _ := json.Marshal(cur.Memo)
			info.Memo = string(memo)
		}
	}
	if j != nil {
		info.Cwd, info.Queue, info.Duration, info.NTasks = j.Cwd, j.Queue, j.Duration, job.NTasks(j)
		if changed && cur.Duration >= 0 {
			info.Duration = cur.Duration
		}
		info.NCores, info.NNodes = j.Request.TotalSlots()*j.Request.Cores, j.Request.Nodes
	}
	return info
}

// current is what an array's log has made of its submission; false = it has none.
func current(row *job.ArrayRow) (job.Current, bool) {
	if len(row.Log) == 0 {
		return job.Current{}, false
	}
	cur, err := row.Current()
	return cur, err == nil
}

func setException(info *api.JobInfo, x *job.Exception) {
	if x != nil {
		info.ExcOccurred, info.ExcType, info.ExcSeverity, info.ExcNote = true, x.Type, x.Severity, x.Note
	}
}

// converter makes records of finished elements; it keeps submissions and jobspecs that it has read.
type converter struct {
	rd    job.Reader
	rows  map[jobspec.ID]*job.ArrayRow
	specs map[uint64]*jobspec.Jobspec
	ccs   map[jobspec.ID]*ccValues
}

func newConverter(rd job.Reader) *converter {
	return &converter{rd, make(map[jobspec.ID]*job.ArrayRow), make(map[uint64]*jobspec.Jobspec), make(map[jobspec.ID]*ccValues)}
}

func (c *converter) row(id jobspec.ID) (*job.ArrayRow, error) {
	if r := c.rows[id]; r != nil {
		return r, nil
	}
	row, ok, err := c.rd.Array(id)
	if err == nil && !ok {
		err = wire.Errorf(wire.Internal, "the store has no submission %v", id)
	}
	c.rows[id] = &row
	return &row, err
}

func (c *converter) spec(id uint64) (*jobspec.Jobspec, error) {
	if j := c.specs[id]; j != nil {
		return j, nil
	}
	text, err := c.rd.Spec(id)
	if err != nil {
		return nil, err
	}
	j, err := jobspec.Parse(text)
	c.specs[id] = j
	return j, err
}

// ended makes the record of a finished element.
func (c *converter) ended(el job.ElementRow) (api.JobInfo, error) {
	row, err := c.row(el.Array)
	if err != nil {
		return api.JobInfo{}, err
	}
	j, err := c.spec(row.Spec)
	if err != nil {
		return api.JobInfo{}, err
	}
	st, err := job.Fold(row.Urgency, row.Submit, el.Events)
	if err != nil {
		return api.JobInfo{}, wire.Errorf(wire.Internal, "job %v: %v", el.ID, err)
	}
	info := submitted(row, j)
	info.ID, info.Index, info.CC = el.ID, el.Index, c.cc(row, el.Index)
	info.State, info.Result, info.Success = int(jobspec.StateInactive), int(el.Result), el.Result == uint8(jobspec.ResultCompleted)
	info.TRun, info.TInactive, info.TCleanup, info.Attempt = el.Start, el.End, el.End, int(max(el.Attempt, 1))
	info.Nodelist, info.Ranks, info.MaxRSSKiB, info.CPU = el.Nodelist, el.Ranks, el.MaxRSS, el.CPU
	if el.Status >= 0 {
		info.WaitStatus, info.HasStatus = el.Status, true
	}
	if row.N > 1 {
		info.Array = row.ID
	}
	info.NNodes = countNodes(el.Ranks)
	if to := endedIn(&el); to >= 0 {
		info.Branch = strconv.Itoa(to)
	}
	setException(&info, st.Exc)
	return info, nil
}

// byID returns the finished elements of one id. An unknown id is an error unless part of it is active.
func (c *converter) byID(id jobspec.ID, active bool) ([]api.JobInfo, error) {
	row, ok, err := c.rd.Find(id)
	if err != nil || !ok {
		if err == nil && !active {
			err = wire.Errorf(wire.NotFound, "%s", unknownJob(id))
		}
		return nil, err
	}
	if row.N > 1 && id == row.ID {
		return c.elements(row)
	}
	el, ok, err := c.rd.Element(row.ID, indexOf(row, id))
	if err != nil || !ok || active {
		return nil, err
	}
	info, err := c.ended(el)
	return []api.JobInfo{info}, err
}

func (c *converter) elements(row job.ArrayRow) (jobs []api.JobInfo, err error) {
	e := c.rd.Ended(row.ID, 0, 0, 0, func(el job.ElementRow) bool {
		var info api.JobInfo
		if info, err = c.ended(el); err != nil {
			return false
		}
		jobs = append(jobs, info)
		return true
	})
	if err == nil {
		err = e
	}
	return jobs, err
}
