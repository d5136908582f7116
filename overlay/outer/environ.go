package outer

import (
	"strings"
)

// matches tells whether the variable of an entry NAME=value has one of the names, of which those that end in * are prefixes.
func matches(entry string, names []string) bool {
	name, _, _ := strings.Cut(entry, "=")
	for _, n := range names {
		if prefix, ok := strings.CutSuffix(n, "*"); ok && strings.HasPrefix(name, prefix) || name == n {
			return true
		}
	}
	return false
}

// filter returns the entries that match none of drop, or some of keep.
func filter(environ, drop, keep []string) []string {
	var out []string
	for _, entry := range environ {
		if !matches(entry, drop) || matches(entry, keep) {
			out = append(out, entry)
		}
	}
	return out
}

// launchVars are what launchers of parallel programs set for the processes that they start. Settings of the user's for MPI libraries, as OMPI_MCA_btl, are not among them.
var launchVars = []string{"PMI_*", "PMI2_*", "PMIX_*", "PALS_*", "JSM_*", "PRTE_*", "HYDI_*", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "MPIR_CVAR_CH3_INTERFACE_HOSTNAME",
	"MV2_COMM_WORLD_*", "MPISPAWN_*", "MPIRUN_*", "OMPI_COMM_WORLD_*", "OMPI_UNIVERSE_SIZE", "OMPI_APP_CTX_NUM_PROCS", "OMPI_NUM_APP_CTX", "OMPI_FIRST_RANKS", "OMPI_ARGV",
	"OMPI_COMMAND", "OMPI_FILE_LOCATION", "OMPI_MCA_ess*", "OMPI_MCA_orte_*", "OMPI_MCA_shmem*", "OMPI_MCA_pmix*", "OMPI_MCA_initial_wdir", "OMPI_MCA_mpi_oversubscribe",
	"FLUX_TASK_*", "FLUX_JOB_SIZE", "FLUX_JOB_NNODES", "FLUX_KVS_NAMESPACE"}

// jobVars are all variables of outer schedulers that tasks of Frond must not see: they would take themselves for tasks there.
var jobVars = append([]string{"SLURM_*", "SLURMD_*", "SRUN_*", "SBATCH_*", "LSB_*", "LS_*", "LSF_PM_*", "BSUB_*", "PBS_*", "SGE_*", "FLUX_*"}, launchVars...)

// commandVars are those by which commands of outer schedulers find their servers.
var commandVars = []string{"SLURM_CONF", "PBS_CONF_FILE", "PBS_EXEC", "PBS_DEFAULT", "PBS_SERVER", "SGE_ROOT", "SGE_CELL", "SGE_CLUSTER_NAME", "SGE_QMASTER_PORT", "SGE_EXECD_PORT", "SGE_ARCH"}

// sgeVars are Grid Engine's variables with names that could be anybody's: they are its own only in a job of it.
var sgeVars = []string{"JOB_ID", "JOB_NAME", "JOB_SCRIPT", "NSLOTS", "NHOSTS", "NQUEUES", "QUEUE", "REQUEST", "REQNAME", "RESTARTED", "PE", "PE_HOSTFILE", "ENVIRONMENT", "ARC"}

// torqueVars are Torque's and PBS Professional's beside PBS_*.
var torqueVars = []string{"NCPUS"}

// foreign are the variables of outer schedulers in environ.
func foreign(environ []string) []string {
	drop := jobVars
	for _, entry := range environ {
		switch {
		case matches(entry, []string{"SGE_JOB_SPOOL_DIR", "SGE_TASK_ID", "PE_HOSTFILE"}):
			drop = append(drop[:len(drop):len(drop)], sgeVars...)
		case matches(entry, []string{"PBS_JOBID"}):
			drop = append(drop[:len(drop):len(drop)], torqueVars...)
		}
	}
	return drop
}

// BrokerEnviron is the environment for a broker process: without the outer scheduler's variables but those by which its commands find it.
func BrokerEnviron(environ []string) []string { return filter(environ, foreign(environ), commandVars) }

// ProgramEnviron is the environment for the initial program: it may use the outer scheduler's commands, so it keeps what describes the
// job, but nothing of the step that this process is in, if it is in one.
func (a *Allocation) ProgramEnviron(environ []string) []string {
	if a.Where != Step && a.Where != Single {
		return environ
	}
	return WithoutTask(filter(environ, stepVars, nil))
}

// WithoutTask takes out what describes a task of a launcher of parallel programs.
func WithoutTask(environ []string) []string { return filter(environ, launchVars, nil) }
