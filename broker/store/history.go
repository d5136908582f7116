package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
	"golang.org/x/sys/unix"
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

// keepHistory writes a piece of a file of an instance below.
func (s *Store) keepHistory(p *job.HistoryPart) error {
	if !filepath.IsLocal(p.Name) || !filepath.IsLocal(p.Dir) || filepath.Base(p.Dir) != p.Dir {
		return fmt.Errorf("keep history: %q in %q is no path of a file in a state directory", p.Name, p.Dir)
	}
	path := filepath.Join(s.dir, "branch", p.Dir, p.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep history: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("keep history: %w", err)
	}
	_, err = f.WriteAt(p.Data, p.Offset)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep history: %w", err)
	}
	return nil
}

// dropHistories removes what jobs that are forgotten have run as instances: branch/ID, and branch/ID.N of later attempts.
func (s *Store) dropHistories(p *job.Purge) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "branch"))
	if err != nil || len(entries) == 0 || len(p.Arrays) == 0 {
		return
	}
	gone := make(map[jobspec.ID]bool, len(p.Arrays))
	for _, id := range p.Arrays {
		gone[id] = true
	}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".")
		if id, err := jobspec.ParseID(name); err == nil && gone[id] {
			os.RemoveAll(filepath.Join(s.dir, "branch", e.Name())) // what stays is found by nobody
		}
	}
}
