package outer

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/resource/hostlist"
)

// specialStep is where Slurm's numbers of special steps begin (slurm.h: SLURM_INTERACTIVE_STEP is 0xfffffffa).
const specialStep = 0xfffffff0

// slurm reads what salloc, sbatch and srun set ("OUTPUT ENVIRONMENT VARIABLES" in their manual pages).
func slurm(getenv func(string) string) (*Allocation, error) {
	id := getenv("SLURM_JOB_ID")
	if id == "" {
		return nil, nil
	}
	a := &Allocation{Kind: "slurm", ID: id, Where: Shell, Here: -1}
	list := cmp.Or(getenv("SLURM_JOB_NODELIST"), getenv("SLURM_NODELIST"))
	if step, err := strconv.ParseUint(getenv("SLURM_STEP_ID"), 10, 64); err == nil && step < specialStep && getenv("SLURM_STEP_NODELIST") != "" {
		list = getenv("SLURM_STEP_NODELIST")
		a.Step = id + "." + getenv("SLURM_STEP_ID")
		a.Proc, _ = strconv.Atoi(getenv("SLURM_PROCID"))
		a.Procs, _ = strconv.Atoi(getenv("SLURM_STEP_NUM_TASKS"))
		a.Where = Step
		if a.Procs <= 1 {
			a.Where = Single
		}
	} else if getenv("SLURMD_NODENAME") != "" {
		a.Where = Script
	}
	if list == "" {
		return nil, fmt.Errorf("SLURM_JOB_ID is %s but SLURM_JOB_NODELIST is not set: this is no environment that Slurm made; unset SLURM_JOB_ID, or use --launcher=local", id)
	}
	var err error
	if a.Nodes, err = hostlist.Parse(list); err != nil {
		return nil, fmt.Errorf("SLURM_JOB_NODELIST: %w", err)
	}
	if a.Step != "" {
		if a.JobNodes, err = hostlist.Parse(cmp.Or(getenv("SLURM_JOB_NODELIST"), getenv("SLURM_NODELIST"))); err != nil {
			return nil, fmt.Errorf("SLURM_JOB_NODELIST: %w", err)
		}
	}
	a.Here = slices.Index(a.Nodes, getenv("SLURMD_NODENAME"))
	if a.CPUs, err = a.slurmCPUs(getenv); err != nil {
		return nil, err
	}
	a.perNode, _ = strconv.ParseInt(getenv("SLURM_MEM_PER_NODE"), 10, 64)
	a.perCPU, _ = strconv.ParseInt(getenv("SLURM_MEM_PER_CPU"), 10, 64)
	a.setMemory()
	for _, name := range []string{"SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS", "SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE", "SLURM_GPUS_PER_TASK", "SLURM_GPUS_PER_SOCKET"} {
		a.GPUs = a.GPUs || getenv(name) != ""
	}
	return a, nil
}

// Regrant sets what the nodes are and how many cpus were granted on each, where processes there have told it; nil = they do not know.
func (a *Allocation) Regrant(nodes []string, cpus []int) {
	if cpus == nil {
		for _, n := range nodes {
			i := slices.Index(a.Nodes, n)
			if i < 0 || a.CPUs == nil {
				cpus = nil
				break
			}
			cpus = append(cpus, a.CPUs[i])
		}
	}
	a.Nodes, a.CPUs = nodes, cpus
	a.setMemory()
}

// slurmCPUs reads SLURM_JOB_CPUS_PER_NODE, "8(x3),4", which counts for the nodes of the whole job in their order. A step may have fewer: of them
// the number on this node is known.
func (a *Allocation) slurmCPUs(getenv func(string) string) ([]int, error) {
	counts, err := repeated(getenv("SLURM_JOB_CPUS_PER_NODE"))
	if err != nil {
		return nil, fmt.Errorf("SLURM_JOB_CPUS_PER_NODE: %w", err)
	}
	job := a.Nodes
	if a.JobNodes != nil {
		job = a.JobNodes
	}
	inStep := a.Where == Step || a.Where == Single
	onNode, _ := strconv.Atoi(getenv("SLURM_CPUS_ON_NODE"))
	out := make([]int, len(a.Nodes))
	for i, n := range a.Nodes {
		k := slices.Index(job, n)
		switch {
		case k >= 0 && len(counts) == len(job):
			out[i] = counts[k]
		case onNode > 0:
			out[i] = onNode
		default:
			return nil, nil
		}
	}
	if inStep && a.Here >= 0 && onNode > 0 && onNode < out[a.Here] { // so it is on the others, as far as can be known
		for i := range out {
			out[i] = min(out[i], onNode)
		}
	}
	return out, nil
}

