package script

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

// TestRealSSH reaches an instance through a real sshd on loopback.
func TestRealSSH(t *testing.T) {
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("no /usr/sbin/sshd here (Debian: openssh-server)")
	}
	dir, err := os.MkdirTemp("", "fr")
	require.NoError(t, err)
	t.Cleanup(func() { harness.KillAll(dir); os.RemoveAll(dir) })
	port := startSSHD(t, sshd, dir)
	env := append(harness.Environ(dir), "FROND_SSH=ssh -F "+filepath.Join(dir, "client"))
	frond := func(args ...string) (string, error) {
		cmd := exec.Command(filepath.Join(harness.BinDir(), "frond"), args...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	out, err := frond("start", "--detach", "--name", "far")
	require.NoError(t, err, out)
	_, uri, _ := strings.Cut(out, " local://")
	me, err := user.Current()
	require.NoError(t, err)
	remote := fmt.Sprintf("ssh://%s@127.0.0.1:%d%s", me.Username, port, uri)

	out, err = frond("--instance", remote, "run", "sh", "-c", "echo through; exit 7")
	require.Equal(t, "through", out)
	require.ErrorContains(t, err, "exit status 7")
	out, err = frond("--instance", remote+"x", "jobs")
	require.Error(t, err)
	require.Contains(t, out, "no way to the instance")
	out, err = frond("shutdown", "far")
	require.NoError(t, err, out)
}

// startSSHD runs an sshd of our own with a key of our own, and returns its port.
func startSSHD(t *testing.T, sshd, dir string) int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	for _, key := range []string{"host", "user"} {
		out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	files := map[string]string{
		"server": fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n", port, dir, dir),
		"client": fmt.Sprintf("IdentityFile %s/user\nIdentitiesOnly yes\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nBatchMode yes\n", dir),
	}
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	if os.Getuid() == 0 {
		require.NoError(t, os.MkdirAll("/run/sshd", 0o755)) // where sshd separates its privileges
	}
	cmd := exec.Command(sshd, "-D", "-e", "-f", filepath.Join(dir, "server"))
	cmd.Env = harness.Environ(dir)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	require.True(t, harness.Until(patience, func() bool {
		nc, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			nc.Close()
		}
		return err == nil
	}), "sshd does not listen")
	return port
}
