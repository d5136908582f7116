// Package store is the adapter that keeps an instance's jobs and its key-value store in a state directory: SQLite for the rows, append-only segment
// files for the output of tasks. It implements the ports of package job (Txn, Commit, Query, Reader, Loaded) and of package kvs (Txn, Commit, Loaded) as a
// reactor.Driver, and it alone imports SQLite.
//
// A state directory holds
//
//	store.db       SQLite database (and its -wal and -shm); PRAGMA user_version is the format
//	output/        NNNNNN.seg: task output, found by the rows of table output
//	branch/        histories of branches, written by others
//	start.json     counters and properties of the last start, written by others
//	lock           who uses the directory, as JSON
//	log            the leader's log, written by others
//
// # Goroutines
//
// One goroutine writes: it takes all commits that have queued up and makes one SQLite transaction of them (group commit), so that
// the cost of fsync is shared. Up to two goroutines read, each with a connection of its own and a snapshot for each query. On a
// network file system there is one connection and the writing goroutine answers queries between two groups. A further goroutine
// renews the beat in the lock file.
//
// # Order of durability
//
// Output data is written and synced before the index rows that name it are committed; a commit is answered after SQLite has
// synced its WAL. What lies in a segment beyond the indexed rows after a crash is never read; each opening of a directory
// starts a new segment, so a leader that was replaced cannot write into its successor's files.
//
// # Failure
//
// A commit that fails (disk full, I/O error) leaves no trace and may be sent again. All commits queued behind it fail too, so that
// nothing overtakes it. Every row has a primary key and rows that exist already are left as they are: a Txn that is sent twice
// counts once. Every transaction checks that the epoch in the database is still its own; once another leader has raised it,
// all commits fail with ErrTakenOver.
package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/kvs"
	"github.com/frond-hpc/frond/resource"
)

var (
	// ErrClosed answers effects given to a store after Close.
	ErrClosed = errors.New("store is closed")
	// ErrTakenOver answers commits when another leader has opened the state directory since. It is final: this leader must stop.
	ErrTakenOver = errors.New("another leader has taken over the state directory")
	// ErrBehind answers commits that were queued behind one that failed; they may be sent again after it, in order.
	ErrBehind = errors.New("an earlier commit failed")
	// ErrInUse is what Open returns, wrapped in a sentence that names the process, when the directory has a living owner.
	ErrInUse = errors.New("state directory is in use")
	// ErrNoState is what Open returns with MustExist when there is nothing to recover.
	ErrNoState = errors.New("no state to recover")
)

// Options of Open; the zero value is right for `--statedir`.
type Options struct {
	// MustExist refuses a directory that holds no state (--recover).
	MustExist bool
	// Temp says that the directory is deleted with the instance (no --statedir given): nothing is synced, as nothing of it is
	// read after a crash of the machine. A crash of the process alone still loses nothing that was answered.
	Temp bool
	// TakenOver, if set, is called once, from the writing goroutine, when another leader has taken over.
	TakenOver func(error)

	// For tests.
	segment     int64       // size at which a new segment is begun; 0 = 256 MiB
	checkpoint  int         // pages in the WAL that start a checkpoint; 0 = 4000, negative = never
	forceRemote bool        // treat the file system as a network one
	me          *lockHolder // who opens; nil = this process
}

// Store is an open state directory. Its methods may be called from any goroutine.
type Store struct {
	dir    string
	opts   Options
	lock   *lockFile
	remote bool
	kvs    *kvs.Loaded // until KVS
	drains []resource.Drain

	w       *writer
	commits *queue // *task with Commit; with remote also with Query
	queries *queue // *task with Query
	running sync.WaitGroup

	closing  sync.Once
	closeErr error
}

// task is an effect on its way.
type task struct {
	effect any
	done   func(result any, err error)
}