// repeated reads Slurm's form of a list of numbers: "2(x3),1" is 2,2,2,1.
func repeated(text string) ([]int, error) {
	var out []int
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		number, rest, times := strings.Cut(part, "(x")
		n, err := strconv.Atoi(number)
		k := 1
		if err == nil && times {
			k, err = strconv.Atoi(strings.TrimSuffix(rest, ")"))
		}
		if err != nil || n < 0 || k < 1 || len(out)+k > hostlist.Limit {
			return nil, fmt.Errorf("%q is no list of numbers like 4(x2),1", text)
		}
		out = append(out, slices.Repeat([]int{n}, k)...)
	}
	return out, nil
}

// setMemory fills in MemMiB.
func (a *Allocation) setMemory() {
	a.MemMiB = nil
	byCPU := a.perCPU > 0 && a.CPUs != nil
	if a.perNode <= 0 && !byCPU {
		return
	}
	a.MemMiB = make([]int64, len(a.Nodes))
	for i := range a.MemMiB {
		a.MemMiB[i] = a.perNode
		if byCPU {
			if m := a.perCPU * int64(a.CPUs[i]); a.perNode <= 0 || m < a.perNode { // the smaller one where both are there
				a.MemMiB[i] = m
			}
		}
	}
}

// NodeVars are variables that say something of the node on which a process is: where one is carried to another node they stay there.
var NodeVars = []string{"SLURMD_NODENAME", "HOSTNAME", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GPU_DEVICE_ORDINAL", "SLURM_GPUS_ON_NODE"}

// stepVars are what srun sets for the tasks of a step.
var stepVars = []string{"SLURM_STEP*", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_GTIDS", "SLURM_TASK_PID", "SLURM_TASKS_PER_NODE",
	"SLURM_NTASKS*", "SLURM_NPROCS", "SLURM_SRUN_*", "SLURM_LAUNCH_NODE_IPADDR", "SLURM_CPU_BIND*", "SLURM_MEM_BIND*", "SLURM_DISTRIBUTION", "SLURM_UMASK",
	"SLURM_LABELIO", "SLURM_PRIO_PROCESS", "SLURM_CPUS_ON_NODE", "SLURM_CPUS_PER_TASK", "SLURM_MPI_TYPE", "SLURM_KILL_BAD_EXIT", "SLURM_RLIMIT_*", "SLURM_TOPOLOGY_ADDR*", "PMI_*", "PMI2_*", "PMIX_*"}

// SrunEnviron is the environment for an srun of Frond's own: without what srun reads as options, some of which contradict each other or
// those that it is given. What is left tells which job.
func SrunEnviron(environ []string) []string {
	return filter(environ, jobVars, []string{"SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_CLUSTER_NAME", "SLURM_WORKING_CLUSTER", "SLURM_JWT"})
}

// brokersStep is the name of the step.
const brokersStep = "frond-brokers"

// Srun is the command line that starts one process on each of nodes, in a step that takes nothing from other steps, lives on when
// a node fails, and does not wait for standard input.
func Srun(nodes []string, argv ...string) []string {
	n := strconv.Itoa(len(nodes))
	return append([]string{"srun", "-N", n, "-n", n, "-w", hostlist.Encode(nodes), "--ntasks-per-node=1", "--overlap", "--no-kill", "--kill-on-bad-exit=0",
		"--wait=0", "--cpu-bind=none", "--mpi=none", "--input=none", "--chdir=/", "--job-name=" + brokersStep}, argv...)
}

// SrunOne is the same for one process on one node, which gets this process's standard input and ends when that one does.
func SrunOne(node string, argv ...string) []string {
	return append([]string{"srun", "-Q", "-N", "1", "-n", "1", "-w", node, "--overlap", "--no-kill", "--cpu-bind=none", "--mpi=none", "--chdir=/", "--job-name=frond-start"}, argv...)
}

// What srun says of nodes that it gives up: "srun: error: n[1-2]: tasks 0-1: Exited with exit code 2" and the like.
var (
	srunEnded  = regexp.MustCompile(`^srun: error: (\S+): tasks? [0-9,-]+: `)
	srunFailed = regexp.MustCompile(`^srun: error: Task launch for \S+ failed on node (\S+): `)
	srunDown   = regexp.MustCompile(`^srun: error: Node failure on (\S+)`)
)

// SrunLost returns the nodes on which the task has ended, or was not started, according to a line of srun's error output.
func SrunLost(line string) []string {
	for _, re := range []*regexp.Regexp{srunEnded, srunFailed, srunDown} {
		if m := re.FindStringSubmatch(line); m != nil {
			nodes, _ := hostlist.Parse(m[1])
			return nodes
		}
	}
	return nil
}

// BrokersStep tells whether the output of `squeue -h -s -o "%i %j"` has a step that Srun started. What is no such output counts as one: nothing is known.
func BrokersStep(squeue string) bool {
	for line := range strings.Lines(squeue) {
		if f := strings.Fields(line); len(f) == 2 && f[1] == brokersStep {
			return true
		}
	}
	return squeue == ""
}
