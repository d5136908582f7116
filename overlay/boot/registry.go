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

func (r Registry) path(name string) string { return filepath.Join(r.Dir, name+".json") }

// Add writes an entry, in place of one of the same name.
func (r Registry) Add(e Entry) error {
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return fmt.Errorf("register instance: %w", err)
	}
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("register instance: %w", err)
	}
	if err := writeSecret(r.path(e.Name), append(data, '\n')); err != nil {
		return fmt.Errorf("register instance: %w", err)
	}
	return nil
}

// CertFile is where the certificate of an instance lies that takes clients over TCP.
func (r Registry) CertFile(name string) string { return filepath.Join(r.Dir, name+".cert") }

// AddCert leaves the certificate of an instance for the user's clients on hosts that share the registry but not the run directory.
func (r Registry) AddCert(e Entry, data []byte) error {
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return fmt.Errorf("register certificate: %w", err)
	}
	return writeSecret(r.CertFile(e.Name), data)
}

// Remove deletes the entry of that name if it is still e's: a later instance may have taken the name.
func (r Registry) Remove(e Entry) {
	if now, err := r.Get(e.Name); err == nil && now.RunDir == e.RunDir && now.PID == e.PID && now.Start == e.Start {
		os.Remove(r.path(e.Name))
		os.Remove(r.CertFile(e.Name))
	}
}

// Get reads one entry. The error is fs.ErrNotExist when there is none.
func (r Registry) Get(name string) (Entry, error) {
	var e Entry
	if err := CheckName(name); err != nil {
		return e, err
	}
	data, err := os.ReadFile(r.path(name))
	if err != nil {
		return e, fmt.Errorf("read instance: %w", err)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("read instance %s: %w", r.path(name), err)
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
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			continue
		}
		if e, err := r.Get(name); err == nil {
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
