package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Entry is one instance in a user's registry, a file of its own that only the user can read.
type Entry struct {
	Name     string  `json:"name"`
	URI      string  `json:"uri"`
	Host     string  `json:"host"`
	BootID   string  `json:"boot_id"` // of the host; with PID and Ticks names a process for good
	PIDNS    string  `json:"pid_ns"`  // the pid namespace in which PID counts
	PID      int     `json:"pid"`     // of the supervisor
	Ticks    uint64  `json:"ticks"`   // its start time (field 22 of /proc/PID/stat)
	Start    float64 `json:"start"`   // epoch seconds
	Size     int     `json:"size"`    // brokers at start
	RunDir   string  `json:"rundir"`
	StateDir string  `json:"statedir,omitempty"` // empty for a temporary one
	TCP      string  `json:"tcp,omitempty"`      // tcp://HOST:PORT where clients on other hosts are taken
	Outer    string  `json:"outer,omitempty"`    // the allocation that it was started in: slurm 1234
	// Expiration is when it ends, epoch seconds; 0 = unknown.
	Expiration float64 `json:"expiration,omitempty"`
}

// Registry is the directory of a user's instances: ${FROND_HOME:-~/.frond}/instances.
type Registry struct{ Dir string }

// OpenRegistry finds the registry; its directory is made when the first instance is added.
func OpenRegistry(getenv func(string) string) (Registry, error) {
	if home := getenv("FROND_HOME"); home != "" {
		return Registry{filepath.Join(home, "instances")}, nil
	}
	home := getenv("HOME")
	if home == "" {
		return Registry{}, errors.New("neither FROND_HOME nor HOME is set: no place for the list of instances")
	}
	return Registry{filepath.Join(home, ".frond", "instances")}, nil
}

// Hosts that share a home directory share the registry, and each may have an instance of the same name: the file of the first is NAME.json,
// that of another host's NAME@HOST.json.

// stems are the names of the files, without .json, that hold instances of that name.
func (r Registry) stems(name string) []string {
	list := []string{name}
	more, _ := filepath.Glob(r.path(name + "@*")) // a name holds nothing that is special in a pattern
	for _, path := range more {
		list = append(list, strings.TrimSuffix(filepath.Base(path), ".json"))
	}
	return list
}

// stem is that of the file for an instance of that name on that host, which may not be there yet.
func (r Registry) stem(e Entry) string {
	taken := false
	for _, stem := range r.stems(e.Name) {
		now, err := r.read(stem)
		switch {
		case err == nil && (now.Host == e.Host || e.StateDir != "" && now.StateDir == e.StateDir): // one directory serves one instance at a time
			return stem
		case err == nil && stem == e.Name:
			taken = true
		}
	}
	if taken {
		return e.Name + "@" + e.Host
	}
	return e.Name
}

func (r Registry) path(stem string) string { return filepath.Join(r.Dir, stem+".json") }

// Add writes an entry, in place of an earlier one of the same name on the same host or with the same state directory. cert is the
// certificate of an instance that takes clients over TCP, for the user's clients on hosts that share the registry but not the run
// directory; nil = as it is.
func (r Registry) Add(e Entry, cert []byte) error {
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return fmt.Errorf("register instance: %w", err)
	}
	data, err := json.MarshalIndent(e, "", "  ")
	stem := r.stem(e)
	if err == nil && cert != nil {
		err = writeSecret(r.certFile(stem), cert)
	}
	if err == nil {
		err = writeSecret(r.path(stem), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("register instance: %w", err)
	}
	return nil
}

// CertFile is where the certificate of an instance lies that takes clients over TCP.
func (r Registry) CertFile(e Entry) string { return r.certFile(r.stem(e)) }

func (r Registry) certFile(stem string) string { return filepath.Join(r.Dir, stem+".cert") }

// Remove deletes the entry if it is still e's: a later instance may have taken the name.
func (r Registry) Remove(e Entry) {
	stem := r.stem(e)
	if now, err := r.read(stem); err == nil && now.RunDir == e.RunDir && now.PID == e.PID && now.Start == e.Start {
		os.Remove(r.path(stem))
		os.Remove(r.certFile(stem))
	}
}

// Get reads the entry of that name, of several that of this host. The error is fs.ErrNotExist when there is none.
func (r Registry) Get(name string) (Entry, error) {
	if err := CheckName(name); err != nil {
		return Entry{}, err
	}
	host, _ := os.Hostname()
	first, failed := Entry{}, error(nil)
	for i, stem := range r.stems(name) {
		e, err := r.read(stem)
		switch {
		case err == nil && e.Host == host:
			return e, nil
		case err == nil && first.Name == "":
			first = e
		case i == 0:
			failed = err
		}
	}
	if first.Name != "" {
		return first, nil
	}
	return first, failed
}

// read reads a file.
func (r Registry) read(stem string) (Entry, error) {
	var e Entry
	data, err := os.ReadFile(r.path(stem))
	if err != nil {
		return e, fmt.Errorf("read instance: %w", err)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("read instance %s: %w", r.path(stem), err)
	}
	if name, _, _ := strings.Cut(stem, "@"); name != e.Name {
		return e, fmt.Errorf("read instance %s: it is not that of %s", r.path(stem), name)
	}
	return e, nil
}

// List returns all entries, oldest first. Files that are no entries are left out.
func (r Registry) List() ([]Entry, error) {
	files, err := os.ReadDir(r.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	var list []Entry
	for _, f := range files {
		stem, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			continue
		}
		if e, err := r.read(stem); err == nil {
			list = append(list, e)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Start < list[j].Start })
	return list, nil
}

// Liveness is what can be told of an instance from its entry alone.
type Liveness int

// The answers.
const (
	Unknown Liveness = iota // on another host, or in another pid namespace
	Alive
	Dead
)

// Live tells whether the instance's supervisor lives. Dead is certain: its host has booted since, or its pid is gone.
func (e Entry) Live(here Process) Liveness {
	switch {
	case e.Host != here.Host:
		return Unknown
	case e.BootID != here.BootID:
		return Dead
	case e.PIDNS != here.PIDNS:
		return Unknown
	case e.Ticks == startTicks(e.PID):
		return Alive
	}
	return Dead
}

// Process names a process for good: pids are used again, boots and namespaces tell them apart.
type Process struct {
	Host, BootID, PIDNS string
	PID                 int
	Ticks               uint64
}

// Self is this process.
func Self() Process {
	host, _ := os.Hostname()
	ns, _ := os.Readlink("/proc/self/ns/pid")
	return Process{Host: host, BootID: BootID(), PIDNS: ns, PID: os.Getpid(), Ticks: startTicks(os.Getpid())}
}

// BootID names this boot of this host; empty where the system does not tell.
func BootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// startTicks is field 22 of /proc/PID/stat (proc(5)): the start time in clock ticks since boot; 0 = there is no such process.
func startTicks(pid int) uint64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	text := string(data)
	rest := text[strings.LastIndex(text, ") ")+1:] // the command in parentheses may hold anything
	fields := strings.Fields(rest)
	const field = 22 - 3 // rest starts with field 3
	if len(fields) <= field || fields[0] == "Z" {
		return 0
	}
	ticks, _ := strconv.ParseUint(fields[field], 10, 64)
	return ticks
}
