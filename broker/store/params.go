package store

import (
	"database/sql/driver"
	"time"

	"github.com/frond-hpc/frond/broker/job"
)

// firstBits is the width of an element's index in the id of a row of table params.
const firstBits = 22

func paramsID(set uint64, first int) int64 { return int64(set)<<firstBits | int64(first) }

// params writes chunks of parameters, and what sets are begun and have their submission now.
func (g *group) params(t *job.Txn) error {
	for i := range t.Uploads {
		u := &t.Uploads[i]
		if err := g.w.c.run(`INSERT OR IGNORE INTO upload VALUES (?,?,?)`, int64(u.Set), u.Token, u.Time); err != nil {
			return err
		}
	}
	for i := range t.Params {
		p := &t.Params[i]
		if err := g.w.c.run(`INSERT OR IGNORE INTO params VALUES (?,?,?)`, paramsID(p.Set, p.First), int64(p.N), p.Data); err != nil {
			return err
		}
	}
	for i := range t.Arrays {
		if set := t.Arrays[i].Params; set != 0 {
			if err := g.w.c.run(`DELETE FROM upload WHERE id = ?`, int64(set)); err != nil {
				return err
			}
		}
	}
	return nil
}

// uploadKept is how long parameters wait for their submission.
const uploadKept = 24 * time.Hour

// dropUploads forgets the sets begun before t that were never submitted.
func dropUploads(c *conn, t time.Time) error {
	var old []int64
	err := c.each(`SELECT id FROM upload WHERE time < ?`, []driver.Value{float64(t.UnixMilli()) / 1e3}, func(r *row) bool {
		old = append(old, r.int())
		return true
	})
	for _, set := range old {
		if err == nil {
			err = c.run(`DELETE FROM params WHERE id BETWEEN ? AND ?`, set<<firstBits, (set+1)<<firstBits-1)
		}
		if err == nil {
			err = c.run(`DELETE FROM upload WHERE id = ?`, set)
		}
	}
	return err
}

// Params returns the chunk that holds an element's parameters.
func (r *reader) Params(set uint64, index int) (p job.ParamsRow, ok bool, err error) {
	ok, err = r.c.one(func(r *row) {
		id := r.int()
		p = job.ParamsRow{Set: uint64(id >> firstBits), First: int(id & (1<<firstBits - 1)), N: int(r.int()), Data: r.bytes()}
	}, `SELECT id, n, data FROM params WHERE id <= ? ORDER BY id DESC LIMIT 1`, paramsID(set, index))
	if err != nil || !ok || p.Set != set || index >= p.First+p.N {
		return job.ParamsRow{}, false, err
	}
	return p, true, nil
}

// Upload returns the set that is being uploaded under a token.
func (r *reader) Upload(token string) (set uint64, n int, ok bool, err error) {
	ok, err = r.c.one(func(r *row) { set = uint64(r.int()) }, `SELECT id FROM upload WHERE token = ? ORDER BY id DESC LIMIT 1`, token)
	if err != nil || !ok {
		return 0, 0, false, err
	}
	end, err := r.c.number(`SELECT max(id) + n FROM params WHERE id BETWEEN ? AND ?`, paramsID(set, 0), paramsID(set+1, 0)-1)
	return set, max(int(end-paramsID(set, 0)), 0), true, err
}
