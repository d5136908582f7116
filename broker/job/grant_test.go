package job

import (
	"slices"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/branch"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/idset"
	"github.com/stretchr/testify/require"
)

// pair is a parent and a branch that see each other's words at once.
type pair struct {
	t    *testing.T
	now  time.Time
	top  *Machine
	leaf *Machine
	up   Acked // what the branch has not told yet
}

func newPair(t *testing.T) *pair {
	p := &pair{t: t, now: time.Unix(1800000000, 0)}
	parse := func([]byte) (*jobspec.Jobspec, error) { return oneCore(true), nil }
	top, _, err := New(Config{Lease: testLease, Now: p.now, Parse: parse})
	require.NoError(t, err)
	leaf, _, err := New(Config{Lease: testLease, Now: p.now, Parse: parse, Branch: true})
	require.NoError(t, err)
	p.top, p.leaf = top, leaf
	p.step(p.top, Split{Fits: func(*jobspec.Jobspec) bool { return true }})
	p.step(p.leaf, Listed{})
	return p
}

func oneCore(rerun bool) *jobspec.Jobspec {
	return &jobspec.Jobspec{Command: []string{"x"}, Request: jobspec.Request{Slots: 1, Cores: 1}, Rerun: rerun, TaskCount: jobspec.TaskCount{PerSlot: 1}}
}

// step steps a machine, and commits what it writes.
func (p *pair) step(m *Machine, ev any) []*Actions {
	all := []*Actions{m.Step(p.now, ev)}
	require.NoError(p.t, m.Check(), "after %T", ev)
	for m.Dirty() {
		m.TakeTxn()
		all = append(all, m.Step(p.now, Committed{}))
		require.NoError(p.t, m.Check(), "after the commit of %T", ev)
	}
	for _, a := range all {
		p.pass(a)
	}
	return all
}

func (p *pair) pass(a *Actions) {
	for _, g := range a.Granted {
		ev := Received{Num: g.Num, Path: "0"}
		for _, it := range g.Items {
			ev.Items = append(ev.Items, ReceivedItem{GrantItem: it})
		}
		p.step(p.leaf, ev)
	}
	for _, c := range a.Casts {
		p.step(p.leaf, c)
	}
	if len(a.Hastened) > 0 {
		p.step(p.leaf, Awaited{List: a.Hastened})
	}
	for _, b := range a.GaveBack {
		p.up.Backs = append(p.up.Backs, Back{Share: b.Share})
	}
	for _, s := range a.Spans {
		p.up.Ends = append(p.up.Ends, End{branch.Share{Array: s.Array, Elements: idset.FromRange(s.Lo, s.Hi)}, s.Result, s.Status, s.Exc, s.Ran, s.Time})
	}
}

// tell passes on what the branch has to tell, twice: it may come again.
func (p *pair) tell() {
	up := p.up
	p.up = Acked{}
	p.step(p.top, up)
	before := p.top.Totals()
	p.up = Acked{}
	p.step(p.top, up)
	require.Equal(p.t, before, p.top.Totals(), "what is told twice counts once")
	p.up = Acked{}
}

func (p *pair) submit(n int) jobspec.ID {
	return p.step(p.top, Submitted{Items: []Item{{Spec: &Spec{ID: 1, Job: oneCore(true)}, N: n, Urgency: 16}}})[0].IDs[0]
}

