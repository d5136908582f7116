package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// smallDisk mounts a file system of some KiB, or skips the test; where CI is set it must not skip.
func smallDisk(t *testing.T, kib int) string {
	dir := t.TempDir()
	if err := unix.Mount("frond-test", dir, "tmpfs", unix.MS_NOSUID, fmt.Sprintf("size=%dk", kib)); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a small file system: %v", err)
		}
		t.Skipf("SKIP: a small file system cannot be mounted (root is needed): %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
	return dir
}

// fill takes all space of a disk and returns how to free it.
func fill(t *testing.T, dir string) (free func()) {
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	for size := 64 << 10; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
	}
	return func() { require.NoError(t, os.Remove(path)) }
}

// bigTxn submits job id and has some output of it.
func bigTxn(id jobspec.ID) *job.Txn {
	t := single(id)
	t.Specs = []job.SpecRow{{ID: uint64(id), JSON: bytes.Repeat([]byte("s"), 30<<10)}}
	t.Output = []job.OutputRow{{ID: id, Attempt: 1, Stream: 1, Data: bytes.Repeat([]byte{byte(id)}, 20<<10)}}
	return t
}

func TestFullDisk(t *testing.T) {
	for _, c := range []struct {
		name string
		txn  func(jobspec.ID) *job.Txn
	}{
		{"under the database", func(id jobspec.ID) *job.Txn { tx := bigTxn(id); tx.Output = nil; return tx }},
		{"under the output", func(id jobspec.ID) *job.Txn { tx := bigTxn(id); tx.Specs = nil; return tx }},
		{"under both", bigTxn},
	} {
		t.Run(c.name+": commits fail, the same succeed when there is space, nothing is lost", func(t *testing.T) {
			disk := smallDisk(t, 4096)
			dir := filepath.Join(disk, "state")
			s, _, err := Open(dir, Options{checkpoint: 50})
			require.NoError(t, err)
			defer s.Close()
			want := jobspec.ID(0)
			for range 5 {
				want++
				require.NoError(t, commit(s, c.txn(want)))
			}
			free := fill(t, disk)
			failed := 0
			for range 40 { // what SQLite has allocated already may take a few
				if err := commit(s, c.txn(want+1)); err != nil {
					failed++
					require.ErrorContains(t, err, "commit to state directory "+dir)
					require.Regexp(t, `full|no space left`, err.Error())
				} else {
					want++
				}
			}
			require.Greater(t, failed, 20)
			n, err := ask(s, func(r job.Reader) (any, error) { _, ok, err := r.Array(want); return ok, err })
			require.NoError(t, err, "queries go on")
			require.Equal(t, true, n)
			free()
			for range 5 {
				want++
				require.NoError(t, commit(s, c.txn(want)))
			}
			require.NoError(t, s.Close())
			verifyJobs(t, dir, want, len(c.txn(1).Output) > 0)
		})
	}
}

// verifyJobs checks that a directory holds jobs 1 … last, with their output.
func verifyJobs(t *testing.T, dir string, last jobspec.ID, output bool) {
	t.Helper()
	s, loaded, err := Open(dir, Options{})
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, last, loaded.LastID)
	require.Len(t, loaded.Arrays, int(last))
	if !output {
		return
	}
	for id := range last {
		_, err := ask(s, func(r job.Reader) (any, error) {
			pieces := 0
			err := r.Output(id+1, 0, func(o job.OutputRow) bool {
				pieces++
				require.Equal(t, bytes.Repeat([]byte{byte(id + 1)}, 20<<10), o.Data)
				return true
			})
			require.Equal(t, 1, pieces)
			return nil, err
		})
		require.NoError(t, err)
	}
}

// blocked is a store whose writing goroutine waits until let is called, so that commits queue up behind it.
func blocked(t *testing.T) (s *Store, let func()) {
	s, _ = open(t, t.TempDir(), Options{})
	gate, held := make(chan struct{}), make(chan struct{})
	s.Do(time.Time{}, &job.Commit{Txn: single(1)}, func(any, error) { close(held); <-gate })
	<-held
	return s, func() { close(gate) }
}

