package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/frond-hpc/frond/resource"
	"github.com/stretchr/testify/require"
)

// host makes a root with the given files.
func host(t *testing.T, files map[string]string) machine {
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text+"\n"), 0o644))
	}
	return machine{root, func(string) string { return "" }}
}

func TestHardwareThreadsFoldToCoresBySocket(t *testing.T) {
	files := map[string]string{}
	for cpu := range 8 { // even cpus on socket 0; cpu and cpu+4 are threads of one core
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/", cpu)
		files[dir+"thread_siblings_list"] = fmt.Sprintf("%d,%d", cpu%4, cpu%4+4)
		files[dir+"physical_package_id"] = fmt.Sprint(cpu % 2)
	}
	n, err := host(t, files).node("h", []int{0, 1, 2, 3, 4, 5, 6, 7})
	require.NoError(t, err)
	require.Equal(t, []int{0, 2, 1, 3}, n.CPUs)
	require.Equal(t, "0-3", n.Cores.String())

	n, err = host(t, files).node("h", []int{5, 6})
	require.NoError(t, err)
	require.Equal(t, []int{6, 5}, n.CPUs, "only the second threads are allowed")
}

func TestWithoutTopologyEachAllowedCPUIsACore(t *testing.T) {
	n, err := host(t, nil).node("h", []int{3, 7})
	require.NoError(t, err)
	require.Equal(t, []int{3, 7}, n.CPUs)
	require.Equal(t, "0-1", n.Cores.String())
	require.Zero(t, n.MemMiB)
	_, err = host(t, nil).node("h", nil)
	require.Error(t, err)
}

func TestMemoryIsTheSmallestLimit(t *testing.T) {
	meminfo := "MemTotal:       4194304 kB\nMemFree: 1 kB"
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"the machine's without cgroups": {map[string]string{"proc/meminfo": meminfo}, 4096},
		"that of a cgroup v2 above": {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/memory.max": "1073741824",
			"sys/fs/cgroup/a/b/memory.max": "max"}, 1024},
		"that of cgroup v1": {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "4:cpu,memory:/x\n0::/",
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "2147483648"}, 2048},
		"the machine's when v1 has no limit": {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "4:memory:/",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, 4096},
	} {
		require.Equal(t, c.want, host(t, c.files).memory(), name)
	}
}

func TestGPUs(t *testing.T) {
	m := host(t, map[string]string{"dev/nvidia0": "", "dev/nvidia1": "", "dev/nvidia10": "", "dev/nvidiactl": ""})
	require.Equal(t, []int{0, 1, 10}, m.gpus())
	m.getenv = func(name string) string { return map[string]string{"CUDA_VISIBLE_DEVICES": "2,3"}[name] }
	require.Equal(t, []int{2, 3}, m.gpus(), "the environment narrows")
	amd := map[string]string{"dev/dri/renderD128": "", "dev/dri/renderD129": ""}
	require.Empty(t, host(t, amd).gpus(), "a render node alone may be a desktop's")
	amd["dev/kfd"] = ""
	require.Equal(t, []int{0, 1}, host(t, amd).gpus())
}

func TestVisibleDevices(t *testing.T) {
	require.Equal(t, []int{0, 1}, visible("GPU-aaaa-bbbb,GPU-cccc-dddd"))
	require.Empty(t, visible("-1"))
	require.Equal(t, []int{0}, visible("0,-1,1"))
	require.Equal(t, []int{0}, visible("0,x"))
	require.Equal(t, []int{0}, visible("MIG-aaaa"))
	require.Empty(t, visible("NoDevFiles"), "as Slurm says that there are none")
	require.Equal(t, []int{0, 1}, visible("0.0,0.1,1.0"), "parts of Intel's devices")
}

func TestThisHostHasACore(t *testing.T) {
	n, err := Probe("/")
	require.NoError(t, err)
	require.Equal(t, len(n.CPUs), n.Cores.Count())
	require.NotEmpty(t, n.Name)
	require.Positive(t, n.MemMiB)
}

func TestDealDividesWithoutOverlap(t *testing.T) {
	n := resource.Node{Name: "h", Cores: resource.MaskRange(0, 6), CPUs: []int{0, 2, 4, 6, 8, 10, 12}, GPUs: resource.MaskOf(1, 3, 5), MemMiB: 900}
	nodes := Deal(n, 3)
	require.Equal(t, []int{0, 2, 4}, nodes[0].CPUs)
	require.Equal(t, []int{6, 8}, nodes[1].CPUs)
	require.Equal(t, []int{10, 12}, nodes[2].CPUs)
	require.Equal(t, "0-2", nodes[0].Cores.String())
	require.Equal(t, "0-1", nodes[2].Cores.String(), "core ids start at 0 in each node")
	require.Equal(t, "3", nodes[1].GPUs.String(), "gpu ids stay the machine's")
	require.EqualValues(t, 300, nodes[1].MemMiB)
	require.EqualValues(t, 2, nodes[2].Broker)
	require.Equal(t, 2, nodes[2].Index)
}

func TestDealGivesEachBrokerACoreAndNoBindingWhenThereAreTooFew(t *testing.T) {
	nodes := Deal(resource.Node{Cores: resource.MaskRange(0, 1), CPUs: []int{0, 1}}, 4)
	require.Len(t, nodes, 4)
	for _, n := range nodes {
		require.Equal(t, "0", n.Cores.String())
		require.Nil(t, n.CPUs)
	}
}

func TestLimitNeverAdds(t *testing.T) {
	n := resource.Node{Cores: resource.MaskRange(0, 3), CPUs: []int{0, 1, 2, 3}, GPUs: resource.MaskOf(0, 1, 2), MemMiB: 900}
	require.Equal(t, n, Limit(n, Grant{}))
	require.Equal(t, n, Limit(n, Grant{Cores: 8, MemMiB: 1000}), "more is granted than there is")
	less := Limit(n, Grant{Cores: 2, MemMiB: 100, NoGPUs: true})
	require.Equal(t, "0-1", less.Cores.String())
	require.Nil(t, less.CPUs, "which two is not known")
	require.EqualValues(t, 100, less.MemMiB)
	require.Zero(t, less.GPUs.Count())
}

func TestGPUsThatWereGranted(t *testing.T) {
	for name, row := range map[string]struct {
		there []int
		grant Grant
		want  string
	}{
		"of all that the devices show, those":             {[]int{0, 1, 2}, Grant{GPUs: []int{1, 2}}, "1-2"},
		"the environment has other numbers":               {[]int{0, 1}, Grant{GPUs: []int{2, 3}, Named: true}, "0-1"},
		"the environment names more than were granted":    {[]int{0, 1, 2, 3}, Grant{GPUs: []int{2}, Named: true}, "0"},
		"no device is known: the scheduler's word counts": {nil, Grant{GPUs: []int{0, 1}}, "0-1"},
		"devices have other numbers":                      {[]int{7}, Grant{GPUs: []int{0}}, "0"},
		"none":                                            {[]int{0, 1}, Grant{NoGPUs: true, GPUs: []int{1}}, ""},
		"the scheduler does not say which":                {[]int{0, 1}, Grant{}, "0-1"},
	} {
		require.Equal(t, row.want, Limit(resource.Node{GPUs: resource.MaskOf(row.there...)}, row.grant).GPUs.String(), name)
	}
}
