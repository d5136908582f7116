package boot

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// MaxSocketPath is the longest path of a unix socket in bytes (sun_path of unix(7), without its NUL).
const MaxSocketPath = 107

// MaxName is the longest name of an instance in bytes.
const MaxName = 48

// ErrRunning says that an instance of the wanted name is there.
var ErrRunning = errors.New("an instance of this name is running")

// RunDir is an instance's run directory, held by a shared lock: every process of the instance holds one, so that who gets the
// lock alone knows that all are dead.
type RunDir struct {
	Path string
	lock *os.File
}

// CheckName tells why name cannot be an instance's: it becomes a file name and a part of socket paths.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("instance name %q: must have 1 to %d bytes", name, MaxName)
	}
	for i, r := range name {
		plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !plain && (i == 0 || r != '-' && r != '_' && r != '.') {
			return fmt.Errorf("instance name %q: letters, digits, and after the first of them - _ . are allowed", name)
		}
	}
	return nil
}

// Base is the directory of a user's run directories: ${FROND_RUNDIR:-${TMPDIR:-/tmp}}/frond-<uid>; that of /tmp where a socket of
// the instance (its highest rank's) would have a path that is too long.
func Base(getenv func(string) string, name string, size int) string {
	list := Bases(getenv)
	if len(filepath.Join(list[0], name, strconv.Itoa(max(size, 1)), "local")) <= MaxSocketPath {
		return list[0]
	}
	return list[len(list)-1]
}

// Bases are the directories that Base may return, that of /tmp last.
func Bases(getenv func(string) string) (list []string) {
	own := "frond-" + strconv.Itoa(os.Getuid())
	top := cmp.Or(getenv("FROND_RUNDIR"), getenv("TMPDIR"))
	if abs, err := filepath.Abs(top); top != "" && err == nil {
		list = append(list, filepath.Join(abs, own))
	}
	return append(list, filepath.Join("/tmp", own))
}

// CreateRunDir makes the run directory of a new instance with a directory for each of its brokers, and locks it. What a dead
// instance of that name left is removed first. The error is ErrRunning when it is not dead.
func CreateRunDir(base, name string, size int) (*RunDir, error) {
	if err := ownDir(base); err != nil {
		return nil, err
	}
	for tries := 0; ; tries++ {
		dir, err := createRunDir(filepath.Join(base, name), name, size)
		if !errors.Is(err, errSwept) || tries == 100 {
			return dir, err
		}
	}
}

// errSwept says that another process took the directory for that of a dead instance: it saw the lock file before this one held it.
var errSwept = errors.New("the run directory was cleared by another process while it was made")

func createRunDir(path, name string, size int) (*RunDir, error) {
	dir, err := makeLocked(path)
	if errors.Is(err, fs.ErrExist) {
		if !removeStale(path) {
			return nil, fmt.Errorf("%s: %w", name, ErrRunning)
		}
		if dir, err = makeLocked(path); errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%s: %w", path, errSwept)
		}
	}
	if err != nil {
		return nil, err
	}
	for rank := range size {
		if err := os.Mkdir(filepath.Join(path, strconv.Itoa(rank)), 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("make run directory: %w", err), dir.Remove())
		}
	}
	return dir, nil
}

// makeLocked makes a run directory with its lock file, and holds that. Who dies in between leaves a directory without one; that it is left,
// and not about to get one, is seen by the lock of the directory around it, which the maker shares meanwhile.
func makeLocked(path string) (*RunDir, error) {
	making, err := lockBase(filepath.Dir(path), unix.LOCK_SH)
	if err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	defer making.Close()
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	lock, err := takeLock(path, os.O_RDWR|os.O_CREATE, unix.LOCK_SH)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, errSwept)
	}
	if err != nil {
		return nil, fmt.Errorf("lock run directory %s: %w", path, err)
	}
	dir := &RunDir{Path: path, lock: lock}
	if !dir.holds() {
		dir.Close()
		return nil, fmt.Errorf("%s: %w", path, errSwept)
	}
	return dir, nil
}