// TestGrantedElementsComeBackAndGoAgain: what a branch gives back is the parent's, and may go to another; what it does not hold it can
// neither end nor give back.
func TestGrantedElementsComeBackAndGoAgain(t *testing.T) {
	p := newPair(t)
	id := p.submit(10)
	p.step(p.top, Take{Branch: 0, Items: []branch.TakeItem{{Array: id, N: 6}}})
	st, _ := p.leaf.Array(id)
	require.Equal(t, 6, st.Pending)
	require.Equal(t, []branch.Share{{Array: id, Elements: idset.FromRange(0, 5)}}, p.top.Shares(0))

	p.step(p.leaf, TakeBack{Cores: 2})
	p.tell()
	require.Equal(t, idset.FromRange(0, 3), p.top.Shares(0)[0].Elements, "the last are given back")
	top, _ := p.top.Array(id)
	require.Equal(t, 6, top.Pending)

	end := End{branch.Share{Array: id, Elements: idset.FromRange(2, 7)}, jobspec.ResultCompleted, 0, nil, true, 0}
	p.step(p.top, Acked{Branch: 0, Ends: []End{end}})
	top, _ = p.top.Array(id)
	require.Equal(t, 2, top.Completed, "2 and 3 are held, 4 to 7 are not")

	p.step(p.top, Forfeited{Branch: 0, Reason: "gone"})
	require.Empty(t, p.top.Shares(0))
	acts := p.step(p.top, Take{Branch: 1, Items: []branch.TakeItem{{Array: id, N: 100}}})
	g := acts[len(acts)-1].Granted[0]
	require.Equal(t, "0-1,4-9", g.Items[0].Elements.String())
	require.Equal(t, "0-1", g.Items[0].Tried.String(), "what was forfeited may have run")
}

// TestACancelReachesWhatABranchHolds: whether it has started there or not, and also what comes back meanwhile.
func TestACancelReachesWhatABranchHolds(t *testing.T) {
	p := newPair(t)
	id := p.submit(8)
	p.step(p.top, Take{Branch: 0, Items: []branch.TakeItem{{Array: id, N: 6}}})
	p.step(p.leaf, TakeBack{Cores: 2})
	back := p.up
	p.up = Acked{}
	p.step(p.top, Raised{Targets: []Target{{id, 0, 7}}, Exc: Exception{"cancel", 0, "no more"}})
	p.tell()
	p.up = back
	require.NotZero(t, p.top.Active(), "two are on their way back")
	p.tell()
	require.Zero(t, p.top.Active())
	require.Equal(t, 8, p.top.Totals().Canceled)
	require.Zero(t, p.leaf.Active())
	require.Nil(t, p.leaf.Arrays(), "the branch has forgotten the array")
}

// TestAListSaysWhatABranchHolds: what it has beyond that it gives up, what it lacks it says.
func TestAListSaysWhatABranchHolds(t *testing.T) {
	p := newPair(t)
	id := p.submit(10)
	p.step(p.top, Take{Branch: 0, Items: []branch.TakeItem{{Array: id, N: 5}}})
	a := p.step(p.leaf, Listed{Shares: []branch.Share{{Array: id, Elements: idset.MustParse("1-2,7")}, {Array: id + 100, Elements: idset.Of(0)}}})[0]
	require.True(t, a.Listed)
	require.Equal(t, []branch.Share{{Array: id, Elements: idset.Of(7)}, {Array: id + 100, Elements: idset.Of(0)}}, a.Missing)
	st, _ := p.leaf.Array(id)
	require.Equal(t, 2, st.Pending)
}

// TestSharesAreReadAsWritten keeps the form of stored grants.
func TestSharesAreReadAsWritten(t *testing.T) {
	shares := []branch.Share{{Array: 1 << 60, Elements: idset.MustParse("0-5,9")}, {Array: 3, Elements: idset.Of(0)}}
	got, err := DecodeShares(EncodeShares(shares))
	require.NoError(t, err)
	require.Equal(t, shares, got)
	_, err = DecodeShares(EncodeShares(shares)[:12])
	require.Error(t, err)
}

