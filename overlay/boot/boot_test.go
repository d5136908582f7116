package boot

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func environment(kv ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == name {
				return kv[i+1]
			}
		}
		return ""
	}
}

func own(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	return dir
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"fern-1": true, "a": true, "A.b_c": true, strings.Repeat("x", MaxName): true,
		"": false, ".hidden": false, "-n": false, "a/b": false, "a b": false, "ä": false, strings.Repeat("x", MaxName+1): false,
	} {
		require.Equal(t, ok, CheckName(name) == nil, "%q", name)
	}
}

func TestBaseFollowsTheEnvironmentUnlessSocketsWouldNotFit(t *testing.T) {
	long := "/" + strings.Repeat("d", 100)
	require.True(t, strings.HasPrefix(Base(environment("FROND_RUNDIR", "/r", "TMPDIR", "/t"), "x", 1), "/r/frond-"))
	require.True(t, strings.HasPrefix(Base(environment("TMPDIR", "/t"), "x", 1), "/t/frond-"))
	require.True(t, strings.HasPrefix(Base(environment(), "x", 1), "/tmp/frond-"))
	require.True(t, strings.HasPrefix(Base(environment("FROND_RUNDIR", long), "x", 1), "/tmp/frond-"))
}

func TestARunDirectoryHasOneOwner(t *testing.T) {
	base := filepath.Join(own(t), "base")
	dir, err := CreateRunDir(base, "one", 2)
	require.NoError(t, err)
	require.DirExists(t, filepath.Join(dir.Path, "1"))
	_, err = CreateRunDir(base, "one", 2)
	require.ErrorIs(t, err, ErrRunning)
	require.Empty(t, Sweep(base), "what is held stays")
	require.True(t, Held(dir.Path))

	broker, err := OpenRunDir(dir.Path)
	require.NoError(t, err)
	dir.Close()
	require.True(t, Held(dir.Path), "a broker holds it as well")
	broker.Close()
	require.False(t, Held(dir.Path))
	require.Equal(t, []string{dir.Path}, Sweep(base))
	require.NoDirExists(t, dir.Path)
}

func TestADeadInstanceGivesItsNameFree(t *testing.T) {
	base := own(t)
	dir, err := CreateRunDir(base, "one", 1)
	require.NoError(t, err)
	dir.Close()
	dir, err = CreateRunDir(base, "one", 1)
	require.NoError(t, err)
	require.NoError(t, dir.Remove())
	require.NoDirExists(t, dir.Path)
}

func TestADirectoryWithoutLockIsStaleUnlessOneIsBeingMade(t *testing.T) {
	base := own(t)
	path := filepath.Join(base, "x")
	require.NoError(t, os.Mkdir(path, 0o700))
	making, err := lockBase(base, unix.LOCK_SH) // as who has made the directory, and not yet its lock file
	require.NoError(t, err)
	require.Empty(t, Sweep(base))
	making.Close()
	require.Equal(t, []string{path}, Sweep(base))
}

func TestADirectoryThatOthersCanWriteToIsRefused(t *testing.T) {
	base := own(t)
	require.NoError(t, os.Chmod(base, 0o755))
	_, err := CreateRunDir(base, "x", 1)
	require.ErrorContains(t, err, "others have access")
	link := filepath.Join(own(t), "link")
	require.NoError(t, os.Symlink(base, link))
	_, err = CreateRunDir(link, "x", 1)
	require.ErrorContains(t, err, "not a directory")
}

func TestTheBootFileComesBackAndIsSecret(t *testing.T) {
	info := &Info{Name: "x", RunDir: own(t), Size: 7, Fanout: 2, Lease: 30, Transport: Unix}
	require.NoError(t, info.Save())
	got, err := Load(info.RunDir)
	require.NoError(t, err)
	require.Equal(t, info, got)
	fi, err := os.Stat(filepath.Join(info.RunDir, infoFile))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), fi.Mode())
}

func TestParentsFormAKaryTree(t *testing.T) {
	info := &Info{RunDir: "/r", Size: 7, Fanout: 2}
	var parents []int
	for rank := range info.Size {
		parents = append(parents, info.Parent(rank))
	}
	require.Equal(t, []int{-1, 0, 0, 1, 1, 2, 2}, parents)
	require.Equal(t, []string{"unix:///r/0/tbon"}, info.Fallback(3))
	require.Empty(t, info.Fallback(0))
	info.Size, info.Fanout, info.Transport = 15, 1, ZeroMQ
	require.Equal(t, []string{"ipc:///r/0/tbon", "ipc:///r/2/tbon", "ipc:///r/1/tbon"}, info.Fallback(4))
}

