package outer

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// on is a host with an environment of words NAME=value, some files and some programs.
func on(host, env string, files map[string]string, programs ...string) system {
	return system{getter(env), func(name string) ([]byte, error) {
		if text, ok := files[name]; ok {
			return []byte(text), nil
		}
		return nil, os.ErrNotExist
	}, host, func(p string) bool {
		for _, have := range programs {
			if p == have {
				return true
			}
		}
		return false
	}}
}

// What the manuals of the schedulers document: for LSF "Environment variables set for job execution" (IBM Spectrum LSF reference), for PBS
// pbs_environment(7B) and qsub(1B), for Torque qsub(1), for Grid Engine qsub(1) and sge_pe(5).
func TestOtherSchedulersAreDetected(t *testing.T) {
	files := map[string]string{
		"/lsf":    "h1\nh1\nh2\nh2\nh2\n",
		"/csm":    "batch5\nh1\nh1\nh2\nh2\n",
		"/pbs":    "n1.site\nn2.site\n",
		"/torque": "n1\nn1\nn2\nn2\n",
		"/sge":    "a.site 2 all.q@a.site UNDEFINED\nb.site 1 all.q@b.site UNDEFINED\na.site 1 x.q@a.site 0,1\n",
	}
	multi := &counted{names: []string{"h1", "h2"}}
	for name, row := range map[string]struct {
		sys  system
		want Allocation
	}{
		"LSF with a host file": {on("h1", "LSB_JOBID=9 LSB_DJOB_HOSTFILE=/lsf LSB_MCPU_HOSTS=x", files), Allocation{Kind: "lsf", ID: "9", Nodes: multi.names, CPUs: []int{2, 3}, GPUs: true, Where: Script}},
		"LSF, one slot a word": {on("h2.site", "LSB_JOBID=9 LSB_JOBINDEX=4 LSB_HOSTS=h1", nil),
			Allocation{Kind: "lsf", ID: "9[4]", Nodes: []string{"h1"}, CPUs: []int{1}, GPUs: true, Where: Script, Here: -1}},
		"LSF on a launch node of CSM": {on("batch5", "LSB_JOBID=9 LSB_DJOB_HOSTFILE=/csm", files, "jsrun"),
			Allocation{Kind: "lsf", ID: "9", Nodes: multi.names, CPUs: []int{2, 2}, GPUs: true, Where: Script, Here: -1, JSM: true}},
		"LSF on a host with one slot": {on("batch5", "LSB_JOBID=9 LSB_DJOB_HOSTFILE=/csm", files),
			Allocation{Kind: "lsf", ID: "9", Nodes: []string{"batch5", "h1", "h2"}, CPUs: []int{1, 2, 2}, GPUs: true, Where: Script}},
		"PBS Professional: a line for each chunk": {on("n2", "PBS_JOBID=5.srv PBS_NODEFILE=/pbs NCPUS=8 PBS_ENVIRONMENT=PBS_BATCH", files),
			Allocation{Kind: "pbs", ID: "5.srv", Nodes: []string{"n1.site", "n2.site"}, CPUs: []int{8, 8}, Slots: []int{0, 1}, GPUs: true, Where: Script, Here: 1}},
		"Torque: a line for each slot": {on("n1", "PBS_JOBID=5.srv PBS_NODEFILE=/torque PBS_NUM_PPN=2 PBS_ENVIRONMENT=PBS_INTERACTIVE", files),
			Allocation{Kind: "pbs", ID: "5.srv", Nodes: []string{"n1", "n2"}, CPUs: []int{2, 2}, Slots: []int{0, 2}, GPUs: true, Where: Shell}},
		"Grid Engine with a parallel environment": {on("b.site", "JOB_ID=3 SGE_TASK_ID=undefined PE_HOSTFILE=/sge NSLOTS=4", files),
			Allocation{Kind: "sge", ID: "3", Nodes: []string{"a.site", "b.site"}, CPUs: []int{3, 1}, GPUs: true, Where: Script, Here: 1}},
		"a serial job of Grid Engine": {on("a", "JOB_ID=3 SGE_TASK_ID=7 SGE_JOB_SPOOL_DIR=/s", nil),
			Allocation{Kind: "sge", ID: "3.7", Nodes: []string{"a"}, CPUs: []int{1}, GPUs: true, Where: Script}},
		"a job of Frond stands nearer": {on("a", "FROND_JOB_ID=f3 PBS_JOBID=1", nil), Allocation{Kind: "frond", ID: "f3", Where: Job, Here: -1}},
		"a job of Flux":                {on("a", "FLUX_JOB_ID=f3 FLUX_URI=local:///x "+inScript, nil), Allocation{Kind: "flux", ID: "f3", Where: Job, Here: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := row.sys.detect("")
			require.NoError(t, err)
			require.NotNil(t, a)
			require.Equal(t, row.want, *a)
		})
	}
}

