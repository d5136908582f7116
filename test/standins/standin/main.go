// Command standin takes the place of commands of schedulers that cannot be had here. It does what their manual pages document and what matters to one who
// starts processes by them: arguments, variables, what of environment, directory and standard input gets through, where output goes, exit codes. "Hosts" are UTS
// namespaces of this host (as root), so that each has its name. Called by the name of the command, in a job that "standin job" made.
//
//	blaunch    "blaunch" in the IBM Spectrum LSF command reference 10.1
//	jsrun      jsrun(1) of IBM Spectrum LSF with CSM (Job Step Manager)
//	pbs_tmrsh  pbs_tmrsh(8B) of OpenPBS
//	pbsdsh     pbsdsh(1B) of OpenPBS
//	qstat      qstat(1B) of OpenPBS: of -f the line exec_host
//	mpiexec    mpiexec(1) of HPE Cray PALS
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// dirVar names the job's directory: its hosts, its environment as it began, its output.
const dirVar = "STANDIN_DIR"

func main() {
	args := os.Args[1:]
	commands := map[string]func([]string) int{"blaunch": blaunch, "jsrun": jsrun, "pbs_tmrsh": pbsTmrsh, "pbsdsh": pbsdsh, "qstat": qstat, "mpiexec": pals, "standin": standin}
	os.Exit(commands[filepath.Base(os.Args[0])](args))
}

func standin(args []string) int {
	switch args[0] {
	case "job":
		return job(args[1], strings.Split(args[2], ","), args[3:])
	case "on":
		return on(args[1], args[2:])
	}
	return 2
}

func fail(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, filepath.Base(os.Args[0])+": "+format+"\n", args...)
	return 255
}

// on is what runs on a host: it has the host's name, and becomes the command.
func on(host string, argv []string) int {
	if os.Getuid() == 0 {
		if err := syscall.Sethostname([]byte(host)); err != nil {
			return fail("set hostname: %v", err)
		}
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return fail("%v", err)
	}
	return fail("%v", syscall.Exec(path, argv, os.Environ()))
}

// place is a command on a host.
func place(host string, argv []string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{"on", host}, argv...)...)
	cmd.Args[0] = "standin"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUTS
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

// job runs a command as the script of a job on hosts with two slots each. Kind csm is LSF with a launch node.
func job(kind string, hosts, argv []string) int {
	dir := os.Getenv(dirVar)
	here, lines := hosts[0], ""
	if kind == "csm" {
		here, lines = "launch1", "launch1\n"
	}
	for _, h := range hosts {
		lines += h + "\n" + h + "\n"
	}
	file := filepath.Join(dir, "hosts")
	env := map[string][]string{
		"lsf": {"LSB_JOBID=17", "LSB_DJOB_HOSTFILE=" + file, "LSB_BATCH_JID=17"},
		"csm": {"LSB_JOBID=17", "LSB_DJOB_HOSTFILE=" + file, "LSB_BATCH_JID=17"},
		"pbs": {"PBS_JOBID=17.server", "PBS_NODEFILE=" + file, "PBS_ENVIRONMENT=PBS_BATCH", "NCPUS=2"},
	}[kind]
	env = append(os.Environ(), env...)
	err := errors.Join(os.WriteFile(file, []byte(lines), 0o644), os.WriteFile(filepath.Join(dir, "environ"), []byte(strings.Join(env, "\x00")), 0o600))
	if err != nil {
		return fail("%v", err)
	}
	cmd := place(here, argv)
	cmd.Env, cmd.Stdin = env, os.Stdin
	return run(cmd)
}

// slots are the job's hosts, one for each slot.
func slots(variable string) []string {
	data, _ := os.ReadFile(os.Getenv(variable))
	return strings.Fields(string(data))
}

// began is the environment with which the job began: what its script has changed since is not known to the scheduler's daemons.
func began() []string {
	data, _ := os.ReadFile(filepath.Join(os.Getenv(dirVar), "environ"))
	return strings.Split(string(data), "\x00")
}

func run(cmds ...*exec.Cmd) int {
	code := 0
	var all sync.WaitGroup
	codes := make([]int, len(cmds))
	for i, cmd := range cmds {
		if err := cmd.Start(); err != nil {
			return fail("%v", err)
		}
		all.Go(func() {
			cmd.Wait()
			codes[i] = cmd.ProcessState.ExitCode()
		})
	}
	all.Wait()
	for _, c := range codes {
		code = max(code, c)
		if c < 0 {
			code = max(code, 128+15)
		}
	}
	return code
}

// blaunch [-n] [-u host_file | -z "host …" | host] command [argument …]. It works only in a job and on its hosts. Whether a change of the
// environment gets through is not documented: here it does not.
func blaunch(args []string) int {
	if os.Getenv("LSB_JOBID") == "" {
		return fail("LSB_JOBID is not set: blaunch works only under LSF")
	}
	var hosts []string
	switch {
	case len(args) > 2 && args[0] == "-z":
		hosts, args = strings.Fields(args[1]), args[2:]
	case len(args) > 1:
		hosts, args = args[:1], args[1:]
	}
	var cmds []*exec.Cmd
	for i, h := range hosts {
		if !slices.Contains(slots("LSB_DJOB_HOSTFILE"), h) {
			return fail("%s: host is not used by the job", h)
		}
		cmd := place(h, args)
		cmd.Env = append(began(), fmt.Sprintf("LSF_PM_TASKID=%d", i+1))
		if len(hosts) == 1 {
			cmd.Stdin = os.Stdin
		}
		cmds = append(cmds, cmd)
	}
	return run(cmds...)
}