func TestGroups(t *testing.T) {
	give := func(s *Store, txns ...*job.Txn) (errs []error, wait *sync.WaitGroup) {
		errs, wait = make([]error, len(txns)), &sync.WaitGroup{}
		wait.Add(len(txns))
		for i, txn := range txns {
			s.Do(time.Time{}, &job.Commit{Txn: txn}, func(_ any, err error) { errs[i] = err; wait.Done() })
		}
		return errs, wait
	}
	t.Run("what has queued up becomes one transaction", func(t *testing.T) {
		s, let := blocked(t)
		before := walSize(t, s.dir)
		var txns []*job.Txn
		for i := range jobspec.ID(1000) {
			txns = append(txns, single(i+2))
		}
		errs, wait := give(s, txns...)
		let()
		wait.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		require.Less(t, walSize(t, s.dir)-before, int64(60*4096), "1,000 transactions of their own would need 4 pages each")
	})
	t.Run("a faulty one fails alone, and those behind it fail as they may depend on it", func(t *testing.T) {
		s, let := blocked(t)
		token := func(id jobspec.ID, token string) *job.Txn {
			tx := single(id)
			tx.Arrays[0].Token = token
			return tx
		}
		errs, wait := give(s, token(2, "a"), token(3, "a"), token(4, "b"))
		let()
		wait.Wait()
		require.NoError(t, errs[0])
		require.ErrorContains(t, errs[1], "UNIQUE")
		require.NotErrorIs(t, errs[1], ErrBehind)
		require.ErrorIs(t, errs[2], ErrBehind)
		require.NoError(t, commit(s, token(4, "b")))
	})
	t.Run("an effect that the store does not have is answered with an error", func(t *testing.T) {
		s, _ := open(t, t.TempDir(), Options{})
		answer := make(chan error, 1)
		s.Do(time.Time{}, "nonsense", func(_ any, err error) { answer <- err })
		require.ErrorContains(t, <-answer, "string")
	})
	t.Run("a query's own error is passed on", func(t *testing.T) {
		s, _ := open(t, t.TempDir(), Options{})
		mine := errors.New("mine")
		_, err := ask(s, func(job.Reader) (any, error) { return nil, mine })
		require.Equal(t, mine, err)
	})
}

func TestSegments(t *testing.T) {
	out := func(offset int64, data string) *job.Txn {
		return &job.Txn{Output: []job.OutputRow{{ID: 1, Attempt: 1, Stream: 1, Offset: offset, Data: []byte(data)}}}
	}
	read := func(t *testing.T, s *Store) string {
		text, err := ask(s, func(r job.Reader) (any, error) {
			var text []byte
			err := r.Output(1, 0, func(o job.OutputRow) bool {
				require.Equal(t, int64(len(text)), o.Offset)
				text = append(text, o.Data...)
				return true
			})
			return string(text), err
		})
		require.NoError(t, err)
		return text.(string)
	}
	t.Run("output goes on over rotations, restarts and junk that a crash left", func(t *testing.T) {
		dir := t.TempDir()
		s, _ := open(t, dir, Options{segment: 8})
		require.NoError(t, commit(s, out(0, "hello ")))
		require.NoError(t, commit(s, out(6, "big ")))
		require.NoError(t, commit(s, out(10, "wide ")))
		require.NoError(t, s.Close())
		segs, _ := filepath.Glob(filepath.Join(dir, "output", "*"))
		require.Len(t, segs, 2)
		f, err := os.OpenFile(segs[1], os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		f.WriteString("half a piece that was never indexed")
		f.Close()
		s, _ = open(t, dir, Options{segment: 8})
		require.NoError(t, commit(s, out(15, "world")))
		require.Equal(t, "hello big wide world", read(t, s))
	})
	t.Run("pieces that come again, whole or longer, count once", func(t *testing.T) {
		s, _ := open(t, t.TempDir(), Options{})
		require.NoError(t, commit(s, out(0, "abc")))
		require.NoError(t, commit(s, out(0, "abc")))
		require.NoError(t, commit(s, out(0, "abcde")))
		require.NoError(t, commit(s, out(2, "cdefg")))
		require.Equal(t, "abcdefg", read(t, s))
	})
	t.Run("a piece larger than the buffer is kept", func(t *testing.T) {
		s, _ := open(t, t.TempDir(), Options{})
		big := string(bytes.Repeat([]byte("x"), 3*segmentBuf))
		require.NoError(t, commit(s, out(0, big)))
		require.NoError(t, commit(s, out(int64(len(big)), "y")))
		require.Equal(t, big+"y", read(t, s))
	})
	t.Run("what a failed transaction added is taken back, with the segment that it began", func(t *testing.T) {
		s := newSegments(t.TempDir(), Options{segment: 4})
		defer s.abandon()
		add := func(num, pos int64, data string) {
			t.Helper()
			n, p, err := s.add([]byte(data))
			require.NoError(t, err)
			require.Equal(t, [2]int64{num, pos}, [2]int64{n, p})
		}
		add(1, 0, "ab")
		require.NoError(t, s.flush())
		mark := s.mark()
		add(1, 2, "cd")
		s.back(mark)
		add(1, 2, "efg")
		require.NoError(t, s.flush())
		mark = s.mark()
		add(2, 0, "hij")
		s.back(mark)
		add(2, 0, "k")
		require.NoError(t, s.flush())
		for name, want := range map[string]string{"000001.seg": "abefg", "000002.seg": "k"} {
			got, err := os.ReadFile(filepath.Join(s.dir, name))
			require.NoError(t, err)
			require.Equal(t, want, string(got))
		}
	})
	t.Run("a segment that is gone is an error that names it", func(t *testing.T) {
		dir := t.TempDir()
		s, _ := open(t, dir, Options{})
		require.NoError(t, commit(s, out(0, "abc")))
		require.NoError(t, os.Truncate(filepath.Join(dir, "output", "000001.seg"), 1))
		_, err := ask(s, func(r job.Reader) (any, error) { return nil, r.Output(1, 0, func(job.OutputRow) bool { return true }) })
		require.ErrorContains(t, err, "000001.seg")
	})
}
