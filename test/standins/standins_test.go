// Package standins starts instances in made-up jobs of schedulers that cannot be had here: their commands are stand-ins (standin/main.go).
package standins

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

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// site is a directory with stand-ins for some commands, first in PATH.
type site struct {
	t   *testing.T
	dir string
	env []string
}

func newSite(t *testing.T, commands ...string) *site {
	dir, err := os.MkdirTemp("", "fst")
	require.NoError(t, err)
	s := &site{t: t, dir: dir}
	t.Cleanup(func() {
		harness.KillAll(dir)
		os.RemoveAll(dir)
	})
	bin := filepath.Join(dir, "bin")
	require.NoError(t, os.Mkdir(bin, 0o755))
	out, err := exec.Command("go", "build", "-o", filepath.Join(bin, "standin"), "./standin").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, c := range commands {
		require.NoError(t, os.Symlink("standin", filepath.Join(bin, c)))
	}
	s.env = append(harness.Environ(dir), "STANDIN_DIR="+dir)
	for i, kv := range s.env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			s.env[i] = "PATH=" + bin + ":" + path
		}
	}
	return s
}

// job runs a line for the shell as the script of a job on hosts h1, h2 and h3.
func (s *site) job(kind, line string) (string, int) {
	cmd := exec.Command("timeout", "60", filepath.Join(s.dir, "bin", "standin"), "job", kind, "h1,h2,h3", "sh", "-c", line)
	cmd.Env, cmd.Dir = s.env, s.dir
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func (s *site) clean() {
	var left []string
	ok := harness.Until(15*time.Second, func() bool { left = harness.Left(s.dir, s.dir); return len(left) == 0 })
	require.True(s.t, ok, "left behind: %s", strings.Join(left, "\n"))
	files, _ := filepath.Glob(filepath.Join(s.dir, "home", "boot", "*"))
	require.Empty(s.t, files, "tickets")
}

// The same work, by the same line, in the jobs of all of them.
func TestTheSameWorkEverywhere(t *testing.T) {
	for name, row := range map[string]struct {
		kind     string
		commands []string
		says     string // of --dry-run
		size     string
	}{
		"this host alone":                {"none", nil, "in no allocation", ""},
		"LSF":                            {"lsf", []string{"blaunch"}, "blaunch -z 'h2 h3' ", "3"},
		"LSF with CSM":                   {"csm", []string{"jsrun", "blaunch"}, "jsrun -n 3 -r 1 -a 1 -c ALL_CPUS -g ALL_GPUS -b none ", "3"},
		"PBS":                            {"pbs", []string{"pbs_tmrsh", "pbsdsh", "qstat"}, "pbs_tmrsh h2 ", "3"},
		"PBS, with the older launcher":   {"pbs", []string{"pbsdsh"}, "pbsdsh -n 4 -- ", "3"},
		"PBS on a Cray, with --launcher": {"pbs", []string{"mpiexec"}, "mpiexec -n 2 --ppn 1 --hosts h2,h3 --cpu-bind none ", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, row.commands...)
			work, prints, err := harness.Workload(s.dir, "../mpi/testdata/trial.c")
			require.NoError(t, err)
			if strings.Contains(name, "--launcher") {
				s.env = append(s.env, "OPT=--launcher=mpiexec")
			}
			out, code := s.job(row.kind, "frond start $OPT --dry-run true")
			require.Zero(t, code, out)
			require.Contains(t, out, row.says)
			out, code = s.job(row.kind, "frond start $OPT "+work)
			require.Equal(t, prints, harness.WorkloadPart(out), out)
			require.Equal(t, harness.WorkloadCode, code, out)
			s.clean()
			if row.size == "" {
				return
			}
			out, code = s.job(row.kind, `frond start $OPT sh -c '
				frond resource list -s free; frond run -N3 -n3 hostname; frond run -N3 -n3 env | grep -E "^(LSB|PBS|JSM|PALS|OMPI)_" || echo nothing of the job
				echo outer $FROND_OUTER_JOBID'`)
			require.Zero(t, code, out)
			require.Contains(t, out, "free      3", out)
			require.Contains(t, out, " h[1-3]")
			if os.Getuid() == 0 {
				for _, h := range []string{"h1", "h2", "h3"} {
					require.Contains(t, out, "\n"+h+"\n")
				}
			}
			require.Contains(t, out, "nothing of the job")
			require.Contains(t, out, "outer 17")
			s.clean()
		})
	}
}
