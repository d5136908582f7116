package slurm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

// counted tells how often each line of a file of the test's directory stands there.
func (c *cluster) counted(file string) map[string]int {
	text, err := os.ReadFile(filepath.Join(c.dir, file))
	require.NoError(c.t, err)
	seen := map[string]int{}
	for line := range strings.Lines(string(text)) {
		seen[strings.TrimSpace(line)]++
	}
	return seen
}

// timeLimit: the allocation has an hour at first, and then, while the instance runs, a minute in all. What does not fit waits; what runs at the
// end is ended in order before Slurm does it, and the same script, requeued, goes on. Each job writes a line as the last thing that it does: that of one
// that was run again after it had finished would stand there twice.
func timeLimit(t *testing.T, c *cluster) {
	script := `frond start --statedir limit-state --ask-end 1s --end-margin 20s sh -c '
		if [ ! -s limit-jobs ]; then
			frond uptime
			frond submit --cc=1-300 sh -c "sleep 0.5; echo \$FROND_JOB_CC >>$PWD/limit-ended" >limit-jobs
			frond submit -t 30m true >limit-long
			until [ $(wc -l <limit-ended) -ge 40 ]; do sleep 0.05; done
			frond queue stop --quiet
			echo x >limit-half
			until frond uptime | grep -q "[0-9]s left"; do sleep 0.1; done
			frond queue start --quiet
			frond uptime
			frond explain $(frond submit -t 20m true)
			sleep 1000
		fi
		frond wait $(cat limit-jobs limit-long) && echo all have ended'
	code=$?
	echo "code $code after $SECONDS s, time left $(squeue -h -o %L -j $SLURM_JOB_ID)"
	[ $code = 143 ] && scontrol requeue $SLURM_JOB_ID`
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, "limit-ended"), nil, 0o644))
	id := c.batch("limit", "--no-kill -N4 -n8 --ntasks-per-node=2 --time=60 --requeue --open-mode=append", script)
	c.await("limit-half")
	c.sh("scontrol update JobId=%s TimeLimit=1", id)
	pending := harness.Until(harness.Patience, func() bool { return strings.TrimSpace(c.sh("squeue -h -j %s -o %%T", id)) == "PENDING" })
	require.True(t, pending, "%s\n%s", c.sh("squeue"), c.output("limit"))
	c.sh("scontrol update JobId=%s TimeLimit=60", id)
	out := c.finish("limit", id)
	first, second, requeued := strings.Cut(out, "all have ended")
	require.True(t, requeued, "%s\n%s", out, c.sh("scontrol show job %s", id))
	require.Regexp(t, `size 4,  \d+m left`, first)
	require.Regexp(t, `size 4,  [0-9.]+s left`, first)
	require.Contains(t, first, "waits for another allocation: it needs 20m")
	require.Contains(t, first, ": ending the instance")
	require.Regexp(t, `code 143 after [234]\d s, time left 0:[123]`, first)
	require.Contains(t, second, "code 0 ")
	seen := c.counted("limit-ended")
	require.Len(t, seen, 300, "no job is lost")
	again := 0
	for _, n := range seen {
		again += n - 1
	}
	require.LessOrEqual(t, again, 8, "only what had written and not yet ended may run again")
}

// environments: the initial program may use Slurm; a job is told not to.
func environments(t *testing.T, c *cluster) {
	out := c.finish("environments", c.batch("environments", "--no-kill -N2 -n4 --ntasks-per-node=2", `frond start sh -c '
		echo "jobs here: $(squeue -h -j $SLURM_JOB_ID | wc -l)"
		sbatch --parsable -N1 -n1 -o sub.out --wrap "echo from a job of my own"
		frond run -N2 -n2 sh -c "srun -N 1 -n4 --mpi=none ./a b; echo code \$?; squeue -h -j \$FROND_OUTER_JOBID -o %T"'
	frond start --keep-env frond run sh -c 'echo kept $SLURM_JOB_ID; srun -N2 -n2 --overlap echo by srun'`))
	require.Contains(t, out, "jobs here: 1")
	require.Equal(t, 2, strings.Count(out, "Use:\n  frond run -N1 -n4 ./a b\n"), out)
	require.Equal(t, 2, strings.Count(out, "code 1"), out)
	require.Equal(t, 2, strings.Count(out, "RUNNING"), out)
	require.Regexp(t, `kept \d+`, out)
	require.Equal(t, 2, strings.Count(out, "by srun"), out)
	c.await("sub.out")
}
