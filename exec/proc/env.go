package proc

import (
	"bytes"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/exec/spawner"
	"github.com/frond-hpc/frond/jobspec"
	"golang.org/x/sys/unix"
)

// prepared is what is the same for all runs of a spec.
type prepared struct {
	env      []byte   // entries, each ended by NUL, without those that each task gets of its own
	tags     bool     // the command holds templates
	size     int      // bytes of environment and command
	params   []string // tags {{param.N}} of the command and of file names, each time one is there
	expand   []string // names of variables whose values are templates
	plain    bool     // no file for any stream, buffered, and small enough to be sent in one write
	rlimits  []spawner.RLimit
	cudaSeen bool // CUDA_DEVICE_ORDER is the user's own
	ompSeen  bool // OMP_NUM_THREADS, too
}

// maxPlain bounds what is sent to a spawner on the service's turn: a socket takes this without waiting.
const maxPlain = 64 << 10

func (d *Driver) prepare(spec *exec.Spec) *prepared {
	if p, ok := spec.Prepared.(*prepared); ok {
		return p
	}
	js := spec.Job
	p := &prepared{env: inPath(baseEnv(spec, d.cfg.KeepEnv), d.cfg.PathDir), rlimits: rlimits(js.Shell.RLimit), expand: slices.Sorted(maps.Keys(js.Shell.EnvExpand))}
	size := len(p.env)
	for _, a := range js.Command {
		p.tags = p.tags || jobspec.HasTag(a)
		size += len(a)
	}
	sh := &js.Shell
	p.plain = sh.Stdin == "" && sh.Stdout.Path == "" && sh.Stderr.Path == "" && !sh.Unbuffered && sh.PTY.Ranks == "" && len(js.Files) == 0 && !jobspec.HasTag(js.Cwd) && size < maxPlain
	p.cudaSeen, p.ompSeen = p.has("CUDA_DEVICE_ORDER="), p.has("OMP_NUM_THREADS=")
	p.size = size
	texts := append([]string{sh.Stdin, sh.Stdout.Path, sh.Stderr.Path}, js.Command...)
	p.params = paramTags(slices.AppendSeq(texts, maps.Values(sh.EnvExpand)))
	p.ompSeen = p.ompSeen || slices.Contains(p.expand, "OMP_NUM_THREADS")
	spec.Prepared = p
	return p
}

// has tells whether the environment has an entry that begins with name.
func (p *prepared) has(name string) bool {
	return bytes.HasPrefix(p.env, []byte(name)) || bytes.Contains(p.env, []byte("\x00"+name))
}

// paramTags lists the tags {{param.N}} in texts.
func paramTags(texts []string) (names []string) {
	for _, text := range texts {
		jobspec.Expand(text, func(name string) (string, bool) {
			if strings.HasPrefix(name, "param.") {
				names = append(names, name)
			}
			return "", false
		})
	}
	return names
}

