package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// doPurge purges and waits for the answer.
func doPurge(t *testing.T, s *Store, ids ...jobspec.ID) job.Purged {
	t.Helper()
	var res any
	answer := make(chan error, 1)
	s.Do(time.Time{}, &job.Purge{Arrays: ids}, func(r any, err error) {
		res = r
		answer <- err
	})
	require.NoError(t, <-answer)
	return res.(job.Purged)
}

func segNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(dir, "output"))
	require.NoError(t, err)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// endedWithOutput commits jobs 1 … n that have ended with 60 bytes of output each, in segments of 100.
func endedWithOutput(t *testing.T, s *Store, n int) {
	t.Helper()
	for i := range n {
		id := jobspec.ID(i + 1)
		require.NoError(t, commit(s, &job.Txn{Arrays: []job.ArrayRow{{ID: id, N: 1, Spec: uint64(id)}}, Specs: []job.SpecRow{{ID: uint64(id), JSON: []byte("{}")}},
			Ended: []job.ElementRow{{ID: id, Array: id, Result: 1, End: float64(i)}}, LastID: id,
			Output: []job.OutputRow{{ID: id, Attempt: 1, Stream: 1, Data: fmt.Appendf(nil, "%60d", i)}}}))
	}
}

func TestPurgedOutputGivesItsFilesBack(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, Options{segment: 100})
	endedWithOutput(t, s, 8) // two in a segment
	require.Len(t, segNames(t, dir), 4)
	require.True(t, doPurge(t, s, 1, 2, 3, 7, 8).More, "there are files to remove")
	require.False(t, doPurge(t, s).More)
	require.Equal(t, []string{"000002.seg", "000003.seg", "000004.seg"}, segNames(t, dir), "the second has output of job 4, the last one is written to")
	out, err := ask(s, func(r job.Reader) (any, error) {
		text := ""
		err := r.Output(4, 0, func(o job.OutputRow) bool { text += string(o.Data); return true })
		return text, err
	})
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("%60d", 3), out)
}

func TestTheNextLeaderFinishesAPurge(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, Options{segment: 100})
	endedWithOutput(t, s, 4)
	const n = sweepElements + 10
	txn := &job.Txn{Arrays: []job.ArrayRow{{ID: 10, N: n, Spec: 3}}, LastID: 10 + n}
	for i := range n {
		txn.Ended = append(txn.Ended, job.ElementRow{ID: 11 + jobspec.ID(i), Array: 10, Index: i, Result: 1, End: 100})
	}
	require.NoError(t, commit(s, txn))
	require.True(t, doPurge(t, s, 1, 2, 10).More)
	require.NoError(t, s.Close())
	require.Len(t, segNames(t, dir), 2)

	s, loaded := open(t, dir, Options{segment: 100})
	require.Equal(t, n+2, loaded.Purged)
	require.Equal(t, uint64(4), loaded.SpecID)
	require.Equal(t, []string{"000002.seg"}, segNames(t, dir))
	for sql, want := range map[string]int64{`SELECT count(*) FROM element`: 2, `SELECT count(*) FROM purge`: 0, `SELECT count(*) FROM output`: 2,
		`SELECT untidy FROM meta`: 0, `SELECT sum(id) FROM spec`: 3 + 4} {
		got, err := s.w.c.number(sql)
		require.NoError(t, err)
		require.Equal(t, want, got, sql)
	}
}

func TestArraysOfAnEarlierFormatCanBePurged(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, Options{})
	require.NoError(t, commit(s, &job.Txn{Arrays: []job.ArrayRow{{ID: 10, N: 3}, {ID: 20, N: 2}}, LastID: 30,
		Ended:  []job.ElementRow{{ID: 11, Array: 10, Result: 1, End: 7}, {ID: 12, Array: 10, Index: 1, Result: 1, End: 3}, {ID: 21, Array: 20, Result: 1, End: 9}},
		Ranges: []job.RangeRow{{Array: 10, Lo: 2, Hi: 2, Result: 4, End: 8}}}))
	// Take back what the migration and those behind it added, to have a state as it was before.
	require.NoError(t, s.w.c.script(`DROP TABLE granted; ALTER TABLE range DROP COLUMN status; DROP TABLE purge; DROP TABLE purged; DROP INDEX array_params; ALTER TABLE total DROP COLUMN t_end;
		ALTER TABLE meta DROP COLUMN untidy; ALTER TABLE meta DROP COLUMN purged; PRAGMA user_version=9`))
	require.NoError(t, s.Close())
	s, _ = open(t, dir, Options{})
	got, err := ask(s, func(r job.Reader) (any, error) {
		var list []job.EndedArray
		err := r.Oldest(job.EndPos{}, func(a job.EndedArray, _ job.EndPos) bool { list = append(list, a); return true })
		return list, err
	})
	require.NoError(t, err)
	require.Equal(t, []job.EndedArray{{ID: 10, N: 3, End: 8}}, got)
}
