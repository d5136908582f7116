package harness

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed workload.sh
var workloadScript []byte

//go:embed workload.out
var workloadOut string

// WorkloadCode is the exit code of the workload.
const WorkloadCode = 7

// Workload puts a script into dir, which `frond start` runs the same wherever that is, and returns the command line for a shell and what it prints. With MPICH there
// it has an MPI program, whose source is trial (test/mpi/testdata/trial.c).
func Workload(dir, trial string) (command, prints string, err error) {
	script := filepath.Join(dir, "workload.sh")
	if err := os.WriteFile(script, workloadScript, 0o755); err != nil {
		return "", "", err
	}
	cc, err := exec.LookPath("mpicc.mpich")
	if err != nil {
		return script, workloadOut, nil
	}
	bin := filepath.Join(dir, "trial")
	if text, err := exec.Command(cc, "-o", bin, trial).CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("%s: %w: %s", cc, err, text)
	}
	return script + " " + bin, "2\n" + workloadOut, nil
}

// WorkloadPart takes from what was printed the lines of the workload: others come from schedulers, launchers and frond start itself.
func WorkloadPart(printed string) string {
	var out strings.Builder
	known := strings.Split("2\n"+workloadOut, "\n")
	for line := range strings.Lines(printed) {
		for _, k := range known {
			if k != "" && strings.TrimSuffix(line, "\n") == k {
				out.WriteString(line)
				break
			}
		}
	}
	return out.String()
}
