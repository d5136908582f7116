package outer

import (
	"fmt"
	"strconv"
	"strings"
)

// Task is a process that a launcher of parallel programs started as one of several.
type Task struct {
	By   string // "mpich", "openmpi", "jsrun", "pals", …: who is told to people
	Rank int
	Size int    // of the launch; 0 = the launcher does not say
	PMI  bool   // PMI-1 can be talked
	Key  string // the same for all tasks of the launch, and for no other launch as far as can be known; empty = unknown
}

// launches is how launchers tell their tasks of it, those that say more first. The sizes of all that are there must agree.
var launches = []struct{ by, rank, size string }{
	{"jsrun", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE"}, // jsrun(1); Spectrum MPI sets Open MPI's as well
	{"openmpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
	{"mvapich", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"},
	{"pals", "PALS_RANKID", "PMI_SIZE"}, // HPE Cray's mpiexec(1)
	{"flux", "FLUX_TASK_RANK", "FLUX_JOB_SIZE"},
	{"pmi", "PMI_RANK", "PMI_SIZE"}, // the process manager's interface: MPICH's hydra, Intel MPI, srun --mpi=pmi2
}

// keyVars are variables that tell launches apart.
var keyVars = []string{"OMPI_MCA_orte_hnp_uri", "PMIX_NAMESPACE", "PMI_JOBID", "PALS_APID", "JSM_JSRUN_PMIX_NSPACE", "FLUX_JOB_ID", "LSB_JOBID", "LSB_JOBINDEX", "PBS_JOBID",
	"SLURM_JOB_ID", "SLURM_STEP_ID", "JOB_ID", "MPIRUN_ID"}

// Started tells of the launch that this process belongs to. nil: it is none of several, as far as the environment says. Steps of Slurm's own srun are told by
// Detect.
func Started(getenv func(string) string) (*Task, error) {
	var t *Task
	var said string
	for _, l := range launches {
		rank, err := strconv.Atoi(getenv(l.rank))
		if err != nil || rank < 0 {
			continue
		}
		size, _ := strconv.Atoi(getenv(l.size))
		switch {
		case t == nil:
			t, said = &Task{By: l.by, Rank: rank, Size: size}, fmt.Sprintf("%s=%s", l.size, getenv(l.size))
		case t.Size != size && size > 0, t.Rank != rank:
			return nil, fmt.Errorf("the environment contradicts itself: %s and %s=%s, %s=%s. Which of them launched this process? Unset the others, or use --launcher=local for an instance of its own",
				said, l.size, getenv(l.size), l.rank, getenv(l.rank))
		}
	}
	if t == nil && getenv("PMIX_RANK") != "" { // prterun and the like: PMIx has the size, the environment has not
		rank, err := strconv.Atoi(getenv("PMIX_RANK"))
		if err != nil {
			return nil, nil
		}
		return &Task{By: "pmix", Rank: rank, Key: key(getenv)}, nil
	}
	if t == nil || t.Size == 1 {
		return nil, nil
	}
	if t.Rank >= t.Size {
		return nil, fmt.Errorf("the environment contradicts itself: %s, but this is number %d. Use --launcher=local for an instance of its own", said, t.Rank)
	}
	switch {
	case t.By != "pmi":
	case getenv("FROND_JOB_ID") != "":
		t.By = "frond"
	case getenv("MPI_LOCALRANKID") != "":
		t.By = "mpich"
	}
	t.PMI = getenv("PMI_FD") != "" || getenv("PMI_PORT") != ""
	t.Key = key(getenv)
	return t, nil
}

func key(getenv func(string) string) string {
	var words []string
	for _, name := range keyVars {
		if v := getenv(name); v != "" {
			words = append(words, name+"="+v)
		}
	}
	return strings.Join(words, " ")
}
