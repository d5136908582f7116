package proc

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"github.com/frond-hpc/frond/exec/spawner"
	"github.com/frond-hpc/frond/jobspec"
)

func (j *job) shell() *jobspec.ShellOptions { return &j.Spec.Job.Shell }

// dir is the working directory.
func (t *task) dir(d *Driver) string {
	switch cwd := t.job.Spec.Job.Cwd; {
	case cwd == "":
		return d.cfg.RunDir
	case jobspec.HasTag(cwd):
		return d.expand(t, cwd)
	default:
		return cwd
	}
}

// argv is the command of one task.
func (j *job) argv(d *Driver, t *task) []string {
	argv := j.Spec.Job.Command
	if !j.prep.tags {
		return argv
	}
	if j.Params != nil && jobspec.IsArgv(argv) {
		return j.Params
	}
	expanded := make([]string, len(argv))
	for i, a := range argv {
		expanded[i] = d.expand(t, a)
	}
	return expanded
}

// tmpdir is FROND_JOB_TMPDIR: the job's, or that of the slot it has for itself.
func (s *slot) tmpdir(t *task) string {
	if t.job.tmp != "" {
		return t.job.tmp
	}
	return s.tmp
}

// request is what the spawner is asked to do. It is valid until the next one for this slot.
func (s *slot) request(t *task, io *stdio) *spawner.Request {
	j, sh := t.job, t.job.shell()
	s.cpus = t.cpus
	s.env = s.d.taskEnv(s.env[:0], t, s.tmpdir(t))
	r := &spawner.Request{Dir: t.dir(s.d), Argv: j.argv(s.d, t), Env: [][]byte{j.prep.env, s.env}, RLimits: j.prep.rlimits,
		CPUs: t.cpus, Umask: sh.Umask, Nice: sh.Nice}
	r.Self = j.Spec.Job.Instance != nil
	if io != nil {
		r.FDs, r.Files, r.TTY = io.fds, io.files, io.tty
	} else {
		s.fds = [3]spawner.FD{{Target: 0, Source: spawner.Null}, {Target: 1, Source: spawner.SpoolOut}, {Target: 2, Source: spawner.SpoolErr}}
		r.FDs = s.fds[:]
	}
	return r
}

// expand replaces templates in a command or path, with Flux's names and {{index}}, {{array}}, {{cc}} and {{param.N}}.
func (d *Driver) expand(t *task, text string) string {
	return jobspec.Expand(text, func(name string) (string, bool) { return d.lookup(t, name) })
}

func (d *Driver) lookup(t *task, name string) (string, bool) {
	j := t.job
	switch name {
	case "cc":
		return j.CC, j.CC != ""
	case "name":
		return j.Spec.Job.Name, true
	case "nnodes":
		return strconv.Itoa(j.NNodes), true
	case "size", "ntasks":
		return strconv.Itoa(j.NTasks), true
	case "index":
		return strconv.Itoa(j.Index), true
	case "tmpdir":
		if j.tmp == "" && t.slot != nil {
			return t.slot.tmp, true
		}
		return j.tmp, j.tmp != ""
	case "slot": // from 1; of jobs that run on a node at the same time, each has one of its own
		core := t.part.Cores.IDs()
		return strconv.Itoa(append(core, 0)[0] + 1), true
	case "task.id", "task.rank", "taskid":
		return strconv.Itoa(t.rank), true
	case "task.index", "task.localid":
		return strconv.Itoa(t.local), true
	}
	if v, ok := jobspec.Param(j.Params, name); ok {
		return v, true
	}
	if rest, ok := strings.CutPrefix(name, "node."); ok {
		return d.lookupNode(t, rest)
	}
	return j.lookupID(name)
}

func (d *Driver) lookupNode(t *task, name string) (string, bool) {
	switch name {
	case "id":
		return strconv.Itoa(t.part.NodeID), true
	case "name":
		return d.nodeName(t.part.Node), true
	case "broker_rank":
		return strconv.Itoa(int(d.cfg.Rank)), true
	case "cores":
		return t.part.Cores.String(), true
	case "gpus":
		return t.part.GPUs.String(), true
	case "ncores":
		return strconv.Itoa(t.part.Cores.Count()), true
	}
	return "", false
}

// lookupID knows id, jobid and array, also with an encoding: {{id.dec}}.
func (j *job) lookupID(name string) (string, bool) {
	name, encoding, dotted := strings.Cut(name, ".")
	id := j.Ref.Job
	switch {
	case name == "array" && j.Array != 0:
		id = j.Array
	case name != "id" && name != "jobid" && name != "array":
		return "", false
	}
	if !dotted {
		return id.String(), true
	}
	text, err := id.Encode(encoding)
	return text, err == nil
}

// describe words an error as C programs do: "path: No such file or directory".
func describe(err error) string {
	var pe *fs.PathError
	var no syscall.Errno
	switch {
	case errors.As(err, &pe) && errors.As(pe.Err, &no):
		return pe.Path + ": " + capital(no.Error())
	case errors.As(err, &no):
		return capital(no.Error())
	}
	return err.Error()
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