// Variables that do not reach a task from the submitter's environment: those that each task gets of its own, the
// instance's secrets, and what outer launchers set for their own steps.
var (
	droppedNames    = []string{"FROND_URI", "FROND_ATTEMPT", "FROND_NODELIST", "FROND_CORES", "FROND_OUTER_JOBID", "FROND_STATUS", "FROND_RESULT", "FROND_EXIT_CODE", "FROND_FAILED", "FROND_FINISHED_ID", "CUDA_VISIBLE_DEVICES", "FLUX_JOB_ID", "FLUX_JOB_ID_PATH", "FLUX_JOB_SIZE", "FLUX_JOB_NNODES", "FLUX_JOB_TMPDIR", "FLUX_JOB_CC", "FLUX_TASK_RANK", "FLUX_TASK_LOCAL_ID", "FLUX_KVS_NAMESPACE", "FLUX_PMI_LIBRARY_PATH", "I_MPI_PMI_LIBRARY", "NOTIFY_SOCKET"}
	droppedPrefixes = []string{"FROND_JOB_", "FROND_TASK_", "FROND_ARRAY_", "FROND_CERT", "FROND_PMI", "FROND_BOOT", "PMI_", "PMIX_", "PALS_", "JSM_", "OMPI_COMM_WORLD_", "OMPI_MCA_ess", "OMPI_MCA_orte_", "OMPI_MCA_pmix"}
	outerPrefixes   = []string{"SLURM_", "SLURMD_", "LSB_", "PBS_", "SGE_"} // of schedulers
	keptNames       = []string{"SLURM_CONF", "PBS_CONF_FILE", "PBS_EXEC", "PBS_DEFAULT", "PBS_SERVER", "SGE_ROOT", "SGE_CELL", "SGE_CLUSTER_NAME", "SGE_QMASTER_PORT", "SGE_EXECD_PORT", "SGE_ARCH"}
	// Grid Engine's variables with names that could be anybody's: it has set them if sgeMark is there.
	sgeNames = []string{"JOB_ID", "JOB_NAME", "JOB_SCRIPT", "PE", "PE_HOSTFILE", "NSLOTS", "NHOSTS", "NQUEUES", "QUEUE", "REQUEST", "REQNAME", "RESTARTED", "ENVIRONMENT", "ARC"}
)

const sgeMark = "\x00SGE_JOB_SPOOL_DIR="

func dropped(name string, gpusOff, keepOuter bool) bool {
	if slices.Contains(keptNames, name) || gpusOff && name == "CUDA_VISIBLE_DEVICES" {
		return false
	}
	begins := func(p string) bool { return strings.HasPrefix(name, p) }
	return slices.ContainsFunc(droppedPrefixes, begins) || !keepOuter && slices.ContainsFunc(outerPrefixes, begins) || slices.Contains(droppedNames, name)
}

// inPath puts dir first in the PATH of an environment.
func inPath(env []byte, dir string) []byte {
	if dir == "" {
		return env
	}
	name := []byte("PATH=")
	at := 0
	if !bytes.HasPrefix(env, name) {
		if at = bytes.Index(env, []byte("\x00PATH=")) + 1; at == 0 {
			return append(env, "PATH="+dir+":/usr/local/bin:/usr/bin:/bin\x00"...)
		}
	}
	return slices.Insert(env, at+len(name), []byte(dir+":")...)
}

