package store

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/frond-hpc/frond/broker/job"
)

// putLock writes the lock of a made-up owner, changed by f from one that looks like this process.
func putLock(t *testing.T, dir string, f func(*lockHolder)) {
	t.Helper()
	h := thisProcess()
	h.Beat = time.Now().Unix()
	f(h)
	text, err := json.Marshal(h)
	require.NoError(t, err)
	path := filepath.Join(dir, "lock")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	require.NoError(t, os.Chtimes(path, time.Time{}, time.Unix(h.Beat, 0)))
}

func TestLock(t *testing.T) {
	old := time.Now().Add(-2 * beatDead).Unix()
	gone := exec.Command("true")
	require.NoError(t, gone.Run())
	for _, c := range []struct {
		name  string
		owner func(*lockHolder)
		taken bool
	}{
		{"the owner runs on this host", func(*lockHolder) {}, false},
		{"the owner runs on this host, though its beat is old", func(h *lockHolder) { h.Beat = old }, false},
		{"the owner's pid is gone", func(h *lockHolder) { h.PID = gone.Process.Pid }, true},
		{"the owner's pid is another process by now", func(h *lockHolder) { h.Start-- }, true},
		{"the host was restarted since", func(h *lockHolder) { h.BootID = "another" }, true},
		{"another host's owner has a fresh beat", func(h *lockHolder) { h.Host = "elsewhere" }, false},
		{"another host's owner has a fresh beat, with a pid that is gone here", func(h *lockHolder) { h.Host, h.BootID, h.PID = "elsewhere", "b", 1<<30 }, false},
		{"another host's owner has an old beat", func(h *lockHolder) { h.Host, h.Beat = "elsewhere", old }, true},
		{"another container's owner has a fresh beat", func(h *lockHolder) { h.PIDNS, h.PID = "pid:[1]", gone.Process.Pid }, false},
		{"another container's owner has an old beat", func(h *lockHolder) { h.PIDNS, h.Beat = "pid:[1]", old }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			putLock(t, dir, c.owner)
			s, _, err := Open(dir, Options{})
			if c.taken {
				require.NoError(t, err)
				require.NoError(t, s.Close())
				left, _ := filepath.Glob(filepath.Join(dir, "lock*"))
				require.Empty(t, left)
				return
			}
			require.ErrorIs(t, err, ErrInUse)
			h, _ := readLock(filepath.Join(dir, "lock"))
			require.ErrorContains(t, err, fmt.Sprintf("state directory %s is in use by pid %d on host %s (", dir, h.PID, h.Host))
		})
	}
	t.Run("a clock that runs ahead here does not make another host's owner dead", func(t *testing.T) {
		dir := t.TempDir()
		putLock(t, dir, func(h *lockHolder) { h.Host, h.Beat = "elsewhere", old })
		now := time.Now() // the file system says that the file was written just now
		require.NoError(t, os.Chtimes(filepath.Join(dir, "lock"), now, now))
		_, _, err := Open(dir, Options{})
		require.ErrorIs(t, err, ErrInUse)
	})
	t.Run("a lock file that cannot be read is left alone", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "lock"), []byte("{"), 0o600))
		_, _, err := Open(dir, Options{})
		require.ErrorIs(t, err, ErrInUse)
		require.ErrorContains(t, err, "cannot be read")
	})
	t.Run("a store that is open twice in one process is refused", func(t *testing.T) {
		dir := t.TempDir()
		open(t, dir, Options{})
		_, _, err := Open(dir, Options{})
		require.ErrorIs(t, err, ErrInUse)
	})
	t.Run("of many that try at once one gets it", func(t *testing.T) {
		dir := t.TempDir()
		putLock(t, dir, func(h *lockHolder) { h.Start-- })
		results := make(chan *lockFile, 8)
		for range cap(results) {
			go func() {
				l, _ := acquire(dir, nil)
				results <- l
			}()
		}
		var held []*lockFile
		for range cap(results) {
			if l := <-results; l != nil {
				held = append(held, l)
			}
		}
		require.Len(t, held, 1)
		held[0].release()
	})
	t.Run("the lock tells who and which epoch, and its beat is renewed in place", func(t *testing.T) {
		dir := t.TempDir()
		s, _ := open(t, dir, Options{})
		path := filepath.Join(dir, "lock")
		h, err := readLock(path)
		require.NoError(t, err)
		require.Equal(t, os.Getpid(), h.PID)
		require.Equal(t, uint64(1), h.Epoch)
		require.InDelta(t, time.Now().Unix(), h.Beat, 5)
		before := fileSize(path)
		require.NoError(t, s.lock.beat(time.Unix(2e9, 0)))
		h, err = readLock(path)
		require.NoError(t, err)
		require.Equal(t, int64(2e9), h.Beat)
		require.Equal(t, before, fileSize(path))
	})
}

func TestTakeover(t *testing.T) {
	t.Run("the old leader's next commit fails, and every one after it", func(t *testing.T) {
		dir := t.TempDir()
		var told []error
		first, _ := open(t, dir, Options{TakenOver: func(err error) { told = append(told, err) }})
		require.NoError(t, commit(first, single(1)))
		// As if it had been judged dead, which only another host's owner can be while it lives.
		putLock(t, dir, func(h *lockHolder) { h.Host, h.Beat = "elsewhere", 1e9 })
		second, loaded := open(t, dir, Options{})
		require.Equal(t, uint64(2), loaded.Epoch)
		require.Len(t, loaded.Arrays, 1)

		txn := single(2)
		txn.Output = []job.OutputRow{{ID: 2, Attempt: 1, Stream: 1, Data: []byte("from the old leader")}}
		err := commit(first, txn)
		require.ErrorIs(t, err, ErrTakenOver)
		require.ErrorContains(t, err, "its epoch is 2, this leader's 1")
		require.ErrorIs(t, commit(first, single(3)), ErrTakenOver)
		require.Len(t, told, 1)
		require.NoError(t, commit(second, single(4)))
		require.NoError(t, first.Close())

		h, err := readLock(filepath.Join(dir, "lock"))
		require.NoError(t, err, "the old leader must not remove the new one's lock")
		require.Equal(t, uint64(2), h.Epoch)
		require.NoError(t, second.Close())
		_, loaded = open(t, dir, Options{})
		require.Len(t, loaded.Arrays, 2)
		require.Equal(t, uint64(3), loaded.Epoch)
	})
	t.Run("the two write to different output segments", func(t *testing.T) {
		dir := t.TempDir()
		row := func(text string) *job.Txn {
			return &job.Txn{Output: []job.OutputRow{{ID: 1, Attempt: 1, Stream: uint8(len(text)), Data: []byte(text)}}}
		}
		first, _ := open(t, dir, Options{})
		require.NoError(t, commit(first, row("a")))
		putLock(t, dir, func(h *lockHolder) { h.Start-- })
		second, _ := open(t, dir, Options{})
		require.NoError(t, commit(second, row("bb")))
		require.Error(t, commit(first, row("ccc")))
		for name, want := range map[string]string{"000001.seg": "a", "000002.seg": "bb"} {
			got, err := os.ReadFile(filepath.Join(dir, "output", name))
			require.NoError(t, err)
			require.Equal(t, want, string(got))
		}
	})
}
