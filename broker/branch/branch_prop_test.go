package branch

import (
	"testing"
	"time"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/idset"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestAnElementHasOneHolder compares a ledger with a plain map, through grants, ends, returns, losses and a restart from the grants.
func TestAnElementHasOneHolder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type key struct {
			array jobspec.ID
			idx   int
		}
		type grant struct {
			num    uint64
			branch int
			shares []Share
		}
		l, model := NewLedger(), map[key]int{}
		var grants []grant
		set := func() Share {
			lo := rapid.IntRange(0, 30).Draw(t, "lo")
			return Share{jobspec.ID(rapid.IntRange(1, 3).Draw(t, "array")), idset.FromRange(lo, lo+rapid.IntRange(0, 9).Draw(t, "more"))}
		}
		settle := func(b int, s Share) {
			n := 0
			for _, p := range l.Settle(b, s) {
				n += p.Elements.Len()
				for i := range p.Elements.All() {
					require.Equal(t, b, model[key{s.Array, i}], "settled for %d", b)
					delete(model, key{s.Array, i})
				}
			}
			for i := range s.Elements.All() {
				if h, ok := model[key{s.Array, i}]; ok {
					require.NotEqual(t, b, h, "not settled")
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"grant": func(t *rapid.T) {
				s := set()
				for i := range idset.FromRange(0, 40).All() {
					if _, held := model[key{s.Array, i}]; held {
						s.Elements.RemoveRange(i, i)
					}
				}
				b := rapid.IntRange(1, 3).Draw(t, "branch")
				grants = append(grants, grant{l.Grant(b, []Share{s}), b, []Share{s}})
				for i := range s.Elements.All() {
					model[key{s.Array, i}] = b
				}
			},
			"settle": func(t *rapid.T) { settle(rapid.IntRange(1, 3).Draw(t, "branch"), set()) },
			"lose": func(t *rapid.T) {
				b := rapid.IntRange(1, 3).Draw(t, "branch")
				for _, s := range l.Shares(b) {
					settle(b, s)
				}
				require.Zero(t, l.Count(b))
			},
			"restart": func(t *rapid.T) {
				again := NewLedger()
				for _, g := range grants {
					again.Restore(g.num, g.branch, g.shares)
				}
				for id := jobspec.ID(1); id <= 3; id++ { // what has ended, or come back
					for i := range 41 {
						if _, held := model[key{id, i}]; !held {
							again.take(id, idset.Of(i), func(*holding) bool { return true })
						}
					}
				}
				l = again
			},
			"": func(t *rapid.T) {
				require.NoError(t, l.Check())
				n := 0
				for k, b := range model {
					h, _, ok := l.Holder(k.array, k.idx)
					require.True(t, ok)
					require.Equal(t, b, h)
					n++
				}
				require.Equal(t, n, l.Count(1)+l.Count(2)+l.Count(3))
			},
		})
	})
}

// TestBranchesAreKeptBusy plays a queue over branches of different sizes: none has cores without work for long while others have more
// than they can run, and all is done.
func TestBranchesAreKeptBusy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, now := NewBalance(), time.Unix(1e9, 0)
		n := rapid.IntRange(1, 5).Draw(t, "branches")
		cores, held := make([]int, n), make([]int, n)
		total := 0
		for i := range n {
			cores[i] = rapid.IntRange(1, 16).Draw(t, "cores")
			total += cores[i]
			b.Join(i, 1, cores[i], 0, now)
		}
		left := rapid.IntRange(0, 5000).Draw(t, "elements")
		b.Offer(7, left, 1, 1, 16)
		idle := make([]int, n)
		for step := 0; left > 0 || sum(held) > 0; step++ {
			require.Less(t, step, 20000/total+200, "not done: %d left, held %v", left, held)
			takes, recalls := b.Decide(now)
			for _, k := range takes {
				for _, it := range k.Items {
					require.LessOrEqual(t, it.N, left)
					left -= it.N
					held[k.Branch] += it.N
					b.Granted(k.Branch, it.N)
				}
			}
			for _, r := range recalls {
				back := min(r.Cores, max(held[r.Branch]-cores[r.Branch], 0))
				held[r.Branch] -= back
				left += back
				b.Settled(r.Branch, back, false)
				b.Recalled(r.Branch, back, now)
				b.Offer(7, back, 1, 1, 16)
			}
			require.NoError(t, b.Check())
			now = now.Add(50 * time.Millisecond)
			for i := range n {
				done := min(held[i], cores[i])
				if done < cores[i] && (left > 0 || sum(held) > total) {
					idle[i]++
				} else {
					idle[i] = 0
				}
				require.Less(t, idle[i], 12, "branch %d of %v has no work, others hold %v, %d are left", i, cores, held, left)
				held[i] -= done
				b.Settled(i, done, true)
			}
		}
	})
}

// TestWhatFitsNoBranchStays: an array whose elements need more than a branch has goes to another, or nowhere, and those behind it go on.
func TestWhatFitsNoBranchStays(t *testing.T) {
	b, now := NewBalance(), time.Unix(1e9, 0)
	b.Join(0, 1, 4, 0, now)
	b.Join(1, 2, 8, 0, now)
	b.Offer(1, 3, 16, 4, 20)
	b.Offer(2, 1, 8, 2, 16)
	b.Offer(3, 100, 1, 1, 16)
	takes, recalls := b.Decide(now)
	require.Empty(t, recalls)
	got := map[jobspec.ID]map[int]int{}
	for _, k := range takes {
		for _, it := range k.Items {
			if got[it.Array] == nil {
				got[it.Array] = map[int]int{}
			}
			got[it.Array][k.Branch] += it.N
		}
	}
	require.Nil(t, got[1])
	require.Equal(t, map[int]int{1: 1}, got[2])
	require.NotZero(t, got[3][0])
	b.Offer(1, -3, 16, 4, 20)
	require.NoError(t, b.Check())
}

func sum(list []int) (n int) {
	for _, v := range list {
		n += v
	}
	return n
}
