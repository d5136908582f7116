// Package boot is how the brokers of an instance find each other: the run directory of a host with its sockets and secrets, the boot file
// that a supervisor leaves for its brokers, the ticket for those on other hosts, and the registry in which a user's instances are found by name.
// It is an adapter: files and locks, no protocol.
package boot

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Info is what a supervisor tells all its brokers. It lies in the run directory, readable by the owner only.
type Info struct {
	Name      string   `json:"name"`
	ID        string   `json:"id"` // of this run of the instance: names are used again
	RunDir    string   `json:"rundir"`
	StateDir  string   `json:"statedir"`
	TempState bool     `json:"temp_state"`         // the state directory lies in the run directory and goes with it
	Recover   bool     `json:"recover"`            // the state directory must hold a state
	Size      int      `json:"size"`               // brokers at start
	Transport string   `json:"transport"`          // between brokers: Unix or ZeroMQ
	Fanout    int      `json:"fanout"`             // K of the tree
	Lease     float64  `json:"lease"`              // seconds; 0 = the default
	Policy    string   `json:"policy"`             // of the scheduler
	Prolog    string   `json:"prolog,omitempty"`   // for sh: runs on each node of a job before its tasks
	Epilog    string   `json:"epilog,omitempty"`   // after them
	Drain     bool     `json:"drain,omitempty"`    // drain nodes on which a prolog fails
	Counters  []string `json:"counters,omitempty"` // named counters, NAME=N each
	Queues    []string `json:"queues,omitempty"`   // named queues, as frond start --queue has them
	// What has ended is purged after InactiveAge seconds, and the oldest beyond InactiveNum jobs; 0 and nil = never.
	InactiveAge float64 `json:"inactive_age,omitempty"`
	InactiveNum *int    `json:"inactive_num,omitempty"`

	Start     float64 `json:"start"` // epoch seconds
	Level     int     `json:"level"` // instance level; 0 has no enclosing instance
	ParentURI string  `json:"parent_uri,omitempty"`
	JobID     string  `json:"jobid,omitempty"`     // in the enclosing instance
	JobPath   string  `json:"job_path,omitempty"`  // FROND_JOB_ID_PATH there
	Spread    bool    `json:"spread,omitempty"`    // brokers are on several hosts: they talk over tcp
	Interface string  `json:"interface,omitempty"` // over which: its name, or an address of it; empty = the one that reaches the leader
	Ports     string  `json:"ports,omitempty"`     // FROM-TO; empty = any
	Outer     string  `json:"outer,omitempty"`     // the id of the allocation, for FROND_OUTER_JOBID
	Step      string  `json:"step,omitempty"`      // the step in which it was started once per node
	KeepEnv   bool    `json:"keep_env,omitempty"`  // jobs keep the variables of the allocation's scheduler
	// Expiration is when the instance ends, epoch seconds; 0 = unknown.
	Expiration float64 `json:"expiration,omitempty"`
	// Of branches (broker/api/branch.go).
	Split    []int  `json:"split,omitempty"`    // made at start, by level
	Branch   string `json:"branch,omitempty"`   // this instance is one: its name within all
	TaskURI  string `json:"task_uri,omitempty"` // FROND_URI of its jobs; empty = its own
	Unsynced bool   `json:"unsynced,omitempty"` // its state need not outlive the host
}

// The transports between brokers.
const (
	Unix   = "unix"
	ZeroMQ = "zmq"
)

const infoFile = "boot.json"

// Save writes the boot file.
func (i *Info) Save() error {
	data, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("encode boot file: %w", err)
	}
	return writeSecret(filepath.Join(i.RunDir, infoFile), data)
}

// Load reads the boot file of the instance in rundir.
func Load(rundir string) (*Info, error) {
	data, err := os.ReadFile(filepath.Join(rundir, infoFile))
	if err != nil {
		return nil, fmt.Errorf("read boot file: %w", err)
	}
	info := new(Info)
	if err := json.Unmarshal(data, info); err != nil {
		return nil, fmt.Errorf("boot file %s: %w", filepath.Join(rundir, infoFile), err)
	}
	return info, nil
}

// BrokerDir is where a broker keeps its socket, log and spool files.
func (i *Info) BrokerDir(rank int) string { return filepath.Join(i.RunDir, strconv.Itoa(rank)) }

// Socket is the path of a broker's local socket.
func (i *Info) Socket(rank int) string { return filepath.Join(i.BrokerDir(rank), "local") }

// URI is what FROND_URI holds for clients of a broker.
func (i *Info) URI(rank int) string { return "local://" + i.Socket(rank) }

// LogFile is where a broker writes its log.
func (i *Info) LogFile(rank int) string { return filepath.Join(i.BrokerDir(rank), "log") }

// CertFile holds the instance's certificate.
func (i *Info) CertFile() string { return filepath.Join(i.RunDir, "cert") }

// LeaderFile holds the address at which the leader takes other brokers, where they are on several hosts.
func (i *Info) LeaderFile() string { return filepath.Join(i.RunDir, "leader") }

// SaveLeader leaves the leader's address.
func (i *Info) SaveLeader(addr string) error { return writeSecret(i.LeaderFile(), []byte(addr+"\n")) }

// LoadLeader reads it.
func (i *Info) LoadLeader() (string, error) {
	data, err := os.ReadFile(i.LeaderFile())
	if err != nil {
		return "", fmt.Errorf("read the leader's address: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// TreeAddr is where a broker's children dial it, where all are on one host. Its scheme tells the transport.
func (i *Info) TreeAddr(rank int) string {
	scheme := "unix://"
	if i.Transport == ZeroMQ {
		scheme = "ipc://"
	}
	return scheme + filepath.Join(i.BrokerDir(rank), "tbon")
}

// Parent is a broker's parent in the tree as it starts (kary: (rank-1)/K), -1 for the leader.
func (i *Info) Parent(rank int) int {
	if rank == 0 {
		return -1
	}
	return (rank - 1) / i.Fanout
}

// Fallback lists the brokers to try when the parent does not answer: the leader, then the ancestors.
func (i *Info) Fallback(rank int) []string {
	if rank == 0 {
		return nil
	}
	addrs := []string{i.TreeAddr(0)}
	for p := i.Parent(rank); p > 0; p = i.Parent(p) {
		if p != i.Parent(rank) {
			addrs = append(addrs, i.TreeAddr(p))
		}
	}
	return addrs
}

// SaveResources leaves what a broker offers (msgpack of []resource.Node) in its directory.
func (i *Info) SaveResources(rank int, data []byte) error {
	return writeSecret(filepath.Join(i.BrokerDir(rank), "resources"), data)
}

// LoadResources reads it.
func (i *Info) LoadResources(rank int) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(i.BrokerDir(rank), "resources"))
	if err != nil {
		return nil, fmt.Errorf("read resources of broker %d: %w", rank, err)
	}
	return data, nil
}

// writeSecret replaces path by data in one step, readable by the owner only.
func writeSecret(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // 0600 by its contract
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
