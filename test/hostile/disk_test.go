package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of some KiB.
func smallDisk(t *testing.T, dir string, kib int) {
	t.Helper()
	needsRoot(t, "to mount a small file system")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	if err := unix.Mount("frond-hostile", dir, "tmpfs", unix.MS_NOSUID, fmt.Sprintf("size=%dk", kib)); err != nil {
		skip(t, "a small file system cannot be mounted here: %v", err)
	}
}

// fill takes all space of a disk and returns how to free it.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
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

func TestAFullDiskUnderTheStateDirectory(t *testing.T) {
	t.Parallel()
	in := place(t)
	disk := filepath.Join(in.dir, "disk")
	smallDisk(t, disk, 8192)
	unmount := func() error { return unix.Unmount(disk, 0) }
	defer func() {
		in.try("shutdown", "x")
		require.True(t, harness.Until(harness.Patience, func() bool { return unmount() == nil }))
	}()
	in.start(t, "--statedir", filepath.Join(disk, "state"))
	in.serves(t)
	writer := in.submit(t, in.frond(t, "submit", "--dry-run", "-n1", "sh", "-c", "sleep 1; i=0; while [ $i -lt 200 ]; do echo line $i of output; i=$((i+1)); done"))

	free := fill(t, disk)
	out, code := in.submitUntilRefused(t)
	require.Equal(t, 1, code)
	require.Contains(t, out, "state directory")
	require.Regexp(t, "full|no space left", out)
	require.NotContains(t, out, "\n", "one line")

	// Refused, but not dead: it answers, and says what there is.
	require.Equal(t, in.first, in.members(t))
	require.Contains(t, in.frond(t, "jobs", "-n", "-o", "{id}"), in.long.String())
	require.Contains(t, in.frond(t, "dmesg"), "disk is full")
	in.frond(t, "ping", "-c", "1", "--rank", "3")
	require.True(t, harness.Until(patience, func() bool { // the writer ends, on a disk that takes no results
		return strings.Contains(in.frond(t, "explain", writer.String()), "its end cannot be written down: ")
	}))

	free()
	require.True(t, harness.Until(patience, func() bool {
		out, code = in.try("run", "-N4", "-n4", "true")
		return code == 0
	}), "after space is free again: %s", out)
	in.serves(t)
	ends := waitFor(t.Context(), t, in.dial(t, 0), []jobspec.ID{writer})
	require.Equal(t, 1, ends[0].Completed, "%+v", ends[0])
	require.Contains(t, in.frond(t, "logs", writer.String()), "line 199 of output")
	in.settled(t)
	in.lostNothing(t)

	in.frond(t, "cancel", in.long.String())
	in.acked = slices.DeleteFunc(in.acked, func(id jobspec.ID) bool { return id == in.long })

	// Another leader finds all of it; and the end of the instance does not wait for the disk.
	harness.Kill(harness.Find(in.dir, "frond broker --rank 0 "))
	require.True(t, harness.Until(patience, func() bool { return harness.Find(in.dir, "frond broker --rank 0 ") > 0 }))
	in.frond(t, "run", "true")
	in.lostNothing(t)
	in.frond(t, "submit", "sleep", "1000")
	free = fill(t, disk)
	in.frond(t, "shutdown", "x")
	free()
	in.frond(t, "start", "--detach", "--name", "x", "--recover", "--statedir", filepath.Join(disk, "state"))
	in.lostNothing(t)
}

// submitUntilRefused submits jobs of some size until one is refused, and returns what was said.
func (in *instance) submitUntilRefused(t *testing.T) (string, int) {
	t.Helper()
	for i := range 200 {
		out, code := in.try("submit", fmt.Sprintf("--env=BIG%d=%s", i, strings.Repeat("x", 20_000)), "true")
		if code != 0 {
			return out, code
		}
		id, err := jobspec.ParseID(out)
		require.NoError(t, err, out)
		in.acked = append(in.acked, id)
	}
	require.FailNow(t, "the disk is full and submissions are still accepted")
	return "", 0
}