func TestRegistry(t *testing.T) {
	reg, err := OpenRegistry(environment("FROND_HOME", own(t)))
	require.NoError(t, err)
	list, err := reg.List()
	require.NoError(t, err)
	require.Empty(t, list)
	me := Self()
	e := Entry{Name: "b", Host: me.Host, BootID: me.BootID, PIDNS: me.PIDNS, PID: me.PID, Ticks: me.Ticks, Start: 2}
	require.NoError(t, reg.Add(e, nil))
	require.NoError(t, reg.Add(Entry{Name: "a", Start: 1}, nil))
	list, err = reg.List()
	require.NoError(t, err)
	require.Equal(t, []Entry{{Name: "a", Start: 1}, e}, list)
	fi, err := os.Stat(reg.path("b"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), fi.Mode())
	later := e
	later.Start = 3
	reg.Remove(later)
	_, err = reg.Get("b")
	require.NoError(t, err, "the name belongs to another instance")
	reg.Remove(e)
	_, err = reg.Get("b")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = OpenRegistry(environment())
	require.ErrorContains(t, err, "FROND_HOME")
}

// Hosts with one home directory: each finds its own instance by a name that others use, too.
func TestARegistryThatHostsShare(t *testing.T) {
	reg, err := OpenRegistry(environment("FROND_HOME", own(t)))
	require.NoError(t, err)
	entry := func(host string, start float64) Entry {
		return Entry{Name: "work", Host: host, RunDir: "/r/" + host, Start: start, PID: 7}
	}
	there, here, third := entry("elsewhere", 1), entry(Self().Host, 2), entry("third", 3)
	for _, e := range []Entry{there, here, third} {
		require.NoError(t, reg.Add(e, []byte(e.Host)))
	}
	all := func(want ...Entry) {
		t.Helper()
		list, err := reg.List()
		require.NoError(t, err)
		require.Equal(t, want, list)
	}
	is := func(want Entry) {
		t.Helper()
		e, err := reg.Get("work")
		require.NoError(t, err)
		require.Equal(t, want, e)
		cert, err := os.ReadFile(reg.CertFile(e))
		require.NoError(t, err)
		require.Equal(t, e.Host, string(cert))
	}
	all(there, here, third)
	is(here)
	here.Expiration = 100
	require.NoError(t, reg.Add(here, nil), "its own again")
	all(there, here, third)
	is(here)
	reg.Remove(here)
	all(there, third)
	is(there)
	reg.Remove(there)
	all(third)
	is(third)
	require.NoError(t, os.WriteFile(reg.path("empty"), []byte("{}"), 0o600))
	all(third)
	reg.Remove(third)
	files, err := os.ReadDir(reg.Dir)
	require.NoError(t, err)
	require.Len(t, files, 1, "no certificate is left")

	there.StateDir = "/shared/work"
	moved := here
	moved.StateDir = there.StateDir
	require.NoError(t, reg.Add(there, nil))
	require.NoError(t, reg.Add(moved, nil), "the same instance, started again on another host")
	all(moved)
}

func TestLiveness(t *testing.T) {
	me := Self()
	mine := Entry{Host: me.Host, BootID: me.BootID, PIDNS: me.PIDNS, PID: me.PID, Ticks: me.Ticks}
	for name, row := range map[string]struct {
		change func(e *Entry)
		want   Liveness
	}{
		"this process":                 {func(e *Entry) {}, Alive},
		"its pid belongs to another":   {func(e *Entry) { e.Ticks++ }, Dead},
		"no such pid":                  {func(e *Entry) { e.PID = 1 << 30 }, Dead},
		"this host has booted since":   {func(e *Entry) { e.BootID = "before" }, Dead},
		"another host":                 {func(e *Entry) { e.Host = "elsewhere"; e.BootID = "x" }, Unknown},
		"a pid of another namespace":   {func(e *Entry) { e.PIDNS = "pid:[1]"; e.Ticks = 1 }, Unknown},
		"another host, and the pid is": {func(e *Entry) { e.Host = "elsewhere" }, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			e := mine
			row.change(&e)
			require.Equal(t, row.want, e.Live(me))
		})
	}
}