// TestABranchHurriesForWhatIsWaitedFor: of what nobody waits for it tells some time, of an array that somebody waits for when it has ended
// there, and of one whose elements matter each at once, whether that is known before the grant or later.
func TestABranchHurriesForWhatIsWaitedFor(t *testing.T) {
	p := newPair(t)
	soon := func(id jobspec.ID, lo, hi int) bool {
		all := p.step(p.leaf, Cast{Share: branch.Share{Array: id, Elements: idset.FromRange(lo, hi)}, Exc: Exception{Type: "cancel"}})
		p.tell()
		return slices.ContainsFunc(all, func(a *Actions) bool { return a.Soon })
	}
	await := func(id jobspec.ID, h Haste) { p.step(p.top, Awaited{List: []Hastened{{Array: id, Haste: h}}}) }
	take := func(id jobspec.ID, n int) {
		p.step(p.top, Take{Branch: 0, Items: []branch.TakeItem{{Array: id, N: n}}})
	}

	quiet, before, later, each, limited := p.submit(2), p.submit(4), p.submit(4), p.submit(4), p.submit(1)
	await(before, HasteDone)
	for _, id := range []jobspec.ID{quiet, before, later, each} {
		take(id, 3)
	}
	require.False(t, soon(quiet, 0, 1), "nobody waits for it")

	require.False(t, soon(before, 0, 1))
	require.True(t, soon(before, 2, 2), "all that the branch has of it have ended")
	require.False(t, soon(later, 0, 0))
	await(later, HasteDone)
	require.False(t, soon(later, 1, 1))
	require.True(t, soon(later, 2, 2))

	await(each, HasteEach)
	await(each, HasteDone) // it only rises
	require.True(t, soon(each, 1, 1))
	require.Equal(t, []Hastened{{0, each, HasteEach}}, p.top.Hastes(0), "what a branch is told again after a loss")

	p.top.arrays[limited].spec.Job.Array.Limit = 1
	take(limited, 1)
	require.Equal(t, HasteEach, p.leaf.arrays[limited].haste, "others may start for it")
}

// TestADependencyMakesABranchHurry: what waits for elements that a branch has already has it tell of them, and what waits for the start of
// some that run hears of that.
func TestADependencyMakesABranchHurry(t *testing.T) {
	p := newPair(t)
	on := func(id jobspec.ID, scheme string) Haste {
		j := oneCore(true)
		j.Dependencies = []jobspec.Dependency{{Scheme: scheme, Value: id.String(), Ref: jobspec.Ref{ID: id}}}
		p.step(p.top, Submitted{Items: []Item{{Spec: &Spec{ID: 2, Job: j}, N: 1, Urgency: 16, Depends: []DependTarget{{Array: id, N: 2, Elements: idset.FromRange(0, 1)}}}}})
		return p.leaf.arrays[id].haste
	}
	for scheme, want := range map[string]Haste{"afterok": HasteDone, "afterany": HasteDone, "afterstart": HasteEach} {
		id := p.submit(2)
		p.step(p.top, Take{Branch: 0, Items: []branch.TakeItem{{Array: id, N: 2}}})
		require.Equal(t, NoHaste, p.leaf.arrays[id].haste)
		require.Equal(t, want, on(id, scheme), scheme)
	}
}

// A branch that was told of elements and lost their parameters with its leader cannot give them to a branch of its own: the parent has them
// again. What else was in the grant is pending here.
func TestAGrantWithoutParametersGoesBack(t *testing.T) {
	p := newPair(t)
	id, other := p.submit(6), p.submit(2)
	p.step(p.top, Take{Branch: 0, Items: []branch.TakeItem{{Array: id, N: 6}, {Array: other, N: 2}}})
	var granted []Granted
	below := func(ev any) {
		for acts := []*Actions{p.leaf.Step(p.now, ev)}; ; acts = []*Actions{p.leaf.Step(p.now, Committed{})} {
			require.NoError(t, p.leaf.Check(), "after %T", ev)
			granted = append(granted, acts[0].Granted...)
			for _, b := range acts[0].GaveBack {
				p.up.Backs = append(p.up.Backs, Back{Share: b.Share, Lost: b.Lost})
			}
			if !p.leaf.Dirty() {
				return
			}
			p.leaf.TakeTxn()
		}
	}
	below(Split{Fits: func(*jobspec.Jobspec) bool { return true }})
	below(Take{Branch: 1, Items: []branch.TakeItem{{Array: id, N: 4}, {Array: other, N: 1}}})
	require.Len(t, granted, 1)
	below(Unequipped{Num: granted[0].Num, Items: []UnequippedItem{{Array: id, Tried: idset.Of(1)}}})
	require.Empty(t, p.leaf.Holders())
	require.Equal(t, []Back{{Share: branch.Share{Array: id, Elements: idset.Of(0, 2, 3)}},
		{Share: branch.Share{Array: id, Elements: idset.Of(1)}, Lost: true}}, p.up.Backs)
	require.Equal(t, 4, p.leaf.Totals().Pending, "two of the one, two of the other")
	p.tell()
	require.Equal(t, 4, p.top.Totals().Pending)
}
