// Package sge runs instances in jobs of a real Grid Engine: a cluster of three hosts, which are network and UTS namespaces of this one, that the tests set
// up and take down.
package sge

import (
	"fmt"
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

// Where Debian's gridengine-* put things.
const (
	lib   = "/usr/lib/gridengine"
	share = "/usr/share/gridengine"
)

// user is a number that nobody has: jobs run as an ordinary user, who exists on the cluster's hosts only.
const user = 54321

// cluster is a Grid Engine of hosts h0 (with the qmaster), h1 and h2, with two slots each, and parallel environments "tight" and "loose".
type cluster struct {
	t    *testing.T
	net  *harness.Network
	root string   // SGE_ROOT
	dir  string   // the user's home, run directories, work
	env  []string // of the user
	sge  []string // of commands of Grid Engine
	down []func()
}

func start(t *testing.T) *cluster {
	harness.Need(t, os.Getuid() == 0, "a Grid Engine of several hosts on one needs root")
	for _, f := range []string{lib + "/sge_qmaster", lib + "/sge_execd", lib + "/qrsh"} {
		_, err := os.Stat(f)
		harness.Need(t, err == nil, f+" is missing: scripts/testdeps.sh installs gridengine-master, gridengine-exec and gridengine-client")
	}
	root, err := os.MkdirTemp("", "fge")
	require.NoError(t, err)
	c := &cluster{t: t, root: root, dir: root + "/u"}
	t.Cleanup(c.stop)
	etc := map[string]string{}
	for name, line := range map[string]string{"passwd": fmt.Sprintf("frondtest:x:%d:%d::%s:/bin/sh\n", user, user, c.dir), "group": fmt.Sprintf("frondtest:x:%d:\n", user)} {
		text, err := os.ReadFile("/etc/" + name)
		require.NoError(t, err)
		etc[name] = string(text) + line
	}
	c.net = harness.NewNetwork(t, 3, etc)
	require.NoError(t, os.Chmod(root, 0o755))
	for _, d := range []string{"default/common", "qmaster/job_scripts", "execd", "u", "frond"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	require.NoError(t, os.Chown(c.dir, user, user))
	require.NoError(t, exec.Command("cp", filepath.Join(harness.BinDir(), "frond"), root+"/frond/frond").Run()) // where it was built only root comes
	for _, l := range []string{"bin", "lib", "util", "utilbin"} {
		require.NoError(t, os.Symlink("/var/lib/gridengine/"+l, filepath.Join(root, l)))
	}
	c.sge = []string{"SGE_ROOT=" + root, "SGE_CELL=default", "SGE_QMASTER_PORT=6444", "SGE_EXECD_PORT=6445", "SGE_ND=1"} // ports of hosts of their own
	for _, kv := range harness.Environ(c.dir) {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			kv = "PATH=" + root + "/frond:" + lib + ":" + path
		}
		c.env = append(c.env, kv)
	}
	c.env = append(c.env, c.sge...)
	c.daemons()
	return c
}

const bootstrapText = `Version: 6.2
admin_user none
default_domain none
ignore_fqdn false
spooling_method classic
spooling_lib libspoolc
spooling_params %[1]s/default/common;%[1]s/qmaster
binary_path /usr/lib/gridengine
qmaster_spool_dir %[1]s/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
`

func (c *cluster) write(name, text string) string {
	path := filepath.Join(c.root, name)
	require.NoError(c.t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// daemons sets up an empty cell as init_cluster of Debian does, starts the daemons and describes the cluster to them.
func (c *cluster) daemons() {
	common := c.root + "/default/common"
	c.write("default/common/bootstrap", fmt.Sprintf(bootstrapText, c.root))
	c.write("default/common/act_qmaster", "h0\n")
	text, err := os.ReadFile(share + "/default-configuration")
	require.NoError(c.t, err)
	conf := c.write("global", strings.NewReplacer("/var/spool/gridengine/execd", c.root+"/execd", "00:00:40", "00:00:02", "posix_compliant", "unix_behavior").Replace(string(text)))
	c.admin("spoolinit", "classic", "libspoolc", common+";"+c.root+"/qmaster", "init")
	c.admin("spooldefaults", "configuration", conf)
	c.admin("spooldefaults", "complexes", share+"/util/resources/centry")
	c.admin("spooldefaults", "usersets", share+"/util/resources/usersets")
	c.admin("spooldefaults", "managers", "root")
	c.daemon(0, "sge_qmaster")
	require.True(c.t, harness.Until(harness.Patience, func() bool { _, code := c.try("qconf", "-sh"); return code == 0 }), "the qmaster does not come up")
	sched := c.admin("qconf", "-ssconf")
	for _, name := range []string{"schedule_interval", "flush_submit_sec", "flush_finish_sec"} {
		sched = replaceLine(sched, name, map[bool]string{true: "0:0:1", false: "1"}[name == "schedule_interval"])
	}
	c.admin("qconf", "-Msconf", c.write("sched", sched))
	for i := range 3 {
		host := fmt.Sprintf("h%d", i)
		c.try("qconf", "-ah", host) // h0 is one already
		c.admin("qconf", "-as", host)
		c.admin("qconf", "-Ae", c.write(host, "hostname "+host+hostText))
	}
	for name, control := range map[string]string{"tight": "TRUE", "loose": "FALSE"} {
		c.admin("qconf", "-Ap", c.write(name, fmt.Sprintf(peText, name, control)))
	}
	c.admin("qconf", "-Ahgrp", c.write("group", "group_name @allhosts\nhostlist h0 h1 h2\n"))
	queue, err := os.ReadFile("testdata/queue")
	require.NoError(c.t, err)
	c.admin("qconf", "-Aq", c.write("queue", string(queue)))
	for i := range 3 {
		c.daemon(i, "sge_execd")
	}
	var out string
	up := harness.Until(harness.Patience, func() bool { out, _ = c.try("qhost"); return strings.Count(out, "lx-") == 3 })
	require.True(c.t, up, "the hosts do not come up: %s", out)
}

const (
	hostText = "\nload_scaling NONE\ncomplex_values NONE\nuser_lists NONE\nxuser_lists NONE\nprojects NONE\nxprojects NONE\nusage_scaling NONE\nreport_variables NONE\n"
	peText   = "pe_name %s\nslots 100\nuser_lists NONE\nxuser_lists NONE\nstart_proc_args NONE\nstop_proc_args NONE\nallocation_rule 2\ncontrol_slaves %s\njob_is_first_task FALSE\n" +
		"urgency_slots min\naccounting_summary FALSE\nqsort_args NONE\n"
)

// replaceLine gives the line that begins with name another value.
func replaceLine(text, name, value string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, name+" ") {
			lines[i] = name + " " + value
		}
	}
	return strings.Join(lines, "\n")
}

// try runs a command of Grid Engine as root on h0.
func (c *cluster) try(name string, args ...string) (string, int) {
	cmd := c.net.On(0, append([]string{"timeout", "120", filepath.Join(lib, name)}, args...)...)
	cmd.Env = append(os.Environ(), c.sge...)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func (c *cluster) admin(name string, args ...string) string {
	out, code := c.try(name, args...)
	require.Zero(c.t, code, "%s %v: %s", name, args, out)
	return out
}

// daemon runs a program on a host until the end of the test.
func (c *cluster) daemon(host int, name string) {
	cmd := c.net.On(host, filepath.Join(lib, name))
	cmd.Env = append(os.Environ(), c.sge...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM} // also if this process is killed
	require.NoError(c.t, cmd.Start())
	c.down = append(c.down, func() {
		cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(3*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		timer.Stop()
	})
}

func (c *cluster) stop() {
	harness.KillAll(c.dir)
	for i := len(c.down) - 1; i >= 0; i-- {
		c.down[i]()
	}
	if c.t.Failed() {
		c.t.Logf("Grid Engine's files and the test's directory stay in %s", c.root)
		return
	}
	os.RemoveAll(c.root)
}

// shell runs a line for the shell on h0 as the user.
func (c *cluster) shell(line string) (string, int) {
	id := fmt.Sprint(user)
	cmd := c.net.On(0, "setpriv", "--reuid", id, "--regid", id, "--clear-groups", "timeout", "300", "sh", "-c", line)
	cmd.Env, cmd.Dir = c.env, c.dir
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// submit gives a script to qsub, with options; its output goes to NAME.out. It returns the job's id.
func (c *cluster) submit(name, options, script string) string {
	require.NoError(c.t, os.WriteFile(filepath.Join(c.dir, name), []byte("#!/bin/sh\n"+script), 0o755))
	out, code := c.shell(fmt.Sprintf("qsub -terse -cwd -V -j y -o %s.out %s %s", name, options, name))
	require.Zero(c.t, code, out)
	return strings.TrimSpace(out)
}

// finish waits until a job has left the queue, and returns its output.
func (c *cluster) finish(name, id string) string {
	over := harness.Until(harness.Patience, func() bool {
		out, code := c.try("qstat", "-j", id)
		return code != 0 && strings.Contains(out, "not exist")
	})
	text, _ := os.ReadFile(filepath.Join(c.dir, name+".out"))
	require.True(c.t, over, "job %s does not end:\n%s", id, text)
	return string(text)
}

// clean tells that no process of an instance and no run directory is left.
func (c *cluster) clean() {
	var left []string
	ok := harness.Until(harness.Patience, func() bool { left = harness.Left(c.dir, c.dir); return len(left) == 0 })
	require.True(c.t, ok, "left behind: %s", strings.Join(left, "\n"))
}
