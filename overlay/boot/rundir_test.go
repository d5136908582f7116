package boot

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Many instances are made at a time while others clear what is stale: none loses its directory.
func TestRunDirectoriesAreMadeWhileOthersAreSwept(t *testing.T) {
	base := filepath.Join(t.TempDir(), "frond-x")
	var done sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		done.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					Sweep(base)
				}
			}
		})
	}
	for i := range 500 {
		dir, err := CreateRunDir(base, fmt.Sprintf("n%d", i), 2)
		if errors.Is(err, ErrRunning) { // just being cleared: the caller takes another name
			continue
		}
		require.NoError(t, err)
		require.DirExists(t, filepath.Join(dir.Path, "1"))
		require.NoError(t, dir.Remove())
	}
	close(stop)
	done.Wait()
}
