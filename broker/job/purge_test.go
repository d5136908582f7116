package job

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/frond-hpc/frond/jobspec"
)

func TestWhatUnfinishedJobsDependOnIsNeeded(t *testing.T) {
	s := newStage(t)
	ok := []jobspec.Dependency{{Scheme: "afterok", Value: "f1"}}
	id, _ := s.submit(1, []DependTarget{{Array: 77, N: 1}}, ok...)
	require.Equal(t, map[jobspec.ID]bool{77: true}, s.m.Needed())
	s.step(Looked{Array: id, Ended: []Outcome{{OK: true, Ran: true, Result: jobspec.ResultCompleted}}})
	require.Empty(t, s.m.Needed(), "it is met")
	s.submit(2, []DependTarget{{Array: 78, N: 2}}, jobspec.Dependency{Scheme: "aftercorr", Value: "f2"})
	require.Equal(t, map[jobspec.ID]bool{78: true}, s.m.Needed())
}

func TestADependencyOnAPurgedJobCanNeverBeMet(t *testing.T) {
	s := newStage(t)
	id, _ := s.submit(1, []DependTarget{{Array: 77, N: 1}}, jobspec.Dependency{Scheme: "afterany", Value: "f1"})
	a := s.step(Looked{Array: id, Gone: true})
	require.Equal(t, Target{id, 0, 0}, a.Spans[0].Target)
	require.Zero(t, queued(a))
	require.Equal(t, 1, s.m.Totals().Canceled+s.m.Totals().Failed)
}

func TestPurgedElementsAreNotAmongTheOthers(t *testing.T) {
	s := newStage(t)
	id, _ := s.submit(1, nil)
	s.end(s.allocate(id).Starts[0].Runs[0].Key, 256)
	require.Equal(t, Totals{Inactive: 1, Failed: 1}, s.m.Totals())
	s.step(Forgotten{Purged: Purged{Failed: 1}})
	require.Equal(t, Totals{Purged: 1}, s.m.Totals())
}
