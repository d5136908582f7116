package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Network is hosts h0, h1, … with the addresses 10.77.0.1, .2, … on eth0: network namespaces of this host, each plugged into a bridge in a namespace of its own. Files and
// processes are the same on all of them.
type Network struct {
	Name string // prefix of the namespaces: NAMEh0, …, NAMEhub with the bridge, whose ports are p0, p1, …
	t    *testing.T
}

// NewNetwork makes it, until the end of the test; where that cannot be, the test is skipped, but not in continuous integration. The files of etc, name and content, are
// on its hosts in place of those in /etc, and so is one with the hosts' names.
func NewNetwork(t *testing.T, hosts int, etc map[string]string) *Network {
	Need(t, os.Getuid() == 0, "network namespaces need root")
	Need(t, Has("ip"), "needs ip (Debian's iproute2)")
	n := &Network{Name: fmt.Sprintf("fn%d-", os.Getpid()), t: t}
	out, err := exec.Command("ip", "netns", "add", n.Name+"hub").CombinedOutput()
	Need(t, err == nil, "network namespaces cannot be made here: "+string(out))
	t.Cleanup(n.tearDown)
	n.IP("-n %shub link add br0 type bridge", n.Name)
	n.IP("-n %shub link set br0 up", n.Name)
	names := "127.0.0.1 localhost\n"
	for i := range hosts {
		names += fmt.Sprintf("10.77.0.%d h%d\n", i+1, i)
	}
	for i := range hosts {
		ns := fmt.Sprintf("%sh%d", n.Name, i)
		dir := filepath.Join("/etc/netns", ns) // ip(8) puts what is there over /etc
		require.NoError(t, os.MkdirAll(dir, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "hosts"), []byte(names), 0o644))
		for name, text := range etc {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		}
		n.IP("netns add %s", ns)
		n.IP("-n %shub link add p%d type veth peer name eth0 netns %s", n.Name, i, ns)
		n.IP("-n %shub link set p%d master br0 up", n.Name, i)
		n.IP("-n %s addr add 10.77.0.%d/24 dev eth0", ns, i+1)
		n.IP("-n %s link set eth0 up", ns)
		n.IP("-n %s link set lo up", ns)
	}
	return n
}

// IP runs ip(8).
func (n *Network) IP(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput()
	require.NoError(n.t, err, "ip %s: %s", line, out)
}

// On makes a command that runs on a host, which has its name there.
func (n *Network) On(host int, argv ...string) *exec.Cmd {
	name := fmt.Sprintf("h%d", host)
	return exec.Command("ip", append([]string{"netns", "exec", n.Name + name, "unshare", "-u", "sh", "-c", `hostname "$0"; exec "$@"`, name}, argv...)...)
}

func (n *Network) tearDown() {
	namespaces, _ := filepath.Glob(filepath.Join("/run/netns", n.Name+"*"))
	for _, ns := range namespaces {
		exec.Command("ip", "netns", "del", filepath.Base(ns)).Run()
		os.RemoveAll(filepath.Join("/etc/netns", filepath.Base(ns)))
	}
	os.Remove("/etc/netns") // if it is empty
}

// Has tells whether a program is in PATH.
func Has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// Need skips a test that lacks something; continuous integration has all.
func Need(t *testing.T, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") != "":
		t.Fatal(what)
	default:
		t.Skip("SKIP: " + what)
	}
}
