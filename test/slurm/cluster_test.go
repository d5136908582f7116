// Package slurm runs instances in allocations of a real Slurm: a cluster of four nodes, all on this host, that the tests set up with a munge of
// its own and take down.
package slurm

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// needed are the programs of Debian's slurm-wlm and munge.
var needed = []string{"munged", "slurmctld", "slurmd", "sbatch", "salloc", "srun", "scontrol"}

// cluster is a Slurm of four nodes n0 to n3 with 8 cpus, 4000 MiB and 2 gpus each.
type cluster struct {
	t    *testing.T
	dir  string // run directories, home, work
	etc  string // configuration and state
	env  []string
	down []func()
	pids []int // of the slurmd
}

const confText = `ClusterName=frondtest
SlurmctldHost=%[1]s(127.0.0.1)
SlurmctldPort=%[2]d
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=%[3]s/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=%[3]s/state
SlurmdSpoolDir=%[3]s/state/%%n
SlurmctldPidFile=%[3]s/ctld.pid
SlurmdPidFile=%[3]s/%%n.pid
SlurmctldLogFile=%[3]s/ctld.log
SlurmdLogFile=%[3]s/%%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerParameters=sched_min_interval=10000
MailProg=/bin/true
GresTypes=gpu
SlurmdParameters=config_overrides
%[4]sPartitionName=p Nodes=ALL Default=YES State=UP MaxTime=INFINITE DefMemPerCPU=100
`

// start sets the cluster up; without Slurm, or when this is not root, the test is skipped.
func start(t *testing.T) *cluster {
	for _, name := range needed {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing: scripts/testdeps.sh installs it", name)
			}
			t.Skipf("SKIP: needs %s: scripts/testdeps.sh installs slurm-wlm and munge as root", name)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("SKIP: a Slurm of several nodes on one host needs root")
	}
	dir, err := os.MkdirTemp("", "fs")
	require.NoError(t, err)
	etc, err := os.MkdirTemp("", "fsetc")
	require.NoError(t, err)
	c := &cluster{t: t, dir: dir, etc: etc, env: append(harness.Environ(dir), "SLURM_CONF="+etc+"/slurm.conf")}
	t.Cleanup(c.stop)
	for _, d := range []string{etc, etc + "/munge"} {
		require.NoError(t, os.MkdirAll(d, 0o755))
		require.NoError(t, os.Chmod(d, 0o755)) // munged insists
	}
	require.NoError(t, os.Mkdir(etc+"/state", 0o755))
	c.daemons()
	return c
}

func (c *cluster) daemons() {
	ports := freePorts(c.t, 5)
	var nodes strings.Builder
	host, err := os.Hostname()
	require.NoError(c.t, err)
	for i := range 4 {
		fmt.Fprintf(&nodes, "NodeName=n%d NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=8 Boards=1 Sockets=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=4000 Gres=gpu:2\n", i, host, ports[i+1])
	}
	conf := fmt.Sprintf(confText, host, ports[0], c.etc, nodes.String())
	require.NoError(c.t, os.WriteFile(c.etc+"/slurm.conf", []byte(conf), 0o644))
	gres := fmt.Sprintf("NodeName=n[0-3] Name=gpu File=%s/gpu[0-1]\n", c.etc) // files that Slurm takes for devices
	require.NoError(c.t, os.WriteFile(c.etc+"/gres.conf", []byte(gres), 0o644))
	for _, name := range []string{"/gpu0", "/gpu1"} {
		require.NoError(c.t, os.WriteFile(c.etc+name, nil, 0o644))
	}
	key := make([]byte, 1024)
	rand.Read(key)
	require.NoError(c.t, os.WriteFile(c.etc+"/munge/key", key, 0o400))
	m := c.etc + "/munge/"
	c.daemon("munged", "--foreground", "--force", "--key-file="+m+"key", "--socket="+m+"socket", "--pid-file="+m+"pid", "--log-file="+m+"log", "--seed-file="+m+"seed")
	require.True(c.t, harness.Until(harness.Patience, func() bool { _, err := os.Stat(m + "socket"); return err == nil }), "munged does not come up")
	c.daemon("slurmctld", "-D")
	for i := range 4 {
		c.pids = append(c.pids, c.daemon("unshare", "-m", "slurmd", "-D", "-N", fmt.Sprintf("n%d", i))) // with mounts of its own
	}
	up := harness.Until(harness.Patience, func() bool { return strings.Count(c.sh("sinfo -h -N -t idle -o %%N"), "n") == 4 })
	require.True(c.t, up, "the nodes do not come up: %s", c.sh("sinfo -N; tail -n 5 %s/*.log", c.etc))
}

