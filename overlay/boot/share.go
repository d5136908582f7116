package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// shareLimit is how long a run directory may lack its boot file: another broker of this host is about to write it.
const shareLimit = 5 * time.Second

// ShareRunDir gives a broker that was started on this host from elsewhere the instance's run directory here: the first one makes it,
// others join. It sets info.RunDir. Where another instance has the name here, the directory has the instance's id in its name.
func ShareRunDir(getenv func(string) string, info *Info, rank int, cert string) (*RunDir, error) {
	var err error
	for _, name := range []string{info.Name, info.Name + "-" + info.ID[:min(8, len(info.ID))]} {
		path := filepath.Join(Base(getenv, name, max(rank+1, info.Size)), name)
		var d *RunDir
		if d, err = shareDir(path, info, cert); err == nil {
			info.RunDir = path
			if err = os.Mkdir(info.BrokerDir(rank), 0o700); err == nil || errors.Is(err, fs.ErrExist) {
				return d, nil
			}
			d.Leave()
			return nil, fmt.Errorf("make run directory: %w", err)
		}
		if !errors.Is(err, ErrRunning) {
			break
		}
	}
	return nil, err
}

// shareDir makes or joins one directory. Error ErrRunning: it is another instance's.
func shareDir(path string, info *Info, cert string) (*RunDir, error) {
	if err := ownDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	for end := time.Now().Add(shareLimit); ; time.Sleep(5 * time.Millisecond) {
		d, err := makeShared(path, info, cert)
		if err == nil || !errors.Is(err, fs.ErrExist) && !errors.Is(err, errSwept) {
			return d, err
		}
		if d, err = OpenRunDir(path); err == nil {
			there, lerr := Load(path)
			switch {
			case lerr == nil && there.ID == info.ID:
				return d, nil
			case lerr == nil:
				err = fmt.Errorf("%s: %w", info.Name, ErrRunning)
			default:
				err = lerr
			}
			d.Close()
			if !removeStale(path) && lerr == nil {
				return nil, err
			}
		} else if errors.Is(err, fs.ErrNotExist) {
			removeStale(path) // its maker may have died before it could lock it
		} else if errors.Is(err, unix.EWOULDBLOCK) {
			continue // its last process is just removing it
		}
		if time.Now().After(end) {
			return nil, err
		}
	}
}

func makeShared(path string, info *Info, cert string) (*RunDir, error) {
	d, err := makeLocked(path)
	if err != nil {
		return nil, err
	}
	here := *info
	here.RunDir = path
	err = errors.Join(writeSecret(here.CertFile(), []byte(cert)), here.Save())
	if err != nil {
		d.Remove()
		return nil, err
	}
	return d, nil
}

// Leave lets go of a shared run directory; the last one removes it.
func (d *RunDir) Leave() {
	if unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		removeTree(d.Path)
	}
	d.Close()
}

// StepDir finds the run directory of the instance that was started in that step of an outer scheduler, on this host; "" if there is none.
func StepDir(getenv func(string) string, step string) string {
	dirs := map[string]bool{Base(getenv, "x", 1): true, filepath.Join("/tmp", "frond-"+strconv.Itoa(os.Getuid())): true}
	for base := range dirs {
		if checkOwned(base) != nil {
			continue
		}
		entries, _ := os.ReadDir(base)
		for _, e := range entries {
			path := filepath.Join(base, e.Name())
			if info, err := Load(path); err == nil && info.Step == step {
				return path
			}
		}
	}
	return ""
}

// AwaitEnd returns when no process of the instance in rundir is alive on this host any more.
func AwaitEnd(rundir string) {
	f, err := os.OpenFile(filepath.Join(rundir, lockFile), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer f.Close()
	for unix.Flock(int(f.Fd()), unix.LOCK_EX) == unix.EINTR {
		continue
	}
}
