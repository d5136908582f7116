package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
)

func keep(t *testing.T, s *Store, p *job.HistoryPart) error {
	t.Helper()
	done := make(chan error, 1)
	s.Do(time.Time{}, p, func(_ any, err error) { done <- err })
	return <-done
}

func TestTheHistoryOfAnInstanceBelowIsKeptAndRead(t *testing.T) {
	below, _ := open(t, t.TempDir(), Options{Temp: true})
	require.NoError(t, below.Close())
	data, err := os.ReadFile(filepath.Join(below.Dir(), dbName))
	require.NoError(t, err)

	s, _ := open(t, t.TempDir(), Options{Temp: true})
	half := len(data) / 2
	require.NoError(t, keep(t, s, &job.HistoryPart{Dir: "f2", Name: "output/000000.seg", Data: []byte("x")}))
	require.NoError(t, keep(t, s, &job.HistoryPart{Dir: "f2", Name: dbName, Data: data[:half]}))
	require.NoError(t, keep(t, s, &job.HistoryPart{Dir: "f2", Name: dbName, Offset: int64(half), Data: data[half:]}))
	for _, p := range []job.HistoryPart{{Dir: "f2", Name: "../x"}, {Dir: "f2", Name: "/x"}, {Dir: "..", Name: "x"}, {Dir: "f2/f3", Name: "x"}, {Dir: "", Name: "x"}} {
		require.ErrorContains(t, keep(t, s, &p), "is no path of a file", "%+v", p)
	}
	dir := filepath.Join(s.Dir(), "branch", "f2")
	h, err := OpenHistory(dir)
	require.NoError(t, err)
	ids := make(chan any, 1)
	h.Do(time.Time{}, &job.Query{Run: func(r job.Reader) (any, error) {
		_, ok, err := r.Find(1)
		return ok, err
	}}, func(v any, err error) {
		require.NoError(t, err)
		ids <- v
	})
	require.Equal(t, false, <-ids)
	h.Close()
	require.NoError(t, keep(t, s, &job.HistoryPart{Dir: "f3", Name: "x"}))
	id, err := jobspec.ParseID("f2")
	require.NoError(t, err)
	s.dropHistories(&job.Purge{Arrays: []jobspec.ID{id}})
	require.NoDirExists(t, dir)
	require.DirExists(t, filepath.Join(s.Dir(), "branch", "f3"))
	_, err = OpenHistory(t.TempDir())
	require.ErrorIs(t, err, ErrNoState)
}
