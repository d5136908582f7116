package sim

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// small is a run of a second or so; full is the size the design asks for.
func small(seed uint64) Config {
	return Config{Seed: seed, Brokers: 24, Cores: 2, Fanout: 3, Jobs: 2000, Faults: 90 * time.Second, Limit: time.Hour}
}

func full(seed uint64) Config {
	return Config{Seed: seed, Brokers: 1000, Cores: 4, Fanout: 32, Jobs: 100000, Faults: time.Minute, Limit: 2 * time.Hour}
}

func envInt(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}

func run(t *testing.T, cfg Config) Result {
	t.Helper()
	if os.Getenv("TRACE") != "" {
		cfg.Trace = func(line string) { t.Log(line) }
	}
	began := time.Now()
	res := Run(cfg)
	t.Logf("seed %d: %v of virtual time in %v, %d events, %d starts, %d crashes, %d leaders, fingerprint %016x", cfg.Seed, res.Virtual.Round(time.Millisecond),
		time.Since(began).Round(time.Millisecond), res.Events, res.Attempts, res.Crashes, res.Leaders, res.Print)
	require.NoError(t, res.Err)
	return res
}

func TestAllEndWithoutFaults(t *testing.T) {
	cfg := small(1)
	cfg.Faults = 0
	res := run(t, cfg)
	require.NotZero(t, res.Equipped)
	require.LessOrEqual(t, res.Attempts, cfg.Jobs*2, "multi-node jobs count once a broker")
}

func TestSmallSeeds(t *testing.T) {
	first := envInt("SEED", 1)
	for seed := first; seed < first+envInt("SMALL", 5); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { run(t, small(uint64(seed))) })
	}
}

func TestTheSameSeedGivesTheSameLog(t *testing.T) {
	require.Equal(t, run(t, small(7)).Print, run(t, small(7)).Print)
}

// TestSeeds runs SEEDS full simulations from SEED on, two at a time (make sim); one with FROND_FULL.
func TestSeeds(t *testing.T) {
	n := envInt("SEEDS", 0)
	if os.Getenv("FROND_FULL") != "" && n == 0 {
		n = 1
	}
	if n == 0 {
		t.Skip("set SEEDS=n for n full simulations (make sim)")
	}
	first := envInt("SEED", 1)
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			run(t, full(uint64(seed)))
		})
	}
}
