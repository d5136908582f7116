package store

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/frond-hpc/frond/broker/job"
)

// History reads the state directory of an instance that has ended. Several may read it at once; nothing is added to it.
type History struct {
	dir     string
	c       *conn
	mu      sync.Mutex // of c
	running sync.WaitGroup
}

// OpenHistory opens the state directory dir for reading. Whoever uses it must have ended.
func OpenHistory(dir string) (*History, error) {
	if _, err := os.Stat(filepath.Join(dir, dbName)); err != nil {
		return nil, fmt.Errorf("%w: %s has no %s", ErrNoState, dir, dbName)
	}
	c, err := openDB(dir, Options{Temp: true}, isRemote(dir)) // which brings an older format up to date
	if err != nil {
		return nil, err
	}
	return &History{dir: dir, c: c}, nil
}

// Do answers a *job.Query (reactor.Driver). Other effects are done without anything being done.
func (h *History) Do(_ time.Time, effect any, done func(result any, err error)) {
	h.running.Go(func() {
		q, ok := effect.(*job.Query)
		if !ok {
			done(nil, nil)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		runQuery(h.c, h.dir, q, done)
	})
}

// Close waits for what is being read.
func (h *History) Close() {
	h.running.Wait()
	h.c.close()
}