// Open opens the state directory dir for this process as its leader, creating it if need be, raises its epoch and reads what
// the next leader needs: the time for that grows with the unfinished work, not with the history. Errors: ErrInUse, ErrNoState,
// a format newer than this program's, and those of the file system.
func Open(dir string, opts Options) (*Store, *job.Loaded, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open state directory: %w", err)
	}
	if err := makeDirs(dir, opts); err != nil {
		return nil, nil, err
	}
	lock, err := acquire(dir, opts.me)
	if err != nil {
		return nil, nil, err
	}
	s := &Store{dir: dir, opts: opts, lock: lock, commits: newQueue(), queries: newQueue()}
	loaded, err := s.open()
	if err != nil {
		if s.w != nil {
			s.w.close()
		}
		lock.release()
		return nil, nil, err
	}
	s.start()
	return s, loaded, nil
}

// open does what Open does under the lock.
func (s *Store) open() (*job.Loaded, error) {
	s.remote = s.opts.forceRemote || isRemote(s.dir)
	c, err := openDB(s.dir, s.opts, s.remote)
	if err != nil {
		return nil, err
	}
	s.w = &writer{dir: s.dir, c: c, seg: newSegments(filepath.Join(s.dir, "output"), s.opts)}
	if s.w.epoch, err = raiseEpoch(c); err != nil {
		return nil, fmt.Errorf("open state directory %s: %w", s.dir, err)
	}
	s.lock.setEpoch(s.w.epoch)
	if err := dropUploads(c, time.Now().Add(-uploadKept)); err != nil {
		return nil, fmt.Errorf("tidy state directory %s: %w", s.dir, err)
	}
	loaded, err := load(c)
	if err != nil {
		return nil, fmt.Errorf("load state directory %s: %w", s.dir, err)
	}
	if s.drains, err = loadDrains(c); err != nil {
		return nil, fmt.Errorf("load state directory %s: %w", s.dir, err)
	}
	if s.kvs, err = loadKVS(c); err != nil {
		return nil, fmt.Errorf("load state directory %s: %w", s.dir, err)
	}
	s.w.prepare(loaded)
	if err := s.w.tidy(); err != nil {
		return nil, fmt.Errorf("tidy state directory %s: %w", s.dir, err)
	}
	return loaded, nil
}

// start runs the goroutines; Close waits for them.
func (s *Store) start() {
	s.running.Go(s.lock.keepBeating)
	s.running.Go(s.commitLoop)
	if !s.remote {
		for range readers {
			s.running.Go(s.queryLoop)
		}
	}
}

// Do carries out a *job.Commit, *job.Query, *job.Purge, *job.HistoryPart or *kvs.Commit (reactor.Driver). done is called exactly once, from one of the store's
// goroutines.
func (s *Store) Do(_ time.Time, effect any, done func(result any, err error)) {
	t := &task{effect, done}
	q := s.commits
	if _, ok := effect.(*job.Query); ok && !s.remote {
		q = s.queries
	}
	if !q.put(t) {
		go done(nil, ErrClosed)
	}
}

// Close carries out what is queued, waits for it, closes the database and gives up the lock. It may be called again.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.commits.close()
		s.queries.close()
		close(s.lock.stop)
		s.running.Wait()
		s.closeErr = s.w.close()
		s.lock.release()
	})
	return s.closeErr
}

// Epoch is the number of this leader: one more than its predecessor's in this directory.
func (s *Store) Epoch() uint64 { return s.w.epoch }

// Dir is the state directory, absolute.
func (s *Store) Dir() string { return s.dir }

// makeDirs creates what is missing of the directory, 0700, and syncs what it created, so that the names survive a crash of the machine.
func makeDirs(dir string, o Options) error {
	db := filepath.Join(dir, dbName)
	fi, err := os.Stat(db)
	if o.MustExist && (err != nil || fi.Size() == 0) {
		return fmt.Errorf("%w: %s has no %s (leave out --recover to begin a new state there)", ErrNoState, dir, dbName)
	}
	for _, d := range []string{dir, filepath.Join(dir, "output"), filepath.Join(dir, "branch")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("create state directory: %w", err)
		}
	}
	if err == nil {
		return nil
	}
	f, err := os.OpenFile(db, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("create state directory: %w", err)
	}
	f.Close()
	if o.Temp {
		return nil
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("create state directory: %w", err)
	}
	return syncDir(dir)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
