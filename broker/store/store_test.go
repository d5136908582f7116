package store

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/kvs"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/store/storetest"
	"github.com/frond-hpc/frond/jobspec"
)

func TestMain(m *testing.M) {
	storetest.Checks(8) // a life of a store takes up to a third of a second
	goleak.VerifyTestMain(m)
}

// subject runs the suite on real directories. A crash is a copy of the directory, as it is at some moment, on which the next
// leader goes on; nothing tells the old one, which goes on in its own directory until it is closed.
type subject struct {
	opts Options
	dir  string
	s    *Store
	wait *sync.WaitGroup
}

func newSubject(o Options) storetest.Subject {
	return &subject{opts: o, dir: tempDir(), wait: &sync.WaitGroup{}}
}

func tempDir() string {
	dir, err := os.MkdirTemp("", "frond-store-test-")
	if err != nil {
		panic(err)
	}
	return dir
}

func (s *subject) Open() (reactor.Driver, *job.Loaded, error) {
	st, loaded, err := Open(s.dir, s.opts)
	s.s = st
	return s, loaded, err
}

// KVS is for the suite.
func (s *subject) KVS() *kvs.Loaded { return s.s.KVS() }

// Do counts what has not been answered, for Settle.
func (s *subject) Do(now time.Time, effect any, done func(any, error)) {
	s.wait.Add(1)
	w := s.wait
	s.s.Do(now, effect, func(r any, err error) {
		done(r, err)
		w.Done()
	})
}

func (s *subject) Settle()      { s.wait.Wait() }
func (s *subject) Close() error { return s.s.Close() }

func (s *subject) Crash() {
	dir := tempDir()
	copyState(s.dir, dir)
	s.Discard()
	s.dir, s.s, s.wait = dir, nil, &sync.WaitGroup{}
}

func (s *subject) Discard() {
	if s.s != nil {
		s.s.Close()
	}
	os.RemoveAll(s.dir)
}

// copyState copies what a crash would leave of a state directory that is in use, provided that no checkpoint takes place: the WAL
// after the database, then the segments, of which there may be more than is indexed.
func copyState(from, to string) {
	copyFile(filepath.Join(from, dbName), filepath.Join(to, dbName))
	copyFile(filepath.Join(from, dbName+"-wal"), filepath.Join(to, dbName+"-wal"))
	os.Mkdir(filepath.Join(to, "output"), 0o700)
	segs, _ := filepath.Glob(filepath.Join(from, "output", "*.seg"))
	for _, s := range segs {
		copyFile(s, filepath.Join(to, "output", filepath.Base(s)))
	}
}

func copyFile(from, to string) {
	data, err := os.ReadFile(from)
	if err != nil && !os.IsNotExist(err) {
		panic(err)
	}
	os.Remove(to) // ext4 writes a file out at once that was truncated and written anew
	if err := os.WriteFile(to, data, 0o600); err != nil {
		panic(err)
	}
}

func TestConformance(t *testing.T) {
	for name, o := range map[string]Options{
		"synced":                      {checkpoint: -1, segment: 100},
		"temporary":                   {checkpoint: -1, Temp: true},
		"as on a network file system": {checkpoint: -1, Temp: true, forceRemote: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func() storetest.Subject { return newSubject(o) })
			storetest.RunKVS(t, func() storetest.Subject { return newSubject(o) })
		})
	}
}

