// Package netns runs an instance over several hosts: network namespaces of this one, with a switch between them.
package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for what must come.
const patience = harness.Patience

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// network is hosts h0, h1 and h2, of which a directory of the test is the same on all.
type network struct {
	*harness.Network
	t       *testing.T
	dir     string
	program string // in place of ssh
}

func setUp(t *testing.T) *network {
	dir, err := os.MkdirTemp("", "fn")
	require.NoError(t, err)
	n := &network{t: t, dir: dir}
	t.Cleanup(func() {
		harness.KillAll(dir)
		os.RemoveAll(dir)
	})
	n.Network = harness.NewNetwork(t, 3, nil)
	return n
}

// frond is `frond start` on h0 with brokers on h1 and h2 and a program for the shell.
func (n *network) frond(options, program string) *exec.Cmd {
	line := fmt.Sprintf("exec ip netns exec %sh0 frond start --hosts h1,h2 --launcher 'exec:ip netns exec %s{host}' %s -- sh ./program", n.Name, n.Name, options)
	require.NoError(n.t, os.WriteFile(filepath.Join(n.dir, "program"), []byte(program), 0o600))
	cmd := exec.Command("timeout", "300", "sh", "-c", line)
	cmd.Env, cmd.Dir = harness.Environ(n.dir), n.dir
	return cmd
}

func (n *network) clean() {
	var left []string
	ok := harness.Until(harness.Patience, func() bool { left = harness.Left(n.dir, n.dir); return len(left) == 0 })
	require.True(n.t, ok, "left behind: %s", strings.Join(left, "\n"))
}

func TestBrokersTalkOverTheNetwork(t *testing.T) {
	n := setUp(t)
	out, err := n.frond("", `frond run -N2 -n2 ip -o -4 addr show eth0; frond resource list -s free`).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "10.77.0.2/24")
	require.Contains(t, string(out), "10.77.0.3/24")
	require.Contains(t, string(out), " h[1-2]")
	n.clean()

	out, err = n.frond("--check --interface eth0 --port-range 7400-7403", "").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for i := 1; i <= 3; i++ {
		require.Contains(t, string(out), fmt.Sprintf("tcp://10.77.0.%d:740", i))
	}
	n.clean()
}

// A cable is pulled: the node is lost. When the cable is back the broker is as well, and its job has ended once.
func TestAPartitionHeals(t *testing.T) {
	n := setUp(t)
	cmd := n.frond("--lease 2s", `
		frond submit --requires=host:h2 sh -c 'sleep 3; echo $FROND_ATTEMPT >>attempts' >job
		echo x >ready
		until frond resource list -s down | grep -q " h2"; do sleep 0.1; done
		echo x >lost
		until frond resource list -s free,allocated | grep -q "h\[1-2\]\|h2"; do sleep 0.1; done
		frond wait $(cat job) && frond run -N2 -n2 echo together`)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	n.await("ready")
	n.IP("-n %shub link set p2 down", n.Name)
	n.await("lost")
	n.IP("-n %shub link set p2 up", n.Name)
	require.NoError(t, cmd.Wait(), "%s", &out)
	require.Equal(t, 2, strings.Count(out.String(), "together"), "%s", &out)
	text, err := os.ReadFile(filepath.Join(n.dir, "attempts"))
	require.NoError(t, err)
	require.Len(t, strings.Fields(string(text)), 1, "it has ended once")
	n.clean()
}

func (n *network) await(file string) {
	there := harness.Until(harness.Patience, func() bool { fi, err := os.Stat(filepath.Join(n.dir, file)); return err == nil && fi.Size() > 0 })
	require.True(n.t, there, "%s is not made", file)
}

// The one who started them is gone: they end, wherever they are.
func TestTheSupervisorsDeathIsKnownElsewhere(t *testing.T) {
	n := setUp(t)
	cmd := n.frond("", "echo x >ready; sleep 1000")
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	n.await("ready")
	pid := harness.Find(n.dir, "frond start ")
	require.NotZero(t, pid)
	harness.Kill(pid)
	var left []harness.Process
	ok := harness.Until(harness.Patience, func() bool {
		left = nil
		for _, p := range harness.Processes(n.dir) {
			if strings.Contains(p.Args, "broker") {
				left = append(left, p)
			}
		}
		return len(left) == 0
	})
	require.True(t, ok, "%v", left)
}
