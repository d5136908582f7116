package store

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/store/storetest"
)

// workload makes n transactions of all kinds, the same for a seed.
func workload(seed, n int) (txns []*job.Txn) {
	rapid.Custom(func(t *rapid.T) int {
		g := storetest.NewGen(t)
		txns = nil
		for range n {
			txns = append(txns, g.Next())
		}
		return 0
	}).Example(seed)
	return txns
}

// prefixOf tells how many of the transactions a directory holds, and checks that it holds exactly these, in whole: what is loaded,
// and with deep all that queries give, output included.
func prefixOf(t *testing.T, dir string, txns []*job.Txn, deep bool) int {
	t.Helper()
	os.Remove(filepath.Join(dir, "lock"))
	s, loaded, err := Open(dir, Options{Temp: true})
	require.NoError(t, err)
	defer s.Close()
	n := 0
	for n < len(txns) && txns[n].LastID <= loaded.LastID {
		n++
	}
	m := storetest.ModelOf(txns[:n])
	storetest.CheckLoaded(t, m, loaded)
	if !deep {
		return n
	}
	answered := make(chan struct{})
	storetest.CheckReader(t, m, signalling{s, answered}, func() { <-answered })
	return n
}

// signalling tells when the one effect given to it was answered.
type signalling struct {
	*Store
	answered chan struct{}
}

func (d signalling) Do(now time.Time, effect any, done func(any, error)) {
	d.Store.Do(now, effect, func(r any, err error) {
		done(r, err)
		close(d.answered)
	})
}

// walSize is the size of a store's WAL now.
func walSize(t *testing.T, dir string) int64 {
	fi, err := os.Stat(filepath.Join(dir, dbName+"-wal"))
	require.NoError(t, err)
	return fi.Size()
}

// TestCutWAL is the test of durability: a store is copied while it runs, the copied WAL is cut at 1,000 places, and each cut is
// recovered. It must hold a prefix of the transactions, and none may be missing whose frames are in the cut as a whole.
func TestCutWAL(t *testing.T) {
	const txnCount = 40
	cuts := 1000
	if testing.Short() {
		cuts = 100
	}
	txns := workload(1, txnCount)
	dir, copied := t.TempDir(), t.TempDir()
	s, _ := open(t, dir, Options{checkpoint: -1})
	base := walSize(t, dir)
	// ends[i] is where the WAL ended when transaction i had been answered: all its frames lie before.
	ends := make([]int64, 0, txnCount)
	for i, txn := range txns {
		require.NoError(t, commit(s, txn))
		ends = append(ends, walSize(t, dir))
		if i == txnCount/2 {
			copyState(dir, t.TempDir()) // a copy does not disturb
		}
	}
	answers := make(chan error, 100)
	for range cap(answers) { // it is still writing while it is copied
		s.Do(time.Time{}, &job.Commit{Txn: txns[0]}, func(_ any, err error) { answers <- err })
	}
	copyState(dir, copied)
	for range cap(answers) {
		require.NoError(t, <-answers)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	scratch := t.TempDir()
	last := ends[len(ends)-1]
	for k := range cuts {
		cut := base + rng.Int64N(last-base+1)
		if k%4 == 0 { // right at, before and behind the end of a transaction
			cut = ends[rng.IntN(len(ends))] + rng.Int64N(3) - 1
		}
		copyState(copied, scratch)
		require.NoError(t, os.Truncate(filepath.Join(scratch, dbName+"-wal"), cut))
		os.Remove(filepath.Join(scratch, dbName+"-shm"))
		whole := 0
		for whole < len(ends) && ends[whole] <= cut {
			whole++
		}
		require.Equal(t, whole, prefixOf(t, scratch, txns, k%3 == 0), "WAL cut at %d", cut)
	}
}

// TestCopyWhileCheckpointing copies a store that merges, checkpoints and rotates under load, and cuts the WAL wherever a crash could:
// behind the frames that have gone into the database file already, which are synced before.
func TestCopyWhileCheckpointing(t *testing.T) {
	txns := workload(2, 150)
	dir := t.TempDir()
	s, _ := open(t, dir, Options{checkpoint: 20, segment: 200})
	answered := make(chan int, len(txns))
	acked, copies, given := 0, 0, 0
	rng := rand.New(rand.NewPCG(3, 4))
	for acked < len(txns) {
		for k := rng.IntN(20); k > 0 && given < len(txns); k-- {
			i := given
			given++
			s.Do(time.Time{}, &job.Commit{Txn: txns[i]}, func(_ any, err error) {
				if err != nil {
					t.Error(err)
				}
				answered <- i
			})
		}
		time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
		for len(answered) > 0 {
			require.Equal(t, acked, <-answered, "answers come in order")
			acked++
		}
		copied := t.TempDir()
		backfilled, ok := tryCopy(dir, copied)
		if !ok {
			continue
		}
		copies++
		path := filepath.Join(copied, dbName+"-wal")
		require.GreaterOrEqual(t, prefixOf(t, copyOf(t, copied), txns, true), acked)
		if size := fileSize(path); size > backfilled {
			require.NoError(t, os.Truncate(path, backfilled+rng.Int64N(size-backfilled+1)))
			prefixOf(t, copied, txns, true)
		}
	}
	require.Greater(t, copies, 3)
}

func copyOf(t *testing.T, dir string) string {
	to := t.TempDir()
	copyState(dir, to)
	return to
}

func fileSize(path string) int64 {
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return fi.Size()
}

// tryCopy copies a running store as a crash at one moment would leave it: it fails if the WAL was begun anew meanwhile. It returns
// how much of the WAL may have gone into the database file, also by a checkpoint that is at it: that much was synced before
// (sqlite.org/walformat.html: nBackfillAttempted at byte 128 of the shm file, a frame is 24 bytes and a page). A WAL is begun anew
// in the shm file first, where this is 0 from then on, and in its own header with its first frame: so the salts of both must agree
// (bytes 32 and 16).
func tryCopy(from, to string) (backfilled int64, ok bool) {
	header := func(dir string) []byte {
		data, _ := os.ReadFile(filepath.Join(dir, dbName+"-wal"))
		return data[:min(32, len(data))]
	}
	before := header(from)
	copyState(from, to)
	shm, err := os.ReadFile(filepath.Join(from, dbName+"-shm"))
	if err != nil || len(shm) < 132 || len(before) < 32 || !bytes.Equal(shm[32:40], before[16:24]) || !bytes.Equal(before, header(from)) || !bytes.Equal(before, header(to)) {
		return 0, false
	}
	return 32 + int64(binary.NativeEndian.Uint32(shm[128:]))*(24+4096), true
}
