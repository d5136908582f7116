package netns

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

// sshd runs one on a host, with keys of the test's own, as the test's user.
func (n *network) sshd(host int) *exec.Cmd {
	cmd := n.On(host, "/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(n.dir, "server"))
	cmd.Env = harness.Environ(n.dir)
	log, err := os.Create(filepath.Join(n.dir, fmt.Sprintf("sshd%d.log", host)))
	require.NoError(n.t, err)
	defer log.Close()
	cmd.Stderr = log
	require.NoError(n.t, cmd.Start())
	n.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	up := harness.Until(patience, func() bool {
		return n.On(host, "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/h%d/2222", host)).Run() == nil
	})
	require.True(n.t, up, "sshd does not listen on h%d", host)
	return cmd
}

// ssh sets sshd up on hosts; FROND_SSH of the program's environment goes there.
func (n *network) ssh(hosts ...int) {
	_, err := os.Stat("/usr/sbin/sshd")
	harness.Need(n.t, err == nil, "no /usr/sbin/sshd here: scripts/testdeps.sh installs openssh-server")
	for _, key := range []string{"host", "user"} {
		out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(n.dir, key)).CombinedOutput()
		require.NoError(n.t, err, string(out))
	}
	set := fmt.Sprintf("FROND_HOME=%[1]s/home FROND_RUNDIR=%[1]s %[2]s=%[1]s", n.dir, harness.Mark) // what the test's processes are known by
	for name, text := range map[string]string{
		"server": fmt.Sprintf("Port 2222\nHostKey %[1]s/host\nAuthorizedKeysFile %[1]s/user.pub\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nSetEnv %[2]s\n", n.dir, set),
		"client": fmt.Sprintf("Port 2222\nIdentityFile %s/user\nIdentitiesOnly yes\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n", n.dir),
	} {
		require.NoError(n.t, os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o600))
	}
	require.NoError(n.t, os.MkdirAll("/run/sshd", 0o755)) // where sshd separates its privileges
	for _, h := range hosts {
		n.sshd(h)
	}
}

// start is `frond start` on h0 with its options and command, over ssh.
func (n *network) start(line string) (string, int) {
	cmd := n.On(0, "timeout", "300", "sh", "-c", "frond start "+line)
	cmd.Env, cmd.Dir = append(harness.Environ(n.dir), "FROND_SSH="+cmp.Or(n.program, "ssh -F "+n.dir+"/client")), n.dir
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func TestTheSameWorkBySSH(t *testing.T) {
	n := setUp(t)
	n.ssh(1, 2)
	work, prints, err := harness.Workload(n.dir, "../mpi/testdata/trial.c")
	require.NoError(t, err)
	out, code := n.start("--hosts h[0-2] " + work)
	require.Equal(t, prints, harness.WorkloadPart(out), out)
	require.Equal(t, harness.WorkloadCode, code, out)
	n.clean()

	// a file of hosts; and a chain, in which h1 starts h2
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, "hosts"), []byte("# of the test\nh0 slots=2\nh1:4\nh2\nh2\n"), 0o600))
	out, code = n.start("--hosts ./hosts --fanout 1 sh -c 'frond run -N3 -n3 hostname | sort; frond overlay status'")
	require.Zero(t, code, out)
	require.Contains(t, out, "h0\nh1\nh2\n")
	require.Equal(t, []string{"10.77.0.1", "10.77.0.2"}, n.accepted(2), "h1 has started h2")
	n.clean()

	// h1 cannot reach h2: h0 does it
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, "some"), []byte("[ $(hostname) = h1 ] && { echo no key here >&2; exit 255; }\nexec ssh -F "+n.dir+"/client \"$@\"\n"), 0o600))
	n.program = "sh " + n.dir + "/some"
	out, code = n.start("--hosts h[0-2] --fanout 1 frond run -N3 -n3 hostname")
	require.Zero(t, code, out)
	require.Contains(t, out, "h2\n")
	require.Equal(t, []string{"10.77.0.1", "10.77.0.2", "10.77.0.1"}, n.accepted(2))
	n.clean()
}

// accepted are the addresses from which a host's sshd has taken someone in.
func (n *network) accepted(host int) []string {
	text, err := os.ReadFile(filepath.Join(n.dir, fmt.Sprintf("sshd%d.log", host)))
	require.NoError(n.t, err)
	var from []string
	for _, m := range regexp.MustCompile(`Accepted publickey for \S+ from (\S+)`).FindAllStringSubmatch(string(text), -1) {
		from = append(from, m[1])
	}
	return from
}

// A host whose sshd does not answer is named; those that it should have started are started by another.
func TestAHostThatSSHDoesNotReach(t *testing.T) {
	n := setUp(t)
	n.ssh(2)
	out, code := n.start("--hosts h[0-2] echo started")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "broker 1 did not start: node h1: no broker there has reported in; the launcher says:\n  ssh: connect to host h1 port 2222: Connection refused")
	require.NotContains(t, out, "started\n")
	n.clean()

	out, code = n.start("--hosts h[0-2] --fanout 1 --min-nodes 2 frond run -N2 -n2 hostname")
	require.Zero(t, code, out)
	require.Contains(t, out, "going on without it (--min-nodes 2): broker 1")
	require.Contains(t, out, "h2\n")
	n.clean()
}
