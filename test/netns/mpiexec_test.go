package netns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

// mpi is three hosts on which mpiexec of MPICH or of Open MPI starts processes by ssh; the line for a shell on h0 may use $MPIEXEC.
func mpi(t *testing.T, maker string) (*network, func(line string) (string, int)) {
	harness.Need(t, harness.Has("mpiexec."+maker), "needs mpiexec."+maker+": scripts/testdeps.sh installs it as root")
	n := setUp(t)
	n.ssh(1, 2)
	require.NoError(t, os.Mkdir(filepath.Join(n.dir, "bin"), 0o755))
	// frond start looks for one of that name; it looks for its own parts where it is
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, "bin", "mpiexec"), []byte("#!/bin/sh\nexec /usr/bin/mpiexec."+maker+" \"$@\"\n"), 0o755))
	env := []string{"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMPI_MCA_plm_rsh_agent=" + n.dir + "/ssh", "HYDRA_LAUNCHER=ssh", "HYDRA_LAUNCHER_EXEC=" + n.dir + "/ssh",
		"MPIEXEC=mpiexec -n 3 -ppn 1 -hosts h0,h1,h2"}
	if maker == "openmpi" {
		env[len(env)-1] = "MPIEXEC=mpiexec -n 3 --host h0,h1,h2 --map-by ppr:1:node --bind-to none -x PATH -x HOME -x FROND_HOME -x FROND_RUNDIR -x FRONDTEST_MARK"
	}
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, "ssh"), []byte("#!/bin/sh\nexec ssh -F "+n.dir+"/client \"$@\"\n"), 0o755))
	return n, func(line string) (string, int) {
		cmd := n.On(0, "timeout", "300", "sh", "-c", "PATH="+n.dir+"/bin:$PATH; "+line)
		cmd.Env, cmd.Dir = append(harness.Environ(n.dir), env...), n.dir
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
}

// Processes that mpiexec has started on three hosts become one instance, and frond start can use mpiexec to reach hosts.
func TestMpiexecOverSeveralHosts(t *testing.T) {
	for _, maker := range []string{"mpich", "openmpi"} {
		t.Run(maker, func(t *testing.T) {
			n, sh := mpi(t, maker)
			out, code := sh("$MPIEXEC frond start sh -c 'echo one leader; frond run -N3 -n3 hostname; frond resource list -s free; exit 5'")
			require.Equal(t, 5, code, out)
			require.Equal(t, 1, strings.Count(out, "one leader"), out)
			for _, h := range []string{"h0", "h1", "h2"} {
				require.Contains(t, out, h+"\n")
			}
			require.Regexp(t, `free +3 .* h\[0-2\]`, out)
			n.clean()

			out, code = sh("frond start --hosts h[0-2] --launcher=mpiexec frond run -N3 -n3 hostname")
			require.Zero(t, code, out)
			require.Contains(t, out, "h2\n")
			n.clean()
		})
	}
}

// Without PMI the processes need a directory that is the same for all: one tells the user what to do.
func TestMpiexecWithoutASharedDirectory(t *testing.T) {
	n, sh := mpi(t, "openmpi")
	out, code := sh(`$MPIEXEC sh -c 'FROND_HOME=$HOME/$(hostname) exec frond start --start-time 3s echo started'`)
	require.NotZero(t, code)
	require.Contains(t, out, "this is process 0 of 3, and not all of them came to the meeting")
	require.Contains(t, out, "number 1, 2 cannot be seen in "+n.dir+"/h0/boot")
	require.Contains(t, out, "is that directory the same on all hosts?")
	require.Contains(t, out, "Ways out: set FROND_HOME")
	require.NotContains(t, out, "started\n")
	n.clean()
}