// open opens a store that is closed with the test.
func open(t testing.TB, dir string, o Options) (*Store, *job.Loaded) {
	t.Helper()
	s, loaded, err := Open(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s, loaded
}

// commit commits one transaction and waits for the answer.
func commit(s *Store, t *job.Txn) error {
	answer := make(chan error, 1)
	s.Do(time.Time{}, &job.Commit{Txn: t}, func(_ any, err error) { answer <- err })
	return <-answer
}

// ask runs a query and waits for the answer.
func ask(s *Store, run func(job.Reader) (any, error)) (any, error) {
	var result any
	answer := make(chan error, 1)
	s.Do(time.Time{}, &job.Query{Run: run}, func(r any, err error) {
		result = r
		answer <- err
	})
	return result, <-answer
}

// single is a transaction that submits the single job id.
func single(id jobspec.ID) *job.Txn {
	return &job.Txn{Arrays: []job.ArrayRow{{ID: id, N: 1, Spec: 1}}, Specs: []job.SpecRow{{ID: 1, JSON: []byte("{}")}}, LastID: id}
}

// TestManyTexts: more new jobspecs in one transaction than are inserted at once.
func TestManyTexts(t *testing.T) {
	s, _ := open(t, t.TempDir(), Options{})
	txn := &job.Txn{LastID: 800}
	for i := range 800 {
		id := jobspec.ID(i + 1)
		txn.Specs = append(txn.Specs, job.SpecRow{ID: uint64(id), JSON: []byte("{}")})
		txn.Envs = append(txn.Envs, job.EnvRow{ID: uint64(id), Data: []byte("A=1\x00")})
		txn.Arrays = append(txn.Arrays, job.ArrayRow{ID: id, N: 1, Spec: uint64(id), Env: uint64(id)})
	}
	require.NoError(t, commit(s, txn))
	require.NoError(t, commit(s, txn), "again")
}

func TestOpen(t *testing.T) {
	t.Run("a new directory has the documented files, for its owner alone", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a", "with ? # % in its name")
		s, _ := open(t, dir, Options{})
		require.NoError(t, commit(s, &job.Txn{Arrays: single(1).Arrays, Output: []job.OutputRow{{ID: 1, Attempt: 1, Stream: 1, Data: []byte("x")}}}))
		for name, mode := range map[string]os.FileMode{".": 0o700, "output": 0o700, "branch": 0o700, "store.db": 0o600, "store.db-wal": 0o600,
			"lock": 0o600, "output/000001.seg": 0o600} {
			fi, err := os.Stat(filepath.Join(dir, name))
			require.NoError(t, err)
			require.Equal(t, mode, fi.Mode().Perm(), name)
		}
		require.Equal(t, uint64(1), s.Epoch())
	})
	t.Run("recovery insists on a state", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "none")
		_, _, err := Open(dir, Options{MustExist: true})
		require.ErrorIs(t, err, ErrNoState)
		require.ErrorContains(t, err, dir)
		require.NoDirExists(t, dir)
		s, _ := open(t, dir, Options{})
		require.NoError(t, s.Close())
		open(t, dir, Options{MustExist: true})
	})
	t.Run("a later format is refused, naming both", func(t *testing.T) {
		dir := t.TempDir()
		s, _ := open(t, dir, Options{})
		require.NoError(t, s.w.c.script(`PRAGMA user_version=77`))
		require.NoError(t, s.Close())
		_, _, err := Open(dir, Options{})
		require.ErrorContains(t, err, "format 77")
		require.ErrorContains(t, err, fmt.Sprint("up to ", format))
		require.NoFileExists(t, filepath.Join(dir, "lock"))
	})
	t.Run("an earlier format is migrated, its rows kept", func(t *testing.T) {
		dir := t.TempDir()
		s, _ := open(t, dir, Options{})
		require.NoError(t, commit(s, single(5)))
		require.NoError(t, s.Close())
		old, oldFormat := migrations, format
		defer func() { migrations, format = old, oldFormat }()
		migrations = append(slices.Clone(old), `ALTER TABLE spec ADD COLUMN kind TEXT`)
		format = oldFormat + 1
		s, loaded := open(t, dir, Options{})
		require.Len(t, loaded.Arrays, 1)
		n, err := s.w.c.number(`PRAGMA user_version`)
		require.NoError(t, err)
		require.Equal(t, format, n)
	})
	t.Run("every format there was is brought to the present one", func(t *testing.T) {
		for from := 1; from < int(format); from++ {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, dbName), nil, 0o600))
			c, err := openConn(filepath.Join(dir, dbName))
			require.NoError(t, err)
			for _, step := range migrations[:from] {
				require.NoError(t, c.script(step))
			}
			require.NoError(t, c.script(fmt.Sprintf(`PRAGMA application_id=%d; PRAGMA user_version=%d;
				INSERT INTO array (id, n, spec, env, bcc, urgency, flags, user, submit) VALUES (5, 3, 1, 0, 0, 16, 0, 1, 1.5);
				INSERT INTO total (array, n, completed, failed, canceled, timedout, maxstatus, firstfailed) VALUES (5, 3, 0, 0, 0, 0, -1, NULL); INSERT INTO active VALUES (5, 0)`, appID, from)))
			require.NoError(t, c.close())
			s, loaded := open(t, dir, Options{})
			require.Len(t, loaded.Arrays, 1)
			require.Equal(t, job.ArrayRow{ID: 5, N: 3, Spec: 1, Urgency: 16, User: 1, Submit: 1.5}, loaded.Arrays[0].ArrayRow)
			require.NoError(t, commit(s, single(900)))
			require.NoError(t, s.Close())
		}
	})
	t.Run("a migration that fails leaves the old format", func(t *testing.T) {
		dir := t.TempDir()
		s, _ := open(t, dir, Options{})
		require.NoError(t, s.Close())
		old, oldFormat := migrations, format
		defer func() { migrations, format = old, oldFormat }()
		migrations, format = append(slices.Clone(old), `CREATE TABLE later (a); SELECT nonsense`), oldFormat+1
		_, _, err := Open(dir, Options{})
		require.ErrorContains(t, err, fmt.Sprintf("from format %d to %d", oldFormat, oldFormat+1))
		migrations, format = old, oldFormat
		s, _ = open(t, dir, Options{})
		n, err := s.w.c.number(`SELECT count(*) FROM sqlite_schema WHERE name = 'later'`)
		require.NoError(t, err)
		require.Zero(t, n)
	})
	t.Run("another program's database is refused", func(t *testing.T) {
		dir := t.TempDir()
		f, err := os.Create(filepath.Join(dir, dbName))
		require.NoError(t, err)
		f.Close()
		c, err := openConn(f.Name())
		require.NoError(t, err)
		require.NoError(t, c.script(`CREATE TABLE songs (a)`))
		require.NoError(t, c.close())
		_, _, err = Open(dir, Options{})
		require.ErrorContains(t, err, "another program's data")
	})
	t.Run("a file that is no database is refused", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, dbName), make([]byte, 5000), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, dbName), []byte("certainly not a database, however long it may be"), 0o600))
		_, _, err := Open(dir, Options{})
		require.ErrorContains(t, err, "not a database")
	})
}

