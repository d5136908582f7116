package board

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func open(t *testing.T, dir string, rank, size int, limit time.Duration) *Board {
	b, err := Open(dir, "key", rank, size, limit)
	require.NoError(t, err)
	return b
}

func TestWhatIsPutIsKnownAfterTheBarrier(t *testing.T) {
	dir := t.TempDir()
	const size = 5
	var all sync.WaitGroup
	errs := make([]error, size)
	for rank := range size {
		b := open(t, dir, rank, size, time.Minute)
		all.Go(func() {
			for round := range 3 {
				b.Put(fmt.Sprintf("k%d.%d", round, rank), fmt.Sprint(rank*round))
				if _, err := b.Get(fmt.Sprintf("k%d.%d", round, (rank+1)%size)); err == nil {
					errs[rank] = errors.New("known too early")
				}
				if err := b.Barrier(); err != nil {
					errs[rank] = err
					return
				}
				for other := range size {
					if v, err := b.Get(fmt.Sprintf("k%d.%d", round, other)); err != nil || v != fmt.Sprint(other*round) {
						errs[rank] = fmt.Errorf("round %d of %d: %q, %v", round, other, v, err)
					}
				}
			}
			errs[rank] = errors.Join(errs[rank], b.Close())
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
	b := open(t, dir, 0, size, time.Second)
	require.NoError(t, b.Remove())
	require.NoDirExists(t, b.Dir())
}

func TestWhoDoesNotComeIsNamed(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	var missing [2]*MissingError
	for i, rank := range []int{1, 3} {
		b := open(t, dir, rank, 4, 2*time.Second) // in which both see each other
		all.Go(func() { errors.As(b.Barrier(), &missing[i]) })
	}
	all.Wait()
	require.ErrorContains(t, missing[0], "of the 4 processes of the launch, number 0, 2 cannot be seen in "+dir)
	require.True(t, missing[0].First)
	require.False(t, missing[1].First, "number 1 tells it")
}

func TestFilesOfAnEarlierLaunchDoNotCount(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, 0, 2, 100*time.Millisecond)
	old := filepath.Join(b.Dir(), "0.1")
	require.NoError(t, os.WriteFile(old, []byte("{}"), 0o600))
	require.NoError(t, os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour)))
	var missing *MissingError
	require.ErrorAs(t, b.Barrier(), &missing)
	require.Equal(t, []int{1}, missing.Ranks)
}

func TestOthersCannotRead(t *testing.T) {
	b := open(t, t.TempDir(), 0, 1, time.Minute)
	require.NoError(t, b.Barrier())
	for path, mode := range map[string]os.FileMode{b.Dir(): 0o700, filepath.Join(b.Dir(), "0.0"): 0o600} {
		fi, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, mode, fi.Mode().Perm())
	}
}