// OpenRunDir joins the lock of an instance's run directory, for one of its brokers.
func OpenRunDir(path string) (*RunDir, error) {
	if err := checkOwned(path); err != nil {
		return nil, err
	}
	lock, err := takeLock(path, os.O_RDWR, unix.LOCK_SH)
	if err != nil {
		return nil, fmt.Errorf("lock run directory %s: %w", path, err)
	}
	return &RunDir{Path: path, lock: lock}, nil
}

// holds tells whether the lock that is held is still that of the directory.
func (d *RunDir) holds() bool {
	mine, err := d.lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(filepath.Join(d.Path, lockFile))
	return err == nil && os.SameFile(mine, there)
}

// Remove deletes the run directory with all that is in it, and lets go of the lock.
func (d *RunDir) Remove() error {
	err := removeTree(d.Path)
	d.Close()
	return err
}

// removeTree deletes a run directory, its lock file last: who is killed meanwhile leaves what others see to be stale. From then on the
// directory may be another's, made anew under the same name: it is removed only if it is empty.
func removeTree(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != lockFile {
			err = errors.Join(err, os.RemoveAll(filepath.Join(path, e.Name())))
		}
	}
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(path, lockFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

const lockFile = "lock"

// Close lets go of the lock.
func (d *RunDir) Close() { d.lock.Close() }

// Sweep removes the run directories below base that no process holds any more, and returns their paths.
func Sweep(base string) []string {
	if checkOwned(base) != nil {
		return nil
	}
	entries, err := os.ReadDir(base)
	if err != nil {
		return nil
	}
	var removed []string
	for _, e := range entries {
		path := filepath.Join(base, e.Name())
		if e.IsDir() && removeStale(path) {
			removed = append(removed, path)
		}
	}
	return removed
}

// Clear removes one run directory if no process holds it any more, and tells whether it did.
func Clear(rundir string) bool { return checkOwned(rundir) == nil && removeStale(rundir) }

// removeStale removes path if it is the run directory of a dead instance, and tells whether it did.
func removeStale(path string) bool {
	lock, err := takeLock(path, os.O_RDWR, unix.LOCK_EX)
	if errors.Is(err, fs.ErrNotExist) { // no lock file yet, or none ever
		making, err := lockBase(filepath.Dir(path), unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			return false
		}
		defer making.Close()
		if lock, err = takeLock(path, os.O_RDWR, unix.LOCK_EX); errors.Is(err, fs.ErrNotExist) {
			fi, err := os.Lstat(path)
			return err == nil && fi.IsDir() && removeTree(path) == nil
		}
	}
	if err != nil {
		return false
	}
	defer lock.Close()
	return (&RunDir{path, lock}).holds() && removeTree(path) == nil
}

// Held tells whether a process of the instance in rundir is alive on this host.
func Held(rundir string) bool {
	lock, err := takeLock(rundir, os.O_RDWR, unix.LOCK_EX)
	if err == nil {
		lock.Close()
	}
	return errors.Is(err, unix.EWOULDBLOCK)
}

// takeLock locks the lock file of a run directory without waiting. Error EWOULDBLOCK: others hold it.
func takeLock(dir string, flags, how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), flags|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lockBase locks the directory around run directories.
func lockBase(base string, how int) (*os.File, error) {
	f, err := os.OpenFile(base, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(f.Fd()), how)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", base, err)
	}
	return f, nil
}

// ownDir makes dir for its owner alone, or sees to it that it is such a directory.
func ownDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make run directory: %w", err)
	}
	return checkOwned(dir)
}

// checkOwned refuses a directory that others could have made or can write to: /tmp is open to all.
func checkOwned(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("run directory %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("run directory %s: not a directory; set FROND_RUNDIR to another place", dir)
	case int(st.Uid) != os.Getuid():
		return fmt.Errorf("run directory %s: belongs to user %d; set FROND_RUNDIR to another place", dir, st.Uid)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("run directory %s: others have access to it (mode %o); run 'chmod 700 %s'", dir, st.Mode&0o777, dir)
	}
	return nil
}
