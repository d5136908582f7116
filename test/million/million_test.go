// Package million runs a large array of mock jobs over a tree of branches and reads the stores of all leaders from disk: each element
// has run once and ended once. With FROND_MILLION (make million) these are a million over 4x4 branches; the top's leader stays small.
package million

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/test/harness"
	_ "github.com/mattn/go-sqlite3" // the stores
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// most is what the top's leader may need at any time.
const most = 150e6

// size is what is run.
type size struct {
	elements, brokers int
	split             string
	all               int // leaves of the tree, if there is enough for all
	limit             time.Duration
}

func sizes() size {
	if os.Getenv("FROND_MILLION") != "" {
		return size{1000000, 16, "4x4", 16, 10 * time.Minute}
	}
	return size{20000, 4, "2x2", 0, 2 * harness.Patience}
}

// program runs in the instance: the array, and what the top's leader needed for it at most.
const program = `set -e
frond submit --quiet --cc=1-%d --setattr=system.exec.test.run_duration=0.001s true
frond wait --all
awk '/^VmHWM/ {print "peak", $2}' /proc/$(frond getattr broker.pid)/status
`

func TestEachElementEndsOnceInATreeOfBranches(t *testing.T) {
	s := sizes()
	dir, err := os.MkdirTemp("", "fm")
	require.NoError(t, err)
	t.Cleanup(func() {
		var left []string
		if !harness.Until(harness.Patience, func() bool { left = harness.Left(dir, dir); return len(left) == 0 }) {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
		harness.KillAll(dir)
		os.RemoveAll(dir)
	})
	state := filepath.Join(dir, "state")
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(harness.BinDir(), "frond"), "start", "-n", fmt.Sprint(s.brokers), "--resources",
		fmt.Sprintf("node[%d]/core[64]", s.brokers), "--split", s.split, "--statedir", state, "--", "sh", "-c", fmt.Sprintf(program, s.elements))
	cmd.Env, cmd.Dir = harness.Environ(dir), dir
	began := time.Now()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	var kib float64
	for line := range strings.Lines(string(out)) {
		_, _ = fmt.Sscanf(line, "peak %f", &kib)
	}
	require.Positive(t, kib, "%s", out)
	require.Less(t, kib*1024, most, "peak memory of the top's leader")

	tree := read(t, state, s.elements)
	for i := range s.elements {
		require.EqualValues(t, 1, tree.ran[i], "rows of leaders that ran element %d", i)
		require.EqualValues(t, 1, tree.levels[0].ended[i], "ends of element %d, as the top has it", i)
		for depth, l := range tree.levels[1:] {
			require.LessOrEqual(t, l.ended[i], uint8(1), "ends of element %d on level %d below the top", i, depth+1)
		}
	}
	leaves := tree.levels[len(tree.levels)-1]
	if s.all > 0 {
		require.Len(t, tree.levels, strings.Count(s.split, "x")+2, "levels with stores")
		require.Equal(t, s.all, leaves.stores, "branches that have nothing below them ran some, each")
	}
	t.Logf("%d elements over %s branches in %v; peak memory of the top's leader %.0f MB", s.elements, s.split, time.Since(began).Round(100*time.Millisecond), kib*1024/1e6)
}

// tree is what the stores say of the array.
type tree struct {
	ran    []uint8 // by element: leaders with a row for it
	levels []*level
}

// level is the leaders that are equally far from the top.
type level struct {
	ended  []uint8 // by element: in how many rows it has ended, whoever ran it
	stores int     // in which some have
}

// read reads all stores below a state directory, of an array of n elements.
func read(t *testing.T, state string, n int) *tree {
	t.Helper()
	tr := &tree{ran: make([]uint8, n)}
	err := filepath.WalkDir(state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "store.db" {
			return err
		}
		depth := strings.Count(strings.TrimPrefix(path, state), "/branch/")
		for len(tr.levels) <= depth {
			tr.levels = append(tr.levels, &level{ended: make([]uint8, n)})
		}
		if err := tr.add(path, tr.levels[depth]); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
	require.NoError(t, err)
	return tr
}

// add reads one store: the array, not the jobs that are branches.
func (tr *tree) add(path string, l *level) error {
	db, err := sql.Open("sqlite3", "file:"+path+"?mode=ro")
	if err != nil {
		return err
	}
	defer db.Close()
	var array int64
	switch err := db.QueryRow(`SELECT id FROM array WHERE n = ?`, len(tr.ran)).Scan(&array); {
	case err == sql.ErrNoRows:
		return nil // it was given none of it
	case err != nil:
		return err
	}
	ran, err := count(db, `SELECT idx, idx, result, attempt FROM element WHERE array = ?`, array, tr.ran, l.ended)
	if err != nil {
		return err
	}
	passed, err := count(db, `SELECT lo, hi, result, 1 FROM range WHERE array = ?`, array, l.ended)
	if ran+passed > 0 {
		l.stores++
	}
	return err
}

// count counts the elements lo … hi of each row, all of which have completed, in their first attempt.
func count(db *sql.DB, query string, array int64, into ...[]uint8) (n int, err error) {
	rows, err := db.Query(query, array)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var lo, hi, result, attempt int
		if err := rows.Scan(&lo, &hi, &result, &attempt); err != nil {
			return n, err
		}
		if result != 1 || attempt != 1 || lo < 0 || hi < lo || hi >= len(into[0]) {
			return n, fmt.Errorf("elements %d to %d: result %d, attempt %d", lo, hi, result, attempt)
		}
		n += hi - lo + 1
		for _, times := range into {
			for i := lo; i <= hi; i++ {
				times[i]++
			}
		}
	}
	return n, rows.Err()
}
