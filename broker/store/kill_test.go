package store

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// killedDir names the directory in which this test's program, started again, writes until it is killed.
const killedDir = "FROND_TEST_KILLED_STORE"

// writeUntilKilled commits the jobs 1, 2, … with their output and prints each number when it is durable.
func writeUntilKilled(dir string) {
	s, loaded, err := Open(dir, Options{checkpoint: 30, segment: 300 << 10})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	slots := make(chan struct{}, 5)
	for id := loaded.LastID + 1; ; id++ {
		slots <- struct{}{}
		txn := bigTxn(id)
		s.Do(time.Time{}, &job.Commit{Txn: txn}, func(_ any, err error) {
			fmt.Println(uint64(id), err)
			<-slots
		})
	}
}

func TestKill(t *testing.T) {
	if dir := os.Getenv(killedDir); dir != "" {
		writeUntilKilled(dir)
	}
	dir := t.TempDir()
	var acked, last uint64
	for range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), killedDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			var text string
			fmt.Sscan(lines.Text(), &acked, &text)
			require.Equal(t, "<nil>", text)
			if n == 20 {
				require.NoError(t, cmd.Process.Kill())
			}
		}
		cmd.Wait()
		require.Greater(t, acked, last)

		s, loaded, err := Open(dir, Options{}) // the killed one's lock is in the way, and it is dead
		require.NoError(t, err)
		last = uint64(loaded.LastID)
		require.NoError(t, s.Close())
		require.GreaterOrEqual(t, last, acked)
		verifyJobs(t, dir, jobspec.ID(last), true)
	}
}
