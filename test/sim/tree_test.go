package sim

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func runTree(t *testing.T, cfg TreeConfig) TreeResult {
	t.Helper()
	if os.Getenv("TRACE") != "" {
		cfg.Trace = os.Stderr
	}
	began := time.Now()
	res, err := RunTree(cfg)
	t.Logf("seed %d, branches %v: %v of virtual time in %v, %+v", cfg.Seed, cfg.Widths, res.Virtual.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), res)
	require.NoError(t, err)
	return res
}

// TestATreeOfBranchesRunsAll: without faults each element is started once, but for those that fail and are tried again.
func TestATreeOfBranchesRunsAll(t *testing.T) {
	for _, widths := range [][]int{{2}, {2, 2}, {4, 4}} {
		res := runTree(t, TreeConfig{Seed: 1, Widths: widths, Cores: 4, Jobs: 500, Limit: time.Hour})
		require.NotZero(t, res.Completed)
	}
}

// TestTreesOfBranchesLoseNothing: random trees, loads, crashes, broken links and losses.
func TestTreesOfBranchesLoseNothing(t *testing.T) {
	first := envInt("SEED", 1)
	for seed := first; seed < first+envInt("TREES", 12); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 7))
			widths := make([]int, 1+rng.IntN(3))
			for i := range widths {
				widths[i] = 1 + rng.IntN(3)
			}
			runTree(t, TreeConfig{Seed: uint64(seed), Widths: widths, Cores: 2 + rng.IntN(3), Jobs: 500 + rng.IntN(2500), Faults: 60 * time.Second, Limit: 3 * time.Hour})
		})
	}
}
