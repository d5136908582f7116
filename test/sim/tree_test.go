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
		cfg.Trace, cfg.Watch = os.Stderr, os.Getenv("WATCH")
	}
	began := time.Now()
	res, err := RunTree(cfg)
	t.Logf("seed %d, %d nodes, branches %v, %d jobs: %v of virtual time in %v, %+v", cfg.Seed, cfg.Nodes, cfg.Widths, cfg.Jobs, res.Virtual.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), res)
	require.NoError(t, err)
	return res
}

// TestATreeOfBranchesRunsAll: without faults each element is started once, but for those that fail and are tried again.
func TestATreeOfBranchesRunsAll(t *testing.T) {
	for _, widths := range [][]int{{2}, {2, 2}, {2, 2, 2}} {
		res := runTree(t, TreeConfig{Seed: 1, Nodes: 8, Widths: widths, Cores: 4, Jobs: 400, Limit: time.Hour})
		require.NotZero(t, res.Completed)
		require.Equal(t, len(widths), res.Deepest)
		require.NotZero(t, res.Below)
	}
}

// randomTree is a tree by a seed.
func randomTree(seed int) TreeConfig {
	rng := rand.New(rand.NewPCG(uint64(seed), 7))
	cfg := TreeConfig{Seed: uint64(seed), Nodes: 2 + rng.IntN(7), Cores: 2 + rng.IntN(3), Faults: 60 * time.Second, Limit: 3 * time.Hour}
	cfg.Jobs = cfg.Nodes * cfg.Cores * (10 + rng.IntN(40))
	cfg.Widths = treeWidths(rng.IntN, cfg.Nodes)
	return cfg
}

// TestTreesOfBranchesLoseNothing: random trees, loads, crashes, broken links and losses.
func TestTreesOfBranchesLoseNothing(t *testing.T) {
	first := envInt("SEED", 1)
	for seed := first; seed < first+envInt("TREES", 8); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runTree(t, randomTree(seed)) })
	}
}
