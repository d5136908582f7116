package jobsvc

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource/idset"
)

// An element ends once. What is to run again is therefore a new array, which has the jobspec, environment and parameters of the one before
// and says of each element which of its elements it is: tasks see the index and the values that they would have had.

// again is what the store has of an array of which elements run again.
type again struct {
	row       job.ArrayRow
	indexes   idset.Set
	spec, env []byte
	known     jobspec.ID // it was submitted with this token before
}

func (s *Service) onRetry(r *rpc.Request, req api.RetryReq) error {
	switch {
	case s.stopping:
		return wire.Errorf(wire.Unavailable, "the instance is shutting down and takes no more jobs")
	case len(req.IDs) == 0:
		return wire.Errorf(wire.Invalid, "no job is named")
	case len(req.Token) > maxToken:
		return wire.Errorf(wire.TooLarge, "the token has %d bytes; the limit is %d", len(req.Token), maxToken)
	}
	s.query(func(rd job.Reader) (any, error) { return findAgain(rd, &req) }, func(v any, err error) {
		if err == nil {
			err = s.runAgain(r, &req, v.([]*again))
		}
		if err != nil {
			s.out.Fail(r, err)
		}
	})
	return nil
}

// findAgain reads which elements are meant, by array in the order in which they are named.
func findAgain(rd job.Reader, req *api.RetryReq) ([]*again, error) {
	var list []*again
	for _, id := range req.IDs {
		row, ok, err := rd.Find(id)
		if err == nil && !ok {
			err = wire.Errorf(wire.NotFound, "%s", unknownJob(id))
		}
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(list, func(a *again) bool { return a.row.ID == row.ID })
		if i < 0 {
			i = len(list)
			list = append(list, &again{row: row})
		}
		if err := list[i].add(rd, req, id); err != nil {
			return nil, err
		}
	}
	for i, a := range list {
		if err := a.read(rd, req, i); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// add takes the elements that id means: one, or all of the array.
func (a *again) add(rd job.Reader, req *api.RetryReq, id jobspec.ID) error {
	results := req.Results
	if results == 0 {
		results = int(jobspec.ResultFailed | jobspec.ResultCanceled | jobspec.ResultTimeout)
	}
	var failed error
	take := func(e job.ElementRow) bool {
		if int(e.Result)&results == 0 {
			return true
		}
		if req.Lost {
			st, err := job.Fold(a.row.Urgency, a.row.Submit, e.Events)
			if failed = err; err != nil || st.Exc == nil || st.Exc.Type != "lost" {
				return err == nil
			}
		}
		a.indexes.Add(e.Index)
		return true
	}
	if id == a.row.ID {
		err := rd.Ended(id, results, 0, 0, take)
		if err == nil {
			err = failed
		}
		return err
	}
	e, ok, err := rd.Element(a.row.ID, int(id-a.row.ID)-1)
	if ok {
		take(e)
	}
	if err == nil {
		err = failed
	}
	return err
}

func (a *again) read(rd job.Reader, req *api.RetryReq, i int) (err error) {
	if req.Token != "" {
		if a.known, _, err = rd.Token(itemToken(req.Token, i)); err != nil {
			return err
		}
	}
	if a.spec, err = rd.Spec(a.row.Spec); err == nil && a.row.Env != 0 {
		a.env, err = rd.Env(a.row.Env)
	}
	return err
}

func (s *Service) runAgain(r *rpc.Request, req *api.RetryReq, list []*again) error {
	var rep api.RetryRep
	var items []job.Item
	s.intern.trim()
	for i, a := range list {
		if a.indexes.Empty() {
			return wire.Errorf(wire.Invalid, "job %v: no element of it that has ended is to run again", a.row.ID)
		}
		item, err := s.againItem(a)
		if err != nil {
			return err
		}
		if item.User = r.User; req.Token != "" {
			item.Token = itemToken(req.Token, i)
		}
		items = append(items, item)
		rep.Jobs = append(rep.Jobs, api.Retried{Old: a.row.ID, ID: a.known, N: item.N})
	}
	ids, known := s.tokens.find(req.Token)
	switch {
	case known:
	case list[0].known != 0:
		s.out.Reply(r, rep)
		return nil
	default:
		ids = s.submitItems(req.Token, nil, items)
	}
	for i := range rep.Jobs {
		rep.Jobs[i].ID = ids[i]
	}
	s.await(pending{submit: true, f: func(out *reactor.Out, err error) {
		if err != nil {
			out.Fail(r, err)
			return
		}
		out.Reply(r, rep)
	}})
	return nil
}

// independent is a jobspec without dependencies: what runs again has waited for them.
func independent(spec []byte) ([]byte, error) {
	if !bytes.Contains(spec, []byte(`"dependencies"`)) {
		return spec, nil
	}
	var doc map[string]any
	if err := json.Unmarshal(spec, &doc); err != nil {
		return nil, wire.Errorf(wire.Internal, "stored jobspec: %v", err)
	}
	attrs, _ := doc["attributes"].(map[string]any)
	if system, ok := attrs["system"].(map[string]any); ok {
		delete(system, "dependencies")
	}
	return json.Marshal(doc)
}

// againItem is the submission of an array's elements again.
func (s *Service) againItem(a *again) (job.Item, error) {
	text, err := independent(a.spec)
	if err != nil {
		return job.Item{}, err
	}
	spec, err := s.intern.spec(text)
	if err != nil {
		return job.Item{}, wire.Errorf(wire.Internal, "stored jobspec of %v: %v", a.row.ID, err)
	}
	it := job.Item{Spec: spec.spec, Env: spec.env, N: a.indexes.Len(), CC: a.row.CC, BCC: a.row.BCC, Urgency: a.row.Urgency, Flags: a.row.Flags, Params: a.row.Params}
	if a.env != nil {
		it.Env = s.intern.env(a.env)
	}
	if a.row.N > 1 || a.row.Indexes != "" { // elements of an array that itself ran others again are those of the first
		it.Indexes, it.Size = a.row.ShownAll(a.indexes).String(), a.row.N
		if a.row.Indexes != "" {
			it.Size = a.row.Size
		}
	}
	return it, s.feasible(spec.spec.Job)
}
