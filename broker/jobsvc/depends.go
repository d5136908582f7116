package jobsvc

import (
	"errors"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// found are jobs that submissions depend on and that the store was asked for, by the text of the dependency; nil = it has none such.
type found map[string]*job.ArrayRow

// errAskStore says that a submission depends on what memory does not know.
var errAskStore = errors.New("the store has to be asked")

// depends resolves the dependencies of a jobspec that name jobs, before are the items that come before it in its request. It returns errAskStore where the store has to be asked first.
func (s *Service) depends(j *jobspec.Jobspec, n int, known found, before []job.Item) ([]job.DependTarget, error) {
	var out []job.DependTarget
	for i := range j.Dependencies {
		d := &j.Dependencies[i]
		if d.Scheme == "begin-time" || d.Scheme == "singleton" {
			continue
		}
		t, err := s.resolve(d, known, before)
		if err == nil {
			err = fits(d, t, n)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// resolve finds the job that a dependency names.
func (s *Service) resolve(d *jobspec.Dependency, known found, before []job.Item) (job.DependTarget, error) {
	if i := d.Ref.Item; i > 0 {
		if i > len(before) {
			return job.DependTarget{}, wire.Errorf(wire.Invalid, "dependency %s:%s: the request has no such item before this one", d.Scheme, d.Value)
		}
		return job.DependTarget{Item: i, N: before[i-1].N}, nil
	}
	row, asked := known[d.Value]
	if !asked && d.Ref.Name != "" {
		return job.DependTarget{}, errAskStore
	}
	if d.Ref.Name != "" {
		if id, n, ok := s.m.Named(d.Ref.Name); ok && (row == nil || id > row.ID) {
			return job.DependTarget{Array: id, N: n}, nil
		}
		if row == nil {
			return job.DependTarget{}, wire.Errorf(wire.Invalid, "dependency %s:%s: there is no job of that name", d.Scheme, d.Value)
		}
		return job.DependTarget{Array: row.ID, N: row.N}, nil
	}
	if arr, n, idx, ok := s.m.Lookup(d.Ref.ID); ok {
		return element(d, arr, n, idx)
	}
	switch {
	case !asked:
		return job.DependTarget{}, errAskStore
	case row == nil:
		return job.DependTarget{}, wire.Errorf(wire.Invalid, "dependency %s:%s: unknown job id", d.Scheme, d.Value)
	case row.N > 1 && d.Ref.ID == row.ID:
		return element(d, row.ID, row.N, -1)
	}
	return element(d, row.ID, row.N, indexOf(*row, d.Ref.ID))
}

// element is the target that an id means: an array, elements of it, or an element (idx ≥ 0) that is named by its own id.
func element(d *jobspec.Dependency, arr jobspec.ID, n, idx int) (job.DependTarget, error) {
	t := job.DependTarget{Array: arr, N: n, Elements: d.Ref.Elements.Clone()}
	switch {
	case t.Elements.Empty():
		if n > 1 && idx >= 0 {
			t.Elements.Add(idx)
		}
	case n == 1 || idx >= 0:
		return t, wire.Errorf(wire.Invalid, "dependency %s:%s: %v is not an array", d.Scheme, d.Value, d.Ref.ID)
	case t.Elements.Max() >= n:
		return t, wire.Errorf(wire.Invalid, "dependency %s:%s: the array has elements 0 to %d", d.Scheme, d.Value, n-1)
	}
	return t, nil
}

// fits checks what aftercorr needs: two arrays of one size.
func fits(d *jobspec.Dependency, t job.DependTarget, n int) error {
	if d.Scheme == "aftercorr" && (t.N != n || !t.Elements.Empty()) {
		return wire.Errorf(wire.Invalid, "dependency aftercorr:%s: it is between arrays of one size; that one has %d elements, this one %d", d.Value, t.N, n)
	}
	return nil
}

// askStore looks up what the submissions of a request depend on, and goes on with the request.
func (s *Service) askStore(r *rpc.Request, req api.SubmitReq) {
	var deps []jobspec.Dependency
	for i := range req.Items {
		if spec, err := s.intern.spec(req.Items[i].Spec); err == nil {
			deps = append(deps, spec.spec.Job.Dependencies...)
		}
	}
	s.query(func(rd job.Reader) (any, error) {
		known := found{}
		for i := range deps {
			if err := known.lookUp(rd, &deps[i]); err != nil {
				return nil, err
			}
		}
		return known, nil
	}, func(v any, err error) {
		// The same submission may have come twice while the store was asked.
		if ids, twice := s.tokens.find(req.Token); err == nil && twice {
			s.replySubmitted(r, ids)
			return
		}
		if err == nil {
			err = s.accept(r, req, v.(found))
		}
		if err != nil {
			s.out.Fail(r, err)
		}
	})
}

func (f found) lookUp(rd job.Reader, d *jobspec.Dependency) error {
	if _, asked := f[d.Value]; asked || d.Ref.Item > 0 || d.Scheme == "begin-time" || d.Scheme == "singleton" {
		return nil
	}
	row, ok, err := job.ArrayRow{}, false, error(nil)
	if d.Ref.Name != "" {
		row, ok, err = rd.Named(d.Ref.Name)
	} else {
		row, ok, err = rd.Find(d.Ref.ID)
	}
	if f[d.Value] = nil; ok {
		f[d.Value] = &row
	}
	return err
}

// lookInto answers a lookup of the machine.
func (s *Service) lookInto(l job.Lookup) {
	s.query(func(rd job.Reader) (any, error) {
		_, ok, err := rd.Array(l.To.Array)
		if err != nil || !ok {
			return nil, err
		}
		return outcomes(rd, &l)
	}, func(v any, err error) {
		ended, ok := v.([]job.Outcome)
		if err != nil {
			s.out.Log("error", "what a job depends on cannot be read from the store, trying again", "job", l.Array, "err", err)
		}
		s.step(job.Looked{Array: l.Array, Depend: l.Depend, Ended: ended, Failed: err != nil, Gone: err == nil && !ok})
	})
}

// outcomes is how the elements ended that a dependency waits for.
func outcomes(rd job.Reader, l *job.Lookup) ([]job.Outcome, error) {
	whole := l.To.Elements.Len() == l.To.N
	if whole && l.To.N > 1 && l.Scheme != "afternotok" && l.Scheme != "afterexcept" {
		sum, err := rd.Summary(l.To.Array)
		if err != nil {
			return nil, err
		}
		if sum.Completed == l.To.N { // the usual case, without a look at each
			return []job.Outcome{{Lo: 0, Hi: l.To.N - 1, OK: true, Ran: true, Result: jobspec.ResultCompleted}}, nil
		}
	}
	var out []job.Outcome
	if !whole {
		for idx := range l.To.Elements.All() {
			el, ok, err := rd.Element(l.To.Array, idx)
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, outcomeOf(&el))
			}
		}
		return out, nil
	}
	err := rd.Ended(l.To.Array, 0, 0, 0, func(el job.ElementRow) bool {
		out = append(out, outcomeOf(&el))
		return true
	})
	return out, err
}

func outcomeOf(el *job.ElementRow) job.Outcome {
	st, err := job.Fold(0, 0, el.Events)
	ran := el.Start > 0 || el.Status >= 0 && endedIn(el) >= 0 // a branch does not tell when it started
	return job.Outcome{Lo: el.Index, Hi: el.Index, OK: el.Result == uint8(jobspec.ResultCompleted), Ran: ran,
		Except: err == nil && st.Exc != nil && st.Exc.Severity == 0, Result: jobspec.Result(el.Result), Status: el.Status}
}