func TestClose(t *testing.T) {
	t.Run("what was queued is carried out, what comes later is refused", func(t *testing.T) {
		dir := t.TempDir()
		s, _ := open(t, dir, Options{})
		var wait sync.WaitGroup
		for i := range jobspec.ID(100) {
			wait.Add(1)
			s.Do(time.Time{}, &job.Commit{Txn: single(i + 1)}, func(_ any, err error) {
				if err != nil {
					t.Error(err)
				}
				wait.Done()
			})
		}
		require.NoError(t, s.Close())
		wait.Wait()
		require.ErrorIs(t, commit(s, single(200)), ErrClosed)
		_, err := ask(s, func(job.Reader) (any, error) { return nil, nil })
		require.ErrorIs(t, err, ErrClosed)
		require.NoFileExists(t, filepath.Join(dir, "lock"))
		_, loaded := open(t, dir, Options{})
		require.Len(t, loaded.Arrays, 100)
	})
}

func TestView(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, Options{})
	txn := single(3)
	txn.Arrays = append(txn.Arrays, job.ArrayRow{ID: 4, N: 1})
	txn.Ended = []job.ElementRow{{ID: 4, Array: 4, Result: 1, Attempt: 1, Start: 1, End: 2, Nodelist: "n1", Ranks: "0"}}
	txn.Output = []job.OutputRow{{ID: 4, Attempt: 1, Stream: 1, Data: []byte("hello\n")}}
	require.NoError(t, commit(s, txn))
	var text strings.Builder
	require.NoError(t, View(dir, func(l *job.Loaded, r job.Reader) error { return storetest.Dump(&text, l, r) }))
	require.Equal(t, `epoch 1 last-id 3 spec 1 env 0 counts {Completed:1 Failed:0 Canceled:0 TimedOut:0}
unfinished 3 n 1 name "" cc "" hi 0 finished [] starts [] results {Completed:0 Failed:0 Canceled:0 TimedOut:0}
ended 4 array 4 index 0 result 1 status 0 attempt 1 start 1.000000 end 2.000000 nodes "n1" ranks "0"
output 4 attempt 1 task 0 stream 1 offset 0 "hello\n"
`, text.String())
	require.NoError(t, commit(s, single(5)), "a view does not disturb the leader")
	require.Error(t, View(filepath.Join(dir, "nowhere"), func(*job.Loaded, job.Reader) error { return nil }))
}