func TestLSFWithoutAHostFileReadsPairs(t *testing.T) {
	s := on("h1", "", nil)
	s.getenv = func(name string) string {
		return map[string]string{"LSB_JOBID": "9", "LSB_MCPU_HOSTS": "h1 4 h2 2 "}[name]
	}
	a, err := s.detect("lsf")
	require.NoError(t, err)
	require.Equal(t, []string{"h1", "h2"}, a.Nodes)
	require.Equal(t, []int{4, 2}, a.CPUs)
}

func TestBrokenAllocationsAreNamed(t *testing.T) {
	files := map[string]string{"/empty": "\n", "/bad": "host many\n"}
	for env, want := range map[string]string{
		"LSB_JOBID=1":                            "neither LSB_DJOB_HOSTFILE nor LSB_MCPU_HOSTS",
		"LSB_JOBID=1 LSB_MCPU_HOSTS=a":           "LSB_MCPU_HOSTS: ",
		"LSB_JOBID=1 LSB_DJOB_HOSTFILE=/nowhere": "LSB_DJOB_HOSTFILE: ",
		"PBS_JOBID=1":                            "PBS_NODEFILE is not set",
		"PBS_JOBID=1 PBS_NODEFILE=/empty":        "PBS_NODEFILE: /empty names no host",
		"JOB_ID=1 PE_HOSTFILE=/bad":              "PE_HOSTFILE: /bad: \"host many\"",
		"JOB_ID=1 PE_HOSTFILE=/empty":            "names no host",
	} {
		_, err := on("a", env, files).detect("")
		require.ErrorContains(t, err, want, env)
	}
}

func TestNoOtherAllocation(t *testing.T) {
	for _, env := range []string{"JOB_ID=4", "PBS_SERVER=x", "LSF_ENVDIR=/x SGE_ROOT=/y JOB_ID=1"} {
		a, err := on("a", env, nil).detect("")
		require.NoError(t, err)
		require.Nil(t, a, env)
	}
	a, err := on("a", inScript, nil).detect("pbs")
	require.NoError(t, err)
	require.Nil(t, a, "told which")
}

func TestPBSTellsOfEachNodesCPUs(t *testing.T) {
	a := &Allocation{Nodes: []string{"n1.site", "n2.site"}, CPUs: []int{1, 1}}
	require.True(t, a.PBSGrant("Job Id: 1\n    exec_host = n1/0*8+n1/1*8+\n\tn2/0\n    Hold_Types = n\n"))
	require.Equal(t, []int{16, 1}, a.CPUs)
	require.True(t, a.PBSGrant("    exec_host = n1/0-3,6+n2/7+n2/6\n"))
	require.Equal(t, []int{5, 2}, a.CPUs)
	require.False(t, a.PBSGrant("    exec_host = n1/0*8\n"), "a node is missing")
	require.False(t, a.PBSGrant("qstat: unknown job\n"))
	require.Equal(t, []int{5, 2}, a.CPUs)
}

