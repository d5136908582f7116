package job

import (
	"strings"
	"testing"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource"
	"github.com/stretchr/testify/require"
)

// play submits an array of n elements, and gives them resources and statuses until all have ended: status is asked for each attempt.
func play(t *testing.T, n int, job jobspec.Jobspec, status func(idx int, attempt uint32) int) (rows []ElementRow, ranges []RangeRow, most int) {
	w := newWorld(t, 1, 1)
	job.Request, job.TaskCount, job.Rerun = jobspec.Request{Slots: 1, Cores: 1}, jobspec.TaskCount{PerSlot: 1}, true
	id := w.step(Submitted{[]Item{{Spec: &Spec{ID: 1, Job: &job}, N: n, Urgency: 16}}}).IDs[0]
	run := map[RunKey]Run{}
	allocs := uint64(100)
	for w.m.Active() > 0 || w.m.Dirty() {
		txn := w.m.TakeTxn()
		rows, ranges = append(rows, txn.Ended...), append(ranges, txn.Ranges...)
		acts := w.m.Step(w.now, Committed{})
		asked := Allocated{}
		for _, q := range acts.Queue {
			for range q.Count {
				allocs++
				asked.Allocs = append(asked.Allocs, Allocation{ID: allocs, Array: id,
					Alloc: &resource.Alloc{Nodes: []resource.NodeAlloc{{Cores: resource.MaskOf(0), Slots: 1}}}})
			}
		}
		for len(asked.Allocs) > 0 || len(run) > 0 {
			acts = w.m.Step(w.now, asked)
			for _, s := range acts.Starts {
				for _, r := range s.Runs {
					run[r.Key] = r
				}
			}
			most = max(most, len(run))
			asked = Allocated{}
			ev := Reported{Rank: 0, UUID: w.brokers[0].uuid, Session: w.brokers[0].session}
			for k, r := range run {
				ev.Records = append(ev.Records, Record{Kind: Ended, Key: k, Time: 1, Start: 1, Status: status(r.Index, k.Attempt)})
				delete(run, k)
				break
			}
			for _, q := range w.m.Step(w.now, ev).Queue {
				for range q.Count {
					allocs++
					asked.Allocs = append(asked.Allocs, Allocation{ID: allocs, Array: id,
						Alloc: &resource.Alloc{Nodes: []resource.NodeAlloc{{Cores: resource.MaskOf(0), Slots: 1}}}})
				}
			}
			require.NoError(t, w.m.Check())
		}
	}
	return rows, ranges, most
}

func TestAFailedElementRunsAgainAsOftenAsItMay(t *testing.T) {
	rows, _, _ := play(t, 3, jobspec.Jobspec{Retries: 2}, func(idx int, attempt uint32) int {
		switch idx {
		case 0:
			return 0
		case 1:
			return int(2-attempt+1) / 2 * 256 // fails, then completes
		}
		return 3 << 8
	})
	require.Len(t, rows, 3)
	for _, r := range rows {
		want := map[int][3]int{0: {1, 1, 0}, 1: {1, 2, 0}, 2: {2, 3, 3 << 8}}[r.Index]
		require.Equal(t, want, [3]int{int(r.Result), int(r.Attempt), r.Status})
		events, err := Eventlog(&ArrayRow{Submit: 1}, r.Events)
		require.NoError(t, err)
		var names []string
		for _, e := range events[4:] {
			names = append(names, e.Name+e.Context)
		}
		if r.Index == 1 {
			require.Contains(t, names, `retry{"attempt":1,"status":256}`)
			require.Equal(t, 1, strings.Count(strings.Join(names, " "), "finish"))
		}
	}
}

func TestNoMoreElementsRunThanTheLimit(t *testing.T) {
	rows, _, most := play(t, 20, jobspec.Jobspec{Array: jobspec.ArrayOptions{Limit: 3}, Retries: 1}, func(idx int, _ uint32) int { return idx % 2 })
	require.Len(t, rows, 20)
	require.Equal(t, 3, most)
}

func TestAfterTooManyFailuresTheRestIsCancelled(t *testing.T) {
	rows, ranges, _ := play(t, 100, jobspec.Jobspec{Array: jobspec.ArrayOptions{Limit: 1, MaxFails: 3}}, func(idx int, _ uint32) int { return idx % 2 * 256 })
	require.Len(t, rows, 6, "0 to 5 have run, three of them failed")
	require.Len(t, ranges, 1)
	require.Equal(t, [3]int{6, 99, int(jobspec.ResultCanceled)}, [3]int{ranges[0].Lo, ranges[0].Hi, int(ranges[0].Result)})
	st, err := Fold(16, 0, ranges[0].Events)
	require.NoError(t, err)
	require.Equal(t, "3 of 100 elements of the array failed (--max-fails=3)", st.Exc.Note)
}
