package outer

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// getter makes an environment of words NAME=value.
func getter(words string) func(string) string {
	return func(name string) string {
		for w := range strings.FieldsSeq(words) {
			if v, ok := strings.CutPrefix(w, name+"="); ok {
				return v
			}
		}
		return ""
	}
}

// What Slurm 22.05 was seen to set.
const (
	inScript = "SLURM_JOB_ID=7 SLURMD_NODENAME=n0 SLURM_JOB_NODELIST=n[0-3] SLURM_JOB_CPUS_PER_NODE=2(x3),1 SLURM_MEM_PER_CPU=100 SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_NODEID=0"
	inShell  = "SLURM_JOB_ID=7 SLURM_JOB_NODELIST=n[0-3] SLURM_JOB_CPUS_PER_NODE=1(x4) SLURM_NTASKS=4"
	inStep   = "SLURM_JOB_ID=7 SLURMD_NODENAME=n2 SLURM_JOB_NODELIST=n[0-3] SLURM_JOB_CPUS_PER_NODE=2(x4) SLURM_STEP_ID=3 SLURM_STEP_NODELIST=n[1-2] SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=1 SLURM_CPUS_ON_NODE=2 SLURM_MEM_PER_NODE=512"
)

func TestSlurmIsDetected(t *testing.T) {
	for name, row := range map[string]struct {
		env  string
		want Allocation
	}{
		"a batch script is on the first node": {inScript, Allocation{Kind: "slurm", ID: "7", Nodes: []string{"n0", "n1", "n2", "n3"}, CPUs: []int{2, 2, 2, 1},
			MemMiB: []int64{200, 200, 200, 100}, Where: Script}},
		"a shell of salloc is on no node": {inShell, Allocation{Kind: "slurm", ID: "7", Nodes: []string{"n0", "n1", "n2", "n3"}, CPUs: []int{1, 1, 1, 1}, Where: Shell, Here: -1}},
		"a task of a step has its step's nodes": {inStep, Allocation{Kind: "slurm", ID: "7", Nodes: []string{"n1", "n2"}, CPUs: []int{2, 2}, MemMiB: []int64{512, 512},
			Where: Step, Here: 1, Step: "7.3", Proc: 1, Procs: 2}},
		"the step of an interactive shell is none": {inShell + " SLURM_STEP_ID=4294967290 SLURM_STEP_NODELIST=n0 SLURMD_NODENAME=n0", Allocation{Kind: "slurm", ID: "7",
			Nodes: []string{"n0", "n1", "n2", "n3"}, CPUs: []int{1, 1, 1, 1}, Where: Script}},
		"gpus are granted where Slurm names some": {"SLURM_JOB_ID=1 SLURM_JOB_NODELIST=a SLURM_JOB_GPUS=0,1", Allocation{Kind: "slurm", ID: "1", Nodes: []string{"a"}, GPUs: true, Where: Shell, Here: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := Detect(getter(row.env))
			require.NoError(t, err)
			require.Equal(t, row.want, *a)
		})
	}
}

func TestNoAllocation(t *testing.T) {
	for _, env := range []string{"", "HOME=/root"} {
		a, err := Detect(getter(env))
		require.NoError(t, err)
		require.Nil(t, a, env)
	}
}

func TestBrokenVariablesAreNamed(t *testing.T) {
	for env, want := range map[string]string{
		"SLURM_JOB_ID=1":                         "SLURM_JOB_NODELIST is not set",
		"SLURM_JOB_ID=1 SLURM_JOB_NODELIST=n[0-": "SLURM_JOB_NODELIST",
		"SLURM_JOB_ID=1 SLURM_JOB_NODELIST=a SLURM_JOB_CPUS_PER_NODE=2(x":    "SLURM_JOB_CPUS_PER_NODE",
		"SLURM_JOB_ID=1 SLURM_JOB_NODELIST=a SLURM_JOB_CPUS_PER_NODE=2(x-1)": "SLURM_JOB_CPUS_PER_NODE",
	} {
		_, err := Detect(getter(env))
		require.ErrorContains(t, err, want)
	}
}

func TestSrunReadsNoOptionsFromTheEnvironment(t *testing.T) {
	env := []string{"PATH=/bin", "SLURM_CONF=/c", "SLURM_JOB_ID=1", "SLURM_MEM_PER_NODE=1", "SLURM_MEM_PER_CPU=1", "SLURM_DISTRIBUTION=arbitrary", "SLURM_EXPORT_ENV=NONE", "SRUN_DEBUG=3", "PMI_RANK=0"}
	require.Equal(t, []string{"PATH=/bin", "SLURM_CONF=/c", "SLURM_JOB_ID=1"}, SrunEnviron(env))
	require.Equal(t, []string{"PATH=/bin", "SLURM_CONF=/c"}, BrokerEnviron(env))
	argv := Srun([]string{"n1", "n2"}, "frond", "broker")
	require.Equal(t, []string{"srun", "-N", "2", "-n", "2", "-w", "n[1-2]"}, argv[:7])
	require.Equal(t, []string{"frond", "broker"}, argv[len(argv)-2:])
	for _, opt := range []string{"--overlap", "--no-kill", "--kill-on-bad-exit=0", "--wait=0", "--mpi=none"} {
		require.True(t, slices.Contains(argv, opt), opt)
	}
}

func TestTheProgramLosesOnlyTheStep(t *testing.T) {
	env := []string{"A=1", "SLURM_JOB_ID=1", "SLURM_JOB_NODELIST=n", "SLURM_STEP_ID=0", "SLURM_PROCID=0", "PMI_RANK=0", "SLURM_NTASKS=4"}
	require.Equal(t, env, (&Allocation{Where: Script}).ProgramEnviron(env))
	require.Equal(t, env[:3], (&Allocation{Where: Step}).ProgramEnviron(env))
}

func TestThreadsPerCPU(t *testing.T) {
	require.Equal(t, 2, ThreadsPerCPU("NodeName=a CoresPerSocket=4 CPUTot=16 Sockets=2 ThreadsPerCore=2\n"))
	require.Equal(t, 1, ThreadsPerCPU("NodeName=a CoresPerSocket=4 CPUTot=8 Sockets=2 ThreadsPerCore=2\n"), "only cores are counted")
	require.Equal(t, 1, ThreadsPerCPU(""))
}
