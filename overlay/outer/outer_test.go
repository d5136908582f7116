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
			Where: Step, Here: 1, Step: "7.3", Proc: 1, Procs: 2, JobNodes: []string{"n0", "n1", "n2", "n3"}}},
		"a step has the cpus of its nodes, by name, in a job of unequal ones": {"SLURM_JOB_ID=7 SLURMD_NODENAME=n3 SLURM_JOB_NODELIST=n[0-3] SLURM_JOB_CPUS_PER_NODE=2,4,8,16 SLURM_MEM_PER_CPU=10 " +
			"SLURM_STEP_ID=3 SLURM_STEP_NODELIST=n[1,3] SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=1 SLURM_CPUS_ON_NODE=16",
			Allocation{Kind: "slurm", ID: "7", Nodes: []string{"n1", "n3"}, CPUs: []int{4, 16}, MemMiB: []int64{40, 160}, Where: Step, Here: 1, Step: "7.3", Proc: 1, Procs: 2,
				JobNodes: []string{"n0", "n1", "n2", "n3"}}},
		"a step of one task has no more than it was given": {"SLURM_JOB_ID=7 SLURMD_NODENAME=n0 SLURM_JOB_NODELIST=n[0-1] SLURM_JOB_CPUS_PER_NODE=8(x2) SLURM_MEM_PER_CPU=10 " +
			"SLURM_STEP_ID=0 SLURM_STEP_NODELIST=n0 SLURM_STEP_NUM_TASKS=1 SLURM_PROCID=0 SLURM_CPUS_ON_NODE=3",
			Allocation{Kind: "slurm", ID: "7", Nodes: []string{"n0"}, CPUs: []int{3}, MemMiB: []int64{30}, Where: Single, Step: "7.0", Procs: 1, JobNodes: []string{"n0", "n1"}}},
		"the step of an interactive shell is none": {inShell + " SLURM_STEP_ID=4294967290 SLURM_STEP_NODELIST=n0 SLURMD_NODENAME=n0", Allocation{Kind: "slurm", ID: "7",
			Nodes: []string{"n0", "n1", "n2", "n3"}, CPUs: []int{1, 1, 1, 1}, Where: Script}},
		"gpus are granted where Slurm names some": {"SLURM_JOB_ID=1 SLURM_JOB_NODELIST=a SLURM_JOB_GPUS=0,1", Allocation{Kind: "slurm", ID: "1", Nodes: []string{"a"}, GPUs: true, Where: Shell, Here: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := Detect(getter(row.env))
			require.NoError(t, err)
			a.perNode, a.perCPU = 0, 0
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
	require.Equal(t, map[string]int{"a": 2}, ThreadsPerCPU("NodeName=a CoresPerSocket=4 CPUTot=16 Sockets=2 ThreadsPerCore=2\n"+
		"NodeName=b CoresPerSocket=4 CPUTot=8 Sockets=2 ThreadsPerCore=2\nNodeName=c CoresPerSocket=4 CPUTot=8 Sockets=2 ThreadsPerCore=1\n"), "of b only cores are counted")
	require.Empty(t, ThreadsPerCPU(""))
}

func TestWhatSlurmSaysOfAJobsNodesCounts(t *testing.T) {
	a := &Allocation{Nodes: []string{"n0", "n1", "n2"}, MemMiB: []int64{100, 900, 0}}
	a.SlurmGrant("JobId=1 NodeList=n[0-2] JOB_GRES=gpu:3   Nodes=n[0-1] CPU_IDs=0-1 Mem=200 GRES=gpu:a100:2(IDX:0-1),nic:1(IDX:0)   Nodes=n2,x CPU_IDs=0 Mem=300 GRES=gpu:1(IDX:3),gpu:tesla:1(IDX:5) MinCPUsNode=2")
	require.Equal(t, []int64{100, 200, 300}, a.MemMiB)
	require.Equal(t, []string{"0-1", "0-1", "3,5"}, a.GPUIDs)
	require.True(t, a.GPUs)

	a = &Allocation{Nodes: []string{"n0", "n1"}}
	a.SlurmGrant("Nodes=n0 CPU_IDs=0 Mem=0 GRES= Nodes=n1 CPU_IDs=0 Mem=0 GRES=gpu:0")
	require.Nil(t, a.MemMiB, "0 is no limit")
	require.Nil(t, a.GPUIDs)
	require.False(t, a.GPUs)
	a.SlurmGrant("slurm_load_jobs error: Invalid job id specified")
	require.Nil(t, a.MemMiB)
}

func TestWhatTheProcessesOfALaunchSayOfTheirNodesCounts(t *testing.T) {
	a, err := Detect(getter("SLURM_JOB_ID=7 SLURM_JOB_NODELIST=n[0-3] SLURM_JOB_CPUS_PER_NODE=8(x4) SLURM_MEM_PER_CPU=10"))
	require.NoError(t, err)
	a.Regrant([]string{"n2", "n1"}, []int{3, 4})
	require.Equal(t, []int{3, 4}, a.CPUs)
	require.Equal(t, []int64{30, 40}, a.MemMiB)
	a.Regrant([]string{"n1"}, nil)
	require.Equal(t, []int{4}, a.CPUs, "what was known of it")
	a.Regrant([]string{"elsewhere"}, nil)
	require.Nil(t, a.CPUs)
	require.Nil(t, a.MemMiB)
}

func TestAStepOfBrokersIsKnown(t *testing.T) {
	require.True(t, BrokersStep("7.0 bash\n7.1 frond-brokers\n"))
	require.False(t, BrokersStep("7.0 frond\n7.1 frond-start\n7.batch batch\n"))
	require.True(t, BrokersStep(""), "squeue has failed")
}

func TestNodesThatSrunGivesUpAreKnown(t *testing.T) {
	for line, want := range map[string][]string{
		"srun: error: n2: task 1: Exited with exit code 2":                                            {"n2"},
		"srun: error: n[1-2]: tasks 0-1: Killed":                                                      {"n1", "n2"},
		"srun: error: Task launch for StepId=3.0 failed on node n1: Communication connection failure": {"n1"},
		"srun: error: Node failure on n2":                                                             {"n2"},
		"slurmstepd-n2: error: execve(): /frond: No such file or directory":                           nil,
		"srun: cluster configuration lacks support for cpu binding":                                   nil,
		"srun: error: Unable to create step for job 35: More processors requested than permitted":     nil,
	} {
		require.Equal(t, want, SrunLost(line), line)
	}
}

func TestAJobWithoutNoKillIsKnownWhereItsCommandLineIs(t *testing.T) {
	require.True(t, LacksNoKill("sbatch -N 4 run.sh\n", "#!/bin/sh\n#SBATCH -N 4\n"))
	require.True(t, LacksNoKill("sbatch --no-kill=off run.sh", ""))
	require.False(t, LacksNoKill("sbatch --no-kill -N 4 run.sh", ""))
	require.False(t, LacksNoKill("salloc -k -N 4", ""))
	require.False(t, LacksNoKill("sbatch run.sh", "#!/bin/sh\n#SBATCH --no-kill\n"))
	require.False(t, LacksNoKill("\n", ""), "there is no accounting: nothing is known")
}