// jsrun -n RESOURCE-SETS -r PER-HOST -a TASKS-PER-SET -c CPUS -g GPUS -b BINDING command: tasks on the job's compute nodes, with the environment of jsrun.
func jsrun(args []string) int {
	f := flag.NewFlagSet("jsrun", flag.ExitOnError)
	n, perHost, tasks := f.Int("n", 0, ""), f.Int("r", 0, ""), f.Int("a", 1, "")
	f.String("c", "1", "")
	f.String("g", "0", "")
	f.String("b", "packed:1", "")
	f.Parse(args)
	all := slots("LSB_DJOB_HOSTFILE")
	if len(all) == 0 {
		return fail("Error: it is necessary to initialize JSM")
	}
	hosts := slices.Compact(all[1:]) // without the launch node
	if *n > len(hosts)**perHost {
		return fail("Error: Resource set request cannot be satisfied")
	}
	var cmds []*exec.Cmd
	size := *n * *tasks
	for i := range size {
		cmd := place(hosts[i / *tasks / *perHost], f.Args())
		cmd.Env = append(os.Environ(), ranks(i, size, "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "")...)
		cmd.Env = append(cmd.Env, "PMIX_NAMESPACE=1", "JSM_JSRUN_PMIX_NSPACE=1")
		cmds = append(cmds, cmd)
	}
	cmds[0].Stdin = os.Stdin
	return run(cmds...)
}

// ranks sets variables in pairs: a number and how many there are.
func ranks(i, size int, names ...string) []string {
	var env []string
	for k, name := range names {
		if name != "" {
			env = append(env, name+"="+strconv.Itoa([]int{i, size}[k%2]))
		}
	}
	return env
}

// tm runs a task as PBS's machine-oriented daemon does: in the job's environment as it began and in the home directory, without standard input, with the output in
// the job's file.
func tm(host string, argv []string) int {
	if os.Getenv("PBS_JOBID") == "" {
		return fail("PBS jobid not in environment")
	}
	out, err := os.OpenFile(filepath.Join(os.Getenv(dirVar), "output"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fail("%v", err)
	}
	cmd := place(host, argv)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = began(), out, out, os.Getenv("HOME")
	cmd.SysProcAttr.Pdeathsig = 0 // the task belongs to the daemon
	return run(cmd)
}

// pbs_tmrsh [-n] [-l user] host command [argument …]
func pbsTmrsh(args []string) int {
	if len(args) < 2 {
		return fail("usage: pbs_tmrsh [-n][-l username] host [-n][-l username] command")
	}
	if !slices.Contains(slots("PBS_NODEFILE"), args[0]) {
		return fail("host %q is not a node in job %s", args[0], os.Getenv("PBS_JOBID"))
	}
	return tm(args[0], args[1:])
}

// pbsdsh -n INDEX -- program [argument …], of which INDEX counts lines of PBS_NODEFILE.
func pbsdsh(args []string) int {
	all := slots("PBS_NODEFILE")
	if len(args) < 4 || args[0] != "-n" || args[2] != "--" {
		return fail("usage: pbsdsh [-n nodeindex] -- program [args]")
	}
	i, err := strconv.Atoi(args[1])
	if err != nil || i < 0 || i >= len(all) {
		return fail("only %d nodes available", len(all))
	}
	return tm(all[i], args[3:])
}

// qstat -f JOB
func qstat([]string) int {
	hosts := slices.Compact(slots("PBS_NODEFILE"))
	for i := range hosts {
		hosts[i] += "/0*2"
	}
	fmt.Printf("Job Id: %s\n    job_state = R\n    exec_host = %s\n    Hold_Types = n\n", os.Getenv("PBS_JOBID"), strings.Join(hosts, "+\n\t"))
	return 0
}

// pals is mpiexec -n N --ppn K --hosts H1,H2 --cpu-bind none command: tasks on hosts of the job in turn, with the environment of mpiexec.
func pals(args []string) int {
	f := flag.NewFlagSet("mpiexec", flag.ExitOnError)
	n, ppn, list := f.Int("n", 1, ""), f.Int("ppn", 0, ""), f.String("hosts", "", "")
	f.String("cpu-bind", "", "")
	version := f.Bool("version", false, "")
	f.Parse(args)
	if *version {
		fmt.Println("mpiexec version 1.2.11")
		return 0
	}
	hosts := slices.Compact(slots("PBS_NODEFILE"))
	if *list != "" {
		hosts = strings.Split(*list, ",")
	}
	if *ppn == 0 {
		*ppn = (*n + len(hosts) - 1) / len(hosts)
	}
	var cmds []*exec.Cmd
	for i := range *n {
		node := i / *ppn % len(hosts)
		cmd := place(hosts[node], f.Args())
		cmd.Env = append(os.Environ(), ranks(i, *n, "PALS_RANKID", "", "PMI_RANK", "PMI_SIZE")...)
		cmd.Env = append(cmd.Env, ranks(i%*ppn, *ppn, "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE", "PMI_LOCAL_RANK", "PMI_LOCAL_SIZE")...)
		cmd.Env = append(cmd.Env, fmt.Sprintf("PALS_NODEID=%d", node), fmt.Sprintf("PALS_APID=apid-%d", os.Getpid()))
		cmds = append(cmds, cmd)
	}
	cmds[0].Stdin = os.Stdin
	return run(cmds...)
}
