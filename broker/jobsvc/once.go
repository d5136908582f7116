package jobsvc

import (
	"fmt"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// submitOnce answers a submission under a key: with the ids of the one before if that had the same content, an error if it had another.
// It is looked up in the store, where keys are kept for ever, except what was submitted since and is in memory.
func (s *Service) submitOnce(r *rpc.Request, req api.SubmitReq) {
	s.query(func(rd job.Reader) (any, error) {
		rows := make([]job.ArrayRow, 0, len(req.Items))
		for i := range req.Items {
			id, ok, err := rd.Token(itemToken(req.Token, i))
			if err != nil || !ok {
				return rows, err
			}
			row, err := submittedRow(rd, id)
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
		return rows, nil
	}, func(v any, err error) {
		rows, _ := v.([]job.ArrayRow)
		if ids, known := s.tokens.find(req.Token); err == nil && len(rows) == 0 && known {
			if rows = s.submittedRows(ids); len(rows) < len(ids) { // it came and ended while the store was asked
				s.submitOnce(r, req)
				return
			}
		}
		if err == nil {
			err = s.answerOnce(r, &req, rows)
		}
		if err != nil {
			s.out.Fail(r, err)
		}
	})
}

// submittedRow is that of a submission in the store, or what is left of it.
func submittedRow(rd job.Reader, id jobspec.ID) (job.ArrayRow, error) {
	row, ok, err := rd.Array(id)
	if ok || err != nil {
		return row, err
	}
	p, _, err := rd.Purged(id)
	return job.ArrayRow{ID: id, N: p.N, Name: p.Name, Token: p.Token, Digest: p.Digest, Submit: p.Submit}, err
}

// submittedRows are those of a submission that the machine has: it may not be durable yet.
func (s *Service) submittedRows(ids []jobspec.ID) (rows []job.ArrayRow) {
	for _, id := range ids {
		if row, _, _, ok := s.m.Row(id); ok {
			rows = append(rows, *row)
		}
	}
	return rows
}

func (s *Service) answerOnce(r *rpc.Request, req *api.SubmitReq, rows []job.ArrayRow) error {
	if len(rows) == 0 {
		if req.Probe {
			return wire.Errorf(wire.NotFound, "nothing was submitted under the key %q", req.Once)
		}
		return s.withParams(r, *req)
	}
	ids := make([]jobspec.ID, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
		if len(rows) != len(req.Items) || rows[i].Digest != req.Items[i].Digest {
			return wire.Errorf(wire.Exists, "the key %q belongs to another submission: job %v (%s) of %s; this one has %s. Use another key for it, or submit the same",
				req.Once, rows[0].ID, describeSize(rows[0].Name, rows[0].N), time.UnixMicro(int64(rows[0].Submit*1e6)).UTC().Format("2006-01-02 15:04:05 MST"),
				s.describeItem(req))
		}
	}
	s.replySubmitted(r, ids)
	return nil
}

func describeSize(name string, n int) string {
	if n > 1 {
		return fmt.Sprintf("%q, %d elements", name, n)
	}
	return fmt.Sprintf("%q", name)
}

// describeItem tells what is being submitted.
func (s *Service) describeItem(req *api.SubmitReq) string {
	it := &req.Items[0]
	size := describeSize(it.Name, max(it.N, 1))
	if len(req.Items) > 1 {
		return fmt.Sprintf("%d jobs, the first %s", len(req.Items), size)
	}
	return "another content: " + size
}
