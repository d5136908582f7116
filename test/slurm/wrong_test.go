package slurm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

// What goes wrong, and is said. Each slurmd has mounts of its own, so that nodes can differ.

// unshared: no directory but that of the program is on all nodes.
func unshared(t *testing.T, c *cluster) {
	private := filepath.Join(c.dir, "private")
	require.NoError(t, os.Mkdir(private, 0o755))
	for i := range 4 {
		c.mount(i, private, "-t tmpfs none")
	}
	out := c.finish("unshared", c.batch("unshared", "--no-kill -N4 -n4", `
		export HOME=$PWD/private FROND_HOME=$PWD/private/home FROND_RUNDIR=$PWD/private TMPDIR=$PWD/private
		mkdir private/work && cd private/work
		frond start sh -c 'frond run -N4 -n4 pwd; cd / && frond run -N4 -n4 echo hello'`))
	require.Equal(t, 4, strings.Count(out, "hello"), out)
	require.Regexp(t, `task [1-3] \(host n[1-3]\): start failed: working directory .*/private/work: No such file or directory`, out)
}

// missing: the program is not on one of the nodes. It is told at once.
func missing(t *testing.T, c *cluster) {
	require.NoError(t, os.Mkdir(filepath.Join(c.dir, "nothing"), 0o755))
	c.mount(2, harness.BinDir(), "--bind "+filepath.Join(c.dir, "nothing"))
	began := time.Now()
	out := c.finish("missing", c.batch("missing", "--no-kill -N4 -n4", "frond start echo started; echo code $?; frond start --min-nodes 3 frond resource list"))
	require.Less(t, time.Since(began), 100*time.Second) // brokers on other hosts are given up after 120 s
	require.Regexp(t, `broker 2 did not start: node n2: no broker there has reported in; the launcher says:`, out)
	require.Contains(t, out, "execve(): "+filepath.Join(harness.BinDir(), "frond")+": No such file or directory")
	require.Contains(t, out, "code 1")
	require.NotContains(t, out, "started")
	require.Contains(t, out, "going on without it (--min-nodes 3)")
	require.Contains(t, out, " n[0-1,3]")
}

// old: one node has a Frond with which this one cannot talk.
func old(t *testing.T, c *cluster) {
	bin := filepath.Join(c.dir, "oldfrond")
	text, err := os.ReadFile("../../overlay/wire/wire.go")
	require.NoError(t, err)
	changed := strings.Replace(string(text), "const Protocol = ", "const Protocol = 9", 1)
	require.NotEqual(t, string(text), changed)
	wire, err := filepath.Abs("../../overlay/wire/wire.go")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(bin+".go", []byte(changed), 0o644))
	require.NoError(t, os.WriteFile(bin+".json", []byte(`{"Replace":{"`+wire+`":"`+bin+`.go"}}`), 0o644))
	built, err := exec.Command("go", "build", "-trimpath", "-overlay", bin+".json", "-o", bin, "github.com/frond-hpc/frond/cmd/frond").CombinedOutput()
	require.NoError(t, err, "%s", built)
	c.mount(2, filepath.Join(harness.BinDir(), "frond"), "--bind "+bin)
	out := c.finish("old", c.batch("old", "--no-kill -N4 -n4", "frond start echo started; echo code $?"))
	require.Regexp(t, `broker 2 did not start: node n2: frond .* on host .* speaks protocol 9[0-9]*, but frond .* here speaks protocol [0-9]+: install the same version on both\ncode 1`, out)
	require.NotContains(t, out, "started")
}

// swapCert stands before srun: it keeps the certificate of the first instance whose brokers it starts, and gives it to the brokers of the next.
const swapCert = `#!/bin/sh
ticket() { t=$(printf %s "$FROND_BOOT" | tr _- /+); while [ $((${#t} % 4)) != 0 ]; do t="$t="; done; printf %s "$t" | base64 -d; }
if [ -s other-cert ]; then
	FROND_BOOT=$(ticket | jq -c --rawfile c other-cert '.cert=$c' | base64 -w 0 | tr /+ _- | tr -d =)
elif [ "$FROND_BOOT" ]; then
	ticket | jq -j .cert >other-cert
fi
exec $REAL_SRUN "$@"
`

// stranger: a broker has the certificate of another instance.
func stranger(t *testing.T, c *cluster) {
	require.NoError(t, os.Mkdir(filepath.Join(c.dir, "swap"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, "swap/srun"), []byte(swapCert), 0o755))
	out := c.finish("stranger", c.batch("stranger", "--no-kill -N2 -n2", `export REAL_SRUN=$(command -v srun) PATH=$PWD/swap:$PATH
		frond start frond run -N2 -n2 echo mine; frond start echo started; echo code $?`))
	require.Equal(t, 2, strings.Count(out, "mine\n"), out)
	require.Regexp(t, `broker 1 did not start: node n1: no broker there has reported in; the launcher says:(\n  .*)*\n  frond broker: .*the other end does not have this instance's certificate`, out)
	require.Contains(t, out, "code 1")
	require.NotContains(t, out, "started")
}

// noPort: all nodes are this host here, and there are too few ports for five listeners.
func noPort(t *testing.T, c *cluster) {
	out := c.finish("ports", c.batch("ports", "--no-kill -N4 -n4", "frond start --port-range 45811-45813 echo started; echo code $?"))
	require.Regexp(t, `broker [1-3] did not start: node n[1-3]: .*no port of --port-range 45811-45813 is free on this host .*give more ports`, out)
	require.Contains(t, out, "code 1")
	require.NotContains(t, out, "started")
}

// noHome: the home directory is read-only, or full. The instance runs all the same, but a state cannot be kept there.
func noHome(t *testing.T, c *cluster) {
	home := filepath.Join(c.dir, "badhome")
	require.NoError(t, os.Mkdir(home, 0o755))
	script := `export HOME=$PWD/badhome FROND_HOME=; unset FROND_HOME; cat /dev/zero >$HOME/full; cd $HOME
		frond start --name poor frond run echo works; echo code $?; frond start --statedir $HOME/state echo started; echo code $?`
	for name, row := range map[string]struct{ mount, why string }{
		"readonly": {"-t tmpfs -o ro none", "read-only file system"},
		"full":     {"-t tmpfs -o size=64k none", "no space left on device"},
	} {
		t.Run(name, func(t *testing.T) {
			c.t = t
			c.mount(0, home, row.mount)
			out := c.finish(name, c.batch(name, "--no-kill -N1 -n1", script))
			require.Regexp(t, `it will not be found by its name poor: .*`+row.why, out)
			require.Contains(t, out, "works\ncode 0")
			require.Regexp(t, `state.*: `+row.why+`\ncode 1`, out)
			require.NotContains(t, out, "started")
		})
	}
	c.t = t
}