// baseEnv is the job's environment without what does not reach a task.
func baseEnv(spec *exec.Spec, keepOuter bool) []byte {
	js := spec.Job
	off := js.Shell.GPUAffinity == "off"
	out := make([]byte, 0, len(spec.Env)+64)
	sge := !keepOuter && strings.Contains("\x00"+string(spec.Env), sgeMark)
	keep := func(name, entry string) {
		if !dropped(name, off, keepOuter) && !(sge && slices.Contains(sgeNames, name)) && !slices.Contains(js.EnvUnset, name) {
			out = append(append(out, entry...), 0)
		}
	}
	for entry := range strings.SplitSeq(string(spec.Env), "\x00") {
		name, _, ok := strings.Cut(entry, "=")
		_, over := js.Environment[name]
		_, own := js.Shell.EnvExpand[name]
		if ok && name != "" && !over && !own {
			keep(name, entry)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(js.Environment)) {
		keep(name, name+"="+js.Environment[name])
	}
	return out
}

// taskEnv appends the entries of one task.
func (d *Driver) taskEnv(b []byte, t *task, tmp string) []byte {
	j := t.job
	id := j.Ref.Job.String()
	str := func(name, value string) { b = append(append(append(append(b, name...), '='), value...), 0) }
	num := func(name string, value int) {
		b = append(strconv.AppendInt(append(append(b, name...), '='), int64(value), 10), 0)
	}
	if d.cfg.TaskURI != "" && j.Spec.Job.Instance == nil {
		str("FROND_URI", d.cfg.TaskURI)
	} else {
		str("FROND_URI", d.cfg.URI)
	}
	str("FROND_JOB_ID", id)
	str("FROND_JOB_ID_PATH", d.cfg.JobPath+"/"+id)
	num("FROND_JOB_SIZE", j.NTasks)
	num("FROND_JOB_NNODES", j.NNodes)
	str("FROND_JOB_TMPDIR", tmp)
	if j.CC != "" && !j.BCC {
		str("FROND_JOB_CC", j.CC)
	}
	num("FROND_ATTEMPT", int(j.Ref.Attempt))
	if j.Array != 0 {
		str("FROND_ARRAY_ID", j.Array.String())
		num("FROND_ARRAY_INDEX", j.Index)
		num("FROND_ARRAY_SIZE", j.Size)
	}
	num("FROND_TASK_RANK", t.rank)
	num("FROND_TASK_LOCAL_ID", t.local)
	str("FROND_NODELIST", j.Nodelist)
	str("FROND_CORES", t.part.Cores.String())
	if j.shell().GPUAffinity != "off" {
		str("CUDA_VISIBLE_DEVICES", t.gpus())
		if !j.prep.cudaSeen {
			str("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
		}
	}
	if !j.prep.ompSeen && !slices.Contains(j.Spec.Job.EnvUnset, "OMP_NUM_THREADS") {
		num("OMP_NUM_THREADS", max(1, t.part.Cores.Count()/t.part.NTasks))
	}
	if t.pmi != nil {
		num("PMI_FD", pmiFD)
		num("PMI_RANK", t.rank)
		num("PMI_SIZE", j.NTasks)
	}
	for _, e := range j.Vars {
		b = append(append(b, e...), 0)
	}
	for _, name := range j.prep.expand {
		str(name, d.expand(t, j.shell().EnvExpand[name]))
	}
	if j.Spec.Job.Instance != nil {
		str(ChildEnv, filepath.Join(tmp, bootFile))
	}
	for _, e := range d.cfg.Env {
		b = append(append(b, e...), 0)
	}
	return b
}

// gpus is the value of CUDA_VISIBLE_DEVICES: -1 hides them all.
func (t *task) gpus() string {
	ids := t.part.GPUs.IDs()
	if len(ids) == 0 {
		return "-1"
	}
	if mapped := mapped(t.job.shell().GPUAffinity, t.local); mapped != nil {
		ids = mapped
	} else if t.job.shell().GPUAffinity == "per-task" {
		ids = share(ids, t.local, t.part.NTasks)
	}
	var b []byte
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(id), 10)
	}
	return string(b)
}

// share is the k-th of n contiguous parts of ids, with at least one.
func share(ids []int, k, n int) []int {
	lo := k * len(ids) / n
	return ids[lo:max((k+1)*len(ids)/n, lo+1)]
}

// mapped is what an affinity map:IDS;IDS… gives to the k-th task of a node; nil = nothing.
func mapped(how string, k int) []int {
	if !strings.HasPrefix(how, "map:") {
		return nil
	}
	sets, err := jobspec.AffinityMap(how)
	if err != nil || k >= len(sets) {
		return nil
	}
	return slices.Collect(sets[k].All())
}

// cpus are the machine cpus that a task is bound to; none = no binding.
func (d *Driver) cpus(t *task) []int {
	node := d.nodes[t.part.Node]
	how := t.job.shell().CPUAffinity
	if mapped := mapped(how, t.local); mapped != nil {
		return mapped
	}
	if node == nil || node.CPUs == nil || how == "off" {
		return nil
	}
	var cpus []int
	place := 0
	node.Cores.Each(func(id int) {
		if t.part.Cores.Has(id) && place < len(node.CPUs) {
			cpus = append(cpus, node.CPUs[place])
		}
		place++
	})
	if how == "per-task" && len(cpus) > 0 {
		cpus = share(cpus, t.local, t.part.NTasks)
	}
	return cpus
}

var rlimitNumbers = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
	"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE,
	"nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
	"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

func rlimits(m map[string]int64) []spawner.RLimit {
	var list []spawner.RLimit
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if n, ok := rlimitNumbers[name]; ok {
			list = append(list, spawner.RLimit{Resource: n, Value: uint64(m[name])}) // -1 is unlimited
		}
	}
	return list
}