// settled waits until all jobs but the one that runs all the time have ended.
func (in *instance) settled(t *testing.T) {
	t.Helper()
	require.True(t, harness.Until(patience, func() bool {
		for _, j := range in.list(t, in.acked) {
			if j.ID != in.long && j.State != int(jobspec.StateInactive) {
				return false
			}
		}
		return true
	}))
}

func TestAStateDirectoryThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	in := start(t, "--statedir", "s")
	for _, row := range []struct {
		name, dir, says string
		make            func(dir string) error
	}{
		{"one in use", "s", "in use", nil},
		{"one in use under another name", "s2", "in use", func(dir string) error { return os.Symlink("s", dir) }},
		{"a file", "file", "not a directory", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }},
		{"one below a file", "file/s", "file: not a directory", nil},
		{"a store of noise", "noise", "", func(dir string) error {
			return writeStore(dir, []byte(strings.Repeat("this is no database ", 1000)))
		}},
		{"one on a file system that cannot be written", "/proc/frond", "/proc/frond", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := row.dir
			if !filepath.IsAbs(dir) {
				dir = filepath.Join(in.dir, dir)
			}
			if row.make != nil {
				require.NoError(t, row.make(dir))
			}
			out, code := in.try("start", "--statedir", row.dir, "true")
			require.Equal(t, 1, code, out)
			require.Contains(t, out, row.says)
			require.Contains(t, out, strings.TrimSuffix(row.dir, "/s"), "the message names the place")
			require.NotContains(t, out, "\n", "one line")
			in.serves(t)
		})
	}
	text, err := os.ReadFile(filepath.Join(in.dir, "noise", "store.db"))
	require.NoError(t, err)
	require.Contains(t, string(text), "this is no database", "what is not ours is left alone")
	in.lostNothing(t)
}

func writeStore(dir string, text []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "store.db"), text, 0o600)
}

func TestPathsThatAreTooLong(t *testing.T) {
	t.Parallel()
	in := place(t)
	long := filepath.Join(in.dir, strings.Repeat("a", 100), strings.Repeat("b", 100))
	require.NoError(t, os.MkdirAll(long, 0o700))
	for _, name := range []string{"FROND_RUNDIR", "TMPDIR"} {
		t.Run(name, func(t *testing.T) {
			cmd := in.command(t.Context(), "start", "-n", "2", "--", "sh", "-c", "frond getattr rundir && frond run -N2 -n2 true")
			cmd.Env = append(cmd.Env, "FROND_RUNDIR=", name+"="+long)
			out, code := output(cmd)
			require.Zero(t, code, out)
			require.True(t, strings.HasPrefix(out, "/tmp/frond-"), "%s", out)
			require.NoDirExists(t, out)
		})
	}
	in.refused(t, "must have 1 to 48 bytes", "start", "--name", strings.Repeat("n", 300), "true")
	in.refused(t, "", "start", "--statedir", strings.Repeat("s", 300), "true")
	in.refused(t, "--statedir", "start", "--statedir", "", "--recover", "true")
	cmd := in.command(t.Context(), "start", "true")
	cmd.Env = append(cmd.Env, "FROND_RUNDIR="+filepath.Join(in.dir, "file"))
	require.NoError(t, os.WriteFile(filepath.Join(in.dir, "file"), nil, 0o600))
	out, code := output(cmd)
	require.Equal(t, 1, code)
	require.Contains(t, out, "make run directory")
}

// TestManySubmissionsThatAreRefusedLeaveNothing: an array that cannot be is not half there.
func TestManySubmissionsThatAreRefusedLeaveNothing(t *testing.T) {
	t.Parallel()
	in := start(t)
	c := in.dial(t, 0)
	for range 200 {
		_, err := client.Call(t.Context(), c, api.Submit, api.SubmitReq{Items: []api.SubmitItem{{Spec: in.work, N: 1000, Urgency: 0}, {Spec: in.work, N: -5}}})
		require.Error(t, err)
	}
	require.Len(t, strings.Fields(in.frond(t, "jobs", "-a", "-n", "-o", "{id}")), 1)
	in.serves(t)
}
