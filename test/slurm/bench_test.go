package slurm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

// TestBench compares ways to run many short tasks with one Slurm: `make bench-slurm`. Real processes; CPU is that of all: daemons, steps, brokers,
// tasks, and the commands that submit.
func TestBench(t *testing.T) {
	if os.Getenv("FROND_BENCH") == "" {
		t.Skip("SKIP: a measurement: make bench-slurm")
	}
	usage := countCPU(t)
	c := start(t)
	script := `
	now() { date +%s.%N; }
	cpu() { cat ` + usage + `; }
	way() { # NAME TASKS COMMAND
		sleep 1
		local t=$(now) u=$(cpu)
		eval "$3" >/dev/null
		echo "ROW|$1|$2|$t|$(now)|$u|$(cpu)"
	}
	way "srun for each task, 8 at once" 200 "seq 200 | xargs -P 8 -I{} srun -Q -N1 -n1 --overlap true"
	command -v parallel >/dev/null && way "GNU parallel -j 8, on one node" 1000 "seq 1000 | parallel -j 8 true {}"
	way "xargs -P 8, on one node: no scheduler" 5000 "seq 5000 | xargs -P 8 -n 1 true"
	way "Frond, with start and end of the instance" 20000 "frond start frond submit --quiet --wait --cc=1-20000 true"
	export -f now cpu way
	frond start bash -c 'way "Frond, in an instance that runs" 20000 "frond submit --quiet --wait --cc=1-20000 true"
		way "Frond, frond run for each task, 8 at once" 500 "seq 500 | xargs -P 8 -I{} frond run true"'
	echo x >bench-done`
	id := c.batch("bench", "--no-kill -N4 -n32 --ntasks-per-node=8", script)
	over := harness.Until(4*time.Minute, func() bool { _, err := os.Stat(filepath.Join(c.dir, "bench-done")); return err == nil }) // squeue would be measured, too
	require.True(t, over, c.output("bench"))
	out := c.finish("bench", id)
	var rows []string
	for line := range strings.Lines(out) {
		if row, ok := strings.CutPrefix(line, "ROW|"); ok {
			rows = append(rows, row)
		}
	}
	require.NotEmpty(t, rows, out)
	rows = append(rows, jobArray(t, c, usage, 400))
	printRows(t, rows)
}

// jobArray runs tasks as a job array, which cannot be done inside an allocation: on the same nodes, after it.
func jobArray(t *testing.T, c *cluster, usage string, n int) string {
	cpu := func() string {
		b, err := os.ReadFile(usage)
		require.NoError(t, err)
		return strings.TrimSpace(string(b))
	}
	time.Sleep(time.Second)
	began, before := time.Now(), cpu()
	c.sh("sbatch --parsable --array=1-%d -n1 --mem=1 -o /dev/null --wrap /bin/true", n)
	over := harness.Until(harness.Patience, func() bool { time.Sleep(200 * time.Millisecond); return strings.TrimSpace(c.sh("squeue -h")) == "" })
	require.True(t, over, c.sh("squeue"))
	return fmt.Sprintf("job array, not inside of an allocation|%d|0|%.3f|%s|%s", n, time.Since(began).Seconds(), before, cpu())
}

func printRows(t *testing.T, rows []string) {
	fmt.Printf("\nReal `true` tasks with one Slurm 22.05 of four nodes on one host, %s\n\n", machine())
	fmt.Printf("| way | tasks | tasks/s | CPU a task |\n|---|---:|---:|---:|\n")
	for _, r := range rows {
		f := strings.Split(strings.TrimSpace(r), "|")
		require.Len(t, f, 6, r)
		var x [5]float64
		for i := range x {
			v, err := strconv.ParseFloat(f[i+1], 64)
			require.NoError(t, err, r)
			x[i] = v
		}
		fmt.Printf("| %s | %.0f | %.0f | %.1f ms |\n", f[0], x[0], x[0]/(x[2]-x[1]), (x[4]-x[3])/1e6/x[0])
	}
	fmt.Println()
}

// machine says in words what this was measured on.
func machine() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	model, cpus := "unknown", strings.Count(string(info), "\nprocessor")+1
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
		}
	}
	return fmt.Sprintf("%s, %d cpus, %s", model, cpus, time.Now().Format("2006-01-02"))
}

// countCPU puts this process, and by that all that it starts, into a control group, and returns the file with the CPU time (ns) that was used there.
func countCPU(t *testing.T) string {
	const root = "/sys/fs/cgroup/cpuacct"
	dir := filepath.Join(root, fmt.Sprintf("frondbench-%d", os.Getpid()))
	enter := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("SKIP: needs the cgroup controller cpuacct at %s, to count the CPU time of all: %v", root, err)
	}
	t.Cleanup(func() {
		enter(root)
		harness.Until(5*time.Second, func() bool { return os.Remove(dir) == nil })
	})
	require.NoError(t, enter(dir))
	return filepath.Join(dir, "cpuacct.usage")
}