// What MPICH 4.0 and Open MPI 4.1 were seen to set, and what jsrun(1) and the mpiexec(1) of HPE Cray document.
func TestLaunchersAreDetected(t *testing.T) {
	for name, row := range map[string]struct {
		env  string
		want *Task
	}{
		"MPICH":               {"PMI_RANK=1 PMI_SIZE=4 PMI_FD=6 MPI_LOCALRANKID=1 HYDI_CONTROL_FD=7", &Task{By: "mpich", Rank: 1, Size: 4, PMI: true}},
		"Open MPI":            {"OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3 PMIX_RANK=2 OMPI_MCA_orte_hnp_uri=7.0;tcp://h:1", &Task{By: "openmpi", Rank: 2, Size: 3, Key: "OMPI_MCA_orte_hnp_uri=7.0;tcp://h:1"}},
		"jsrun":               {"JSM_NAMESPACE_RANK=0 JSM_NAMESPACE_SIZE=2 OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 LSB_JOBID=4", &Task{By: "jsrun", Size: 2, Key: "LSB_JOBID=4"}},
		"PALS":                {"PALS_RANKID=1 PMI_RANK=1 PMI_SIZE=2 PALS_APID=u", &Task{By: "pals", Rank: 1, Size: 2, Key: "PALS_APID=u"}},
		"PMIx without a size": {"PMIX_RANK=1 PMIX_NAMESPACE=n", &Task{By: "pmix", Rank: 1, Key: "PMIX_NAMESPACE=n"}},
		"one alone":           {"PMI_RANK=0 PMI_SIZE=1 PMI_FD=6", nil},
		"nothing":             {"PMI_SIZE=3", nil},
		"Flux":                {"FLUX_TASK_RANK=1 FLUX_JOB_SIZE=2 FLUX_JOB_ID=f PMI_RANK=1 PMI_SIZE=2 PMI_FD=3", &Task{By: "flux", Rank: 1, Size: 2, PMI: true, Key: "FLUX_JOB_ID=f"}},
	} {
		t.Run(name, func(t *testing.T) {
			task, err := Started(getter(row.env))
			require.NoError(t, err)
			require.Equal(t, row.want, task)
		})
	}
}

func TestLaunchersThatDisagreeAreAnError(t *testing.T) {
	for env, want := range map[string]string{
		"OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=4 PMI_RANK=0 PMI_SIZE=1": "OMPI_COMM_WORLD_SIZE=4 and PMI_SIZE=1",
		"PMI_RANK=4 PMI_SIZE=4": "PMI_SIZE=4, but this is number 4",
	} {
		_, err := Started(getter(env))
		require.ErrorContains(t, err, want)
	}
}

func TestNothingOfOtherSchedulersIsLeftForJobs(t *testing.T) {
	env := []string{"PATH=/bin", "LSB_JOBID=1", "LSF_ENVDIR=/e", "PBS_JOBID=1", "PBS_SERVER=s", "NCPUS=4", "SGE_ROOT=/r", "SGE_TASK_ID=1", "JOB_ID=1", "PE_HOSTFILE=/p", "QUEUE=q",
		"OMPI_MCA_btl=tcp", "OMPI_MCA_orte_hnp_uri=u", "OMPI_COMM_WORLD_RANK=1", "JSM_NAMESPACE_RANK=1", "MPI_LOCALRANKID=0", "FLUX_URI=x"}
	require.Equal(t, []string{"PATH=/bin", "LSF_ENVDIR=/e", "PBS_SERVER=s", "SGE_ROOT=/r", "OMPI_MCA_btl=tcp"}, BrokerEnviron(env))
	mine := []string{"JOB_ID=mine", "QUEUE=mine", "NCPUS=3"}
	require.Equal(t, mine, BrokerEnviron(mine), "outside of their jobs these are anybody's")
}
