package main

import (
	"context"
	"crypto/rand"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/parallel"
	"github.com/frond-hpc/frond/resource/idset"
)

// shellRunner submits command lines as arrays: an element's parameters are its argument list, the shell with the line or, where no shell
// is needed, the program itself.
type shellRunner struct {
	shell  string
	direct bool // the shell is one whose rules parallel.Direct knows, and nothing in the environment changes them
	known  map[string]bool
	dir    string
	path   []string
	funcs  map[string]bool // functions that bash gets from the environment

	spec    []byte // of elements without slot
	stepped []byte // of those with one: parameters are the line and the slot
	env     []byte
	watched bool
	follow  func(*parallelChunk) string
}

func newShellRunner(p *parallelPlan, e *env, local bool) (*shellRunner, error) {
	r := &shellRunner{shell: p.o.shell, known: map[string]bool{}, funcs: map[string]bool{}, watched: p.o.ungroup || p.o.lineBuffer}
	r.direct = true
	special := []string{"BASH_ENV", "ENV", "BASHOPTS", "SHELLOPTS", "POSIXLY_CORRECT"}
	for _, name := range special {
		if _, set := e.lookup(name); set {
			r.direct = false
		}
	}
	switch filepath.Base(r.shell) {
	case "bash", "dash", "sh", "ksh", "ash":
	default:
		r.direct = false
	}
	o := &submitOptions{name: p.o.jobName, cwd: p.o.workdir, command: []string{"{{argv}}"}}
	o.setopt = []string{"cpu-affinity=off", "gpu-affinity=off"}
	if p.timeout > 0 {
		o.limit = strconv.FormatFloat(p.timeout.Seconds(), 'f', 3, 64) + "s"
	}
	grace, _ := parseTermSeq(p.o.termSeq)
	o.setopt = append(o.setopt, fmt.Sprintf("kill-timeout=%.3fs", grace.Seconds()))
	if r.dir, _ = o.workdir(); r.dir == "" {
		r.dir = "."
	}
	r.path = filepath.SplitList(e.getenv("PATH"))
	host := ":"
	if !local {
		host = "{{node.name}}"
	}
	vars := func(slot, slot0 string) []string {
		list := []string{"PARALLEL_SEQ={{cc}}", "PARALLEL_JOBSLOT=" + slot, "PARALLEL_SSHHOST=" + host, "PARALLEL_SSHLOGIN=" + host}
		if p.o.slotVar != "" {
			list = append(list, p.o.slotVar+"="+slot0)
		}
		var out []string
		for _, v := range list {
			out = append(out, "system.shell.options.env-expand."+v)
		}
		return out
	}
	var err error
	o.setattr = vars("{{slot}}", "")
	if r.spec, err = buildSpec(o); err != nil {
		return nil, err
	}
	o.command = []string{r.shell, "-c", "{{param.0}}"}
	o.setattr = vars("{{param.1}}", "{{param.2}}")
	if r.stepped, err = buildSpec(o); err != nil {
		return nil, err
	}
	return r, r.environment()
}

func buildSpec(o *submitOptions) ([]byte, error) {
	spec, err := o.spec()
	if err != nil {
		return nil, err
	}
	return jobspec.BuildJSON(spec)
}

// environment is that of all jobs.
func (r *shellRunner) environment() error {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if f, ok := strings.CutPrefix(name, "BASH_FUNC_"); ok {
			r.funcs[strings.TrimSuffix(f, "%%")] = true
		}
	}
	vars, err := applyEnvRules(os.Environ(), []string{"*", "PARALLEL_PID=" + strconv.Itoa(os.Getpid())})
	if err == nil {
		r.env = vars.bytes()
	}
	return err
}

// argv is the argument list that runs a command line.
func (r *shellRunner) argv(line string) []string {
	if r.direct {
		if argv, ok := parallel.Direct(line); ok && !r.funcs[argv[0]] && r.runs(argv[0]) {
			return argv
		}
	}
	return []string{r.shell, "-c", line}
}

