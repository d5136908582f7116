// Package probe finds out what hardware this process may use: cores, gpus and memory. It is an adapter: it reads sysfs, proc and the
// environment.
package probe

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/resource/idset"
	"golang.org/x/sys/unix"
)

// Probe returns this host as a node with index 0, named by its hostname. Its cores are the physical cores on which this process may run
// (its affinity mask, which a cpuset narrows); the hardware threads of one core count as one, bound to the lowest allowed of them. Core ids
// are numbered from 0 by socket; gpu ids stay those of the machine. Memory is the machine's, or the smallest limit of this process's
// cgroups. Root is "/"; tests give a tree of their own. Where sysfs has no topology each allowed cpu is a core.
func Probe(root string) (resource.Node, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return resource.Node{}, fmt.Errorf("probe cpus: %w", err)
	}
	var cpus []int
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	host, err := os.Hostname()
	if err != nil {
		return resource.Node{}, fmt.Errorf("probe hostname: %w", err)
	}
	return machine{root, os.Getenv}.node(host, cpus)
}

// machine is where to look.
type machine struct {
	root   string
	getenv func(string) string
}

func (m machine) node(host string, allowed []int) (resource.Node, error) {
	cpus := m.fold(allowed)
	if len(cpus) == 0 {
		return resource.Node{}, fmt.Errorf("probe cpus: this process may run on none")
	}
	return resource.Node{
		Name:   host,
		Cores:  resource.MaskRange(0, len(cpus)-1),
		GPUs:   resource.MaskOf(m.gpus()...),
		MemMiB: m.memory(),
		CPUs:   cpus,
	}, nil
}

// fold returns the lowest allowed cpu of each physical core, by socket.
func (m machine) fold(allowed []int) []int {
	type core struct{ socket, cpu int }
	var cores []core
	taken := map[int]bool{}
	for _, cpu := range allowed {
		if taken[cpu] {
			continue
		}
		dir := filepath.Join(m.root, "sys/devices/system/cpu/cpu"+strconv.Itoa(cpu), "topology")
		if siblings, err := idset.Parse(readLine(dir, "thread_siblings_list")); err == nil && siblings.Len() <= resource.MaxMaskID {
			for s := range siblings.All() {
				taken[s] = true
			}
		}
		taken[cpu] = true
		socket, _ := strconv.Atoi(readLine(dir, "physical_package_id"))
		cores = append(cores, core{socket, cpu})
	}
	slices.SortStableFunc(cores, func(a, b core) int { return a.socket - b.socket })
	cpus := make([]int, len(cores))
	for i, c := range cores {
		cpus[i] = c.cpu
	}
	return cpus
}

// readLine returns a file's text without the line end, "" if it cannot be read.
func readLine(elem ...string) string {
	b, _ := os.ReadFile(filepath.Join(elem...))
	return strings.TrimSpace(string(b))
}

// memory returns MiB, 0 if unknown.
func (m machine) memory() int64 {
	limit := int64(math.MaxInt64)
	for line := range strings.SplitSeq(readLine(m.root, "proc/meminfo"), "\n") {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			if kib, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				limit = kib << 10
			}
		}
	}
	for line := range strings.SplitSeq(readLine(m.root, "proc/self/cgroup"), "\n") {
		f := strings.SplitN(line, ":", 3)
		switch {
		case len(f) < 3:
		case f[1] == "":
			limit = min(limit, m.cgroupLimit("sys/fs/cgroup", f[2], "memory.max"))
		case slices.Contains(strings.Split(f[1], ","), "memory"):
			limit = min(limit, m.cgroupLimit("sys/fs/cgroup/memory", f[2], "memory.limit_in_bytes"))
		}
	}
	if limit == math.MaxInt64 {
		return 0
	}
	return limit >> 20
}

// cgroupLimit returns the smallest limit of a cgroup and those above it.
func (m machine) cgroupLimit(mount, path, file string) int64 {
	limit := int64(math.MaxInt64)
	for p := filepath.Clean("/" + path); ; p = filepath.Dir(p) {
		if n, err := strconv.ParseInt(readLine(m.root, mount, p, file), 10, 64); err == nil && n > 0 {
			limit = min(limit, n)
		}
		if p == "/" {
			return limit
		}
	}
}

// gpuVars name the gpus that an outer scheduler gave.
var gpuVars = []string{"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK"}

// gpus returns ids: those of the first variable set, else those of NVIDIA's device files, else one for each render node of AMD's driver.
func (m machine) gpus() []int {
	for _, name := range gpuVars {
		if v := m.getenv(name); v != "" {
			return visible(v)
		}
	}
	if ids := m.numbered("dev/nvidia"); len(ids) > 0 {
		return ids
	}
	if _, err := os.Stat(filepath.Join(m.root, "dev/kfd")); err != nil {
		return nil
	}
	return upTo(len(m.numbered("dev/dri/renderD")))
}

