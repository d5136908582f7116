package proc

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/resource"
	"github.com/vmihailenco/msgpack/v5"
)

// A job that is an instance (jobspec.Instance) has one task here, a broker: this program itself, which finds in a file what it has.

// ChildEnv is the variable that names the file with a Child.
const ChildEnv = "FROND_BOOT_CHILD"

// Child is what the broker of a child instance is told.
type Child struct {
	Job     string // in F58
	Attempt uint32
	Task    int             // of the job: 0 is the leader
	Size    int             // brokers that the child has
	Nodes   []resource.Node // what it may use: the job's part, numbered as in the job
	History bool            // what it runs stays to be seen
	RunDir  string          // of the instance around it, on this host
}

// bootFile is the name of that file in the job's temporary directory.
const bootFile = "boot"

// writeChild leaves the file for a job's broker here.
func (d *Driver) writeChild(j *job) error {
	c := Child{Job: j.Ref.Job.String(), Attempt: j.Ref.Attempt, Task: j.tasks[0].rank, Size: j.NTasks, History: j.Spec.Job.Instance.History,
		RunDir: filepath.Dir(d.cfg.RunDir)}
	for i := range j.Parts {
		node, err := d.childNode(&j.Parts[i])
		if err != nil {
			return err
		}
		node.Broker = int32(c.Task)
		c.Nodes = append(c.Nodes, node)
	}
	data, err := msgpack.Marshal(&c)
	if err == nil {
		err = os.WriteFile(filepath.Join(j.tmp, bootFile), data, 0o600)
	}
	return err
}

// childNode is the job's part of a node as a node of the child. Memory that the job did not ask for is shared out by cores.
func (d *Driver) childNode(p *exec.Part) (resource.Node, error) {
	from := d.nodes[p.Node]
	if from == nil {
		return resource.Node{}, fmt.Errorf("node %d is not one of this broker", p.Node)
	}
	n := *from
	n.Index, n.Cores, n.GPUs, n.MemMiB, n.CPUs = p.NodeID, p.Cores, p.GPUs, p.MemMiB, nil
	if n.MemMiB == 0 && from.MemMiB > 0 {
		n.MemMiB = from.MemMiB * int64(p.Cores.Count()) / int64(max(from.Cores.Count(), 1))
	}
	at := 0
	from.Cores.Each(func(id int) {
		if p.Cores.Has(id) && at < len(from.CPUs) {
			n.CPUs = append(n.CPUs, from.CPUs[at])
		}
		at++
	})
	return n, nil
}

// ReadChild reads the file that ChildEnv names, and takes the variable out of the environment.
func ReadChild() (*Child, error) {
	path := os.Getenv(ChildEnv)
	os.Unsetenv(ChildEnv)
	if path == "" {
		return nil, fmt.Errorf("%s is not set: the brokers of a child instance are started as tasks of a job, by frond batch or frond alloc", ChildEnv)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read what this broker has: %w", err)
	}
	c := new(Child)
	if err := msgpack.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("read what this broker has: %s: %w", path, err)
	}
	return c, nil
}
