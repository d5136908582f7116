package slurm

import (
	"fmt"
	"testing"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

// workload is the script that test/standins, test/netns and others run elsewhere.
func workload(t *testing.T, c *cluster) {
	work, prints, err := harness.Workload(c.dir, "../mpi/testdata/trial.c")
	require.NoError(t, err)
	out := c.finish("work", c.batch("work", "--no-kill -N4 -n4", "frond start "+work+"\necho exit code $?"))
	require.Equal(t, prints, harness.WorkloadPart(out), out)
	require.Contains(t, out, fmt.Sprintf("exit code %d", harness.WorkloadCode))
}