// visible reads a list of device numbers; it ends at the first invalid one, as CUDA takes it. Of Intel's "0.1", a part of device 0, the device counts.
// Devices that have other names (GPU-…, MIG-…) are counted.
func visible(list string) []int {
	var ids []int
	parts := strings.Split(list, ",")
	for _, p := range parts {
		p = strings.TrimSpace(p)
		number, _, _ := strings.Cut(p, ".")
		id, err := strconv.Atoi(number)
		switch {
		case err == nil && (id < 0 || id > resource.MaxMaskID):
			return ids
		case err != nil && len(ids) == 0 && (strings.HasPrefix(p, "GPU-") || strings.HasPrefix(p, "MIG-")):
			return upTo(len(parts))
		case err != nil:
			return ids
		case !slices.Contains(ids, id):
			ids = append(ids, id)
		}
	}
	return ids
}

func upTo(n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i
	}
	return ids
}

// numbered returns the numbers after prefix in the names of existing files, ascending.
func (m machine) numbered(prefix string) []int {
	base := filepath.Join(m.root, prefix)
	files, _ := filepath.Glob(base + "[0-9]*")
	var ids []int
	for _, f := range files {
		if id, err := strconv.Atoi(f[len(base):]); err == nil && id <= resource.MaxMaskID {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Deal divides a host among n local brokers: node i, with Index and Broker i, gets an equal part of cores, gpus and memory, with core ids
// from 0 on. Where there are fewer cores than brokers each gets one core that others have too, and is not bound to cpus (CPUs is nil).
func Deal(node resource.Node, n int) []resource.Node {
	cores, gpus := node.Cores.Count(), node.GPUs.IDs()
	shared := n > cores
	nodes := make([]resource.Node, n)
	for i := range nodes {
		lo, hi := share(cores, n, i)
		glo, ghi := share(len(gpus), n, i)
		d := node
		d.Index, d.Broker = i, int32(i)
		d.Cores = resource.MaskRange(0, max(1, hi-lo)-1)
		d.GPUs = resource.MaskOf(gpus[glo:ghi]...)
		d.MemMiB = node.MemMiB / int64(n)
		d.CPUs = nil
		if !shared && len(node.CPUs) == cores {
			d.CPUs = slices.Clone(node.CPUs[lo:hi])
		}
		nodes[i] = d
	}
	return nodes
}

// share is the i-th of n nearly equal parts of total: lo ≤ k < hi.
func share(total, n, i int) (lo, hi int) {
	size, rest := total/n, total%n
	lo = i*size + min(i, rest)
	hi = lo + size
	if i < rest {
		hi++
	}
	return lo, hi
}

// Grant is what an outer scheduler gave of a node.
type Grant struct {
	Cores  int   // 0 = no limit
	MemMiB int64 // the same
	NoGPUs bool  // none
	GPUs   []int // these, as the scheduler counts; nil = it does not say
	Named  bool  // the environment names gpus (GPUsNamed)
}

// Limit returns what was granted of a node, never more than it has. Where it is fewer cores than the node has, which of them is not known, so tasks
// are bound to no cpus (CPUs is nil). Where the environment names gpus its numbers count, which may differ from the scheduler's, and not more of them than were
// granted; where nothing shows any, those that the scheduler says are there.
func Limit(node resource.Node, g Grant) resource.Node {
	if g.Cores > 0 && g.Cores < node.Cores.Count() {
		node.Cores, node.CPUs = resource.MaskRange(0, g.Cores-1), nil
	}
	if g.MemMiB > 0 && (node.MemMiB == 0 || g.MemMiB < node.MemMiB) {
		node.MemMiB = g.MemMiB
	}
	there := node.GPUs.IDs()
	switch {
	case g.NoGPUs:
		node.GPUs = resource.Mask{}
	case g.GPUs == nil:
	case g.Named:
		node.GPUs = resource.MaskOf(there[:min(len(there), len(g.GPUs))]...)
	default:
		both := slices.DeleteFunc(slices.Clone(there), func(id int) bool { return !slices.Contains(g.GPUs, id) })
		if len(both) == 0 { // there are none that are known here, or their numbers mean something else
			both = g.GPUs
		}
		node.GPUs = resource.MaskOf(both...)
	}
	return node
}

// GPUsNamed tells whether the environment says which gpus there are.
func GPUsNamed(getenv func(string) string) bool {
	return slices.ContainsFunc(gpuVars, func(name string) bool { return getenv(name) != "" })
}