// runs tells whether a shell would find and execute a program of this name, without doing anything else: scripts without #! it
// interprets.
func (r *shellRunner) runs(name string) bool {
	ok, known := r.known[name]
	if !known {
		ok = r.find(name)
		r.known[name] = ok
	}
	return ok
}

func (r *shellRunner) find(name string) bool {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(r.dir, name)
		}
		return isProgram(name)
	}
	for _, dir := range r.path {
		if !filepath.IsAbs(dir) {
			return false
		}
		if file := filepath.Join(dir, name); isExecutable(file) {
			return isProgram(file)
		}
	}
	return false
}

func isExecutable(file string) bool {
	_, err := exec.LookPath(file)
	return err == nil
}

// isProgram tells whether a file can be executed by the system itself.
func isProgram(file string) bool {
	if !isExecutable(file) {
		return false
	}
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	n, _ := f.Read(magic[:])
	return string(magic[:n]) == elf.ELFMAG || n >= 2 && string(magic[:2]) == "#!"
}

// submit sends a chunk and returns its id.
func (r *shellRunner) submit(ctx context.Context, c *client.Client, chunk *parallelChunk, step bool) (jobspec.ID, error) {
	item := api.SubmitItem{Spec: r.spec, N: len(chunk.jobs), BCC: true, Urgency: 16, Env: 1, Watched: r.watched, Params: true,
		Follow: r.follow(chunk), Tag: chunk.tag}
	if step {
		item.Spec = r.stepped
	}
	req := api.SubmitReq{Token: rand.Text(), Envs: [][]byte{r.env}}
	var seqs idset.Set
	var lists [][]string
	size, first := 0, 0
	for i, j := range chunk.jobs {
		seqs.Add(j.Seq)
		list := r.params(j, step)
		for _, s := range list {
			size += len(s) + 8
		}
		lists = append(lists, list)
		if i+1 < len(chunk.jobs) && size < maxParamBytes {
			continue
		}
		up := api.ParamsReq{Token: req.Token, First: first, Params: lists}
		if _, err := client.Call(ctx, c, api.Params, up); err != nil {
			return 0, fmt.Errorf("submit job %d: %w", chunk.jobs[first].Seq, err)
		}
		lists, size, first = nil, 0, i+1
	}
	item.CC = seqs.String()
	req.Items = []api.SubmitItem{item}
	rep, err := client.Call(ctx, c, api.Submit, req)
	if err != nil {
		return 0, err
	}
	if len(rep.IDs) != 1 {
		return 0, errors.New("the instance did not answer with an id")
	}
	return rep.IDs[0], nil
}

// maxParamBytes bounds one message of parameters.
const maxParamBytes = 8 << 20

// params is the list of parameters of a job.
func (r *shellRunner) params(j *parallelJob, step bool) []string {
	if step {
		return []string{j.command, strconv.Itoa(j.Slot), strconv.Itoa(j.Slot - 1)}
	}
	return r.argv(j.command)
}

// parseTermSeq reads --term-seq: how long a job has between the first TERM and the KILL.
func parseTermSeq(s string) (time.Duration, error) {
	bad := fmt.Errorf("--term-seq %q: must be TERM,MILLISECONDS and so on, with KILL at the end", s)
	f := strings.Split(s, ",")
	if f[0] != "TERM" && f[0] != "KILL" {
		return 0, bad
	}
	total := time.Duration(0)
	for i := 0; i < len(f); i += 2 {
		if f[i] == "KILL" {
			return total, nil
		}
		if f[i] != "TERM" || i+1 >= len(f) {
			return 0, bad
		}
		ms, err := strconv.Atoi(f[i+1])
		if err != nil || ms < 0 {
			return 0, bad
		}
		total += time.Duration(ms) * time.Millisecond
	}
	return 0, bad
}
