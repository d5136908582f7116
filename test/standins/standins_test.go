// Package standins starts instances in made-up jobs of schedulers that cannot be had here: their commands are stand-ins (standin/main.go).
package standins

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
	cmd := exec.Command("timeout", "300", filepath.Join(s.dir, "bin", "standin"), "job", kind, "h1,h2,h3", "sh", "-c", line)
	cmd.Env, cmd.Dir = s.env, s.dir
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func (s *site) clean() {
	var left []string
	ok := harness.Until(harness.Patience, func() bool { left = harness.Left(s.dir, s.dir); return len(left) == 0 })
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

// Started once per node, or more often: one instance with a broker on each node of the job.
func TestStartedOncePerNode(t *testing.T) {
	for name, row := range map[string]struct{ kind, command, line string }{
		"jsrun":                {"csm", "jsrun", "jsrun -n 3 -r 1 -a 1 -c ALL_CPUS"},
		"PALS":                 {"pbs", "mpiexec", "mpiexec -n 3 --ppn 1"},
		"PALS, two on a node":  {"pbs", "mpiexec", "mpiexec -n 6 --ppn 2"},
		"PALS, not everywhere": {"pbs", "mpiexec", "mpiexec -n 2 --ppn 1 --hosts h2,h3"},
	} {
		t.Run(name, func(t *testing.T) {
			harness.Need(t, os.Getuid() == 0, "hosts with names of their own need root")
			s := newSite(t, row.command)
			out, code := s.job(row.kind, row.line+` frond start sh -c '
				echo one leader on $(hostname); frond resource list -s free; env | grep -E "^(PALS|JSM|PMI)_" || echo no task; exit 4'`)
			require.Equal(t, 4, code, out)
			require.Equal(t, 1, strings.Count(out, "one leader"), "never n singletons: %s", out)
			require.Contains(t, out, "no task")
			switch name {
			case "PALS, not everywhere":
				require.Contains(t, out, "there are processes on 2 of the job's 3 nodes: the others are left alone")
				require.Regexp(t, `free +2 +4 +0 h\[2-3\]`, out)
			case "PALS, two on a node":
				require.Contains(t, out, "6 processes were started on 3 nodes: one on each becomes the broker, the others wait")
				fallthrough
			default:
				require.Contains(t, out, "one leader on h1")
				require.Regexp(t, `free +3 +6 +0 h\[1-3\]`, out)
			}
			s.clean()
		})
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	s := newSite(t, "pbs_tmrsh", "blaunch", "qstat")
	for _, row := range []struct{ kind, line, says string }{
		{"pbs", "FROND_HOME=/proc/nowhere frond start echo started", "pbs_tmrsh passes neither the environment nor standard input on, so brokers read their ticket from a file in FROND_HOME, which all nodes must share: mkdir /proc/nowhere"},
		{"pbs", "PBS_NODEFILE=/nowhere frond start echo started", "PBS_NODEFILE: open /nowhere"},
		{"pbs", "frond start --launcher=pbsdsh echo started", "--launcher=pbsdsh: pbsdsh is not in PATH"},
		{"pbs", "frond start --launcher=slurm echo started", "--launcher=slurm: this process is in no allocation of Slurm"},
		{"pbs", "frond start --boot=lsf echo started", "--boot=lsf: this process is in no allocation of LSF"},
		{"lsf", "frond start --boot=torque echo started", "--boot=torque: must be auto, slurm, lsf, pbs, sge or none"},
		{"lsf", "frond start --launcher=jsrun echo started", "--launcher=jsrun: jsrun is not in PATH"},
		{"lsf", "ln -s /bin/false bin/qrsh; frond start --launcher=qrsh echo started", "broker 1 did not start: node h2: no broker there has reported in\n  the launcher ended: exit code 1"},
		{"lsf", "frond start --launcher=mpiexec --hosts h1,h2 -n 2 true", "--hosts and -n contradict each other"},
		{"none", "frond start --launcher=blaunch echo started", "--launcher=blaunch needs --hosts"},
	} {
		out, code := s.job(row.kind, row.line)
		require.Equal(t, 1, code, "%s\n%s", row.line, out)
		require.Contains(t, out, row.says, row.line)
		require.NotContains(t, out, "started\n", row.line)
	}
	s.clean()

	out, code := s.job("pbs", "PBS_NODEFILE=/nowhere frond start --launcher=local echo alone")
	require.Zero(t, code, out)
	require.Equal(t, "alone\n", out)
	out, code = s.job("pbs", "frond start --boot=none --dry-run true")
	require.Zero(t, code, out)
	require.Contains(t, out, "this process is in no allocation")
	s.clean()
}