// daemon runs a program until the end of the test, or of this process if it is killed.
func (c *cluster) daemon(name string, args ...string) (pid int) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "SLURM_CONF="+c.etc+"/slurm.conf")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	require.NoError(c.t, cmd.Start())
	c.down = append(c.down, func() {
		cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		timer.Stop()
	})
	return cmd.Process.Pid
}

// mount mounts something on a directory or file of one node alone, until the end of the test's part.
func (c *cluster) mount(node int, at, args string) {
	out, code := c.shell(fmt.Sprintf("nsenter -t %d -m mount %s %s", c.pids[node], args, at))
	require.Zero(c.t, code, out)
	c.t.Cleanup(func() { c.sh("nsenter -t %d -m umount %s", c.pids[node], at) })
}

// stop ends all jobs and the daemons.
func (c *cluster) stop() {
	if len(c.down) > 1 {
		c.sh("scancel -f -u root")
		harness.Until(harness.Patience, func() bool { return strings.TrimSpace(c.sh("squeue -h")) == "" })
	}
	for i := len(c.down) - 1; i >= 0; i-- {
		c.down[i]()
	}
	harness.KillAll(c.dir)
	if c.t.Failed() {
		c.t.Logf("Slurm's logs and the test's directory stay in %s and %s", c.etc, c.dir)
		return
	}
	os.RemoveAll(c.etc)
	os.RemoveAll(c.dir)
}

func freePorts(t *testing.T, n int) []int {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// sh runs a line for the shell in the test's directory, and returns what it printed.
func (c *cluster) sh(format string, args ...any) string {
	out, _ := c.shell(fmt.Sprintf(format, args...))
	return out
}

func (c *cluster) shell(line string) (string, int) {
	cmd := exec.Command("timeout", "300", "sh", "-c", line)
	cmd.Env, cmd.Dir = c.env, c.dir
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// batch submits a script with options, and returns the job's id. Its output goes to NAME.out in the test's directory.
func (c *cluster) batch(name, options, script string) string {
	require.NoError(c.t, os.WriteFile(filepath.Join(c.dir, name), []byte("#!/bin/bash\n"+script), 0o755))
	out, code := c.shell(fmt.Sprintf("sbatch --parsable -o %s.out %s %s", name, options, name))
	require.Zero(c.t, code, out)
	return strings.TrimSpace(out)
}

// finish waits until a job has left the queue, and returns its output.
func (c *cluster) finish(name, id string) string {
	over := harness.Until(harness.Patience, func() bool { return strings.TrimSpace(c.sh("squeue -h -j %s 2>/dev/null", id)) == "" })
	require.True(c.t, over, "job %s does not end:\n%s", id, c.output(name))
	return c.output(name)
}

func (c *cluster) output(name string) string {
	text, _ := os.ReadFile(filepath.Join(c.dir, name+".out"))
	return string(text)
}

// await waits for a file that a job makes.
func (c *cluster) await(file string) {
	there := harness.Until(harness.Patience, func() bool { fi, err := os.Stat(filepath.Join(c.dir, file)); return err == nil && fi.Size() > 0 })
	require.True(c.t, there, "%s is not made; %s", file, c.sh("squeue; cat *.out"))
}

// clean tells that no process of an instance and no run directory is left.
func (c *cluster) clean() {
	var left []string
	ok := harness.Until(harness.Patience, func() bool { left = harness.Left(c.dir, c.dir); return len(left) == 0 })
	require.True(c.t, ok, "left behind: %s", strings.Join(left, "\n"))
}
